/* SPDX-License-Identifier: MIT */
/*
 * Where instruction handlers ask whether they exit to a hypervisor. Every
 * function returns when the instruction shall execute, and unwinds with
 * X86_UNWIND_VMEXIT when it exited. Handlers call them at the point that the
 * manual's order of checks gives (SDM vol. 3C "Relative Priority of Faults
 * and VM Exits"). On an emulating processor they ask the bus' hook instead.
 */
#ifndef SILICON_X86_VMX_INTERCEPT_H
#define SILICON_X86_VMX_INTERCEPT_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/op.h"

/* Columns vmx/svm of the instruction table. */
enum x86_intercept {
	X86_ICPT_NONE,
	X86_ICPT_CPUID, X86_ICPT_HLT, X86_ICPT_INVD, X86_ICPT_WBINVD, X86_ICPT_INVLPG,
	X86_ICPT_RDPMC, X86_ICPT_RDTSC, X86_ICPT_RDTSCP, X86_ICPT_RDRAND, X86_ICPT_RDSEED,
	X86_ICPT_MONITOR, X86_ICPT_MWAIT, X86_ICPT_PAUSE, X86_ICPT_XSETBV, X86_ICPT_RSM,
	X86_ICPT_GETSEC, X86_ICPT_VMX_INSN, X86_ICPT_DTABLE, X86_ICPT_INVPCID,
	X86_ICPT_XSAVES, X86_ICPT_XRSTORS, X86_ICPT_CR, X86_ICPT_DR, X86_ICPT_IO,
	X86_ICPT_MSR, X86_ICPT_IRET, X86_ICPT_SMSW, X86_ICPT_INTN,
};

/* Those that need nothing but the row: qualification 0. */
void x86_icpt(struct x86_cpu *cpu, const struct x86_op *op, enum x86_intercept what);
/*
 * RDTSCP, INVPCID, XSAVES and XRSTORS are #UD in non-root operation unless a
 * control enables them: the first check of all, before privilege.
 */
void x86_icpt_enabled(struct x86_cpu *cpu, enum x86_intercept what);
/* INVLPG: @lin = operand. */
void x86_icpt_invlpg(struct x86_cpu *cpu, const struct x86_op *op, u64 lin);
/*
 * MOV to CRn: may exit; otherwise returns the value that the register gets
 * (host-owned bits kept). @n: 0, 3, 4, 8; @gpr: source.
 */
u64 x86_icpt_cr_write(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr, u64 val);
/* MOV from CRn and SMSW: may exit (3, 8); the value that the guest sees. */
u64 x86_icpt_cr_read(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr);
/* CLTS: true = clear CR0.TS, false = leave it (host owns the bit). */
bool x86_icpt_clts(struct x86_cpu *cpu, const struct x86_op *op);
/* LMSW: new CR0 with PE, MP, EM, TS from @src as far as the guest owns them. */
u64 x86_icpt_lmsw(struct x86_cpu *cpu, const struct x86_op *op, u16 src, bool mem, u64 lin);
/* Value as the guest sees it, no exit: for SMSW. */
u64 x86_guest_cr0(struct x86_cpu *cpu);
/* MOV DR; @from: read. Comes before every other check but #UD of the encoding. */
void x86_icpt_dr(struct x86_cpu *cpu, const struct x86_op *op, unsigned n, unsigned gpr, bool from);
/*
 * Port I/O after the IOPL/bitmap check. @lin: linear address of the string
 * operand (INS/OUTS), else 0.
 */
void x86_icpt_io(struct x86_cpu *cpu, const struct x86_op *op, u16 port, unsigned size, bool in,
		 bool string, bool imm, u64 lin);
/* RDMSR/WRMSR: may exit. True: VMX has served the access itself (x2APIC virtualization): *@val. */
bool x86_icpt_rdmsr(struct x86_cpu *cpu, const struct x86_op *op, u32 msr, u64 *val);
bool x86_icpt_wrmsr(struct x86_cpu *cpu, const struct x86_op *op, u32 msr, u64 val);
/* LGDT LIDT SGDT SIDT (@which 0 SGDT 1 SIDT 2 LGDT 3 LIDT) and SLDT STR LLDT LTR (0..3, @ldt). */
void x86_icpt_dtable(struct x86_cpu *cpu, const struct x86_op *op, unsigned which, bool ldt);
void x86_icpt_invpcid(struct x86_cpu *cpu, const struct x86_op *op);
void x86_icpt_xsaves(struct x86_cpu *cpu, const struct x86_op *op, bool restore);
/* Exits always in non-root; before any state changes. @reason: VMCS numbering, see x86_emul.h. */
void x86_icpt_task_switch(struct x86_cpu *cpu, u16 tss_sel, unsigned reason);

/*
 * An exception is about to be delivered (not yet merged to #DF): exits if the
 * exception bitmap says so. @type as in VMCS interruption information.
 */
void x86_icpt_exception(struct x86_cpu *cpu, u8 vector, u8 type, bool has_error, u32 error, u64 payload);
/* Triple fault: exits in non-root, returns otherwise. */
void x86_icpt_triple_fault(struct x86_cpu *cpu);

/* EPT violation/misconfiguration, PML full, from the page walker (mmu/). */
_Noreturn void x86_vmx_ept_exit(struct x86_cpu *cpu, u32 reason, u64 qual, u64 gpa, u64 lin, bool lin_valid);
/*
 * Access to the APIC-access page. True: virtualized (read: *@val filled, write:
 * stored; a trap-like exit may be pending). Unwinds when it exits.
 */
bool x86_vmx_apic_access(struct x86_cpu *cpu, u64 spa, unsigned size, bool write, bool fetch, u64 *val);

/* IRET is about to execute: NMI unblocking by the rules of the NMI controls. */
void x86_vmx_iret_unblock(struct x86_cpu *cpu);
/* Effective NMI blocking for injection purposes. */
bool x86_vmx_nmi_blocked(struct x86_cpu *cpu);

/*
 * Boundary work in non-root operation, called by the run loop at the priority
 * point named: each may unwind with an exit.
 */
void x86_vmx_boundary_high(struct x86_cpu *cpu);	/* APIC-write, TPR, INIT/SIPI, MTF */
void x86_vmx_boundary_low(struct x86_cpu *cpu);		/* timer, NMI window, NMI, intr window, virtual intr, ext intr */

/*
 * Mode and TLB context of root-mode code: after x86_vmenter() they are out of
 * date (vmx.stale) until somebody executes code or accesses linear memory.
 */
void x86_vmx_root_refresh(struct x86_cpu *cpu);

/* Now and then from the run loop: asks for a boundary when the preemption timer has expired. */
void x86_vmx_timer_poll(struct x86_cpu *cpu);

/* Guest view of the TSC: RDTSC in root or non-root. */
u64 x86_vmx_tsc(struct x86_cpu *cpu);

/* Instruction handlers of the VMX instructions themselves are rows of insn_vmx.def. */

#endif
