/* SPDX-License-Identifier: MIT */
/*
 * PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM and their VEX forms. The memory
 * operand needs no alignment.
 */
#include "silicon/x86/flags.h"
#include "silicon/x86/insn/vec.h"

#define YMM(n) (&cpu->fpu.ymm[n])

/*
 * The body takes 32-bit lengths; |length| saturates at 16 anyway, so that a
 * 64-bit one (REX.W) may be clamped beforehand.
 */
static u32 length(u64 reg, bool quad)
{
	s64 v = quad ? (s64)reg : (s32)reg;

	return (u32)(v > 16 ? 16 : v < -16 ? -16 : v);
}

/* op->osize: 0 = index to ECX, 1 = mask to XMM0. */
static __always_inline void pcmpstr(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	bool quad = op->flags & X86_OP_REXW && x86_in_64(cpu);
	const void *s2 = YMM(op->rm);
	struct x86_ymm tmp, mask = { 0 };
	u64 res;

	if (vex)
		x86_check_avx(cpu);
	else
		x86_check_sse(cpu);
	if (op->flags & X86_OP_MEM) {
		x86_vec_load(cpu, op, &tmp, 16);
		s2 = &tmp;
	}
	res = x86_vec_string((const void *)op->imm, YMM(op->reg), s2,
			     length(cpu->gpr[X86_RAX], quad), length(cpu->gpr[X86_RDX], quad),
			     &mask);
	x86_set_arith(cpu, res >> 32 & RFLAGS_ARITH);
	if (!op->osize)
		cpu->gpr[X86_RCX] = (u32)res;
	else if (vex)
		*YMM(0) = mask;
	else
		x86_copy16(YMM(0), &mask);
}

static void pcmpstr_sse(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, false); }
static void pcmpstr_avx(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, true); }

x86_fn *x86_sel_vec_pcmpstr(const struct x86_dec *d, struct x86_op *op)
{
	const struct x86_vec_body *b = x86_vec_body(d->insn.mnemonic, true);

	if (!b)
		return x86_op_ud;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PCMPESTRM: case ZYDIS_MNEMONIC_VPCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRM: case ZYDIS_MNEMONIC_VPCMPISTRM:
		op->osize = 1;
		break;
	default:
		op->osize = 0;
		break;
	}
	op->imm = (u64)x86_vec_imm(b->x, b, op->imm);
	return op->flags & X86_OP_VEX ? pcmpstr_avx : pcmpstr_sse;
}
