/* SPDX-License-Identifier: MIT */
/*
 * Guesses: an indirect jump compares its target with those that it had first, and jumps to
 * their translations as a direct jump does.
 *
 *	cmp	rax, [address]; je translation	; JIT_GUESSES times
 *	...	the look in the table
 *	jmp	learn				; nothing, once all have been learnt
 *	jmp	[entry in the table]
 *
 * What the table does not know it is not learnt either, so a target that is not canonical is
 * the handler's. Where a translation is dropped its guess leads to the table for good.
 */
#include "silicon/x86/jit/cache.h"

#include <string.h>

#define JIT_GUESSES 3
#define NO_ADDRESS (1ull << 63)		/* in no table */

struct jit_guess {
	struct x86_jit_link link;
	u8 *address;		/* what is compared, */
	u8 *learn;		/* rel32 of the jump to what learns, */
	u8 *code;		/* which is here for this one: all in writable memory */
	struct jit_guess *next;
};

void jit_guess(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	t->first_guess = t->nr_cold;
	if (!t->cpu->jit->chain)
		return;
	for (unsigned i = 0; i < JIT_GUESSES; i++) {
		struct jit_cold *c;
		u8 *address;

		jit_room(a);
		jit_8(a, 0x48);			/* cmp rax, [rip + rel32] */
		jit_8(a, 0x3b);
		jit_8(a, 0x05);
		jit_32(a, 0);
		address = a->p - 4;
		c = jit_cold(t, JIT_COLD_GUESS, jit_jcc(a, JIT_E));
		c->address = address;
		c->otherwise = a->p;
	}
}

void jit_guess_learn(struct x86_jit_tr *t)
{
	u8 *otherwise;

	if (t->first_guess == t->nr_cold || t->cold[t->first_guess].kind != JIT_COLD_GUESS)
		return;
	otherwise = t->cold[t->first_guess + JIT_GUESSES - 1].otherwise;
	for (unsigned i = 0; i < JIT_GUESSES; i++)
		t->cold[t->first_guess + i].otherwise = otherwise;
	t->cold[t->first_guess].learn = jit_jmp(&t->a);
}

void jit_cold_guess(struct x86_jit_tr *t, const struct jit_cold *c, struct x86_jit_trans *tr)
{
	struct jit_guess *g = jit_new(t->cpu->jit, sizeof(*g));
	const u64 none = NO_ADDRESS;
	struct jit_asm *a = &t->a;

	if (!g) {
		a->full = true;
		return;
	}
	g->link = (struct x86_jit_link){ .at = c->from, .out = c->otherwise, .kind = tr->page->kind, .from = tr,
					 .way = JIT_WAY_GUESS, .checked = t->sti && c->nr == t->sti, .saved = true };
	jit_bind_to(c->from, c->otherwise);
	while ((u64)a->p & 7)
		jit_8(a, 0xcc);
	g->address = a->p;
	jit_bind_to(c->address, g->address);
	jit_64(a, none);
	g->code = a->p;
	if (c->learn) {
		g->learn = c->learn;
		jit_bind_to(g->learn, g->code);
	} else {
		g->learn = t->guess->learn;
		t->guess->next = g;
	}
	t->guess = g;
	jit_mov_imm(a, JIT_RCX, (u64)&g->link.rip);
	jit_store(a, JIT_RAX, jit_at(JIT_RCX, 0), 8);
	jit_mov_imm(a, JIT_RAX, (u64)&g->link);
	jit_jmp_to(a, t->door->exit_link[true]);
}

void jit_guess_linked(struct x86_jit_link *l)
{
	static const u8 nop[5] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	struct jit_guess *g = (struct jit_guess *)l;

	memcpy(g->address, &l->rip, 8);
	if (g->next)
		jit_bind_to(g->learn, g->next->code);
	else
		memcpy(g->learn - 1, nop, sizeof(nop));
}
