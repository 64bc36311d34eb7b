// SPDX-License-Identifier: MIT
/* The iterator over entries of a tree, and how long walks give way to others. */
#include <sched.h>

#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"

static void look(struct tdp_iter *it)
{
	unsigned i = it->e.gfn / tdp_span(it->e.level) % TDP_ENTRIES;

	it->e.ptr = &it->table[it->e.level][i];
	it->e.old = tdp_read(it->e.ptr);
}

static void restart(struct tdp_iter *it)
{
	it->e.level = TDP_LEVELS;
	it->e.gfn = round_down(it->next, tdp_span(TDP_LEVELS));
	it->table[TDP_LEVELS] = tdp_entries(it->root);
	it->yielded = false;
	look(it);
}

void tdp_iter_start(struct tdp_iter *it, struct tdp_table *root, int min_level, u64 first, u64 end)
{
	BUG_ON(!epoch_held());
	/* What a four-level tree cannot map is in no tree. */
	end = min(end, tdp_span(TDP_LEVELS + 1));
	*it = (struct tdp_iter){
		.e = { .mmu = root->mmu, .as_id = root->as_id },
		.root = root, .next = first, .end = end, .yielded_at = ~0ull, .min_level = min_level,
		.valid = first < end,
	};
	if (it->valid)
		restart(it);
}

static bool step_down(struct tdp_iter *it)
{
	if (it->e.level == it->min_level)
		return false;
	/* It may have become a table since it was looked at, or be none any more. */
	it->e.old = tdp_read(it->e.ptr);
	if (!spte_table(it->e.old, it->e.level))
		return false;
	it->e.level--;
	it->table[it->e.level] = (u64 *)(it->e.old & SPTE_ADDR);
	it->e.gfn = round_down(max(it->next, it->e.gfn), tdp_span(it->e.level));
	look(it);
	return true;
}

void tdp_iter_next(struct tdp_iter *it)
{
	BUG_ON(!epoch_held());
	if (it->yielded) {
		restart(it);
		return;
	}
	if (step_down(it))
		return;
	it->next = it->e.gfn + tdp_span(it->e.level);
	if (it->next >= it->end) {
		it->valid = false;
		return;
	}
	/* Sideways, from as far up as this one was the last of its table. */
	while (it->e.level < TDP_LEVELS && is_aligned(it->next, tdp_span(it->e.level + 1)))
		it->e.level++;
	it->e.gfn = it->next;
	look(it);
}

bool tdp_iter_yield(struct tdp_iter *it, bool flush, bool exclusive)
{
	struct hv_mmu *mmu = it->e.mmu;

	/* Without progress two walks could give way to each other for ever. */
	if (it->next == it->yielded_at || !rwlock_contended(&mmu->lock))
		return false;
	/* Inside the section: it keeps the tables that went from being used again. */
	if (flush)
		tdp_flush(mmu);
	epoch_exit();
	if (exclusive) {
		rwlock_write_unlock(&mmu->lock);
		sched_yield();
		rwlock_write(&mmu->lock);
	} else {
		rwlock_read_unlock(&mmu->lock);
		sched_yield();
		rwlock_read(&mmu->lock);
	}
	epoch_enter();
	it->yielded_at = it->next;
	it->yielded = true;
	return true;
}
