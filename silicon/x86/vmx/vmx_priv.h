/* SPDX-License-Identifier: MIT */
/* What the files of vmx/ share: entry checks, transitions, physical accesses, virtual APIC. */
#ifndef SILICON_X86_VMX_VMX_PRIV_H
#define SILICON_X86_VMX_VMX_PRIV_H

#include <x86intrin.h>

#include "silicon/x86/cpu.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/vmx/vmcs.h"
#include "silicon/x86/vmx/vmx_cap.h"

/* Interruption information (entry, exit, IDT-vectoring): bits 7:0 vector, 10:8 type. */
#define INTR_VALID (1u << 31)
#define INTR_ERROR (1u << 11)
#define INTR_NMI_UNBLOCK (1u << 12)
#define INTR_TYPE(info) ((info) >> 8 & 7)
enum { INTR_EXT = 0, INTR_NMI = 2, INTR_HARD = 3, INTR_SOFT_INT = 4, INTR_INT1 = 5, INTR_SOFT_EXC = 6,
       INTR_OTHER = 7 };

/* Interruptibility state. */
#define BLOCK_STI 1u
#define BLOCK_SS 2u
#define BLOCK_SMI 4u
#define BLOCK_NMI 8u

/* Pending debug exceptions. */
#define PDB_ENABLED BIT(12)
#define PDB_BS BIT(14)

#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)
#define DEBUGCTL_FREEZES (BIT(11) | BIT(12))	/* of LBRs and counters, on a PMI */

#define SLOW_SHADOWS (X86_SLOW_SHADOW_STI | X86_SLOW_SHADOW_SS)

/*
 * Width of the addresses that root-mode structures hold. A simulated physical
 * address is an address of this process, so it may be wider than what the
 * model's CPUID tells guests.
 */
static inline unsigned vmx_addr_bits(const struct x86_cpu *cpu)
{
	return cpu->physbits > 48 ? cpu->physbits : 48;
}

static inline bool vmx_addr_ok(const struct x86_cpu *cpu, u64 a, u64 align)
{
	return is_aligned(a, align) && !(a >> vmx_addr_bits(cpu));
}

/*
 * Physical memory that a VMCS field points to. Hypervisors hand out pages of
 * their own guests here (nested operation), so it may vanish: then the run
 * loop's guard, or x86_vmenter()'s, makes a bus error of the host fault.
 */
#define VMX_PHYS_FN(bits) \
	static inline u##bits vmx_read##bits(u64 pa) \
	{ \
		return __atomic_load_n((u##bits *)pa, __ATOMIC_RELAXED); \
	} \
	static inline void vmx_write##bits(u64 pa, u##bits v) \
	{ \
		__atomic_store_n((u##bits *)pa, v, __ATOMIC_RELAXED); \
	}
VMX_PHYS_FN(8)
VMX_PHYS_FN(32)
VMX_PHYS_FN(64)
#undef VMX_PHYS_FN

/* ---- vmx_ops.c ---- */

/* Set the VM-instruction error; VMfailInvalid without a current VMCS. */
int vmx_fail(struct x86_cpu *cpu, unsigned error);
/* The part of VMXON before its operand is read: VMX_OK, VMX_UD or VMX_GP. */
int vmx_vmxon_allowed(const struct x86_cpu *cpu);
/* Would VM entry accept @eptp? */
bool vmx_eptp_ok(const struct x86_cpu *cpu, u64 eptp);

/* ---- entry_check.c ---- */

bool vmx_check_controls(struct x86_cpu *cpu, struct vmcs *v);
bool vmx_check_host(struct x86_cpu *cpu, struct vmcs *v);
#define VMX_GUEST_OK (-1)
/* VMX_GUEST_OK, or the exit qualification of the entry failure. */
int vmx_check_guest(struct x86_cpu *cpu, struct vmcs *v);
/* Secondary controls as they count: 0 when not activated. */
static inline u32 vmx_proc2(const struct vmcs *v)
{
	return V(v, PROC_BASED_CTLS) & PROC_ACTIVATE_SECONDARY ? (u32)V(v, PROC_BASED_CTLS2) : 0;
}

/* ---- entry.c ---- */

/*
 * VMLAUNCH or VMRESUME up to the point where the guest would run. VMX_OK: in
 * non-root operation, or an entry failure has been completed (non_root false).
 */
int vmx_entry(struct x86_cpu *cpu, bool launch);
/* Deliver the event of this entry, from the first boundary. */
void vmx_inject(struct x86_cpu *cpu);

/* ---- exit.c ---- */

/* RFLAGS.RF as saved: SDM "Saving RIP, RSP, RFLAGS, and SSP". */
enum vmx_rf { VMX_RF_KEEP, VMX_RF_CLEAR, VMX_RF_SET };

/* Complete a VM exit and unwind to the run loop. */
_Noreturn void vmx_exit(struct x86_cpu *cpu, u32 reason, u64 qual, enum vmx_rf rf);
/* The same for reasons 0 and 1, with VM-exit interruption information. */
_Noreturn void vmx_exit_event(struct x86_cpu *cpu, u32 reason, u64 qual, enum vmx_rf rf,
			      u32 info, u32 error);
/* An instruction exits before it executes. */
_Noreturn void vmx_exit_insn(struct x86_cpu *cpu, unsigned len, u32 reason, u64 qual);
/* Guest state into the VMCS, host state into the processor, no exit data: for bus errors. */
void vmx_leave_guest(struct x86_cpu *cpu);
/* Failure 33 or 34 of a VM entry: host state is loaded as at an exit. */
void vmx_entry_failed(struct x86_cpu *cpu, u32 reason, u64 qual);
/* Host-TSC ticks left of the preemption timer, in its unit. */
u32 vmx_timer_left(const struct x86_cpu *cpu);
/* The MSR lists: 0, or the 1-based number of the entry that failed. */
u32 vmx_msr_load(struct x86_cpu *cpu, u64 addr, u32 count);
u32 vmx_msr_store(struct x86_cpu *cpu, u64 addr, u32 count);

/* ---- vapic.c ---- */

#define APIC_TPR 0x80
#define APIC_PPR 0xa0
#define APIC_EOI 0xb0
#define APIC_ISR 0x100
#define APIC_IRR 0x200
#define APIC_ICR_LO 0x300
#define APIC_ICR_HI 0x310
#define APIC_SELF_IPI 0x3f0

u8 vmx_vtpr(struct x86_cpu *cpu);
/* MOV to CR8 with TPR shadow. */
void vmx_vtpr_write(struct x86_cpu *cpu, u8 tpr);
/* VM entry with virtual-interrupt delivery: PPR virtualization, then evaluation. */
void vmx_vapic_entry(struct x86_cpu *cpu);
/* Trap-like emulation of a virtualized APIC write; may exit (43, 45, 56). */
void vmx_apic_write_emulate(struct x86_cpu *cpu, u16 off);
/* RDMSR/WRMSR of 800h-8ffh with "virtualize x2APIC mode". True: served. */
bool vmx_x2apic_read(struct x86_cpu *cpu, u32 msr, u64 *val);
bool vmx_x2apic_write(struct x86_cpu *cpu, u32 msr, u64 val);
/* Move posted interrupts into VIRR and evaluate. */
void vmx_posted_intr(struct x86_cpu *cpu);
/* Deliver the recognised virtual interrupt. */
void vmx_deliver_virtual(struct x86_cpu *cpu);
/* Trap-like exits compare VTPR with the threshold. */
void vmx_tpr_threshold(struct x86_cpu *cpu);

/* ---- boundary.c ---- */

/* Come to the boundary functions between any two blocks, until nothing needs it. */
void vmx_poll_boundaries(struct x86_cpu *cpu);

/* An instruction or delivery completed: an armed MTF becomes pending. */
static inline void vmx_mtf_step(struct x86_cpu *cpu)
{
	if (cpu->vmx.mtf == VMX_MTF_ARMED)
		cpu->vmx.mtf = VMX_MTF_PENDING;
}

#endif
