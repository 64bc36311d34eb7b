// SPDX-License-Identifier: MIT
/*
 * Epochs under torture: readers of random length, nested and coming and going;
 * writers that defer, synchronize and wait for everything. A freed object is
 * poisoned before its memory goes, so a reader that still sees one tells.
 * Usage: epoch_test [seconds].
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/epoch.h"

#define ALIVE 0x600df00du
#define DEAD 0xdeadu
#define NR_OBJS 4

struct obj {
	struct epoch_node node;
	u32 state;
	u64 serial;
};

static struct obj *_Atomic objs[NR_OBJS];
static _Atomic u64 nr_made, nr_freed, bad, grace_periods;
static _Atomic bool stop;
static u64 duration_ns = 150000000;

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static struct obj *obj_new(void)
{
	struct obj *o = malloc(sizeof(*o));

	assert_non_null(o);
	o->state = ALIVE;
	o->serial = atomic_fetch_add(&nr_made, 1);
	return o;
}

static void obj_free(struct epoch_node *n)
{
	struct obj *o = container_of(n, struct obj, node);

	o->state = DEAD;
	atomic_fetch_add(&nr_freed, 1);
	free(o);
}

static u32 rnd(u32 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	return *seed ^= *seed << 5;
}

static void look(u32 *seed, unsigned depth)
{
	struct obj *o;

	epoch_enter();
	o = atomic_load(&objs[rnd(seed) % NR_OBJS]);
	for (u32 i = rnd(seed) % 64; i; i--)
		if (o->state != ALIVE)
			atomic_fetch_add(&bad, 1);
	if (depth && rnd(seed) % 4 == 0)
		look(seed, depth - 1);
	/* A reader stalled on purpose delays, and breaks nothing. */
	if (rnd(seed) % 1024 == 0)
		sched_yield();
	if (o->state != ALIVE)
		atomic_fetch_add(&bad, 1);
	epoch_exit();
}

static void *reader(void *arg)
{
	u32 seed = (u32)(uintptr_t)arg * 2654435761u + 1;

	while (!atomic_load(&stop))
		look(&seed, 3);
	return NULL;
}

/* Threads that live for a few sections. */
static void *short_lived(void *arg)
{
	u32 seed = (u32)(uintptr_t)arg + 77;

	for (unsigned i = 0; i < 20; i++)
		look(&seed, 1);
	return NULL;
}

static void *forker(void *arg)
{
	for (uintptr_t i = 1; !atomic_load(&stop); i++) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, short_lived, (void *)i), 0);
		pthread_join(t, NULL);
	}
	return NULL;
}

static void *writer(void *arg)
{
	u32 seed = (u32)(uintptr_t)arg * 40503u + 5;

	while (!atomic_load(&stop)) {
		struct obj *old = atomic_exchange(&objs[rnd(&seed) % NR_OBJS], obj_new());

		switch (rnd(&seed) % 64) {
		case 0:
			epoch_synchronize();
			atomic_fetch_add(&grace_periods, 1);
			obj_free(&old->node);
			break;
		case 1:
			epoch_defer(&old->node, obj_free);
			epoch_barrier();
			break;
		default:
			/* Deferring inside a section is allowed as well. */
			epoch_enter();
			epoch_defer(&old->node, obj_free);
			epoch_exit();
		}
	}
	return NULL;
}

static void test_torture(void **state)
{
	pthread_t t[6];
	u64 begin = now_ns();

	atomic_store(&nr_freed, 0);

	for (unsigned i = 0; i < NR_OBJS; i++)
		atomic_store(&objs[i], obj_new());
	assert_int_equal(pthread_create(&t[0], NULL, reader, (void *)1), 0);
	assert_int_equal(pthread_create(&t[1], NULL, reader, (void *)2), 0);
	assert_int_equal(pthread_create(&t[2], NULL, reader, (void *)3), 0);
	assert_int_equal(pthread_create(&t[3], NULL, writer, (void *)4), 0);
	assert_int_equal(pthread_create(&t[4], NULL, writer, (void *)5), 0);
	assert_int_equal(pthread_create(&t[5], NULL, forker, NULL), 0);
	while (now_ns() - begin < duration_ns)
		usleep(1000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < NR_OBJS; i++)
		epoch_defer(&atomic_exchange(&objs[i], NULL)->node, obj_free);
	epoch_barrier();
	assert_int_equal(atomic_load(&bad), 0);
	assert_int_equal(atomic_load(&nr_made), atomic_load(&nr_freed));
	assert_true(atomic_load(&grace_periods) > 0);
	print_message("# %lu objects\n", (unsigned long)atomic_load(&nr_made));
}

static _Atomic int step;

static void *holder(void *arg)
{
	epoch_enter();
	epoch_enter();
	epoch_exit();
	atomic_store(&step, 1);
	while (atomic_load(&step) < 2)
		sched_yield();
	epoch_exit();
	return NULL;
}

static void count_free(struct epoch_node *n)
{
	atomic_fetch_add(&nr_freed, 1);
}

/* A section, nested ones included, holds back what was retired during it, and nothing else. */
static void test_order(void **state)
{
	static struct epoch_node before, during[100], after;
	pthread_t t;
	u64 base;

	atomic_store(&nr_freed, 0);
	epoch_defer(&before, count_free);
	assert_int_equal(pthread_create(&t, NULL, holder, NULL), 0);
	while (atomic_load(&step) < 1)
		sched_yield();
	for (unsigned i = 0; i < ARRAY_SIZE(during); i++)
		epoch_defer(&during[i], count_free);
	base = atomic_load(&nr_freed);
	assert_true(base <= 1);
	assert_false(epoch_held());
	atomic_store(&step, 2);
	epoch_barrier();
	assert_int_equal(atomic_load(&nr_freed), 101);
	epoch_enter();
	assert_true(epoch_held());
	epoch_defer(&after, count_free);
	epoch_exit();
	epoch_barrier();
	assert_int_equal(atomic_load(&nr_freed), 102);
	pthread_join(t, NULL);
}

/* After fork() the sections of the other threads are no more. */
static void test_fork(void **state)
{
	pthread_t t;
	int status;
	pid_t pid;

	atomic_store(&step, 0);
	assert_int_equal(pthread_create(&t, NULL, holder, NULL), 0);
	while (atomic_load(&step) < 1)
		sched_yield();
	pid = fork();
	if (pid == 0) {
		epoch_synchronize();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	atomic_store(&step, 2);
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order), cmocka_unit_test(test_fork), cmocka_unit_test(test_torture),
	};

	if (argc > 1)
		duration_ns = strtoull(argv[1], NULL, 10) * 1000000000;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
