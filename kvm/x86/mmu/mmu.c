// SPDX-License-Identifier: MIT
/*
 * Life: the MMU of a VM, of a vCPU, roots; and invalidation by host address.
 *
 * A root is reachable by one reference of the VM (until it is invalidated) and
 * one of each vCPU that uses it. Invalidating marks it dead under the
 * exclusive lock, so that no fault adds to it, moves the vCPUs off, empties it
 * while it is still referenced, and only then lets go.
 */
#include "kvm/x86/mmu/mmu.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

/* SDM "Extended-Page-Table Pointer": write-back, four levels, accessed and dirty flags. */
#define EPTP_FLAGS (6ull | (TDP_LEVELS - 1) << 3 | BIT(6))

#define RANK_MMU_LOCK 5

unsigned hv_max_gpa_bits(const struct x86_model *model)
{
	/* Four-level EPT, whatever the width of the processor's own addresses. */
	return min(x86_model_physbits(model), 12u + 9 * TDP_LEVELS);
}

/* ---- Roots ---- */

void tdp_put_root(struct tdp_table *root)
{
	struct hv_mmu *mmu = root->mmu;

	if (atomic_fetch_sub(&root->refs, 1) != 1)
		return;
	BUG_ON(!atomic_load(&root->invalid));
	pthread_mutex_lock(&mmu->roots_lock);
	list_del(&root->link);
	pthread_mutex_unlock(&mmu->roots_lock);
	atomic_fetch_sub(&mmu->tables, 1);
	tdp_table_defer_free(root);
}

/* A root whose last reference is going must not be taken again. */
static bool get_root(struct tdp_table *root)
{
	u32 refs = atomic_load(&root->refs);

	while (refs)
		if (atomic_compare_exchange_weak(&root->refs, &refs, refs + 1))
			return true;
	return false;
}

struct tdp_table *tdp_next_root(struct hv_mmu *mmu, struct tdp_table *prev, unsigned as_id)
{
	struct tdp_table *found = NULL;
	struct list *p;

	pthread_mutex_lock(&mmu->roots_lock);
	p = prev ? prev->link.next : mmu->roots.next;
	for (; p != &mmu->roots && !found; p = p->next) {
		struct tdp_table *r = list_entry(p, struct tdp_table, link);

		if (r->as_id == as_id && get_root(r))
			found = r;
	}
	pthread_mutex_unlock(&mmu->roots_lock);
	if (prev)
		tdp_put_root(prev);
	return found;
}

/* The live root of @as_id with a reference, or NULL. */
static struct tdp_table *live_root(struct hv_mmu *mmu, unsigned as_id)
{
	struct tdp_table *r;

	for (r = tdp_next_root(mmu, NULL, as_id); r; r = tdp_next_root(mmu, r, as_id))
		if (!atomic_load(&r->invalid))
			return r;
	return NULL;
}

static struct tdp_table *find_or_make_root(struct hv_mmu *mmu, unsigned as_id)
{
	struct tdp_table *r, *fresh;

	rwlock_read(&mmu->lock);
	r = live_root(mmu, as_id);
	rwlock_read_unlock(&mmu->lock);
	if (r)
		return r;
	fresh = tdp_table_new(mmu, 0, TDP_LEVELS, as_id);
	if (!fresh)
		return NULL;
	rwlock_write(&mmu->lock);
	r = live_root(mmu, as_id);
	if (!r) {
		/* The VM's reference and the caller's. */
		atomic_store(&fresh->refs, 2);
		atomic_fetch_add(&mmu->tables, 1);
		pthread_mutex_lock(&mmu->roots_lock);
		list_add_tail(&fresh->link, &mmu->roots);
		pthread_mutex_unlock(&mmu->roots_lock);
	}
	rwlock_write_unlock(&mmu->lock);
	if (!r)
		return fresh;
	tdp_table_free(fresh);
	return r;
}

void hv_mmu_use_pml(struct hv_vm *vm)
{
	vm->mmu->pml = true;
}

bool hv_mmu_uses_pml(const struct hv_vm *vm)
{
	return vm->mmu->pml;
}

u64 hv_mmu_load(struct hv_vcpu *v, unsigned as_id)
{
	struct hv_vcpu_mmu *m = v->mmu;

	hv_memory_vcpu = v;
	if (unlikely(!m->root || m->as_id != as_id || atomic_load(&m->root->invalid))) {
		struct tdp_table *root = find_or_make_root(v->vm->mmu, as_id);

		if (!root)
			return 0;
		if (m->root)
			tdp_put_root(m->root);
		m->root = root;
		m->as_id = as_id;
		/*
		 * The processor may hold translations of this EPTP: from the last time, when
		 * flushes were for another root, or of a dead root that had the same page.
		 */
		hv_set_request(v, HV_REQ_TLB_FLUSH);
	}
	return (u64)tdp_entries(m->root) | EPTP_FLAGS;
}

void hv_mmu_invalidate_roots(struct hv_vm *vm)
{
	struct hv_mmu *mmu = vm->mmu;
	struct tdp_table *dead[HV_NR_AS] = { NULL };

	rwlock_write(&mmu->lock);
	for (unsigned as = 0; as < HV_NR_AS; as++) {
		dead[as] = live_root(mmu, as);
		if (dead[as])
			atomic_store(&dead[as]->invalid, true);
	}
	rwlock_write_unlock(&mmu->lock);
	/* Every vCPU that ran on a dead root has stopped using it when this returns. */
	if (!mmu->dying)
		hv_request_all(vm, HV_REQ_MMU_RELOAD, true);
	for (unsigned as = 0; as < HV_NR_AS; as++) {
		if (!dead[as])
			continue;
		rwlock_read(&mmu->lock);
		tdp_zap_root(dead[as]);
		rwlock_read_unlock(&mmu->lock);
		tdp_put_root(dead[as]);		/* taken by live_root() */
		tdp_put_root(dead[as]);		/* the VM's */
	}
}

/* ---- Invalidation by guest or host address ---- */

static void inval_begin(struct hv_mmu *mmu, u64 start, u64 end)
{
	if (!mmu->inval_count++) {
		mmu->inval_start = start;
		mmu->inval_end = end;
		return;
	}
	/* Several at a time, while one gives way: the hull of their ranges. */
	mmu->inval_start = min(mmu->inval_start, start);
	mmu->inval_end = max(mmu->inval_end, end);
}

static void inval_end(struct hv_mmu *mmu)
{
	/* First the sequence: who finds nothing under way must see that it moved. */
	atomic_fetch_add(&mmu->inval_seq, 1);
	mmu->inval_count--;
}

static void zap_gfns(struct hv_mmu *mmu, unsigned as_id, u64 first, u64 end)
{
	struct tdp_table *r;

	for (r = tdp_next_root(mmu, NULL, as_id); r; r = tdp_next_root(mmu, r, as_id))
		tdp_zap_range(r, first, end);
}

void hv_mmu_slot_gone(struct hv_vm *vm, const struct hv_memslot *slot)
{
	struct hv_mmu *mmu = vm->mmu;

	rwlock_write(&mmu->lock);
	inval_begin(mmu, slot->hva, slot->hva + (slot->npages << PAGE_SHIFT));
	zap_gfns(mmu, slot->as_id, slot->gfn, slot->gfn + slot->npages);
	inval_end(mmu);
	rwlock_write_unlock(&mmu->lock);
}

/* The part of @slot that lies in host addresses [start, end), as gfns. */
static bool slot_part(const struct hv_memslot *slot, u64 start, u64 end, u64 *first, u64 *last)
{
	u64 slot_end = slot->hva + (slot->npages << PAGE_SHIFT);

	start = max(start, slot->hva);
	end = min(end, slot_end);
	if (start >= end)
		return false;
	*first = slot->gfn + ((start - slot->hva) >> PAGE_SHIFT);
	*last = slot->gfn + ((round_up(end, PAGE_SIZE) - slot->hva) >> PAGE_SHIFT);
	return true;
}

static bool any_slot(struct hv_vm *vm, u64 start, u64 end)
{
	bool hit = false;
	u64 a, b;

	for (unsigned as = 0; as < HV_NR_AS && !hit; as++) {
		struct hv_memslots *s = hv_slots_get(vm, as);

		for (u32 i = 0; i < s->n && !hit; i++)
			hit = slot_part(s->by_gfn[i], start, end, &a, &b);
		hv_slots_put(s);
	}
	return hit;
}

static void zap_host_range(struct hv_vm *vm, u64 start, u64 end)
{
	struct hv_mmu *mmu = vm->mmu;

	/* Most of a process' mappings are no guest memory. */
	if (!any_slot(vm, start, end))
		return;
	rwlock_write(&mmu->lock);
	inval_begin(mmu, start, end);
	for (unsigned as = 0; as < HV_NR_AS; as++) {
		struct hv_memslots *s = hv_slots_get(vm, as);
		u64 first, last;

		for (u32 i = 0; i < s->n; i++)
			if (slot_part(s->by_gfn[i], start, end, &first, &last))
				zap_gfns(mmu, as, first, last);
		hv_slots_put(s);
	}
	inval_end(mmu);
	rwlock_write_unlock(&mmu->lock);
}

static void on_host_change(struct vfs_notifier *n, u64 start, u64 end)
{
	zap_host_range(container_of(n, struct hv_vm, mm_notifier), start, end);
}

enum hv_fault hv_mmu_bus_error(struct hv_vcpu *v, u64 spa)
{
	u64 page = spa & PAGE_MASK;

	/* What is mapped there leads nowhere; if the client maps memory again, faults find it. */
	zap_host_range(v->vm, page, page + PAGE_SIZE);
	return HV_FAULT_EFAULT;
}

/* ---- Life ---- */

int hv_mmu_vm_new(struct hv_vm *vm)
{
	struct hv_mmu *mmu = calloc(1, sizeof(*mmu));
	int r;

	if (!mmu)
		return -ENOMEM;
	r = hv_slots_new(vm);
	if (r) {
		free(mmu);
		return r;
	}
	rwlock_init(&mmu->lock, RANK_MMU_LOCK);
	pthread_mutex_init(&mmu->roots_lock, NULL);
	list_init(&mmu->roots);
	tdp_pool_init(&mmu->pool);
	mmu->vm = vm;
	vm->mmu = mmu;
	vm->mm_notifier.invalidate = on_host_change;
	vfs_notifier_register(&vm->mm_notifier);
	return 0;
}

void hv_mmu_vm_free(struct hv_vm *vm)
{
	struct hv_mmu *mmu = vm->mmu;

	vfs_notifier_unregister(&vm->mm_notifier);
	mmu->dying = true;
	hv_mmu_invalidate_roots(vm);
	epoch_barrier();
	BUG_ON(!list_empty(&mmu->roots));
	BUG_ON(atomic_load(&mmu->tables));
	for (int level = 1; level <= TDP_LEVELS; level++)
		BUG_ON(atomic_load(&mmu->leaves[level]));
	tdp_pool_destroy(&mmu->pool);
	pthread_mutex_destroy(&mmu->roots_lock);
	rwlock_destroy(&mmu->lock);
	free(mmu);
	vm->mmu = NULL;
	hv_slots_free(vm);
}

int hv_mmu_vcpu_new(struct hv_vcpu *v)
{
	int r;

	v->mmu = calloc(1, sizeof(*v->mmu));
	if (!v->mmu)
		return -ENOMEM;
	r = hv_dirty_ring_vcpu_new(v);
	if (r) {
		free(v->mmu);
		v->mmu = NULL;
	}
	return r;
}

void hv_mmu_vcpu_free(struct hv_vcpu *v)
{
	struct hv_vcpu_mmu *m = v->mmu;

	if (!m)
		return;
	if (hv_memory_vcpu == v)
		hv_memory_vcpu = NULL;
	if (m->root)
		tdp_put_root(m->root);
	while (m->nr_cached)
		tdp_table_free(m->cache[--m->nr_cached]);
	hv_dirty_ring_vcpu_free(v);
	free(m);
	v->mmu = NULL;
}
