// SPDX-License-Identifier: MIT
/*
 * The block driver over /dev/vhost-vdpa-0, by nothing but libc's calls, under
 * the preload object: memory is a file of this process that is mapped shared,
 * which a VDUSE daemon then has too. After a verifying load, the table of
 * mappings changes between requests; or, with "load", under it: then a queue of
 * its own reads into the mapping that changes.
 *
 *   userkvm run -- vhost_blk CYCLES [load]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vdpa/own_memory.h"
#include "vdpa/blk.h"
#include "vdpa/mem.h"
#include "vdpa/virtio/dma.h"
#include "vdpa/virtio/vdring.h"

#define NODE "/dev/vhost-vdpa-0"
#define SPARE (1ull << 32)	/* IOVAs of mappings that come and go */
#define SPARE_SIZE 65536u
#define WORKERS 3
#define PROBE_VQ WORKERS	/* the queue that uses what changes */
#define PROBE_AT (56u << 20)	/* bytes of the disk that only it reads */
#define PROBE_LEN 4096u

struct probe {
	bool on;
	struct vdma *dma;
	struct vdring *ring;
	struct { struct virtio_blk_outhdr hdr; u8 pad[15], status; } *area;
	u64 area_iova;
	int kick, call;
};

struct vhost {
	struct vdpa_session s;
	int fd;
	struct own_memory own;
	u8 *mem;			/* the domain, mapped here */
	struct probe p;
};

static int message(int fd, u8 type, u64 iova, u64 size, const void *addr)
{
	struct vhost_msg_v2 m = {.type = VHOST_IOTLB_MSG_V2};

	m.iotlb = (struct vhost_iotlb_msg){.iova = iova, .size = size, .uaddr = (u64)(uintptr_t)addr,
					   .perm = VHOST_ACCESS_RW, .type = type};
	return write(fd, &m, sizeof(m)) == sizeof(m) ? 0 : -errno;
}

static int call(int fd, unsigned long req, void *arg)
{
	return ioctl(fd, req, arg) < 0 ? -errno : 0;
}

static int op_open(struct vhost *v, struct vdpa_virtio_rep *r)
{
	u64 backend = 1ull << VHOST_BACKEND_F_IOTLB_MSG_V2 | 1ull << VHOST_BACKEND_F_IOTLB_BATCH;
	u32 id, size, queues;
	u16 num;
	int ret;

	v->fd = open(NODE, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return -errno;
	ret = ioctl(v->fd, VHOST_SET_OWNER) < 0 ? -errno : call(v->fd, VHOST_SET_BACKEND_FEATURES, &backend);
	if (!ret)
		ret = call(v->fd, VHOST_VDPA_GET_DEVICE_ID, &id);
	if (!ret)
		ret = call(v->fd, VHOST_VDPA_GET_VRING_NUM, &num);
	if (!ret)
		ret = call(v->fd, VHOST_VDPA_GET_CONFIG_SIZE, &size);
	if (!ret)
		ret = call(v->fd, VHOST_VDPA_GET_VQS_COUNT, &queues);
	if (!ret)
		ret = message(v->fd, VHOST_IOTLB_UPDATE, 0, v->own.dom.iova_size, v->mem);
	if (ret)
		return ret;
	r->v[0] = id;
	r->v[1] = queues;
	r->v[2] = num;
	r->v[3] = 1;
	r->v[4] = 4096;
	r->v[5] = size;
	r->fds[0] = fcntl(v->own.dom.fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static int op_config(struct vhost *v, const struct vdpa_virtio_req *q, struct vdpa_virtio_rep *r)
{
	struct {
		struct vhost_vdpa_config c;
		u8 bytes[VDPA_VIRTIO_DATA];
	} arg = {.c = {.off = (u32)q->v[0], .len = (u32)q->v[1]}};
	int ret = call(v->fd, VHOST_VDPA_GET_CONFIG, &arg);

	memcpy(r->data, arg.bytes, sizeof(arg.bytes));
	return ret;
}

static int op_vq_setup(struct vhost *v, const struct vdpa_virtio_req *q)
{
	struct vhost_vring_state s = {q->vq, (u32)q->v[0]};
	struct vhost_vring_addr a = {.index = q->vq, .desc_user_addr = q->v[1], .avail_user_addr = q->v[2],
				     .used_user_addr = q->v[3]};
	int ret = call(v->fd, VHOST_SET_VRING_NUM, &s);

	s.num = 0;
	if (!ret)
		ret = call(v->fd, VHOST_SET_VRING_BASE, &s);
	return ret ? ret : call(v->fd, VHOST_SET_VRING_ADDR, &a);
}

/* The probe's queue, before the device starts. */
static int probe_start(struct vhost *v)
{
	const struct vdring_cfg c = {.num = 8, .align = 4096};
	struct vdpa_virtio_req q = {.vq = PROBE_VQ, .v = {c.num}};
	struct vhost_vring_state on = {PROBE_VQ, 1};
	struct vhost_vring_file kick = {PROBE_VQ, eventfd(0, 0)}, irq = {PROBE_VQ, eventfd(0, EFD_NONBLOCK)};
	struct probe *p = &v->p;
	int ret;

	p->kick = kick.fd;
	p->call = irq.fd;
	p->dma = vdma_new(&v->s, v->own.dom.fd);
	p->ring = p->dma ? vdring_new(p->dma, &c) : NULL;
	p->area = p->ring ? vdma_alloc(p->dma, sizeof(*p->area), &p->area_iova) : NULL;
	if (!p->area)
		return -ENOMEM;
	vdring_addr(p->ring, &q.v[1], &q.v[2], &q.v[3]);
	ret = op_vq_setup(v, &q);
	if (!ret)
		ret = call(v->fd, VHOST_SET_VRING_CALL, &irq);
	if (!ret)
		ret = call(v->fd, VHOST_SET_VRING_KICK, &kick);
	return ret ? ret : call(v->fd, VHOST_VDPA_SET_VRING_ENABLE, &on);
}

/* Read the probe's piece of disk to @iova. The status byte, 0xff if the device gave none, or -errno. */
static int probe_read(struct vhost *v, u64 iova)
{
	struct probe *p = &v->p;
	const struct vdring_sg sg[] = {
		{p->area_iova, sizeof(p->area->hdr)}, {iova, PROBE_LEN},
		{p->area_iova + offsetof(__typeof__(*p->area), status), 1},
	};
	struct pollfd pfd = {.fd = p->call, .events = POLLIN};
	eventfd_t n;
	void *token;
	u32 len;
	int ret;

	p->area->hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = PROBE_AT / 512};
	p->area->status = 0xff;
	ret = vdring_add(p->ring, sg, 1, 2, p);
	if (ret)
		return ret;
	if (vdring_publish(p->ring))
		eventfd_write(p->kick, 1);
	for (unsigned i = 0; !(ret = vdring_get(p->ring, &token, &len)); i++) {
		if (i == 100)
			return -ETIMEDOUT;
		if (vdring_irq_on(p->ring) && poll(&pfd, 1, 200) > 0)
			(void)!eventfd_read(p->call, &n);
	}
	return ret < 0 ? ret : *(volatile u8 *)&p->area->status;
}

static int vhost_call(struct vdpa_session *session, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r)
{
	struct vhost *v = container_of(session, struct vhost, s);
	struct vhost_vring_file file = {q->vq, fd};
	struct vhost_vring_state state = {q->vq, (u32)q->v[0]};
	u64 features = q->v[0];
	u8 status = (u8)q->v[0];
	int ret;

	memset(r, 0, sizeof(*r));
	r->fds[0] = r->fds[1] = -1;
	switch (q->op) {
	case VDPA_VIRTIO_OPEN:
		return op_open(v, r);
	case VDPA_VIRTIO_RESET:
		status = 0;
		return call(v->fd, VHOST_VDPA_SET_STATUS, &status);
	case VDPA_VIRTIO_GET_STATUS:
		ret = call(v->fd, VHOST_VDPA_GET_STATUS, &status);
		r->v[0] = status;
		return ret;
	case VDPA_VIRTIO_SET_STATUS:
		ret = v->p.on && (status & VIRTIO_CONFIG_S_DRIVER_OK) ? probe_start(v) : 0;
		return ret ? ret : call(v->fd, VHOST_VDPA_SET_STATUS, &status);
	case VDPA_VIRTIO_GET_FEATURES:
		return call(v->fd, VHOST_GET_FEATURES, &r->v[0]);
	case VDPA_VIRTIO_SET_FEATURES:
		return call(v->fd, VHOST_SET_FEATURES, &features);
	case VDPA_VIRTIO_GET_CONFIG:
		return op_config(v, q, r);
	case VDPA_VIRTIO_CONFIG_FD:
		return call(v->fd, VHOST_VDPA_SET_CONFIG_CALL, &fd);
	case VDPA_VIRTIO_VQ_SETUP:
		return op_vq_setup(v, q);
	case VDPA_VIRTIO_VQ_CALL_FD:
		return call(v->fd, VHOST_SET_VRING_CALL, &file);
	case VDPA_VIRTIO_VQ_KICK_FD:
		return call(v->fd, VHOST_SET_VRING_KICK, &file);
	case VDPA_VIRTIO_VQ_READY:
		return call(v->fd, VHOST_VDPA_SET_VRING_ENABLE, &state);
	default:
		return own_memory_call(&v->own, q, r);
	}
}

static void vhost_close(struct vdpa_session *s)
{
	struct vhost *v = container_of(s, struct vhost, s);

	close(v->fd);
}

struct worker {
	pthread_t thread;
	struct vblk *b;
	u16 queue;
	u64 first, done;
	int ret;
};

static _Atomic bool stop;

static void *verify(void *arg)
{
	static const u32 sizes[] = {4096, 512, 65536};
	struct worker *w = arg;
	u8 *out = malloc(65536), *in = malloc(65536);

	for (; !atomic_load(&stop) && !w->ret; w->done++) {
		u32 len = sizes[w->done % 3];
		u64 off = w->first + w->done * 65536 % (8u << 20);

		memset(out, (int)(w->done * 7 + w->queue + 1), len);
		w->ret = vblk_io(w->b, w->queue, VBLK_WRITE, out, off, len, 0);
		if (!w->ret)
			w->ret = vblk_io(w->b, w->queue, VBLK_READ, in, off, len, 0);
		if (!w->ret && memcmp(out, in, len))
			w->ret = -EBADMSG;
	}
	free(out);
	free(in);
	return NULL;
}

static void start_workers(struct worker w[WORKERS], struct vblk *b)
{
	for (u16 i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){.b = b, .queue = i, .first = (u64)i * (16u << 20)};
		pthread_create(&w[i].thread, NULL, verify, &w[i]);
	}
}

static int stop_workers(struct worker w[WORKERS])
{
	int ret = 0;

	atomic_store(&stop, true);
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		fprintf(stderr, "queue %u: %llu requests, %s\n", i, (unsigned long long)w[i].done * 2, strerror(-w[i].ret));
		if (w[i].ret || !w[i].done)
			ret = -EIO;
	}
	return ret;
}

/*
 * Between requests and not under them: qemu-storage-daemon takes its mappings away from
 * requests that it has in flight, whose system calls then fail.
 */
static int change_between(struct vhost *v, struct vblk *b, unsigned cycles, void *p)
{
	u8 buf[4096];
	int ret = 0;

	for (unsigned i = 0; i < cycles && !ret; i++) {
		ret = message(v->fd, i & 1 ? VHOST_IOTLB_INVALIDATE : VHOST_IOTLB_UPDATE, SPARE, SPARE_SIZE, i & 1 ? NULL : p);
		memset(buf, (int)i, sizeof(buf));
		if (!ret)
			ret = vblk_io(b, 0, VBLK_WRITE, buf, 0, sizeof(buf), 0);
		memset(buf, (int)i + 1, sizeof(buf));
		if (!ret)
			ret = vblk_io(b, 0, VBLK_READ, buf, 0, sizeof(buf), 0);
		if (!ret && (buf[0] != (u8)i || buf[sizeof(buf) - 1] != (u8)i))
			ret = -EBADMSG;
	}
	return ret;
}

static bool all(const u8 *p, u8 byte)
{
	for (unsigned i = 0; i < PROBE_LEN; i++)
		if (p[i] != byte)
			return false;
	return true;
}

/* In one step from whatever is there to @p, or to nothing. */
static int remap(struct vhost *v, void *p)
{
	int ret = message(v->fd, VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL);

	if (!ret)
		ret = message(v->fd, VHOST_IOTLB_INVALIDATE, SPARE, SPARE_SIZE, NULL);
	if (!ret && p)
		ret = message(v->fd, VHOST_IOTLB_UPDATE, SPARE, SPARE_SIZE, p);
	return ret ? ret : message(v->fd, VHOST_IOTLB_BATCH_END, 0, 0, NULL);
}

/* Under the workers' load: what is read after a change goes to the new memory, and only there. */
static int change_under_load(struct vhost *v, struct vblk *b, unsigned cycles, u8 *const spare[2])
{
	u8 disk[PROBE_LEN];
	int ret;

	memset(disk, 0x77, sizeof(disk));
	ret = vblk_io(b, 0, VBLK_WRITE, disk, PROBE_AT, sizeof(disk), 0);
	for (unsigned i = 0; i < cycles && !ret; i++) {
		u8 *now = spare[i & 1], *before = spare[~i & 1];
		bool gap = i % 16 == 15;

		memset(now, 0x11, PROBE_LEN);
		memset(before, 0x22, PROBE_LEN);
		ret = remap(v, gap ? NULL : now);
		if (!ret)
			ret = probe_read(v, SPARE);
		if (ret < 0)
			break;
		/* Without a mapping the request fails, or nobody touches its status. */
		ret = (gap ? ret : !ret) && all(now, gap ? 0x11 : 0x77) && all(before, 0x22) ? 0 : -EBADMSG;
	}
	return ret;
}

int main(int argc, char **argv)
{
	const struct vblk_cfg cfg = {.queues = WORKERS};
	struct worker w[WORKERS] = { 0 };
	struct vhost v = {.s = {.call = vhost_call, .close = vhost_close}};
	unsigned cycles = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
	int ret = 0, file;
	u8 *spare[2];
	char err[256] = "";
	struct vblk *b;

	v.p.on = argc > 2 && !strcmp(argv[2], "load");
	if (vdpa_mem_init() || own_memory_init(&v.own))
		return 1;
	v.mem = mmap(NULL, v.own.dom.iova_size, PROT_READ | PROT_WRITE, MAP_SHARED, v.own.dom.fd, 0);
	for (unsigned i = 0; i < 2; i++) {
		file = memfd_create("spare", MFD_CLOEXEC);
		if (ftruncate(file, SPARE_SIZE) < 0)
			return 1;
		spare[i] = mmap(NULL, SPARE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	}
	b = vblk_open(&v.s, "vhost", &cfg, err);
	if (!b) {
		fprintf(stderr, "vhost_blk: %s\n", err);
		return 1;
	}
	start_workers(w, b);
	if (v.p.on) {
		ret = change_under_load(&v, b, cycles, spare);
		if (stop_workers(w) && !ret)
			ret = -EIO;
	} else {
		usleep(500000);
		ret = stop_workers(w);
		if (!ret)
			ret = change_between(&v, b, cycles, spare[0]);
	}
	if (ret)
		fprintf(stderr, "vhost_blk: %s\n", strerror(-ret));
	vblk_close(b);
	return ret ? 1 : 0;
}
