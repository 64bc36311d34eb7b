/* SPDX-License-Identifier: MIT */
/*
 * Loops of one block (loop.c): looks in the TLB for many rounds at once.
 *
 * Where the registers of an operand change by a constant in each round, or not at all, one look
 * tells for how many rounds it stays in its page. A third copy of the block is entered with such
 * looks made for all these operands (pinned spans), and left to make them again when the first
 * of them is through: one comparison of one of these registers, the master, with what it will
 * be then, in the place of the poll. No chunk of rounds is longer than some microseconds.
 *
 * Operands with a base that stays and an index that is anything have caches of one page; where
 * these miss too often the block is translated without.
 *
 *	first copy	jcc entry
 *	entry:		limit := master + 4 * step; jmp head
 *	second copy	head: cmp master, limit; je promote; ...; jcc head
 *	promote:	poll; look; limit := ...; jmp behind head3
 *			not possible: limit := master + 8 * step; jmp behind head
 *	third copy	head3: cmp master, limit; je promote; ...; jncc out; ...; jcc head3
 *
 * The third copy of a short block has several rounds, so that its head costs less.
 * So a loop of few rounds pays little. Without a master (no register has a step) `limit` counts
 * the rounds itself.
 *
 * What holds for the slots of spans holds here for the rounds of a chunk, as no handler is called
 * in their course: an entry that is replaced by a slow path stays true, and what invalidates
 * entries does so where events are looked for, or ends the translation.
 */
#include "silicon/x86/jit/cache.h"

#define FEW 4			/* rounds before the first look */
#define RETRY 8			/* and after one that was not possible */
#define CHUNK 8192		/* instructions without a poll */
#define MAX_STEP 512
#define UNROLLED 24		/* instructions of the third copy, unless one round has more */
#define MISSES 64		/* in caches, beside one in 32 rounds */

/* ---- What the first copy says ---- */

void jit_loop_writes(struct x86_jit_tr *t, unsigned r)
{
	if (!t->loop.copies)
		t->loop.written |= (u16)(1u << r);
}

void jit_loop_moves(struct x86_jit_tr *t, unsigned r, s32 by)
{
	struct jit_loop *l = &t->loop;
	s32 step;

	if (l->copies)
		return;
	l->moved |= (u16)(1u << r);
	if (__builtin_add_overflow(l->step[r], by, &step) || step <= -JIT_DISP_MAX || step >= JIT_DISP_MAX)
		l->written |= (u16)(1u << r);
	else
		l->step[r] = step;
}

/* What has been added to the address of @op, or is in a whole round. */
static s64 step_of(const struct jit_loop *l, const struct x86_op *op)
{
	s64 d = 0;

	if (op->base < X86_NR_GPRS)
		d += l->step[op->base];
	if (op->index < X86_NR_GPRS)
		d += (s64)l->step[op->index] * (1 << op->scale);
	return d;
}

void jit_loop_note(struct x86_jit_tr *t, bool aligned)
{
	const struct x86_op *op = t->op;
	struct jit_loop *l = &t->loop;

	if (!l->allowed || l->copies || l->nr_notes == JIT_LOOP_OPS || !jit_span_eligible(t, op))
		return;
	l->note[l->nr_notes++] = (struct jit_note){
		.nr = (u8)t->nr, .size = op->msize, .write = op->opnd & X86_OPND_WRITE, .aligned = aligned,
		.at = op->disp + step_of(l, op),
	};
}

/* ---- The plan ---- */

static bool constant(const struct jit_loop *l, unsigned r)
{
	return r >= X86_NR_GPRS || !(l->written >> r & 1);
}

/* Not even for a while. */
static bool stays(const struct jit_loop *l, unsigned r)
{
	return r >= X86_NR_GPRS || !((l->written | l->moved) >> r & 1);
}

/* The register to count rounds by: one in a host register if possible. */
static int find_master(const struct jit_loop *l)
{
	int m = -1;

	for (unsigned r = 0; r < X86_NR_GPRS; r++)
		if (constant(l, r) && l->step[r] && (m < 0 || (jit_home((unsigned)m) < 0 && jit_home(r) >= 0)))
			m = (int)r;
	return m;
}

/* Can @n, at the same registers, be in @s too? */
static bool joins(struct jit_span *s, const struct jit_note *n)
{
	s64 lo = n->at < s->lo ? n->at : s->lo, hi = n->at + n->size > s->hi ? n->at + n->size : s->hi;

	if (hi - lo > JIT_SPAN_MAX)
		return false;
	if (n->aligned && s->aligned && (n->at - s->aligned_at) & ((n->size < s->aligned ? n->size : s->aligned) - 1))
		return false;
	s->lo = (s32)lo;
	s->hi = (s32)hi;
	s->write |= n->write;
	if (n->aligned && n->size > s->aligned) {
		s->aligned = n->size;
		s->aligned_at = (s32)n->at;
	}
	return true;
}

static void plan_span(struct jit_loop *l, const struct x86_op *op, const struct jit_note *n)
{
	s64 step = step_of(l, op);

	/* What was aligned in the first round stays so. */
	if (n->at <= -JIT_DISP_MAX || n->at >= JIT_DISP_MAX || step < -MAX_STEP || step > MAX_STEP ||
	    (n->aligned && step & (n->size - 1)))
		return;
	for (unsigned i = 0; i < l->nr_spans; i++) {
		struct jit_span *s = &l->span[i];

		if (s->base == op->base && s->index == op->index && s->scale == op->scale && joins(s, n))
			return;
	}
	/* Some slots are left for what is looked up in each round. */
	if (l->nr_spans == JIT_SPANS - 2)
		return;
	l->span_step[l->nr_spans] = (s32)step;
	l->span[l->nr_spans++] = (struct jit_span){
		.valid = true, .pinned = true, .write = n->write, .base = op->base, .index = op->index, .scale = op->scale,
		.lo = (s32)n->at, .hi = (s32)n->at + n->size, .aligned = n->aligned ? n->size : 0,
		.aligned_at = (s32)n->at,
		.fold_base = stays(l, op->base), .fold_index = op->index < X86_NR_GPRS && stays(l, op->index),
	};
}

bool jit_hoist_plan(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	unsigned colds = (t->nr_cold > t->nr_access ? t->nr_cold : t->nr_access) + 2;

	if (l->called)
		return false;
	for (l->rounds = 4; l->rounds > 1 && (l->rounds * t->block->nr_ops > UNROLLED || colds * (2u + l->rounds) > JIT_MAX_COLD - 8); )
		l->rounds /= 2;
	l->master = find_master(l);
	for (unsigned i = 0; i < l->nr_notes; i++) {
		const struct jit_note *n = &l->note[i];
		const struct x86_op *op = &t->block->op[n->nr];

		if (constant(l, op->base) && constant(l, op->index))
			plan_span(l, op, n);
		else if (l->caches && stays(l, op->base) && !n->aligned && l->nr_caches < JIT_CACHES)
			l->cached[l->nr_caches++] = n->nr;
	}
	if (l->nr_caches) {
		l->budget = jit_new(t->cpu->jit, sizeof(*l->budget));
		if (!l->budget)
			return false;
		*l->budget = MISSES;
	}
	return l->nr_spans || l->nr_caches;
}

int jit_hoist_cache(const struct x86_jit_tr *t)
{
	const struct jit_loop *l = &t->loop;

	if (l->copies == 2)
		for (unsigned i = 0; i < l->nr_caches; i++)
			if (l->cached[i] == t->nr)
				return (int)i;
	return -1;
}

/* ---- Code ---- */

#define CACHE(n, field) jit_at(JIT_RBP, JIT_TABLE(cache) + (s32)(n * sizeof(((struct jit_tables *)0)->cache[0]) + \
				 offsetof(struct jit_cache, field)))

struct jit_mem jit_cache_page(unsigned n)
{
	return CACHE(n, page);
}

struct jit_mem jit_cache_limit(unsigned n)
{
	return CACHE(n, limit);
}

struct jit_mem jit_cache_addend(unsigned n)
{
	return CACHE(n, addend);
}

/* Flags that cannot be computed again must not change at a head: the limit is complemented then. */
static bool flags_live(const struct jit_loop *l)
{
	return l->flags.again == JIT_AGAIN_NONE;
}

#define LIMIT jit_at(JIT_RBP, JIT_TABLE(limit))
#define ROUNDS jit_at(JIT_RBP, JIT_TABLE(rounds))

/* RCX := master + @add, or that + RCX. RAX is clobbered, no flag changes. */
static void add_master(struct x86_jit_tr *t, bool to_rcx, s32 add)
{
	unsigned m = (unsigned)t->loop.master, host = jit_use(t, m, JIT_RAX);

	if (to_rcx)
		jit_lea(&t->a, JIT_RCX, jit_at_index(JIT_RCX, host, 0, add), 8);
	else
		jit_lea(&t->a, JIT_RCX, jit_at(host, add), 8);
}

/* RCX, to which the master is added, is where the next look is due. */
static void store_limit(struct x86_jit_tr *t)
{
	if (flags_live(&t->loop))
		jit_op_rr(&t->a, 0xf7, 2, JIT_RCX, 8);		/* not rcx */
	jit_store(&t->a, JIT_RCX, LIMIT, 8);
}

static void limit_in(struct x86_jit_tr *t, s32 rounds)
{
	const struct jit_loop *l = &t->loop;
	s64 by;

	if (l->master < 0) {
		jit_store_imm(&t->a, LIMIT, rounds, 8);
		return;
	}
	by = (s64)l->step[l->master] * rounds;
	if (by != (s32)by)
		by = l->step[l->master];
	add_master(t, false, (s32)by);
	store_limit(t);
}

/* The same for one round more than ROUNDS says, by whole heads of the third copy. */
static void limit_in_rounds(struct x86_jit_tr *t)
{
	const struct jit_loop *l = &t->loop;
	struct jit_asm *a = &t->a;

	jit_load(a, JIT_RCX, ROUNDS, 8);
	jit_lea(a, JIT_RCX, jit_at(JIT_RCX, 1), 8);
	if (l->rounds > 1) {
		jit_alu_ri(a, JIT_AND, JIT_RCX, -(s32)l->rounds, 8);
		jit_hoist_fail(t, jit_jcc(a, JIT_E));
	}
	if (l->master < 0) {
		/* Its head is met once in so many rounds. */
		if (l->rounds > 1) {
			jit_op_rr(a, 0xc1, 5, JIT_RCX, 8);	/* shr rcx, imm8 */
			jit_8(a, l->rounds / 2);
		}
		jit_store(a, JIT_RCX, LIMIT, 8);
		return;
	}
	jit_op_rr(a, 0x69, JIT_RCX, JIT_RCX, 8);		/* imul rcx, rcx, imm32 */
	jit_32(a, (u32)l->step[l->master]);
	add_master(t, true, 0);
	store_limit(t);
}

void jit_hoist_entry(struct x86_jit_tr *t)
{
	limit_in(t, FEW);
}

void jit_hoist_head(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	int home = l->master < 0 ? -1 : jit_home((unsigned)l->master);
	struct jit_asm *a = &t->a;
	u8 *from;

	if (flags_live(l)) {
		u8 *no;

		jit_load(a, JIT_RCX, LIMIT, 8);
		if (l->master < 0) {
			jit_lea(a, JIT_RCX, jit_at(JIT_RCX, -1), 8);
			jit_store(a, JIT_RCX, LIMIT, 8);
		} else {
			add_master(t, true, 1);
		}
		no = jit_jrcxz(a);
		/* JRCXZ does not reach far. */
		jit_room(a);
		jit_8(a, 0xeb);
		jit_8(a, 5);
		jit_bind8(a, no);
		from = jit_jmp(a);
	} else if (l->master < 0) {
		jit_op_rm(a, 0x83, JIT_SUB, LIMIT, 8);		/* sub qword [..], 1 */
		jit_8(a, 1);
		from = jit_jcc(a, JIT_E);
	} else {
		if (home < 0)
			jit_load(a, JIT_RCX, jit_gpr((unsigned)l->master), 8);
		jit_alu_rm(a, JIT_CMP, home < 0 ? JIT_RCX : (unsigned)home, LIMIT, 8);
		from = jit_jcc(a, JIT_E);
	}
	if (l->promote)
		jit_bind_to(from, l->promote);
	else
		l->from_head = from;
}

void jit_hoist_fail(struct x86_jit_tr *t, u8 *from)
{
	t->loop.fail[t->loop.nr_fails++] = from;
}

/* [rounds] := the smaller of it and how many more rounds than one a span, whose offset is in RCX, stays in its page. */
static void bound_rounds(struct x86_jit_tr *t, const struct jit_span *s, s32 step)
{
	struct jit_asm *a = &t->a;
	u32 by = (u32)(step < 0 ? -step : step);
	u8 *less;

	if (step > 0) {
		jit_op_rr(a, 0xf7, 3, JIT_RCX, 8);		/* neg rcx */
		jit_lea(a, JIT_RCX, jit_at(JIT_RCX, (s32)PAGE_SIZE - (s->hi - s->lo)), 8);
	}
	if (by > 1) {
		/* Divided by @by: exact, as the product of the dividend (below 2^12) and @by (at most 2^9) is below 2^24. */
		jit_op_rr(a, 0x69, JIT_RCX, JIT_RCX, 8);	/* imul rcx, rcx, imm32 */
		jit_32(a, ((1u << 24) + by - 1) / by);
		jit_op_rr(a, 0xc1, 5, JIT_RCX, 8);		/* shr rcx, 24 */
		jit_8(a, 24);
	}
	jit_alu_rm(a, JIT_CMP, JIT_RCX, ROUNDS, 8);
	less = jit_jcc8(a, JIT_AE);
	jit_store(a, JIT_RCX, ROUNDS, 8);
	jit_bind8(a, less);
}

static void check_budget(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;

	jit_mov_imm(a, JIT_RAX, (u64)t->loop.budget);
	jit_op_rm(a, 0x83, JIT_CMP, jit_at(JIT_RAX, 0), 4);	/* cmp dword [..], 0 */
	jit_8(a, 0);
	jit_cold(t, JIT_COLD_TIRED, jit_jcc(a, JIT_LE));
}

/* All caches are empty; the first misses and one in 32 rounds are allowed for. */
static void begin_caches(struct x86_jit_tr *t)
{
	struct jit_asm *a = &t->a;
	u8 *enough;

	for (unsigned i = 0; i < t->loop.nr_caches; i++)
		jit_store_imm(a, jit_cache_limit(i), 0, 8);
	jit_mov_imm(a, JIT_RAX, (u64)t->loop.budget);
	jit_op_rm(a, 0x81, JIT_CMP, jit_at(JIT_RAX, 0), 4);	/* cmp dword [..], imm32 */
	jit_32(a, 8 * MISSES);
	enough = jit_jcc8(a, JIT_G);
	jit_load(a, JIT_RCX, ROUNDS, 8);
	jit_op_rr(a, 0xc1, 5, JIT_RCX, 4);			/* shr ecx, 5 */
	jit_8(a, 5);
	jit_lea(a, JIT_RCX, jit_at(JIT_RCX, (s32)t->loop.nr_caches), 4);
	jit_op_rm(a, 0x01, JIT_RCX, jit_at(JIT_RAX, 0), 4);	/* add [..], ecx */
	jit_bind8(a, enough);
}

void jit_hoist_promote(struct x86_jit_tr *t)
{
	struct jit_loop *l = &t->loop;
	struct jit_asm *a = &t->a;
	u8 *done;

	l->promote = a->p;
	if (l->from_head)
		jit_bind(a, l->from_head);
	if (flags_live(l)) {
		jit_asm_save_flags(a);
		t->flags.where = JIT_FL_SAVED;
	}
	jit_op_rm(a, 0x83, JIT_CMP, JIT_FIELD(calm), 4);	/* cmp dword [..], 0 */
	jit_8(a, 0);
	jit_cold(t, JIT_COLD_POLL, jit_jcc(a, JIT_E));
	if (l->nr_caches)
		check_budget(t);
	jit_store_imm(a, ROUNDS, CHUNK / t->block->nr_ops, 8);
	for (unsigned i = 0; i < l->nr_spans; i++) {
		jit_span_pin(t, &l->span[i], i);
		if (l->span_step[i])
			bound_rounds(t, &l->span[i], l->span_step[i]);
	}
	if (l->nr_caches)
		begin_caches(t);
	limit_in_rounds(t);
	if (flags_live(l))
		jit_asm_load_flags(a);
	if (l->nr_fails) {
		done = jit_jmp(a);
		while (l->nr_fails)
			jit_bind(a, l->fail[--l->nr_fails]);
		limit_in(t, RETRY);
		if (flags_live(l))
			jit_asm_load_flags(a);
		jit_bind_to(jit_jmp(a), l->body);
		jit_bind(a, done);
	}
	for (unsigned i = 0; i < l->nr_spans; i++)
		t->span[i] = l->span[i];
	t->first_span = t->next_span = l->nr_spans;
}
