/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: memslots, access from the hypervisor, dirty tracking, and the
 * faults of simulated EPT. memslots.c, dirty.c, x86/mmu/.
 */
#ifndef KVM_MEM_H
#define KVM_MEM_H

#include "kvm/vcpu.h"

struct hv_memslot {
	u64 gfn, npages;
	u64 hva;		/* userspace_addr */
	u32 flags;		/* KVM_MEM_* */
	u16 id, as_id;
	_Atomic u64 *dirty;	/* bitmap, or NULL */
};

/* KVM_SET_USER_MEMORY_REGION with the errno rules of the API. */
int hv_set_memory_region(struct hv_vm *vm, const struct kvm_userspace_memory_region *r);
int hv_get_dirty_log(struct hv_vm *vm, struct kvm_dirty_log *log);
int hv_clear_dirty_log(struct hv_vm *vm, struct kvm_clear_dirty_log *log);
/* Dirty ring: per vCPU, created with it when vm->dirty_ring_bytes != 0. */
int hv_dirty_ring_enable(struct hv_vm *vm, u64 bytes);
int hv_reset_dirty_rings(struct hv_vm *vm);
bool hv_dirty_ring_soft_full(struct hv_vcpu *v);

/*
 * Access by guest-physical address, any length, across slots. Return 0, or
 * -EFAULT if a byte is in no slot (write: in a read-only one) or its host page
 * is gone. Writes are reported to dirty tracking. @as_id 0 or 1.
 */
int hv_read_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, void *buf, size_t len);
int hv_write_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, const void *buf, size_t len);
/* Locked; @size 1, 2, 4, 8, 16; *@old is replaced on mismatch (returns 1). 0 done, -EFAULT. */
int hv_cmpxchg_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, void *old, const void *val, unsigned size);
/* True if @gpa lies in a slot (and, for @write, in one that is not read-only). */
bool hv_gpa_is_ram(struct hv_vm *vm, unsigned as_id, u64 gpa, bool write);

enum hv_fault {
	HV_FAULT_RESUME,	/* mapped (or spurious): enter again */
	HV_FAULT_MMIO,		/* no slot, or write to a read-only slot: emulate */
	HV_FAULT_EFAULT,	/* host page is gone: KVM_RUN returns -EFAULT */
	HV_FAULT_DIRTY_FULL,	/* dirty ring full: exit to user space */
};
/* An EPT violation at @gpa; @qual = exit qualification. */
enum hv_fault hv_mmu_fault(struct hv_vcpu *v, u64 gpa, u64 qual);
/* Exit 49: an MMIO entry, generation-tagged; HV_FAULT_MMIO if it is current. */
enum hv_fault hv_mmu_misconfig(struct hv_vcpu *v, u64 gpa);
/* The silicon reported a bus error at simulated physical address @spa. */
enum hv_fault hv_mmu_bus_error(struct hv_vcpu *v, u64 spa);
/*
 * EPTP for the next entry in address space @as_id (loads a root); 0 = out of
 * memory. A root that was not in force before sets HV_REQ_TLB_FLUSH, so call
 * this before that is served.
 */
u64 hv_mmu_load(struct hv_vcpu *v, unsigned as_id);
/* Exit 62 and at dirty-log collection: drain the PML buffer (PML address and index in the VMCS). */
void hv_mmu_flush_pml(struct hv_vcpu *v);

/* Track dirty pages by D flags and PML: vCPUs have it on from their making. Before the first one. */
void hv_mmu_use_pml(struct hv_vm *vm);
bool hv_mmu_uses_pml(const struct hv_vm *vm);

int hv_mmu_vm_new(struct hv_vm *vm);
void hv_mmu_vm_free(struct hv_vm *vm);
int hv_mmu_vcpu_new(struct hv_vcpu *v);
void hv_mmu_vcpu_free(struct hv_vcpu *v);

/* Width of guest-physical addresses that EPT can map on @model; slots above it are -EINVAL. */
unsigned hv_max_gpa_bits(const struct x86_model *model);

#endif
