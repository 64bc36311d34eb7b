/* SPDX-License-Identifier: MIT */
/*
 * A VM for tests of guest memory: memslots and the TDP MMU are real, vCPUs and
 * their processors are not. An access is an EPT walk made here, and a fault
 * goes to hv_mmu_fault() as an exit would. Flushes follow the entry handshake
 * of vcpu.h, so that a translation in use holds up its flush.
 */
#ifndef KVM_X86_MMU_FAKE_H
#define KVM_X86_MMU_FAKE_H

#include "kvm/x86/mmu/mmu.h"

#define FAKE_TLB 64

struct fake_vcpu {
	struct hv_vcpu v;
	/* translations as a processor caches them: gfn -> host page, W */
	struct { u64 gfn, page; bool w; } tlb[FAKE_TLB];
	u64 eptp;
	u64 flushes;
};

struct hv_vm *fake_vm_new(void);
void fake_vm_free(struct hv_vm *vm);
struct fake_vcpu *fake_vcpu_new(struct hv_vm *vm);
void fake_vcpu_free(struct fake_vcpu *f);

/* Results of an access besides enum hv_fault (RESUME = it was made). */
#define FAKE_GAVE_UP 100	/* too many faults in a row */

/*
 * Read or write @val (8 bytes, aligned) at @gpa in address space @as. Caches
 * the translation; A and D flags are set as hardware would.
 */
int fake_access(struct fake_vcpu *f, unsigned as, u64 gpa, bool write, u64 *val);
/* Translation in the tables, no fault: the leaf entry and its level, or 0. */
u64 fake_leaf(struct fake_vcpu *f, unsigned as, u64 gpa, int *level);

/* Times that hv_flush_remote_tlbs() was called. */
extern _Atomic u64 fake_flushes;
/* PML buffer of all fake processors and the index as in the VMCS; NULL = off. */
extern u64 *fake_pml;
extern unsigned fake_pml_index;

#endif
