// SPDX-License-Identifier: MIT
/*
 * Memslots: arrays by copy-on-write, lookup, the rules of
 * KVM_SET_USER_MEMORY_REGION. Dirty logs are dirty.c, translations x86/mmu/.
 *
 * A change is made in one publication, so a vCPU sees the slots before or
 * after it, never between. Translations of what went are removed afterwards;
 * faults that looked at the old array are caught by the MMU's invalidation
 * sequence (x86/mmu/fault.c).
 */
#include "kvm/memslots.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/epoch.h"
#include "base/log.h"

static struct hv_memslots *array_new(u32 n)
{
	struct hv_memslots *s = malloc(sizeof(*s) + 2 * n * sizeof(s->slot[0]));

	if (!s)
		return NULL;
	*s = (struct hv_memslots){ .n = n };
	s->by_gfn = s->slot;
	s->by_id = s->slot + n;
	return s;
}

int hv_slots_new(struct hv_vm *vm)
{
	for (unsigned as = 0; as < HV_NR_AS; as++) {
		struct hv_memslots *s = array_new(0);

		if (!s) {
			hv_slots_free(vm);
			return -ENOMEM;
		}
		atomic_store(&vm->slots[as], s);
	}
	return 0;
}

static void slot_free(struct hv_memslot *slot)
{
	free((void *)slot->dirty);
	free(slot);
}

void hv_slots_free(struct hv_vm *vm)
{
	for (unsigned as = 0; as < HV_NR_AS; as++) {
		struct hv_memslots *s = atomic_exchange(&vm->slots[as], NULL);

		if (!s)
			continue;
		BUG_ON(atomic_load(&s->refs));
		for (u32 i = 0; i < s->n; i++)
			slot_free(s->by_gfn[i]);
		free(s);
	}
}

struct hv_memslots *hv_slots(struct hv_vm *vm, unsigned as_id)
{
	return atomic_load(&vm->slots[as_id]);
}

struct hv_memslots *hv_slots_get(struct hv_vm *vm, unsigned as_id)
{
	struct hv_memslots *s;

	epoch_enter();
	s = hv_slots(vm, as_id);
	atomic_fetch_add(&s->refs, 1);
	epoch_exit();
	return s;
}

void hv_slots_put(struct hv_memslots *s)
{
	atomic_fetch_sub(&s->refs, 1);
}

struct hv_memslot *hv_slots_find(const struct hv_memslots *s, u64 gfn)
{
	u32 lo = 0, hi = s->n;

	/* First slot that begins above @gfn. */
	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (s->by_gfn[mid]->gfn <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || gfn - s->by_gfn[lo - 1]->gfn >= s->by_gfn[lo - 1]->npages)
		return NULL;
	return s->by_gfn[lo - 1];
}

struct hv_memslot *hv_slots_find_id(const struct hv_memslots *s, u32 id)
{
	u32 lo = 0, hi = s->n;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (s->by_id[mid]->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->n && s->by_id[lo]->id == id ? s->by_id[lo] : NULL;
}

/* First place of @list whose slot comes behind @slot, by frame or by id. */
static u32 place(struct hv_memslot *const *list, u32 n, const struct hv_memslot *slot, bool by_id)
{
	u32 lo = 0, hi = n;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (by_id ? list[mid]->id <= slot->id : list[mid]->gfn <= slot->gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* @n slots of @from without @old (may be NULL), and @new (may be NULL) where it belongs. */
static void copy_with(struct hv_memslot **to, struct hv_memslot *const *from, u32 n,
		      const struct hv_memslot *old, struct hv_memslot *new, bool by_id)
{
	u32 gap = old ? place(from, n, old, by_id) - 1 : n, at;

	memcpy(to, from, gap * sizeof(*to));
	if (old)
		memcpy(to + gap, from + gap + 1, (--n - gap) * sizeof(*to));
	if (!new)
		return;
	at = place(to, n, new, by_id);
	memmove(to + at + 1, to + at, (n - at) * sizeof(*to));
	to[at] = new;
}

/* The array with @old (may be NULL) replaced by @new (may be NULL). */
static struct hv_memslots *array_with(const struct hv_memslots *s, const struct hv_memslot *old,
				      struct hv_memslot *new)
{
	struct hv_memslots *a = array_new(s->n - !!old + !!new);

	if (!a)
		return NULL;
	copy_with(a->by_gfn, s->by_gfn, s->n, old, new, false);
	copy_with(a->by_id, s->by_id, s->n, old, new, true);
	return a;
}

static u64 next_generation(struct hv_vm *vm)
{
	u64 g = 0;

	for (unsigned as = 0; as < HV_NR_AS; as++)
		g = max(g, hv_slots(vm, as)->generation);
	return g + 1;
}

/* Wait until nobody looks at @s any more, then free it. */
static void array_retire(struct hv_memslots *s)
{
	struct timespec ts = { .tv_nsec = 50000 };

	/* A get is a load and an increment in one section: after this, all are counted. */
	epoch_synchronize();
	for (unsigned i = 0; atomic_load(&s->refs); i++) {
		if (i < 16)
			sched_yield();
		else
			nanosleep(&ts, NULL);
	}
	free(s);
}

/* Publish; returns the old array, to be retired once translations are dealt with. */
static struct hv_memslots *publish(struct hv_vm *vm, unsigned as_id, struct hv_memslots *a)
{
	a->generation = next_generation(vm);
	return atomic_exchange(&vm->slots[as_id], a);
}

/* ---- KVM_SET_USER_MEMORY_REGION ---- */

static bool overlaps(const struct hv_memslots *s, u64 gfn, u64 npages, const struct hv_memslot *except)
{
	u32 lo = 0, hi = s->n;

	/* First slot that ends above @gfn. */
	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (s->by_gfn[mid]->gfn + s->by_gfn[mid]->npages <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < s->n && s->by_gfn[lo] == except)
		lo++;
	return lo < s->n && s->by_gfn[lo]->gfn < gfn + npages;
}

static int check_region(struct hv_vm *vm, const struct kvm_userspace_memory_region *r)
{
	u64 npages = r->memory_size >> PAGE_SHIFT;

	if (r->flags & ~(u32)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & ~PAGE_MASK)
		return -EINVAL;
	/* User addresses end below 2^47; so no sum below wraps. */
	if (r->userspace_addr >= 1ull << 47 || r->memory_size > (1ull << 47) - r->userspace_addr)
		return -EINVAL;
	if (r->slot >> 16 >= HV_NR_AS || (r->slot & 0xffff) >= HV_NR_MEMSLOTS)
		return -EINVAL;
	if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr)
		return -EINVAL;
	if (npages > HV_MEMSLOT_MAX_PAGES)
		return -EINVAL;
	return 0;
}

static _Atomic u64 *bitmap_new(u64 npages, bool all_set)
{
	u64 words = round_up(npages, 64) / 64;
	_Atomic u64 *b = calloc(words, sizeof(*b));

	if (!b || !all_set)
		return b;
	for (u64 i = 0; i < words; i++)
		atomic_init(&b[i], ~0ull);
	if (npages % 64)
		atomic_init(&b[words - 1], BIT(npages % 64) - 1);
	return b;
}

static int remove_slot(struct hv_vm *vm, unsigned as_id, struct hv_memslot *old)
{
	struct hv_memslots *a = array_with(hv_slots(vm, as_id), old, NULL), *retired;

	if (!a)
		return -ENOMEM;
	retired = publish(vm, as_id, a);
	hv_mmu_slot_gone(vm, old);
	array_retire(retired);
	slot_free(old);
	return 0;
}

static int set_slot(struct hv_vm *vm, unsigned as_id, struct hv_memslot *old,
		    const struct kvm_userspace_memory_region *r)
{
	bool all_set = vm->manual_dirty_protect & KVM_DIRTY_LOG_INITIALLY_SET;
	bool was_logged = old && hv_slot_logged(old), moved = old && old->gfn != r->guest_phys_addr >> PAGE_SHIFT;
	struct hv_memslot *new = calloc(1, sizeof(*new));
	struct hv_memslots *a, *retired;

	if (!new)
		return -ENOMEM;
	*new = (struct hv_memslot){
		.gfn = r->guest_phys_addr >> PAGE_SHIFT, .npages = r->memory_size >> PAGE_SHIFT,
		.hva = r->userspace_addr, .flags = r->flags, .id = (u16)r->slot, .as_id = (u16)as_id,
	};
	if (hv_slot_logged(new) && !vm->dirty_ring_bytes) {
		/* A bitmap goes from the old slot to the new one when logging just goes on. */
		if (old && old->dirty)
			new->dirty = old->dirty;
		else
			new->dirty = bitmap_new(new->npages, all_set);
		if (!new->dirty)
			goto no_memory;
	}
	a = array_with(hv_slots(vm, as_id), old, new);
	if (!a)
		goto no_memory;
	retired = publish(vm, as_id, a);
	if (moved)
		hv_mmu_slot_gone(vm, old);
	if (old && !moved && hv_slot_logged(new) && !was_logged)
		hv_mmu_log_start(vm, new, all_set && new->dirty);
	array_retire(retired);
	if (old && !moved && !hv_slot_logged(new) && was_logged)
		hv_mmu_log_stop(vm, new);
	if (old) {
		if (old->dirty == new->dirty)
			old->dirty = NULL;
		slot_free(old);
	}
	return 0;

no_memory:
	if (!old || old->dirty != new->dirty)
		free((void *)new->dirty);
	free(new);
	return -ENOMEM;
}

static int change_region(struct hv_vm *vm, const struct kvm_userspace_memory_region *r)
{
	unsigned as_id = r->slot >> 16;
	struct hv_memslots *s = hv_slots(vm, as_id);
	struct hv_memslot *old = hv_slots_find_id(s, r->slot & 0xffff);
	u64 gfn = r->guest_phys_addr >> PAGE_SHIFT, npages = r->memory_size >> PAGE_SHIFT;

	if (!npages)
		return old ? remove_slot(vm, as_id, old) : -EINVAL;
	if (old) {
		if (old->hva != r->userspace_addr || old->npages != npages ||
		    ((old->flags ^ r->flags) & KVM_MEM_READONLY))
			return -EINVAL;
		if (old->gfn == gfn && old->flags == r->flags)
			return 0;
	}
	if ((!old || old->gfn != gfn) && overlaps(s, gfn, npages, old))
		return -EEXIST;
	if ((!old || old->gfn != gfn) && gfn + npages - 1 > (1ull << hv_max_gpa_bits(vm->model)) / PAGE_SIZE - 1)
		return -EINVAL;
	return set_slot(vm, as_id, old, r);
}

int hv_set_memory_region(struct hv_vm *vm, const struct kvm_userspace_memory_region *r)
{
	int ret = check_region(vm, r);

	if (ret)
		return ret;
	pthread_mutex_lock(&vm->slots_lock);
	ret = change_region(vm, r);
	pthread_mutex_unlock(&vm->slots_lock);
	return ret;
}
