// SPDX-License-Identifier: MIT
/*
 * Virtqueues against friendly and hostile drivers. fuzz_one() takes any bytes
 * as the memory of a guest; it is run here on random bytes, VIRTQ_FUZZ_RUNS
 * times if the environment says so.
 */
#include "vmm/test.h"

#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "vmm/virtq.h"

#define DESC 0x1000ull
#define AVAIL 0x2000ull
#define USED 0x3000ull
#define DATA 0x8000ull
#define TABLE 0x6000ull
#define RAM (1u << 20)

struct fix {
	struct vmm_mem mem;
	struct virtq q;
};

static void fix_open(struct fix *f, u16 size, bool indirect, bool event)
{
	assert_int_equal(mem_init(&f->mem, RAM), 0);
	virtq_reset(&f->q, size);
	f->q.desc = DESC;
	f->q.avail = AVAIL;
	f->q.used = USED;
	f->q.indirect = indirect;
	f->q.event_idx = event;
	assert_null(virtq_enable(&f->q, &f->mem));
}

static void fix_close(struct fix *f)
{
	mem_exit(&f->mem);
}

static void put_desc(struct fix *f, u64 table, u16 i, u64 addr, u32 len, u16 flags, u16 next)
{
	struct vring_desc d = { .addr = addr, .len = len, .flags = flags, .next = next };

	memcpy(f->mem.host + table + 16ull * i, &d, sizeof(d));
}

static void offer(struct fix *f, u16 idx, u16 head)
{
	u16 *avail = (u16 *)(f->mem.host + AVAIL);

	avail[2 + idx % f->q.size] = head;
	avail[1] = (u16)(idx + 1);
}

static void test_enable(void **state)
{
	static const struct {
		u16 size;
		u64 desc, avail, used;
		bool ok;
	} rows[] = {
		{ 8, DESC, AVAIL, USED, true },
		{ 0, DESC, AVAIL, USED, false },
		{ 3, DESC, AVAIL, USED, false },
		{ 512, DESC, AVAIL, USED, false },
		{ 8, DESC + 8, AVAIL, USED, false },
		{ 8, DESC, AVAIL + 1, USED, false },
		{ 8, DESC, AVAIL, USED + 2, false },
		{ 8, RAM - 128, AVAIL, USED, true },
		{ 8, RAM - 112, AVAIL, USED, false },
		{ 8, DESC, RAM - 16, USED, false },
		{ 8, DESC, AVAIL, RAM - 64, false },
		{ 8, ~0ull << 4, AVAIL, USED, false },
	};
	struct vmm_mem mem;

	assert_int_equal(mem_init(&mem, RAM), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtq q = {.size = rows[i].size,
				  .desc = rows[i].desc,
				  .avail = rows[i].avail,
				  .used = rows[i].used};

		assert_int_equal(virtq_enable(&q, &mem) == NULL, rows[i].ok);
		assert_int_equal(q.enabled, rows[i].ok);
	}
	mem_exit(&mem);
}

static void test_chain(void **state)
{
	struct virtq_chain c;
	const char *why;
	struct fix f;
	char buf[32];
	const u32 *used;

	fix_open(&f, 8, true, false);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), 0);
	memcpy(f.mem.host + DATA, "hello, ", 7);
	memcpy(f.mem.host + DATA + 100, "world", 5);
	put_desc(&f, DESC, 3, DATA, 7, VRING_DESC_F_NEXT, 5);
	put_desc(&f, DESC, 5, DATA + 100, 5, VRING_DESC_F_NEXT, 0);
	put_desc(&f, DESC, 0, DATA + 200, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	put_desc(&f, DESC, 1, DATA + 300, 4, VRING_DESC_F_WRITE, 0);
	offer(&f, 0, 3);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), 1);
	assert_int_equal(c.nr_out, 2);
	assert_int_equal(c.nr_in, 2);
	assert_int_equal(c.out_len, 12);
	assert_int_equal(c.in_len, 8);
	assert_int_equal(virtq_read(&c, 3, buf, sizeof(buf)), 9);
	assert_memory_equal(buf, "lo, world", 9);
	assert_int_equal(virtq_write(&c, 2, "abcdefgh", 8), 6);
	assert_memory_equal(f.mem.host + DATA + 202, "ab", 2);
	assert_memory_equal(f.mem.host + DATA + 300, "cdef", 4);
	virtq_push(&f.q, c.head, 8);
	used = (const u32 *)(f.mem.host + USED);
	assert_int_equal(used[0] >> 16, 1);
	assert_int_equal(used[1], 3);
	assert_int_equal(used[2], 8);
	assert_true(virtq_want_irq(&f.q));
	assert_false(virtq_want_irq(&f.q));

	/* The same chain, indirect. */
	memcpy(f.mem.host + TABLE, f.mem.host + DESC, 8 * 16);
	put_desc(&f, TABLE, 7, DATA, 7, VRING_DESC_F_NEXT, 5);
	memcpy(f.mem.host + TABLE, f.mem.host + TABLE + 7 * 16, 16);
	put_desc(&f, TABLE, 5, DATA, 1, VRING_DESC_F_WRITE, 0);
	put_desc(&f, DESC, 2, TABLE, 8 * 16, VRING_DESC_F_INDIRECT, 0);
	offer(&f, 1, 2);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), 1);
	assert_int_equal(c.head, 2);
	assert_int_equal(c.nr_out, 1);
	assert_int_equal(c.nr_in, 1);

	/* No interrupt wanted. */
	*(u16 *)(f.mem.host + AVAIL) = VRING_AVAIL_F_NO_INTERRUPT;
	virtq_push(&f.q, c.head, 1);
	assert_false(virtq_want_irq(&f.q));
	fix_close(&f);
}

static void test_event_idx(void **state)
{
	struct virtq_chain c;
	const char *why;
	struct fix f;
	u16 *used_event;

	fix_open(&f, 4, false, true);
	used_event = (u16 *)(f.mem.host + AVAIL + 4 + 2 * 4);
	put_desc(&f, DESC, 0, DATA, 1, VRING_DESC_F_WRITE, 0);
	/* "Interrupt me when entry 1 is used": not for entry 0. */
	*used_event = 1;
	offer(&f, 0, 0);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), 1);
	virtq_push(&f.q, 0, 0);
	assert_false(virtq_want_irq(&f.q));
	offer(&f, 1, 0);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), 1);
	virtq_push(&f.q, 0, 0);
	assert_true(virtq_want_irq(&f.q));
	/* Our side asks to be notified of the next one. */
	assert_int_equal(*(u16 *)(f.mem.host + USED + 4 + 8 * 4), 2);
	fix_close(&f);
}

static void test_hostile(void **state)
{
	static const struct {
		const char *what;
		u16 head;
		struct vring_desc d[3];
		struct vring_desc t[3];	/* at TABLE */
		bool no_indirect;
	} rows[] = {
		{"head beyond the table", 8, {{0}}, {{0}}, false},
		{"next beyond the table", 0, {{DATA, 1, VRING_DESC_F_NEXT, 8}}, {{0}}, false},
		{"loop to itself", 0, {{DATA, 1, VRING_DESC_F_NEXT, 0}}, {{0}}, false},
		{"loop of two",
		 0,
		 {{DATA, 1, VRING_DESC_F_NEXT, 1}, {DATA, 1, VRING_DESC_F_NEXT, 0}},
		 {{0}},
		 false},
		{"beyond RAM", 0, {{RAM - 1, 2, 0, 0}}, {{0}}, false},
		{"length wraps", 0, {{~0ull - 1, 16, 0, 0}}, {{0}}, false},
		{"huge length", 0, {{DATA, 0xffffffff, 0, 0}}, {{0}}, false},
		{"readable after writable",
		 0,
		 {{DATA, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1}, {DATA, 1, 0, 0}},
		 {{0}},
		 false},
		{"indirect not negotiated",
		 0,
		 {{TABLE, 16, VRING_DESC_F_INDIRECT, 0}},
		 {{DATA, 1, 0, 0}},
		 true},
		{"indirect with next",
		 0,
		 {{TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1}},
		 {{DATA, 1, 0, 0}},
		 false},
		{"indirect of odd size",
		 0,
		 {{TABLE, 17, VRING_DESC_F_INDIRECT, 0}},
		 {{DATA, 1, 0, 0}},
		 false},
		{"indirect of no size", 0, {{TABLE, 0, VRING_DESC_F_INDIRECT, 0}}, {{0}}, false},
		{"indirect in indirect",
		 0,
		 {{TABLE, 32, VRING_DESC_F_INDIRECT, 0}},
		 {{TABLE, 16, VRING_DESC_F_INDIRECT, 0}},
		 false},
		{"indirect not in RAM", 0, {{RAM, 16, VRING_DESC_F_INDIRECT, 0}}, {{0}}, false},
		{"next beyond indirect",
		 0,
		 {{TABLE, 32, VRING_DESC_F_INDIRECT, 0}},
		 {{DATA, 1, VRING_DESC_F_NEXT, 2}},
		 false},
		{"loop in indirect",
		 0,
		 {{TABLE, 32, VRING_DESC_F_INDIRECT, 0}},
		 {{DATA, 1, VRING_DESC_F_NEXT, 1}, {DATA, 1, VRING_DESC_F_NEXT, 0}},
		 false},
	};
	struct virtq_chain c;
	const char *why;
	struct fix f;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		fix_open(&f, 8, !rows[i].no_indirect, false);
		memcpy(f.mem.host + DESC, rows[i].d, sizeof(rows[i].d));
		memcpy(f.mem.host + TABLE, rows[i].t, sizeof(rows[i].t));
		offer(&f, 0, rows[i].head);
		if (virtq_pop(&f.q, &f.mem, &c, &why) != -1)
			fail_msg("accepted: %s", rows[i].what);
		assert_non_null(why);
		fix_close(&f);
	}
	/* The available index runs away. */
	fix_open(&f, 8, true, false);
	((u16 *)(f.mem.host + AVAIL))[1] = 9;
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), -1);
	fix_close(&f);
	/* An indirect table longer than a chain may be. */
	fix_open(&f, 8, true, false);
	for (u16 i = 0; i < 300; i++)
		put_desc(&f, TABLE, i, DATA, 1, VRING_DESC_F_NEXT, (u16)(i + 1));
	put_desc(&f, DESC, 0, TABLE, 301 * 16, VRING_DESC_F_INDIRECT, 0);
	offer(&f, 0, 0);
	assert_int_equal(virtq_pop(&f.q, &f.mem, &c, &why), -1);
	fix_close(&f);
}

/* Any memory contents: every buffer handed out lies in RAM, and the walk ends. */
static void fuzz_one(const u8 *data, size_t len)
{
	struct virtq_chain c;
	const char *why;
	struct fix f;

	if (len < 4)
		return;
	fix_open(&f, (u16)(1 << (data[0] & 7)), data[1] & 1, data[1] & 2);
	for (size_t i = 0; i < len; i++) {
		f.mem.host[DESC + i % 0x400] ^= data[i];
		f.mem.host[AVAIL + i % 0x40] ^= data[len - 1 - i];
		f.mem.host[TABLE + i % 0x400] ^= (u8)(data[i] * 7);
	}
	for (unsigned n = 0; n < 300 && virtq_pop(&f.q, &f.mem, &c, &why) == 1; n++) {
		for (unsigned i = 0; i < c.nr_out + c.nr_in; i++) {
			u8 *p = c.iov[i].iov_base;

			assert_true(p >= f.mem.host && p + c.iov[i].iov_len <= f.mem.host + RAM);
		}
		virtq_push(&f.q, c.head, (u32)c.in_len);
		virtq_want_irq(&f.q);
	}
	fix_close(&f);
}

static void test_random(void **state)
{
	u8 data[2048];
	const char *env = getenv("VIRTQ_FUZZ_RUNS");
	unsigned runs = env ? (unsigned)strtoul(env, NULL, 0) : 2000;
	u64 x = 88172645463325252ull ^ (env ? (u64)time(NULL) : 0);

	print_message("# seed %llu\n", (unsigned long long)x);
	for (unsigned run = 0; run < runs; run++) {
		for (unsigned i = 0; i < sizeof(data); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/*
			 * Small numbers are the interesting ones: indexes, flags, high address
			 * bytes.
			 */
			data[i] = run & 1 ? (u8)(x >> 32) & 7 : (u8)(x >> 32);
			if ((i & 15) >= 3 && (i & 15) < 12)
				data[i] = 0;
		}
		fuzz_one(data, sizeof(data));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_enable),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_event_idx),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
