// SPDX-License-Identifier: MIT
/*
 * Dirty rings: each vCPU reports the pages that it dirties in a ring of
 * struct kvm_dirty_gfn which the client maps, at page KVM_DIRTY_LOG_PAGE_OFFSET
 * of the vCPU's descriptor. An entry's flags pass it on: 0 free, DIRTY filled
 * by us (store-release), RESET harvested by the client; KVM_RESET_DIRTY_RINGS
 * takes harvested entries back and protects their pages again.
 *
 * The ring's owner is its vCPU thread, but memory is also written on behalf of
 * a guest by other threads: a lock makes them wait for each other. It nests
 * inside the MMU's lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/bits.h"
#include "kvm/memslots.h"
#include "kvm/x86/mmu/mmu.h"

/* Entries kept back at "soft full": what one exit may still push, a PML buffer included. */
#define RING_RESERVED (64 + 512)
#define RING_MAX_ENTRIES 65536

struct hv_dirty_ring {
	pthread_mutex_t lock;
	struct kvm_dirty_gfn *gfns;	/* shared with the client: no value of it is trusted */
	u32 size, soft_limit;
	_Atomic u32 dirty_index;	/* free-running: next to fill */
	_Atomic u32 reset_index;	/* next to be taken back */
	/*
	 * What found no place: vCPUs stop at soft full, but nobody stops the threads that
	 * write on a guest's behalf. Goes into the ring as places come free.
	 */
	struct late { u32 slot; u64 offset; } *late;
	size_t nr_late, max_late;
	_Atomic bool has_late;
};

int hv_dirty_ring_enable(struct hv_vm *vm, u64 bytes)
{
	int r = 0;

	if (!bytes || (bytes & (bytes - 1)))
		return -EINVAL;
	if (bytes < PAGE_SIZE || bytes < RING_RESERVED * sizeof(struct kvm_dirty_gfn))
		return -EINVAL;
	if (bytes > RING_MAX_ENTRIES * sizeof(struct kvm_dirty_gfn))
		return -E2BIG;
	if (vm->dirty_ring_bytes || atomic_load(&vm->nr_vcpus))
		r = -EINVAL;
	else
		vm->dirty_ring_bytes = bytes;
	return r;
}

int hv_dirty_ring_vcpu_new(struct hv_vcpu *v)
{
	u64 bytes = v->vm->dirty_ring_bytes;
	off_t off = KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)PAGE_SIZE;
	struct hv_dirty_ring *ring;

	if (!bytes)
		return 0;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	/* The descriptor was made for the run page; the ring lies far behind it. */
	if (ftruncate(v->memfd, off + (off_t)bytes))
		goto fail;
	ring->gfns = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->memfd, off);
	if (ring->gfns == MAP_FAILED)
		goto fail;
	ring->size = (u32)(bytes / sizeof(struct kvm_dirty_gfn));
	ring->soft_limit = ring->size - RING_RESERVED;
	pthread_mutex_init(&ring->lock, NULL);
	v->mmu->ring = ring;
	return 0;
fail:
	free(ring);
	return -ENOMEM;
}

void hv_dirty_ring_vcpu_free(struct hv_vcpu *v)
{
	struct hv_dirty_ring *ring = v->mmu->ring;

	if (!ring)
		return;
	munmap(ring->gfns, ring->size * sizeof(struct kvm_dirty_gfn));
	pthread_mutex_destroy(&ring->lock);
	free(ring->late);
	free(ring);
	v->mmu->ring = NULL;
}

static u32 used(struct hv_dirty_ring *ring)
{
	return atomic_load(&ring->dirty_index) - atomic_load(&ring->reset_index);
}

bool hv_dirty_ring_soft_full(struct hv_vcpu *v)
{
	struct hv_dirty_ring *ring = v->mmu->ring;

	hv_memory_vcpu = v;
	return ring && used(ring) >= ring->soft_limit;
}

bool hv_dirty_ring_has_space(struct hv_vcpu *v)
{
	return !v->mmu->ring || used(v->mmu->ring) < v->mmu->ring->size;
}

/* Lock held, and there is a place. */
static void put(struct hv_dirty_ring *ring, u32 slot, u64 offset)
{
	u32 i = atomic_load(&ring->dirty_index);
	struct kvm_dirty_gfn *e = &ring->gfns[i % ring->size];

	__atomic_store_n(&e->slot, slot, __ATOMIC_RELAXED);
	__atomic_store_n(&e->offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	atomic_store(&ring->dirty_index, i + 1);
}

/* Lock held. */
static void keep_for_later(struct hv_dirty_ring *ring, u32 slot, u64 offset)
{
	if (ring->nr_late == ring->max_late) {
		size_t max = ring->max_late ? 2 * ring->max_late : 256;
		struct late *more = realloc(ring->late, max * sizeof(*more));

		if (!more) {
			log_warn("no memory: a page written by a device is missing from the dirty ring");
			return;
		}
		ring->late = more;
		ring->max_late = max;
	}
	ring->late[ring->nr_late++] = (struct late){ slot, offset };
	atomic_store(&ring->has_late, true);
}

static void put_late(struct hv_dirty_ring *ring)
{
	if (!atomic_load(&ring->has_late))
		return;
	pthread_mutex_lock(&ring->lock);
	while (ring->nr_late && used(ring) < ring->size) {
		ring->nr_late--;
		put(ring, ring->late[ring->nr_late].slot, ring->late[ring->nr_late].offset);
	}
	atomic_store(&ring->has_late, ring->nr_late != 0);
	pthread_mutex_unlock(&ring->lock);
}

void hv_dirty_ring_push(struct hv_vm *vm, struct hv_vcpu *v, const struct hv_memslot *slot, u64 gfn)
{
	u32 id = (u32)slot->as_id << 16 | slot->id;
	struct hv_dirty_ring *ring;

	if (!v)
		v = hv_memory_vcpu && hv_memory_vcpu->vm == vm ? hv_memory_vcpu : hv_vcpu_by_idx(vm, 0);
	if (!v || !v->mmu || !v->mmu->ring)
		return;
	ring = v->mmu->ring;
	pthread_mutex_lock(&ring->lock);
	if (used(ring) < ring->size)
		put(ring, id, gfn - slot->gfn);
	else
		keep_for_later(ring, id, gfn - slot->gfn);
	pthread_mutex_unlock(&ring->lock);
}

/* One word of protections at a time: neighbours in the ring are mostly neighbours in memory. */
struct batch {
	u32 slot;
	u64 first, mask;
	bool flush;
};

static void batch_end(struct hv_vm *vm, struct batch *b)
{
	struct hv_memslot *slot = NULL;

	if (b->mask && b->slot >> 16 < HV_NR_AS)
		slot = hv_slots_find_id(hv_slots(vm, b->slot >> 16), b->slot & 0xffff);
	/* The client may have changed slot and offset at will. */
	if (slot && hv_slot_logged(slot) && b->first < slot->npages) {
		if (slot->npages - b->first < 64)
			b->mask &= BIT(slot->npages - b->first) - 1;
		if (b->mask && hv_mmu_log_protect(vm, slot, b->first, b->mask))
			b->flush = true;
	}
	b->mask = 0;
}

static int reset_ring(struct hv_vm *vm, struct hv_dirty_ring *ring, struct batch *b)
{
	int count = 0;

	/* Without the ring's lock, whose holders may hold the MMU's: slots_lock keeps resets apart. */
	while (used(ring)) {
		u32 i = atomic_load(&ring->reset_index), slot;
		struct kvm_dirty_gfn *e = &ring->gfns[i % ring->size];
		u64 offset;

		if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET))
			break;
		slot = __atomic_load_n(&e->slot, __ATOMIC_RELAXED);
		offset = __atomic_load_n(&e->offset, __ATOMIC_RELAXED);
		__atomic_store_n(&e->flags, 0, __ATOMIC_RELEASE);
		atomic_store(&ring->reset_index, i + 1);
		count++;
		if (b->mask && (slot != b->slot || offset / 64 != b->first / 64))
			batch_end(vm, b);
		b->slot = slot;
		b->first = round_down(offset, 64);
		b->mask |= BIT(offset % 64);
	}
	return count;
}

int hv_reset_dirty_rings(struct hv_vm *vm)
{
	struct batch b = { 0 };
	struct hv_vcpu *v;
	unsigned i;
	int count = 0;

	if (!vm->dirty_ring_bytes)
		return -EINVAL;
	pthread_mutex_lock(&vm->slots_lock);
	hv_for_each_vcpu(i, v, vm)
		if (v->mmu && v->mmu->ring)
			count += reset_ring(vm, v->mmu->ring, &b);
	batch_end(vm, &b);
	hv_for_each_vcpu(i, v, vm)
		if (v->mmu && v->mmu->ring)
			put_late(v->mmu->ring);
	if (b.flush)
		hv_flush_remote_tlbs(vm);
	pthread_mutex_unlock(&vm->slots_lock);
	return count;
}
