/* SPDX-License-Identifier: MIT */
/* Binary arithmetic and logic with flags: ADD OR ADC SBB AND SUB XOR CMP TEST; INC DEC NEG NOT. */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

enum alu { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST };

static __inline_all u64 alu_result(const struct x86_cpu *cpu, enum alu f, u64 a, u64 b)
{
	switch (f) {
	case ADD: return a + b;
	case ADC: return a + b + x86_cf(cpu);
	case SBB: return a - b - x86_cf(cpu);
	case SUB:
	case CMP: return a - b;
	case OR: return a | b;
	case XOR: return a ^ b;
	default: return a & b;
	}
}

static __inline_all void alu_flags(struct x86_cpu *cpu, enum alu f, u64 a, u64 b, u64 r, unsigned size)
{
	switch (f) {
	case ADD:
	case ADC:
		x86_flags_add(cpu, a, b, r, size);
		break;
	case SUB:
	case SBB:
	case CMP:
		x86_flags_sub(cpu, a, b, r, size);
		break;
	default:
		x86_flags_logic(cpu, r, size);
	}
}

static __inline_all bool alu_writes(enum alu f)
{
	return f != CMP && f != TEST;
}

/* Destination ModRM.rm as register. */
static __inline_all void alu_r(struct x86_cpu *cpu, const struct x86_op *op, enum alu f, unsigned dst,
			       u64 b, unsigned size)
{
	u64 a = get_reg(cpu, dst, size), r = alu_result(cpu, f, a, b);

	alu_flags(cpu, f, a, b, r, size);
	if (alu_writes(f))
		set_reg(cpu, dst, r, size);
}

/* Destination in memory. Flags come last: a write may still ask to be repeated. */
static __inline_all void alu_m(struct x86_cpu *cpu, const struct x86_op *op, enum alu f, u64 b, unsigned size)
{
	struct x86_rmw m;
	u64 a, r;

	if (!alu_writes(f)) {
		a = load_mem(cpu, op, size);
		alu_flags(cpu, f, a, b, alu_result(cpu, f, a, b), size);
		return;
	}
	a = rmw_mem(cpu, op, &m, size);
	r = alu_result(cpu, f, a, b);
	x86_rmw_write(cpu, &m, r);
	alu_flags(cpu, f, a, b, r, size);
}

static __inline_all void alu_locked(struct x86_cpu *cpu, const struct x86_op *op, enum alu f, u64 b,
				    unsigned size)
{
	struct x86_rmw m;
	u64 r;

	rmw_mem(cpu, op, &m, size);
	do {
		r = alu_result(cpu, f, m.old, b);
	} while (!x86_rmw_cmpxchg(cpu, &m, trunc_to(r, size)));
	alu_flags(cpu, f, m.old, b, r, size);
}

#define ALU_SIZE(f, F, n) \
	static void f##_rr_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		alu_r(cpu, op, F, op->rm, get_reg(cpu, op->reg, n), n); \
	} \
	static void f##_ri_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		alu_r(cpu, op, F, op->rm, trunc_to(op->imm, n), n); \
	} \
	static void f##_rm_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		alu_r(cpu, op, F, op->reg, load_mem(cpu, op, n), n); \
	} \
	static void f##_mr_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		alu_m(cpu, op, F, get_reg(cpu, op->reg, n), n); \
	} \
	static void f##_mi_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		alu_m(cpu, op, F, trunc_to(op->imm, n), n); \
	}
#define ALU(f, F) \
	ALU_SIZE(f, F, 1) ALU_SIZE(f, F, 2) ALU_SIZE(f, F, 4) ALU_SIZE(f, F, 8)
ALU(add, ADD)
ALU(or, OR)
ALU(adc, ADC)
ALU(sbb, SBB)
ALU(and, AND)
ALU(sub, SUB)
ALU(xor, XOR)
ALU(cmp, CMP)
ALU(test, TEST)

/* One handler per operation for LOCK: locked operations are dear anyway. */
#define ALU_LOCKED(f, F) \
	static void f##_lock(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		bool imm = op->imm2; \
		switch (op->osize) { \
		case 1: alu_locked(cpu, op, F, imm ? (u8)op->imm : get_reg(cpu, op->reg, 1), 1); break; \
		case 2: alu_locked(cpu, op, F, imm ? (u16)op->imm : get_reg(cpu, op->reg, 2), 2); break; \
		case 4: alu_locked(cpu, op, F, imm ? (u32)op->imm : get_reg(cpu, op->reg, 4), 4); break; \
		default: alu_locked(cpu, op, F, imm ? op->imm : get_reg(cpu, op->reg, 8), 8); \
		} \
	}
ALU_LOCKED(add, ADD)
ALU_LOCKED(or, OR)
ALU_LOCKED(adc, ADC)
ALU_LOCKED(sbb, SBB)
ALU_LOCKED(and, AND)
ALU_LOCKED(sub, SUB)
ALU_LOCKED(xor, XOR)

struct alu_handlers {
	x86_fn *rr[4], *ri[4], *rm[4], *mr[4], *mi[4];
	x86_fn *lock;
};

static x86_fn *alu_select(const struct x86_dec *d, struct x86_op *op, const struct alu_handlers *h)
{
	bool imm = d->operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if (op->flags & X86_OP_LOCK) {
		op->imm2 = imm;
		return h->lock;
	}
	if (op->flags & X86_OP_MEM) {
		if (imm)
			return by_size(h->mi, op->osize);
		return by_size(d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? h->mr : h->rm, op->osize);
	}
	if (imm)	/* the accumulator forms have no ModRM: rm is 0 */
		return by_size(h->ri, op->osize);
	if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
		u8 t = op->reg;

		op->reg = op->rm;
		op->rm = t;
	}
	return by_size(h->rr, op->osize);
}

#define ALU_SELECTOR(f, lock_) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static const struct alu_handlers h = { \
			.rr = HANDLERS(f##_rr), .ri = HANDLERS(f##_ri), .rm = HANDLERS(f##_rm), \
			.mr = HANDLERS(f##_mr), .mi = HANDLERS(f##_mi), .lock = lock_, \
		}; \
		return alu_select(d, op, &h); \
	}
ALU_SELECTOR(add, add_lock)
ALU_SELECTOR(or, or_lock)
ALU_SELECTOR(adc, adc_lock)
ALU_SELECTOR(sbb, sbb_lock)
ALU_SELECTOR(and, and_lock)
ALU_SELECTOR(sub, sub_lock)
ALU_SELECTOR(xor, xor_lock)
ALU_SELECTOR(cmp, x86_op_ud)
ALU_SELECTOR(test, x86_op_ud)

/* ---- INC DEC NEG NOT ---- */

enum unary { INC, DEC, NEG, NOT };

static __inline_all u64 unary_result(enum unary f, u64 a)
{
	switch (f) {
	case INC: return a + 1;
	case DEC: return a - 1;
	case NEG: return -a;
	default: return ~a;
	}
}

/* INC and DEC keep CF; NOT changes no flag. */
static __inline_all void unary_flags(struct x86_cpu *cpu, enum unary f, u64 a, u64 r, unsigned size)
{
	bool cf = x86_cf(cpu);

	switch (f) {
	case INC:
		x86_flags_add(cpu, a, 1, r, size);
		x86_set_cf(cpu, cf);
		break;
	case DEC:
		x86_flags_sub(cpu, a, 1, r, size);
		x86_set_cf(cpu, cf);
		break;
	case NEG:
		x86_flags_sub(cpu, 0, a, r, size);
		break;
	case NOT:
		break;
	}
}

static __inline_all void unary_m(struct x86_cpu *cpu, const struct x86_op *op, enum unary f, unsigned size)
{
	struct x86_rmw m;
	u64 r;

	rmw_mem(cpu, op, &m, size);
	if (op->flags & X86_OP_LOCK) {
		do {
			r = unary_result(f, m.old);
		} while (!x86_rmw_cmpxchg(cpu, &m, trunc_to(r, size)));
	} else {
		r = unary_result(f, m.old);
		x86_rmw_write(cpu, &m, r);
	}
	unary_flags(cpu, f, m.old, r, size);
}

static __inline_all void unary_r(struct x86_cpu *cpu, unsigned reg, enum unary f, unsigned size)
{
	u64 a = get_reg(cpu, reg, size), r = unary_result(f, a);

	unary_flags(cpu, f, a, r, size);
	set_reg(cpu, reg, r, size);
}

#define UNARY_SIZE(f, F, n) \
	static void f##_r_##n(struct x86_cpu *cpu, const struct x86_op *op) { unary_r(cpu, op->rm, F, n); } \
	static void f##_m_##n(struct x86_cpu *cpu, const struct x86_op *op) { unary_m(cpu, op, F, n); }
#define UNARY(f, F) \
	UNARY_SIZE(f, F, 1) UNARY_SIZE(f, F, 2) UNARY_SIZE(f, F, 4) UNARY_SIZE(f, F, 8) \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		static x86_fn *const r[4] = HANDLERS(f##_r), *const m[4] = HANDLERS(f##_m); \
		/* INC and DEC have forms with the register in the opcode. */ \
		if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE) \
			op->rm = op->reg; \
		return by_size(op->flags & X86_OP_MEM ? m : r, op->osize); \
	}
UNARY(inc, INC)
UNARY(dec, DEC)
UNARY(neg, NEG)
UNARY(not, NOT)
