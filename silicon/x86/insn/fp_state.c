/* SPDX-License-Identifier: MIT */
/* State of the x87 unit that several families share, and the exceptions of FP instructions. */
#include "silicon/x86/insn/fp_state.h"

#include "base/log.h"

void x86_fp_pending(struct x86_cpu *cpu)
{
	if (cpu->cr0 & CR0_NE)
		x86_fault(cpu, X86_MF);
	/* The FERR# pin and port F0h of the ISA bus; execution goes on as with IGNNE# active. */
	UNIMPL("x87 error reporting with CR0.NE = 0");
}

void x86_fp_init(struct x86_cpu *cpu)
{
	cpu->fpu.fcw = 0x37f;
	cpu->fpu.fsw = 0;
	cpu->fpu.ftw = 0;
	cpu->fpu.fop = 0;
	cpu->fpu.fip = cpu->fpu.fdp = 0;
}

void x86_fp_update_es(struct x86_cpu *cpu)
{
	struct x86_fpu *f = &cpu->fpu;

	f->fsw &= (u16)~(FSW_ES | FSW_B);
	if (f->fsw & ~f->fcw & FP_FLAGS)
		f->fsw |= FSW_ES | FSW_B;
}

_Noreturn void x86_simd_fault(struct x86_cpu *cpu)
{
	x86_fault(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
}
