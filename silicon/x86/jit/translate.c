/* SPDX-License-Identifier: MIT */
/*
 * One block to host code:
 *
 *	out:	jmp self, which JRCXZ reaches
 *	trans	.quad struct x86_jit_trans *
 *		entries with the flags in cpu->jit_flags:
 *	checked: mov rcx, [jit_pages]; cmp byte [rcx + id of its page], 0; je self2
 *	main:	cmp dword [calm], 0; je self2
 *	body:	flags to EFLAGS if the block wants them there; jmp 1f
 *		entries with the flags in EFLAGS, which they do not change:
 *	checked: mov rcx, [jit_pages]; movzx ecx, [rcx + id of its page]; jrcxz out
 *	main:	mov ecx, [calm]; jrcxz out
 *	body:	flags to cpu->jit_flags if the block wants them there
 *	1:	the instructions
 *	self:	flags to cpu->jit_flags
 *	self2:	rip := this block; leave
 *	cold:	slow paths and exits
 *
 * or with the second entries in front of the word.
 *
 * What each instruction becomes is the emitters' affair; what they do not know is executed by
 * its handler.
 */
#include <string.h>

#include "base/log.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit.h"

x86_select_fn x86_sel_jmp, x86_sel_lea;

/* Room that one instruction or one piece of cold code may need at most. */
#define ROOM 512

static jit_emit_fn *const emitters[] = {
	jit_emit_branch, jit_emit_stack, jit_emit_int, jit_emit_vec, jit_emit_x87, jit_emit_implicit, jit_emit_system,
	jit_emit_privilege, jit_emit_string,
};

int jit_home(unsigned r)
{
	static const s8 home[X86_NR_GPRS] = {
		[X86_RAX] = JIT_R12, [X86_RCX] = JIT_R13, [X86_RDX] = JIT_RDX, [X86_RBX] = JIT_RBX,
		[X86_RSP] = JIT_R14, [X86_RBP] = JIT_R15, [X86_RSI] = JIT_RSI, [X86_RDI] = JIT_RDI,
		[X86_R8] = JIT_R8, [X86_R9] = JIT_R9, [X86_R10] = JIT_R10, [X86_R11] = JIT_R11,
		[X86_R12] = -1, [X86_R13] = -1, [X86_R14] = -1, [X86_R15] = -1,
	};

	return home[r];
}

unsigned jit_use(struct x86_jit_tr *t, unsigned r, unsigned scratch)
{
	int h = jit_home(r);

	if (h >= 0)
		return (unsigned)h;
	jit_load(&t->a, scratch, jit_gpr(r), 8);
	return scratch;
}

void jit_def(struct x86_jit_tr *t, unsigned r, unsigned host)
{
	int h = jit_home(r);

	if (h < 0)
		jit_store(&t->a, host, jit_gpr(r), 8);
	else if ((unsigned)h != host)
		jit_mov_rr(&t->a, (unsigned)h, host);
}

void jit_put(struct x86_jit_tr *t, const struct jit_insn *in)
{
	unsigned n;

	jit_room(&t->a);
	n = jit_encode(in, t->a.p);
	BUG_ON(!n);
	t->a.p += n;
}

/* ---- Cold code ---- */

struct jit_cold *jit_cold(struct x86_jit_tr *t, enum jit_cold_kind kind, u8 *from)
{
	struct jit_cold *c;

	/* The translation fails then; what is emitted until it is noticed does not matter. */
	if (t->nr_cold == JIT_MAX_COLD) {
		t->a.full = true;
		t->nr_cold--;
	}
	c = &t->cold[t->nr_cold++];
	*c = (struct jit_cold){ .kind = kind, .from = from, .nr = (u16)t->nr, .before = t->flags };
	return c;
}

void jit_exit_to_idx(struct x86_jit_tr *t, u8 *from, u64 rip, unsigned mmu_idx)
{
	struct jit_cold *c = jit_cold(t, JIT_COLD_EXIT, from);

	c->rip = rip;
	c->code = (u8)jit_kind_of(t->cpu->jit_mode, mmu_idx);
}

void jit_exit(struct x86_jit_tr *t, u8 *from, u64 rip)
{
	jit_exit_to_idx(t, from, rip, t->cpu->mmu_idx);
}

void jit_exit_as(struct x86_jit_tr *t, enum jit_way way, u8 *from, u64 rip)
{
	jit_exit(t, from, rip);
	t->cold[t->nr_cold - 1].way = way;
}

void jit_slow_jcc(struct x86_jit_tr *t, unsigned cc)
{
	jit_cold(t, JIT_COLD_SLOW, jit_jcc(&t->a, cc));
}

void jit_slow_jmp(struct x86_jit_tr *t)
{
	jit_cold(t, JIT_COLD_SLOW, jit_jmp(&t->a));
}

static void call_stub(struct x86_jit_tr *t, unsigned nr)
{
	s32 rel;

	/* mov rax, [rip + ...]: the word in front of the code */
	jit_room(&t->a);
	jit_8(&t->a, 0x48);
	jit_8(&t->a, 0x8b);
	jit_8(&t->a, 0x05);
	rel = (s32)(t->start - 8 - (t->a.p + 4));
	jit_32(&t->a, (u32)rel);
	jit_mov_imm(&t->a, JIT_RCX, nr);
	if (!(t->block->op[nr].flags & X86_OP_END)) {
		jit_call_to(&t->a, t->door->call);
		return;
	}
	/* A jump of its own for each site, for the host's predictor. */
	jit_call_to(&t->a, t->door->call_end);
	jit_room(&t->a);
	jit_8(&t->a, 0xff);		/* jmp rcx */
	jit_8(&t->a, 0xe1);
}

void jit_call_handler(struct x86_jit_tr *t)
{
	t->loop.called = true;
	jit_flags_save(t);
	call_stub(t, t->nr);
	/* The handler may have written any register; it has dealt with the flags. */
	t->flags = (struct jit_flags){ .where = JIT_FL_SAVED };
	t->vec = 0;
	jit_span_clear(t);
	if (t->op->flags & X86_OP_END)
		t->ended = true;
}

/* Leave with cpu->rip = @rip, @nr instructions of this block having been executed; @saved: flags are in cpu->jit_flags. */
static void leave_at(struct x86_jit_tr *t, u64 rip, unsigned nr, bool saved)
{
	jit_mov_imm(&t->a, JIT_RAX, rip);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(rip), 8);
	jit_store_imm(&t->a, JIT_FIELD(jit_left), (s32)nr, 4);
	jit_jmp_to(&t->a, t->door->exit[saved]);
}

/* The handler has been called for the first operand of a span; flags are in cpu->jit_flags. */
static void fill_span(struct x86_jit_tr *t, const struct jit_cold *c, const struct x86_jit_trans *tr)
{
	bool ahead = c->span.write && !jit_span_written(&t->block->op[c->nr]);
	u8 *cross = jit_span_fill(t, &c->span, c->lead - 1u), *filled = jit_jmp(&t->a);

	jit_bind(&t->a, cross);
	jit_mov_imm(&t->a, JIT_RAX, (u64)tr);
	if (ahead)
		jit_span_if_inside(t, &c->span);
	jit_store(&t->a, JIT_RAX, jit_at(JIT_RBP, JIT_TABLE(crossed)), 8);
	leave_at(t, t->lin + tr->off[c->nr] + t->block->op[c->nr].len, c->nr + 1u, true);
	jit_bind(&t->a, filled);
}

/* The handler executes the whole instruction, then back to the next one. */
static void cold_slow(struct x86_jit_tr *t, const struct jit_cold *c, const struct x86_jit_trans *tr)
{
	struct jit_flags after = c->after;

	if (c->grain)
		jit_grain_look(t, c);
	t->flags = c->before;
	jit_flags_save(t);
	call_stub(t, c->nr);
	if (!c->back)
		return;
	if (c->lead)
		fill_span(t, c, tr);
	if (after.where == JIT_FL_LIVE || c->vec_after)
		jit_asm_load_flags(&t->a);
	if (!c->vec_after) {
		jit_jmp_to(&t->a, (u64)c->back + (u64)t->a.delta);
		return;
	}
	/* What follows relies on the vector state, which the handler has put away and may have changed. */
	jit_vec_reload(t, c->vec_after, c->back);
	leave_at(t, t->lin + tr->off[c->nr] + t->block->op[c->nr].len, c->nr + 1u, false);
}

/* Something is pending at the head of a loop, or its caches are of no use. */
static void cold_poll(struct x86_jit_tr *t, const struct jit_cold *c, struct x86_jit_trans *tr)
{
	if (c->kind == JIT_COLD_TIRED) {
		jit_mov_imm(&t->a, JIT_RAX, (u64)tr | JIT_NO_CACHE);
		jit_store(&t->a, JIT_RAX, jit_at(JIT_RBP, JIT_TABLE(crossed)), 8);
	} else if (c->before.where != JIT_FL_SAVED) {
		tr->loop_out = (u32)(t->a.p - t->start);
	}
	t->flags = c->before;
	jit_flags_read(t);
	leave_at(t, t->lin, 0, false);
}

/* Load the vector state, and begin the instruction again; if it is not usable, the handler knows why. */
static void cold_vec(struct x86_jit_tr *t, const struct jit_cold *c, const struct x86_jit_trans *tr)
{
	jit_vec_reload(t, c->vec, c->from + 4);
	cold_slow(t, c, tr);
}

void jit_cold_vec(struct x86_jit_tr *t, u8 *from, unsigned vec)
{
	jit_cold(t, JIT_COLD_VEC, from)->vec = (u8)vec;
}

static void cold_exit(struct x86_jit_tr *t, const struct jit_cold *c, struct x86_jit_trans *tr)
{
	struct x86_jit_link *l = jit_new(t->cpu->jit, sizeof(*l));
	bool saved = c->before.where == JIT_FL_SAVED;

	if (!l) {
		t->a.full = true;
		return;
	}
	*l = (struct x86_jit_link){ .at = c->from, .out = t->a.p, .rip = c->rip, .kind = c->code, .from = tr,
				    .way = c->way, .checked = t->sti && c->nr == t->sti, .saved = saved };
	/* A translation may be shorter than its block. */
	if (c->nr + 1u < t->block->nr_ops)
		jit_store_imm(&t->a, JIT_FIELD(jit_left), c->nr + 1, 4);
	jit_mov_imm(&t->a, JIT_RAX, (u64)l);
	jit_jmp_to(&t->a, t->door->exit_link[saved]);
}

static void emit_cold(struct x86_jit_tr *t, struct x86_jit_trans *tr)
{
	for (unsigned i = 0; i < t->nr_cold && !t->a.full; i++) {
		struct jit_cold *c = &t->cold[i];

		if (c->from)
			jit_bind(&t->a, c->from);
		if (c->kind == JIT_COLD_EXIT) {
			cold_exit(t, c, tr);
			continue;
		}
		if (c->kind == JIT_COLD_GUESS) {
			jit_cold_guess(t, c, tr);
			continue;
		}
		if (c->kind == JIT_COLD_VEC) {
			cold_vec(t, c, tr);
			continue;
		}
		if (c->kind == JIT_COLD_POLL || c->kind == JIT_COLD_TIRED) {
			cold_poll(t, c, tr);
			continue;
		}
		if (c->kind == JIT_COLD_CACHE)
			jit_bind(&t->a, jit_cache_fill(t, c));
		for (unsigned k = 0; k < t->nr_access; k++)
			if (t->access[k].cold == i)
				t->access[k].slow = (u32)(t->a.p - t->start);
		cold_slow(t, c, tr);
	}
}

/* ---- The block ---- */

/* The jump whose rel8 is at @at leads to @to. */
static void back8(u8 *at, const u8 *to)
{
	*at = (u8)(to - (at + 1));
}

/* The entries and where they lead. */
struct doors {
	u8 *at[2][JIT_NR_ENTRIES];
	u8 *out[3];		/* rel32 of those with the flags in cpu->jit_flags, to the exit */
	u8 *body[2];		/* rel8 of jumps to the instructions */
	unsigned nr_body;
};

static void to_body(struct jit_asm *a, struct doors *d)
{
	jit_room(a);
	jit_8(a, 0xeb);							/* jmp short */
	jit_8(a, 0);
	d->body[d->nr_body++] = a->p - 1;
}

/* @near: the instructions follow. The poll that CHECKED needs not is cheaper than a jump over it. */
static void saved_entries(struct x86_jit_tr *t, const struct x86_jit_trans *tr, struct doors *d, bool near)
{
	struct jit_asm *a = &t->a;
	bool load = t->entry == JIT_FL_LIVE;

	d->at[true][JIT_CHECKED] = a->p;
	jit_load(a, JIT_RCX, JIT_FIELD(jit_pages), 8);
	jit_op_rm(a, 0x80, 7, jit_at(JIT_RCX, tr->page->id), 1);	/* cmp byte [..], 0 */
	jit_8(a, 0);
	d->out[0] = jit_jcc(a, JIT_E);
	if (!near && !load)
		to_body(a, d);
	d->at[true][JIT_MAIN] = a->p;
	jit_op_rm(a, 0x83, 7, JIT_FIELD(calm), 4);			/* cmp dword [..], 0 */
	jit_8(a, 0);
	d->out[1] = jit_jcc(a, JIT_E);
	d->at[true][JIT_BODY] = a->p;
	if (load)
		jit_asm_load_flags(a);
	if (!near)
		to_body(a, d);
}

static void live_entries(struct x86_jit_tr *t, const struct x86_jit_trans *tr, struct doors *d, bool near)
{
	struct jit_asm *a = &t->a;

	d->at[false][JIT_CHECKED] = a->p;
	jit_load(a, JIT_RCX, JIT_FIELD(jit_pages), 8);
	jit_op_rm(a, 0x0fb6, JIT_RCX, jit_at(JIT_RCX, tr->page->id), 4);	/* movzx ecx, m8 */
	back8(jit_jrcxz(a), t->out);
	d->at[false][JIT_MAIN] = a->p;
	jit_load(a, JIT_RCX, JIT_FIELD(calm), 4);
	back8(jit_jrcxz(a), t->out);
	d->at[false][JIT_BODY] = a->p;
	if (t->entry == JIT_FL_SAVED)
		jit_asm_save_flags(a);
	if (!near)
		to_body(a, d);
}

/* The word in front of the code, which begins here, aligned. */
static void begin_code(struct x86_jit_tr *t, struct x86_jit_trans *tr)
{
	while (((u64)t->a.p + 8) & 15)
		jit_8(&t->a, 0xcc);
	jit_64(&t->a, (u64)tr);
	tr->code = t->start = t->a.p;
}

/*
 * Those entries are nearest to the instructions by which the block was just reached. The code
 * begins with the entry that the table knows.
 */
static void entries(struct x86_jit_tr *t, struct x86_jit_trans *tr, struct doors *d)
{
	const struct x86_jit_link *l = t->cpu->jit_link;

	*d = (struct doors){ .nr_body = 0 };
	t->out = t->a.p;
	jit_jmp(&t->a);
	if (!l || l->saved) {
		live_entries(t, tr, d, false);
		begin_code(t, tr);
		saved_entries(t, tr, d, true);
	} else {
		begin_code(t, tr);
		saved_entries(t, tr, d, false);
		live_entries(t, tr, d, true);
	}
	for (unsigned i = 0; i < d->nr_body; i++)
		jit_bind8(&t->a, d->body[i]);
	if (t->entry != JIT_FL_LIVE)
		d->at[true][JIT_BODY] = t->a.p;
	for (unsigned i = 0; i < JIT_NR_ENTRIES; i++) {
		tr->at[false][i] = (s16)(d->at[false][i] - t->start);
		tr->at[true][i] = (s16)(d->at[true][i] - t->start);
	}
}

/* An instruction that ends on another page: that must be good too. The flags are in cpu->jit_flags.
 */
static void look_at_tail(struct x86_jit_tr *t, const struct x86_jit_trans *tr, struct doors *d)
{
	jit_load(&t->a, JIT_RCX, JIT_FIELD(jit_pages), 8);
	jit_op_rm(&t->a, 0x80, 7, jit_at(JIT_RCX, tr->page2->id), 1); /* cmp byte [..], 0 */
	jit_8(&t->a, 0);
	d->out[2] = jit_jcc(&t->a, JIT_E);
}

static void self_exit(struct x86_jit_tr *t, struct x86_jit_trans *tr, const struct doors *d)
{
	tr->self[false] = (u32)(t->a.p - t->start);
	jit_bind(&t->a, t->out + 1);
	jit_asm_save_flags(&t->a);
	tr->self[true] = (u32)(t->a.p - t->start);
	jit_bind(&t->a, d->out[0]);
	jit_bind(&t->a, d->out[1]);
	if (tr->page2)
		jit_bind(&t->a, d->out[2]);
	leave_at(t, t->lin, 0, true);
}

static bool is_selector(const struct x86_op *op, x86_select_fn *s)
{
	return x86_insn_row(op->row)->select == s;
}

/* Where the block wants the flags at its start: whoever enters it brings them there. */
static enum jit_where choose_entry(const struct x86_block *b)
{
	const u8 *bytes = x86_block_bytes(b);

	for (unsigned i = 0; i < b->nr_ops; bytes += b->op[i++].len) {
		const struct x86_op *op = &b->op[i];
		struct jit_insn in;

		/* A jump hands on what it has got. */
		if (op->flags & X86_OP_END)
			return op->flags_in || is_selector(op, x86_sel_jmp) ? JIT_FL_LIVE : JIT_FL_SAVED;
		if (is_selector(op, x86_sel_lea))
			continue;
		if (!jit_parse(bytes, op->len, 8, &in) || in.flags & JIT_I_MEM)
			return JIT_FL_SAVED;
		switch (jit_classify(op, &in)) {
		case JIT_CLASS_NOP:
			continue;
		case JIT_CLASS_INT:
			break;
		default:
			return JIT_FL_SAVED;
		}
		if (op->flags_in || (op->flags_out && op->flags_out != X86_AF_ALL))
			return JIT_FL_LIVE;
		if (op->flags_out)
			return JIT_FL_ANY;
	}
	return JIT_FL_LIVE;
}

static void emit_op(struct x86_jit_tr *t)
{
	t->first_cold = t->nr_cold;
	t->first_access = t->nr_access;
	t->lead = 0;
	t->parsed = jit_parse(t->bytes, t->op->len, t->word, &t->in);
	if (t->word != 8 && !jit_legacy_op(t)) {
		jit_call_handler(t);
		return;
	}
	for (unsigned i = 0; ; i++) {
		if (i == ARRAY_SIZE(emitters)) {
			jit_call_handler(t);
			break;
		}
		if (emitters[i](t))
			break;
	}
	for (unsigned i = t->first_cold; i < t->nr_cold; i++) {
		if (t->cold[i].kind == JIT_COLD_EXIT)
			continue;
		t->cold[i].after = t->flags;
		t->cold[i].vec_after = t->vec;
		/* Unless the instruction changes its registers. */
		if (t->lead && t->span[t->lead - 1].valid) {
			t->cold[i].lead = t->lead;
			t->cold[i].span = t->span[t->lead - 1];
		}
		t->cold[i].back = t->ended ? NULL : t->a.p;
	}
	for (unsigned i = t->first_access; i < t->nr_access; i++)
		t->access[i].end = (u32)(t->a.p - t->start);
}

static void body(struct x86_jit_tr *t, struct x86_jit_trans *tr)
{
	const struct x86_block *b = t->block;

	t->rip = t->lin;
	t->bytes = x86_block_bytes(b);
	for (t->nr = 0; t->nr < b->nr_ops && !t->ended && !t->a.full; t->nr++) {
		t->op = &b->op[t->nr];
		t->next_rip = t->rip + t->op->len;
		tr->off[t->nr] = (u8)(t->rip - t->lin);
		emit_op(t);
		t->rip = t->next_rip;
		t->bytes += t->op->len;
		/* The next entry looks for what STI lets in. */
		if (t->sti && t->nr == t->sti)
			break;
	}
	tr->sti = (u8)t->sti;
	if (!t->ended) {
		jit_flags_settle(t);
		jit_exit(t, jit_jmp(&t->a), t->rip);
	}
}

/* Where an instruction at @lin that crosses a page end goes on. */
static u64 tail_lin(const struct x86_cpu *cpu, u64 lin)
{
	return ((lin & PAGE_MASK) + PAGE_SIZE) & cpu->lin_mask;
}

/* @entry: where the flags are at the start; ANY becomes SAVED if something wants them. */
static struct x86_jit_trans *translate_from(struct x86_cpu *cpu, struct x86_block *b, u64 lin, enum jit_where entry)
{
	struct doors doors;
	struct x86_jit *j = cpu->jit;
	struct x86_jit_tr *t = &j->tr;
	struct x86_jit_trans *tr = jit_new(j, sizeof(*tr) + b->nr_ops);
	struct jit_page *page = jit_page(cpu, lin, b->spa), *page2 = NULL;

	if (b->spa2 != ~0ull) {
		page2 = jit_page(cpu, tail_lin(cpu, lin), b->spa2);
		if (!page2)
			return NULL;
	}
	if (!tr || !page || j->end - j->p < 4 * ROOM)
		return NULL;
	t->a = (struct jit_asm){ .p = j->p, .end = j->end - ROOM, .delta = j->delta };
	t->cpu = cpu;
	t->word = (u8)jit_word(page->kind);
	t->door = &j->door[t->word != 8];
	t->block = b;
	t->lin = lin;
	t->ended = false;
	t->sti = 0;
	t->nr_cold = t->nr_access = 0;
	t->entry = entry;
	t->wrong_entry = false;
	t->flags = (struct jit_flags){ .where = entry };
	t->vec = 0;
	tr->page = page;
	tr->page2 = page2;
	tr->block = b;
	tr->lin = lin;
	entries(t, tr, &doors);
	t->spans = b->runs != JIT_RUNS_NO_SPANS;
	t->next_span = t->first_span = 0;
	jit_span_clear(t);
	t->loop = (struct jit_loop){ .allowed = j->chain && !page2, .caches = b->runs < JIT_RUNS_NO_CACHES };
	if (page2)
		look_at_tail(t, tr, &doors);
	body(t, tr);
	for (unsigned i = 0; jit_loop_begin(t); i++) {
		tr->loop[i] = (u32)(t->loop.head - t->start);
		do
			body(t, tr);
		while (jit_loop_again(t));
	}
	self_exit(t, tr, &doors);
	tr->loop_out = tr->self[false];
	emit_cold(t, tr);
	tr->access = jit_new(j, t->nr_access * sizeof(*tr->access));
	if (t->a.full || !tr->access)
		return NULL;
	if (t->wrong_entry)
		return translate_from(cpu, b, lin, JIT_FL_SAVED);
	tr->nr_access = (u16)t->nr_access;
	memcpy(tr->access, t->access, t->nr_access * sizeof(*tr->access));
	tr->size = (u32)(t->a.p - t->start);
	j->p = t->a.p;
	return tr;
}

/*
 * Stores are told to us from here on; has there been none since @b was decoded or compared?
 * @tail: memory of its second page, if it has one.
 */
static bool begin_watch(struct x86_cpu *cpu, struct x86_block *b, const u8 *tail)
{
	unsigned head = x86_block_head(b);

	if (tail) {
		x86_codepage_mark(cpu, b->spa2);
		x86_codepage_decode_granule(cpu, b->spa2);
	}
	/* In this order: a store that comes after the mark is told to us, one before it has made
	 * the block stale. */
	jit_count_translation(b, true);
	if (x86_block_fresh(cpu, b) &&
	    (!tail || (x86_codepage_marked(b->spa2) &&
		       x86_same_code(x86_block_bytes(b) + head, tail, b->len - head))))
		return true;
	jit_count_translation(b, false);
	return false;
}

struct x86_jit_trans *jit_translate(struct x86_cpu *cpu, struct x86_block *b, u64 lin)
{
	const u8 *tail =
		b->spa2 == ~0ull ? NULL : x86_fetch_host(x86_block_fetch(cpu, tail_lin(cpu, lin)));
	enum jit_where entry = tail ? JIT_FL_SAVED : choose_entry(b);
	struct x86_jit_trans *tr = translate_from(cpu, b, lin, entry);

	if (!tr) {
		x86_jit_flush(cpu);
		tr = translate_from(cpu, b, lin, entry);
		if (!tr) {
			/* Larger than the whole cache. */
				b->runs = 0;
			return NULL;
		}
	}
	if (!begin_watch(cpu, b, tail))
		return NULL;
	tr->in_block = b->trans;
	b->trans = tr;
	tr->in_page = tr->page->trans;
	tr->page->trans = tr;
	if (tail) {
		tr->in_tails = tr->page2->tails;
		tr->page2->tails = tr;
	}
	return tr;
}
