/* SPDX-License-Identifier: MIT */
/*
 * MOV with a control, debug or segment register, PUSH and POP of the latter, CLTS,
 * LMSW, SMSW. SDM vol. 2B "MOV"; vol. 3C "Changes to Instruction Behavior in VMX
 * Non-Root Operation" for what exits when.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

/* ---- Control registers ---- */

static u64 source(const struct x86_cpu *cpu, const struct x86_op *op)
{
	return x86_in_64(cpu) ? cpu->gpr[op->rm] : (u32)cpu->gpr[op->rm];
}

static void write_cr(struct x86_cpu *cpu, const struct x86_op *op, unsigned n)
{
	u64 v = source(cpu, op);
	bool ok = true;

	need_cpl0(cpu);
	v = x86_icpt_cr_write(cpu, op, n, op->rm, v);
	switch (n) {
	case 0:
		ok = x86_write_cr0(cpu, v);
		break;
	case 3:
		ok = x86_write_cr3(cpu, v);
		break;
	case 4:
		ok = x86_write_cr4(cpu, v);
		break;
	case 8:
		ok = !(v & ~0xfull);
		if (ok)
			cpu->tpr = (u8)(v << 4);
		break;
	}
	if (!ok)
		x86_gp0(cpu);
}

static void op_mov_to_cr0(struct x86_cpu *cpu, const struct x86_op *op) { write_cr(cpu, op, 0); }
static void op_mov_to_cr3(struct x86_cpu *cpu, const struct x86_op *op) { write_cr(cpu, op, 3); }
static void op_mov_to_cr4(struct x86_cpu *cpu, const struct x86_op *op) { write_cr(cpu, op, 4); }
static void op_mov_to_cr8(struct x86_cpu *cpu, const struct x86_op *op) { write_cr(cpu, op, 8); }

static void op_mov_to_cr2(struct x86_cpu *cpu, const struct x86_op *op)
{
	need_cpl0(cpu);
	cpu->cr2 = source(cpu, op);
}

static void op_mov_from_cr(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v;

	need_cpl0(cpu);
	v = op->reg == 2 ? cpu->cr2 : x86_icpt_cr_read(cpu, op, op->reg, op->rm);
	cpu->gpr[op->rm] = x86_in_64(cpu) ? v : (u32)v;
}

static x86_fn *select_cr(struct x86_op *op, bool to)
{
	switch (op->reg) {
	case 0: return to ? op_mov_to_cr0 : op_mov_from_cr;
	case 2: return to ? op_mov_to_cr2 : op_mov_from_cr;
	case 3: return to ? op_mov_to_cr3 : op_mov_from_cr;
	case 4: return to ? op_mov_to_cr4 : op_mov_from_cr;
	case 8: return to ? op_mov_to_cr8 : op_mov_from_cr;
	default: return x86_op_ud;
	}
}

static void op_clts(struct x86_cpu *cpu, const struct x86_op *op)
{
	need_cpl0(cpu);
	if (x86_icpt_clts(cpu, op))
		cpu->cr0 &= ~CR0_TS;
}

static void op_lmsw(struct x86_cpu *cpu, const struct x86_op *op)
{
	bool mem = op->flags & X86_OP_MEM;
	u64 lin = 0;
	u16 src;

	need_cpl0(cpu);
	if (mem) {
		lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 2);
		src = x86_load16(cpu, op->seg, lin);
	} else {
		src = (u16)cpu->gpr[op->rm];
	}
	if (!x86_write_cr0(cpu, x86_icpt_lmsw(cpu, op, src, mem, lin)))
		x86_gp0(cpu);
}

static void op_smsw(struct x86_cpu *cpu, const struct x86_op *op)
{
	if (cpu->cpl && (cpu->cr4 & CR4_UMIP))
		x86_gp0(cpu);
	set_rm16(cpu, op, x86_guest_cr0(cpu));
}

x86_fn *x86_sel_clts(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_clts); }
x86_fn *x86_sel_lmsw(const struct x86_dec *d, struct x86_op *op) { return op_lmsw; }
x86_fn *x86_sel_smsw(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_smsw); }

/* ---- Debug registers ---- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE is set. */
static unsigned check_dr(struct x86_cpu *cpu, const struct x86_op *op, bool from)
{
	unsigned n = op->reg;

	x86_icpt_dr(cpu, op, n, op->rm, from);
	if (n == 4 || n == 5) {
		if (cpu->cr4 & CR4_DE)
			x86_ud(cpu);
		n += 2;
	}
	need_cpl0(cpu);
	if (cpu->dr7 & DR7_GD)
		x86_debug_fault(cpu, DR6_BD);
	return n;
}

static void op_mov_to_dr(struct x86_cpu *cpu, const struct x86_op *op)
{
	unsigned n = check_dr(cpu, op, false);
	u64 v = source(cpu, op);

	if (n >= 6 && v >> 32)
		x86_gp0(cpu);
	x86_set_dr(cpu, n, v);
}

static void op_mov_from_dr(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v = x86_get_dr(cpu, check_dr(cpu, op, true));

	cpu->gpr[op->rm] = x86_in_64(cpu) ? v : (u32)v;
}

/* ---- Segment registers ---- */

/* The operand size of MOV r, Sreg follows prefixes and mode; memory is always 16 bits. */
static void size_from_prefixes(const struct x86_dec *d, struct x86_op *op)
{
	if (op->flags & X86_OP_REXW)
		op->osize = 8;
	else
		op->osize = (d->code_size == 2) != !!(op->flags & X86_OP_OSZ) ? 2 : 4;
}

static void op_mov_from_sreg(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_rm16(cpu, op, cpu->seg[op->reg].sel);
}

static void op_mov_to_sreg(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_load_sreg(cpu, op->reg, get_rm16(cpu, op));
	if (op->reg == X86_SS)
		cpu->slow |= X86_SLOW_SHADOW_SS;
}

static void op_push_sreg(struct x86_cpu *cpu, const struct x86_op *op)
{
	/* Intel writes 2 of the 4 bytes, but all of 8. */
	unsigned size = op->osize == 4 && !x86_is_amd(cpu) ? 2 : op->osize;
	u64 sp = (cpu->gpr[X86_RSP] - op->osize) & cpu->sp_mask;
	u64 lin = x86_lin_write(cpu, X86_SS, sp, size);
	u16 sel = cpu->seg[op->reg].sel;

	if (size == 2)
		x86_store16(cpu, X86_SS, lin, sel);
	else if (size == 4)
		x86_store32(cpu, X86_SS, lin, sel);
	else
		x86_store64(cpu, X86_SS, lin, sel);
	stk_set_sp(cpu, sp);
}

static void op_pop_sreg(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 sel = (u16)stk_peek(cpu, 0, op->osize);
	u64 old_sp = cpu->gpr[X86_RSP], old_mask = cpu->sp_mask;

	x86_load_sreg(cpu, op->reg, sel);
	/* POP SS: the pointer moves as wide as the old stack was. */
	cpu->gpr[X86_RSP] = old_mask == 0xffff ?
			    (old_sp & ~0xffffull) | ((old_sp + op->osize) & 0xffff) :
			    (old_sp + op->osize) & old_mask;
	if (op->reg == X86_SS)
		cpu->slow |= X86_SLOW_SHADOW_SS;
}

/* ---- Selection ---- */

static int sreg_number(const ZydisDecodedOperand *o)
{
	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_SEGMENT)
		return -1;
	return o->reg.value - ZYDIS_REGISTER_ES;
}

/* 0F 20..23: bit 0 debug register, bit 1 to the system register. */
x86_fn *x86_sel_mov_sys(const struct x86_dec *d, struct x86_op *op)
{
	int sreg;

	if (op->flags & X86_OP_LOCK)
		return x86_op_ud;
	if (d->insn.opcode_map == ZYDIS_OPCODE_MAP_0F) {
		if (!(d->insn.opcode & 1))
			return select_cr(op, d->insn.opcode & 2);
		if (op->reg > 7)
			return x86_op_ud;
		return d->insn.opcode & 2 ? op_mov_to_dr : op_mov_from_dr;
	}
	size_from_prefixes(d, op);
	sreg = sreg_number(&d->operands[0]);
	if (sreg >= 0) {
		op->reg = (u8)sreg;
		return sreg == X86_CS ? x86_op_ud : op_mov_to_sreg;
	}
	op->reg = (u8)sreg_number(&d->operands[1]);
	return op_mov_from_sreg;
}

static void stack_operand(const struct x86_dec *d, struct x86_op *op)
{
	op->reg = (u8)sreg_number(&d->operands[0]);
	if (d->code_size == 8)
		op->osize = op->flags & X86_OP_OSZ && !(op->flags & X86_OP_REXW) ? 2 : 8;
	else
		size_from_prefixes(d, op);
}

x86_fn *x86_sel_push_sreg(const struct x86_dec *d, struct x86_op *op)
{
	stack_operand(d, op);
	return op_push_sreg;
}

x86_fn *x86_sel_pop_sreg(const struct x86_dec *d, struct x86_op *op)
{
	stack_operand(d, op);
	return op_pop_sreg;
}
