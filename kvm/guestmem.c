// SPDX-License-Identifier: MIT
/*
 * The hypervisor's own accesses to guest memory by guest-physical address.
 * Memory that is gone is -EFAULT: x86_phys_read() and its like recover.
 */
#include <errno.h>

#include "base/log.h"
#include "kvm/memslots.h"

/* The slot of the page of @gpa if it may be accessed so, else NULL. */
static struct hv_memslot *slot_for(const struct hv_memslots *s, u64 gpa, bool write)
{
	struct hv_memslot *slot = hv_slots_find(s, gpa >> PAGE_SHIFT);

	return slot && write && (slot->flags & KVM_MEM_READONLY) ? NULL : slot;
}

static spa_t address(const struct hv_memslot *slot, u64 gpa)
{
	return SPA(hv_slot_hva(slot, gpa >> PAGE_SHIFT) | (gpa & ~PAGE_MASK));
}

int hv_read_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, void *buf, size_t len)
{
	struct hv_memslots *s = hv_slots_get(vm, as_id);
	int r = 0;

	while (len && !r) {
		size_t n = min(len, (size_t)(PAGE_SIZE - (gpa & ~PAGE_MASK)));
		struct hv_memslot *slot = slot_for(s, gpa, false);

		r = slot ? x86_phys_read(address(slot, gpa), buf, n) : -EFAULT;
		gpa += n;
		buf = (u8 *)buf + n;
		len -= n;
	}
	hv_slots_put(s);
	return r;
}

int hv_write_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, const void *buf, size_t len)
{
	struct hv_memslots *s = hv_slots_get(vm, as_id);
	int r = 0;

	while (len && !r) {
		size_t n = min(len, (size_t)(PAGE_SIZE - (gpa & ~PAGE_MASK)));
		struct hv_memslot *slot = slot_for(s, gpa, true);

		r = slot ? x86_phys_write(address(slot, gpa), buf, n) : -EFAULT;
		if (!r)
			hv_mark_dirty(vm, NULL, slot, gpa >> PAGE_SHIFT);
		gpa += n;
		buf = (const u8 *)buf + n;
		len -= n;
	}
	hv_slots_put(s);
	return r;
}

int hv_cmpxchg_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, void *old, const void *val, unsigned size)
{
	struct hv_memslots *s = hv_slots_get(vm, as_id);
	struct hv_memslot *slot = slot_for(s, gpa, true);
	int r = -EFAULT;

	/* The caller splits what crosses a page: there it is not locked on hardware either. */
	BUG_ON((gpa & ~PAGE_MASK) + size > PAGE_SIZE);
	if (slot) {
		r = x86_phys_cmpxchg(address(slot, gpa), old, val, size);
		/* A failed exchange is a write for dirty tracking: hardware sets D as well. */
		if (r >= 0)
			hv_mark_dirty(vm, NULL, slot, gpa >> PAGE_SHIFT);
	}
	hv_slots_put(s);
	return r;
}

bool hv_gpa_is_ram(struct hv_vm *vm, unsigned as_id, u64 gpa, bool write)
{
	struct hv_memslots *s = hv_slots_get(vm, as_id);
	bool ram = slot_for(s, gpa, write);

	hv_slots_put(s);
	return ram;
}
