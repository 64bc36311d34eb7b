// SPDX-License-Identifier: MIT
/* A network device behind a session; see the header. */
#include "vdpa/virtio/fake_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

#define BOUNCE (4u << 20)
#define SIZE (8u << 20)

static u16 ld16(struct fake_net *f, u64 at)
{
	return __atomic_load_n((u16 *)(void *)(f->mem + at), __ATOMIC_ACQUIRE);
}

static void call_driver(struct fake_net_vq *q)
{
	if (q->call >= 0)
		eventfd_write(q->call, 1);
}

/* The next chain's pieces, at most 8, or -1. */
static int take(struct fake_net *f, struct fake_net_vq *q, struct vring_desc d[8], unsigned *n)
{
	u16 head;

	if (!q->ready || ld16(f, q->driver + 2) == q->last_avail)
		return -1;
	head = ld16(f, q->driver + 4 + 2u * (q->last_avail++ % q->num));
	*n = 0;
	for (u16 at = head; *n < 8; at = d[*n - 1].next) {
		memcpy(&d[*n], f->mem + q->desc + 16u * at, 16);
		if (!(d[(*n)++].flags & VRING_DESC_F_NEXT))
			break;
	}
	return head;
}

static void give(struct fake_net *f, struct fake_net_vq *q, int head, u32 len)
{
	const struct vring_used_elem e = {(u32)head, len};

	memcpy(f->mem + q->device + 4 + 8u * (q->used++ % q->num), &e, sizeof(e));
	__atomic_store_n((u16 *)(void *)(f->mem + q->device + 2), q->used, __ATOMIC_RELEASE);
	call_driver(q);
}

static void control(struct fake_net *f, struct fake_net_vq *q)
{
	struct vring_desc d[8];
	unsigned n;
	int head;

	while (f->answer >= 0 && (head = take(f, q, d, &n)) >= 0) {
		f->ctrl_len = 0;
		for (unsigned i = 0; i + 1 < n; i++) {
			BUG_ON(f->ctrl_len + d[i].len > FAKE_NET_CTRL || (d[i].flags & VRING_DESC_F_WRITE));
			memcpy(f->ctrl + f->ctrl_len, f->mem + d[i].addr, d[i].len);
			f->ctrl_len += d[i].len;
		}
		BUG_ON(!(d[n - 1].flags & VRING_DESC_F_WRITE));
		f->mem[d[n - 1].addr] = (u8)f->answer;
		f->requests++;
		give(f, q, head, 1);
	}
}

static void loop(struct fake_net *f, u32 tx)
{
	struct fake_net_vq *from = &f->q[tx], *to = &f->q[tx - 1];
	struct vring_desc d[8], r[8];
	unsigned n, m;
	int head, back;

	while ((head = take(f, from, d, &n)) >= 0) {
		f->frames[tx]++;
		back = take(f, to, r, &m);
		if (back >= 0) {
			u32 len = min(d[0].len, r[0].len);

			memcpy(f->mem + r[0].addr, f->mem + d[0].addr, len);
			f->mem[r[0].addr + offsetof(struct virtio_net_hdr_v1, num_buffers)] = 1;
			give(f, to, back, len);
		}
		give(f, from, head, 0);
	}
}

static void kick(struct fake_net *f, u32 vq)
{
	if (vq == f->ctrl_vq && (f->driver_features & BIT(VIRTIO_NET_F_CTRL_VQ)))
		control(f, &f->q[vq]);
	else if (vq & 1)
		loop(f, vq);
}

static int keep_fd(int *to, int fd)
{
	if (*to >= 0)
		close(*to);
	*to = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	return 0;
}

static void reset(struct fake_net *f)
{
	f->status = 0;
	f->driver_features = 0;
	keep_fd(&f->config_fd, -1);
	for (unsigned i = 0; i < FAKE_NET_VQS; i++) {
		keep_fd(&f->q[i].call, -1);
		f->q[i] = (struct fake_net_vq){.call = -1};
	}
}

static int call(struct vdpa_session *s, const struct vdpa_virtio_req *r, int fd, struct vdpa_virtio_rep *rep)
{
	struct fake_net *f = container_of(s, struct fake_net, s);
	struct fake_net_vq *q = &f->q[r->vq % FAKE_NET_VQS];

	memset(rep, 0, sizeof(*rep));
	rep->fds[0] = rep->fds[1] = -1;
	if (f->gone)
		return -ENODEV;
	switch (r->op) {
	case VDPA_VIRTIO_OPEN:
		rep->v[0] = 1;
		rep->v[1] = f->nvqs;
		rep->v[2] = 64;
		rep->v[3] = 1;
		rep->v[4] = 4096;
		rep->v[5] = sizeof(f->config);
		rep->fds[0] = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
		return 0;
	case VDPA_VIRTIO_RESET:
		reset(f);
		return 0;
	case VDPA_VIRTIO_GET_STATUS:
		rep->v[0] = f->status;
		return 0;
	case VDPA_VIRTIO_SET_STATUS:
		f->status = (u8)r->v[0];
		return 0;
	case VDPA_VIRTIO_GET_FEATURES:
		rep->v[0] = f->features;
		return 0;
	case VDPA_VIRTIO_SET_FEATURES:
		f->driver_features = r->v[0];
		return 0;
	case VDPA_VIRTIO_GET_CONFIG:
		BUG_ON(r->v[0] + r->v[1] > sizeof(f->config));
		memcpy(rep->data, (u8 *)&f->config + r->v[0], r->v[1]);
		return 0;
	case VDPA_VIRTIO_GENERATION:
		f->generation += f->tearing;
		rep->v[0] = f->generation;
		return 0;
	case VDPA_VIRTIO_CONFIG_FD:
		return keep_fd(&f->config_fd, fd);
	case VDPA_VIRTIO_VQ_SETUP:
		q->num = (u16)r->v[0];
		q->desc = r->v[1];
		q->driver = r->v[2];
		q->device = r->v[3];
		return 0;
	case VDPA_VIRTIO_VQ_CALL_FD:
		return keep_fd(&q->call, fd);
	case VDPA_VIRTIO_VQ_KICK_FD:
		return -EOPNOTSUPP;
	case VDPA_VIRTIO_VQ_READY:
		q->ready = r->v[0];
		return 0;
	case VDPA_VIRTIO_VQ_GET_READY:
		rep->v[0] = q->ready;
		return 0;
	case VDPA_VIRTIO_VQ_KICK:
		kick(f, r->vq);
		return 0;
	case VDPA_VIRTIO_DMA_INFO:
		rep->v[0] = BOUNCE;
		rep->v[1] = SIZE;
		return 0;
	case VDPA_VIRTIO_DMA_BOUNCE:
	case VDPA_VIRTIO_DMA_FREE:
		return 0;
	case VDPA_VIRTIO_DMA_ALLOC:
		rep->v[0] = f->next;
		f->next += round_up(r->v[0], PAGE_SIZE);
		return f->next > SIZE ? -ENOMEM : 0;
	default:
		return -EINVAL;
	}
}

static void close_session(struct vdpa_session *s)
{
	struct fake_net *f = container_of(s, struct fake_net, s);

	reset(f);
	f->closed = true;
}

void fake_net_init(struct fake_net *f, u64 features, u16 pairs)
{
	memset(f, 0, sizeof(*f));
	f->s = (struct vdpa_session){.call = call, .close = close_session};
	f->features = features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM);
	f->nvqs = 2u * pairs + 1;
	f->ctrl_vq = features & BIT(VIRTIO_NET_F_MQ) ? 2u * pairs : 2;
	f->config.max_virtqueue_pairs = pairs;
	f->config.status = VIRTIO_NET_S_LINK_UP;
	f->config_fd = -1;
	f->next = BOUNCE;
	for (unsigned i = 0; i < FAKE_NET_VQS; i++)
		f->q[i].call = -1;
	f->fd = memfd_create("fake-net", MFD_CLOEXEC);
	BUG_ON(f->fd < 0 || ftruncate(f->fd, SIZE) < 0);
	f->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	BUG_ON(f->mem == MAP_FAILED);
}

void fake_net_exit(struct fake_net *f)
{
	reset(f);
	munmap(f->mem, SIZE);
	close(f->fd);
}

void fake_net_changed(struct fake_net *f)
{
	f->generation++;
	if (f->config_fd >= 0)
		eventfd_write(f->config_fd, 1);
}
