// SPDX-License-Identifier: MIT
/*
 * Changes of single entries and what follows from them. Both lock modes use
 * the same exchange: under the exclusive lock hardware and the fast path still
 * change what is present.
 *
 * Taking a table apart: its entry is already gone from the parent, so nobody
 * new gets in; but readers that are in may still link pages under it. Each of
 * its entries is exchanged with FROZEN, which they never replace, until what
 * comes out is not FROZEN itself: then it is ours alone.
 */
#include <sched.h>

#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"

static void changed(struct hv_mmu *mmu, unsigned as_id, u64 gfn, u64 old, u64 new, int level);

static void take_apart(struct hv_mmu *mmu, unsigned as_id, struct tdp_table *t)
{
	u64 *e = tdp_entries(t);

	for (unsigned i = 0; i < TDP_ENTRIES; i++) {
		u64 old;

		while ((old = __atomic_exchange_n(&e[i], SPTE_FROZEN, __ATOMIC_SEQ_CST)) == SPTE_FROZEN)
			sched_yield();
		changed(mmu, as_id, t->gfn + i * tdp_span(t->level), old, SPTE_FROZEN, t->level);
	}
	atomic_fetch_sub(&mmu->tables, 1);
	tdp_table_defer_free(t);
}

/* Exactly once per successful change. */
static void changed(struct hv_mmu *mmu, unsigned as_id, u64 gfn, u64 old, u64 new, int level)
{
	bool was_leaf = spte_leaf(old, level), is_leaf = spte_leaf(new, level);

	/* A page moves by way of not present: else a stale translation outlives the flush of the old one. */
	BUG_ON(was_leaf && is_leaf && ((old ^ new) & SPTE_ADDR));
	if (was_leaf && !is_leaf)
		atomic_fetch_sub(&mmu->leaves[level], 1);
	if (!was_leaf && is_leaf)
		atomic_fetch_add(&mmu->leaves[level], 1);
	if (spte_table(new, level) && !spte_table(old, level))
		atomic_fetch_add(&mmu->tables, 1);
	if (spte_table(old, level) && !spte_table(new, level))
		take_apart(mmu, as_id, tdp_table_of(old));
}

bool tdp_change(struct tdp_ref *r, u64 new)
{
	u64 old = r->old;

	BUG_ON(old == SPTE_FROZEN);
	if (!__atomic_compare_exchange_n(r->ptr, &r->old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	r->old = new;
	changed(r->mmu, r->as_id, r->gfn, old, new, r->level);
	return true;
}

bool tdp_zap(struct tdp_ref *r)
{
	u64 old;

	do {
		old = r->old;
		if (!old || old == SPTE_FROZEN)
			return false;
	} while (!tdp_change(r, 0));
	return spte_present(old);
}
