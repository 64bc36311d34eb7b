// SPDX-License-Identifier: MIT
/* Removal of mappings: of a range, of whole trees. */
#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"

/*
 * Whole tables go at once up to this level, so a zap is bounded by one 1 GiB
 * table between two chances to give way.
 */
#define ZAP_LEVEL 3

void tdp_zap_range(struct tdp_table *root, u64 first, u64 end)
{
	struct tdp_iter it;
	bool flush = false;

	BUG_ON(!rwlock_write_held(&root->mmu->lock));
	epoch_enter();
	tdp_for_each(&it, root, 1, first, end) {
		if (tdp_iter_yield(&it, flush, true)) {
			flush = false;
			continue;
		}
		if (spte_table(it.e.old, it.e.level) &&
		    (it.e.level > ZAP_LEVEL || it.e.gfn < first || it.e.gfn + tdp_span(it.e.level) > end))
			continue;
		/* A large page that only overlaps goes as a whole; the rest comes back by faults. */
		if (tdp_zap(&it.e))
			flush = true;
	}
	if (flush)
		tdp_flush(root->mmu);
	epoch_exit();
}

void tdp_zap_root(struct tdp_table *root)
{
	BUG_ON(!atomic_load(&root->invalid));
	/* First what is below 1 GiB entries, giving way in between; then the little that is left. */
	for (int level = ZAP_LEVEL; level <= TDP_LEVELS; level++) {
		struct tdp_iter it;
		bool flush = false;

		epoch_enter();
		tdp_for_each(&it, root, level, 0, tdp_span(TDP_LEVELS + 1)) {
			if (tdp_iter_yield(&it, flush, false)) {
				flush = false;
				continue;
			}
			if (it.e.level != level)
				continue;
			if (tdp_zap(&it.e))
				flush = true;
		}
		if (flush)
			tdp_flush(root->mmu);
		epoch_exit();
	}
}
