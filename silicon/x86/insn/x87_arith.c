/* SPDX-License-Identifier: MIT */
/*
 * x87 arithmetic, comparison and transcendental instructions: each runs as the
 * host's own, under the guest's control word, on two operands taken from the
 * simulated register stack. The stack itself, its faults and the pending
 * exceptions are kept here and in x87.h. SDM vol. 1 "x87 FPU Floating-Point
 * Exception Handling".
 */
#include "silicon/x86/insn/x87.h"

#include <stddef.h>

#include "silicon/x86/flags.h"

_Static_assert(offsetof(struct x86_x87, a) == 32 && offsetof(struct x86_x87, b) == 48 &&
	       offsetof(struct x86_x87, r0) == 64 && offsetof(struct x86_x87, r1) == 80 &&
	       offsetof(struct x86_x87, cw) == 96 && offsetof(struct x86_x87, sw) == 98 &&
	       offsetof(struct x86_x87, rflags) == 104, "x87_body.S knows these");

/* ---- Exceptions ---- */

u16 x87_status(struct x86_cpu *cpu, const struct x86_op *op, u16 sw, u16 cc)
{
	struct x86_fpu *f = &cpu->fpu;
	u16 unmasked = sw & ~f->fcw & FP_FLAGS;

	if (sw & FSW_SF)
		cc |= FSW_C1;
	f->fsw = (u16)((f->fsw & ~cc) | (sw & (cc | FP_FLAGS | FSW_SF)));
	f->fip = cpu->rip;
	/* With this feature FOP and FDP are kept for unmasked exceptions only. */
	if (unmasked || !x86_has(cpu, X86_FEAT_FDP_EXCPTN_ONLY)) {
		f->fop = (u16)((op->vvvv & 7) << 8 | op->imm2);
		if (op->flags & X86_OP_MEM)
			f->fdp = x86_ea(cpu, op);
	}
	x86_fp_update_es(cpu);
	return unmasked;
}

bool x87_stack_underflow(struct x86_cpu *cpu, const struct x86_op *op)
{
	return !x87_status(cpu, op, FP_IE | FSW_SF, 0);
}

bool x87_stack_overflow(struct x86_cpu *cpu, const struct x86_op *op)
{
	return !x87_status(cpu, op, FP_IE | FSW_SF | FSW_C1, 0);
}

/* ---- Operands ---- */

void x87_load(struct x86_cpu *cpu, const struct x86_op *op, void *buf)
{
	u64 v, lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), op->osize);
	u16 top;

	switch (op->osize) {
	case 2: v = x86_load16(cpu, op->seg, lin); break;
	case 4: v = x86_load32(cpu, op->seg, lin); break;
	default: v = x86_load64(cpu, op->seg, lin); break;
	}
	if (op->osize <= 8) {
		memcpy(buf, &v, op->osize);
		return;
	}
	top = x86_load16(cpu, op->seg, lin + 8);
	memcpy(buf, &v, 8);
	memcpy((u8 *)buf + 8, &top, 2);
}

void x87_store(struct x86_cpu *cpu, const struct x86_op *op, const void *buf)
{
	u64 v = 0, lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), op->osize);
	u16 top;

	if (op->osize > 8) {
		/* Two stores, of which the second may fault when the first is done (observed). */
		memcpy(&v, buf, 8);
		memcpy(&top, (const u8 *)buf + 8, 2);
		x86_store64(cpu, op->seg, lin, v);
		x86_store16(cpu, op->seg, lin + 8, top);
		return;
	}
	memcpy(&v, buf, op->osize);
	switch (op->osize) {
	case 2: x86_store16(cpu, op->seg, lin, (u16)v); break;
	case 4: x86_store32(cpu, op->seg, lin, (u32)v); break;
	default: x86_store64(cpu, op->seg, lin, v); break;
	}
}

void x87_pack(const struct x86_dec *d, struct x86_op *op, const void *body, unsigned pops)
{
	op->imm = (u64)body;
	op->imm2 = (u8)(d->insn.raw.modrm.mod << 6 | d->insn.raw.modrm.reg << 3 |
			d->insn.raw.modrm.rm);
	op->vvvv = (u8)((d->insn.opcode & 7) | pops << 4);
	if (op->flags & X86_OP_MEM)
		op->osize = (u8)(d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY
					 ? d->operands[0].size / 8
					 : d->operands[1].size / 8);
}

static void run(struct x86_cpu *cpu, const struct x86_op *op, struct x86_x87 *x, x86_f80_t a,
		x86_f80_t b)
{
	x->body = (const void *)op->imm;
	x->a = a;
	x->b = b;
	x->cw = cpu->fpu.fcw;
	x86_x87_run(x);
}

/* FSIN, FPREM and their kind report by condition codes. */
static void run_cc(struct x86_cpu *cpu, const struct x86_op *op, struct x86_x87 *x, x86_f80_t a,
		   x86_f80_t b)
{
	x->body = (const void *)op->imm;
	x->a = a;
	x->b = b;
	x->cw = cpu->fpu.fcw;
	x->sw = cpu->fpu.fsw;
	x86_x87_run_cc(x);
}

/* ---- Two operands ---- */

/* ST(0) = ST(0) op memory. */
static void op_arith_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	x87_load(cpu, op, x.mem);
	if (x87_empty(cpu, 0)) {
		if (x87_stack_underflow(cpu, op))
			x87_set_st(cpu, 0, x87_indefinite);
		return;
	}
	run(cpu, op, &x, x87_st(cpu, 0), x87_st(cpu, 0));
	if (!(x87_status(cpu, op, x.sw & ~FSW_SF, FSW_C1) & FP_PRE_FLAGS))
		x87_set_st(cpu, 0, x.r0);
}

/* ST(reg) = ST(reg) op ST(rm), then pops. */
static void op_arith_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, op->reg) || x87_empty(cpu, op->rm)) {
		if (x87_stack_underflow(cpu, op)) {
			x87_set_st(cpu, op->reg, x87_indefinite);
			x87_pop(cpu, x87_pops(op));
		}
		return;
	}
	run(cpu, op, &x, x87_st(cpu, op->reg), x87_st(cpu, op->rm));
	if (!(x87_status(cpu, op, x.sw & ~FSW_SF, FSW_C1) & FP_PRE_FLAGS)) {
		x87_set_st(cpu, op->reg, x.r0);
		x87_pop(cpu, x87_pops(op));
	}
}

static x86_fn *select_arith(const struct x86_dec *d, struct x86_op *op, const void *const body[5],
			    bool integer)
{
	unsigned pops;

	if (op->flags & X86_OP_MEM) {
		x87_pack(d, op, NULL, 0);
		op->imm = (u64)(integer ? body[op->osize == 2 ? 3 : 4]
					: body[op->osize == 4 ? 1 : 2]);
		return op_arith_m;
	}
	/* D8: ST(0) is the destination; DC and DE: ST(i), DE pops. */
	pops = d->insn.opcode == 0xde;
	x87_pack(d, op, body[0], pops);
	op->reg = d->insn.opcode == 0xd8 ? 0 : op->imm2 & 7;
	op->rm = d->insn.opcode == 0xd8 ? op->imm2 & 7 : 0;
	return op_arith_r;
}

#define ARITH(name, iname) \
	static const void *const name##_bodies[5] = { \
		x86_x87_##name, x86_x87_##name##_m32, x86_x87_##name##_m64, \
		x86_x87_##iname##_m16, x86_x87_##iname##_m32 \
	}; \
	x86_fn *x86_sel_x87_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		return select_arith(d, op, name##_bodies, false); \
	} \
	x86_fn *x86_sel_x87_##iname(const struct x86_dec *d, struct x86_op *op) \
	{ \
		return select_arith(d, op, name##_bodies, true); \
	}
ARITH(fadd, fiadd)
ARITH(fmul, fimul)
ARITH(fsub, fisub)
ARITH(fsubr, fisubr)
ARITH(fdiv, fidiv)
ARITH(fdivr, fidivr)

/* ---- Comparisons ---- */

#define UNORDERED (FSW_C3 | FSW_C2 | FSW_C0)

static void compare_done(struct x86_cpu *cpu, const struct x86_op *op, u16 sw)
{
	/* The codes are written even if an unmasked exception keeps the operands (observed). */
	if (!(x87_status(cpu, op, sw, UNORDERED | FSW_C1) & FP_PRE_FLAGS))
		x87_pop(cpu, x87_pops(op));
}

static void op_com_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	x87_load(cpu, op, x.mem);
	if (x87_empty(cpu, 0)) {
		compare_done(cpu, op, FP_IE | FSW_SF | UNORDERED);
		return;
	}
	run(cpu, op, &x, x87_st(cpu, 0), x87_st(cpu, 0));
	compare_done(cpu, op, x.sw & ~FSW_SF);
}

/* FCOM, FUCOM with ST(rm); FTST ignores it. */
static void op_com_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || x87_empty(cpu, op->rm)) {
		compare_done(cpu, op, FP_IE | FSW_SF | UNORDERED);
		return;
	}
	run(cpu, op, &x, x87_st(cpu, 0), x87_st(cpu, op->rm));
	compare_done(cpu, op, x.sw & ~FSW_SF);
}

static void op_comi(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 unordered = RFLAGS_ZF | RFLAGS_PF | RFLAGS_CF;
	u16 sw = FP_IE | FSW_SF;
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || x87_empty(cpu, op->rm)) {
		x.rflags = unordered;
	} else {
		run(cpu, op, &x, x87_st(cpu, 0), x87_st(cpu, op->rm));
		sw = x.sw & ~FSW_SF;
	}
	x86_set_arith(cpu, x.rflags & unordered);
	if (!(x87_status(cpu, op, sw, 0) & FP_PRE_FLAGS))
		x87_pop(cpu, x87_pops(op));
}

x86_fn *x86_sel_x87_fcom(const struct x86_dec *d, struct x86_op *op)
{
	unsigned m = d->insn.mnemonic;
	bool integer = m == ZYDIS_MNEMONIC_FICOM || m == ZYDIS_MNEMONIC_FICOMP;
	bool unordered = m == ZYDIS_MNEMONIC_FUCOM || m == ZYDIS_MNEMONIC_FUCOMP ||
			 m == ZYDIS_MNEMONIC_FUCOMPP;
	unsigned pops = 0;

	if (m == ZYDIS_MNEMONIC_FCOMP || m == ZYDIS_MNEMONIC_FICOMP || m == ZYDIS_MNEMONIC_FUCOMP)
		pops = 1;
	if (m == ZYDIS_MNEMONIC_FCOMPP || m == ZYDIS_MNEMONIC_FUCOMPP)
		pops = 2;
	x87_pack(d, op, NULL, pops);
	if (op->flags & X86_OP_MEM) {
		if (integer)
			op->imm = (u64)(op->osize == 2 ? x86_x87_ficom_m16 : x86_x87_ficom_m32);
		else
			op->imm = (u64)(op->osize == 4 ? x86_x87_fcom_m32 : x86_x87_fcom_m64);
		return op_com_m;
	}
	op->rm = op->imm2 & 7;
	op->imm = (u64)(unordered ? x86_x87_fucom : x86_x87_fcom);
	return op_com_r;
}

x86_fn *x86_sel_x87_ftst(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, x86_x87_ftst, 0);
	op->rm = 0;
	return op_com_r;
}

x86_fn *x86_sel_x87_fcomi(const struct x86_dec *d, struct x86_op *op)
{
	unsigned m = d->insn.mnemonic;
	bool unordered = m == ZYDIS_MNEMONIC_FUCOMI || m == ZYDIS_MNEMONIC_FUCOMIP;
	bool pop = m == ZYDIS_MNEMONIC_FCOMIP || m == ZYDIS_MNEMONIC_FUCOMIP;

	x87_pack(d, op, unordered ? x86_x87_fucomi : x86_x87_fcomi, pop);
	op->rm = op->imm2 & 7;
	return op_comi;
}

/* FXAM classifies an empty register too, and never faults. */
static void op_fxam(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	run(cpu, op, &x, x87_st(cpu, 0), x87_st(cpu, 0));
	if (x87_empty(cpu, 0))
		x.sw = (u16)((x.sw & ~FSW_CC) | FSW_C3 | FSW_C0 |
			     (x87_st(cpu, 0).exp >> 15 ? FSW_C1 : 0));
	x87_status(cpu, op, x.sw & FSW_CC, FSW_CC);
}

x86_fn *x86_sel_x87_fxam(const struct x86_dec *d, struct x86_op *op)
{
	x87_pack(d, op, x86_x87_fxam, 0);
	return op_fxam;
}

/* ---- Functions of ST(0) and ST(1) ---- */

/*
 * op->reg: the condition codes that report how far the instruction came (C2 of
 * FSIN and FPTAN, all of FPREM), 0 for most; op->rm: the second operand's index.
 */
static bool function(struct x86_cpu *cpu, const struct x86_op *op, struct x86_x87 *x)
{
	u16 cc = (u16)(op->reg << 8 | FSW_C1);

	if (op->reg)
		run_cc(cpu, op, x, x87_st(cpu, 0), x87_st(cpu, op->rm));
	else
		run(cpu, op, x, x87_st(cpu, 0), x87_st(cpu, op->rm));
	return !(x87_status(cpu, op, x->sw & ~FSW_SF, cc) & FP_PRE_FLAGS);
}

/* A stack fault of these clears C2. */
static bool function_fault(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 overflow = x87_empty(cpu, 0) ? 0 : FSW_C1;

	return !x87_status(cpu, op, FP_IE | FSW_SF | overflow, op->reg ? FSW_C2 : 0);
}

/* ST(0) = f(ST(0)), or f(ST(0), ST(1)) for FSCALE and FPREM. */
static void op_function(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || x87_empty(cpu, op->rm)) {
		if (!x87_status(cpu, op, FP_IE | FSW_SF, op->reg ? FSW_C2 : 0))
			x87_set_st(cpu, 0, x87_indefinite);
		return;
	}
	if (function(cpu, op, &x))
		x87_set_st(cpu, 0, x.r0);
}

/* ST(1) = f(ST(1), ST(0)) and pop: FYL2X, FYL2XP1, FPATAN. */
static void op_function_pop(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || x87_empty(cpu, 1)) {
		if (x87_stack_underflow(cpu, op)) {
			x87_set_st(cpu, 1, x87_indefinite);
			x87_pop(cpu, 1);
		}
		return;
	}
	if (function(cpu, op, &x)) {
		x87_set_st(cpu, 1, x.r0);
		x87_pop(cpu, 1);
	}
}

/* ST(0) replaced and one more pushed: FSINCOS, FPTAN, FXTRACT. */
static void op_function_push(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_x87 x;

	x86_check_x87(cpu);
	if (x87_empty(cpu, 0) || !x87_empty(cpu, 7)) {
		if (function_fault(cpu, op)) {
			x87_set_st(cpu, 0, x87_indefinite);
			x87_push(cpu, x87_indefinite);
		}
		return;
	}
	/* Out of range: C2, and the operand stays. */
	if (!function(cpu, op, &x) || (op->reg && x.sw & FSW_C2))
		return;
	x87_set_st(cpu, 0, x.r1);
	x87_push(cpu, x.r0);
}

#define FUNCTION(name, handler, codes, second) \
	x86_fn *x86_sel_x87_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		x87_pack(d, op, x86_x87_##name, 0); \
		op->reg = (codes) >> 8; \
		op->rm = second; \
		return handler; \
	}
FUNCTION(fabs, op_function, 0, 0)
FUNCTION(fchs, op_function, 0, 0)
FUNCTION(fsqrt, op_function, 0, 0)
FUNCTION(frndint, op_function, 0, 0)
FUNCTION(f2xm1, op_function, 0, 0)
FUNCTION(fsin, op_function, FSW_C2, 0)
FUNCTION(fcos, op_function, FSW_C2, 0)
FUNCTION(fscale, op_function, 0, 1)
FUNCTION(fprem, op_function, FSW_CC, 1)
FUNCTION(fprem1, op_function, FSW_CC, 1)
FUNCTION(fyl2x, op_function_pop, 0, 1)
FUNCTION(fyl2xp1, op_function_pop, 0, 1)
FUNCTION(fpatan, op_function_pop, 0, 1)
FUNCTION(fsincos, op_function_push, FSW_C2, 0)
FUNCTION(fptan, op_function_push, FSW_C2, 0)
FUNCTION(fxtract, op_function_push, 0, 0)
