// SPDX-License-Identifier: MIT
/* The block driver against a daemon in a thread: honest, restarted, lying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/blk.h"
#include "vdpa/virtio/dma.h"
#include "vdpa/virtio/session.h"

#define DISK (4u << 20)

static struct test_daemon td;
static struct vblk *blk;

static void up(unsigned queues, u16 depth, u64 less, const struct vblk_cfg *cfg)
{
	char err[256] = "";

	td_create(&td, "disk", queues, depth, DISK, less);
	td_start(&td);
	assert_int_equal(td_attach("disk"), 0);
	blk = vblk_open(vdpa_session_local(), "disk", cfg, err);
	if (!blk)
		fail_msg("%s", err);
}

static void down(void)
{
	vblk_close(blk);
	td_detach("disk");
	td_destroy(&td);
}

static void pattern(u8 *p, size_t len, u64 seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = (u8)(seed >> 56);
	}
}

/* ---- G.A 7 ---- */

struct worker {
	pthread_t thread;
	unsigned queue;
	u64 first, last;	/* bytes of the disk that are its own */
	int ret;
};

static void *verify(void *arg)
{
	static const u32 sizes[] = {512, 1536, 4096, 12800, 65536, 1 << 20};
	struct worker *w = arg;
	u8 *out = malloc(1 << 20), *in = malloc((1 << 20) + 64);

	for (unsigned i = 0; i < 60 && !w->ret; i++) {
		u32 len = min(sizes[i % ARRAY_SIZE(sizes)], (u32)(w->last - w->first));
		u64 off = w->first + (i * 7919ull * 512) % (w->last - w->first - len + 512);
		/* Buffers at odd addresses too. */
		u8 *to = in + i % 61;

		pattern(out, len, off + i);
		w->ret = vblk_io(blk, (u16)w->queue, VBLK_WRITE, out, off, len, 0);
		if (!w->ret)
			w->ret = vblk_io(blk, (u16)w->queue, VBLK_READ, to, off, len, 0);
		if (!w->ret && memcmp(out, to, len))
			w->ret = -EBADMSG;
	}
	free(out);
	free(in);
	return NULL;
}

static void whole_disk(void **state)
{
	static const struct { unsigned queues, threads; u16 depth; bool no_indirect, no_event_idx; } rows[] = {
		{1, 1, 128, false, false}, {1, 4, 4, true, false},  {4, 8, 128, false, true},
		{16, 16, 128, false, false}, {1, 3, 256, true, true}, {2, 4, 2, false, false},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vblk_cfg cfg = {.no_indirect = rows[i].no_indirect, .no_event_idx = rows[i].no_event_idx};
		struct worker w[16] = { 0 };
		struct vblk_info info;

		up(rows[i].queues, rows[i].depth, 0, &cfg);
		vblk_info(blk, &info);
		assert_int_equal(info.size, DISK);
		assert_int_equal(info.queues, rows[i].queues);
		assert_int_equal(info.depth, rows[i].depth);
		for (unsigned t = 0; t < rows[i].threads; t++) {
			w[t].queue = t % rows[i].queues;
			w[t].first = (u64)DISK / 512 / rows[i].threads * t * 512;
			w[t].last = (u64)DISK / 512 / rows[i].threads * (t + 1) * 512;
			pthread_create(&w[t].thread, NULL, verify, &w[t]);
		}
		for (unsigned t = 0; t < rows[i].threads; t++) {
			pthread_join(w[t].thread, NULL);
			assert_int_equal(w[t].ret, 0);
		}
		down();
	}
}

static void other_requests(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	u8 buf[8192], disk[2048], id[VBLK_ID_LEN];
	struct iovec iov[3] = {{buf, 512}, {buf + 600, 1024}, {buf + 4000, 512}};
	struct vblk_req r = {.op = VBLK_WRITE, .len = 2048, .iov = iov, .nr_iov = 3};

	up(1, 128, 0, &cfg);
	pattern(buf, sizeof(buf), 1);
	assert_int_equal(vblk_do(blk, 0, &r), 0);
	td_peek(&td, 0, disk, 2048);
	assert_memory_equal(disk, buf, 512);
	assert_memory_equal(disk + 512, buf + 600, 1024);
	assert_memory_equal(disk + 1536, buf + 4000, 512);
	assert_int_equal(vblk_io(blk, 0, VBLK_GET_ID, id, 0, sizeof(id), 0), 0);
	assert_string_equal(id, "test-daemon-serial");
	/* Longer than the device takes at once. */
	td_fill(&td, 0, 0xaa, DISK);
	assert_int_equal(vblk_io(blk, 0, VBLK_WRITE_ZEROES, NULL, 4096, 1 << 20, VBLK_UNMAP), 0);
	td_peek(&td, 4095, disk, 2);
	assert_memory_equal(disk, "\xaa", 2);
	td_peek(&td, 4095 + (1 << 20), disk, 2);
	assert_memory_equal(disk, "\0\xaa", 2);
	assert_int_equal(vblk_io(blk, 0, VBLK_DISCARD, NULL, 0, 4096, 0), 0);
	td_peek(&td, 0, disk, 1);
	assert_int_equal(disk[0], 0);
	assert_int_equal(vblk_io(blk, 0, VBLK_FLUSH, NULL, 0, 0, 0), 0);
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 1, 512, 0), -EINVAL);
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 0, 511, 0), -EINVAL);
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, DISK, 512, 0), -EINVAL);
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, DISK - 512, 1024, 0), -EINVAL);
	down();

	up(1, 128, BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) | BIT(VIRTIO_BLK_F_FLUSH), &cfg);
	assert_int_equal(vblk_io(blk, 0, VBLK_DISCARD, NULL, 0, 4096, 0), -EOPNOTSUPP);
	assert_int_equal(vblk_io(blk, 0, VBLK_FLUSH, NULL, 0, 0, 0), -EOPNOTSUPP);
	down();
}

static void depth(void **state)
{
	const struct vblk_cfg cfg = {.depth = 64};
	static u8 buf[128][512];
	struct vblk_req r[128];
	unsigned done = 0;
	int n;

	up(1, 256, 0, &cfg);
	td_hold(&td);
	for (unsigned i = 0; i < 64; i++) {
		struct iovec *iov = malloc(sizeof(*iov));

		*iov = (struct iovec){buf[i], 512};
		r[i] = (struct vblk_req){.op = VBLK_READ, .off = i * 512, .len = 512, .iov = iov, .nr_iov = 1};
		assert_int_equal(vblk_post(blk, 0, &r[i]), 0);
	}
	r[64] = r[0];
	assert_int_equal(vblk_post(blk, 0, &r[64]), -EAGAIN);
	vblk_kick(blk, 0);
	atomic_store(&td.hold, false);
	while (done < 64) {
		n = vblk_reap(blk, 0, true);
		assert_true(n > 0);
		done += (unsigned)n;
	}
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(r[i].result, 0);
		free((void *)r[i].iov);
	}
	down();
}

/* ---- G.A 8 ---- */

static void bounce(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	const u8 secret = 0x5a;
	u8 *page = aligned_alloc(4096, 8192);
	struct vdpa_device *d;
	struct vdpa_dma_info info;
	const u8 *seen;
	struct vdma *m;
	struct vdpa_session *s;
	u64 at[40];
	unsigned n = 0;

	up(1, 128, 0, &cfg);
	d = vdpa_find("disk");
	assert_int_equal(d->ops->dma->info(d, &info), 0);
	seen = mmap(NULL, info.bounce_size, PROT_READ, MAP_SHARED, info.fd, 0);
	assert_ptr_not_equal(seen, MAP_FAILED);
	memset(page, secret, 8192);
	memset(page + 512, 0, 512);
	assert_int_equal(vblk_io(blk, 0, VBLK_WRITE, page + 512, 0, 512, 0), 0);
	for (u64 i = 0; i < info.bounce_size; i++)
		if (seen[i] == secret)
			fail_msg("byte %llu of what was beside the buffer is visible", (unsigned long long)i);
	munmap((void *)seen, info.bounce_size);
	vdpa_put(d);
	vblk_close(blk);

	/* The allocator by itself: all of it but page 0, no two blocks over each other, and back to one piece. */
	s = vdpa_session_local();
	{
		struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_OPEN, .data = "disk"};
		struct vdpa_virtio_rep r;

		assert_int_equal(s->call(s, &q, -1, &r), 0);
		m = vdma_new(s, r.fds[0]);
		close(r.fds[0]);
		close(r.fds[1]);
	}
	assert_non_null(m);
	for (unsigned round = 0; round < 2; round++) {
		struct iovec iov = {page, 4096};

		n = 0;
		/* Blocks of 32, 16, .. 1 pages and so on: the whole but page 0. */
		for (size_t len = 32 << 20; len >= 4096; len /= 2) {
			at[n] = vdma_map(m, NULL, 0, len, VDMA_FROM_DEVICE);
			assert_true(at[n] >= 4096);
			assert_int_equal(at[n] % len, 0);
			n++;
		}
		assert_int_equal(vdma_in_use(m), (64 << 20) - 4096);
		assert_int_equal(vdma_map(m, &iov, 1, 1, VDMA_FROM_DEVICE), 0);
		for (unsigned i = 0; i < n; i++)
			for (unsigned j = 0; j < i; j++)
				assert_int_not_equal(at[i], at[j]);
		while (n)
			vdma_unmap(m, at[--n], NULL, 0, 1, VDMA_TO_DEVICE);
		assert_int_equal(vdma_in_use(m), 0);
	}
	assert_int_equal(vdma_max(m), 32 << 20);
	assert_int_equal(vdma_map(m, NULL, 0, (32 << 20) + 1, VDMA_FROM_DEVICE), 0);
	vdma_free(m);
	s->close(s);
	td_detach("disk");
	td_destroy(&td);
	free(page);
}

/* Blocks that threads hold at the same time never lie over each other, also while there is no room. */
static struct vdma *shared_dma;
#define MOST (256u << 10)

static void *map_and_unmap(void *arg)
{
	struct worker *w = arg;
	struct { u64 iova; struct iovec iov; u8 mark; } held[8] = { 0 };
	u8 *buf = malloc(MOST);
	u64 seed = w->queue + 1;

	for (unsigned i = 0; i < 1000 && !w->ret; i++) {
		unsigned n = (seed = seed * 6364136223846793005ull + 1442695040888963407ull) >> 61;
		size_t len = 1 + (seed >> 20) % (seed >> 50 & 1 ? MOST : 16384);

		if (held[n].iova) {
			vdma_unmap(shared_dma, held[n].iova, &held[n].iov, 1, held[n].iov.iov_len, VDMA_FROM_DEVICE);
			held[n].iova = 0;
			for (size_t at = 0; at < held[n].iov.iov_len; at += 509)
				if (buf[at] != held[n].mark)
					w->ret = -EBADMSG;
			continue;
		}
		held[n].mark = (u8)i;
		held[n].iov = (struct iovec){buf, len};
		memset(buf, held[n].mark, len);
		held[n].iova = vdma_map(shared_dma, &held[n].iov, 1, len, VDMA_TO_DEVICE);
	}
	for (unsigned n = 0; n < 8; n++)
		if (held[n].iova)
			vdma_unmap(shared_dma, held[n].iova, &held[n].iov, 1, 1, VDMA_TO_DEVICE);
	free(buf);
	return NULL;
}

struct keeper {
	pthread_barrier_t b;
	u64 iova[16];
};

/* Leaves blocks of small sizes with this thread, which lives on. */
static void *keep_blocks(void *arg)
{
	struct keeper *k = arg;

	for (unsigned i = 0; i < ARRAY_SIZE(k->iova); i++)
		k->iova[i] = vdma_map(shared_dma, NULL, 0, 4096ull << i % 4, VDMA_FROM_DEVICE);
	for (unsigned i = 0; i < ARRAY_SIZE(k->iova); i++)
		vdma_unmap(shared_dma, k->iova[i], NULL, 0, 4096ull << i % 4, VDMA_TO_DEVICE);
	pthread_barrier_wait(&k->b);
	pthread_barrier_wait(&k->b);
	return NULL;
}

/* What another thread keeps is there for who finds no other room, and after the thread's end. */
static void blocks_of_threads(void)
{
	struct keeper k;
	pthread_t t;
	u64 at[2];

	pthread_barrier_init(&k.b, NULL, 2);
	pthread_create(&t, NULL, keep_blocks, &k);
	pthread_barrier_wait(&k.b);
	assert_int_equal(vdma_in_use(shared_dma), 0);
	/* All but the lower half's first page: only whole if the thread's blocks have come back. */
	at[0] = vdma_map(shared_dma, NULL, 0, 2 << 20, VDMA_FROM_DEVICE);
	at[1] = vdma_map(shared_dma, NULL, 0, 1 << 20, VDMA_FROM_DEVICE);
	assert_int_equal(at[0], 2 << 20);
	assert_int_equal(at[1], 1 << 20);
	for (unsigned i = 0; i < 2; i++)
		vdma_unmap(shared_dma, at[i], NULL, 0, (2 << 20) >> i, VDMA_TO_DEVICE);
	pthread_barrier_wait(&k.b);
	pthread_join(t, NULL);
	assert_int_equal(vdma_in_use(shared_dma), 0);
	pthread_barrier_destroy(&k.b);
}

static void many_mappings(void **state)
{
	struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_OPEN, .data = "disk"};
	struct vdpa_session *s = vdpa_session_local();
	struct vdpa_virtio_rep r;
	struct worker w[8] = { 0 };

	td_create(&td, "disk", 1, 16, DISK, 0);
	assert_int_equal(vduse_set_bounce_size("disk", 4 << 20), 0);
	td_start(&td);
	assert_int_equal(td_attach("disk"), 0);
	assert_int_equal(s->call(s, &q, -1, &r), 0);
	shared_dma = vdma_new(s, r.fds[0]);
	close(r.fds[0]);
	close(r.fds[1]);
	for (unsigned t = 0; t < ARRAY_SIZE(w); t++) {
		w[t].queue = t;
		pthread_create(&w[t].thread, NULL, map_and_unmap, &w[t]);
	}
	for (unsigned t = 0; t < ARRAY_SIZE(w); t++) {
		pthread_join(w[t].thread, NULL);
		assert_int_equal(w[t].ret, 0);
	}
	assert_int_equal(vdma_in_use(shared_dma), 0);
	blocks_of_threads();
	vdma_free(shared_dma);
	s->close(s);
	td_detach("disk");
	td_destroy(&td);
}

/* More in flight than bounce memory holds: refused, and everything finishes once there is room. */
static void exhaustion(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	static u8 buf[1 << 20];
	struct iovec iov = {buf, sizeof(buf)};
	static struct vblk_req r[128];
	unsigned n = 0, done = 0;
	int ret = 0;

	up(1, 128, 0, &cfg);
	td_hold(&td);
	while (n < 128 && !ret) {
		r[n] = (struct vblk_req){.op = VBLK_READ, .len = sizeof(buf), .iov = &iov, .nr_iov = 1};
		ret = vblk_post(blk, 0, &r[n]);
		n += !ret;
	}
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(n, 63);
	vblk_kick(blk, 0);
	atomic_store(&td.hold, false);
	while (done < n) {
		ret = vblk_reap(blk, 0, true);
		assert_true(ret > 0);
		done += (unsigned)ret;
	}
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0), 0);
	down();
}

/* ---- G.A 11: the daemon dies between requests and in the middle of them ---- */

static _Atomic bool stop;

static void *load(void *arg)
{
	struct worker *w = arg;
	u8 out[4096], in[4096];

	for (u64 i = 0; !atomic_load(&stop) && !w->ret; i++) {
		u64 off = w->first + i * 4096 % (w->last - w->first);

		pattern(out, sizeof(out), i + w->queue);
		w->ret = vblk_io(blk, (u16)w->queue, VBLK_WRITE, out, off, sizeof(out), 0);
		if (!w->ret)
			w->ret = vblk_io(blk, (u16)w->queue, VBLK_READ, in, off, sizeof(in), 0);
		if (!w->ret && memcmp(out, in, sizeof(in)))
			w->ret = -EBADMSG;
	}
	return NULL;
}

static void restarts(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	struct worker w[4] = { 0 };

	up(2, 64, 0, &cfg);
	atomic_store(&stop, false);
	for (unsigned t = 0; t < 4; t++) {
		w[t] = (struct worker){.queue = t % 2, .first = DISK / 4 * t, .last = DISK / 4 * (t + 1)};
		pthread_create(&w[t].thread, NULL, load, &w[t]);
	}
	for (unsigned i = 0; i < 30; i++) {
		usleep(5000 + i * 311);
		td_kill(&td);
		usleep(1000);
		td_start(&td);
	}
	atomic_store(&stop, true);
	for (unsigned t = 0; t < 4; t++) {
		pthread_join(w[t].thread, NULL);
		assert_int_equal(w[t].ret, 0);
	}
	down();
}

/* The device is deleted under load: requests end with an error, soon. */
static void deleted(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	struct worker w = {.last = DISK};

	up(1, 64, 0, &cfg);
	atomic_store(&stop, false);
	pthread_create(&w.thread, NULL, load, &w);
	usleep(20000);
	td_detach("disk");
	pthread_join(w.thread, NULL);
	assert_int_equal(w.ret, -ENODEV);
	vblk_close(blk);
	td_destroy(&td);
}

static void *one_read(void *arg)
{
	struct worker *w = arg;
	u8 buf[512];

	w->ret = vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0);
	return NULL;
}

/* A daemon that takes nothing: giving up ends what waits, asleep on the interrupt or behind who does, and what comes. */
static void abandoned(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	struct worker w[3] = { 0 };
	u8 buf[512];

	up(1, 16, 0, &cfg);
	td_hold(&td);
	for (unsigned t = 0; t < 3; t++)
		pthread_create(&w[t].thread, NULL, one_read, &w[t]);
	usleep(30000);
	vblk_abandon(blk);
	for (unsigned t = 0; t < 3; t++) {
		pthread_join(w[t].thread, NULL);
		assert_int_equal(w[t].ret, -ENODEV);
	}
	assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0), -ENODEV);
	vblk_abandon(blk);
	down();
}

/* ---- G.A 15 ---- */

static void lies(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	u8 buf[4096];

	for (int lie = TD_LEN; lie < TD_LIES; lie++) {
		int ret;

		up(1, 16, 0, &cfg);
		assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0), 0);
		atomic_store(&td.lie, lie);
		ret = vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0);
		if (lie == TD_SCRIBBLE) {
			/* What it overwrote is never read back. */
			assert_int_equal(ret, 0);
			atomic_store(&td.lie, TD_HONEST);
		} else if (lie != TD_REPEAT && lie != TD_JUMP) {
			assert_int_equal(ret, -EIO);
		}
		if (lie != TD_SCRIBBLE) {
			/* Broken for good, and nobody hangs. */
			(void)vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0);
			assert_int_equal(vblk_io(blk, 0, VBLK_READ, buf, 0, sizeof(buf), 0), -EIO);
		}
		down();
	}
}

static _Atomic bool rewrite;

/* All of the configuration space, to anything, with an interrupt each time. */
static void *rewrite_config(void *arg)
{
	union { struct virtio_blk_config c; u8 bytes[sizeof(struct virtio_blk_config)]; } now;
	struct { struct vduse_config_data d; u8 bytes[sizeof(now)]; } a = {.d = {.length = sizeof(a.bytes)}};
	u64 seed = 20261120;

	while (atomic_load(&rewrite)) {
		pattern(now.bytes, sizeof(now), seed++);
		/* Most look right, or nearly so. */
		if (seed % 4)
			memcpy(&now, arg, sizeof(now));
		if (seed % 4 == 1)
			now.c.size_max = now.c.seg_max = now.c.max_discard_sectors = 1;
		memcpy(a.bytes, &now, sizeof(now));
		(void)td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a.d) + sizeof(a.bytes));
		(void)td_ioctl(&td, VDUSE_DEV_INJECT_CONFIG_IRQ, NULL, 0);
	}
	memcpy(a.bytes, arg, sizeof(a.bytes));
	(void)td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a.d) + sizeof(a.bytes));
	return NULL;
}

static void changing_config(void **state)
{
	static struct virtio_blk_config good;
	struct vdpa_device *d;
	static u8 buf[64 << 10];
	struct vblk_info i;
	unsigned opened = 0;
	pthread_t thread;
	char err[256];

	up(4, 16, 0, &(struct vblk_cfg){ 0 });
	d = vdpa_find("disk");
	vdpa_get_config(d, 0, &good, sizeof(good));
	vdpa_put(d);
	atomic_store(&rewrite, true);
	pthread_create(&thread, NULL, rewrite_config, &good);
	for (unsigned n = 0; n < 100 || opened < 5; n++) {
		int ret;

		if (n % 10 == 0 || !blk) {
			/* The other thread wants the processor too. */
			usleep(200);
			assert_true(n < 100000);
			if (blk)
				vblk_close(blk);
			blk = vblk_open(vdpa_session_local(), "disk", &(struct vblk_cfg){ 0 }, err);
			opened += blk != NULL;
		}
		if (!blk)
			continue;
		ret = vblk_update(blk);
		assert_true(ret == 0 || ret == 1 || ret == -EAGAIN);
		vblk_info(blk, &i);
		assert_true(i.queues >= 1 && i.queues <= 4 && i.max_request >= 512);
		/* What the device has, what it says it has, and what no disk has. */
		(void)vblk_io(blk, (u16)(n % i.queues), VBLK_READ, buf, 0, sizeof(buf), 0);
		(void)vblk_io(blk, 0, VBLK_WRITE, buf, i.size > sizeof(buf) ? i.size - sizeof(buf) : 0, sizeof(buf), 0);
		(void)vblk_io(blk, 0, VBLK_DISCARD, NULL, 0, min(i.size, (u64)DISK), 0);
	}
	atomic_store(&rewrite, false);
	pthread_join(thread, NULL);
	assert_true(opened > 0);
	if (blk)
		vblk_close(blk);
	blk = vblk_open(vdpa_session_local(), "disk", &(struct vblk_cfg){ 0 }, err);
	assert_non_null(blk);
	vblk_info(blk, &i);
	assert_int_equal(i.size, DISK);
	pattern(buf, sizeof(buf), 7);
	assert_int_equal(vblk_io(blk, 3, VBLK_WRITE, buf, 0, sizeof(buf), 0), 0);
	down();
}

/* ---- G.A 20 ---- */

static void resize(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	struct { struct vduse_config_data d; u64 capacity; } a = {.d = {.length = 8}, .capacity = DISK / 512 / 2};
	struct pollfd p;
	struct vblk_info i;

	up(1, 16, 0, &cfg);
	p = (struct pollfd){.fd = vblk_config_fd(blk), .events = POLLIN};
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, 16), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_INJECT_CONFIG_IRQ, NULL, 0), 0);
	assert_int_equal(poll(&p, 1, 1000), 1);
	assert_int_equal(vblk_update(blk), 1);
	vblk_info(blk, &i);
	assert_int_equal(i.size, DISK / 2);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(vblk_update(blk), 0);
	down();
}

static void refused(void **state)
{
	const struct vblk_cfg cfg = { 0 };
	char err[256];

	assert_null(vblk_open(vdpa_session_local(), "nobody", &cfg, err));
	assert_int_equal(errno, ENODEV);
	assert_string_equal(err, "vdpa device nobody: No such device");
	td_create(&td, "disk", 1, 16, DISK, 0);
	td_start(&td);
	assert_int_equal(td_attach("disk"), 0);
	atomic_store(&td.refuse_driver_ok, true);
	assert_null(vblk_open(vdpa_session_local(), "disk", &cfg, err));
	assert_string_equal(err, "vdpa device disk: the device refuses this driver");
	atomic_store(&td.refuse_driver_ok, false);
	blk = vblk_open(vdpa_session_local(), "disk", &cfg, err);
	assert_non_null(blk);
	/* One driver at a time. */
	assert_null(vblk_open(vdpa_session_local(), "disk", &cfg, err));
	assert_int_equal(errno, EBUSY);
	down();
}

static int set_up(void **state)
{
	log_set_level(LOG_ERROR);
	return vdpa_mem_init() || vduse_init() || vdpa_virtio_init();
}

static int tear_down(void **state)
{
	vdpa_virtio_exit();
	vduse_exit();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "G.A 7: write and verify", whole_disk, NULL, NULL, NULL },
		{ "G.A 7: the other requests", other_requests, NULL, NULL, NULL },
		{ "G.A 7: depth", depth, NULL, NULL, NULL },
		{ "G.A 8: what the bounce memory shows", bounce, NULL, NULL, NULL },
		{ "G.A 8: bounce memory shared by 8 threads", many_mappings, NULL, NULL, NULL },
		{ "G.A 8: exhaustion", exhaustion, NULL, NULL, NULL },
		{ "G.A 11: daemon restarts under load", restarts, NULL, NULL, NULL },
		{ "deleted under load", deleted, NULL, NULL, NULL },
		{ "abandoned", abandoned, NULL, NULL, NULL },
		{ "G.A 13: refusals at bring-up", refused, NULL, NULL, NULL },
		{ "G.A 15: lies", lies, NULL, NULL, NULL },
		{ "G.A 15: configuration rewritten while it is read", changing_config, NULL, NULL, NULL },
		{ "G.A 20: resize", resize, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
