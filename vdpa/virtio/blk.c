// SPDX-License-Identifier: MIT
/*
 * virtio block driver. Header, status and small data of a request are in a
 * piece of coherent memory, one a slot; data is in bounce memory, one range.
 * Copies are made without the queue's lock.
 */
#include "vdpa/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/virtio/dev.h"

#define SECTOR 512u
#define MAX_DATA (2u << 20)
#define MAX_PIECES 62u		/* header and status make 64 */
#define ALIVE_MS 1000		/* how often a sleeper looks whether there still is a device */
#define BATCH 64
#define MAX_BACKOFF 1023u
#define MISS 4u			/* looks that make good for one in vain */
#define MAX_CREDIT (8 * MISS)
#define UNKICKED_LOOKS 96u	/* of a pause each: 1 to 4 us, by processor */
#define KICK_MISSES 4u		/* in a row, before looks are left out */

/* What a slot's coherent memory holds. */
struct area {
	struct virtio_blk_outhdr hdr;
	struct virtio_blk_discard_write_zeroes range;
	u8 id[VIRTIO_BLK_ID_BYTES];
	u8 pad[11];
	u8 status;
};
_Static_assert(sizeof(struct area) == 64, "one cache line");

struct queue {
	struct vdev_vq *vq;
	struct vblk *b;
	u16 depth, free_head;	/* depth: list is empty */
	u16 *next;
	struct area *areas;
	u64 areas_iova;
	bool sleeping;		/* a waiter sleeps on the interrupt */
	_Atomic unsigned credit;	/* looks at the ring that were of use, a few; then */
	_Atomic unsigned skip, backoff;	/* sleeps without a look first: to go, and the last number */
	_Atomic unsigned kick_misses, kick_skip, kick_backoff;	/* the same of looks before a kick */
	unsigned waiters;	/* others, on cond */
	pthread_cond_t cond;
	_Atomic int dead;	/* -errno: nothing will finish any more */
};

struct vblk {
	struct vdev *v;
	struct vblk_cfg cfg;
	pthread_mutex_t lock;	/* of vblk_update() */
	struct vblk_info info;	/* but for the size, which may change */
	_Atomic u64 size;
	u32 size_max, max_discard, max_zeroes;
	bool may_unmap;
	struct queue *qs;
};

static const u64 features =
	BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
	BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_DISCARD) |
	BIT(VIRTIO_BLK_F_WRITE_ZEROES);

static u32 sane_block_size(u32 n)
{
	return n >= SECTOR && n <= PAGE_SIZE * 16 && !(n & (n - 1)) ? n : SECTOR;
}

static u64 size_of(u64 capacity)
{
	return capacity > UINT64_MAX / SECTOR ? 0 : capacity * SECTOR;
}

/*
 * Read what the driver uses of the configuration, once: each value may be a lie, and is bounded here; what a
 * daemon makes of it later must not part the limits from what was allocated by them.
 */
static int read_config(struct vblk *b, struct vblk_info *i)
{
	struct virtio_blk_config c = { 0 };
	struct vdev *v = b->v;
	u32 pieces;
	int ret = vdev_config(v, 0, &c, min((u32)sizeof(c), v->config_size));

	if (ret)
		return ret;
	atomic_store(&b->size, size_of(c.capacity));
	i->block_size = vdev_has(v, VIRTIO_BLK_F_BLK_SIZE) ? sane_block_size(c.blk_size) : SECTOR;
	i->queues = vdev_has(v, VIRTIO_BLK_F_MQ) ? max(c.num_queues, (u16)1) : 1;
	i->readonly = vdev_has(v, VIRTIO_BLK_F_RO);
	i->flush = vdev_has(v, VIRTIO_BLK_F_FLUSH);
	i->discard = vdev_has(v, VIRTIO_BLK_F_DISCARD) && !i->readonly;
	i->write_zeroes = vdev_has(v, VIRTIO_BLK_F_WRITE_ZEROES) && !i->readonly;
	b->may_unmap = c.write_zeroes_may_unmap;
	b->max_discard = max(c.max_discard_sectors, 1u);
	b->max_zeroes = max(c.max_write_zeroes_sectors, 1u);
	pieces = vdev_has(v, VIRTIO_BLK_F_SEG_MAX) ? max(min(c.seg_max, MAX_PIECES), 1u) : 1;
	/* Daemons are seen that offer the limit and leave it 0. */
	b->size_max = vdev_has(v, VIRTIO_BLK_F_SIZE_MAX) && c.size_max ? max(c.size_max, SECTOR) : UINT32_MAX;
	i->max_request = (u32)min((u64)MAX_DATA, (u64)b->size_max * pieces) & ~(SECTOR - 1);
	return 0;
}

static int queue_init(struct vblk *b, u16 n)
{
	struct queue *q = &b->qs[n];
	int ret = vdev_vq_init(b->v, n, b->cfg.depth, MAX_PIECES + 2);

	if (ret)
		return ret;
	q->b = b;
	q->vq = &b->v->vqs[n];
	q->depth = b->cfg.depth && b->v->num_min != b->v->num_max ? min(b->cfg.depth, b->v->num_max) :
								    b->v->num_max;
	q->next = calloc(q->depth, sizeof(*q->next));
	q->areas = vdma_alloc(b->v->dma, q->depth * sizeof(*q->areas), &q->areas_iova);
	if (!q->next || !q->areas)
		return -ENOMEM;
	for (u16 i = 0; i < q->depth; i++)
		q->next[i] = i + 1;
	pthread_cond_init(&q->cond, NULL);
	return 0;
}

static void queue_exit(struct vblk *b, struct queue *q)
{
	if (!q->areas)
		return;
	vdma_release(b->v->dma, q->areas_iova, q->depth * sizeof(*q->areas));
	free(q->next);
	pthread_cond_destroy(&q->cond);
}

struct vblk *vblk_open(struct vdpa_session *s, const char *name, const struct vblk_cfg *cfg, char err[256])
{
	u64 without = (cfg->no_indirect ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
		      (cfg->no_event_idx ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0);
	struct vblk *b = calloc(1, sizeof(*b));
	int ret;

	if (!b) {
		s->close(s);
		snprintf(err, 256, "vdpa device %s: %s", name, strerror(ENOMEM));
		errno = ENOMEM;
		return NULL;
	}
	b->cfg = *cfg;
	b->v = vdev_open(s, name, VIRTIO_ID_BLOCK, features, without, err);
	if (!b->v) {
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	ret = read_config(b, &b->info);
	if (!ret && (!b->info.max_request || b->info.queues > b->v->nvqs))
		ret = -EPROTO;
	if (ret)
		goto fail;
	if (cfg->queues)
		b->info.queues = min(b->info.queues, cfg->queues);
	b->qs = calloc(b->info.queues, sizeof(*b->qs));
	ret = b->qs ? 0 : -ENOMEM;
	for (u16 i = 0; i < b->info.queues && !ret; i++)
		ret = queue_init(b, i);
	if (!ret)
		ret = vdev_start(b->v);
	if (ret)
		goto fail;
	b->info.depth = b->qs[0].depth;
	return b;
fail:
	snprintf(err, 256, "vdpa device %s: %s", name,
		 ret == -EPROTO ? "the device refuses this driver" : strerror(-ret));
	vblk_close(b);
	errno = -ret;
	return NULL;
}

struct vblk *vblk_open_device(const char *name, const struct vblk_cfg *cfg, char err[256])
{
	struct vdpa_session *s = vdev_session(name, cfg->cancel_fd, err);
	struct vblk *b = s ? vblk_open(s, name, cfg, err) : NULL;

	if (b)
		vdev_opened(b->v);
	return b;
}

void vblk_info(struct vblk *b, struct vblk_info *i)
{
	*i = b->info;
	i->size = atomic_load_explicit(&b->size, memory_order_relaxed);
}

int vblk_config_fd(const struct vblk *b)
{
	return b->v->config_fd;
}

int vblk_update(struct vblk *b)
{
	u64 events, capacity, size;
	int ret;

	if (read(b->v->config_fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
		return -errno;
	pthread_mutex_lock(&b->lock);
	ret = vdev_config(b->v, offsetof(struct virtio_blk_config, capacity), &capacity, sizeof(capacity));
	if (!ret) {
		size = size_of(capacity);
		ret = atomic_exchange(&b->size, size) != size;
	}
	pthread_mutex_unlock(&b->lock);
	return ret;
}

static bool is_data(enum vblk_op op)
{
	return op == VBLK_READ || op == VBLK_WRITE;
}

static enum vdma_dir dir_of(enum vblk_op op)
{
	return op == VBLK_WRITE ? VDMA_TO_DEVICE : VDMA_FROM_DEVICE;
}

static int check(struct vblk *b, const struct vblk_req *r)
{
	u64 size = atomic_load_explicit(&b->size, memory_order_relaxed);
	const struct vblk_info *i = &b->info;

	if (r->op != VBLK_READ && r->op != VBLK_FLUSH && r->op != VBLK_GET_ID && i->readonly)
		return -EROFS;
	if ((r->op == VBLK_FLUSH && !i->flush) || (r->op == VBLK_DISCARD && !i->discard) ||
	    (r->op == VBLK_WRITE_ZEROES && !i->write_zeroes))
		return -EOPNOTSUPP;
	if (r->op == VBLK_FLUSH || r->op == VBLK_GET_ID)
		return 0;
	if (!r->len || r->len % SECTOR || r->off % SECTOR || r->off > size || r->len > size - r->off)
		return -EINVAL;
	if (is_data(r->op) && r->len > i->max_request)
		return -EINVAL;
	if ((r->op == VBLK_DISCARD && r->len / SECTOR > b->max_discard) ||
	    (r->op == VBLK_WRITE_ZEROES && r->len / SECTOR > b->max_zeroes))
		return -EINVAL;
	return 0;
}

static const u32 types[] = {
	[VBLK_READ] = VIRTIO_BLK_T_IN,		[VBLK_WRITE] = VIRTIO_BLK_T_OUT,
	[VBLK_FLUSH] = VIRTIO_BLK_T_FLUSH,	[VBLK_DISCARD] = VIRTIO_BLK_T_DISCARD,
	[VBLK_WRITE_ZEROES] = VIRTIO_BLK_T_WRITE_ZEROES, [VBLK_GET_ID] = VIRTIO_BLK_T_GET_ID,
};

/* Fill in the slot's memory and the pieces: readable ones first. Returns how many of each. */
static void describe(struct vblk *b, struct queue *q, struct vblk_req *r, struct vdring_sg *sg, unsigned *out,
		     unsigned *in)
{
	struct area *a = &q->areas[r->slot];
	u64 at = q->areas_iova + r->slot * sizeof(*a);
	unsigned n = 0;

	a->hdr = (struct virtio_blk_outhdr){.type = types[r->op], .sector = is_data(r->op) ? r->off / SECTOR : 0};
	a->status = 0xff;
	sg[n++] = (struct vdring_sg){at, sizeof(a->hdr)};
	*out = 1;
	if (is_data(r->op)) {
		for (u64 done = 0; done < r->len; done += sg[n++].len)
			sg[n] = (struct vdring_sg){r->iova + done, (u32)min(r->len - done, (u64)b->size_max)};
		if (r->op == VBLK_WRITE)
			*out = n;
	} else if (r->op == VBLK_DISCARD || r->op == VBLK_WRITE_ZEROES) {
		a->range = (struct virtio_blk_discard_write_zeroes){
			.sector = r->off / SECTOR,
			.num_sectors = (u32)(r->len / SECTOR),
			.flags = r->op == VBLK_WRITE_ZEROES && (r->flags & VBLK_UNMAP) && b->may_unmap ?
				 VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0,
		};
		sg[n++] = (struct vdring_sg){at + offsetof(struct area, range), sizeof(a->range)};
		*out = n;
	} else if (r->op == VBLK_GET_ID) {
		memset(a->id, 0, sizeof(a->id));
		sg[n++] = (struct vdring_sg){at + offsetof(struct area, id), sizeof(a->id)};
	}
	sg[n++] = (struct vdring_sg){at + offsetof(struct area, status), 1};
	*in = n - *out;
}

int vblk_post(struct vblk *b, u16 queue, struct vblk_req *r)
{
	struct queue *q = &b->qs[queue];
	struct vdring_sg sg[MAX_PIECES + 2];
	unsigned out, in;
	int ret = check(b, r);

	if (ret)
		return ret;
	r->finished = false;
	r->iova = 0;
	if (is_data(r->op)) {
		r->iova = vdma_map(b->v->dma, r->iov, r->nr_iov, r->len, dir_of(r->op));
		if (!r->iova)
			return -EAGAIN;
	}
	pthread_mutex_lock(&q->vq->lock);
	ret = q->dead;
	if (!ret && q->free_head == q->depth)
		ret = -EAGAIN;
	if (!ret) {
		r->slot = q->free_head;
		describe(b, q, r, sg, &out, &in);
		ret = vdring_add(q->vq->ring, sg, out, in, r);
		if (ret == -ENOSPC)
			ret = -EAGAIN;
	}
	if (!ret)
		q->free_head = q->next[r->slot];
	pthread_mutex_unlock(&q->vq->lock);
	if (ret && r->iova)
		vdma_unmap(b->v->dma, r->iova, r->iov, r->nr_iov, r->len, VDMA_TO_DEVICE);
	return ret;
}

/* Several threads may use a queue; what they lose of these counters to each other does not matter. */
static unsigned get(_Atomic unsigned *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void set(_Atomic unsigned *p, unsigned n)
{
	atomic_store_explicit(p, n, memory_order_relaxed);
}

/* Count down a number of times that something that was in vain is left out. True: try again. */
static bool again(_Atomic unsigned *skip)
{
	unsigned n = get(skip);

	if (n)
		set(skip, n - 1);
	return !n;
}

/* In vain again: leave it out about twice as often. */
static void leave_out(_Atomic unsigned *skip, _Atomic unsigned *backoff)
{
	unsigned n = min(get(backoff) * 2 + 1, MAX_BACKOFF);

	set(backoff, n);
	set(skip, n);
}

/*
 * A daemon that finishes a request while it still looks at the ring, waiting for the next one in the place of the
 * interrupt (client/vduse_spin.c), needs no kick, which is a system call. So before the kick of a request that is
 * alone look for its end. @mine is how far the ring was shown with it: whoever showed more has left the kick to us.
 */
static bool done_unkicked(struct queue *q, u16 mine)
{
	for (unsigned i = 0; i < UNKICKED_LOOKS; i++) {
		if (vdring_pending(q->vq->ring)) {
			atomic_thread_fence(memory_order_acquire);
			set(&q->kick_misses, 0);
			set(&q->kick_backoff, 0);
			return vdring_published(q->vq->ring) == mine;
		}
		__builtin_ia32_pause();
	}
	/* The daemon begins to look when the first request is done. */
	if (get(&q->kick_misses) + 1 < KICK_MISSES) {
		set(&q->kick_misses, get(&q->kick_misses) + 1);
	} else {
		set(&q->kick_misses, 0);
		leave_out(&q->kick_skip, &q->kick_backoff);
	}
	return false;
}

void vblk_kick(struct vblk *b, u16 queue)
{
	struct queue *q = &b->qs[queue];
	bool kick, alone;
	u16 mine;

	pthread_mutex_lock(&q->vq->lock);
	/* Only what has the hub's page has a daemon that may wait for us. */
	alone = b->v->page && !b->cfg.no_spin && vdring_in_flight(q->vq->ring) == 1 && again(&q->kick_skip);
	if (alone)
		vdring_irq_wish(q->vq->ring);
	kick = vdring_publish(q->vq->ring);
	mine = vdring_published(q->vq->ring);
	pthread_mutex_unlock(&q->vq->lock);
	if (kick && !(alone && done_unkicked(q, mine)))
		vdev_kick(b->v, q->vq);
}

int vblk_submit(struct vblk *b, u16 queue, struct vblk_req *r)
{
	int ret = vblk_post(b, queue, r);

	if (!ret)
		vblk_kick(b, queue);
	return ret;
}

static int result_of(u8 status)
{
	switch (status) {
	case VIRTIO_BLK_S_OK:
		return 0;
	case VIRTIO_BLK_S_UNSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* Queue lock held. */
static void free_slot(struct queue *q, u16 slot)
{
	q->next[slot] = q->free_head;
	q->free_head = slot;
}

/* No lock held: end the mapping, tell whoever waits. @r may be gone afterwards. */
static void finish(struct vblk *b, struct queue *q, struct vblk_req *r)
{
	void (*done)(struct vblk_req *) = r->done;

	if (r->iova)
		vdma_unmap(b->v->dma, r->iova, r->iov, r->nr_iov, r->len,
			   r->result ? VDMA_TO_DEVICE : dir_of(r->op));
	if (done) {
		done(r);
		return;
	}
	pthread_mutex_lock(&q->vq->lock);
	r->finished = true;
	if (q->waiters)
		pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->vq->lock);
}

/* The device will answer nothing any more. Queue lock held; dropped meanwhile. */
static void die(struct vblk *b, struct queue *q, int err)
{
	struct vblk_req *r;

	q->dead = err;
	while ((r = vdring_detach(q->vq->ring))) {
		free_slot(q, r->slot);
		r->result = err;
		pthread_mutex_unlock(&q->vq->lock);
		finish(b, q, r);
		pthread_mutex_lock(&q->vq->lock);
	}
	pthread_cond_broadcast(&q->cond);
}

/* Finish what is finished: how many, or -errno. */
static int drain(struct vblk *b, struct queue *q)
{
	struct vblk_req *batch[BATCH];
	int n = 0, ret = 0;
	void *token;
	u32 len;

	pthread_mutex_lock(&q->vq->lock);
	while (n < BATCH && (ret = vdring_get(q->vq->ring, &token, &len)) == 1) {
		struct vblk_req *r = token;
		const struct area *a = &q->areas[r->slot];

		r->result = result_of(*(const volatile u8 *)&a->status);
		if (r->op == VBLK_GET_ID && !r->result)
			for (unsigned i = 0, at = 0; i < r->nr_iov && at < sizeof(a->id); at += r->iov[i++].iov_len)
				memcpy(r->iov[i].iov_base, a->id + at, min(r->iov[i].iov_len, sizeof(a->id) - at));
		free_slot(q, r->slot);
		batch[n++] = r;
	}
	if (ret < 0)
		die(b, q, ret);
	else
		ret = q->dead;
	pthread_mutex_unlock(&q->vq->lock);
	for (int i = 0; i < n; i++)
		finish(b, q, batch[i]);
	return n ? n : ret;
}

static u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

/* Something is finished within @us. */
static bool look(struct queue *q, u32 us)
{
	u64 until = now_us() + us;

	do {
		/* The clock costs more than the look. */
		for (unsigned i = 0; i < 32; i++) {
			if (vdring_pending(q->vq->ring))
				return true;
			__builtin_ia32_pause();
		}
	} while (now_us() < until);
	return false;
}

/*
 * Look at the ring before sleeping: a wake-up from another processor takes longer than a quick device. That is
 * of no use with a slow device, and harm where the daemon needs this very processor, so each time that it was in
 * vain about twice as many sleeps follow without.
 */
static bool spin(struct vblk *b, struct queue *q)
{
	unsigned n;

	if (b->cfg.no_spin)
		return false;
	if (b->cfg.spin_us)
		return look(q, b->cfg.spin_us);
	if (!again(&q->skip))
		return false;
	if (look(q, VBLK_SPIN_US)) {
		set(&q->credit, min(get(&q->credit) + 1, MAX_CREDIT));
		set(&q->backoff, 0);
		return true;
	}
	n = get(&q->credit);
	if (n >= MISS) {
		set(&q->credit, n - MISS);
		return false;
	}
	leave_out(&q->skip, &q->backoff);
	return false;
}

/* The device's status can still be asked for, or nothing will finish any more. */
static int look_alive(struct vblk *b, struct queue *q)
{
	u8 status;

	if (!vdev_get_status(b->v, &status))
		return 0;
	pthread_mutex_lock(&q->vq->lock);
	die(b, q, -ENODEV);
	pthread_mutex_unlock(&q->vq->lock);
	return -ENODEV;
}

/* Sleep until the device interrupts: 1; 0 if it did not for a while; -errno. */
static int sleep_irq(struct queue *q)
{
	struct pollfd p = {.fd = q->vq->call_fd, .events = POLLIN};
	u64 events;
	bool none;
	int ret;

	pthread_mutex_lock(&q->vq->lock);
	none = vdring_irq_on(q->vq->ring);
	pthread_mutex_unlock(&q->vq->lock);
	if (!none)
		return 1;
	ret = poll(&p, 1, ALIVE_MS);
	if (ret < 0)
		return errno == EINTR ? 1 : -errno;
	if (ret && read(p.fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
		return -errno;
	return ret;
}

int vblk_reap(struct vblk *b, u16 queue, bool wait)
{
	struct queue *q = &b->qs[queue];
	/* Who waits looks again before it sleeps: no lock for nothing. */
	bool maybe = !wait || vdring_pending(q->vq->ring) || atomic_load_explicit(&q->dead, memory_order_relaxed);

	for (;; maybe = true) {
		int n = maybe ? drain(b, q) : 0;

		if (n || !wait)
			return n;
		n = spin(b, q) ? drain(b, q) : 0;
		if (n)
			return n;
		n = sleep_irq(q);
		if (!n)
			n = look_alive(b, q);
		if (n < 0)
			return n;
	}
}

int vblk_wait(struct vblk *b, u16 queue, struct vblk_req *r)
{
	struct queue *q = &b->qs[queue];

	pthread_mutex_lock(&q->vq->lock);
	while (!r->finished) {
		if (!q->sleeping) {
			q->sleeping = true;
			pthread_mutex_unlock(&q->vq->lock);
			(void)vblk_reap(b, queue, true);
			pthread_mutex_lock(&q->vq->lock);
			q->sleeping = false;
			if (q->waiters)
				pthread_cond_broadcast(&q->cond);
		} else {
			q->waiters++;
			pthread_cond_wait(&q->cond, &q->vq->lock);
			q->waiters--;
		}
	}
	pthread_mutex_unlock(&q->vq->lock);
	return r->result;
}

int vblk_do(struct vblk *b, u16 queue, struct vblk_req *r)
{
	for (;;) {
		int ret = vblk_submit(b, queue, r);

		if (!ret)
			return vblk_wait(b, queue, r);
		if (ret != -EAGAIN)
			return ret;
		/* Room comes as requests finish, here or in another queue, whose interrupts are not ours. */
		ret = vblk_reap(b, queue, false);
		if (ret < 0)
			return ret;
		if (!ret)
			usleep(50);
	}
}

int vblk_io(struct vblk *b, u16 queue, enum vblk_op op, void *buf, u64 off, u64 len, u32 flags)
{
	u64 most = op == VBLK_DISCARD ? (u64)b->max_discard * SECTOR :
		   op == VBLK_WRITE_ZEROES ? (u64)b->max_zeroes * SECTOR : b->info.max_request;

	do {
		u64 n = min(len, most);
		struct iovec iov = {buf, n};
		struct vblk_req r = {.op = op, .flags = flags, .off = off, .len = n, .iov = &iov, .nr_iov = 1};
		int ret = vblk_do(b, queue, &r);

		if (ret)
			return ret;
		off += n;
		len -= n;
		if (buf)
			buf = (u8 *)buf + n;
	} while (len);
	return 0;
}

void vblk_abandon(struct vblk *b)
{
	vdev_hurry(b->v, 0);
	for (u16 i = 0; i < b->info.queues; i++) {
		struct queue *q = &b->qs[i];

		pthread_mutex_lock(&q->vq->lock);
		die(b, q, -ENODEV);
		pthread_mutex_unlock(&q->vq->lock);
		/* Who sleeps on the interrupt looks again. */
		vdev_wake(q->vq);
	}
}

void vblk_close(struct vblk *b)
{
	vdev_hurry(b->v, VBLK_CLOSE_MS);
	vdev_stop(b->v);
	for (u16 i = 0; b->qs && i < b->info.queues; i++) {
		struct queue *q = &b->qs[i];

		if (!q->areas)
			continue;
		pthread_mutex_lock(&q->vq->lock);
		die(b, q, -ENODEV);
		pthread_mutex_unlock(&q->vq->lock);
		queue_exit(b, q);
	}
	free(b->qs);
	vdev_close(b->v);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
