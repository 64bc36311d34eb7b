// SPDX-License-Identifier: MIT
/*
 * vduse_fuzz: a hostile VDUSE daemon. Each round has a device whose daemon
 * answers messages wrongly, late, twice or not at all (G.A 5), calls every
 * ioctl at random, and writes what it likes into rings, buffers and
 * configuration while the block driver, or a caller of the bus's operations,
 * works on it (G.A 15). Beside all rounds an honest device is written and
 * verified: nothing of this may reach it.
 *
 * A round ends when the consumer has seen enough: whatever it posted must have
 * been finished exactly once, with a result of the driver's, and nothing
 * outside its buffers touched. Meant for AddressSanitizer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vdpa/blk.h"
#include "vdpa/iotlb.h"
#include "vdpa/mem.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/virtio/session.h"

#define QUEUES 4u
#define HELD 8u			/* unanswered messages that the daemon remembers */
#define GUARD 64u

static void fail(const char *what)
{
	printf("not ok 1 - %s\n", what);
	fflush(stdout);
	abort();
}

/* Threads have generators of their own; what they do beside each other is not replayed exactly. */
static u64 draw(u64 *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

static u32 roll(u64 *s, u32 n)
{
	return (u32)((draw(s) >> 32) * n >> 32);
}

static _Atomic u64 opened, messages, answers, ioctls, scribbles, finished_requests, bus_calls, devices_broken;

/* ---- The hostile daemon ---- */

struct hostile {
	struct vduse_dev *d;
	int sock, events, junk_fd;
	u32 queues;
	u8 *base;			/* the whole domain, as long as a daemon can map it */
	size_t size;
	u32 held[HELD];
	unsigned nr_held;
	/* What it is up to, so that the other side gets somewhere at times. */
	bool silent;			/* answers no message until the end */
	bool lies;			/* in its answers */
	bool forges;			/* in what it says is finished */
	bool scribbles;			/* over memory */
	bool storms;			/* ioctls at random */
	u64 seed[2];			/* one a thread */
	_Atomic bool calm, stop;
};

static void answer(struct hostile *h, u32 id, u64 *s, bool honest)
{
	struct vduse_dev_response r = {.request_id = id};
	size_t len = sizeof(r);

	if (!honest) {
		r.result = roll(s, 8) ? VDUSE_REQ_RESULT_OK : roll(s, 2) ? VDUSE_REQ_RESULT_FAILED : (u32)draw(s);
		r.vq_state.split.avail_index = (u16)draw(s);
		if (roll(s, 16) == 0)
			r.reserved[roll(s, ARRAY_SIZE(r.reserved))] = 1;
		if (roll(s, 16) == 0)
			r.request_id = roll(s, 2) ? id + roll(s, 5) - 2 : (u32)draw(s);
		if (roll(s, 16) == 0)
			len = roll(s, sizeof(r));
	}
	for (unsigned n = honest || roll(s, 8) ? 1 : 3; n; n--) {
		atomic_fetch_add(&answers, 1);
		if (!honest && roll(s, 4) == 0)
			(void)!send(h->sock, &r, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			(void)!vduse_write(h->d, &r, len);
	}
}

static void take_messages(struct hostile *h, u64 *s)
{
	bool calm = atomic_load(&h->calm);
	struct vduse_dev_request q;

	while (h->nr_held < HELD && recv(h->sock, &q, sizeof(q), MSG_DONTWAIT) == sizeof(q)) {
		atomic_fetch_add(&messages, 1);
		h->held[h->nr_held++] = q.request_id;
	}
	if (!calm && (h->silent || (h->lies && roll(s, 4) == 0)))
		return;
	while (h->nr_held) {
		u32 i = roll(s, h->nr_held), id = h->held[i];

		if (!calm && h->lies) {
			answer(h, id, s, false);
			/* It may have been refused; then the question is still open. */
			if (roll(s, 4) == 0)
				return;
		}
		answer(h, id, s, true);
		h->held[i] = h->held[--h->nr_held];
	}
	if (!calm && h->lies && roll(s, 8) == 0)
		answer(h, (u32)draw(s), s, false);
}

static u8 *at(struct hostile *h, u64 iova, u64 len)
{
	return h->base && iova < h->size && len <= h->size - iova ? h->base + iova : NULL;
}

static void map_domain(struct hostile *h)
{
	struct vduse_iotlb_entry e = {.start = 0, .last = 0};
	u32 seq;
	int fd;

	if (h->base || vduse_ioctl(h->d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq))
		return;
	/* A consumer's own file can be cut short; the domain's cannot, or the driver would feel it. */
	(void)!ftruncate(fd, 0);
	/* What lies in the same file behind the region belongs to the device too, and is there for the taking. */
	h->size = (size_t)lseek(fd, 0, SEEK_END);
	h->base = mmap(NULL, h->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (h->base == MAP_FAILED)
		h->base = NULL;
	close(fd);
}

/* The status byte of the chain at @head, if the chain can be followed at all. */
static u8 *status_of(struct hostile *h, const struct vduse_vq_info *q, u16 head, u32 *len)
{
	struct vring_desc d, *t = (void *)at(h, q->desc_addr, 16ull * q->num);
	u64 entries = q->num;

	*len = 0;
	for (unsigned i = 0, n = head; t && n < entries && i < 128; i++) {
		memcpy(&d, t + n, sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			t = (void *)at(h, d.addr, d.len);
			entries = d.len / sizeof(d);
			n = 0;
			continue;
		}
		if (d.flags & VRING_DESC_F_WRITE)
			*len += d.len;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return at(h, d.addr, 1);
		n = d.next;
	}
	return NULL;
}

/* Finish a request, truthfully or not. False: there was none. */
static bool serve_one(struct hostile *h, u32 index, u64 *s)
{
	struct vduse_vq_info q = {.index = index};
	u16 head, *avail, *used, idx;
	struct vring_used_elem e;
	u8 *status;
	u32 seq, len;
	int fd;

	if (vduse_ioctl(h->d, VDUSE_VQ_GET_INFO, &q, sizeof(q), -1, &fd, &seq) || !q.ready || !q.num)
		return false;
	avail = (void *)at(h, q.driver_addr, 6 + 2ull * q.num);
	used = (void *)at(h, q.device_addr, 6 + 8ull * q.num);
	if (!avail || !used)
		return false;
	/* In order, so that the used index says what is next, whoever began. */
	idx = __atomic_load_n(used + 1, __ATOMIC_RELAXED);
	if (idx == __atomic_load_n(avail + 1, __ATOMIC_ACQUIRE))
		return false;
	head = avail[2 + idx % q.num];
	status = status_of(h, &q, head, &len);
	if (status)
		*status = roll(s, 8) ? 0 : (u8)draw(s);
	e = (struct vring_used_elem){head, roll(s, 2) ? len : roll(s, len + 1)};
	if (h->forges && roll(s, 32) == 0)
		e.len = roll(s, 2) ? len + 1 : (u32)draw(s);
	if (h->forges && roll(s, 32) == 0)
		e.id = roll(s, 2) ? roll(s, q.num + 1) : (u32)draw(s);
	memcpy((u8 *)used + 4 + 8ull * (idx % q.num), &e, sizeof(e));
	__atomic_store_n(used + 1, (u16)(idx + (!h->forges || roll(s, 64) ? 1 : roll(s, 300))), __ATOMIC_RELEASE);
	if (roll(s, 4))
		(void)vduse_ioctl(h->d, VDUSE_VQ_INJECT_IRQ, &index, sizeof(index), -1, &fd, &seq);
	if (fd >= 0)
		close(fd);
	return true;
}

/* Anything, most of it where rings and headers are. */
static void scribble(struct hostile *h, u64 *s)
{
	struct vduse_vq_info q = {.index = roll(s, h->queues)};
	u32 seq, len = 1u << roll(s, roll(s, 8) ? 4 : 12);
	u64 where;
	u8 *p;
	int fd;

	if (vduse_ioctl(h->d, VDUSE_VQ_GET_INFO, &q, sizeof(q), -1, &fd, &seq))
		return;
	switch (roll(s, 6)) {
	case 0: where = q.desc_addr + roll(s, q.num * 16 + 1); break;
	case 1: where = q.driver_addr + roll(s, q.num * 2 + 6); break;
	case 2: where = q.device_addr + roll(s, 8); break;
	case 3: where = q.device_addr + roll(s, q.num * 8 + 6); break;
	case 4: where = q.desc_addr + roll(s, 1 << 20); break;
	default: where = draw(s) % max(h->size, (size_t)1); break;
	}
	p = at(h, where, len);
	atomic_fetch_add(&scribbles, 1);
	for (u32 i = 0; p && i < len; i++)
		p[i] = roll(s, 2) ? (u8)draw(s) : roll(s, 2) ? 0xff : 0;
}

static void one_ioctl(struct hostile *h, u64 *s)
{
	static const u32 nrs[] = {
		VDUSE_IOTLB_GET_FD, VDUSE_DEV_GET_FEATURES, VDUSE_DEV_SET_CONFIG, VDUSE_DEV_INJECT_CONFIG_IRQ, VDUSE_VQ_SETUP,
		VDUSE_VQ_GET_INFO, VDUSE_VQ_SETUP_KICKFD, VDUSE_VQ_INJECT_IRQ, VDUSE_IOTLB_REG_UMEM,
		VDUSE_IOTLB_DEREG_UMEM, VDUSE_IOTLB_GET_INFO, 0, 0x8144,
	};
	const int fds[] = {h->events, h->junk_fd, -1};
	u32 nr = nrs[roll(s, ARRAY_SIZE(nrs))], seq;
	u64 arg[64] = { 0 };
	int fd;

	arg[0] = roll(s, 2) ? roll(s, QUEUES + 2) : roll(s, 2) ? roll(s, 1 << 20) : draw(s);
	if (roll(s, 2))
		arg[1] = roll(s, 2) ? roll(s, 1 << 27) : draw(s);
	if (roll(s, 4) == 0)
		for (unsigned i = 0; i < 6; i++)
			arg[i] = draw(s);
	if (nr == VDUSE_DEV_SET_CONFIG) {
		struct vduse_config_data c = {.offset = roll(s, 70), .length = roll(s, 70)};

		memcpy(arg, &c, sizeof(c));
		for (unsigned i = 1; i < ARRAY_SIZE(arg); i++)
			arg[i] = roll(s, 2) ? draw(s) : roll(s, 1 << 16);
	}
	(void)vduse_ioctl(h->d, nr, arg, roll(s, 16) ? sizeof(arg) : roll(s, sizeof(arg)), fds[roll(s, 3)], &fd, &seq);
	if (fd >= 0)
		close(fd);
	atomic_fetch_add(&ioctls, 1);
}

static void *daemon_thread(void *arg)
{
	struct hostile *h = arg;
	u64 s = h->seed[0];

	while (!atomic_load(&h->stop)) {
		struct pollfd p = {.fd = h->sock, .events = POLLIN};

		take_messages(h, &s);
		map_domain(h);
		for (u32 i = 0, n = 0; i < h->queues; n++)
			if (n == 16 || !serve_one(h, i, &s))
				i++, n = 0;
		if (!atomic_load(&h->calm)) {
			if (h->storms && roll(&s, 8) == 0)
				one_ioctl(h, &s);
			for (u32 n = h->scribbles ? roll(&s, 8) : 0; n; n--)
				scribble(h, &s);
		}
		if (h->nr_held < HELD)
			poll(&p, 1, roll(&s, 16) == 0);
	}
	return NULL;
}

static void *chaos_thread(void *arg)
{
	struct hostile *h = arg;
	u64 s = h->seed[1];

	while (h->storms && !atomic_load(&h->stop) && !atomic_load(&h->calm)) {
		one_ioctl(h, &s);
		sched_yield();
	}
	return NULL;
}

/* Comes, and sets the queues up as it likes. Returns false if the device does not take it. */
static bool hostile_begin(struct hostile *h, const char *name, pthread_t t[2])
{
	u32 seq;
	int fd;

	if (vduse_open(name, &h->d, &h->sock))
		return false;
	h->nr_held = 0;
	atomic_store(&h->stop, false);
	atomic_store(&h->calm, false);
	for (u32 i = 0; i < h->queues; i++) {
		struct vduse_vq_config c = {.index = i, .max_size = (u16)(1u << (1 + below(8)))};

		(void)vduse_ioctl(h->d, VDUSE_VQ_SETUP, &c, sizeof(c), -1, &fd, &seq);
	}
	h->seed[0] = rnd() | 1;
	h->seed[1] = rnd() | 1;
	BUG_ON(pthread_create(&t[0], NULL, daemon_thread, h) || pthread_create(&t[1], NULL, chaos_thread, h));
	return true;
}

static void hostile_end(struct hostile *h, pthread_t t[2])
{
	atomic_store(&h->stop, true);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	if (h->base)
		munmap(h->base, h->size);
	h->base = NULL;
	close(h->sock);
	vduse_close(h->d);
}

/* ---- The block driver as its victim ---- */

struct request {
	struct vblk_req r;
	struct iovec iov;
	u8 mem[GUARD + 128 * 512 + GUARD];
	u8 fill;
	bool flying;
};

static unsigned flying;

static void done(struct vblk_req *r)
{
	struct request *q = container_of(r, struct request, r);

	if (!q->flying)
		fail("a request finished twice");
	q->flying = false;
	flying--;
	atomic_fetch_add(&finished_requests, 1);
	if (r->result && r->result != -EIO && r->result != -EOPNOTSUPP && r->result != -ENODEV)
		fail("a request's result is none of the driver's");
	for (unsigned i = 0; i < GUARD; i++)
		if (q->mem[i] != q->fill || q->mem[sizeof(q->mem) - 1 - i] != q->fill)
			fail("bytes beside a buffer changed");
	for (unsigned i = 0; r->op == VBLK_WRITE && i < q->iov.iov_len; i++)
		if (q->mem[GUARD + i] != q->fill)
			fail("the source of a write changed");
}

static int post(struct vblk *b, struct request *q, u16 queues)
{
	static const enum vblk_op ops[] = {VBLK_READ, VBLK_READ, VBLK_WRITE, VBLK_WRITE, VBLK_FLUSH, VBLK_DISCARD,
					   VBLK_WRITE_ZEROES, VBLK_GET_ID};
	enum vblk_op op = ops[below(ARRAY_SIZE(ops))];
	u64 len = op == VBLK_FLUSH ? 0 : op == VBLK_GET_ID ? VBLK_ID_LEN : 512ull * (1 + below(below(8) ? 16 : 128));
	u16 queue = (u16)below(queues);
	int ret;

	q->fill = (u8)rnd();
	memset(q->mem, q->fill, sizeof(q->mem));
	q->iov = (struct iovec){q->mem + GUARD, len};
	q->r = (struct vblk_req){.op = op, .off = 512ull * below(64), .len = len, .iov = &q->iov,
				 .nr_iov = op == VBLK_FLUSH || op == VBLK_DISCARD || op == VBLK_WRITE_ZEROES ? 0 : 1,
				 .done = done};
	q->flying = true;
	flying++;
	ret = vblk_post(b, queue, &q->r);
	if (ret) {
		q->flying = false;
		flying--;
	}
	vblk_kick(b, queue);
	return ret;
}

static void use_disk(const char *name)
{
	static struct request reqs[64];
	struct vblk_cfg cfg = {.no_indirect = below(2), .no_event_idx = below(2), .depth = (u16)(below(2) ? 0 : 1 + below(64))};
	char err[256];
	struct vblk *b = vblk_open(vdpa_session_local(), name, &cfg, err);
	struct vblk_info i;

	if (!b)
		return;
	atomic_fetch_add(&opened, 1);
	vblk_info(b, &i);
	if (!i.queues || i.queues > QUEUES || !i.depth || i.block_size < 512 || i.max_request % 512)
		fail("the driver believes a configuration that cannot be");
	for (unsigned turn = below(1500); turn; turn--) {
		struct request *q = &reqs[below(ARRAY_SIZE(reqs))];

		if (!q->flying)
			(void)post(b, q, i.queues);
		for (u16 k = 0; k < i.queues; k++)
			(void)vblk_reap(b, k, false);
		if (below(64) == 0)
			(void)vblk_update(b);
		/* Let the daemon come to something. */
		if (below(16) == 0)
			usleep(20);
	}
	vblk_close(b);
	if (flying)
		fail("a closed device has not finished its requests");
}

/* ---- The bus's operations as its victim ---- */

static void set_map(struct vdpa_device *d, int fd)
{
	struct vdpa_iotlb *t = vdpa_iotlb_new(0);

	for (u32 n = below(4); n; n--) {
		struct vdpa_map m = {.start = (u64)below(64) << 12, .perm = 1 + (u8)below(3)};

		m.last = m.start + ((u64)(1 + below(8)) << 12) - 1;
		m.mem = vdpa_mem_shared(fd, 0, 1 << 16, true);
		(void)!vdpa_iotlb_add(t, &m);
		vdpa_mem_put(m.mem);
	}
	(void)d->ops->set_map(d, 0, t);
	vdpa_iotlb_free(t);
}

static void no_call(void *arg)
{
	atomic_fetch_add(&bus_calls, 1);
}

static void use_bus(const char *name, const struct hostile *h)
{
	struct vdpa_device *d = vdpa_find(name);
	u8 config[128];

	for (unsigned turn = below(100); d && turn; turn--) {
		u16 vq = (u16)below(h->queues);
		struct vdpa_vq_addr a = {(u64)below(64) << 12, (u64)below(64) << 12, (u64)below(64) << 12};
		struct vdpa_callback cb = {no_call, NULL, below(2) ? -1 : h->events};
		struct vdpa_vq_state st;

		atomic_fetch_add(&bus_calls, 1);
		switch (below(12)) {
		case 0: (void)vdpa_reset(d); break;
		case 1: vdpa_set_status(d, (u8)(1 + below(255))); break;
		case 2: (void)d->ops->get_vq_state(d, vq, &st); break;
		case 3: set_map(d, h->junk_fd); break;
		case 4: d->ops->set_vq_cb(d, vq, &cb); break;
		case 5: d->ops->set_vq_ready(d, vq, below(2)); break;
		case 6: d->ops->kick_vq(d, vq); break;
		case 7: vdpa_get_config(d, below(128), config, 1 + below(sizeof(config))); break;
		case 8: (void)d->ops->set_vq_address(d, vq, &a); break;
		case 9: d->ops->set_vq_num(d, vq, 1u << below(9)); break;
		case 10: d->ops->set_config_cb(d, &cb); break;
		default: (void)vdpa_set_features(d, below(2) ? h->queues : rnd()); break;
		}
	}
	if (!d)
		return;
	(void)vdpa_reset(d);
	vdpa_put(d);
}

/* ---- Rounds ---- */

static long create(const char *name, u32 queues)
{
	struct {
		struct vduse_dev_config c;
		struct virtio_blk_config b;
	} arg = {
		.c = {.device_id = 2, .vq_num = queues, .vq_align = 1u << below(13), .config_size = sizeof(arg.b),
		      .features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) |
				  (rnd() & (0x7fff | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX)) &
				   ~BIT(VIRTIO_BLK_F_CONFIG_WCE))},
		.b = {.capacity = below(8) ? 1024 : rnd(), .blk_size = below(2) ? 512 : (u32)rnd(), .seg_max = below(130),
		      .size_max = below(2) ? 0 : below(1 << 16), .num_queues = (u16)below(QUEUES + 2),
		      .max_discard_sectors = below(64), .max_write_zeroes_sectors = below(64)},
	};
	struct vduse_control ctl = { 0 };

	strcpy(arg.c.name, name);
	return vduse_control_ioctl(&ctl, VDUSE_CREATE_DEV, &arg, sizeof(arg));
}

static void one_round(u64 nr, bool verbose)
{
	static const char name[] = "hostile";
	char destroyed[VDUSE_NAME_MAX] = "hostile";
	struct vduse_control ctl = { 0 };
	struct hostile h = {.queues = 1 + below(QUEUES), .silent = below(512) == 0, .lies = below(2), .forges = below(2),
			    .scribbles = below(2), .storms = below(2)};
	pthread_t t[2];

	h.events = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	h.junk_fd = memfd_create("junk", MFD_CLOEXEC);
	BUG_ON(h.events < 0 || h.junk_fd < 0 || ftruncate(h.junk_fd, 1 << 16));
	BUG_ON(create(name, h.queues) || vduse_set_msg_timeout(name, 1) || vduse_set_bounce_size(name, 1 << 20));
	BUG_ON(!hostile_begin(&h, name, t));
	/* Its own ioctls may have spoilt a queue. */
	if (!td_attach(name)) {
		for (u32 n = 1 + below(3); n; n--) {
			if (below(4))
				use_disk(name);
			else
				use_bus(name, &h);
			if (below(4) == 0) {
				/* It dies, and another one comes. */
				hostile_end(&h, t);
				BUG_ON(!hostile_begin(&h, name, t));
			}
		}
		if (h.silent)
			atomic_fetch_add(&devices_broken, 1);
		atomic_store(&h.calm, true);
		td_detach(name);
	}
	hostile_end(&h, t);
	BUG_ON(vduse_control_ioctl(&ctl, VDUSE_DESTROY_DEV, destroyed, sizeof(destroyed)));
	if (vduse_count() != 1)
		fail("devices are left");
	close(h.events);
	close(h.junk_fd);
}

/* ---- The honest device beside them ---- */

#define WITNESS_DISK (1u << 20)

static _Atomic bool witness_stop;
static _Atomic u64 witnessed;

static void *witness(void *arg)
{
	struct vblk *b = arg;
	u8 out[4096], in[4096];
	u64 s = 88172645463325252ull;

	while (!atomic_load(&witness_stop)) {
		u64 off = 4096ull * roll(&s, WITNESS_DISK / 4096);

		for (unsigned i = 0; i < sizeof(out); i++)
			out[i] = (u8)draw(&s);
		if (vblk_io(b, 0, VBLK_WRITE, out, off, sizeof(out), 0) || vblk_io(b, 0, VBLK_READ, in, off, sizeof(in), 0) ||
		    memcmp(in, out, sizeof(in)))
			fail("another device was disturbed");
		atomic_fetch_add(&witnessed, 1);
		usleep(1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct fuzz f = {.name = "vduse_fuzz", .what = "hostile daemons", .default_rounds = 500, .round = one_round};
	static struct test_daemon td;
	const struct vblk_cfg cfg = { 0 };
	char err[256];
	struct vblk *b;
	pthread_t t;

	if (!fuzz_options(&f, argc, argv))
		return 2;
	log_set_level(LOG_ERROR);
	BUG_ON(vdpa_mem_init() || vduse_init() || vdpa_virtio_init());
	td_create(&td, "honest", 1, 64, WITNESS_DISK, 0);
	td_start(&td);
	BUG_ON(td_attach("honest"));
	b = vblk_open(vdpa_session_local(), "honest", &cfg, err);
	BUG_ON(!b || pthread_create(&t, NULL, witness, b));
	fuzz_rounds(&f);
	atomic_store(&witness_stop, true);
	pthread_join(t, NULL);
	vblk_close(b);
	td_detach("honest");
	td_destroy(&td);
	vdpa_virtio_exit();
	vduse_exit();
	printf("# %llu messages, %llu answers, %llu ioctls, %llu scribbles\n", (unsigned long long)messages,
	       (unsigned long long)answers, (unsigned long long)ioctls, (unsigned long long)scribbles);
	printf("# %llu drivers, %llu requests, %llu bus operations, %llu silent, %llu verified beside them\n",
	       (unsigned long long)opened, (unsigned long long)finished_requests, (unsigned long long)bus_calls,
	       (unsigned long long)devices_broken, (unsigned long long)witnessed);
	return 0;
}
