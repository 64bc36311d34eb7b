/* SPDX-License-Identifier: MIT */
/*
 * PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE. (R)SP moves last, after
 * every access that can fault. Segment registers are sys/'s.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

#define PUSH_SIZE(n) \
	static void push_r_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_sp(cpu, push_at(cpu, cpu->gpr[X86_RSP], get_reg(cpu, op->reg, n), n)); \
	} \
	static void push_m_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_sp(cpu, push_at(cpu, cpu->gpr[X86_RSP], get_rm(cpu, op, n), n)); \
	} \
	static void push_i_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_sp(cpu, push_at(cpu, cpu->gpr[X86_RSP], op->imm, n)); \
	} \
	/* POP RSP: the loaded value wins over the increment. */ \
	static void pop_r_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 sp = cpu->gpr[X86_RSP], v = load_stack(cpu, sp, n); \
		set_sp(cpu, sp + n); \
		set_reg(cpu, op->reg, v, n); \
	} \
	/* An address based on RSP uses its value after the increment. */ \
	static void pop_m_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 sp = cpu->gpr[X86_RSP], v = load_stack(cpu, sp, n), ea, lin; \
		set_sp(cpu, sp + n); \
		ea = x86_ea(cpu, op); \
		cpu->gpr[X86_RSP] = sp; \
		lin = x86_lin_write(cpu, op->seg, ea, n); \
		store_lin(cpu, op->seg, lin, v, n); \
		set_sp(cpu, sp + n); \
	}
PUSH_SIZE(2)
PUSH_SIZE(4)
PUSH_SIZE(8)

/* 64-bit mode: no stack size, no limit. */
static void push64(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 sp = cpu->gpr[X86_RSP] - 8;

	x86_store64(cpu, X86_SS, sp, cpu->gpr[op->reg]);
	cpu->gpr[X86_RSP] = sp;
}

static void pop64(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 sp = cpu->gpr[X86_RSP], v = x86_load64(cpu, X86_SS, sp);

	cpu->gpr[X86_RSP] = sp + 8;
	cpu->gpr[op->reg] = v;
}

static x86_fn *of_three(x86_fn *const fn[3], unsigned size)
{
	return fn[size == 2 ? 0 : size == 4 ? 1 : 2];
}
#define THREE(f) { f##_2, f##_4, f##_8 }

static bool is_sreg(const struct x86_dec *d)
{
	return d->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetClass(d->operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

x86_fn *x86_sel_push(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const r[3] = THREE(push_r), *const m[3] = THREE(push_m), *const i[3] = THREE(push_i);

	if (is_sreg(d)) {
		op->flags |= X86_OP_END;
		return x86_sel_push_sreg(d, op);
	}
	if (d->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return of_three(i, op->osize);
	if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
		return op->osize == 8 ? push64 : of_three(r, op->osize);
	return of_three(m, op->osize);
}

x86_fn *x86_sel_pop(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const r[3] = THREE(pop_r), *const m[3] = THREE(pop_m);

	if (is_sreg(d)) {
		op->flags |= X86_OP_END;
		return x86_sel_pop_sreg(d, op);
	}
	if (op->flags & X86_OP_MEM)
		return of_three(m, op->osize);
	if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
		op->reg = op->rm;
	return op->osize == 8 ? pop64 : of_three(r, op->osize);
}

/* ---- PUSHA POPA: not in 64-bit mode ---- */

/* What was pushed before a fault stays in memory; (E)SP does not move. */
static __inline_all void pusha(struct x86_cpu *cpu, unsigned size)
{
	u64 sp = cpu->gpr[X86_RSP];

	for (unsigned r = X86_RAX; r <= X86_RDI; r++)
		sp = push_at(cpu, sp, get_reg(cpu, r, size), size);
	set_sp(cpu, sp);
}

static __inline_all void popa(struct x86_cpu *cpu, unsigned size)
{
	u64 sp = cpu->gpr[X86_RSP], v[8];

	for (int r = X86_RDI; r >= X86_RAX; r--, sp += size)
		v[r] = load_stack(cpu, sp, size);
	for (unsigned r = X86_RAX; r <= X86_RDI; r++)
		if (r != X86_RSP)
			set_reg(cpu, r, v[r], size);
	set_sp(cpu, sp);
}

static void pusha_2(struct x86_cpu *cpu, const struct x86_op *op) { pusha(cpu, 2); }
static void pusha_4(struct x86_cpu *cpu, const struct x86_op *op) { pusha(cpu, 4); }
static void popa_2(struct x86_cpu *cpu, const struct x86_op *op) { popa(cpu, 2); }
static void popa_4(struct x86_cpu *cpu, const struct x86_op *op) { popa(cpu, 4); }

x86_fn *x86_sel_pusha(const struct x86_dec *d, struct x86_op *op) { return op->osize == 4 ? pusha_4 : pusha_2; }
x86_fn *x86_sel_popa(const struct x86_dec *d, struct x86_op *op) { return op->osize == 4 ? popa_4 : popa_2; }

/* ---- ENTER LEAVE ---- */

static __inline_all void enter(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	unsigned level = op->imm2 & 31;
	u64 bp = cpu->gpr[X86_RBP], sp = push_at(cpu, cpu->gpr[X86_RSP], get_reg(cpu, X86_RBP, size), size);
	u64 frame = sp;

	for (unsigned i = 1; i < level; i++) {
		bp -= size;
		sp = push_at(cpu, sp, load_stack(cpu, bp, size), size);
	}
	if (level)
		sp = push_at(cpu, sp, frame, size);
	sp = (sp - (u16)op->imm) & cpu->sp_mask;
	/* The processor probes the new top of the stack for writing. */
	x86_probe_write(cpu, X86_SS, x86_lin_write(cpu, X86_SS, sp, size), size);
	set_reg(cpu, X86_RBP, frame, size);
	set_sp(cpu, sp);
}

static void enter_2(struct x86_cpu *cpu, const struct x86_op *op) { enter(cpu, op, 2); }
static void enter_4(struct x86_cpu *cpu, const struct x86_op *op) { enter(cpu, op, 4); }
static void enter_8(struct x86_cpu *cpu, const struct x86_op *op) { enter(cpu, op, 8); }

x86_fn *x86_sel_enter(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[3] = THREE(enter);

	return of_three(fn, op->osize);
}

/* The stack size selects how much of BP becomes SP, the operand size what is popped. */
static __inline_all void leave(struct x86_cpu *cpu, unsigned size)
{
	u64 sp = cpu->gpr[X86_RBP], v = load_stack(cpu, sp, size);

	set_sp(cpu, sp + size);
	set_reg(cpu, X86_RBP, v, size);
}

static void leave_2(struct x86_cpu *cpu, const struct x86_op *op) { leave(cpu, 2); }
static void leave_4(struct x86_cpu *cpu, const struct x86_op *op) { leave(cpu, 4); }
static void leave_8(struct x86_cpu *cpu, const struct x86_op *op) { leave(cpu, 8); }

x86_fn *x86_sel_leave(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[3] = THREE(leave);

	return of_three(fn, op->osize);
}

/* ---- PUSHF POPF ---- */

static __inline_all void pushf(struct x86_cpu *cpu, unsigned size)
{
	set_sp(cpu, push_at(cpu, cpu->gpr[X86_RSP], x86_pushf_image(cpu, size), size));
}

static __inline_all void popf(struct x86_cpu *cpu, unsigned size)
{
	u64 sp = cpu->gpr[X86_RSP];

	x86_write_eflags(cpu, load_stack(cpu, sp, size), size);
	set_sp(cpu, sp + size);
}

static void pushf_2(struct x86_cpu *cpu, const struct x86_op *op) { pushf(cpu, 2); }
static void pushf_4(struct x86_cpu *cpu, const struct x86_op *op) { pushf(cpu, 4); }
static void pushf_8(struct x86_cpu *cpu, const struct x86_op *op) { pushf(cpu, 8); }
static void popf_2(struct x86_cpu *cpu, const struct x86_op *op) { popf(cpu, 2); }
static void popf_4(struct x86_cpu *cpu, const struct x86_op *op) { popf(cpu, 4); }
static void popf_8(struct x86_cpu *cpu, const struct x86_op *op) { popf(cpu, 8); }

x86_fn *x86_sel_pushf(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[3] = THREE(pushf);

	return of_three(fn, op->osize);
}

/* TF, IF, AC and VIF may change what happens next. */
x86_fn *x86_sel_popf(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[3] = THREE(popf);

	op->flags |= X86_OP_END;
	return of_three(fn, op->osize);
}
