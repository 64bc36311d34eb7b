/* SPDX-License-Identifier: MIT */
/*
 * Memslots as their users in kvm/ see them, and what a change of slots asks of
 * the MMU (x86/mmu/).
 *
 * An address space has one immutable array; a change publishes a new one under
 * vm->slots_lock. Short lookups are epoch sections; whoever goes on to touch
 * guest memory (and may sleep there) holds the array by hv_slots_get(): a
 * change returns only when the old array is let go, so after a slot's deletion
 * nobody in here touches its memory any more.
 */
#ifndef KVM_MEMSLOTS_H
#define KVM_MEMSLOTS_H

#include "kvm/mem.h"

#define HV_NR_MEMSLOTS 32764		/* KVM_CAP_NR_MEMSLOTS */
#define HV_MEMSLOT_MAX_PAGES ((1ull << 31) - 1)

struct hv_memslots {
	u64 generation;			/* of the VM: no two arrays share one */
	_Atomic u32 refs;
	u32 n;
	struct hv_memslot **by_gfn;	/* ascending */
	struct hv_memslot **by_id;	/* ascending */
	struct hv_memslot *slot[];	/* storage of both */
};

int hv_slots_new(struct hv_vm *vm);
void hv_slots_free(struct hv_vm *vm);

/* Inside an epoch section, or under vm->slots_lock: the present array. */
struct hv_memslots *hv_slots(struct hv_vm *vm, unsigned as_id);
/* Sleepable use. */
struct hv_memslots *hv_slots_get(struct hv_vm *vm, unsigned as_id);
void hv_slots_put(struct hv_memslots *s);

struct hv_memslot *hv_slots_find(const struct hv_memslots *s, u64 gfn);
struct hv_memslot *hv_slots_find_id(const struct hv_memslots *s, u32 id);

static inline u64 hv_slot_hva(const struct hv_memslot *slot, u64 gfn)
{
	return slot->hva + ((gfn - slot->gfn) << PAGE_SHIFT);
}

static inline bool hv_slot_logged(const struct hv_memslot *slot)
{
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/* ---- dirty.c: inside an epoch section or holding the array ---- */

/* @gfn was written: bitmap, or ring of @v (NULL: the vCPU of this thread, or the first). */
void hv_mark_dirty(struct hv_vm *vm, struct hv_vcpu *v, struct hv_memslot *slot, u64 gfn);
/* dirty_ring.c */
struct hv_dirty_ring;
void hv_dirty_ring_push(struct hv_vm *vm, struct hv_vcpu *v, const struct hv_memslot *slot, u64 gfn);
bool hv_dirty_ring_has_space(struct hv_vcpu *v);
int hv_dirty_ring_vcpu_new(struct hv_vcpu *v);
void hv_dirty_ring_vcpu_free(struct hv_vcpu *v);
/* The vCPU whose KVM_RUN this thread is in, as far as memory knows. */
extern _Thread_local struct hv_vcpu *hv_memory_vcpu;

/* ---- x86/mmu/, for changes of slots ---- */

/* @slot is in no published array any more: forget its translations everywhere. */
void hv_mmu_slot_gone(struct hv_vm *vm, const struct hv_memslot *slot);
/* Logging begins on the published @slot: protect what is mapped, unless all is dirty to begin with. */
void hv_mmu_log_start(struct hv_vm *vm, const struct hv_memslot *slot, bool all_dirty);
/* Logging ended: let large pages come back. */
void hv_mmu_log_stop(struct hv_vm *vm, const struct hv_memslot *slot);
/*
 * Pages @first + n of the slot, for each bit n of @mask: catch the next write.
 * True: hv_flush_remote_tlbs() is owed.
 */
bool hv_mmu_log_protect(struct hv_vm *vm, const struct hv_memslot *slot, u64 first, u64 mask);
/* Dirty pages that processors still hold in PML buffers are on their way after this. */
void hv_mmu_log_sync(struct hv_vm *vm);

#endif
