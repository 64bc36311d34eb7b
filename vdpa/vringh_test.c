// SPDX-License-Identifier: MIT
/*
 * Device-side rings against right and wrong drivers, through an IOTLB.
 */
#include "vdpa/sim/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa/sim/testdrv.h"
#include "vdpa/vringh.h"

#define NUM 8
#define RING 0x1000u
#define TABLE 0x3000u		/* indirect */
#define DATA 0x8000u
#define AT(off) (TD_IOVA + (off))
#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

struct fix {
	struct td_mem m;
	struct td_ring q;
	struct vdpa_iotlb *tlb;
	pthread_mutex_t lock;
	struct vringh v;
	struct dring_iov r, w;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vdpa_map map;

	td_mem_open(&f->m, 0x40000);
	td_ring_init(&f->q, &f->m, RING, NUM);
	f->tlb = vdpa_iotlb_new(0);
	map = td_map(&f->m, 0, f->m.size, VDPA_RW);
	assert_int_equal(vdpa_iotlb_add(f->tlb, &map), 0);
	pthread_mutex_init(&f->lock, NULL);
	vringh_init(&f->v, f->tlb, &f->lock);
	assert_int_equal(dring_setup(&f->v.ring, NUM, f->q.desc, f->q.avail, f->q.used, 0), 0);
	f->v.ring.indirect = true;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	dring_iov_free(&f->r);
	dring_iov_free(&f->w);
	vdpa_iotlb_free(f->tlb);
	td_mem_close(&f->m);
	free(f);
	return 0;
}

static int get(struct fix *f, u16 *head)
{
	return vringh_getdesc(&f->v, &f->r, &f->w, head);
}

static void remap(struct fix *f, const struct vdpa_map *map, unsigned n)
{
	vdpa_iotlb_del(f->tlb, 0, UINT64_MAX);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(vdpa_iotlb_add(f->tlb, &map[i]), 0);
}

static void test_setup_rows(void **state)
{
	static const struct { u32 num; u64 desc, avail, used; int err; } row[] = {
		{ 1, 0, 0, 0, 0 }, { 256, 16, 2, 4, 0 }, { 32768, 0, 0, 0, 0 },
		{ 0, 0, 0, 0, -EINVAL }, { 3, 0, 0, 0, -EINVAL }, { 65536, 0, 0, 0, -EINVAL },
		{ 8, 8, 0, 0, -EINVAL }, { 8, 0, 1, 0, -EINVAL }, { 8, 0, 0, 2, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct dring v = { 0 };

		assert_int_equal(dring_setup(&v, row[i].num, row[i].desc, row[i].avail, row[i].used, 7), row[i].err);
	}
}

struct desc { u16 i; u64 addr; u32 len; u16 flags, next; };

static void put_table(struct fix *f, unsigned i, u64 addr, u32 len, u16 flags, u16 next)
{
	struct vring_desc d = { .addr = addr, .len = len, .flags = flags, .next = next };

	memcpy(f->m.p + TABLE + 16 * i, &d, sizeof(d));
}

static void test_chain_rows(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *what;
		u16 head;
		struct desc d[4];
		int ret;
		unsigned nr, nw;
		bool no_r, no_w;
	} row[] = {
		{ "one readable", 3, { { 3, AT(DATA), 5, 0 } }, 1, 1, 0 },
		{ "one writable", 0, { { 0, AT(DATA), 5, W } }, 1, 0, 1 },
		{ "both", 7, { { 7, AT(DATA), 5, N, 0 }, { 0, AT(DATA), 9, W } }, 1, 1, 1 },
		{ "empty buffers", 0, { { 0, 0, 0, N, 1 }, { 1, 0, 0, W } }, 1, 1, 1 },
		{ "head beyond", 8, { { 0 } }, -EINVAL },
		{ "head far beyond", 0xffff, { { 0 } }, -EINVAL },
		{ "next beyond", 0, { { 0, AT(DATA), 1, N, 8 } }, -EINVAL },
		{ "loop to itself", 1, { { 1, AT(DATA), 1, N, 1 } }, -ELOOP },
		{ "loop of two", 1, { { 1, AT(DATA), 1, N, 2 }, { 2, AT(DATA), 1, N, 1 } }, -ELOOP },
		{ "readable after writable", 0, { { 0, AT(DATA), 1, W | N, 1 }, { 1, AT(DATA), 1, 0 } }, -EINVAL },
		{ "writable not expected", 0, { { 0, AT(DATA), 1, W } }, -EPROTO, .no_w = true },
		{ "readable not expected", 0, { { 0, AT(DATA), 1, 0 } }, -EPROTO, .no_r = true },
		{ "indirect", 0, { { 0, AT(TABLE), 32, I } }, 1, 1, 1 },
		{ "indirect, its write flag is ignored", 0, { { 0, AT(TABLE), 32, I | W } }, 1, 1, 1 },
		{ "direct, then indirect", 0, { { 0, AT(DATA), 4, N, 5 }, { 5, AT(TABLE), 32, I } }, 1, 2, 1 },
		{ "indirect with a next one", 0, { { 0, AT(TABLE), 32, I | N, 1 } }, -EINVAL },
		{ "indirect of no length", 0, { { 0, AT(TABLE), 0, I } }, -EINVAL },
		{ "indirect of odd length", 0, { { 0, AT(TABLE), 24, I } }, -EINVAL },
		{ "indirect cut short", 0, { { 0, AT(TABLE), 16, I } }, -EINVAL },
		{ "indirect not mapped", 0, { { 0, 0x10, 32, I } }, -EINVAL },
		{ "indirect that wraps", 0, { { 0, UINT64_MAX - 3, 32, I } }, -EINVAL },
		{ "indirect in indirect", 0, { { 0, AT(TABLE + 0x100), 16, I } }, -EINVAL },
		{ "indirect loop", 0, { { 0, AT(TABLE + 0x200), 16, I } }, -ELOOP },
	};

	put_table(f, 0, AT(DATA), 7, N, 1);
	put_table(f, 1, AT(DATA), 9, W, 0);
	put_table(f, 0x10, AT(TABLE), 32, I, 0);
	put_table(f, 0x20, AT(DATA), 1, N, 0);
	for (unsigned k = 0; k < ARRAY_SIZE(row); k++) {
		u16 head = 0xdead, before = f->v.ring.last_avail;
		int ret;

		for (unsigned i = 0; i < NUM; i++)
			td_desc(&f->q, i, 0, 0, 0, 0);
		for (unsigned i = 0; i < 4; i++)
			if (i == 0 || row[k].d[i].len)
				td_desc(&f->q, row[k].d[i].i, row[k].d[i].addr, row[k].d[i].len,
					row[k].d[i].flags, row[k].d[i].next);
		if (row[k].d[1].flags == W && !row[k].d[1].len)
			td_desc(&f->q, 1, 0, 0, W, 0);
		td_offer(&f->q, row[k].head);
		ret = vringh_getdesc(&f->v, row[k].no_r ? NULL : &f->r, row[k].no_w ? NULL : &f->w, &head);
		if (ret != row[k].ret)
			fail_msg("%s: %d, not %d", row[k].what, ret, row[k].ret);
		if (ret == 1) {
			assert_int_equal(head, row[k].head);
			assert_int_equal(f->r.used, row[k].nr);
			assert_int_equal(f->w.used, row[k].nw);
			assert_int_equal(get(f, &head), 0);
		} else {
			assert_int_equal(f->v.ring.last_avail, before);
			/* Again, with the same answer. Then step over it. */
			assert_int_equal(vringh_getdesc(&f->v, row[k].no_r ? NULL : &f->r,
							row[k].no_w ? NULL : &f->w, &head), ret);
			f->v.ring.last_avail++;
		}
	}
	td_desc(&f->q, 0, AT(TABLE), 32, I, 0);
	td_offer(&f->q, 0);
	f->v.ring.indirect = false;
	assert_int_equal(get(f, &(u16){ 0 }), -EINVAL);
}

static void test_longest_chain(void **state)
{
	struct fix *f = *state;
	u16 head;

	for (unsigned i = 0; i < NUM; i++)
		td_desc(&f->q, i, AT(DATA), 1, i + 1 < NUM ? N : 0, i + 1);
	td_offer(&f->q, 0);
	assert_int_equal(get(f, &head), 1);
	assert_int_equal(f->r.used, NUM);
	/* One more, in an indirect table. */
	td_desc(&f->q, NUM - 1, AT(TABLE), 32, I, 0);
	put_table(f, 0, AT(DATA), 7, N, 1);
	put_table(f, 1, AT(DATA), 9, W, 0);
	td_offer(&f->q, 0);
	assert_int_equal(get(f, &head), -ELOOP);
}

static void test_avail_index(void **state)
{
	struct fix *f = *state;
	u16 head, *avail = td_ptr(&f->m, f->q.avail);

	assert_int_equal(get(f, &head), 0);
	avail[1] = NUM + 1;
	assert_int_equal(get(f, &head), -EINVAL);
	avail[1] = 0xffff;
	assert_int_equal(get(f, &head), -EINVAL);
	avail[1] = NUM;
	assert_int_equal(get(f, &head), 1);
	/* Across the wrap of the index. */
	assert_int_equal(dring_setup(&f->v.ring, NUM, f->q.desc, f->q.avail, f->q.used, 0xfffe), 0);
	avail[1] = 2;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(get(f, &head), 1);
		assert_int_equal(vringh_complete(&f->v, head, i), 0);
	}
	assert_int_equal(get(f, &head), 0);
	assert_int_equal(td_used_idx(&f->q), 2);
}

static void test_mapping_errors(void **state)
{
	struct fix *f = *state;
	struct vdpa_map gap[] = { td_map(&f->m, 0, RING, VDPA_RW), td_map(&f->m, DATA, 0x1000, VDPA_RW) };
	struct vdpa_map wo = td_map(&f->m, 0, f->m.size, VDPA_WO), ro = td_map(&f->m, 0, f->m.size, VDPA_RO);
	/* The index of the available ring lies in two entries. */
	u64 split = f->q.avail - TD_IOVA + 3;
	struct vdpa_map cut[] = {
		td_map(&f->m, 0, split, VDPA_RW), td_map(&f->m, split, f->m.size - split, VDPA_RW),
	};
	/* A descriptor in two entries is fetched all the same. */
	struct vdpa_map halves[] = {
		td_map(&f->m, 0, RING + 7, VDPA_RW), td_map(&f->m, RING + 7, f->m.size - RING - 7, VDPA_RW),
	};
	struct vdpa_map nothing = { .start = 0, .last = UINT64_MAX, .perm = VDPA_RW };
	u16 head;

	td_desc(&f->q, 0, AT(DATA), 4, 0, 0);
	td_offer(&f->q, 0);
	remap(f, gap, 2);
	assert_int_equal(get(f, &head), -EINVAL);
	remap(f, &wo, 1);
	assert_int_equal(get(f, &head), -EPERM);
	remap(f, cut, 2);
	assert_int_equal(get(f, &head), -ENOBUFS);
	remap(f, &nothing, 1);
	assert_int_equal(get(f, &head), -EINVAL);
	remap(f, halves, 2);
	assert_int_equal(get(f, &head), 1);
	remap(f, &ro, 1);
	assert_int_equal(vringh_complete(&f->v, head, 0), -EPERM);
	assert_int_equal(vringh_notify_enable(&f->v), -EPERM);
	assert_int_equal(f->v.ring.last_used, 0);
	assert_int_equal(td_used_idx(&f->q), 0);
	/* The entry is longer than the memory behind it. */
	ro.last += 0x1000;
	ro.off += 0x40000 - RING;
	remap(f, &ro, 1);
	assert_int_equal(get(f, &head), -EFAULT);
}

static void test_copy_errors(void **state)
{
	struct fix *f = *state;
	struct td_buf buf[] = { { AT(DATA), 8 }, { 0x10, 8 }, { AT(DATA), 8 }, { UINT64_MAX - 3, 8 } };
	struct vdpa_map maps[] = {
		td_map(&f->m, 0, DATA, VDPA_RW), td_map(&f->m, DATA, 0x1000, VDPA_WO),
		td_map(&f->m, DATA + 0x1000, 0x1000, VDPA_RO),
	};
	u8 data[32];
	u16 head;

	td_add(&f->q, buf, 2, 2);
	assert_int_equal(get(f, &head), 1);
	assert_int_equal(vringh_pull(&f->v, &f->r, data, 16), -EINVAL);
	assert_int_equal(vringh_push(&f->v, &f->w, data, 16), -EINVAL);
	/* What was copied before the error is behind us. */
	assert_int_equal(f->r.i, 1);
	assert_int_equal(dring_iov_length(&f->w), 8);

	td_add(&f->q, (struct td_buf[]){ { AT(DATA), 8 }, { AT(DATA + 0x1000), 8 } }, 1, 1);
	remap(f, maps, 3);
	assert_int_equal(get(f, &head), 1);
	assert_int_equal(vringh_pull(&f->v, &f->r, data, 1), -EPERM);
	assert_int_equal(vringh_push(&f->v, &f->w, data, 1), -EPERM);
}

/* G.D 5: advance over entry borders, length, reset, and getdesc after a half consumed list. */
static void test_iov_position(void **state)
{
	struct fix *f = *state;
	struct td_buf buf[] = {
		{ AT(DATA), 3 }, { AT(DATA + 0x100), 0 }, { AT(DATA + 0x200), 5 }, { AT(DATA + 0x300), 2 },
		{ AT(DATA + 0x400), 4 }, { AT(DATA + 0x500), 6 },
	};
	struct dring_seg *array;
	u8 data[16];
	u16 head;

	memcpy(f->m.p + DATA, "abc", 3);
	memcpy(f->m.p + DATA + 0x200, "defgh", 5);
	memcpy(f->m.p + DATA + 0x300, "ij", 2);
	td_add(&f->q, buf, 4, 2);
	assert_int_equal(get(f, &head), 1);
	assert_int_equal(dring_iov_length(&f->r), 10);
	assert_int_equal(dring_iov_length(&f->w), 10);

	assert_int_equal(vringh_pull(&f->v, &f->r, data, 2), 2);
	assert_memory_equal(data, "ab", 2);
	assert_int_equal(dring_iov_length(&f->r), 8);
	assert_int_equal(dring_iov_advance(&f->r, 3), 3);
	assert_int_equal(f->r.i, 2);
	assert_int_equal(f->r.consumed, 2);
	assert_int_equal(dring_iov_length(&f->r), 5);
	/* To the border exactly: the next entry is current. */
	assert_int_equal(dring_iov_advance(&f->r, 3), 3);
	assert_int_equal(f->r.i, 3);
	assert_int_equal(f->r.consumed, 0);
	assert_int_equal(vringh_pull(&f->v, &f->r, data, 16), 2);
	assert_memory_equal(data, "ij", 2);
	assert_int_equal(dring_iov_length(&f->r), 0);
	assert_int_equal(dring_iov_advance(&f->r, 1), 0);
	assert_int_equal(vringh_pull(&f->v, &f->r, data, 1), 0);

	dring_iov_rewind(&f->r);
	assert_int_equal(dring_iov_length(&f->r), 10);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(f->r.seg[i].addr == buf[i].iova);
		assert_int_equal(f->r.seg[i].len, buf[i].len);
	}
	assert_int_equal(vringh_pull(&f->v, &f->r, data, 16), 10);
	assert_memory_equal(data, "abcdefghij", 10);

	/* Half consumed: a new chain starts at its own first byte, in the same array. */
	assert_int_equal(dring_iov_advance(&f->w, 1), 1);
	dring_iov_rewind(&f->r);
	assert_int_equal(dring_iov_advance(&f->r, 1), 1);
	array = f->r.seg;
	td_add(&f->q, buf, 1, 1);
	assert_int_equal(get(f, &head), 1);
	assert_ptr_equal(f->r.seg, array);
	assert_int_equal(f->r.consumed, 0);
	assert_int_equal(f->w.consumed, 0);
	assert_int_equal(dring_iov_length(&f->r), 3);
	assert_int_equal(vringh_push(&f->v, &f->w, "xyz", 3), 0);
	assert_int_equal(get(f, &head), 0);
	assert_int_equal(f->r.used, 0);
}

static void test_array_grows(void **state)
{
	struct fix *f = *state;
	u16 head;

	td_desc(&f->q, 0, AT(DATA), 16 * 40, I, 0);
	for (unsigned i = 0; i < 40; i++) {
		struct vring_desc d = { .addr = AT(i), .len = 1, .flags = i < 39 ? N : 0, .next = i + 1 };

		memcpy(f->m.p + DATA + 16 * i, &d, sizeof(d));
	}
	td_ring_init(&f->q, &f->m, 0x10000, 64);
	assert_int_equal(dring_setup(&f->v.ring, 64, f->q.desc, f->q.avail, f->q.used, 0), 0);
	td_desc(&f->q, 0, AT(DATA), 16 * 40, I, 0);
	td_offer(&f->q, 0);
	assert_int_equal(get(f, &head), 1);
	assert_int_equal(f->r.used, 40);
	assert_true(f->r.seg[39].addr == AT(39));
}

static void complete(struct fix *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(vringh_complete(&f->v, i % NUM, i), 0);
}

static void test_notify_flags(void **state)
{
	struct fix *f = *state;
	u16 *avail = td_ptr(&f->m, f->q.avail), *used = td_ptr(&f->m, f->q.used);
	u32 id, len;

	assert_int_equal(vringh_need_notify(&f->v), 0);
	complete(f, 2);
	assert_int_equal(vringh_need_notify(&f->v), 1);
	assert_int_equal(vringh_need_notify(&f->v), 0);
	assert_true(td_used(&f->q, &id, &len) && id == 0 && len == 0);
	assert_true(td_used(&f->q, &id, &len) && id == 1 && len == 1);
	assert_false(td_used(&f->q, &id, &len));
	avail[0] = VRING_AVAIL_F_NO_INTERRUPT;
	complete(f, 1);
	assert_int_equal(vringh_need_notify(&f->v), 0);

	vringh_notify_disable(&f->v);
	assert_int_equal(used[0], VRING_USED_F_NO_NOTIFY);
	assert_int_equal(vringh_notify_enable(&f->v), 0);
	assert_int_equal(used[0], 0);
	td_add(&f->q, &(struct td_buf){ AT(DATA), 1 }, 1, 0);
	assert_int_equal(vringh_notify_enable(&f->v), 1);
}

/* VIRTIO 1.1 "Used Buffer Notification Suppression": event reached by the batch just completed. */
static void test_notify_event_idx(void **state)
{
	struct fix *f = *state;
	static const struct { u16 start, event; unsigned n; int notify; } row[] = {
		{ 0, 0, 1, 1 }, { 0, 1, 1, 0 }, { 0, 1, 2, 1 }, { 0, 4, 5, 1 }, { 0, 5, 5, 0 },
		{ 5, 4, 3, 0 }, { 5, 5, 3, 1 }, { 5, 7, 3, 1 }, { 5, 8, 3, 0 },
		{ 0xfffe, 0xffff, 4, 1 }, { 0xfffe, 1, 4, 1 }, { 0xfffe, 2, 4, 0 }, { 0xfffe, 0xfffd, 4, 0 },
	};

	f->v.ring.event_idx = true;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		assert_int_equal(dring_setup(&f->v.ring, NUM, f->q.desc, f->q.avail, f->q.used, row[i].start), 0);
		td_set_used_event(&f->q, row[i].event);
		complete(f, row[i].n);
		if (vringh_need_notify(&f->v) != row[i].notify)
			fail_msg("row %u", i);
	}
	/* Kicks: the driver's event index follows what was taken. */
	td_ring_reset(&f->q, 0);
	assert_int_equal(dring_setup(&f->v.ring, NUM, f->q.desc, f->q.avail, f->q.used, 0), 0);
	vringh_notify_disable(&f->v);
	assert_int_equal(((u16 *)td_ptr(&f->m, f->q.used))[0], 0);
	td_add(&f->q, &(struct td_buf){ AT(DATA), 1 }, 1, 0);
	assert_int_equal(vringh_notify_enable(&f->v), 1);
	assert_int_equal(get(f, &(u16){ 0 }), 1);
	assert_int_equal(vringh_notify_enable(&f->v), 0);
	assert_int_equal(td_avail_event(&f->q), 1);
}

/* Any bytes as rings: an answer, and no access outside. */
static void test_random_rings(void **state)
{
	struct fix *f = *state;
	unsigned seed = 1, got = 0;
	u8 data[64];

	for (unsigned round = 0; round < 20000; round++) {
		u16 head, *avail = td_ptr(&f->m, f->q.avail);

		for (unsigned i = 0; i < NUM; i++)
			td_desc(&f->q, i, rand_r(&seed) % 3 ? AT(rand_r(&seed) % 0x48000) : (u64)rand_r(&seed) << 40,
				rand_r(&seed) % 5 ? (u32)rand_r(&seed) % 64 : (u32)rand_r(&seed),
				rand_r(&seed) % 4 | (rand_r(&seed) % 6 ? 0 : I), rand_r(&seed) % (NUM + 1));
		avail[1] = f->v.ring.last_avail + rand_r(&seed) % 3;
		for (unsigned i = 0; i < NUM; i++)
			avail[2 + i] = rand_r(&seed) % (NUM + 1);
		f->v.ring.event_idx = rand_r(&seed) & 1;
		if (get(f, &head) == 1) {
			ssize_t n = vringh_pull(&f->v, &f->r, data, sizeof(data));

			assert_true(n <= (ssize_t)sizeof(data));
			/* Data in the ring's own place would be a driver's fault that is no test of ours. */
			if (dring_iov_length(&f->w) && f->w.seg[0].addr > AT(DATA))
				n = vringh_push(&f->v, &f->w, data, sizeof(data));
			got++;
			if (vringh_complete(&f->v, head, 0))
				fail();
			assert_in_range(vringh_need_notify(&f->v), 0, 1);
		}
	}
	assert_true(got > 100);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_setup_rows),
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(test_chain_rows), T(test_longest_chain), T(test_avail_index), T(test_mapping_errors),
		T(test_copy_errors), T(test_array_grows), T(test_notify_flags), T(test_notify_event_idx),
		T(test_random_rings),
		{ "G.D 5: iov advance, length, rewind, reuse", test_iov_position, setup, teardown, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
