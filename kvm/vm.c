// SPDX-License-Identifier: MIT
/*
 * Life of a VM: what CREATE_VM makes and the last reference takes down. The
 * capabilities of x86 are in x86/vmcap.c, memory in memslots.c and x86/mmu/.
 */
#include "kvm/hv.h"

#include <errno.h>
#include <stdlib.h>

#include "kvm/stats.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/hyperv/hyperv.h"

static void vm_free(struct hv_vm *vm)
{
	unsigned i;
	struct hv_vcpu *v;

	/* irqfds and timers first: they reach vCPUs from other threads. */
	hv_eventfds_free(vm);
	hv_irqchip_free(vm);
	hv_for_each_vcpu(i, v, vm)
		hv_vcpu_free(v);
	hv_iobus_free(vm);
	hv_mmu_vm_free(vm);
	hv_msr_filter_free(vm);
	hv_pmu_filter_free(vm);
	hv_coalesced_free(vm);
	hyperv_vm_free(vm);
	hv_clock_vm_free(vm);
	hv_stats_free(vm->stats);
	pthread_mutex_destroy(&vm->irq_lock);
	pthread_mutex_destroy(&vm->slots_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int hv_vm_new(const char *model, struct hv_vm **out)
{
	const struct x86_model *m = x86_model_find(model);
	struct hv_vm *vm;
	int r;

	if (!m)
		return -ENOENT;
	if (!hv_model_supported(m))
		return -ENODEV;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	atomic_init(&vm->refs, 1);
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->slots_lock, NULL);
	pthread_mutex_init(&vm->irq_lock, NULL);
	list_init(&vm->coalesced_zones);
	list_init(&vm->ioeventfds);
	vm->coalesced_memfd = -1;
	vm->model = m;
	vm->max_vcpu_id = HV_MAX_VCPU_ID;
	r = -ENOMEM;
	vm->stats = hv_stats_new(-1);
	if (!vm->stats)
		goto fail_stats;
	r = hv_clock_vm_new(vm);
	if (r < 0)
		goto fail_clock;
	r = hyperv_vm_new(vm);
	if (r < 0)
		goto fail_hyperv;
	r = hv_coalesced_new(vm);
	if (r < 0)
		goto fail_coalesced;
	r = hv_mmu_vm_new(vm);
	if (r < 0)
		goto fail_mmu;
	if (hv_vmx_has_pml(m))
		hv_mmu_use_pml(vm);
	*out = vm;
	return 0;

fail_mmu:
	hv_coalesced_free(vm);
fail_coalesced:
	hyperv_vm_free(vm);
fail_hyperv:
	hv_clock_vm_free(vm);
fail_clock:
	hv_stats_free(vm->stats);
fail_stats:
	free(vm);
	return r;
}

void hv_vm_get(struct hv_vm *vm)
{
	atomic_fetch_add(&vm->refs, 1);
}

void hv_vm_put(struct hv_vm *vm)
{
	if (atomic_fetch_sub(&vm->refs, 1) == 1)
		vm_free(vm);
}

struct hv_vcpu *hv_vcpu_by_id(struct hv_vm *vm, u32 id)
{
	struct hv_vcpu *v;
	unsigned i;

	/* The usual client numbers them 0, 1, 2, ... */
	if (id < atomic_load(&vm->nr_vcpus)) {
		v = hv_vcpu_by_idx(vm, id);
		if (v->id == id)
			return v;
	}
	hv_for_each_vcpu(i, v, vm) {
		if (v->id == id)
			return v;
	}
	return NULL;
}

bool hv_vm_has_vcpus(struct hv_vm *vm)
{
	return atomic_load(&vm->nr_vcpus) != 0;
}

int hv_vm_stats_fd(struct hv_vm *vm)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = hv_stats_fd(vm->stats);
	pthread_mutex_unlock(&vm->lock);
	return r;
}
