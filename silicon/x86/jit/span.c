/* SPDX-License-Identifier: MIT */
/*
 * Spans: memory operands of one block at several displacements from the same registers,
 * such as a stack frame or a structure. The first one looks up the TLB for all of them,
 * if they lie in one page, and keeps the entry's addend in a slot; the others only load
 * it. Nothing is touched that the guest does not touch: an entry of the TLB speaks for
 * each byte of its page.
 *
 * A slot is good as long as the entry would be, were it not replaced: until its registers
 * change, a handler is called that may invalidate TLB entries (all that are called in
 * the course of a block, not from a slow path), or the block ends. Write tags that another
 * processor's decoding takes back inside a slow path end the translation there, see
 * x86_codepage_serve().
 *
 * If the first operand misses, the handler makes its access and fills the TLB, and the look
 * is taken again. A span across a page end leaves the block there for the interpreter;
 * when that has happened some times the block is translated without spans. So does one that
 * is looked up for a store to come, where the page has been read only; that ends with the store.
 */
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/mmu/mem.h"

struct jit_mem jit_span_slot(unsigned n)
{
	return jit_at(JIT_RBP, JIT_TABLE(span) + (s32)(n * 8));
}

void jit_span_clear(struct x86_jit_tr *t)
{
	for (unsigned i = 0; i < JIT_SPANS; i++)
		t->span[i].valid = false;
}

static bool uses(const struct jit_span *s, unsigned r)
{
	return s->base == r || s->index == r;
}

void jit_span_writes(struct x86_jit_tr *t, unsigned r)
{
	for (unsigned i = 0; i < JIT_SPANS; i++)
		if (uses(&t->span[i], r))
			t->span[i].valid = false;
}

s64 jit_span_step(unsigned base, unsigned index, unsigned scale, unsigned r, s32 by)
{
	return (base == r ? (s64)by : 0) + (index == r ? (s64)by * (1 << scale) : 0);
}

void jit_span_moves(struct x86_jit_tr *t, unsigned r, s32 by)
{
	for (unsigned i = 0; i < JIT_SPANS; i++) {
		struct jit_span *s = &t->span[i];
		s64 d = jit_span_step(s->base, s->index, s->scale, r, by);

		if (!s->valid || !d)
			continue;
		if (d <= -JIT_DISP_MAX || d >= JIT_DISP_MAX || s->lo - d <= -2 * JIT_DISP_MAX || s->lo - d >= 2 * JIT_DISP_MAX) {
			s->valid = false;
			continue;
		}
		s->lo -= (s32)d;
		s->hi -= (s32)d;
		s->aligned_at -= (s32)d;
	}
}

static bool same_registers(const struct x86_op *a, const struct x86_op *b)
{
	return a->base == b->base && a->index == b->index && a->scale == b->scale;
}

/* @op, or if it pushes or pops a word the same with that word as its operand, in @as. */
static const struct x86_op *with_operand(const struct x86_op *op, struct x86_op *as)
{
	struct jit_stack s;

	if (!jit_stack_word(op, &s))
		return op;
	*as = *op;
	as->flags |= X86_OP_MEM;
	as->opnd = s.write ? X86_OPND_WRITE : X86_OPND_READ;
	as->base = X86_RSP;
	as->index = X86_REG_ZERO;
	as->scale = 0;
	as->disp = s.disp;
	as->seg = X86_SS;
	as->asize = as->msize = 8;
	return as;
}

bool jit_span_written(const struct x86_op *op)
{
	struct x86_op as;

	return with_operand(op, &as)->opnd & X86_OPND_WRITE;
}

/* Operands that can be in a span: plain addresses with a base register. */
bool jit_span_eligible(const struct x86_jit_tr *t, const struct x86_op *op)
{
	return op->flags & X86_OP_MEM && op->asize == t->word && op->base < X86_NR_GPRS &&
	       (op->seg == X86_DS || op->seg == X86_SS) && op->msize && op->opnd & (X86_OPND_READ | X86_OPND_WRITE) &&
	       op->disp > -JIT_DISP_MAX && op->disp < JIT_DISP_MAX;
}

static bool known_aligned(const struct jit_span *s, const struct x86_op *op)
{
	return op->msize <= s->aligned && !((op->disp - s->aligned_at) & (op->msize - 1));
}

int jit_span_of(const struct x86_jit_tr *t, bool aligned)
{
	struct x86_op as;
	const struct x86_op *op = with_operand(t->op, &as);

	if (!jit_span_eligible(t, op))
		return -1;
	for (unsigned i = 0; i < JIT_SPANS; i++) {
		const struct jit_span *s = &t->span[i];

		if (s->valid && s->base == op->base && s->index == op->index && s->scale == op->scale &&
		    op->disp >= s->lo && op->disp + op->msize <= s->hi &&
		    (s->write || !(op->opnd & X86_OPND_WRITE)) && (!aligned || known_aligned(s, op)))
			return (int)i;
	}
	return -1;
}

/* Does @op name @r as an operand? It may then change it. */
static bool names(const struct x86_op *op, unsigned r)
{
	return (op->opnd & X86_OPND_REG_GPR && op->reg == r) || (op->opnd & X86_OPND_RM_GPR && op->rm == r);
}

/* Is [registers of @s] known behind @op? *@moved is what has been added to the address. */
static bool goes_on(const struct jit_span *s, const struct x86_op *op, const u8 *bytes, unsigned word, s64 *moved)
{
	struct jit_stack stack;
	struct jit_insn in;
	unsigned r = X86_RSP;
	s32 by;

	if (jit_stack_word(op, &stack)) {
		by = stack.by;
		if (!stack.write && (names(op, s->base) || names(op, s->index)))
			return false;
	} else if (!names(op, s->base) && !names(op, s->index)) {
		return true;
	} else if (!jit_parse(bytes, op->len, word, &in) || !jit_is_add(op, &in, word, &r, &by)) {
		return false;
	}
	*moved += jit_span_step(s->base, s->index, s->scale, r, by);
	return *moved > -JIT_DISP_MAX && *moved < JIT_DISP_MAX;
}

int jit_span_plan(struct x86_jit_tr *t, bool aligned)
{
	struct x86_op as_first, as;
	const struct x86_op *first = with_operand(t->op, &as_first), *op = t->op;
	struct jit_span s = { .base = first->base, .index = first->index, .scale = first->scale, .lo = first->disp,
			      .hi = first->disp + first->msize, .write = first->opnd & X86_OPND_WRITE };
	unsigned n = 0, slot = t->next_span;
	const u8 *bytes = t->bytes;
	s64 moved = 0;

	if (!t->spans || !jit_span_eligible(t, first))
		return -1;
	for (unsigned k = t->nr; ; ) {
		const struct x86_op *with;

		if (!goes_on(&s, op, bytes, t->word, &moved))
			break;
		if (++k == t->block->nr_ops)
			break;
		bytes += op->len;
		op = &t->block->op[k];
		with = with_operand(op, &as);
		if (jit_span_eligible(t, with) && same_registers(with, first)) {
			s64 at = with->disp + moved, end = at + with->msize;
			s64 lo = at < s.lo ? at : s.lo, hi = end > s.hi ? end : s.hi;

			if (hi - lo > JIT_SPAN_MAX)
				continue;
			s.lo = (s32)lo;
			s.hi = (s32)hi;
			s.write |= with->opnd & X86_OPND_WRITE;
			n++;
		}
	}
	if (!n)
		return -1;
	s.valid = true;
	if (aligned) {
		s.aligned = first->msize;
		s.aligned_at = first->disp;
	}
	/* One that is there for reading only is replaced by the one for writing. */
	for (unsigned i = 0; i < JIT_SPANS; i++)
		if (t->span[i].valid && !t->span[i].pinned && t->span[i].base == s.base && t->span[i].index == s.index &&
		    t->span[i].scale == s.scale)
			slot = i;
	if (slot == t->next_span)
		t->next_span = t->next_span + 1 < JIT_SPANS ? t->next_span + 1 : t->first_span;
	t->span[slot] = s;
	return (int)slot;
}

void jit_span_crossed(struct x86_cpu *cpu)
{
	u64 word = jit_tables(cpu)->crossed;
	struct x86_jit_trans *t = (struct x86_jit_trans *)(word & ~(u64)(JIT_NO_WRITE | JIT_NO_CACHE));

	jit_tables(cpu)->crossed = 0;
	if (word & JIT_NO_CACHE && !t->dead) {
		if (t->block->runs < JIT_RUNS_NO_CACHES)
			t->block->runs = JIT_RUNS_NO_CACHES;
		jit_drop(cpu, t);
		return;
	}
	t->crossed += word & JIT_NO_WRITE ? 1 : 16;
	if (t->dead || t->crossed < JIT_CROSSED)
		return;
	t->block->runs = JIT_RUNS_NO_SPANS;
	jit_drop(cpu, t);
}
