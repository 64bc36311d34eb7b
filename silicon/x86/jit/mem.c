/* SPDX-License-Identifier: MIT */
/*
 * Memory operands: the TLB check of mmu/mem.h in host code.
 *
 *	lea	rcx, [address]
 *	rorx	eax, ecx, 7			; x86_tlb_index() * sizeof(struct x86_tlbe)
 *	and	eax, (X86_TLB_SIZE - 1) * 32
 *	sub	rcx, [rbp + rax + tag]
 *	add	rcx, [rbp + tlb_ctx_page]	; offset in the page, if the entry is the right one
 *	cmp	rcx, 4096 - size
 *	ja	slow
 *	add	rcx, [rbp + rax + page]
 *
 * The array is that of the block's TLB index, which is part of a translation's key.
 */
#include "silicon/x86/jit/jit_priv.h"
#include "silicon/x86/mmu/mem.h"

_Static_assert(sizeof(struct x86_tlbe) == 32, "the rotation");

static struct jit_mem tlb_field(const struct x86_jit_tr *t, size_t field)
{
	size_t array = offsetof(struct x86_cpu, tlbs) + t->cpu->mmu_idx * sizeof(t->cpu->tlbs[0]);

	return jit_at_index(JIT_RBP, JIT_RAX, 0, (s32)(array + field));
}

/* Branch away unless RCX is an offset at which @size bytes end in the page (@aligned: an aligned one). */
static void check_offset(struct x86_jit_tr *t, unsigned size, bool aligned)
{
	if (!aligned) {
		jit_alu_ri(&t->a, JIT_CMP, JIT_RCX, (s32)(PAGE_SIZE - size), 8);
		jit_slow_jcc(t, JIT_A);
		return;
	}
	jit_op_rr(&t->a, 0xf7, 0, JIT_RCX, 8);		/* test rcx, imm32 */
	jit_32(&t->a, ~(u32)(PAGE_SIZE - 1) | (size - 1));
	jit_slow_jcc(t, JIT_NE);
}

/* @from: host register with the linear address, RCX or one that stays as it is. */
static void check(struct x86_jit_tr *t, unsigned from, unsigned size, bool write, bool aligned)
{
	struct jit_asm *a = &t->a;

	jit_rorx(a, JIT_RAX, from, PAGE_SHIFT - 5, 4);
	jit_alu_ri(a, JIT_AND, JIT_RAX, (X86_TLB_SIZE - 1) * 32, 4);
	if (from != JIT_RCX)
		jit_mov_rr(a, JIT_RCX, from);
	jit_alu_rm(a, JIT_SUB, JIT_RCX, tlb_field(t, write ? offsetof(struct x86_tlbe, wtag) :
						  offsetof(struct x86_tlbe, rtag)), 8);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, JIT_FIELD(tlb_ctx_page), 8);
	check_offset(t, size, aligned);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, tlb_field(t, offsetof(struct x86_tlbe, page)), 8);
	if (t->nr_access == JIT_MAX_COLD) {
		a->full = true;
		t->nr_access--;
	}
	t->access[t->nr_access++] = (struct jit_access){ .begin = (u32)(a->p - t->start), .cold = (u16)(t->nr_cold - 1) };
}

/* RCX := value of a base or index register; the two slots that are none included. */
static void load_part(struct x86_jit_tr *t, unsigned r)
{
	if (r == X86_REG_NEXT_RIP)
		jit_mov_imm(&t->a, JIT_RCX, t->next_rip);
	else if (jit_home(r) >= 0)
		jit_mov_rr(&t->a, JIT_RCX, (unsigned)jit_home(r));
	else
		jit_load(&t->a, JIT_RCX, jit_gpr(r), 8);
}

void jit_ea(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	unsigned size = op->asize == 8 ? 8 : 4, base = op->base, index = op->index, b, x;
	struct jit_asm *a = &t->a;

	if (index == X86_REG_ZERO && (base == X86_REG_ZERO || base == X86_REG_NEXT_RIP)) {
		u64 v = (base == X86_REG_ZERO ? 0 : t->next_rip) + (u64)(s64)op->disp;

		jit_mov_imm(a, JIT_RCX, size == 8 ? v : (u32)v);
		return;
	}
	if (index == X86_REG_ZERO) {
		if (jit_home(base) >= 0) {
			jit_lea(a, JIT_RCX, jit_at((unsigned)jit_home(base), op->disp), size);
			return;
		}
		load_part(t, base);
		if (op->disp || size == 4)
			jit_lea(a, JIT_RCX, jit_at(JIT_RCX, op->disp), size);
		return;
	}
	/* Not both can be loaded into RCX: a second one in memory goes through RAX. */
	x = JIT_RCX;
	if (jit_home(index) >= 0)
		x = (unsigned)jit_home(index);
	else
		load_part(t, index);
	if (base == X86_REG_ZERO) {
		jit_lea(a, JIT_RCX, jit_at_index(JIT_NO_BASE, x, op->scale, op->disp), size);
		return;
	}
	b = JIT_RAX;
	if (base < X86_NR_GPRS && jit_home(base) >= 0)
		b = (unsigned)jit_home(base);
	else
		jit_load(a, JIT_RAX, jit_gpr(base), 8);
	jit_lea(a, JIT_RCX, jit_at_index(b, x, op->scale, op->disp), size);
}

/* Segments without a base in 64-bit mode are all but FS and GS. */
static void add_base(struct x86_jit_tr *t, unsigned seg)
{
	if (seg == X86_FS || seg == X86_GS)
		jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, seg_base) + seg * 8)), 8);
}

static void operand(struct x86_jit_tr *t, unsigned size, bool write, bool aligned)
{
	const struct x86_op *op = t->op;

	jit_flags_lost(t);
	if (op->index == X86_REG_ZERO && !op->disp && op->asize == 8 && op->base < X86_NR_GPRS &&
	    jit_home(op->base) >= 0 && op->seg != X86_FS && op->seg != X86_GS) {
		check(t, (unsigned)jit_home(op->base), size, write, aligned);
		return;
	}
	jit_ea(t);
	add_base(t, op->seg);
	check(t, JIT_RCX, size, write, aligned);
}

void jit_mem(struct x86_jit_tr *t, unsigned size, bool write)
{
	operand(t, size, write, false);
}

void jit_mem_aligned(struct x86_jit_tr *t, unsigned size, bool write)
{
	operand(t, size, write, true);
}

void jit_mem_ea(struct x86_jit_tr *t, unsigned size, bool write)
{
	add_base(t, t->op->seg);
	check(t, JIT_RCX, size, write, false);
}

void jit_mem_at(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write)
{
	jit_flags_lost(t);
	if (!disp && jit_home(r) >= 0 && seg != X86_FS && seg != X86_GS) {
		check(t, (unsigned)jit_home(r), size, write, false);
		return;
	}
	if (jit_home(r) >= 0) {
		jit_lea(&t->a, JIT_RCX, jit_at((unsigned)jit_home(r), disp), 8);
	} else {
		load_part(t, r);
		jit_lea(&t->a, JIT_RCX, jit_at(JIT_RCX, disp), 8);
	}
	add_base(t, seg);
	check(t, JIT_RCX, size, write, false);
}
