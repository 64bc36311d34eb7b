// SPDX-License-Identifier: MIT
/*
 * Acceptance test G.A 18: two daemons with a device each, eight clients that write and verify, and for each
 * device somebody who attaches it, opens it, and takes it away again: after its driver, under it, or after its
 * daemon has died and come back. One process, so that ThreadSanitizer sees all of it: usage: vduse_stress SECONDS
 *
 * It fails if data is wrong, if a call fails otherwise than because the device has gone, or if nothing moves for
 * half a minute.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/blk.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/virtio/session.h"

#define DEVICES 2
#define CLIENTS 4	/* of each */
#define QUEUES 2
#define PART (1u << 20)	/* of the disk, for each client */
#define STUCK_S 30

struct side {
	const char *name;
	unsigned seed;
	struct test_daemon td;
	pthread_rwlock_t lock;
	struct vblk *b;		/* NULL: not attached now */
	pthread_t manager;
};

struct client {
	struct side *side;
	unsigned nr;
	pthread_t thread;
};

static struct side sides[DEVICES] = {{.name = "a", .seed = 1}, {.name = "b", .seed = 2}};
static _Atomic bool stop, failed;
static _Atomic unsigned long requests, gone, rounds, kills;

static void fail(const struct side *s, const char *what, int err)
{
	printf("# %s: %s: %s\n", s->name, what, strerror(-err));
	atomic_store(&failed, true);
	atomic_store(&stop, true);
}

/* Write and read one range. 0, or -errno. */
static int verify(struct client *c, struct vblk *b, unsigned n)
{
	static const u32 sizes[] = {512, 4096, 65536};
	static _Thread_local u8 out[65536], in[65536];
	u32 len = sizes[n % 3];
	u64 off = (u64)c->nr * PART + (u64)n * 65536 % (PART - 65536);
	int ret;

	memset(out, (int)(n * 31 + c->nr), len);
	ret = vblk_io(b, (u16)(c->nr % QUEUES), VBLK_WRITE, out, off, len, 0);
	if (!ret)
		ret = vblk_io(b, (u16)(c->nr % QUEUES), VBLK_READ, in, off, len, 0);
	return ret ? ret : memcmp(out, in, len) ? -EBADMSG : 0;
}

static void *client(void *arg)
{
	struct client *c = arg;

	for (unsigned n = 0; !atomic_load(&stop); n++) {
		int ret = -ENOENT;

		pthread_rwlock_rdlock(&c->side->lock);
		if (c->side->b)
			ret = verify(c, c->side->b, n);
		pthread_rwlock_unlock(&c->side->lock);
		if (ret == -ENOENT)
			usleep(100);
		else if (ret == -ENODEV)
			atomic_fetch_add(&gone, 1);
		else if (ret)
			fail(c->side, "request", ret);
		else
			atomic_fetch_add(&requests, 2);
	}
	return NULL;
}

static void set(struct side *s, struct vblk *b)
{
	pthread_rwlock_wrlock(&s->lock);
	s->b = b;
	pthread_rwlock_unlock(&s->lock);
}

static void one_round(struct side *s)
{
	unsigned how = (unsigned)rand_r(&s->seed) % 4;
	char err[256];
	struct vblk *b;
	int ret = td_attach(s->name);

	if (ret) {
		fail(s, "attach", ret);
		return;
	}
	b = vblk_open(vdpa_session_local(), s->name, &(struct vblk_cfg){ 0 }, err);
	if (!b)
		fail(s, err, -errno);
	set(s, b);
	usleep((unsigned)rand_r(&s->seed) % 20000);
	if (how == 0) {
		td_kill(&s->td);
		usleep((unsigned)rand_r(&s->seed) % 5000);
		td_start(&s->td);
		atomic_fetch_add(&kills, 1);
		usleep((unsigned)rand_r(&s->seed) % 20000);
	}
	if (how == 1)
		td_detach(s->name);
	set(s, NULL);
	if (b)
		vblk_close(b);
	if (how != 1)
		td_detach(s->name);
	atomic_fetch_add(&rounds, 1);
}

static void *manager(void *arg)
{
	struct side *s = arg;

	while (!atomic_load(&stop))
		one_round(s);
	return NULL;
}

static void watch(unsigned seconds)
{
	unsigned long last = 0;
	unsigned still = 0;

	for (unsigned n = 0; n < seconds && !atomic_load(&stop); n++) {
		unsigned long now = atomic_load(&requests) + atomic_load(&rounds);

		sleep(1);
		still = now == last ? still + 1 : 0;
		last = now;
		if (still == STUCK_S) {
			printf("not ok 1 - G.A 18: nothing moves\n1..1\n");
			fflush(stdout);
			abort();
		}
	}
}

int main(int argc, char **argv)
{
	static struct client clients[DEVICES * CLIENTS];
	pthread_rwlockattr_t ra;

	log_set_level(LOG_ERROR);
	if (argc != 2 || vdpa_mem_init() || vdpa_virtio_init() || vduse_init()) {
		fprintf(stderr, "usage: vduse_stress SECONDS\n");
		return 2;
	}
	pthread_rwlockattr_init(&ra);
	/* Readers come again at once. */
	pthread_rwlockattr_setkind_np(&ra, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (struct side *s = sides; s < sides + DEVICES; s++) {
		pthread_rwlock_init(&s->lock, &ra);
		td_create(&s->td, s->name, QUEUES, 64, (u64)CLIENTS * PART, 0);
		td_start(&s->td);
		pthread_create(&s->manager, NULL, manager, s);
	}
	for (unsigned i = 0; i < DEVICES * CLIENTS; i++) {
		clients[i] = (struct client){.side = &sides[i / CLIENTS], .nr = i % CLIENTS};
		pthread_create(&clients[i].thread, NULL, client, &clients[i]);
	}
	watch((unsigned)atoi(argv[1]));
	atomic_store(&stop, true);
	for (unsigned i = 0; i < DEVICES * CLIENTS; i++)
		pthread_join(clients[i].thread, NULL);
	for (struct side *s = sides; s < sides + DEVICES; s++) {
		pthread_join(s->manager, NULL);
		td_destroy(&s->td);
	}
	printf("# %lu requests, %lu ended by a device that went; %lu times attached, %lu deaths\n", requests, gone, rounds,
	       kills);
	printf("%sok 1 - G.A 18: attach and detach beside load\n1..1\n", atomic_load(&failed) ? "not " : "");
	vduse_exit();
	vdpa_virtio_exit();
	return atomic_load(&failed);
}
