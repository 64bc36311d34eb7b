/* SPDX-License-Identifier: MIT */
/*
 * MUL IMUL DIV IDIV and MULX. Undefined flags as on Intel processors: after a
 * multiplication SF and PF of the low half, ZF = AF = 0; a division changes none.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

static __inline_all void mul_flags(struct x86_cpu *cpu, u64 low, bool overflow, unsigned size)
{
	cpu->cc_s = (u64)sign_extend(low, size * 8);
	cpu->cc_z = 1;
	cpu->cc_c = x86_carry_word(overflow, overflow, false);
}

/* The double-width register pair: AX, DX:AX, EDX:EAX, RDX:RAX. */
static __inline_all void set_pair(struct x86_cpu *cpu, u64 low, u64 high, unsigned size)
{
	if (size == 1) {
		set_reg(cpu, X86_RAX, (u64)(u8)low | (u64)(u8)high << 8, 2);
		return;
	}
	set_reg(cpu, X86_RAX, low, size);
	set_reg(cpu, X86_RDX, high, size);
}

static __inline_all void mul(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u128 p = (u128)get_reg(cpu, X86_RAX, size) * get_rm(cpu, op, size);
	u64 low = trunc_to((u64)p, size), high = trunc_to((u64)(p >> size * 8), size);

	set_pair(cpu, low, high, size);
	mul_flags(cpu, low, high != 0, size);
}

static __inline_all s64 signed_of(u64 v, unsigned size)
{
	return sign_extend(v, size * 8);
}

static __inline_all void imul1(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	s128 p = (s128)signed_of(get_reg(cpu, X86_RAX, size), size) * signed_of(get_rm(cpu, op, size), size);
	u64 low = trunc_to((u64)p, size);

	set_pair(cpu, low, (u64)((u128)p >> size * 8), size);
	mul_flags(cpu, low, p != signed_of(low, size), size);
}

static __inline_all void imul_to(struct x86_cpu *cpu, unsigned dst, u64 a, u64 b, unsigned size)
{
	s64 low;
	bool overflow;

	if (size == 8) {
		overflow = __builtin_mul_overflow((s64)a, (s64)b, &low);
	} else {
		s64 p = signed_of(a, size) * signed_of(b, size);

		low = signed_of((u64)p, size);
		overflow = low != p;
	}
	set_reg(cpu, dst, (u64)low, size);
	mul_flags(cpu, (u64)low, overflow, size);
}

static __inline_all void imul2(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	imul_to(cpu, op->reg, get_reg(cpu, op->reg, size), get_rm(cpu, op, size), size);
}

static __inline_all void imul3(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	imul_to(cpu, op->reg, get_rm(cpu, op, size), op->imm, size);
}

static __inline_all u128 dividend(struct x86_cpu *cpu, unsigned size)
{
	if (size == 1)
		return (u16)cpu->gpr[X86_RAX];
	return (u128)get_reg(cpu, X86_RDX, size) << size * 8 | get_reg(cpu, X86_RAX, size);
}

static __inline_all void divide(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u128 n = dividend(cpu, size);
	u64 d = get_rm(cpu, op, size);

	/* The quotient fits iff the upper half is below the divisor. */
	if ((u64)(n >> size * 8) >= d)
		x86_fault(cpu, X86_DE);
	if (size < 8 || n >> 64 == 0)
		set_pair(cpu, (u64)n / d, (u64)n % d, size);
	else
		set_pair(cpu, (u64)(n / d), (u64)(n % d), size);
}

/* By magnitudes: the extreme values have no positive counterpart in signed types. */
static __inline_all void idivide(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u128 n = dividend(cpu, size), un, uq;
	s64 d = signed_of(get_rm(cpu, op, size), size);
	u64 ud = d < 0 ? -(u64)d : (u64)d, q, r;
	bool neg_n = (u64)(n >> (size * 16 - 1)) & 1, neg_q = neg_n != (d < 0);
	u64 limit = (1ull << (size * 8 - 1)) - !neg_q;

	un = neg_n ? -n : n;
	if (size < 8)
		un &= ((u128)1 << size * 16) - 1;
	if (!ud)
		x86_fault(cpu, X86_DE);
	if (un >> 64 == 0) {
		uq = (u64)un / ud;
		r = (u64)un % ud;
	} else {
		uq = un / ud;
		r = (u64)(un % ud);
	}
	if (uq > limit)
		x86_fault(cpu, X86_DE);
	q = (u64)uq;
	set_pair(cpu, neg_q ? -q : q, neg_n ? -r : r, size);
}

#define WIDTHS(f) \
	static void f##_2(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 2); } \
	static void f##_4(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 4); } \
	static void f##_8(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 8); }
#define WIDTHS_AND_BYTE(f) \
	static void f##_1(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 1); } \
	WIDTHS(f)
WIDTHS_AND_BYTE(mul)
WIDTHS_AND_BYTE(imul1)
WIDTHS(imul2)
WIDTHS(imul3)
WIDTHS_AND_BYTE(divide)
WIDTHS_AND_BYTE(idivide)

#define SEL_ONE_OPERAND(name, f) \
	x86_fn *x86_sel_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const fn[4] = HANDLERS(f); \
		return by_size(fn, op->osize); \
	}
SEL_ONE_OPERAND(mul, mul)
SEL_ONE_OPERAND(div, divide)
SEL_ONE_OPERAND(idiv, idivide)

x86_fn *x86_sel_imul(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const one[4] = HANDLERS(imul1),
		*const two[4] = { x86_op_ud, imul2_2, imul2_4, imul2_8 },
		*const three[4] = { x86_op_ud, imul3_2, imul3_4, imul3_8 };

	if (d->insn.opcode_map == ZYDIS_OPCODE_MAP_0F)
		return by_size(two, op->osize);
	return by_size(d->insn.opcode == 0x69 || d->insn.opcode == 0x6b ? three : one, op->osize);
}

/* MULX: no flags; with equal destinations the high half wins. */
static __inline_all void mulx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u128 p = (u128)get_reg(cpu, X86_RDX, size) * get_rm(cpu, op, size);

	set_reg(cpu, op->vvvv, (u64)p, size);
	set_reg(cpu, op->reg, (u64)(p >> size * 8), size);
}
static void mulx_4(struct x86_cpu *cpu, const struct x86_op *op) { mulx(cpu, op, 4); }
static void mulx_8(struct x86_cpu *cpu, const struct x86_op *op) { mulx(cpu, op, 8); }

x86_fn *x86_sel_mulx(const struct x86_dec *d, struct x86_op *op)
{
	return op->osize == 8 ? mulx_8 : mulx_4;
}
