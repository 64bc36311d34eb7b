/* SPDX-License-Identifier: MIT */
/*
 * The ways out of an instruction handler other than returning. All unwind to
 * the run loop by longjmp; RIP still points at the instruction.
 */
#ifndef SILICON_X86_FAULT_H
#define SILICON_X86_FAULT_H

#include "silicon/x86/cpu.h"

enum x86_vector {
	X86_DE, X86_DB, X86_NMI, X86_BP, X86_OF, X86_BR, X86_UD, X86_NM, X86_DF,
	X86_TS = 10, X86_NP, X86_SS_FAULT, X86_GP, X86_PF, X86_MF = 16, X86_AC, X86_MC,
	X86_XM, X86_VE, X86_CP
};

enum x86_unwind {
	X86_UNWIND_NONE,
	X86_UNWIND_FAULT,	/* cpu->fault: deliver an exception */
	X86_UNWIND_VMEXIT,	/* a VM exit has been completed: leave the run loop */
	X86_UNWIND_BUS_ERROR,	/* payload = simulated physical address */
	X86_UNWIND_BUS_RETRY,	/* emulation: the bus asked to come again */
	X86_UNWIND_BUS_FAIL,	/* emulation: the bus or a hook refused */
	X86_UNWIND_RESTART,	/* nothing happened: go on at cpu->rip (REP with an event pending) */
};

/* Raise a fault-class exception of the current instruction. */
_Noreturn void x86_fault(struct x86_cpu *cpu, enum x86_vector vector);
_Noreturn void x86_fault_code(struct x86_cpu *cpu, enum x86_vector vector, u32 error);
_Noreturn void x86_page_fault(struct x86_cpu *cpu, u64 lin, u32 error);
/* #DB raised as a fault or as the trap of INT1: @dr6 = new DR6 cause bits. */
_Noreturn void x86_debug_fault(struct x86_cpu *cpu, u64 dr6);

static inline _Noreturn void x86_ud(struct x86_cpu *cpu) { x86_fault(cpu, X86_UD); }
static inline _Noreturn void x86_gp0(struct x86_cpu *cpu) { x86_fault_code(cpu, X86_GP, 0); }

_Noreturn void x86_unwind(struct x86_cpu *cpu, enum x86_unwind kind);

#endif
