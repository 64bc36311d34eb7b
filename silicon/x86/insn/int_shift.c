/* SPDX-License-Identifier: MIT */
/*
 * Shifts and rotates: SHL SHR SAR, ROL ROR RCL RCR, SHLD SHRD. Flags that the
 * manual leaves undefined (OF for counts above 1) follow Intel processors, which
 * compute OF as for a count of 1.
 *
 * A masked count of 0 changes neither flags nor value, but a memory operand is
 * still written and a 32-bit register still zero-extended.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

enum shift { ROL, ROR, RCL, RCR, SHL, SHR, SAR };

static __inline_all bool bit_of(u64 v, unsigned n)
{
	return v >> n & 1;
}

/* The top two bits differ: OF of everything that goes left. */
static __inline_all bool tops_differ(u64 v, unsigned w)
{
	return bit_of(v, w - 1) ^ bit_of(v, w - 2);
}

struct shifted {
	u64 r;
	bool cf, of;
	bool same_flags;	/* nothing moved: flags stay */
};

static __inline_all struct shifted rotate(u64 a, enum shift f, unsigned n, unsigned w)
{
	struct shifted s = { .same_flags = false };
	unsigned k = n % w;

	if (f == ROR)
		k = (w - k) % w;
	s.r = k ? a << k | a >> (w - k) : a;
	if (f == ROL) {
		s.cf = bit_of(s.r, 0);
		s.of = tops_differ(a, w);
	} else {
		s.cf = bit_of(s.r, w - 1);
		s.of = bit_of(a, w - 1) ^ bit_of(a, 0);
	}
	return s;
}

/* Through CF: w + 1 bits. */
static __inline_all struct shifted rotate_carry(u64 a, bool cf, enum shift f, unsigned n, unsigned w)
{
	struct shifted s = { .r = a };
	unsigned k = n % (w + 1);

	if (!k) {
		s.same_flags = true;
		return s;
	}
	if (f == RCL) {
		s.of = tops_differ(a, w);
		s.cf = bit_of(a, w - k);
		s.r = (k < w ? a << k : 0) | (u64)cf << (k - 1) | (k > 1 ? a >> (w + 1 - k) : 0);
	} else {
		s.of = bit_of(a, w - 1) ^ cf;
		s.cf = bit_of(a, k - 1);
		s.r = (k < w ? a >> k : 0) | (u64)cf << (w - k) | (k > 1 ? a << (w + 1 - k) : 0);
	}
	return s;
}

static __inline_all struct shifted shift(u64 a, enum shift f, unsigned n, unsigned w)
{
	struct shifted s = { .same_flags = false };
	s64 sa = sign_extend(a, w);

	switch (f) {
	case SHL:
		s.r = n < w ? a << n : 0;
		s.cf = n <= w && bit_of(a, w - n);
		s.of = tops_differ(a, w);
		break;
	case SHR:
		s.r = n < w ? a >> n : 0;
		s.cf = n <= w && bit_of(a, n - 1);
		s.of = bit_of(a, w - 1);
		break;
	default:
		s.r = (u64)(sa >> (n < w ? n : w - 1));
		s.cf = bit_of((u64)sa, n <= w ? n - 1 : w - 1);
		s.of = false;
	}
	return s;
}

static __inline_all struct shifted shift_any(const struct x86_cpu *cpu, u64 a, enum shift f, unsigned n,
					     unsigned size)
{
	if (f == ROL || f == ROR)
		return rotate(a, f, n, size * 8);
	if (f == RCL || f == RCR)
		return rotate_carry(a, x86_cf(cpu), f, n, size * 8);
	return shift(a, f, n, size * 8);
}

/* Rotating a register by an immediate other than 1 keeps OF; by CL, or in memory, does not (observed). */
static __inline_all void shift_flags(struct x86_cpu *cpu, const struct shifted *s, enum shift f, bool keep_of,
				     unsigned size)
{
	if (s->same_flags)
		return;
	if (f >= SHL) {
		x86_flags_result(cpu, s->r, size);
		cpu->cc_c = x86_carry_word(s->cf, s->of, false);
	} else if (keep_of && f <= ROR) {
		x86_set_cf(cpu, s->cf);
	} else {
		cpu->cc_c = x86_carry_word(s->cf, s->of, x86_af(cpu));
	}
}

static __inline_all void shift_r(struct x86_cpu *cpu, const struct x86_op *op, enum shift f, unsigned n,
				 bool imm, unsigned size)
{
	struct shifted s;
	u64 a = get_reg(cpu, op->rm, size);

	n &= size == 8 ? 63 : 31;
	if (unlikely(!n)) {
		set_reg(cpu, op->rm, a, size);
		return;
	}
	s = shift_any(cpu, a, f, n, size);
	shift_flags(cpu, &s, f, imm && n != 1, size);
	set_reg(cpu, op->rm, s.r, size);
}

static __inline_all void shift_m(struct x86_cpu *cpu, const struct x86_op *op, enum shift f, unsigned n,
				 unsigned size)
{
	struct shifted s = { .same_flags = true };
	struct x86_rmw m;

	n &= size == 8 ? 63 : 31;
	s.r = rmw_mem(cpu, op, &m, size);
	if (n)
		s = shift_any(cpu, s.r, f, n, size);
	x86_rmw_write(cpu, &m, s.r);
	shift_flags(cpu, &s, f, false, size);
}

#define CL(cpu) ((u8)(cpu)->gpr[X86_RCX])

#define SHIFT_SIZE(f, F, n) \
	static void f##_ri_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		shift_r(cpu, op, F, (u8)op->imm, true, n); \
	} \
	static void f##_rc_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		shift_r(cpu, op, F, CL(cpu), false, n); \
	} \
	static void f##_m_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		shift_m(cpu, op, F, op->imm2 ? CL(cpu) : (u8)op->imm, n); \
	}

/* Count: an immediate, the constant 1 of D0/D1, or CL (imm2 = 1). */
static x86_fn *select_shift(const struct x86_dec *d, struct x86_op *op, x86_fn *const ri[4],
			    x86_fn *const rc[4], x86_fn *const m[4])
{
	const ZydisDecodedOperand *count = &d->operands[1];

	op->imm2 = count->type == ZYDIS_OPERAND_TYPE_REGISTER;
	if (!op->imm2)
		op->imm = count->imm.value.u;
	if (op->flags & X86_OP_MEM)
		return by_size(m, op->osize);
	return by_size(op->imm2 ? rc : ri, op->osize);
}

#define SEL_SHIFT(f, F) \
	SHIFT_SIZE(f, F, 1) SHIFT_SIZE(f, F, 2) SHIFT_SIZE(f, F, 4) SHIFT_SIZE(f, F, 8) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const ri[4] = HANDLERS(f##_ri), *const rc[4] = HANDLERS(f##_rc), \
			*const m[4] = HANDLERS(f##_m); \
		return select_shift(d, op, ri, rc, m); \
	}
SEL_SHIFT(rol, ROL)
SEL_SHIFT(ror, ROR)
SEL_SHIFT(rcl, RCL)
SEL_SHIFT(rcr, RCR)
SEL_SHIFT(shl, SHL)
SEL_SHIFT(shr, SHR)
SEL_SHIFT(sar, SAR)

/* ---- SHLD SHRD ---- */

/*
 * A 16-bit operand shifted by 17 to 31 sees the string dest:src:dest, as Intel
 * processors do.
 */
static __inline_all struct shifted double_shift(u64 a, u64 b, bool left, unsigned n, unsigned w)
{
	struct shifted s = { .same_flags = false };
	u128 v;

	if (left) {
		v = w == 16 ? (u128)a << 32 | (u128)b << 16 | a : (u128)a << w | b;
		s.r = (u64)(v << n >> (w == 16 ? 32 : w));
		s.cf = (u64)(v >> ((w == 16 ? 48 : 2 * w) - n)) & 1;
		s.of = tops_differ(a, w);
	} else {
		v = w == 16 ? (u128)a << 32 | (u128)b << 16 | a : (u128)b << w | a;
		s.r = (u64)(v >> n);
		s.cf = (u64)(v >> (n - 1)) & 1;
		s.of = bit_of(a, w - 1) ^ bit_of(b, 0);
	}
	return s;
}

static __inline_all void shift_double(struct x86_cpu *cpu, const struct x86_op *op, bool left, unsigned size)
{
	unsigned n = (op->imm2 ? CL(cpu) : (u8)op->imm) & (size == 8 ? 63 : 31);
	u64 b = get_reg(cpu, op->reg, size);
	struct shifted s = { .same_flags = true };
	struct x86_rmw m;

	if (op->flags & X86_OP_MEM)
		s.r = rmw_mem(cpu, op, &m, size);
	else
		s.r = get_reg(cpu, op->rm, size);
	if (n)
		s = double_shift(s.r, b, left, n, size * 8);
	if (op->flags & X86_OP_MEM)
		x86_rmw_write(cpu, &m, s.r);
	else
		set_reg(cpu, op->rm, s.r, size);
	shift_flags(cpu, &s, SHL, false, size);
}

#define SEL_DOUBLE(f, left) \
	static void f##_2(struct x86_cpu *cpu, const struct x86_op *op) { shift_double(cpu, op, left, 2); } \
	static void f##_4(struct x86_cpu *cpu, const struct x86_op *op) { shift_double(cpu, op, left, 4); } \
	static void f##_8(struct x86_cpu *cpu, const struct x86_op *op) { shift_double(cpu, op, left, 8); } \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		op->imm2 = d->operands[2].type == ZYDIS_OPERAND_TYPE_REGISTER; \
		return op->osize == 8 ? f##_8 : op->osize == 4 ? f##_4 : f##_2; \
	}
SEL_DOUBLE(shld, true)
SEL_DOUBLE(shrd, false)
