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
 * The copy ends in the state in which it began, or its branch is an ordinary way out.
 */
#include "silicon/x86/jit/jit_priv.h"

/* Longer ones gain less and have less room for their cold code. */
#define MAX_OPS 32

static bool same(const struct jit_flags *a, const struct jit_flags *b)
{
	return a->again == b->again && a->size == b->size && a->a == b->a && a->b == b->b && a->imm == b->imm &&
	       a->moved == b->moved;
}

bool jit_loop_fits(const struct x86_jit_tr *t)
{
	const struct jit_loop *l = &t->loop;

	if (!l->allowed)
		return false;
	if (!l->head)
		return (t->flags.again != JIT_AGAIN_NONE || t->vec) && t->block->nr_ops <= MAX_OPS &&
		       t->nr_cold < JIT_MAX_COLD / 2 - 2 && t->nr_access < JIT_MAX_COLD / 2;
	if (l->vec & ~t->vec)
		return false;
	return l->flags.again == JIT_AGAIN_NONE || same(&t->flags, &l->flags);
}

void jit_loop_back(struct x86_jit_tr *t, u8 *from)
{
	struct jit_loop *l = &t->loop;

	if (l->head) {
		jit_bind_to(from, t->flags.carry == JIT_CF_WITH ? l->pre : l->head);
		return;
	}
	l->from = from;
	l->flags = t->flags;
	l->vec = t->vec;
}

bool jit_loop_begin(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	struct jit_asm *a = &t->a;
	u8 *out, *from;

	if (!l->from || l->head || a->full)
		return false;
	out = a->p;
	jit_bind_to(jit_jmp(a), t->out);
	l->pre = a->p;
	jit_bind(a, l->from);
	t->flags = l->flags;
	jit_flags_keep_carry(t);
	l->head = a->p;
	if (t->flags.again == JIT_AGAIN_NONE) {
		jit_load(a, JIT_RCX, JIT_FIELD(calm), 4);
		from = jit_jrcxz(a);
		*from = (u8)(out - (from + 1));
	} else {
		t->flags.where = JIT_FL_AGAIN;
		jit_op_rm(a, 0x83, 7, JIT_FIELD(calm), 4);	/* cmp dword [..], 0 */
		jit_8(a, 0);
		jit_cold(t, JIT_COLD_POLL, jit_jcc(a, JIT_E));
	}
	l->flags = t->flags;
	t->vec = l->vec;
	jit_span_clear(t);
	t->ended = false;
	return true;
}
