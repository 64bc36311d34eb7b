/* SPDX-License-Identifier: MIT */
/*
 * PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM and their VEX forms, in the steps of
 * SDM vol. 2B "Imm8 Control Byte Operation for PCMPESTRI/PCMPESTRM/PCMPISTRI/
 * PCMPISTRM". The memory operand needs no alignment.
 */
#include "silicon/x86/flags.h"
#include "silicon/x86/insn/vec.h"

#define YMM(n) (&cpu->fpu.ymm[n])

/* Imm8 fields. */
#define STR_WORDS BIT(0)
#define STR_SIGNED BIT(1)
#define STR_AGGREGATE(imm) ((imm) >> 2 & 3)
#define STR_NEGATE BIT(4)
#define STR_MASKED_NEGATE BIT(5)
#define STR_LAST_OR_EXPAND BIT(6)

static int elem(const struct x86_ymm *v, unsigned i, u64 imm)
{
	if (imm & STR_WORDS)
		return imm & STR_SIGNED ? (s16)v->w[i] : v->w[i];
	return imm & STR_SIGNED ? (s8)v->b[i] : v->b[i];
}

/* Is a(j) related to b(i)? Elements beyond either length follow the override table. */
static bool compare(const struct x86_ymm *a, const struct x86_ymm *b, unsigned la, unsigned lb,
		    unsigned j, unsigned i, u64 imm)
{
	bool in_a = j < la, in_b = i < lb;
	int va = elem(a, j, imm), vb = elem(b, i, imm);

	switch (STR_AGGREGATE(imm)) {
	case 0:		/* equal any */
		return in_a && in_b && va == vb;
	case 1:		/* ranges: even elements are lower bounds, odd ones upper */
		return in_a && in_b && (j & 1 ? vb <= va : vb >= va);
	case 2:		/* equal each */
		return in_a && in_b ? va == vb : !in_a && !in_b;
	default:	/* equal ordered */
		return !in_a || (in_b && va == vb);
	}
}

/* IntRes2. @la, @lb: valid elements of the first and second operand. */
static u32 aggregate(const struct x86_ymm *a, const struct x86_ymm *b, unsigned la, unsigned lb, u64 imm)
{
	unsigned n = imm & STR_WORDS ? 8 : 16;
	u32 res = 0;

	for (unsigned i = 0; i < n; i++) {
		bool r = false;

		switch (STR_AGGREGATE(imm)) {
		case 0:
			for (unsigned j = 0; j < n; j++)
				r |= compare(a, b, la, lb, j, i, imm);
			break;
		case 1:
			for (unsigned j = 0; j < n; j += 2)
				r |= compare(a, b, la, lb, j, i, imm) && compare(a, b, la, lb, j + 1, i, imm);
			break;
		case 2:
			r = compare(a, b, la, lb, i, i, imm);
			break;
		default:
			r = true;
			for (unsigned j = 0; j < n - i; j++)
				r &= compare(a, b, la, lb, j, i + j, imm);
			break;
		}
		if (imm & STR_NEGATE && (!(imm & STR_MASKED_NEGATE) || i < lb))
			r = !r;
		res |= (u32)r << i;
	}
	return res;
}

/* Length of a null-terminated operand. */
static unsigned implicit_length(const struct x86_ymm *v, u64 imm)
{
	unsigned n = imm & STR_WORDS ? 8 : 16, i = 0;

	while (i < n && (imm & STR_WORDS ? v->w[i] : v->b[i]))
		i++;
	return i;
}

/* |EAX| or |RAX|, saturated. */
static unsigned explicit_length(u64 reg, bool quad, u64 imm)
{
	s64 v = quad ? (s64)reg : (s32)reg;
	u64 len = v < 0 ? -(u64)v : (u64)v, n = imm & STR_WORDS ? 8 : 16;

	return (unsigned)(len > n ? n : len);
}

static __always_inline void pcmpstr(struct x86_cpu *cpu, const struct x86_op *op, bool expl, bool index)
{
	bool vex = op->flags & X86_OP_VEX, quad = op->flags & X86_OP_REXW && x86_in_64(cpu);
	const struct x86_ymm *a = YMM(op->reg), *b = YMM(op->rm);
	unsigned la, lb, n = op->imm & STR_WORDS ? 8 : 16;
	struct x86_ymm tmp;
	u32 res;

	if (vex)
		x86_check_avx(cpu);
	else
		x86_check_sse(cpu);
	if (op->flags & X86_OP_MEM) {
		x86_vec_load(cpu, op, &tmp, 16);
		b = &tmp;
	}
	la = expl ? explicit_length(cpu->gpr[X86_RAX], quad, op->imm) : implicit_length(a, op->imm);
	lb = expl ? explicit_length(cpu->gpr[X86_RDX], quad, op->imm) : implicit_length(b, op->imm);
	res = aggregate(a, b, la, lb, op->imm);
	if (index) {
		u32 at = n;

		if (res)
			at = (u32)(op->imm & STR_LAST_OR_EXPAND ? 31 - __builtin_clz(res) : __builtin_ctz(res));
		cpu->gpr[X86_RCX] = at;
	} else {
		struct x86_ymm m = { 0 };

		if (!(op->imm & STR_LAST_OR_EXPAND)) {
			m.d[0] = res;
		} else {
			for (unsigned i = 0; i < n; i++) {
				if (!(res >> i & 1))
					continue;
				if (n == 8)
					m.w[i] = 0xffff;
				else
					m.b[i] = 0xff;
			}
		}
		if (vex)
			*YMM(0) = m;
		else
			x86_copy16(YMM(0), &m);
	}
	x86_set_arith(cpu, (res ? RFLAGS_CF : 0) | (lb < n ? RFLAGS_ZF : 0) | (la < n ? RFLAGS_SF : 0) |
			   (res & 1 ? RFLAGS_OF : 0));
}

static void op_pcmpestri(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, true, true); }
static void op_pcmpestrm(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, true, false); }
static void op_pcmpistri(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, false, true); }
static void op_pcmpistrm(struct x86_cpu *cpu, const struct x86_op *op) { pcmpstr(cpu, op, false, false); }

x86_fn *x86_sel_vec_pcmpstr(const struct x86_dec *d, struct x86_op *op)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PCMPESTRI: case ZYDIS_MNEMONIC_VPCMPESTRI: return op_pcmpestri;
	case ZYDIS_MNEMONIC_PCMPESTRM: case ZYDIS_MNEMONIC_VPCMPESTRM: return op_pcmpestrm;
	case ZYDIS_MNEMONIC_PCMPISTRI: case ZYDIS_MNEMONIC_VPCMPISTRI: return op_pcmpistri;
	default: return op_pcmpistrm;
	}
}
