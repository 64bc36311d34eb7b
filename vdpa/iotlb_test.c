// SPDX-License-Identifier: MIT
/* The interval map against its rules and a naive model; copies over several entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vdpa/iotlb.h"

static int add(struct vdpa_iotlb *t, u64 start, u64 last)
{
	const struct vdpa_map m = { .start = start, .last = last, .perm = VDPA_RW, .off = start };

	return vdpa_iotlb_add(t, &m);
}

static void test_rules(void **state)
{
	struct vdpa_iotlb *t = vdpa_iotlb_new(4);
	const struct vdpa_map *m;

	assert_int_equal(add(t, 0x2000, 0x1fff), -EFAULT);
	assert_int_equal(add(t, 0x2000, 0x2fff), 0);
	assert_int_equal(add(t, 0x2fff, 0x3fff), -EEXIST);
	assert_int_equal(add(t, 0x1000, 0x2000), -EEXIST);
	assert_int_equal(add(t, 0, UINT64_MAX), -EEXIST);
	assert_int_equal(add(t, 0x1000, 0x1fff), 0);
	assert_int_equal(add(t, 0x3000, 0x3000), 0);
	assert_int_equal(add(t, UINT64_MAX, UINT64_MAX), 0);
	assert_int_equal(add(t, 0x9000, 0x9fff), -ENOSPC);
	assert_int_equal(vdpa_iotlb_count(t), 4);

	m = vdpa_iotlb_find(t, 0, UINT64_MAX);
	assert_int_equal(m->start, 0x1000);	/* the lowest */
	m = vdpa_iotlb_next(t, m);
	assert_int_equal(m->start, 0x2000);
	m = vdpa_iotlb_next(t, vdpa_iotlb_next(t, m));
	assert_int_equal(m->start, UINT64_MAX);
	assert_null(vdpa_iotlb_next(t, m));
	assert_null(vdpa_iotlb_find(t, 0, 0xfff));
	assert_null(vdpa_iotlb_find(t, 0x3001, UINT64_MAX - 1));
	assert_int_equal(vdpa_iotlb_find(t, 0x2fff, 0x3000)->start, 0x2000);

	assert_int_equal(vdpa_iotlb_del(t, 0x1fff, 0x2000), 2);
	assert_int_equal(vdpa_iotlb_del(t, 0x1fff, 0x2000), 0);
	assert_int_equal(vdpa_iotlb_count(t), 2);
	assert_int_equal(vdpa_iotlb_del(t, 0, UINT64_MAX), 2);
	assert_null(vdpa_iotlb_find(t, 0, UINT64_MAX));
	vdpa_iotlb_free(t);
}

static void test_whole_space(void **state)
{
	struct vdpa_iotlb *one = vdpa_iotlb_new(1), *two = vdpa_iotlb_new(2);
	const struct vdpa_map *m;

	assert_int_equal(add(one, 0, UINT64_MAX), -ENOSPC);
	assert_int_equal(vdpa_iotlb_count(one), 0);
	assert_int_equal(add(two, 0, UINT64_MAX), 0);
	assert_int_equal(vdpa_iotlb_count(two), 2);
	m = vdpa_iotlb_find(two, UINT64_MAX, UINT64_MAX);
	assert_int_equal(m->start, 1ull << 63);
	assert_int_equal(m->off, 1ull << 63);
	assert_int_equal(vdpa_iotlb_find(two, 0, 0)->last, (1ull << 63) - 1);

	assert_int_equal(vdpa_iotlb_copy(one, two), -ENOSPC);
	assert_int_equal(vdpa_iotlb_del(two, 0, 0), 1);
	assert_int_equal(vdpa_iotlb_copy(one, two), 0);
	assert_int_equal(vdpa_iotlb_count(one), 1);
	vdpa_iotlb_free(one);
	vdpa_iotlb_free(two);
}

/* A model of 256 cells: which entry covers each, by its start. */
#define CELLS 256u
static void test_model(void **state)
{
	struct vdpa_iotlb *t = vdpa_iotlb_new(0), *copy = vdpa_iotlb_new(0);
	int owner[CELLS];
	unsigned seed = 1;

	memset(owner, -1, sizeof(owner));
	for (unsigned round = 0; round < 20000; round++) {
		unsigned a = (unsigned)rand_r(&seed) % CELLS, len = 1 + (unsigned)rand_r(&seed) % 12;
		unsigned b = min(a + len, CELLS) - 1;
		const struct vdpa_map *m = vdpa_iotlb_find(t, a, b);
		int want = -1;

		for (unsigned i = a; i <= b && want < 0; i++)
			want = owner[i];
		assert_int_equal(m ? (int)m->start : -1, want);
		if (rand_r(&seed) % 3) {
			assert_int_equal(add(t, a, b), want < 0 ? 0 : -EEXIST);
			for (unsigned i = a; want < 0 && i <= b; i++)
				owner[i] = (int)a;
		} else {
			unsigned gone = 0;

			for (unsigned i = a; i <= b; i++) {
				int who = owner[i];

				gone += who >= 0;
				for (unsigned j = 0; who >= 0 && j < CELLS; j++)
					if (owner[j] == who)
						owner[j] = -1;
			}
			assert_int_equal(vdpa_iotlb_del(t, a, b), gone);
		}
		if (round % 1000 == 0) {
			assert_int_equal(vdpa_iotlb_copy(copy, t), 0);
			assert_int_equal(vdpa_iotlb_count(copy), vdpa_iotlb_count(t));
		}
	}
	vdpa_iotlb_free(t);
	vdpa_iotlb_free(copy);
}

/* Two files, adjacent IOVAs: one copy goes over both, and refusals come before the first byte. */
static void test_copies(void **state)
{
	struct vdpa_iotlb *t = vdpa_iotlb_new(0);
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct vdpa_mem *a, *b;
	char buf[64], back[64];

	assert_int_equal(vdpa_mem_init(), 0);
	assert_int_equal(ftruncate(fd, 0x3000), 0);
	a = vdpa_mem_shared(fd, 0x1000, 0x1000, true);
	b = vdpa_mem_shared(fd, 0, 0x1000, true);
	assert_non_null(a);
	assert_non_null(b);
	const struct vdpa_map maps[] = {
		{ .start = 0x10000, .last = 0x10fff, .perm = VDPA_RW, .mem = a },
		{ .start = 0x11000, .last = 0x117ff, .perm = VDPA_RW, .mem = b, .off = 0x800 },
		{ .start = 0x11800, .last = 0x11fff, .perm = VDPA_RO, .mem = b },
		{ .start = 0x12000, .last = 0x12fff, .perm = VDPA_RW },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(maps); i++)
		assert_int_equal(vdpa_iotlb_add(t, &maps[i]), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i + 1);
	assert_int_equal(vdpa_iotlb_write(t, 0x10fe0, buf, 64), 0);
	assert_int_equal(vdpa_iotlb_read(t, 0x10fe0, back, 64), 0);
	assert_memory_equal(buf, back, 64);
	/* Where the bytes are in the file: the end of the second page, the middle of the first. */
	assert_int_equal(pread(fd, back, 32, 0x1fe0), 32);
	assert_memory_equal(buf, back, 32);
	assert_int_equal(pread(fd, back, 32, 0x800), 32);
	assert_memory_equal(buf + 32, back, 32);

	memset(back, 0, sizeof(back));
	assert_int_equal(vdpa_iotlb_write(t, 0x117f0, back, 32), -EPERM);
	assert_int_equal(vdpa_iotlb_write(t, 0x117f0, back, 16), 0);
	assert_int_equal(vdpa_iotlb_read(t, 0x117f0, back, 32), 0);
	assert_int_equal(vdpa_iotlb_read(t, 0x11ff0, back, 32), -EINVAL);	/* nothing behind */
	assert_int_equal(vdpa_iotlb_read(t, 0xfff0, back, 32), -EINVAL);
	assert_int_equal(vdpa_iotlb_read(t, 0x12ff8, back, 16), -EINVAL);
	assert_int_equal(vdpa_iotlb_read(t, UINT64_MAX - 3, back, 16), -EINVAL);
	assert_int_equal(vdpa_iotlb_read(t, 0, back, 0), 0);
	vdpa_mem_put(a);
	vdpa_mem_put(b);
	vdpa_iotlb_free(t);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_whole_space),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
