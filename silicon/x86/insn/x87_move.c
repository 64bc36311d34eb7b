/* SPDX-License-Identifier: MIT */
/* x87 loads, stores, exchanges and conditional moves. */
#include "silicon/x86/flags.h"
#include "silicon/x86/insn/x87.h"

/* ---- Loads ---- */

static void push_result(struct x86_cpu *cpu, const struct x86_op *op, x86_f80_t v, u16 sw)
{
	if (!x87_empty(cpu, 7)) {
		if (x87_stack_overflow(cpu, op))
			x87_push(cpu, x87_indefinite);
		return;
	}
	/* An unmasked denormal is reported, but loaded (observed). */
	if (!(x87_status(cpu, op, sw & ~FSW_SF, FSW_C1) & FP_IE))
		x87_push(cpu, v);
}

/* FLD m32/m64, FILD, FBLD and the constants. */
static void op_load(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x = { .body = (const void *)op->imm, .cw = cpu->fpu.fcw };

	x86_check_x87(cpu);
	if (op->flags & X86_OP_MEM)
		x87_load(cpu, op, x.mem);
	x86_x87_run(&x);
	push_result(cpu, op, x.r0, x.sw);
}

static void op_fld_m80(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_f80_t v = { 0 };

	x86_check_x87(cpu);
	x87_load(cpu, op, &v);
	push_result(cpu, op, v, 0);
}

static void op_fld_st(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	if (x87_empty(cpu, op->rm)) {
		if (x87_stack_underflow(cpu, op))
			x87_push(cpu, x87_indefinite);
		return;
	}
	push_result(cpu, op, x87_st(cpu, op->rm), 0);
}

x86_fn *x86_sel_x87_fld(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, 0);
	if (!(op->flags & X86_OP_MEM)) {
		op->rm = op->imm2 & 7;
		return op_fld_st;
	}
	if (op->osize == 10)
		return op_fld_m80;
	op->imm = (u64)(op->osize == 4 ? x86_x87_fld_m32 : x86_x87_fld_m64);
	return op_load;
}

x86_fn *x86_sel_x87_fild(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, 0);
	op->imm = (u64)(op->osize == 2	 ? x86_x87_fild_m16
			: op->osize == 4 ? x86_x87_fild_m32
					 : x86_x87_fild_m64);
	return op_load;
}

#define CONSTANT(name) \
	x86_fn *x86_sel_x87_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		x87_pack(d, op, x86_x87_##name, 0); \
		return op_load; \
	}
CONSTANT(fbld)
CONSTANT(fld1)
CONSTANT(fldl2t)
CONSTANT(fldl2e)
CONSTANT(fldpi)
CONSTANT(fldlg2)
CONSTANT(fldln2)
CONSTANT(fldz)

/* ---- Stores ---- */

/* What a masked stack underflow stores: the indefinite of the format. */
static void store_indefinite(struct x86_cpu *cpu, const struct x86_op *op, struct x86_x87 *x)
{
	x->a = x87_indefinite;
	x86_x87_run(x);
}

/*
 * FST m32/m64, FIST, FISTTP, FBSTP. An unmasked exception other than PE
 * neither touches memory nor pops; otherwise a memory fault comes before any change.
 */
static void op_store(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x = { .body = (const void *)op->imm, .cw = cpu->fpu.fcw };
	bool empty;

	x86_check_x87(cpu);
	empty = x87_empty(cpu, 0);
	if (empty) {
		if (cpu->fpu.fcw & FP_IE)
			store_indefinite(cpu, op, &x);
		x.sw = FP_IE | FSW_SF;
	} else {
		x.a = x87_st(cpu, 0);
		x86_x87_run(&x);
		x.sw &= ~FSW_SF;
	}
	if (x.sw & ~cpu->fpu.fcw & (FP_PRE_FLAGS | FP_OE | FP_UE)) {
		x87_status(cpu, op, x.sw, FSW_C1);
		return;
	}
	x87_store(cpu, op, x.mem);
	x87_status(cpu, op, x.sw, FSW_C1);
	x87_pop(cpu, x87_pops(op));
}

static void op_fstp_m80(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_f80_t v;

	x86_check_x87(cpu);
	v = x87_st(cpu, 0);
	if (x87_empty(cpu, 0)) {
		v = x87_indefinite;
		if (!(cpu->fpu.fcw & FP_IE)) {
			x87_stack_underflow(cpu, op);
			return;
		}
	}
	x87_store(cpu, op, &v);
	if (x87_empty(cpu, 0))
		x87_stack_underflow(cpu, op);
	else
		x87_status(cpu, op, 0, FSW_C1);
	x87_pop(cpu, 1);
}

static void op_fst_st(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	if (x87_empty(cpu, 0)) {
		if (x87_stack_underflow(cpu, op)) {
			x87_set_st(cpu, op->rm, x87_indefinite);
			x87_pop(cpu, x87_pops(op));
		}
		return;
	}
	x87_status(cpu, op, 0, FSW_C1);
	x87_set_st(cpu, op->rm, x87_st(cpu, 0));
	x87_pop(cpu, x87_pops(op));
}

/* D9 D8+i, undocumented: FSTP without stack faults; an empty ST(0) is only popped. */
static void op_fstpnce(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	x87_status(cpu, op, 0, FSW_C1);
	if (!x87_empty(cpu, 0))
		x87_set_st(cpu, op->rm, x87_st(cpu, 0));
	x87_pop(cpu, 1);
}

x86_fn *x86_sel_x87_fst(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, d->insn.mnemonic != ZYDIS_MNEMONIC_FST);
	if (!(op->flags & X86_OP_MEM)) {
		op->rm = op->imm2 & 7;
		return d->insn.mnemonic == ZYDIS_MNEMONIC_FSTPNCE ? op_fstpnce : op_fst_st;
	}
	if (op->osize == 10)
		return op_fstp_m80;
	op->imm = (u64)(op->osize == 4 ? x86_x87_fst_m32 : x86_x87_fst_m64);
	return op_store;
}

/* The 64-bit body pops the body's own stack, which nobody looks at afterwards. */
x86_fn *x86_sel_x87_fist(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, d->insn.mnemonic != ZYDIS_MNEMONIC_FIST);
	op->imm = (u64)(op->osize == 2	 ? x86_x87_fist_m16
			: op->osize == 4 ? x86_x87_fist_m32
					 : x86_x87_fistp_m64);
	return op_store;
}

x86_fn *x86_sel_x87_fisttp(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, 1);
	op->imm = (u64)(op->osize == 2 ? x86_x87_fisttp_m16 : op->osize == 4 ? x86_x87_fisttp_m32 :
									     x86_x87_fisttp_m64);
	return op_store;
}

x86_fn *x86_sel_x87_fbstp(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, x86_x87_fbstp, 1);
	return op_store;
}

/* ---- Between registers ---- */

static void op_fxch(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_f80_t a, b;

	x86_check_x87(cpu);
	a = x87_empty(cpu, 0) ? x87_indefinite : x87_st(cpu, 0);
	b = x87_empty(cpu, op->rm) ? x87_indefinite : x87_st(cpu, op->rm);
	if (x87_empty(cpu, 0) || x87_empty(cpu, op->rm)) {
		if (!x87_stack_underflow(cpu, op))
			return;
	} else {
		x87_status(cpu, op, 0, FSW_C1);
	}
	x87_set_st(cpu, 0, b);
	x87_set_st(cpu, op->rm, a);
}

x86_fn *x86_sel_x87_fxch(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, NULL, 0);
	op->rm = op->imm2 & 7;
	return op_fxch;
}

enum condition { COND_B, COND_E, COND_BE, COND_U };

static bool condition(const struct x86_cpu *cpu, enum condition c)
{
	switch (c) {
	case COND_B: return x86_cf(cpu);
	case COND_E: return x86_zf(cpu);
	case COND_BE: return x86_cf(cpu) || x86_zf(cpu);
	case COND_U: return x86_pf(cpu);
	}
	return false;
}

/* op->reg: condition, bit 2 negates it. Empty registers fault whether it holds or not. */
static void op_fcmov(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || x87_empty(cpu, op->rm)) {
		if (x87_stack_underflow(cpu, op))
			x87_set_st(cpu, 0, x87_indefinite);
		return;
	}
	x87_status(cpu, op, 0, 0);
	if (condition(cpu, op->reg & 3) != (op->reg >> 2))
		x87_set_st(cpu, 0, x87_st(cpu, op->rm));
}

x86_fn *x86_sel_x87_fcmov(const struct x86_dec *d, struct x86_op *op)
{
	/* DA C0+i B, C8 E, D0 BE, D8 U; DB the same, negated. */
	x87_pack(d, op, NULL, 0);
	op->reg = (u8)((op->imm2 >> 3 & 3) | (d->insn.opcode & 1) << 2);
	op->rm = op->imm2 & 7;
	return op_fcmov;
}
