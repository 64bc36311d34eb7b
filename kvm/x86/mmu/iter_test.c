// SPDX-License-Identifier: MIT
/*
 * The iterator against a model: random sparse trees, ranges that begin and end
 * anywhere, every minimum level, a yield forced at every possible step, and
 * tables that appear and vanish between steps.
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
#include <string.h>

#include "kvm/x86/mmu/mmu_fake.h"

#define LEAF (SPTE_R | SPTE_PRESENT)

static struct hv_vm *vm;
static struct hv_mmu *mmu;
static struct tdp_table *root;

static int setup(void **state)
{
	vm = fake_vm_new();
	mmu = vm->mmu;
	fake_vcpu_new(vm);
	hv_mmu_load(hv_vcpu_by_idx(vm, 0), 0);
	root = hv_vcpu_by_idx(vm, 0)->mmu->root;
	rwlock_write(&mmu->lock);
	return 0;
}

static int teardown(void **state)
{
	rwlock_write_unlock(&mmu->lock);
	fake_vm_free(vm);
	return 0;
}

/* Put a leaf of @level at @gfn, with tables above it. */
static void put_leaf(u64 gfn, int level)
{
	struct tdp_iter it;

	epoch_enter();
	tdp_for_each(&it, root, level, gfn, gfn + 1) {
		if (it.e.level > level) {
			if (!spte_present(it.e.old)) {
				struct tdp_table *t = tdp_table_new(mmu, it.e.gfn, it.e.level - 1, 0);

				assert_true(tdp_change(&it.e, tdp_table_spte(t)));
			}
		} else if (!spte_present(it.e.old)) {
			assert_true(tdp_change(&it.e, LEAF | (level > 1 ? SPTE_PS : 0)));
		}
	}
	epoch_exit();
}

struct seen {
	u64 gfn;
	int level;
	bool present;
};
static struct seen want[200000], got[200000];
static unsigned nr_want, nr_got;

/* The model: recursion over the same tables. */
static void model(const u64 *table, u64 base, int level, int min_level, u64 first, u64 end)
{
	for (unsigned i = 0; i < TDP_ENTRIES && first < end; i++) {
		u64 gfn = base + i * tdp_span(level);

		if (gfn + tdp_span(level) <= first || gfn >= end)
			continue;
		want[nr_want++] = (struct seen){ gfn, level, spte_present(table[i]) };
		if (level > min_level && spte_table(table[i], level))
			model((u64 *)(table[i] & SPTE_ADDR), gfn, level - 1, min_level, first, end);
	}
}

static void compare(void)
{
	assert_int_equal(nr_got, nr_want);
	for (unsigned i = 0; i < nr_got; i++) {
		assert_int_equal(got[i].gfn, want[i].gfn);
		assert_int_equal(got[i].level, want[i].level);
		assert_int_equal(got[i].present, want[i].present);
	}
}

static void collect(int min_level, u64 first, u64 end)
{
	struct tdp_iter it;

	nr_got = nr_want = 0;
	epoch_enter();
	tdp_for_each(&it, root, min_level, first, end)
		got[nr_got++] = (struct seen){ it.e.gfn, it.e.level, spte_present(it.e.old) };
	epoch_exit();
	model(tdp_entries(root), 0, TDP_LEVELS, min_level, first, end);
	compare();
}

static u64 random_gfn(void)
{
	/* Near each other, and at the borders of tables. */
	static const u64 base[] = { 0, 511, 512, 1023, 1ull << 18, (1ull << 18) - 1, 1ull << 27, (1ull << 27) - 3 };

	return base[(unsigned)rand() % ARRAY_SIZE(base)] + (unsigned)rand() % 5;
}

static void grow_tree(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_leaf(random_gfn(), rand() % 4 ? 1 : 2);
}

static void test_ranges(void **state)
{
	srand(1);
	grow_tree(60);
	for (unsigned i = 0; i < 300; i++) {
		u64 first = random_gfn(), end = first + (unsigned)rand() % 1500;

		for (int level = 1; level <= TDP_LEVELS; level++)
			collect(level, first, end);
	}
	collect(1, 0, 1ull << 28);
	collect(1, 5, 5);		/* empty */
	collect(1, 511, 512);
	collect(1, (1ull << 36) - 1, ~0ull);	/* the end of all that four levels map */
	epoch_enter();
	{
		struct tdp_iter it;

		tdp_iter_start(&it, root, 1, 1ull << 36, ~0ull);
		assert_false(it.valid);
	}
	epoch_exit();
}

/* Somebody who always wants the lock. */
static _Atomic bool stop;
static _Atomic u64 got_lock;

static void *contender(void *arg)
{
	while (!atomic_load(&stop)) {
		rwlock_write(&mmu->lock);
		atomic_fetch_add(&got_lock, 1);
		rwlock_write_unlock(&mmu->lock);
	}
	return NULL;
}

/* A step at which a yield happens shows nothing and loses nothing. */
static void test_yield(void **state)
{
	pthread_t t;
	unsigned yields = 0;

	srand(2);
	grow_tree(40);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&t, NULL, contender, NULL), 0);
	for (unsigned round = 0; round < 8; round++) {
		struct tdp_iter it;
		u64 last_gfn = 0;
		unsigned leaves = 0, expected = 0;

		epoch_enter();
		tdp_for_each(&it, root, 1, 0, 1ull << 28) {
			/* At every leaf, and elsewhere as it comes. */
			while (spte_leaf(it.e.old, it.e.level) && !rwlock_contended(&mmu->lock))
				sched_yield();
			if (tdp_iter_yield(&it, false, true)) {
				yields++;
				continue;
			}
			if (!spte_leaf(it.e.old, it.e.level))
				continue;
			/* Each leaf once, in order. */
			assert_true(!leaves || it.e.gfn > last_gfn);
			last_gfn = it.e.gfn;
			leaves++;
		}
		epoch_exit();
		for (int level = 1; level <= TDP_LEVELS; level++)
			expected += (unsigned)atomic_load(&mmu->leaves[level]);
		assert_int_equal(leaves, expected);
	}
	atomic_store(&stop, true);
	/* It may be waiting for the lock that we hold. */
	rwlock_write_unlock(&mmu->lock);
	pthread_join(t, NULL);
	rwlock_write(&mmu->lock);
	assert_true(yields > 20);
	assert_true(atomic_load(&got_lock) >= yields / 2);
}

/* No progress, no second yield: two walks cannot give way to each other for ever. */
static void test_progress(void **state)
{
	pthread_t t;
	struct tdp_iter it;
	bool first;

	put_leaf(0, 1);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&t, NULL, contender, NULL), 0);
	while (!rwlock_contended(&mmu->lock))
		sched_yield();
	epoch_enter();
	tdp_iter_start(&it, root, 1, 0, 1);
	first = tdp_iter_yield(&it, false, true);
	assert_true(first);
	for (tdp_iter_next(&it); it.valid; tdp_iter_next(&it)) {
		while (!rwlock_contended(&mmu->lock))
			sched_yield();
		assert_false(tdp_iter_yield(&it, false, true));
	}
	epoch_exit();
	atomic_store(&stop, true);
	rwlock_write_unlock(&mmu->lock);
	pthread_join(t, NULL);
	rwlock_write(&mmu->lock);
}

/* What is flushed before a yield is what is owed, and only then. */
static void test_flush_before_yield(void **state)
{
	pthread_t t;
	struct tdp_iter it;
	u64 before;

	put_leaf(0, 1);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&t, NULL, contender, NULL), 0);
	for (unsigned flush = 0; flush < 2; flush++) {
		while (!rwlock_contended(&mmu->lock))
			sched_yield();
		epoch_enter();
		tdp_iter_start(&it, root, 1, 0, 1);
		before = atomic_load(&fake_flushes);
		assert_true(tdp_iter_yield(&it, flush, true));
		assert_int_equal(atomic_load(&fake_flushes), before + flush);
		epoch_exit();
	}
	atomic_store(&stop, true);
	rwlock_write_unlock(&mmu->lock);
	pthread_join(t, NULL);
	rwlock_write(&mmu->lock);
}

/* The tree changes between steps: a table that went is not entered, a new one is. */
static void test_changes(void **state)
{
	struct tdp_iter it;
	unsigned below = 0;

	put_leaf(0, 1);
	put_leaf(600, 1);
	epoch_enter();
	tdp_for_each(&it, root, 1, 0, 1024) {
		if (it.e.level == 2 && it.e.gfn == 0)
			/* Behind the iterator's back. */
			assert_true(tdp_zap(&(struct tdp_ref){ mmu, it.e.ptr, it.e.old, 0, 2, 0 }));
		if (it.e.level == 1) {
			assert_true(it.e.gfn >= 512);
			below++;
		}
	}
	assert_int_equal(below, 512);
	below = 0;
	tdp_for_each(&it, root, 1, 0, 1024) {
		if (it.e.level == 2 && it.e.gfn == 0 && !below)
			put_leaf(3, 1);
		below += it.e.level == 1;
	}
	assert_int_equal(below, 1024);
	epoch_exit();
}

/* Zapped ranges: only what lies in them goes; large pages and tables by the rules. */
static void test_zap(void **state)
{
	static const struct { u64 first, end; unsigned left; } rows[] = {
		{ 0, 1, 5 }, { 0, 512, 4 }, { 1, 600, 4 }, { 1024, 1025, 5 }, { 0, 1ull << 36, 0 }, { 700, 1000, 6 },
	};
	static const struct { u64 gfn; int level; } leaves[] = {
		{ 0, 1 }, { 5, 1 }, { 512, 1 }, { 1024, 2 }, { 1ull << 18, 1 }, { 1ull << 27, 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned left = 0;

		for (unsigned l = 0; l < ARRAY_SIZE(leaves); l++)
			put_leaf(leaves[l].gfn, leaves[l].level);
		tdp_zap_range(root, rows[i].first, rows[i].end);
		for (int level = 1; level <= TDP_LEVELS; level++)
			left += (unsigned)atomic_load(&mmu->leaves[level]);
		if (left != rows[i].left)
			fail_msg("row %u: %u left", i, left);
	}
}

/* What is zapped is what is there, not what was seen: hardware may have set a flag meanwhile. */
static void test_zap_changed(void **state)
{
	struct tdp_iter it;

	put_leaf(7, 1);
	epoch_enter();
	tdp_for_each(&it, root, 1, 7, 8) {
		if (it.e.level > 1)
			continue;
		__atomic_fetch_or(it.e.ptr, SPTE_A | SPTE_D, __ATOMIC_SEQ_CST);
		assert_true(tdp_zap(&it.e));
		assert_int_equal(tdp_read(it.e.ptr), 0);
		assert_false(tdp_zap(&it.e));
		/* Frozen: somebody else's. */
		__atomic_store_n(it.e.ptr, SPTE_FROZEN, __ATOMIC_SEQ_CST);
		assert_false(tdp_zap(&it.e));
		assert_int_equal(tdp_read(it.e.ptr), SPTE_FROZEN);
		__atomic_store_n(it.e.ptr, 0, __ATOMIC_SEQ_CST);
	}
	epoch_exit();
	assert_int_equal(atomic_load(&mmu->leaves[1]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(test_ranges), T(test_yield), T(test_progress), T(test_flush_before_yield), T(test_changes),
		T(test_zap), T(test_zap_changed),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
