/* SPDX-License-Identifier: MIT */
/*
 * What every x87, MMX, SSE and AVX handler asks first: may the instruction run
 * now (CR0.EM, CR0.TS, CR4.OSFXSR, CR4.OSXSAVE, XCR0, a pending x87 error), and
 * the layout of MXCSR and XCR0. The instructions themselves live beside it.
 */
#ifndef SILICON_X86_INSN_FP_STATE_H
#define SILICON_X86_INSN_FP_STATE_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/fault.h"

/* MXCSR and the x87 status word share the low six; masks are at << 7 and FCW 5:0. */
#define FP_IE BIT(0)
#define FP_DE BIT(1)
#define FP_ZE BIT(2)
#define FP_OE BIT(3)
#define FP_UE BIT(4)
#define FP_PE BIT(5)
#define FP_FLAGS BITS(5, 0)
#define FP_PRE_FLAGS (FP_IE | FP_DE | FP_ZE)	/* found before the result is computed */

#define MXCSR_DAZ BIT(6)
#define MXCSR_MASK_SHIFT 7
#define MXCSR_MASKS BITS(12, 7)
#define MXCSR_RC BITS(14, 13)
#define MXCSR_FTZ BIT(15)
#define MXCSR_RESET 0x1f80u
#define MXCSR_VALID 0xffffu	/* MXCSR_MASK as FXSAVE reports it */

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)
#define XCR0_PKRU BIT(9)

#define FSW_SF BIT(6)
#define FSW_ES BIT(7)
#define FSW_C0 BIT(8)
#define FSW_C1 BIT(9)
#define FSW_C2 BIT(10)
#define FSW_C3 BIT(14)
#define FSW_CC (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)
#define FSW_TOP BITS(13, 11)
#define FSW_B BIT(15)

static inline void x86_check_sse(struct x86_cpu *cpu)
{
	if (likely(!(cpu->cr0 & (CR0_EM | CR0_TS)) && cpu->cr4 & CR4_OSFXSR))
		return;
	if (cpu->cr0 & CR0_EM || !(cpu->cr4 & CR4_OSFXSR))
		x86_ud(cpu);
	x86_fault(cpu, X86_NM);
}

static inline void x86_check_avx(struct x86_cpu *cpu)
{
	if (unlikely(!(cpu->cr4 & CR4_OSXSAVE) || ~cpu->xcr0 & (XCR0_SSE | XCR0_AVX)))
		x86_ud(cpu);
	if (unlikely(cpu->cr0 & CR0_TS))
		x86_fault(cpu, X86_NM);
}

/* A waiting instruction meets an unmasked x87 exception of an earlier one. */
void x86_fp_pending(struct x86_cpu *cpu);

static inline void x86_check_fp_pending(struct x86_cpu *cpu)
{
	if (unlikely(cpu->fpu.fsw & FSW_ES))
		x86_fp_pending(cpu);
}

/* x87 instructions that do not wait. */
static inline void x86_check_x87_nowait(struct x86_cpu *cpu)
{
	if (unlikely(cpu->cr0 & (CR0_EM | CR0_TS)))
		x86_fault(cpu, X86_NM);
}

static inline void x86_check_x87(struct x86_cpu *cpu)
{
	x86_check_x87_nowait(cpu);
	x86_check_fp_pending(cpu);
}

static inline void x86_check_mmx(struct x86_cpu *cpu)
{
	if (unlikely(cpu->cr0 & CR0_EM))
		x86_ud(cpu);
	if (unlikely(cpu->cr0 & CR0_TS))
		x86_fault(cpu, X86_NM);
	x86_check_fp_pending(cpu);
}

/* FINIT's state, which is also the init state of the XSAVE component; the data registers stay. */
void x86_fp_init(struct x86_cpu *cpu);
/* FSW.ES and FSW.B follow from the flags and the masks. */
void x86_fp_update_es(struct x86_cpu *cpu);

/* #XM, or #UD while the operating system has not announced a handler. */
_Noreturn void x86_simd_fault(struct x86_cpu *cpu);

#endif
