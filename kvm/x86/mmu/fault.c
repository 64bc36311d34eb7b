// SPDX-License-Identifier: MIT
/*
 * EPT violations: find the memory, make it present in this process, map it.
 * And the entries that stand for "no memory here": MMIO.
 *
 * Host pages come and go by themselves behind an address that stays the same,
 * so a mapping needs no reference on them. Making the page present first only
 * serves to find out, at the place where KVM would, that there is none. Of a
 * large page only the 4 KiB that faulted are touched: guest memory stays as
 * sparse as the guest uses it; a hole elsewhere in it is met as a bus error.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define QUAL_READ BIT(0)
#define QUAL_WRITE BIT(1)
#define QUAL_FETCH BIT(2)

struct fault {
	struct hv_vcpu *v;
	struct hv_mmu *mmu;
	struct hv_memslot slot;		/* as it was looked up */
	u64 gfn, seq, generation;
	bool write, fetch;
	int goal;			/* level of the leaf */
	bool changed;			/* this fault made the page accessible */
	bool mapped_table;		/* a table was replaced by a leaf: flush */
};

/* ---- Host memory ---- */

static int touch(u64 hva, bool write)
{
	u8 b, old;

	if (x86_phys_read(SPA(hva), &b, 1))
		return -EFAULT;
	old = b;
	return write && x86_phys_cmpxchg(SPA(hva), &old, &b, 1) < 0 ? -EFAULT : 0;
}

static int make_present(u64 hva, bool write)
{
	for (;;) {
		if (!madvise((void *)hva, PAGE_SIZE, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
			return 0;
		if (errno == EINTR || errno == EAGAIN)
			continue;
		/* An old kernel, or a mapping of device memory. */
		return errno == EINVAL ? touch(hva, write) : -EFAULT;
	}
}

int tdp_max_level(const struct hv_memslot *slot, u64 gfn)
{
	int level = 3;

	for (; level > 1; level--) {
		u64 span = tdp_span(level), first = round_down(gfn, span);

		if (((slot->hva >> PAGE_SHIFT) ^ slot->gfn) & (span - 1))
			continue;
		if (first >= slot->gfn && first + span <= slot->gfn + slot->npages)
			break;
	}
	return level;
}

/* ---- Entries ---- */

u64 tdp_table_spte(const struct tdp_table *child)
{
	return (u64)tdp_entries(child) | SPTE_R | SPTE_W | SPTE_X | SPTE_A | SPTE_PRESENT;
}

static u64 leaf_spte(const struct fault *f, int level)
{
	u64 e = SPTE_R | SPTE_X | SPTE_WB | SPTE_IPAT | SPTE_A | SPTE_PRESENT;

	e |= hv_slot_hva(&f->slot, round_down(f->gfn, tdp_span(level)));
	if (level > 1)
		e |= SPTE_PS;
	if (f->slot.flags & KVM_MEM_READONLY)
		return e;
	e |= SPTE_MMU_W;
	/* A logged page becomes writable when it is written, by W or by leaving D to hardware. */
	if (!hv_slot_logged(&f->slot) || f->write)
		e |= SPTE_W | SPTE_D;
	else if (f->mmu->pml)
		e |= SPTE_W;
	return e;
}

/* Does a leaf as it stands permit the access? */
static bool permits(const struct fault *f, u64 e)
{
	return (e & SPTE_R) && (!f->write || (e & SPTE_W)) && (!f->fetch || (e & SPTE_X));
}

/* ---- Mapping: shared lock, epoch section ---- */

static bool link_table(struct fault *f, struct tdp_ref *r)
{
	struct hv_vcpu_mmu *m = f->v->mmu;
	struct tdp_table *t = m->cache[m->nr_cached - 1];
	bool done;

	t->gfn = r->gfn;
	t->level = (u8)(r->level - 1);
	t->as_id = r->as_id;
	done = spte_leaf(r->old, r->level) ? tdp_split(r, t) : tdp_change(r, tdp_table_spte(t));
	if (done)
		m->nr_cached--;
	return done;
}

static enum hv_fault map(struct fault *f)
{
	struct tdp_iter it;

	tdp_for_each(&it, f->v->mmu->root, f->goal, f->gfn, f->gfn + 1) {
		u64 old = it.e.old, new;

		/* Somebody is at work here: let the guest try again. */
		if (old == SPTE_FROZEN)
			return HV_FAULT_RESUME;
		if (spte_leaf(old, it.e.level) && permits(f, old))
			return HV_FAULT_RESUME;
		if (it.e.level > f->goal) {
			if (!spte_table(old, it.e.level) && !link_table(f, &it.e))
				return HV_FAULT_RESUME;
			continue;
		}
		new = leaf_spte(f, it.e.level);
		if (spte_leaf(old, it.e.level)) {
			/* The slot moved; what it left here is about to be removed. */
			if ((old ^ new) & SPTE_ADDR)
				return HV_FAULT_RESUME;
			/* Only permissions were missing; keep what hardware noted. */
			new |= old & (SPTE_A | SPTE_D);
		}
		if (!tdp_change(&it.e, new))
			return HV_FAULT_RESUME;
		f->changed = true;
		if (spte_table(old, it.e.level))
			f->mapped_table = true;
	}
	return HV_FAULT_RESUME;
}

static int fill_cache(struct hv_vcpu *v)
{
	struct hv_vcpu_mmu *m = v->mmu;

	while (m->nr_cached < ARRAY_SIZE(m->cache) - 1) {
		struct tdp_table *t = tdp_table_new(v->vm->mmu, 0, 1, 0);

		if (!t)
			return -ENOMEM;
		m->cache[m->nr_cached++] = t;
	}
	return 0;
}

/* Shared lock: may a translation looked up since f->seq still be entered? */
static bool stale(const struct fault *f)
{
	const struct hv_mmu *mmu = f->mmu;
	u64 hva = hv_slot_hva(&f->slot, f->gfn), span = tdp_span(f->goal) << PAGE_SHIFT;

	hva = round_down(hva, span);
	if (mmu->inval_count && hva < mmu->inval_end && hva + span > mmu->inval_start)
		return true;
	return atomic_load(&mmu->inval_seq) != f->seq;
}

static enum hv_fault map_memory(struct fault *f)
{
	struct hv_mmu *mmu = f->mmu;
	enum hv_fault r = HV_FAULT_RESUME;
	struct hv_memslot *slot;

	if (fill_cache(f->v))
		return HV_FAULT_EFAULT;
	rwlock_read(&mmu->lock);
	epoch_enter();
	slot = hv_slots_find(hv_slots(mmu->vm, f->v->mmu->as_id), f->gfn);
	/*
	 * Flags may have changed since the first look; the slot that is published
	 * now decides, for who starts logging takes the lock after publishing.
	 */
	if (slot && slot->hva == f->slot.hva && slot->gfn == f->slot.gfn &&
	    !atomic_load(&f->v->mmu->root->invalid)) {
		f->slot = *slot;
		f->goal = hv_slot_logged(slot) ? 1 : tdp_max_level(slot, f->gfn);
		if (!stale(f))
			r = map(f);
		if (f->changed && f->write)
			hv_mark_dirty(mmu->vm, f->v, slot, f->gfn);
		if (f->mapped_table)
			tdp_flush(mmu);
	}
	epoch_exit();
	rwlock_read_unlock(&mmu->lock);
	return r;
}

/* An entry that says "device" without a look at the slots, for as long as they do not change. */
static void map_mmio(struct fault *f)
{
	struct hv_mmu *mmu = f->mmu;
	struct tdp_iter it;

	if (fill_cache(f->v))
		return;
	rwlock_read(&mmu->lock);
	epoch_enter();
	if (atomic_load(&f->v->mmu->root->invalid))
		goto out;
	tdp_for_each(&it, f->v->mmu->root, 1, f->gfn, f->gfn + 1) {
		if (it.e.old == SPTE_FROZEN || spte_leaf(it.e.old, it.e.level))
			break;
		if (it.e.level > 1) {
			if (!spte_table(it.e.old, it.e.level) && !link_table(f, &it.e))
				break;
			continue;
		}
		tdp_change(&it.e, SPTE_MMIO | f->generation << SPTE_MMIO_GEN_SHIFT);
	}
out:
	epoch_exit();
	rwlock_read_unlock(&mmu->lock);
}

static void drop_mmio(struct hv_vcpu *v, u64 gfn)
{
	struct hv_mmu *mmu = v->vm->mmu;
	struct tdp_iter it;

	rwlock_read(&mmu->lock);
	epoch_enter();
	if (!atomic_load(&v->mmu->root->invalid)) {
		tdp_for_each(&it, v->mmu->root, 1, gfn, gfn + 1) {
			if (!spte_mmio(it.e.old))
				continue;
			/* Lost to another vCPU: then it is gone, or current again. */
			if (!tdp_change(&it.e, 0))
				break;
		}
	}
	epoch_exit();
	rwlock_read_unlock(&mmu->lock);
}

/* ---- Without the lock ---- */

/* The deepest entry for @gfn in the vCPU's tree. In a section. */
static struct tdp_ref lookup(struct hv_vcpu *v, u64 gfn)
{
	struct tdp_iter it;
	struct tdp_ref last = { 0 };

	tdp_for_each(&it, v->mmu->root, 1, gfn, gfn + 1)
		last = it.e;
	return last;
}

/*
 * A write to a page of which only W is missing (dirty logging took it): one
 * exchange gives it back. The entry is a present leaf all the time, so nothing
 * that an invalidation would take is put back. True: done.
 */
static bool restore_write(struct hv_vcpu *v, u64 gfn)
{
	struct hv_memslot *slot;
	struct tdp_ref r;
	bool done = false;

	epoch_enter();
	r = lookup(v, gfn);
	/* A large page under logging must be split first. */
	if (r.level == 1 && spte_leaf(r.old, 1) && !(r.old & SPTE_W) && (r.old & SPTE_MMU_W) &&
	    !atomic_load(&v->mmu->root->invalid)) {
		slot = hv_slots_find(hv_slots(v->vm, v->mmu->as_id), gfn);
		/* The entry may be left from a slot that is being replaced. */
		if (slot && !(slot->flags & KVM_MEM_READONLY) &&
		    (r.old & SPTE_ADDR) == hv_slot_hva(slot, gfn) && tdp_change(&r, r.old | SPTE_W | SPTE_D)) {
			hv_mark_dirty(v->vm, v, slot, gfn);
			done = true;
		}
	}
	epoch_exit();
	return done;
}

enum hv_fault hv_mmu_fault(struct hv_vcpu *v, u64 gpa, u64 qual)
{
	struct fault f = {
		.v = v, .mmu = v->vm->mmu, .gfn = gpa >> PAGE_SHIFT,
		.write = qual & QUAL_WRITE, .fetch = qual & QUAL_FETCH, .goal = 1,
	};
	struct hv_memslots *s;
	struct hv_memslot *slot;

	hv_memory_vcpu = v;
	BUG_ON(!v->mmu->root);
	if (f.write && !hv_dirty_ring_has_space(v))
		return HV_FAULT_DIRTY_FULL;
	if (f.write && restore_write(v, f.gfn))
		return HV_FAULT_RESUME;

	/* The sequence before the slots: what is looked up after it is checked against it. */
	f.seq = atomic_load(&f.mmu->inval_seq);
	epoch_enter();
	s = hv_slots(v->vm, v->mmu->as_id);
	f.generation = s->generation;
	slot = hv_slots_find(s, f.gfn);
	if (slot)
		f.slot = *slot;
	epoch_exit();
	if (!slot) {
		map_mmio(&f);
		return HV_FAULT_MMIO;
	}
	if (f.write && (f.slot.flags & KVM_MEM_READONLY))
		return HV_FAULT_MMIO;
	if (make_present(hv_slot_hva(&f.slot, f.gfn), f.write))
		return HV_FAULT_EFAULT;
	return map_memory(&f);
}

enum hv_fault hv_mmu_misconfig(struct hv_vcpu *v, u64 gpa)
{
	u64 generation;
	struct tdp_ref r;

	hv_memory_vcpu = v;
	epoch_enter();
	r = lookup(v, gpa >> PAGE_SHIFT);
	generation = hv_slots(v->vm, v->mmu->as_id)->generation;
	epoch_exit();
	if (spte_mmio(r.old) && r.old >> SPTE_MMIO_GEN_SHIFT == generation)
		return HV_FAULT_MMIO;
	/*
	 * Slots changed since. A misconfiguration does not tell a read from a write,
	 * and that may decide (read-only slots): without the entry the access
	 * comes again as a violation, which does.
	 */
	drop_mmio(v, gpa >> PAGE_SHIFT);
	return HV_FAULT_RESUME;
}
