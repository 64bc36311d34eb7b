/* SPDX-License-Identifier: MIT */
/*
 * Far JMP, CALL and RET: code segments, call gates, and the way to tasks. IRET is
 * in iret.c. All checks and pushes come before the first register changes.
 * SDM vol. 2A "CALL", "JMP", vol. 2B "RET"; vol. 3A "Transferring Control Between
 * Code Segments".
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

static _Noreturn void gp_sel(struct x86_cpu *cpu, u16 sel)
{
	x86_fault_code(cpu, X86_GP, sel & 0xfffcu);
}

static _Noreturn void np_sel(struct x86_cpu *cpu, u16 sel)
{
	x86_fault_code(cpu, X86_NP, sel & 0xfffcu);
}

void far_check_cs(struct x86_cpu *cpu, u16 sel, bool ret, struct desc *d)
{
	unsigned rpl = sel_rpl(sel);

	if (!desc_is_code(d) || desc_l_and_d(cpu, d))
		gp_sel(cpu, sel);
	if (ret) {
		if (desc_is_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl)
			gp_sel(cpu, sel);
	} else if (desc_is_conforming(d)) {
		if (desc_dpl(d) > cpu->cpl)
			gp_sel(cpu, sel);
	} else if (rpl > cpu->cpl || desc_dpl(d) != cpu->cpl) {
		gp_sel(cpu, sel);
	}
	if (!desc_present(d))
		np_sel(cpu, sel);
}

u64 far_check_offset(struct x86_cpu *cpu, const struct desc *cs, u64 off, unsigned ext)
{
	if (x86_lma(cpu) && (cs->hi >> 21 & 1)) {
		if (!x86_canonical(cpu, off))
			x86_fault_code(cpu, X86_GP, ext);
		return off;
	}
	off = (u32)off;
	if (off > desc_limit(cs))
		x86_fault_code(cpu, X86_GP, ext);
	return off;
}

void far_load_cs(struct x86_cpu *cpu, const struct desc *d, u16 sel, unsigned cpl)
{
	cpu->seg[X86_CS] = desc_segment(d, (u16)((sel & ~3u) | cpl));
	cpu->cpl = (u8)cpl;
}

static void real_jump(struct x86_cpu *cpu, u16 sel, u64 off)
{
	if (off > cpu->seg[X86_CS].limit)
		x86_gp0(cpu);
	if (cpu->mode == X86_MODE_REAL)
		seg_load_real(cpu, X86_CS, sel);
	else
		seg_load_vm86(cpu, X86_CS, sel);
	x86_update_mode(cpu);
	far_goto(cpu, off);
}

/* The descriptor that a far pointer names. */
static void read_target(struct x86_cpu *cpu, u16 sel, struct desc *d)
{
	if (sel_null(sel))
		x86_gp0(cpu);
	if (!desc_read(cpu, sel, d))
		gp_sel(cpu, sel);
	if (!desc_s(d) && x86_lma(cpu) && !desc_read_system(cpu, sel, d))
		gp_sel(cpu, sel);
}

/* ---- Gates ---- */

struct gate {
	u16 sel;
	u64 off;
	unsigned size;		/* of what is pushed */
	unsigned params;
};

/* Checks on the gate @d that @sel names, common to CALL and JMP; the code segment behind it. */
static void open_gate(struct x86_cpu *cpu, u16 sel, const struct desc *d, struct gate *g,
		      struct desc *cs)
{
	bool lma = x86_lma(cpu);

	if (lma && (d->upper & 0x1f00))
		gp_sel(cpu, sel);
	if (!desc_present(d))
		np_sel(cpu, sel);
	g->sel = (u16)(d->lo >> 16);
	g->off = (d->lo & 0xffff) | (desc_type(d) == TYPE_CALL ? d->hi & 0xffff0000 : 0) |
		 (u64)d->base_hi << 32;
	g->size = lma ? 8 : desc_type(d) == TYPE_CALL ? 4 : 2;
	g->params = lma ? 0 : d->hi & 31;

	if (sel_null(g->sel))
		x86_gp0(cpu);
	if (!desc_read(cpu, g->sel, cs) || !desc_is_code(cs) || desc_dpl(cs) > cpu->cpl)
		gp_sel(cpu, g->sel);
	if (lma && (cs->hi >> 21 & 3) != 1)
		gp_sel(cpu, g->sel);
	if (!desc_present(cs))
		np_sel(cpu, g->sel);
}

/* More privilege: a new stack from the TSS, with the parameters copied. */
static void call_inner(struct x86_cpu *cpu, struct gate *g, struct desc *cs)
{
	unsigned cpl = desc_dpl(cs);
	struct x86_segment ss;
	struct stk s;
	u64 rip;

	if (x86_lma(cpu)) {
		s = stk_new64(tss_stack64(cpu, 4 + 8 * cpl, 0), cpl, 0);
	} else {
		struct desc d;
		u16 sel;
		u64 sp;

		tss_inner_stack(cpu, cpl, 0, &sel, &sp);
		if (sel_null(sel))
			x86_fault_code(cpu, X86_TS, 0);
		seg_check_ss(cpu, sel, cpl, X86_TS, 0, &d);
		desc_set_accessed(cpu, &d);
		ss = desc_segment(&d, sel);
		s = stk_new(&ss, sp, cpl, sel & 0xfffcu);
	}
	rip = far_check_offset(cpu, cs, g->off, 0);
	desc_set_accessed(cpu, cs);
	stk_push(cpu, &s, cpu->seg[X86_SS].sel, g->size);
	stk_push(cpu, &s, cpu->gpr[X86_RSP], g->size);
	for (unsigned i = g->params; i-- > 0;)
		stk_push(cpu, &s, stk_peek(cpu, i * g->size, g->size), g->size);
	stk_push(cpu, &s, cpu->seg[X86_CS].sel, g->size);
	stk_push(cpu, &s, cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, g->size);

	far_load_cs(cpu, cs, g->sel, cpl);
	if (x86_lma(cpu))
		seg_load_null_ss(cpu, cpl);
	else
		cpu->seg[X86_SS] = ss;
	stk_commit(cpu, &s);
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

/* On the present stack: an access of this privilege level, whose alignment counts. */
static void push_return(struct x86_cpu *cpu, struct stk *s, unsigned size)
{
	if (cpu->mmu_idx == X86_MMU_USER_ALIGN && ((s->base + s->sp) & (size - 1)))
		x86_fault_code(cpu, X86_AC, 0);
	stk_push(cpu, s, cpu->seg[X86_CS].sel, size);
	stk_push(cpu, s, cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, size);
}

static void through_gate(struct x86_cpu *cpu, u16 sel, struct desc *d, bool call)
{
	struct desc cs;
	struct gate g;
	struct stk s;
	u64 rip;

	open_gate(cpu, sel, d, &g, &cs);
	if (!desc_is_conforming(&cs) && desc_dpl(&cs) != cpu->cpl) {
		if (!call)
			gp_sel(cpu, g.sel);
		call_inner(cpu, &g, &cs);
		return;
	}
	rip = far_check_offset(cpu, &cs, g.off, 0);
	desc_set_accessed(cpu, &cs);
	if (call) {
		/* A 64-bit gate pushes 8 bytes, from compatibility mode too. */
		s = stk_current(cpu, 0);
		if (x86_lma(cpu))
			s = stk_new64(cpu->gpr[X86_RSP], cpu->cpl, 0);
		push_return(cpu, &s, g.size);
		stk_commit(cpu, &s);
	}
	far_load_cs(cpu, &cs, g.sel, cpu->cpl);
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

/* @sel names a system descriptor: call gate, task gate or TSS. */
static void through_system(struct x86_cpu *cpu, u16 sel, struct desc *d, bool call)
{
	unsigned reason = call ? X86_TASK_CALL : X86_TASK_JMP;
	unsigned type = desc_type(d);

	switch (type) {
	case TYPE_CALL16:
	case TYPE_TASK_GATE:
	case TYPE_TSS16_AVAIL:
	case TYPE_TSS_AVAIL:
		if (x86_lma(cpu))
			gp_sel(cpu, sel);
		break;
	case TYPE_CALL:
		break;
	default:
		gp_sel(cpu, sel);
	}
	if (desc_dpl(d) < cpu->cpl || desc_dpl(d) < sel_rpl(sel))
		gp_sel(cpu, sel);
	if (type == TYPE_CALL || type == TYPE_CALL16) {
		through_gate(cpu, sel, d, call);
	} else if (type == TYPE_TASK_GATE) {
		if (!desc_present(d))
			np_sel(cpu, sel);
		task_switch(cpu, (u16)(d->lo >> 16), reason, false, 0,
			    cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, 0);
	} else {
		task_switch(cpu, sel, reason, false, 0,
			    cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, 0);
	}
}

/* ---- The three instructions ---- */

static void far_jump(struct x86_cpu *cpu, u16 sel, u64 off)
{
	struct desc d;
	u64 rip;

	if (!x86_prot(cpu)) {
		real_jump(cpu, sel, off);
		return;
	}
	read_target(cpu, sel, &d);
	if (!desc_s(&d)) {
		through_system(cpu, sel, &d, false);
		return;
	}
	far_check_cs(cpu, sel, false, &d);
	rip = far_check_offset(cpu, &d, off, 0);
	desc_set_accessed(cpu, &d);
	far_load_cs(cpu, &d, sel, cpu->cpl);
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

static void far_call(struct x86_cpu *cpu, u16 sel, u64 off, unsigned size)
{
	struct stk s = stk_current(cpu, 0);
	struct desc d;
	u64 rip;

	if (!x86_prot(cpu)) {
		if (off > cpu->seg[X86_CS].limit)
			x86_gp0(cpu);
		push_return(cpu, &s, size);
		stk_commit(cpu, &s);
		real_jump(cpu, sel, off);
		return;
	}
	read_target(cpu, sel, &d);
	if (!desc_s(&d)) {
		through_system(cpu, sel, &d, true);
		return;
	}
	far_check_cs(cpu, sel, false, &d);
	rip = far_check_offset(cpu, &d, off, 0);
	desc_set_accessed(cpu, &d);
	push_return(cpu, &s, size);
	stk_commit(cpu, &s);
	far_load_cs(cpu, &d, sel, cpu->cpl);
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

static void far_ret(struct x86_cpu *cpu, unsigned size, unsigned extra)
{
	u64 rip = stk_peek(cpu, 0, size);
	u16 sel = (u16)stk_peek(cpu, size, size);
	struct desc cs, ss = { 0 };
	unsigned rpl = sel_rpl(sel);
	u16 ss_sel;
	u64 sp;

	if (!x86_prot(cpu)) {
		/* The pointer moves only if the offset is good. */
		if (rip > cpu->seg[X86_CS].limit)
			x86_gp0(cpu);
		stk_release(cpu, 2 * size + extra);
		real_jump(cpu, sel, rip);
		return;
	}
	if (sel_null(sel))
		x86_gp0(cpu);
	if (!desc_read(cpu, sel, &cs) || rpl < cpu->cpl)
		gp_sel(cpu, sel);
	far_check_cs(cpu, sel, true, &cs);
	if (rpl == cpu->cpl) {
		rip = far_check_offset(cpu, &cs, rip, 0);
		desc_set_accessed(cpu, &cs);
		stk_release(cpu, 2 * size + extra);
		far_load_cs(cpu, &cs, sel, rpl);
		x86_update_mode(cpu);
		far_goto(cpu, rip);
		return;
	}
	sp = stk_peek(cpu, 2 * size + extra, size);
	ss_sel = (u16)stk_peek(cpu, 3 * size + extra, size);
	far_check_outer_ss(cpu, &cs, ss_sel, rpl, &ss);
	rip = far_check_offset(cpu, &cs, rip, 0);
	far_return_outer(cpu, &cs, sel, &ss, ss_sel, sp + extra);
	far_goto(cpu, rip);
}

void far_check_outer_ss(struct x86_cpu *cpu, const struct desc *cs, u16 sel, unsigned cpl,
			struct desc *ss)
{
	if (sel_null(sel)) {
		if (!x86_lma(cpu) || !(cs->hi >> 21 & 1) || cpl == 3 || sel_rpl(sel) != cpl)
			x86_gp0(cpu);
		return;
	}
	seg_check_ss(cpu, sel, cpl, X86_GP, 0, ss);
}

void far_return_outer(struct x86_cpu *cpu, struct desc *cs, u16 sel, struct desc *ss, u16 ss_sel,
		      u64 sp)
{
	bool outer = sel_rpl(sel) > cpu->cpl;

	desc_set_accessed(cpu, cs);
	if (!sel_null(ss_sel))
		desc_set_accessed(cpu, ss);
	far_load_cs(cpu, cs, sel, sel_rpl(sel));
	if (sel_null(ss_sel))
		seg_load_null_ss(cpu, sel_rpl(sel));
	else
		cpu->seg[X86_SS] = desc_segment(ss, ss_sel);
	if (outer)
		seg_drop_privileged(cpu);
	x86_update_mode(cpu);
	stk_set_sp(cpu, sp);
}

static u64 trim(u64 v, unsigned size)
{
	return size == 2 ? (u16)v : size == 4 ? (u32)v : v;
}

static void op_jmp_far_imm(struct x86_cpu *cpu, const struct x86_op *op)
{
	far_jump(cpu, (u16)(op->imm >> 32), (u32)op->imm);
}

static void op_call_far_imm(struct x86_cpu *cpu, const struct x86_op *op)
{
	far_call(cpu, (u16)(op->imm >> 32), (u32)op->imm, op->osize);
}

/* m16:16, m16:32 or m16:64. */
static u16 load_far_pointer(struct x86_cpu *cpu, const struct x86_op *op, u64 *off)
{
	u64 ea = x86_ea(cpu, op);
	u64 lin = x86_lin_read(cpu, op->seg, ea, op->osize + 2);
	u8 buf[10];
	u64 v = 0;
	u16 sel;

	x86_load_bytes(cpu, op->seg, lin, buf, op->osize + 2u);
	memcpy(&v, buf, op->osize);
	memcpy(&sel, buf + op->osize, 2);
	*off = trim(v, op->osize);
	return sel;
}

static void op_jmp_far_mem(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 off;
	u16 sel = load_far_pointer(cpu, op, &off);

	far_jump(cpu, sel, off);
}

static void op_call_far_mem(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 off;
	u16 sel = load_far_pointer(cpu, op, &off);

	far_call(cpu, sel, off, op->osize);
}

static void op_ret_far(struct x86_cpu *cpu, const struct x86_op *op)
{
	far_ret(cpu, op->osize, (u16)op->imm);
}

/* REX.W has no effect on far pointers in memory on AMD: m16:32 at most. */
static void far_size(const struct x86_dec *d, struct x86_op *op)
{
	op->flags |= X86_OP_END;
	op->osize = (u8)(d->insn.operand_width / 8);
	if (op->osize == 8 && (op->flags & X86_OP_MEM) && d->cpu->model->vendor == X86_AMD)
		op->osize = 4;
}

x86_fn *x86_sel_jmp_far(const struct x86_dec *d, struct x86_op *op)
{
	far_size(d, op);
	return op->flags & X86_OP_MEM ? op_jmp_far_mem : op_jmp_far_imm;
}

x86_fn *x86_sel_call_far(const struct x86_dec *d, struct x86_op *op)
{
	far_size(d, op);
	return op->flags & X86_OP_MEM ? op_call_far_mem : op_call_far_imm;
}

x86_fn *x86_sel_ret_far(const struct x86_dec *d, struct x86_op *op)
{
	far_size(d, op);
	return op_ret_far;
}

/* LES LDS LSS LFS LGS: the segment first, for it may fault. */
static void load_pointer(struct x86_cpu *cpu, const struct x86_op *op, unsigned seg)
{
	u64 off;
	u16 sel = load_far_pointer(cpu, op, &off);

	x86_load_sreg(cpu, seg, sel);
	if (op->osize == 2)
		cpu->gpr[op->reg] = (cpu->gpr[op->reg] & ~0xffffull) | off;
	else
		cpu->gpr[op->reg] = off;
}

static void op_les(struct x86_cpu *cpu, const struct x86_op *op) { load_pointer(cpu, op, X86_ES); }
static void op_lds(struct x86_cpu *cpu, const struct x86_op *op) { load_pointer(cpu, op, X86_DS); }
static void op_lss(struct x86_cpu *cpu, const struct x86_op *op) { load_pointer(cpu, op, X86_SS); }
static void op_lfs(struct x86_cpu *cpu, const struct x86_op *op) { load_pointer(cpu, op, X86_FS); }
static void op_lgs(struct x86_cpu *cpu, const struct x86_op *op) { load_pointer(cpu, op, X86_GS); }

x86_fn *x86_sel_load_far_pointer(const struct x86_dec *d, struct x86_op *op)
{
	if (!(op->flags & X86_OP_MEM) || (op->flags & X86_OP_LOCK))
		return x86_op_ud;
	op->flags |= X86_OP_END;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_LES: return op_les;
	case ZYDIS_MNEMONIC_LDS: return op_lds;
	case ZYDIS_MNEMONIC_LSS: return op_lss;
	case ZYDIS_MNEMONIC_LFS: return op_lfs;
	default: return op_lgs;
	}
}
