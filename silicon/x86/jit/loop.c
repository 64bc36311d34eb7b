/* SPDX-License-Identifier: MIT */
/*
 * Blocks that branch to their own start get a second copy of their code for all rounds
 * but the first. What is known at the branch is known at the start of the copy, where it
 * is not at the entries: that the vector state is in the host's registers, and how to
 * compute the flags again, so that they need not be kept across memory operands.
 *
 *	...	the block; jcc pre
 *	out:	jmp leave			; flags are in EFLAGS
 *	pre:	setae [jit_no_carry]		; if the flags are those of an INC or DEC
 *	head:	poll
 *	...	the block; jcc head (or pre)
 *
 * The copy ends in the state in which it began, or its branch is an ordinary way out. There may
 * be a third copy, see hoist.c.
 */
#include "silicon/x86/jit/jit_priv.h"

static bool same(const struct jit_flags *a, const struct jit_flags *b)
{
	return a->again == b->again && a->size == b->size && a->a == b->a && a->b == b->b && a->imm == b->imm &&
	       a->moved == b->moved;
}

bool jit_loop_fits(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;

	if (!l->allowed)
		return false;
	if (!l->copies) {
		if (t->block->nr_ops > JIT_LOOP_OPS || t->nr_cold >= JIT_MAX_COLD / 3 - 4 ||
		    t->nr_access >= JIT_MAX_COLD / 3)
			return false;
		l->hoists = jit_hoist_plan(t);
		return t->flags.again != JIT_AGAIN_NONE || t->vec || l->hoists;
	}
	if (l->vec & ~t->vec)
		return false;
	return l->flags.again == JIT_AGAIN_NONE || same(&t->flags, &l->flags);
}

void jit_loop_back(struct x86_jit_tr *t, u8 *from)
{
	struct jit_loop *l = &t->loop;

	if (l->copies) {
		jit_bind_to(from, t->flags.carry == JIT_CF_WITH ? l->pre : l->head);
		return;
	}
	l->from = from;
	l->flags = t->flags;
	l->vec = t->vec;
}

/* The ordinary head: look for events. */
static void poll(struct x86_jit_tr *t, const u8 *out)
{
	struct jit_asm *a = &t->a;
	u8 *from;

	if (t->flags.again == JIT_AGAIN_NONE) {
		jit_load(a, JIT_RCX, JIT_FIELD(calm), 4);
		from = jit_jrcxz(a);
		*from = (u8)(out - (from + 1));
	} else {
		jit_op_rm(a, 0x83, 7, JIT_FIELD(calm), 4);	/* cmp dword [..], 0 */
		jit_8(a, 0);
		jit_cold(t, JIT_COLD_POLL, jit_jcc(a, JIT_E));
	}
}

/* Behind a jump: the head of a loop is fetched as few pieces as there can be. */
static void align(struct jit_asm *a)
{
	while ((u64)a->p % 32 && !a->full)
		jit_8(a, 0x90);
}

static void second(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	struct jit_asm *a = &t->a;
	u8 *out, *entered = NULL;

	out = a->p;
	jit_bind_to(jit_jmp(a), t->out);
	if (!l->hoists)
		align(a);
	jit_bind(a, l->from);
	t->flags = l->flags;
	if (l->hoists) {
		jit_flags_keep_carry(t);
		jit_hoist_entry(t);
		entered = jit_jmp(a);
		t->flags = l->flags;
	}
	l->pre = a->p;
	jit_flags_keep_carry(t);
	if (entered)
		jit_bind(a, entered);
	l->head = a->p;
	if (t->flags.again != JIT_AGAIN_NONE)
		t->flags.where = JIT_FL_AGAIN;
	l->flags = t->flags;
	if (l->hoists)
		jit_hoist_head(t);
	else
		poll(t, out);
	l->body = a->p;
}

/* With looks for many rounds: hoist.c. */
static void third(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	struct jit_asm *a = &t->a;
	u8 *promoted;

	t->flags = l->flags;
	jit_hoist_promote(t);
	promoted = jit_jmp(a);
	align(a);
	l->pre = a->p;
	t->flags = l->flags;
	t->flags.where = JIT_FL_LIVE;
	t->flags.carry = JIT_CF_WITH;
	jit_flags_keep_carry(t);
	l->head = a->p;
	t->flags = l->flags;
	jit_hoist_head(t);
	jit_bind(a, promoted);
}

bool jit_loop_unrolled(const struct x86_jit_tr *t)
{
	return t->loop.copies == 2 && t->loop.round + 1 < t->loop.rounds;
}

bool jit_loop_again(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;

	if (!jit_loop_unrolled(t))
		return false;
	l->round++;
	/* As at the head, for the registers of this round. */
	for (unsigned i = 0; i < l->nr_spans; i++)
		t->span[i] = l->span[i];
	t->ended = false;
	return true;
}

bool jit_loop_begin(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;

	if (!l->from || t->a.full || l->copies == (l->hoists ? 2 : 1))
		return false;
	l->copies++;
	jit_span_clear(t);
	if (l->copies == 1)
		second(t);
	else
		third(t);
	t->vec = l->vec;
	t->ended = false;
	return true;
}
