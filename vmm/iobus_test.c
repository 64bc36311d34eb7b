// SPDX-License-Identifier: MIT
/* Dispatch, splitting, refused overlaps, removal while handlers run. */
#include "vmm/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "vmm/iobus.h"

struct probe {
	u64 off[16];
	unsigned len[16], n;
	u8 fill;
};

static void probe_fn(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct probe *p = ctx;

	if (p->n < 16) {
		p->off[p->n] = off;
		p->len[p->n] = len;
	}
	p->n++;
	if (!is_write)
		memset(data, p->fill, len);
}

static struct iobus_range range(u64 start, u64 len, unsigned width, struct probe *p)
{
	return (struct iobus_range){
		.start = start, .len = len, .width = width, .fn = probe_fn, .ctx = p};
}

static void test_add(void **state)
{
	static const struct {
		u64 start, len;
		unsigned width;
		int ret;
	} rows[] = {
		{ 0x100, 0x10, 4, 0 },
		{ 0x100, 0x10, 4, -EEXIST },
		{ 0x10f, 1, 1, -EEXIST },
		{ 0xf8, 9, 1, -EEXIST },
		{ 0x80, 0x200, 1, -EEXIST },
		{ 0xf8, 8, 1, 0 },
		{ 0x110, 1, 1, 0 },
		{ 0x200, 0, 1, -EINVAL },
		{ 0x200, 1, 3, -EINVAL },
		{ 0x200, 1, 0, -EINVAL },
		{ 0x200, 1, 16, -EINVAL },
		{ ~0ull, 2, 1, -EINVAL },
		{ ~0ull, 1, 1, 0 },
		{ 0, 1, 1, 0 },
	};
	struct iobus_range r[ARRAY_SIZE(rows)];
	struct probe p = { 0 };
	struct iobus b;

	iobus_init(&b);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		r[i] = range(rows[i].start, rows[i].len, rows[i].width, &p);
		assert_int_equal(iobus_add(&b, &r[i]), rows[i].ret);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (!rows[i].ret)
			iobus_remove(&b, &r[i]);
	iobus_exit(&b);
}

static void test_access(void **state)
{
	struct probe p = { .fill = 0x5a }, q = { .fill = 0xa5 };
	struct iobus_range r = range(0x1000, 8, 4, &p), s = range(0x1008, 3, 1, &q);
	struct iobus b;
	u8 d[8];

	iobus_init(&b);
	assert_int_equal(iobus_add(&b, &r), 0);
	assert_int_equal(iobus_add(&b, &s), 0);

	/* Nobody: all ones. */
	memset(d, 0, sizeof(d));
	assert_false(iobus_access(&b, 0xff0, d, 8, false));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(d[i], 0xff);
	/* Too wide: two pieces. */
	assert_true(iobus_access(&b, 0x1000, d, 8, false));
	assert_int_equal(p.n, 2);
	assert_int_equal(p.off[1], 4);
	assert_int_equal(p.len[1], 4);
	/* Over the border of two ranges and beyond the second one's end. */
	p.n = q.n = 0;
	assert_true(iobus_access(&b, 0x1006, d, 8, false));
	assert_int_equal(p.n, 1);
	assert_int_equal(p.off[0], 6);
	assert_int_equal(p.len[0], 2);
	assert_int_equal(q.n, 3);
	assert_int_equal(d[1], 0x5a);
	assert_int_equal(d[4], 0xa5);
	assert_int_equal(d[5], 0xff);
	/* The last byte of the address space. */
	assert_false(iobus_access(&b, ~0ull, d, 1, true));
	iobus_remove(&b, &r);
	p.n = 0;
	assert_false(iobus_access(&b, 0x1000, d, 1, true));
	assert_int_equal(p.n, 0);
	iobus_remove(&b, &s);
	iobus_exit(&b);
}

struct slow {
	_Atomic bool entered, left;
};

static void slow_fn(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct slow *s = ctx;
	const struct timespec ts = { .tv_nsec = 20 * 1000 * 1000 };

	atomic_store(&s->entered, true);
	nanosleep(&ts, NULL);
	atomic_store(&s->left, true);
}

static void *access_thread(void *arg)
{
	u8 d = 0;

	iobus_access(arg, 0x50, &d, 1, true);
	return NULL;
}

/* Removal waits for a handler that runs. */
static void test_remove_waits(void **state)
{
	struct slow s = { 0 };
	struct iobus_range r = { .start = 0x50, .len = 1, .width = 1, .fn = slow_fn, .ctx = &s };
	struct iobus b;
	pthread_t t;

	iobus_init(&b);
	assert_int_equal(iobus_add(&b, &r), 0);
	assert_int_equal(pthread_create(&t, NULL, access_thread, &b), 0);
	while (!atomic_load(&s.entered))
		;
	iobus_remove(&b, &r);
	assert_true(atomic_load(&s.left));
	pthread_join(t, NULL);
	iobus_exit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_remove_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
