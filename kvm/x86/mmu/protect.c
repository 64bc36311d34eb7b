// SPDX-License-Identifier: MIT
/*
 * Dirty tracking in the tables: take W (or, with PML, D) from what is mapped so
 * that the next write is noticed; split large pages, as logging is by 4 KiB;
 * let them come back when it ends.
 */
#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"
#include "silicon/vmx.h"

/* A large page is caught by W in either mode: its first write splits it. */
static u64 bits_to_take(const struct tdp_ref *r)
{
	return r->mmu->pml && r->level == 1 ? SPTE_D : SPTE_W | SPTE_D;
}

/* Under either lock. True: was writable or dirty, a flush is owed. */
static bool protect(struct tdp_ref *r)
{
	u64 take;

	do {
		take = r->old & bits_to_take(r);
		if (!spte_leaf(r->old, r->level) || !take)
			return false;
	} while (!tdp_change(r, r->old & ~take));
	return true;
}

bool tdp_split(struct tdp_ref *r, struct tdp_table *child)
{
	u64 *e = tdp_entries(child), old = r->old, span = tdp_span(r->level - 1);

	BUG_ON(!spte_leaf(old, r->level) || r->level == 1);
	for (unsigned i = 0; i < TDP_ENTRIES; i++) {
		u64 v = old + i * (span << PAGE_SHIFT);

		e[i] = r->level == 2 ? v & ~SPTE_PS : v;
	}
	if (!tdp_change(r, tdp_table_spte(child))) {
		for (unsigned i = 0; i < TDP_ENTRIES; i++)
			e[i] = 0;
		return false;
	}
	atomic_fetch_add(&r->mmu->leaves[r->level - 1], TDP_ENTRIES);
	return true;
}

/* A table of one's own for a split; NULL when memory is short: then W alone does it. */
static bool split_here(struct tdp_ref *r)
{
	struct tdp_table *t = tdp_table_new(r->mmu, r->gfn, r->level - 1, r->as_id);

	if (!t)
		return false;
	while (spte_leaf(r->old, r->level))
		if (tdp_split(r, t))
			return true;
	tdp_table_free(t);
	return false;
}

/* Split large pages in [first, end) of a tree and take what makes its pages dirty unseen. */
static bool protect_range(struct tdp_table *root, u64 first, u64 end, bool flush)
{
	struct tdp_iter it;

	epoch_enter();
	tdp_for_each(&it, root, 1, first, end) {
		if (tdp_iter_yield(&it, flush, false)) {
			flush = false;
			continue;
		}
		if (!spte_leaf(it.e.old, it.e.level))
			continue;
		/* When it is a table now, the next step goes down into it. */
		if (it.e.level > 1 && split_here(&it.e))
			continue;
		if (protect(&it.e))
			flush = true;
	}
	epoch_exit();
	return flush;
}

void hv_mmu_log_start(struct hv_vm *vm, const struct hv_memslot *slot, bool all_dirty)
{
	struct hv_mmu *mmu = vm->mmu;
	struct tdp_table *r;
	bool flush = false;

	/*
	 * Faults under way looked at the slots under the shared lock: once it has been
	 * ours, they all know that the slot is logged.
	 */
	rwlock_write(&mmu->lock);
	rwlock_write_unlock(&mmu->lock);
	if (all_dirty)
		return;
	rwlock_read(&mmu->lock);
	for (r = tdp_next_root(mmu, NULL, slot->as_id); r; r = tdp_next_root(mmu, r, slot->as_id))
		flush = protect_range(r, slot->gfn, slot->gfn + slot->npages, flush);
	rwlock_read_unlock(&mmu->lock);
	if (flush)
		hv_flush_remote_tlbs(vm);
}

bool hv_mmu_log_protect(struct hv_vm *vm, const struct hv_memslot *slot, u64 first, u64 mask)
{
	struct hv_mmu *mmu = vm->mmu;
	struct tdp_table *root;
	bool flush = false;

	rwlock_read(&mmu->lock);
	for (root = tdp_next_root(mmu, NULL, slot->as_id); root;
	     root = tdp_next_root(mmu, root, slot->as_id)) {
		u64 base = slot->gfn + first;
		struct tdp_iter it;

		epoch_enter();
		tdp_for_each(&it, root, 1, base + (u64)__builtin_ctzll(mask), base + 64 - (u64)__builtin_clzll(mask)) {
			if (!spte_leaf(it.e.old, it.e.level))
				continue;
			/* With all pages dirty from the start large ones are met here first. */
			if (it.e.level > 1 && split_here(&it.e))
				continue;
			if (it.e.level > 1 || (mask >> (it.e.gfn - base) & 1))
				flush |= protect(&it.e);
		}
		epoch_exit();
	}
	rwlock_read_unlock(&mmu->lock);
	return flush;
}

void hv_mmu_log_stop(struct hv_vm *vm, const struct hv_memslot *slot)
{
	struct hv_mmu *mmu = vm->mmu;
	struct tdp_table *root;

	rwlock_read(&mmu->lock);
	for (root = tdp_next_root(mmu, NULL, slot->as_id); root;
	     root = tdp_next_root(mmu, root, slot->as_id)) {
		struct tdp_iter it;
		bool flush = false;

		epoch_enter();
		/* Tables that stand where a large page could: zapped, refilled by faults. */
		tdp_for_each(&it, root, 2, slot->gfn, slot->gfn + slot->npages) {
			if (tdp_iter_yield(&it, flush, false)) {
				flush = false;
				continue;
			}
			if (spte_table(it.e.old, it.e.level) && it.e.gfn >= slot->gfn &&
			    tdp_max_level(slot, it.e.gfn) >= it.e.level && tdp_zap(&it.e))
				flush = true;
		}
		if (flush)
			tdp_flush(mmu);
		epoch_exit();
	}
	rwlock_read_unlock(&mmu->lock);
}

/* ---- PML ---- */

#define PML_ENTRIES 512

void tdp_drain_pml(struct hv_vcpu *v, const u64 *buf, unsigned first)
{
	struct hv_memslots *s;

	epoch_enter();
	s = hv_slots(v->vm, v->mmu->as_id);
	for (unsigned i = first; i < PML_ENTRIES; i++) {
		u64 gfn = __atomic_load_n(&buf[i], __ATOMIC_RELAXED) >> PAGE_SHIFT;
		struct hv_memslot *slot = hv_slots_find(s, gfn);

		if (slot)
			hv_mark_dirty(v->vm, v, slot, gfn);
	}
	epoch_exit();
}

void hv_mmu_flush_pml(struct hv_vcpu *v)
{
	/* The index counts down and is the next entry to be written; full: 0xffff. */
	u64 index = x86_vmcs_get(v->cpu, VMCS_PML_INDEX);
	unsigned first = index >= PML_ENTRIES ? 0 : (unsigned)index + 1;

	if (first == PML_ENTRIES)
		return;
	tdp_drain_pml(v, (const u64 *)(x86_vmcs_get(v->cpu, VMCS_PML_ADDR) & PAGE_MASK), first);
	x86_vmcs_set(v->cpu, VMCS_PML_INDEX, PML_ENTRIES - 1);
}

void hv_mmu_log_sync(struct hv_vm *vm)
{
	/* Every exit drains the vCPU's buffer. */
	if (vm->mmu->pml)
		hv_request_all(vm, HV_REQ_EVENT, true);
}
