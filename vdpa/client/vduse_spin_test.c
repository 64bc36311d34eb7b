// SPDX-License-Identifier: MIT
/* The look at a driver's ring, with a ring in a file and a driver that is a thread. */
#include "vdpa/client/vduse_spin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUM 128
#define AT 0x2f80	/* the ring crosses a page's end */
#define SIZE 0x4000u

static int fd;
static u8 *mem;
static _Atomic u16 *ring;
static _Atomic bool stop;

static int setup(void **state)
{
	fd = memfd_create("ring", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return -1;
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ring = (_Atomic u16 *)(mem + AT);
	return mem == MAP_FAILED;
}

static int teardown(void **state)
{
	munmap(mem, SIZE);
	return close(fd);
}

struct moves { bool event, idx; };

/* A driver that never stands still. */
static void *driver(void *arg)
{
	const struct moves *m = arg;

	while (!atomic_load(&stop)) {
		if (m->event)
			atomic_fetch_add(&ring[2 + NUM], 1);
		if (m->idx)
			atomic_fetch_add(&ring[1], 1);
	}
	return NULL;
}

/* How often of @n looks the interrupt is found needless, and how often in a row at most. */
static unsigned looks(const struct moves *m, unsigned n, unsigned *most)
{
	struct vduse_spin s = { 0 };
	unsigned hits = 0, row = 0;
	pthread_t t;

	vduse_spin_init(&s, fd, AT, NUM);
	assert_non_null(s.avail);
	atomic_store(&stop, false);
	pthread_create(&t, NULL, driver, (void *)(uintptr_t)m);
	*most = 0;
	for (unsigned i = 0; i < n; i++) {
		bool hit = vduse_spin(&s);

		hits += hit;
		row = hit ? row + 1 : 0;
		*most = max(*most, row);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	vduse_spin_exit(&s);
	return hits;
}

static void test_seen(void **state)
{
	static const struct moves both = { true, true };
	unsigned most = 0, hits = 0;

	/* On one processor the two may not meet for long. */
	for (unsigned i = 0; i < 1000 && !hits; i++)
		hits = looks(&both, 10000, &most);
	assert_true(hits > 0);
	/* The daemon has other things to do. */
	assert_true(most <= 128);
}

/* Requests of others say nothing of the one that sleeps for the interrupt. */
static void test_not_seen(void **state)
{
	static const struct moves idx = { false, true };
	unsigned most;

	assert_int_equal(looks(&idx, 100000, &most), 0);
}

/* Less and less often. */
static void test_nobody(void **state)
{
	struct vduse_spin s = { 0 };
	unsigned left_out = 0;

	vduse_spin_init(&s, fd, AT, NUM);
	for (unsigned i = 0; i < 1000; i++) {
		left_out += s.skip > 0;
		assert_false(vduse_spin(&s));
	}
	assert_true(left_out > 900);
	vduse_spin_exit(&s);
}

static void test_no_ring(void **state)
{
	static const struct { u64 iova; u32 num; int fd; } rows[] = {
		{ AT, 0, 0 }, { AT, 65536, 0 }, { AT + 1, NUM, 0 }, { SIZE, NUM, 0 }, { SIZE - 6 - 2 * NUM + 2, NUM, 0 },
		{ ~0ull - 1, NUM, 0 }, { ~0ull - 4096, 8192, 0 }, { AT, NUM, -1 },
	};
	struct vduse_spin s = { 0 };

	assert_false(vduse_spin(&s));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		vduse_spin_init(&s, rows[i].fd ? rows[i].fd : fd, rows[i].iova, rows[i].num);
		assert_null(s.avail);
		assert_false(vduse_spin(&s));
	}
	vduse_spin_init(&s, fd, SIZE - 6 - 2 * NUM, NUM);
	assert_non_null(s.avail);
	vduse_spin_exit(&s);
	vduse_spin_exit(&s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "a driver that looks at its ring", test_seen, NULL, NULL, NULL },
		{ "a driver that sleeps beside others' requests", test_not_seen, NULL, NULL, NULL },
		{ "a driver that sleeps", test_nobody, NULL, NULL, NULL },
		{ "rings that are none", test_no_ring, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
