/* SPDX-License-Identifier: MIT */
/*
 * Memory operands of code that is not 64-bit: flat 32-bit code, see enum x86_jit_mode.
 *
 * Addresses are cut to 32 bits, and what the upper halves of the guest's registers hold does not
 * matter, so the linear address is made by a 32-bit LEA once, in R8, which such code does not
 * use for the guest (its R8-R15 stay in cpu->gpr[]), and the operand is [R8 + RCX]:
 *
 *	lea	r8d, [address]
 *	rorx	eax, r8d, 12
 *	movzx	eax, ax				; x86_tlb_index()
 *	mov	ecx, r8d
 *	sub	rcx, [rbp + rax * 8 + tag]
 *	add	rcx, [rbp + ctx_page]
 *	cmp	rcx, 4096 - size
 *	ja	slow
 *	mov	rcx, [rbp + rax * 8 + addend]
 *	...	[r8 + rcx]
 *
 * CS, SS and DS have base 0 and no limit, which is part of a translation's key. ES, FS and GS
 * may be anything: whether their limit and type need a look is asked for, and their base added,
 * at each access; if they need one, the handler does the whole instruction.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/jit_priv.h"
#include "silicon/x86/mmu/mem.h"

#define LIN JIT_R8

/* MOV between the accumulator and an address: the general form of it, which the emitters know. */
static void moffs(struct x86_jit_tr *t)
{
	struct x86_op *op = &t->own_op;

	*op = *t->op;
	op->flags |= X86_OP_MEM;
	op->disp = (s32)op->imm;
	op->imm = 0;
	op->reg = X86_RAX;
	op->msize = op->osize;
	/* A load has its general register as destination. */
	op->opnd = X86_OPND_REG_GPR | (t->in.opcode & 2 ? X86_OPND_READ : X86_OPND_WRITE);
	t->op = op;
}

static bool is_moffs(const struct x86_jit_tr *t)
{
	return x86_insn_row(t->op->row)->select == x86_sel_mov && t->parsed && t->in.flags & JIT_I_MEM &&
	       !(t->op->flags & X86_OP_MEM);
}

bool jit_legacy_op(struct x86_jit_tr *t)
{
	if (t->op->fn == x86_op_ud || !t->op->row || t->op->asize != t->word)
		return false;
	if (is_moffs(t))
		moffs(t);
	/* CS is never written through. */
	return !(t->op->flags & X86_OP_MEM) || t->op->seg != X86_CS ||
	       (t->op->opnd & (X86_OPND_READ | X86_OPND_WRITE)) == X86_OPND_READ;
}

/* ---- Linear addresses ---- */

static void segment(struct x86_jit_tr *t, unsigned seg, bool write)
{
	struct jit_asm *a = &t->a;

	if (seg == X86_CS || seg == X86_SS || seg == X86_DS)
		return;
	jit_op_rm(a, 0xf6, 0, write ? JIT_FIELD(seg_write_ok) : JIT_FIELD(seg_read_ok), 1);	/* test byte [..], imm8 */
	jit_8(a, 1u << seg);
	jit_slow_jcc(t, JIT_E);
	jit_alu_rm(a, JIT_ADD, LIN, jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, seg_base) + seg * 8)), 4);
}

/* R8 := offset [base + (index << scale) + disp]. No flag changes. */
static void offset(struct x86_jit_tr *t, unsigned base, unsigned index, unsigned scale, s32 disp)
{
	struct jit_mem m = { .base = JIT_NO_BASE, .index = JIT_RSP, .scale = (u8)scale, .disp = disp };

	if (base < X86_NR_GPRS)
		m.base = (u8)jit_home(base);
	if (index < X86_NR_GPRS)
		m.index = (u8)jit_home(index);
	if (m.base == JIT_NO_BASE && m.index == JIT_RSP)
		jit_mov_imm(&t->a, LIN, (u32)disp);
	else if (m.index == JIT_RSP && !disp)
		jit_op_rr(&t->a, 0x89, m.base, LIN, 4);
	else
		jit_lea(&t->a, LIN, m, 4);
}

static void linear(struct x86_jit_tr *t, const struct x86_op *op, bool write)
{
	offset(t, op->base, op->index, op->scale, op->disp);
	segment(t, op->seg, write);
}

/* ---- The look in the TLB ---- */

static s32 tlb_at(const struct x86_jit_tr *t, size_t array)
{
	return (s32)(offsetof(struct x86_cpu, tlbs) + t->cpu->mmu_idx * sizeof(t->cpu->tlbs[0]) + array);
}

static s32 tag_at(const struct x86_jit_tr *t, bool write)
{
	return tlb_at(t, write ? offsetof(struct x86_tlb, wtag) : offsetof(struct x86_tlb, rtag));
}

static struct jit_mem addend(const struct x86_jit_tr *t)
{
	return jit_at_index(JIT_RBP, JIT_RAX, 3, tlb_at(t, offsetof(struct x86_tlb, addend)));
}

/* RAX := index, RCX := offset in the page if the entry is the right one. */
static void look_up(struct x86_jit_tr *t, bool write)
{
	struct jit_asm *a = &t->a;

	jit_rorx(a, JIT_RAX, LIN, PAGE_SHIFT, 4);
	jit_op_rr(a, 0x0fb7, JIT_RAX, JIT_RAX, 4);		/* movzx eax, ax */
	jit_op_rr(a, 0x89, LIN, JIT_RCX, 4);
	jit_alu_rm(a, JIT_SUB, JIT_RCX, jit_at_index(JIT_RBP, JIT_RAX, 3, tag_at(t, write)), 8);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, jit_ctx_page(t), 8);
}

/* Host faults from here to the end of the instruction re-execute it as the last slow path does. */
static void begin_access(struct x86_jit_tr *t)
{
	if (t->nr_access == JIT_MAX_COLD) {
		t->a.full = true;
		t->nr_access--;
	}
	t->access[t->nr_access++] = (struct jit_access){ .begin = (u32)(t->a.p - t->start), .cold = (u16)(t->nr_cold - 1) };
}

/* RCX := addend of the entry for R8; a miss leads to a slow path. */
static void check(struct x86_jit_tr *t, unsigned size, bool write, bool aligned)
{
	struct jit_asm *a = &t->a;

	look_up(t, write);
	if (aligned) {
		jit_op_rr(a, 0xf7, 0, JIT_RCX, 8);		/* test rcx, imm32 */
		jit_32(a, ~(u32)(PAGE_SIZE - 1) | (size - 1));
		jit_slow_jcc(t, JIT_NE);
	} else {
		jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)(PAGE_SIZE - size), 8);
		jit_slow_jcc(t, JIT_A);
		if (write)
			jit_grain_allow(t, size);
	}
	begin_access(t);
	jit_load(a, JIT_RCX, addend(t), 8);
}

static void at_linear(struct x86_jit_tr *t)
{
	t->at = jit_at_index(LIN, JIT_RCX, 0, 0);
}

/* An address that is known now, and with it the entry. */
static void fixed(struct x86_jit_tr *t, u32 lin, unsigned size, bool write, bool aligned)
{
	struct jit_asm *a = &t->a;
	s32 index = (s32)x86_tlb_index(lin) * 8;

	jit_mov_imm(a, JIT_RCX, lin & (u32)PAGE_MASK);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, jit_ctx_page(t), 8);
	jit_alu_rm(a, JIT_CMP, JIT_RCX, jit_at(JIT_RBP, tag_at(t, write) + index), 8);
	jit_slow_jcc(t, JIT_NE);
	if (!x86_in_page(lin, size) || (aligned && lin & (size - 1)))
		jit_slow_jmp(t);
	begin_access(t);
	jit_mov_imm(a, LIN, lin);
	jit_load(a, JIT_RCX, jit_at(JIT_RBP, tlb_at(t, offsetof(struct x86_tlb, addend)) + index), 8);
	at_linear(t);
}

static void operand(struct x86_jit_tr *t, unsigned size, bool write, bool aligned)
{
	const struct x86_op *op = t->op;

	jit_flags_lost(t);
	if (op->index == X86_REG_ZERO && op->base == X86_REG_ZERO && (op->seg == X86_DS || op->seg == X86_SS)) {
		fixed(t, (u32)op->disp, size, write, aligned);
		return;
	}
	linear(t, op, write);
	check(t, size, write, aligned);
	at_linear(t);
}

/* ---- Spans ---- */

u8 *jit_legacy_span_fill(struct x86_jit_tr *t, const struct jit_span *s, unsigned n)
{
	struct jit_asm *a = &t->a;
	u8 *no;

	offset(t, s->base, s->index, s->scale, s->lo);
	look_up(t, s->write);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)PAGE_SIZE - (s->hi - s->lo), 8);
	no = jit_jcc(a, JIT_A);
	jit_load(a, JIT_RCX, addend(t), 8);
	jit_store(a, JIT_RCX, jit_span_slot(n), 8);
	return no;
}

/* RCX := addend for all of @s. */
static void span_check(struct x86_jit_tr *t, const struct jit_span *s, unsigned aligned)
{
	offset(t, s->base, s->index, s->scale, s->lo);
	check(t, (unsigned)(s->hi - s->lo), s->write, false);
	if (aligned) {
		jit_lea(&t->a, JIT_RAX, jit_at(LIN, s->aligned_at - s->lo), 4);
		jit_test_ri(&t->a, JIT_RAX, aligned - 1);
		jit_slow_jcc(t, JIT_NE);
	}
}

/*
 * The addend is that of the page, so an operand needs its own linear address beside it: a sum of
 * registers may have carried into the upper half, or hold something there.
 */
static bool span_operand(struct x86_jit_tr *t, bool aligned)
{
	const struct x86_op *op = t->op;
	int n = jit_span_of(t, aligned);

	if (n >= 0) {
		jit_cold(t, JIT_COLD_SLOW, NULL);
		begin_access(t);
		jit_load(&t->a, JIT_RCX, jit_span_slot((unsigned)n), 8);
	} else {
		n = jit_span_plan(t, aligned);
		if (n < 0)
			return false;
		t->lead = (u8)(n + 1);
		jit_flags_lost(t);
		span_check(t, &t->span[n], aligned ? op->msize : 0);
		jit_store(&t->a, JIT_RCX, jit_span_slot((unsigned)n), 8);
	}
	offset(t, op->base, op->index, op->scale, op->disp);
	at_linear(t);
	return true;
}

/* ---- What the emitters ask for ---- */

void jit_legacy_operand(struct x86_jit_tr *t, bool aligned)
{
	if (!span_operand(t, aligned))
		operand(t, t->op->msize, t->op->opnd & X86_OPND_WRITE, aligned);
}

void jit_legacy_mem(struct x86_jit_tr *t, unsigned size, bool write)
{
	operand(t, size, write, false);
}

void jit_legacy_mem_ea(struct x86_jit_tr *t, unsigned size, bool write)
{
	jit_op_rr(&t->a, 0x89, JIT_RCX, LIN, 4);
	segment(t, t->op->seg, write);
	check(t, size, write, false);
	at_linear(t);
}

void jit_legacy_base_disp(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write)
{
	jit_flags_lost(t);
	offset(t, r, X86_REG_ZERO, 0, disp);
	segment(t, seg, write);
	check(t, size, write, false);
	at_linear(t);
}
