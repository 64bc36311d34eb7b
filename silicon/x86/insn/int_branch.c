/* SPDX-License-Identifier: MIT */
/*
 * Near control transfer: JMP, Jcc, LOOP, JCXZ, CALL, RET. Targets are checked
 * before anything is changed: a bad one faults on the branch. Far transfers
 * are sys/'s.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

/*
 * Set the RIP of the next instruction. A 64-bit target that shares bits 63:46
 * with the present RIP is canonical because that is.
 */
static __inline_all u64 checked64(struct x86_cpu *cpu, u64 target)
{
	if (likely((target ^ cpu->rip) >> 46 == 0))
		return target;
	return x86_check_branch(cpu, target);
}

static __inline_all void jump64(struct x86_cpu *cpu, u64 target)
{
	cpu->gpr[X86_REG_NEXT_RIP] = checked64(cpu, target);
}

static u64 checked(struct x86_cpu *cpu, const struct x86_op *op, u64 target)
{
	return op->osize == 8 ? checked64(cpu, target) : x86_check_branch(cpu, trunc_to(target, op->osize));
}

static __inline_all u64 relative(const struct x86_cpu *cpu, const struct x86_op *op)
{
	return cpu->gpr[X86_REG_NEXT_RIP] + op->imm;
}

static void jump_relative(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->gpr[X86_REG_NEXT_RIP] = checked(cpu, op, relative(cpu, op));
}

/* ---- Jcc: a handler per condition, in 64-bit mode and elsewhere ---- */

#define JCC(cc) \
	static void jcc64_##cc(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		if (condition(cpu, 0x##cc)) \
			jump64(cpu, relative(cpu, op)); \
	} \
	static void jcc_##cc(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		if (condition(cpu, 0x##cc)) \
			jump_relative(cpu, op); \
	}
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7)
JCC(8) JCC(9) JCC(a) JCC(b) JCC(c) JCC(d) JCC(e) JCC(f)

#define JCC_ROW(f) { f##_0, f##_1, f##_2, f##_3, f##_4, f##_5, f##_6, f##_7, \
		     f##_8, f##_9, f##_a, f##_b, f##_c, f##_d, f##_e, f##_f }

x86_fn *x86_sel_jcc(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const in64[16] = JCC_ROW(jcc64), *const legacy[16] = JCC_ROW(jcc);

	return (op->osize == 8 ? in64 : legacy)[d->insn.opcode & 15];
}

/* ---- LOOP and JCXZ: the address size selects the counter ---- */

enum loop_kind { LOOP_ALWAYS, LOOP_E, LOOP_NE };

static __inline_all void loop(struct x86_cpu *cpu, const struct x86_op *op, enum loop_kind kind)
{
	u64 count = trunc_to(cpu->gpr[X86_RCX] - 1, op->asize);
	bool taken = count && (kind == LOOP_ALWAYS || x86_zf(cpu) == (kind == LOOP_E));
	u64 target = taken ? checked(cpu, op, relative(cpu, op)) : cpu->gpr[X86_REG_NEXT_RIP];

	if (op->asize == 2)
		set_reg(cpu, X86_RCX, count, 2);
	else
		cpu->gpr[X86_RCX] = count;
	cpu->gpr[X86_REG_NEXT_RIP] = target;
}

static void loop_always(struct x86_cpu *cpu, const struct x86_op *op) { loop(cpu, op, LOOP_ALWAYS); }
static void loop_e(struct x86_cpu *cpu, const struct x86_op *op) { loop(cpu, op, LOOP_E); }
static void loop_ne(struct x86_cpu *cpu, const struct x86_op *op) { loop(cpu, op, LOOP_NE); }

x86_fn *x86_sel_loop(const struct x86_dec *d, struct x86_op *op) { return loop_always; }
x86_fn *x86_sel_loope(const struct x86_dec *d, struct x86_op *op) { return loop_e; }
x86_fn *x86_sel_loopne(const struct x86_dec *d, struct x86_op *op) { return loop_ne; }

static void jcxz(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (!trunc_to(cpu->gpr[X86_RCX], op->asize))
		jump_relative(cpu, op);
}

x86_fn *x86_sel_jcxz(const struct x86_dec *d, struct x86_op *op) { return jcxz; }

/* ---- JMP ---- */

static void jmp64(struct x86_cpu *cpu, const struct x86_op *op)
{
	jump64(cpu, relative(cpu, op));
}

static __inline_all u64 indirect(struct x86_cpu *cpu, const struct x86_op *op)
{
	switch (op->osize) {
	case 2: return get_rm(cpu, op, 2);
	case 4: return get_rm(cpu, op, 4);
	default: return get_rm(cpu, op, 8);
	}
}

static void jmp_indirect(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->gpr[X86_REG_NEXT_RIP] = checked(cpu, op, indirect(cpu, op));
}

static void jmp64_reg(struct x86_cpu *cpu, const struct x86_op *op)
{
	jump64(cpu, cpu->gpr[op->rm]);
}

static bool is_relative(const struct x86_dec *d)
{
	return d->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static bool is_far(const struct x86_dec *d)
{
	return d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

x86_fn *x86_sel_jmp(const struct x86_dec *d, struct x86_op *op)
{
	if (is_far(d))
		return x86_sel_jmp_far(d, op);
	if (is_relative(d))
		return op->osize == 8 ? jmp64 : jump_relative;
	return op->osize == 8 && !(op->flags & X86_OP_MEM) ? jmp64_reg : jmp_indirect;
}

/* ---- CALL and RET ---- */

static __inline_all void call64_to(struct x86_cpu *cpu, u64 target)
{
	u64 sp = cpu->gpr[X86_RSP] - 8, ret = cpu->gpr[X86_REG_NEXT_RIP];

	target = checked64(cpu, target);
	x86_store64(cpu, X86_SS, sp, ret);
	cpu->gpr[X86_RSP] = sp;
	cpu->gpr[X86_REG_NEXT_RIP] = target;
}

static void call64(struct x86_cpu *cpu, const struct x86_op *op) { call64_to(cpu, relative(cpu, op)); }
static void call64_indirect(struct x86_cpu *cpu, const struct x86_op *op) { call64_to(cpu, get_rm(cpu, op, 8)); }

static void call_to(struct x86_cpu *cpu, const struct x86_op *op, u64 target)
{
	u64 sp = cpu->gpr[X86_RSP], ret = cpu->gpr[X86_REG_NEXT_RIP];

	target = checked(cpu, op, target);
	if (op->osize == 2)
		sp = push_at(cpu, sp, ret, 2);
	else if (op->osize == 4)
		sp = push_at(cpu, sp, ret, 4);
	else
		sp = push_at(cpu, sp, ret, 8);
	set_sp(cpu, sp);
	cpu->gpr[X86_REG_NEXT_RIP] = target;
}

static void call(struct x86_cpu *cpu, const struct x86_op *op) { call_to(cpu, op, relative(cpu, op)); }
static void call_indirect(struct x86_cpu *cpu, const struct x86_op *op) { call_to(cpu, op, indirect(cpu, op)); }

x86_fn *x86_sel_call(const struct x86_dec *d, struct x86_op *op)
{
	if (is_far(d))
		return x86_sel_call_far(d, op);
	if (op->osize == 8)
		return is_relative(d) ? call64 : call64_indirect;
	return is_relative(d) ? call : call_indirect;
}

static void ret64(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 sp = cpu->gpr[X86_RSP];

	jump64(cpu, x86_load64(cpu, X86_SS, sp));
	cpu->gpr[X86_RSP] = sp + 8 + (u16)op->imm;
}

static void ret(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 sp = cpu->gpr[X86_RSP], target;

	if (op->osize == 2)
		target = load_stack(cpu, sp, 2);
	else if (op->osize == 4)
		target = load_stack(cpu, sp, 4);
	else
		target = load_stack(cpu, sp, 8);
	cpu->gpr[X86_REG_NEXT_RIP] = checked(cpu, op, target);
	set_sp(cpu, sp + op->osize + (u16)op->imm);
}

x86_fn *x86_sel_ret(const struct x86_dec *d, struct x86_op *op)
{
	if (is_far(d))
		return x86_sel_ret_far(d, op);
	return op->osize == 8 ? ret64 : ret;
}
