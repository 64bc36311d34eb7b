/* SPDX-License-Identifier: MIT */
/*
 * VMX capability MSRs (480h-493h) and the fixed bits of CR0 and CR4, computed
 * from the tables of spec/x86/. SDM vol. 3D appendix A "VMX Capability Reporting Facility".
 */
#ifndef SILICON_X86_VMX_VMX_CAP_H
#define SILICON_X86_VMX_VMX_CAP_H

#include "silicon/x86/cpu.h"

/* RDMSR of 480h..493h. False: no such MSR on this processor (#GP). All are read-only. */
bool x86_vmx_cap_msr(const struct x86_cpu *cpu, u32 msr, u64 *val);

/* Allowed-0 and allowed-1 settings that a VM entry tests (TRUE MSRs). */
struct vmx_ctl_cap { u32 must, may; };
extern const struct vmx_ctl_cap vmx_cap_pin, vmx_cap_proc, vmx_cap_proc2, vmx_cap_exit, vmx_cap_entry;

#define VMX_CR0_FIXED0 (CR0_PE | CR0_NE | CR0_PG)
#define VMX_CR0_FIXED1 0xffffffffull
#define VMX_CR4_FIXED0 CR4_VMXE

/* IA32_VMX_MISC parts that VM entries use. */
#define VMX_TIMER_SHIFT 5	/* the preemption timer counts 2^5 TSC cycles a tick */
#define VMX_CR3_TARGETS 4
#define VMX_MAX_MSRS 512
#define VMX_VMFUNC_EPTP_SWITCHING BIT(0)

#endif
