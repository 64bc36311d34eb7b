/* SPDX-License-Identifier: MIT */
/*
 * VT-x of the simulated processor as root-mode software uses it: one C
 * function per VMX instruction, with the operand checks, VMfail numbers and
 * effects of SDM vol. 3C "VMX Instruction Reference". The pointer operands
 * are simulated physical addresses (4 KiB regions in this process).
 *
 * Field encodings and capability MSR layouts are in spec/x86/vmcs.def and
 * spec/x86/vmx_ctl.def; enum vmcs_field below is made from the former.
 */
#ifndef SILICON_VMX_H
#define SILICON_VMX_H

#include "silicon/x86.h"

enum vmcs_field {
#define VMCS(enc, name, width, type, needs) VMCS_##name = (enc),
#include "spec/x86/vmcs.def"
#undef VMCS
};

/* Basic exit reasons: VMX_EXIT_<name>. */
enum vmx_exit_reason {
#define VMX_EXIT(nr, name, text) VMX_EXIT_##name = (nr),
#include "spec/x86/vmx_exit.def"
#undef VMX_EXIT
};
#define VMX_EXIT_ENTRY_FAILURE (1u << 31)

/* Control bits: PIN_*, PROC_*, PROC2_*, PROC3_*, EXITC_*, ENTRY_* as masks. */
enum vmx_controls {
#define VMX_CTL(group, bit, name, offer) group##_##name = 1u << (bit),
#include "spec/x86/vmx_ctl.def"
#undef VMX_CTL
};

/* Outcome of a VMX instruction. */
#define VMX_OK 0
#define VMX_FAIL_INVALID (-1)
/* > 0: VMfailValid with that VM-instruction error number. */
/* The instruction would fault: */
#define VMX_GP (-2)
#define VMX_UD (-3)

int __must_check x86_vmxon(struct x86_cpu *cpu, spa_t region);
int __must_check x86_vmxoff(struct x86_cpu *cpu);
int __must_check x86_vmclear(struct x86_cpu *cpu, spa_t vmcs);
int __must_check x86_vmptrld(struct x86_cpu *cpu, spa_t vmcs);
int __must_check x86_vmptrst(struct x86_cpu *cpu, spa_t *vmcs);
/* @enc: a VMCS_* field or its encoding | 1 for a high half. */
int __must_check x86_vmread(struct x86_cpu *cpu, u32 enc, u64 *val);
int __must_check x86_vmwrite(struct x86_cpu *cpu, u32 enc, u64 val);
int __must_check x86_invept(struct x86_cpu *cpu, u64 type, const u64 desc[2]);
int __must_check x86_invvpid(struct x86_cpu *cpu, u64 type, const u64 desc[2]);

/*
 * VMLAUNCH (@launch) or VMRESUME; runs the guest on the calling thread and
 * returns after the next VM exit with host state loaded.
 * Returns VMX_OK after an exit (VMCS_EXIT_REASON says which, entry failures
 * 33/34 included); VMX_FAIL_INVALID or an error number > 0 when no entry took
 * place; VMX_BUS_ERROR when the memory behind a simulated physical address is
 * gone: the guest stands before the instruction, its state is saved in the
 * VMCS as at an exit, and *@bad is the address; VMX_ABORT after a VMX abort
 * (the processor is in shutdown: reset it).
 * Source: SDM vol. 3C "VM Entries", "VM Exits".
 */
#define VMX_BUS_ERROR (-4)
#define VMX_ABORT (-5)
int __must_check x86_vmenter(struct x86_cpu *cpu, bool launch, spa_t *bad);

/*
 * Fast accessors for the current VMCS, for a hypervisor's hot paths: the field
 * must exist and be of the class; BUG otherwise. Same semantics as
 * VMREAD/VMWRITE with a valid current VMCS.
 */
u64 x86_vmcs_get(struct x86_cpu *cpu, enum vmcs_field field);
void x86_vmcs_set(struct x86_cpu *cpu, enum vmcs_field field, u64 val);

#endif
