// SPDX-License-Identifier: MIT
/* Fake vCPUs on the real MMU: see mmu_fake.h. */
#include "kvm/x86/mmu/mmu_fake.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

_Atomic u64 fake_flushes;

/* ---- What kvm/ and silicon/ have for real ---- */

void hv_request_all(struct hv_vm *vm, enum hv_request r, bool wait)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm)
		hv_set_request(v, r);
	/* One that is in the guest with the request unseen goes out when its access is over. */
	hv_for_each_vcpu(i, v, vm)
		while (wait && atomic_load(&v->mode) == HV_IN_GUEST && (atomic_load(&v->requests) >> r & 1))
			sched_yield();
}

void hv_flush_remote_tlbs(struct hv_vm *vm)
{
	atomic_fetch_add(&fake_flushes, 1);
	hv_request_all(vm, HV_REQ_TLB_FLUSH, true);
}

u64 *fake_pml;
unsigned fake_pml_index = 511;

/* ---- VM ---- */

struct hv_vm *fake_vm_new(void)
{
	struct hv_vm *vm = calloc(1, sizeof(*vm));

	BUG_ON(!vm);
	vm->model = x86_model_find("intel");	/* 46 bits */
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->slots_lock, NULL);
	BUG_ON(hv_mmu_vm_new(vm));
	return vm;
}

void fake_vm_free(struct hv_vm *vm)
{
	unsigned i;
	struct hv_vcpu *v;

	hv_for_each_vcpu(i, v, vm)
		fake_vcpu_free(container_of(v, struct fake_vcpu, v));
	hv_mmu_vm_free(vm);
	pthread_mutex_destroy(&vm->slots_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

struct fake_vcpu *fake_vcpu_new(struct hv_vm *vm)
{
	struct fake_vcpu *f = calloc(1, sizeof(*f));

	BUG_ON(!f);
	f->v.vm = vm;
	f->v.idx = atomic_load(&vm->nr_vcpus);
	f->v.memfd = memfd_create("vcpu", 0);
	memset(f->tlb, 0xff, sizeof(f->tlb));
	BUG_ON(hv_mmu_vcpu_new(&f->v));
	atomic_store(&vm->vcpus[f->v.idx], &f->v);
	atomic_fetch_add(&vm->nr_vcpus, 1);
	return f;
}

void fake_vcpu_free(struct fake_vcpu *f)
{
	hv_mmu_vcpu_free(&f->v);
	close(f->v.memfd);
	free(f);
}

/* ---- The processor ---- */

struct result {
	u64 page;
	bool w;
	u64 qual;
	bool misconfig;
};

/* As silicon/x86/mmu/ept.c does, in the small. True: translated. */
static bool walk(u64 eptp, u64 gpa, bool write, struct result *r)
{
	u64 table = eptp & SPTE_ADDR, perm = 7, *ptr, e;
	bool ok = false;

	memset(r, 0, sizeof(*r));
	epoch_enter();
	for (int level = TDP_LEVELS; ; level--) {
		ptr = (u64 *)table + (gpa >> (3 + 9 * level) & 511);
again:
		e = tdp_read(ptr);
		if (!(e & 7))
			break;
		if (!(e & SPTE_R)) {
			r->misconfig = true;
			break;
		}
		perm &= e;
		if (level > 1 && !(e & SPTE_PS)) {
			table = e & SPTE_ADDR;
			continue;
		}
		if (write && !(perm & SPTE_W))
			break;
		if ((e & (SPTE_A | SPTE_D)) != (SPTE_A | (write ? SPTE_D : e & SPTE_D))) {
			u64 old = e;

			if (!__atomic_compare_exchange_n(ptr, &old, e | SPTE_A | (write ? SPTE_D : 0), false,
							 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				goto again;
			if (write && !(e & SPTE_D) && fake_pml)
				fake_pml[fake_pml_index--] = gpa & PAGE_MASK;
		}
		r->page = (e & SPTE_ADDR & ~((1ull << (3 + 9 * level)) - 1)) |
			  (gpa & ((1ull << (3 + 9 * level)) - 1) & PAGE_MASK);
		r->w = (perm & SPTE_W) && (write || (e & SPTE_D));
		ok = true;
		break;
	}
	epoch_exit();
	r->qual = write ? 2 : 1;
	return ok;
}

/* Requests, as before an entry. */
static void serve(struct fake_vcpu *f, unsigned as)
{
	u64 eptp = hv_mmu_load(&f->v, as);

	BUG_ON(!eptp);
	if (atomic_exchange(&f->v.requests, 0) >> HV_REQ_TLB_FLUSH & 1) {
		memset(f->tlb, 0xff, sizeof(f->tlb));
		f->flushes++;
	}
	f->eptp = eptp;
}

int fake_access(struct fake_vcpu *f, unsigned as, u64 gpa, bool write, u64 *val)
{
	for (unsigned tries = 0; tries < 1000000; tries++) {
		unsigned slot = (gpa >> PAGE_SHIFT) % FAKE_TLB;
		struct result r;
		int ret;

		serve(f, as);
		atomic_store(&f->v.mode, HV_IN_GUEST);
		if (atomic_load(&f->v.requests)) {
			atomic_store(&f->v.mode, HV_OUTSIDE_GUEST);
			continue;
		}
		if (f->tlb[slot].gfn != gpa >> PAGE_SHIFT || (write && !f->tlb[slot].w)) {
			if (!walk(f->eptp, gpa, write, &r)) {
				atomic_store(&f->v.mode, HV_OUTSIDE_GUEST);
				ret = r.misconfig ? (int)hv_mmu_misconfig(&f->v, gpa) :
				      (int)hv_mmu_fault(&f->v, gpa, r.qual);
				if (ret != HV_FAULT_RESUME)
					return ret;
				if (tries > 100)
					sched_yield();
				continue;
			}
			f->tlb[slot].gfn = gpa >> PAGE_SHIFT;
			f->tlb[slot].page = r.page;
			f->tlb[slot].w = r.w;
		}
		{
			u64 *p = (u64 *)(f->tlb[slot].page | (gpa & ~PAGE_MASK));

			if (write)
				__atomic_store_n(p, *val, __ATOMIC_RELAXED);
			else
				*val = __atomic_load_n(p, __ATOMIC_RELAXED);
		}
		atomic_store(&f->v.mode, HV_OUTSIDE_GUEST);
		return HV_FAULT_RESUME;
	}
	return FAKE_GAVE_UP;
}

u64 fake_leaf(struct fake_vcpu *f, unsigned as, u64 gpa, int *level)
{
	struct tdp_iter it;
	u64 leaf = 0;

	serve(f, as);
	epoch_enter();
	tdp_for_each(&it, f->v.mmu->root, 1, gpa >> PAGE_SHIFT, (gpa >> PAGE_SHIFT) + 1) {
		if (!spte_leaf(it.e.old, it.e.level))
			continue;
		leaf = it.e.old;
		*level = it.e.level;
	}
	epoch_exit();
	return leaf;
}
