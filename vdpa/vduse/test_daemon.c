// SPDX-License-Identifier: MIT
/* The daemon of the tests; see the header. */
#include "vdpa/vduse/test_daemon.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/vdpa.h"

#define NET_FRAME 65600

#define FEATURES \
	(BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | \
	 BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) | \
	 BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) | \
	 BIT(VIRTIO_F_ACCESS_PLATFORM))

long td_ioctl(struct test_daemon *t, u32 nr, void *arg, size_t len)
{
	int fd;
	u32 seq;
	long ret = vduse_ioctl(t->d, nr, arg, len, -1, &fd, &seq);

	if (fd >= 0)
		close(fd);
	return ret;
}

void td_create(struct test_daemon *t, const char *name, unsigned queues, u16 depth, u64 size, u64 less_features)
{
	struct {
		struct vduse_dev_config c;
		struct virtio_blk_config b;
	} arg = {
		.c = {.device_id = 2, .features = FEATURES & ~less_features, .vq_num = queues, .vq_align = 4096,
		      .config_size = sizeof(struct virtio_blk_config)},
		.b = {.capacity = size / 512, .blk_size = 512, .seg_max = 126, .num_queues = (u16)queues,
		      .max_discard_sectors = 1024, .max_discard_seg = 1, .max_write_zeroes_sectors = 1024,
		      .max_write_zeroes_seg = 1, .write_zeroes_may_unmap = 1},
	};
	long ret;

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(arg.c.name, sizeof(arg.c.name), "%s", name);
	t->queues = queues;
	t->depth = depth;
	t->size = size;
	t->disk = calloc(1, max(size, (u64)1));
	pthread_mutex_init(&t->disk_lock, NULL);
	t->sock = -1;
	ret = vduse_control_ioctl(&t->ctl, VDUSE_CREATE_DEV, &arg, sizeof(arg));
	BUG_ON(ret || !t->disk);
}

void td_create_net(struct test_daemon *t, const char *name, unsigned pairs, u16 depth, u64 features,
		   const struct virtio_net_config *config)
{
	struct {
		struct vduse_dev_config c;
		struct virtio_net_config n;
	} arg = {
		.c = {.device_id = 1, .vq_num = 2 * pairs, .vq_align = 4096, .config_size = sizeof(*config),
		      .features = features | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |
				  BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM)},
		.n = *config,
	};

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(arg.c.name, sizeof(arg.c.name), "%s", name);
	t->queues = 2 * pairs;
	t->depth = depth;
	t->net = true;
	t->disk = calloc(1, NET_FRAME);
	atomic_store(&t->lie_buffers, -1);
	atomic_store(&t->lie_frame, -1);
	pthread_mutex_init(&t->disk_lock, NULL);
	t->sock = -1;
	BUG_ON(!t->disk || vduse_control_ioctl(&t->ctl, VDUSE_CREATE_DEV, &arg, sizeof(arg)));
}

void td_peek(struct test_daemon *t, u64 off, void *buf, size_t len)
{
	pthread_mutex_lock(&t->disk_lock);
	memcpy(buf, t->disk + off, len);
	pthread_mutex_unlock(&t->disk_lock);
}

void td_fill(struct test_daemon *t, u64 off, u8 byte, size_t len)
{
	pthread_mutex_lock(&t->disk_lock);
	memset(t->disk + off, byte, len);
	pthread_mutex_unlock(&t->disk_lock);
}

static u8 *translate(struct test_daemon *t, u64 iova, u64 len)
{
	struct vduse_iotlb_entry e = {.start = iova, .last = iova + (len ? len - 1 : 0)};
	struct td_region *r;
	u32 seq;
	int fd;

	for (unsigned i = 0; i < t->nr_regions; i++) {
		r = &t->regions[i];
		if (iova >= r->start && e.last <= r->last)
			return r->p + (iova - r->start);
	}
	if (t->nr_regions == TD_REGIONS || vduse_ioctl(t->d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq))
		return NULL;
	r = &t->regions[t->nr_regions];
	r->start = e.start;
	r->last = e.last;
	r->len = e.last - e.start + 1;
	r->p = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)e.offset);
	close(fd);
	BUG_ON(r->p == MAP_FAILED);
	t->nr_regions++;
	return r->p + (iova - r->start);
}

static void forget_regions(struct test_daemon *t)
{
	while (t->nr_regions) {
		struct td_region *r = &t->regions[--t->nr_regions];

		munmap(r->p, r->len);
	}
}

static u16 ld16(const u8 *p)
{
	return __atomic_load_n((const u16 *)(const void *)p, __ATOMIC_ACQUIRE);
}

static void st16(u8 *p, u16 v)
{
	__atomic_store_n((u16 *)(void *)p, v, __ATOMIC_RELEASE);
}

static void queues_off(struct test_daemon *t)
{
	for (unsigned i = 0; i < t->queues; i++) {
		struct td_queue *q = &t->q[i];

		if (q->on)
			close(q->kick);
		q->on = false;
	}
}

/* False: the queue is not ready, or its rings are not mapped. */
static bool map_rings(struct test_daemon *t, u32 n)
{
	struct vduse_vq_info info = {.index = n};
	struct td_queue *q = &t->q[n];

	if (td_ioctl(t, VDUSE_VQ_GET_INFO, &info, sizeof(info)) || !info.ready)
		return false;
	q->num = (u16)info.num;
	q->desc = translate(t, info.desc_addr, 16ull * q->num);
	q->avail = translate(t, info.driver_addr, 6 + 2ull * q->num);
	q->used_ring = translate(t, info.device_addr, 6 + 8ull * q->num);
	return q->desc && q->avail && q->used_ring;
}

/* As libvduse: look which queues are ready, map their rings, give an eventfd, kick ourselves. */
static void queues_on(struct test_daemon *t)
{
	for (u32 i = 0; i < t->queues; i++) {
		struct vduse_vq_eventfd e = {.index = i};
		struct td_queue *q = &t->q[i];
		u64 one = 1;
		u32 seq;
		int fd;

		if (q->on || !map_rings(t, i))
			continue;
		/* Without a log of what was taken, an honest daemon goes on at what it has answered. */
		q->used = ld16(q->used_ring + 2);
		q->last_avail = q->used;
		q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		e.fd = q->kick;
		(void)vduse_ioctl(t->d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), q->kick, &fd, &seq);
		q->on = true;
		(void)td_ioctl(t, VDUSE_VQ_INJECT_IRQ, &i, sizeof(i));
		BUG_ON(write(q->kick, &one, sizeof(one)) < 0);
	}
}

/* The mappings have changed: look everything up again, the rings first. */
static void remap(struct test_daemon *t)
{
	forget_regions(t);
	for (u32 i = 0; i < t->queues; i++) {
		if (t->q[i].on && !map_rings(t, i)) {
			close(t->q[i].kick);
			t->q[i].on = false;
		}
	}
}

/* One block request over the chain; returns the bytes written. */
static u32 execute(struct test_daemon *t, const struct vring_desc *d, unsigned n)
{
	struct virtio_blk_outhdr h = { 0 };
	u8 *status = NULL, result = VIRTIO_BLK_S_OK;
	u32 written = 0;
	u64 at = 0;

	for (unsigned i = 0; i < n; i++) {
		u8 *p = translate(t, d[i].addr, d[i].len);

		if (!p)
			return 0;
		if (i == 0) {
			memcpy(&h, p, sizeof(h));
			at = h.sector * 512;
			continue;
		}
		if (i == n - 1) {
			status = p;
			written++;
			continue;
		}
		switch (h.type) {
		case VIRTIO_BLK_T_IN:
		case VIRTIO_BLK_T_OUT:
			if (at + d[i].len > t->size) {
				result = VIRTIO_BLK_S_IOERR;
				break;
			}
			if (h.type == VIRTIO_BLK_T_IN) {
				memcpy(p, t->disk + at, d[i].len);
				written += d[i].len;
			} else {
				memcpy(t->disk + at, p, d[i].len);
			}
			at += d[i].len;
			break;
		case VIRTIO_BLK_T_DISCARD:
		case VIRTIO_BLK_T_WRITE_ZEROES: {
			struct virtio_blk_discard_write_zeroes z;

			memcpy(&z, p, sizeof(z));
			memset(t->disk + z.sector * 512, 0, z.num_sectors * 512ull);
			break;
		}
		case VIRTIO_BLK_T_GET_ID:
			memcpy(p, "test-daemon-serial\0\0", 20);
			written += 20;
			break;
		default:
			result = VIRTIO_BLK_S_UNSUPP;
		}
	}
	if (status)
		*status = result;
	return written;
}

static void used_put(struct td_queue *q, u32 id, u32 len)
{
	struct vring_used_elem e = {id, len};

	memcpy(q->used_ring + 4 + 8 * (q->used % q->num), &e, sizeof(e));
	q->used++;
}

static void finish(struct test_daemon *t, struct td_queue *q, u32 id, u32 len)
{
	switch (atomic_load(&t->lie)) {
	case TD_LEN:
		used_put(q, id, len + 0x10000000);
		break;
	case TD_ID_RANGE:
		used_put(q, q->num, len);
		break;
	case TD_ID_IDLE:
		used_put(q, (id + 1) % q->num, len);
		break;
	case TD_REPEAT:
		used_put(q, id, len);
		used_put(q, id, len);
		break;
	case TD_JUMP:
		used_put(q, id, len);
		q->used += 1000;
		break;
	case TD_SCRIBBLE:
		memset(q->desc, 0xff, 16ull * q->num);
		memset(q->avail, 0xff, 4 + 2ull * q->num);
		used_put(q, id, len);
		break;
	default:
		used_put(q, id, len);
	}
	st16(q->used_ring + 2, q->used);
}

/* The next chain that the driver offers: its head and length, or -1. */
static int fetch(struct test_daemon *t, struct td_queue *q, struct vring_desc chain[128], unsigned *len)
{
	struct vring_desc *table = (void *)q->desc;
	u16 head, avail;

	for (;;) {
		avail = ld16(q->avail + 2);
		if (avail != q->last_avail)
			break;
		/* Ask to be kicked for the next one, then look again. */
		st16(q->used_ring + 4 + 8 * q->num, avail);
		atomic_thread_fence(memory_order_seq_cst);
		if (ld16(q->avail + 2) == q->last_avail)
			return -1;
	}
	head = ld16(q->avail + 4 + 2 * (q->last_avail % q->num));
	q->last_avail++;
	if (head >= q->num)
		return -1;
	*len = 0;
	chain[0] = table[head];
	if (chain[0].flags & VRING_DESC_F_INDIRECT) {
		table = (void *)translate(t, chain[0].addr, chain[0].len);
		if (!table)
			return -1;
		chain[0] = table[0];
	}
	while ((chain[(*len)++].flags & VRING_DESC_F_NEXT) && *len < 128)
		chain[*len] = table[chain[*len - 1].next];
	return head;
}

static void interrupt(struct test_daemon *t, u32 n)
{
	(void)td_ioctl(t, VDUSE_VQ_INJECT_IRQ, &n, sizeof(n));
}

/* @frame with its header back to the driver, over as many buffers as it takes. */
static void receive(struct test_daemon *t, u32 n, u8 *frame, u32 len)
{
	struct { u32 head, len; } part[NET_FRAME / 4096 + 2];
	u16 offset = offsetof(struct virtio_net_hdr_v1, num_buffers), buffers = 0;
	int lie_buffers = atomic_load(&t->lie_buffers), lie_frame = atomic_load(&t->lie_frame);
	struct td_queue *q = &t->q[n];
	u8 *header = NULL;
	u32 at = 0;

	while (at < len && buffers < ARRAY_SIZE(part)) {
		struct vring_desc chain[128];
		unsigned nr;
		int head = fetch(t, q, chain, &nr);
		u8 *p = head < 0 ? NULL : translate(t, chain[0].addr, chain[0].len);

		if (!p)
			return;	/* buffers that were taken and never come back: as of a daemon that is stopped */
		part[buffers].head = (u32)head;
		part[buffers].len = min(chain[0].len, len - at);
		memcpy(p, frame + at, part[buffers].len);
		header = header ? header : p;
		at += part[buffers++].len;
		if (!atomic_load(&t->mergeable))
			break;
	}
	/* The driver may look at the first as soon as that is finished. */
	st16(header + offset, lie_buffers < 0 ? buffers : (u16)lie_buffers);
	for (u16 i = 0; i < buffers; i++)
		finish(t, q, part[i].head, lie_frame < 0 ? part[i].len : (u32)lie_frame);
	interrupt(t, n);
}

static void serve_net(struct test_daemon *t, u32 n)
{
	struct td_queue *q = &t->q[n];
	struct vring_desc chain[128];
	unsigned nr;
	int head;

	if (!(n & 1))
		return;		/* buffers to receive into */
	while ((head = fetch(t, q, chain, &nr)) >= 0) {
		u32 len = 0;

		for (unsigned i = 0; i < nr; i++) {
			u8 *p = translate(t, chain[i].addr, chain[i].len);

			if (!p || len + chain[i].len > NET_FRAME)
				return;
			memcpy(t->disk + len, p, chain[i].len);
			len += chain[i].len;
		}
		used_put(q, (u32)head, 0);
		st16(q->used_ring + 2, q->used);
		interrupt(t, n);
		if (t->q[n - 1].on)
			receive(t, n - 1, t->disk, len);
	}
}

static void serve(struct test_daemon *t, u32 n)
{
	struct td_queue *q = &t->q[n];
	struct vring_desc chain[128];
	bool any = false;
	unsigned len;
	u32 written;
	int head;

	while ((head = fetch(t, q, chain, &len)) >= 0) {
		pthread_mutex_lock(&t->disk_lock);
		written = execute(t, chain, len);
		pthread_mutex_unlock(&t->disk_lock);
		finish(t, q, (u32)head, written);
		any = true;
	}
	if (any)
		interrupt(t, n);
}

static void message(struct test_daemon *t)
{
	struct vduse_dev_response resp = { 0 };
	struct vduse_dev_request req;

	if (read(t->sock, &req, sizeof(req)) != sizeof(req))
		return;
	resp.request_id = req.request_id;
	resp.result = VDUSE_REQ_RESULT_OK;
	switch (req.type) {
	case VDUSE_GET_VQ_STATE:
		resp.vq_state.split.avail_index = t->q[req.vq_state.index].last_avail;
		break;
	case VDUSE_SET_STATUS:
		atomic_fetch_add(&t->status_msgs, 1);
		if ((req.s.status & VIRTIO_CONFIG_S_DRIVER_OK) && atomic_load(&t->refuse_driver_ok)) {
			resp.result = VDUSE_REQ_RESULT_FAILED;
			break;
		}
		atomic_store(&t->status, req.s.status);
		if (req.s.status & VIRTIO_CONFIG_S_DRIVER_OK)
			queues_on(t);
		if (!req.s.status) {
			queues_off(t);
			forget_regions(t);
		}
		break;
	case VDUSE_UPDATE_IOTLB:
		atomic_fetch_add(&t->updates, 1);
		remap(t);
		break;
	default:
		resp.result = VDUSE_REQ_RESULT_FAILED;
	}
	(void)!vduse_write(t->d, &resp, sizeof(resp));
}

static void *daemon_thread(void *arg)
{
	struct test_daemon *t = arg;
	u64 features, n;

	/* Left by a daemon before us: the rings stand in the midst of work. */
	(void)td_ioctl(t, VDUSE_DEV_GET_FEATURES, &features, sizeof(features));
	if (features)
		queues_on(t);
	for (;; atomic_fetch_add(&t->turns, 1)) {
		struct pollfd p[2 + TD_QUEUES] = {
			{.fd = t->stop_fd, .events = POLLIN},
			{.fd = atomic_load(&t->mute) ? -1 : t->sock, .events = POLLIN},
		};

		for (unsigned i = 0; i < t->queues; i++)
			p[2 + i] = (struct pollfd){.fd = t->q[i].on && !atomic_load(&t->hold) ? t->q[i].kick : -1,
						   .events = POLLIN};
		/* Behaviour may change while we sleep. */
		poll(p, 2 + t->queues, 20);
		if (p[0].revents)
			return NULL;
		if (p[1].revents & POLLIN)
			message(t);
		for (unsigned i = 0; i < t->queues; i++) {
			if (!t->q[i].on || !(p[2 + i].revents & POLLIN))
				continue;
			if (read(t->q[i].kick, &n, sizeof(n)) == sizeof(n))
				atomic_fetch_add(&t->kicks, 1);
			if (t->net)
				serve_net(t, i);
			else
				serve(t, i);
		}
	}
}

void td_start(struct test_daemon *t)
{
	int ret = vduse_open(t->name, &t->d, &t->sock);

	BUG_ON(ret);
	for (u32 i = 0; i < t->queues; i++) {
		struct vduse_vq_config c = {.index = i, .max_size = t->depth};

		BUG_ON(td_ioctl(t, VDUSE_VQ_SETUP, &c, sizeof(c)));
	}
	t->stop_fd = eventfd(0, EFD_CLOEXEC);
	BUG_ON(pthread_create(&t->thread, NULL, daemon_thread, t));
}

/* The turn that may have begun without knowing ends, however slow the machine. */
static void next_turn(struct test_daemon *t)
{
	unsigned now = atomic_load(&t->turns);

	while (atomic_load(&t->turns) - now < 2)
		usleep(1000);
}

void td_mute(struct test_daemon *t)
{
	atomic_store(&t->mute, true);
	next_turn(t);
}

void td_hold(struct test_daemon *t)
{
	atomic_store(&t->hold, true);
	next_turn(t);
}

void td_kill(struct test_daemon *t)
{
	u64 one = 1;

	if (t->sock < 0)
		return;
	BUG_ON(write(t->stop_fd, &one, sizeof(one)) < 0);
	pthread_join(t->thread, NULL);
	queues_off(t);
	forget_regions(t);
	close(t->stop_fd);
	close(t->sock);
	t->sock = -1;
	vduse_close(t->d);
}

void td_destroy(struct test_daemon *t)
{
	char name[VDUSE_NAME_MAX] = "";

	td_kill(t);
	memcpy(name, t->name, sizeof(t->name));
	BUG_ON(vduse_control_ioctl(&t->ctl, VDUSE_DESTROY_DEV, name, sizeof(name)));
	free(t->disk);
	pthread_mutex_destroy(&t->disk_lock);
}

int td_attach(const char *name)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(NULL, "vduse");
	const struct vdpa_dev_attrs none = { 0 };

	BUG_ON(!m);
	return m->dev_add(m, name, &none);
}

void td_detach(const char *name)
{
	BUG_ON(vdpa_delete(name));
}
