// SPDX-License-Identifier: MIT
/*
 * Dirty logs as bitmaps: one bit per page of a slot, set by whoever writes (or
 * makes writable), fetched and cleared by KVM_GET_DIRTY_LOG, or with manual
 * protection cleared by KVM_CLEAR_DIRTY_LOG.
 *
 * Order that loses nothing: a fault makes its page writable, then sets the
 * bit; a collector takes the bits, then protects those pages. A bit set in
 * between stays for the next collection, its page being writable until then.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "kvm/memslots.h"

_Thread_local struct hv_vcpu *hv_memory_vcpu;

void hv_mark_dirty(struct hv_vm *vm, struct hv_vcpu *v, struct hv_memslot *slot, u64 gfn)
{
	u64 i = gfn - slot->gfn;

	if (!hv_slot_logged(slot))
		return;
	if (!slot->dirty) {
		hv_dirty_ring_push(vm, v, slot, gfn);
		return;
	}
	if (!(atomic_load_explicit(&slot->dirty[i / 64], memory_order_relaxed) & BIT(i % 64)))
		atomic_fetch_or(&slot->dirty[i / 64], BIT(i % 64));
}

/* The logged slot of an ioctl, under vm->slots_lock. */
static int log_slot(struct hv_vm *vm, u32 id, struct hv_memslot **slot)
{
	if (vm->dirty_ring_bytes)
		return -ENXIO;
	if (id >> 16 >= HV_NR_AS || (id & 0xffff) >= HV_NR_MEMSLOTS)
		return -EINVAL;
	*slot = hv_slots_find_id(hv_slots(vm, id >> 16), id & 0xffff);
	return *slot && (*slot)->dirty ? 0 : -ENOENT;
}

static int get_log(struct hv_vm *vm, struct kvm_dirty_log *log)
{
	bool manual = vm->manual_dirty_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, flush = false;
	struct hv_memslot *slot;
	u64 words, *copy;
	int r = log_slot(vm, log->slot, &slot);

	if (r)
		return r;
	words = round_up(slot->npages, 64) / 64;
	copy = malloc(words * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	hv_mmu_log_sync(vm);
	for (u64 i = 0; i < words; i++) {
		copy[i] = atomic_load(&slot->dirty[i]);
		if (manual || !copy[i])
			continue;
		copy[i] = atomic_exchange(&slot->dirty[i], 0);
		if (hv_mmu_log_protect(vm, slot, i * 64, copy[i]))
			flush = true;
	}
	/* Before the client sees the bits: what is written after it read the page is in the next log. */
	if (flush)
		hv_flush_remote_tlbs(vm);
	if (x86_phys_write(SPA((u64)log->dirty_bitmap), copy, words * sizeof(*copy)))
		r = -EFAULT;
	free(copy);
	return r;
}

int hv_get_dirty_log(struct hv_vm *vm, struct kvm_dirty_log *log)
{
	int r;

	pthread_mutex_lock(&vm->slots_lock);
	r = get_log(vm, log);
	pthread_mutex_unlock(&vm->slots_lock);
	return r;
}

static int clear_log(struct hv_vm *vm, struct kvm_clear_dirty_log *log)
{
	struct hv_memslot *slot;
	u64 words, *mask;
	bool flush = false;
	int r = log_slot(vm, log->slot, &slot);

	if (r)
		return r;
	if (log->first_page % 64 || log->first_page > slot->npages ||
	    log->num_pages > slot->npages - log->first_page ||
	    (log->num_pages % 64 && log->num_pages != slot->npages - log->first_page))
		return -EINVAL;
	words = round_up(log->num_pages, 64) / 64;
	mask = malloc(words * sizeof(*mask) + 1);
	if (!mask)
		return -ENOMEM;
	if (x86_phys_read(SPA((u64)log->dirty_bitmap), mask, words * sizeof(*mask))) {
		free(mask);
		return -EFAULT;
	}
	hv_mmu_log_sync(vm);
	for (u64 i = 0; i < words; i++) {
		u64 word = log->first_page / 64 + i, old;

		/* Bits behind the slot's end are nobody's. */
		if (i == words - 1 && log->num_pages % 64)
			mask[i] &= BIT(log->num_pages % 64) - 1;
		if (!mask[i])
			continue;
		old = atomic_fetch_and(&slot->dirty[word], ~mask[i]) & mask[i];
		if (old && hv_mmu_log_protect(vm, slot, word * 64, old))
			flush = true;
	}
	if (flush)
		hv_flush_remote_tlbs(vm);
	free(mask);
	return 0;
}

int hv_clear_dirty_log(struct hv_vm *vm, struct kvm_clear_dirty_log *log)
{
	int r;

	pthread_mutex_lock(&vm->slots_lock);
	r = clear_log(vm, log);
	pthread_mutex_unlock(&vm->slots_lock);
	return r;
}
