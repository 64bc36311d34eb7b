/* SPDX-License-Identifier: MIT */
/*
 * Memory operands: the TLB check of mmu/mem.h in host code.
 *
 *	lea	rcx, [address]
 *	rorx	eax, ecx, 12
 *	movzx	eax, ax				; x86_tlb_index()
 *	sub	rcx, [rbp + rax * 8 + tag]
 *	add	rcx, [rbp + ctx_page]	; offset in the page, if the entry is the right one
 *	cmp	rcx, 4096 - size
 *	ja	slow
 *	mov	rcx, [rbp + rax * 8 + addend]
 *	...	[rcx + base + disp]
 *
 * What an access waits for is index and addend, not the comparison: the guest's address
 * is added to the addend once more instead of the offset to the page.
 *
 * The array is that of the block's TLB index, which is part of a translation's key.
 */
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit_priv.h"
#include "silicon/x86/mmu/mem.h"

_Static_assert(X86_TLB_BITS == 16, "MOVZX");

/* A linear address: segment base + guest register + (guest register << scale) + disp. */
struct address {
	u8 seg, base, index, scale;
	bool narrow;		/* cut to 32 bits before the segment base is added */
	s32 disp;
};

static bool has_base(unsigned seg)
{
	/* Segments without a base in 64-bit mode are all but FS and GS. */
	return seg == X86_FS || seg == X86_GS;
}

static struct jit_mem seg_base(unsigned seg)
{
	return jit_at(JIT_RBP, (s32)(offsetof(struct x86_cpu, seg_base) + seg * 8));
}

static s32 tlb_at(const struct x86_jit_tr *t, size_t array)
{
	return (s32)(offsetof(struct x86_cpu, tlbs) + t->cpu->mmu_idx * sizeof(t->cpu->tlbs[0]) + array);
}

/* The word of @array in the entry whose index is in RAX. */
static struct jit_mem tlb_field(const struct x86_jit_tr *t, size_t array)
{
	return jit_at_index(JIT_RBP, JIT_RAX, 3, tlb_at(t, array));
}

static size_t tag_array(bool write)
{
	return write ? offsetof(struct x86_tlb, wtag) : offsetof(struct x86_tlb, rtag);
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

/* Host faults from here to the end of the instruction re-execute it as the last slow path does. */
static void begin_access(struct x86_jit_tr *t)
{
	if (t->nr_access == JIT_MAX_COLD) {
		t->a.full = true;
		t->nr_access--;
	}
	t->access[t->nr_access++] = (struct jit_access){ .begin = (u32)(t->a.p - t->start), .cold = (u16)(t->nr_cold - 1) };
}

/*
 * RAX := index. @from: host register with the linear address, RCX or one that stays as it
 * is. RCX := the offset, if the entry is the right one.
 */
static void look_up(struct x86_jit_tr *t, unsigned from, bool write)
{
	struct jit_asm *a = &t->a;

	jit_rorx(a, JIT_RAX, from, PAGE_SHIFT, 4);
	jit_op_rr(a, 0x0fb7, JIT_RAX, JIT_RAX, 4);		/* movzx eax, ax */
	if (from != JIT_RCX)
		jit_mov_rr(a, JIT_RCX, from);
	jit_alu_rm(a, JIT_SUB, JIT_RCX, tlb_field(t, tag_array(write)), 8);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, jit_ctx_page(t), 8);
}

/* The same, and a slow path for all that is no hit. */
static void check(struct x86_jit_tr *t, unsigned from, unsigned size, bool write, bool aligned)
{
	look_up(t, from, write);
	check_offset(t, size, aligned);
	if (write && !aligned)
		jit_grain_allow(t, size);
	begin_access(t);
}

/* The offset in RCX becomes the host address, whatever the linear address was made of. */
static void from_offset(struct x86_jit_tr *t, bool write)
{
	jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, tlb_field(t, tag_array(write)), 8);
	jit_alu_rm(&t->a, JIT_SUB, JIT_RCX, jit_ctx_page(t), 8);
	jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
	t->at = jit_at(JIT_RCX, 0);
}

/* t->at := host address of @m, RCX having the addend. RAX is clobbered, no flag changes. */
static void combine(struct x86_jit_tr *t, const struct address *m)
{
	int b = m->base == X86_REG_ZERO ? -1 : jit_home(m->base), x = m->index == X86_REG_ZERO ? -1 : jit_home(m->index);
	struct jit_asm *a = &t->a;

	if (m->index != X86_REG_ZERO && x < 0) {
		jit_load(a, JIT_RAX, jit_gpr(m->index), 8);
		jit_lea(a, JIT_RCX, jit_at_index(JIT_RCX, JIT_RAX, m->scale, 0), 8);
	}
	if (m->base != X86_REG_ZERO && b < 0) {
		jit_load(a, JIT_RAX, jit_gpr(m->base), 8);
		jit_lea(a, JIT_RCX, jit_at_index(JIT_RCX, JIT_RAX, 0, 0), 8);
	}
	if (x >= 0) {
		if (b >= 0)
			jit_lea(a, JIT_RCX, jit_at_index(JIT_RCX, (unsigned)b, 0, 0), 8);
		t->at = jit_at_index(JIT_RCX, (unsigned)x, m->scale, m->disp);
	} else if (b >= 0) {
		t->at = jit_at_index((unsigned)b, JIT_RCX, 0, m->disp);
	} else {
		t->at = jit_at(JIT_RCX, m->disp);
	}
}

/* t->at := host address of @m. RAX has the index. */
static void locate(struct x86_jit_tr *t, const struct address *m, bool write)
{
	if (m->narrow || m->base == X86_REG_NEXT_RIP) {
		from_offset(t, write);
		return;
	}
	jit_load(&t->a, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
	if (has_base(m->seg))
		jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, seg_base(m->seg), 8);
	combine(t, m);
}

/*
 * An address that is known now, and with it the entry: only whether it is the right one is
 * left to see. The two pages of an operand across a page end are the handler's.
 */
static void fixed(struct x86_jit_tr *t, u64 lin, unsigned size, bool write, bool aligned)
{
	struct jit_asm *a = &t->a;
	s32 index = (s32)x86_tlb_index(lin) * 8;

	jit_mov_imm(a, JIT_RCX, lin & PAGE_MASK);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, jit_ctx_page(t), 8);
	jit_alu_rm(a, JIT_CMP, JIT_RCX, jit_at(JIT_RBP, tlb_at(t, tag_array(write)) + index), 8);
	jit_slow_jcc(t, JIT_NE);
	if (!x86_in_page(lin, size) || (aligned && lin & (size - 1)))
		jit_slow_jmp(t);
	begin_access(t);
	jit_mov_imm(a, JIT_RCX, lin);
	jit_alu_rm(a, JIT_ADD, JIT_RCX, jit_at(JIT_RBP, tlb_at(t, offsetof(struct x86_tlb, addend)) + index), 8);
	t->at = jit_at(JIT_RCX, 0);
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

/* Add guest register @r << @scale to RCX. RAX is clobbered. */
static void add_part(struct x86_jit_tr *t, unsigned r, unsigned scale)
{
	int home = jit_home(r);

	if (home < 0)
		jit_load(&t->a, JIT_RAX, jit_gpr(r), 8);
	jit_lea(&t->a, JIT_RCX, jit_at_index(JIT_RCX, home < 0 ? JIT_RAX : (unsigned)home, scale, 0), 8);
}

/* RCX := base + (index << scale) + @disp. No flag changes. */
static void ea(struct x86_jit_tr *t, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size)
{
	struct jit_asm *a = &t->a;
	unsigned b, x;

	if (index == X86_REG_ZERO && (base == X86_REG_ZERO || base == X86_REG_NEXT_RIP)) {
		u64 v = (base == X86_REG_ZERO ? 0 : t->next_rip) + (u64)(s64)disp;

		jit_mov_imm(a, JIT_RCX, size == 8 ? v : (u32)v);
		return;
	}
	if (index == X86_REG_ZERO) {
		if (jit_home(base) >= 0) {
			jit_lea(a, JIT_RCX, jit_at((unsigned)jit_home(base), disp), size);
			return;
		}
		load_part(t, base);
		if (disp || size == 4)
			jit_lea(a, JIT_RCX, jit_at(JIT_RCX, disp), size);
		return;
	}
	/* Not both can be loaded into RCX: a second one in memory goes through RAX. */
	x = JIT_RCX;
	if (jit_home(index) >= 0)
		x = (unsigned)jit_home(index);
	else
		load_part(t, index);
	if (base == X86_REG_ZERO) {
		jit_lea(a, JIT_RCX, jit_at_index(JIT_NO_BASE, x, scale, disp), size);
		return;
	}
	b = JIT_RAX;
	if (base < X86_NR_GPRS && jit_home(base) >= 0)
		b = (unsigned)jit_home(base);
	else
		jit_load(a, JIT_RAX, jit_gpr(base), 8);
	jit_lea(a, JIT_RCX, jit_at_index(b, x, scale, disp), size);
}

void jit_ea(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;

	ea(t, op->base, op->index, op->scale, op->disp, op->asize == 8 ? 8 : 4);
}

/* ---- Spans ---- */

/* RCX := addend of the entry for all of @s; a miss leads to a slow path. */
static void span_check(struct x86_jit_tr *t, const struct jit_span *s, unsigned aligned)
{
	struct jit_asm *a = &t->a;

	ea(t, s->base, s->index, s->scale, s->lo, 8);
	check(t, JIT_RCX, (unsigned)(s->hi - s->lo), s->write, false);
	if (aligned) {
		jit_grain_refuse(t);
		jit_lea(a, JIT_RCX, jit_at(JIT_RCX, s->aligned_at - s->lo), 4);
		jit_test_ri(a, JIT_RCX, aligned - 1);
		jit_slow_jcc(t, JIT_NE);
	}
	jit_load(a, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
}

u8 *jit_span_fill(struct x86_jit_tr *t, const struct jit_span *s, unsigned n)
{
	struct jit_asm *a = &t->a;
	u8 *no;

	if (t->word != 8)
		return jit_legacy_span_fill(t, s, n);
	ea(t, s->base, s->index, s->scale, s->lo, 8);
	look_up(t, JIT_RCX, s->write);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)PAGE_SIZE - (s->hi - s->lo), 8);
	no = jit_jcc(a, JIT_A);
	jit_load(a, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
	jit_store(a, JIT_RCX, jit_span_slot(n), 8);
	return no;
}

void jit_span_if_inside(struct x86_jit_tr *t, const struct jit_span *s)
{
	struct jit_asm *a = &t->a;
	u8 *crosses;

	/* RAX serves a second register in memory. */
	jit_store(a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	ea(t, s->base, s->index, s->scale, s->lo, 8);
	jit_load(a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_alu_ri(a, JIT_AND, JIT_RCX, (s32)(PAGE_SIZE - 1), 4);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)PAGE_SIZE - (s->hi - s->lo), 4);
	crosses = jit_jcc8(a, JIT_A);
	jit_alu_ri(a, JIT_OR, JIT_RAX, JIT_NO_WRITE, 8);
	jit_bind8(a, crosses);
}

void jit_span_pin(struct x86_jit_tr *t, const struct jit_span *s, unsigned n)
{
	struct jit_asm *a = &t->a;

	ea(t, s->base, s->index, s->scale, s->lo, 8);
	look_up(t, JIT_RCX, s->write);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)PAGE_SIZE - (s->hi - s->lo), 8);
	jit_hoist_fail(t, jit_jcc(a, JIT_A));
	jit_store(a, JIT_RCX, JIT_FIELD(jit_tmp), 8);
	jit_load(a, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
	if (s->fold_base)
		add_part(t, s->base, 0);
	if (s->fold_index)
		add_part(t, s->index, s->scale);
	jit_store(a, JIT_RCX, jit_span_slot(n), 8);
	jit_load(a, JIT_RCX, JIT_FIELD(jit_tmp), 8);
}

/*
 * An operand whose base stays as it is while its index is anything, such as a small table in a
 * loop: the page of its last access, without waiting for an index into the TLB.
 */
static bool cached_operand(struct x86_jit_tr *t, const struct address *m)
{
	struct address rest = *m;
	struct jit_asm *a = &t->a;
	int n = jit_hoist_cache(t);
	struct jit_cold *c;

	if (n < 0)
		return false;
	jit_flags_lost(t);
	ea(t, m->base, m->index, m->scale, m->disp, 8);
	jit_alu_rm(a, JIT_SUB, JIT_RCX, jit_cache_page((unsigned)n), 8);
	jit_alu_rm(a, JIT_CMP, JIT_RCX, jit_cache_limit((unsigned)n), 8);
	c = jit_cold(t, JIT_COLD_CACHE, jit_jcc(a, JIT_AE));
	c->cache = (u8)n;
	begin_access(t);
	c->again = a->p;
	jit_load(a, JIT_RCX, jit_cache_addend((unsigned)n), 8);
	rest.base = X86_REG_ZERO;
	combine(t, &rest);
	return true;
}

u8 *jit_cache_fill(struct x86_jit_tr *t, const struct jit_cold *c)
{
	const struct x86_op *op = &t->block->op[c->nr];
	bool write = op->opnd & X86_OPND_WRITE;
	struct jit_asm *a = &t->a;
	u8 *no;

	ea(t, op->base, op->index, op->scale, op->disp, 8);
	jit_store(a, JIT_RCX, JIT_FIELD(jit_tmp), 8);
	look_up(t, JIT_RCX, write);
	jit_alu_ri(a, JIT_CMP, JIT_RCX, (s32)(PAGE_SIZE - op->msize), 8);
	no = jit_jcc(a, JIT_A);
	jit_op_rr(a, 0xf7, 3, JIT_RCX, 8);			/* neg rcx */
	jit_alu_rm(a, JIT_ADD, JIT_RCX, JIT_FIELD(jit_tmp), 8);
	jit_store(a, JIT_RCX, jit_cache_page(c->cache), 8);
	jit_load(a, JIT_RCX, tlb_field(t, offsetof(struct x86_tlb, addend)), 8);
	add_part(t, op->base, 0);
	jit_store(a, JIT_RCX, jit_cache_addend(c->cache), 8);
	jit_store_imm(a, jit_cache_limit(c->cache), (s32)(PAGE_SIZE - op->msize + 1), 8);
	jit_mov_imm(a, JIT_RAX, (u64)t->loop.budget);
	jit_op_rm(a, 0x83, JIT_SUB, jit_at(JIT_RAX, 0), 4);	/* sub dword [..], 1 */
	jit_8(a, 1);
	jit_jmp_to(a, (u64)c->again + (u64)a->delta);
	return no;
}

/* The operand is in a span: t->at. False: it is not. */
static bool span_operand(struct x86_jit_tr *t, const struct address *m, bool aligned)
{
	int n = jit_span_of(t, aligned);

	if (n >= 0) {
		struct address rest = *m;

		jit_cold(t, JIT_COLD_SLOW, NULL);
		begin_access(t);
		jit_load(&t->a, JIT_RCX, jit_span_slot((unsigned)n), 8);
		if (t->span[n].fold_base)
			rest.base = X86_REG_ZERO;
		if (t->span[n].fold_index)
			rest.index = X86_REG_ZERO;
		combine(t, &rest);
		return true;
	}
	n = jit_span_plan(t, aligned);
	if (n < 0)
		return false;
	t->lead = (u8)(n + 1);
	jit_flags_lost(t);
	span_check(t, &t->span[n], aligned ? t->op->msize : 0);
	jit_store(&t->a, JIT_RCX, jit_span_slot((unsigned)n), 8);
	combine(t, m);
	return true;
}

void jit_mem_stack(struct x86_jit_tr *t, s32 disp, bool write)
{
	struct address m = { .seg = X86_SS, .base = X86_RSP, .index = X86_REG_ZERO, .disp = disp };
	struct jit_stack word;

	/* The operand of an indirect call is another one. */
	if (!jit_stack_word(t->op, &word) || !span_operand(t, &m, false))
		jit_mem_base_disp(t, X86_SS, X86_RSP, disp, t->word, write);
}

/* ---- Operands ---- */

static struct address address_of(const struct x86_op *op)
{
	return (struct address){ op->seg, op->base, op->index, op->scale, op->asize != 8, op->disp };
}

static void operand(struct x86_jit_tr *t, unsigned size, bool write, bool aligned)
{
	const struct x86_op *op = t->op;
	struct address m = address_of(op);

	jit_flags_lost(t);
	if (op->index == X86_REG_ZERO && op->base >= X86_NR_GPRS && op->asize == 8 && !has_base(op->seg)) {
		fixed(t, (op->base == X86_REG_ZERO ? 0 : t->next_rip) + (u64)(s64)op->disp, size, write, aligned);
		return;
	}
	if (op->index == X86_REG_ZERO && !op->disp && op->asize == 8 && op->base < X86_NR_GPRS &&
	    jit_home(op->base) >= 0 && !has_base(op->seg)) {
		check(t, (unsigned)jit_home(op->base), size, write, aligned);
	} else {
		jit_ea(t);
		if (has_base(op->seg))
			jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, seg_base(op->seg), 8);
		check(t, JIT_RCX, size, write, aligned);
	}
	locate(t, &m, write);
}

/* RCX := address of t->at. */
static void in_rcx(struct x86_jit_tr *t)
{
	if (t->at.base != JIT_RCX || t->at.index != JIT_RSP || t->at.disp)
		jit_lea(&t->a, JIT_RCX, t->at, 8);
	t->at = jit_at(JIT_RCX, 0);
}

void jit_operand_in_place(struct x86_jit_tr *t, bool aligned)
{
	const struct x86_op *op = t->op;
	struct address m = address_of(op);

	if (t->word != 8) {
		jit_legacy_operand(t, aligned);
	} else {
		jit_loop_note(t, aligned);
		if (!cached_operand(t, &m) && !span_operand(t, &m, aligned))
			operand(t, op->msize, op->opnd & X86_OPND_WRITE, aligned);
	}
}

void jit_operand(struct x86_jit_tr *t, struct jit_insn *in, bool aligned)
{
	jit_operand_in_place(t, aligned);
	jit_put_operand(t, in);
}

void jit_put_operand(const struct x86_jit_tr *t, struct jit_insn *in)
{
	if (t->at.index == JIT_RSP)
		jit_mem_base(in, t->at.base, t->at.disp);
	else
		jit_mem_index(in, t->at.base, t->at.index, t->at.scale, t->at.disp);
}

void jit_mem(struct x86_jit_tr *t, unsigned size, bool write)
{
	if (t->word != 8)
		jit_legacy_mem(t, size, write);
	else
		operand(t, size, write, false);
	in_rcx(t);
}

void jit_mem_ea(struct x86_jit_tr *t, unsigned size, bool write)
{
	if (t->word != 8) {
		jit_legacy_mem_ea(t, size, write);
		in_rcx(t);
		return;
	}
	if (has_base(t->op->seg))
		jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, seg_base(t->op->seg), 8);
	check(t, JIT_RCX, size, write, false);
	from_offset(t, write);
}

void jit_mem_base_disp(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write)
{
	struct address m = { .seg = (u8)seg, .base = (u8)r, .index = X86_REG_ZERO, .disp = disp };

	if (t->word != 8) {
		jit_legacy_base_disp(t, seg, r, disp, size, write);
		return;
	}
	jit_flags_lost(t);
	if (!disp && jit_home(r) >= 0 && !has_base(seg)) {
		check(t, (unsigned)jit_home(r), size, write, false);
	} else {
		if (jit_home(r) >= 0) {
			jit_lea(&t->a, JIT_RCX, jit_at((unsigned)jit_home(r), disp), 8);
		} else {
			load_part(t, r);
			jit_lea(&t->a, JIT_RCX, jit_at(JIT_RCX, disp), 8);
		}
		if (has_base(seg))
			jit_alu_rm(&t->a, JIT_ADD, JIT_RCX, seg_base(seg), 8);
		check(t, JIT_RCX, size, write, false);
	}
	locate(t, &m, write);
}

void jit_mem_at(struct x86_jit_tr *t, unsigned seg, unsigned r, s32 disp, unsigned size, bool write)
{
	jit_mem_base_disp(t, seg, r, disp, size, write);
	in_rcx(t);
}
