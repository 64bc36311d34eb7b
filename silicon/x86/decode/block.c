/* SPDX-License-Identifier: MIT */
/*
 * One processor's decoded blocks: an arena that is emptied when it is full, but
 * for blocks that have been translated, which move together; a hash table by simulated physical address, a cache of fetch
 * translations, and the jump cache of decode.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"

#define ARENA_SIZE (16ul << 20)
#define ARENA_KEPT (ARENA_SIZE / 4 * 3)	/* with more than this in translated blocks they go too */
#define HASH_BITS 15
#define ITLB_BITS 8
#define MAX_INSN 15
#define MAX_BYTES (X86_BLOCK_MAX_BYTES - MAX_INSN)	/* no instruction starts behind it */
#define GEN_SHIFT 40
#define FIRST_GEN (1ull << GEN_SHIFT)
#define NO_PAGE (~0ull)
#define DEAD (~0ull)		/* sequence word that never occurs: other jump entries may lead here */

/* A translated fetch page. @stamp: when it was translated, see struct x86_block.checked. */
struct x86_fetch {
	u64 lin;
	u64 key;
	u64 gen;
	u64 spa;
	const u8 *host;
	u64 stamp;
};

struct x86_decode {
	struct x86_jumps jumps;		/* first: decode.h */
	struct x86_fetch itlb[1u << ITLB_BITS];
	struct x86_block *hash[1u << HASH_BITS];
	u64 fetch_gen;			/* of the ITLB */
	u64 stamp;
	u64 changed;			/* stamp of the last x86_decode_recheck() */
	u8 *arena;
	size_t used;
	struct x86_op scratch[X86_BLOCK_MAX_OPS];
	u8 bytes[X86_BLOCK_MAX_BYTES];	/* of the block being decoded */
	struct x86_op single;
	u8 single_bytes[MAX_INSN];
	u8 single_len;
};

int x86_decode_new(struct x86_cpu *cpu)
{
	struct x86_decode *d = calloc(1, sizeof(*d));

	if (!d)
		return -1;
	d->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->arena == MAP_FAILED) {
		free(d);
		return -1;
	}
	cpu->decode = d;
	d->jumps.gen = FIRST_GEN;
	d->fetch_gen = 1;
	return 0;
}

void x86_decode_free(struct x86_cpu *cpu)
{
	if (!cpu->decode)
		return;
	munmap(cpu->decode->arena, ARENA_SIZE);
	free(cpu->decode);
	cpu->decode = NULL;
}

/* After 2^24 times the generation stays 0, which matches nothing, until x86_block_find() starts anew. */
static void forget_jumps(struct x86_decode *d)
{
	if (d->jumps.gen)
		d->jumps.gen += 1ull << GEN_SHIFT;
}

static struct x86_fetch *itlb_of(struct x86_decode *d, u64 lin)
{
	return &d->itlb[(lin >> PAGE_SHIFT) & ((1u << ITLB_BITS) - 1)];
}

/* Translated code does not look at the generation between two blocks of one page. */
static void leave_block(struct x86_cpu *cpu)
{
	if (cpu->op)
		cpu->slow |= X86_SLOW_CODE;
}

void x86_decode_flush(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;

	if (!d)
		return;
	forget_jumps(d);
	d->fetch_gen++;
	x86_jit_recheck(cpu);
	leave_block(cpu);
}

void x86_decode_flush_nonglobal(struct x86_cpu *cpu, unsigned before)
{
	struct x86_decode *d = cpu->decode;

	forget_jumps(d);
	d->fetch_gen++;
	x86_jit_recheck_nonglobal(cpu, before);
	leave_block(cpu);
}

void x86_decode_flush_page(struct x86_cpu *cpu, u64 lin)
{
	struct x86_decode *d = cpu->decode;
	struct x86_fetch *e = itlb_of(d, lin);

	forget_jumps(d);
	if (e->lin == (lin & PAGE_MASK))
		e->gen = 0;
	x86_jit_recheck_page(cpu, lin);
	leave_block(cpu);
}

void x86_decode_recheck(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;

	forget_jumps(d);
	d->changed = ++d->stamp;
	x86_jit_recheck(cpu);
}

/* ---- Bytes ---- */

/*
 * Other processors may be writing these bytes: relaxed reads, whose mixture of old and new
 * the sequence numbers then reject.
 */
typedef u64 __attribute__((aligned(1), may_alias)) u64_any;

void x86_copy_code(u8 *to, const u8 *from, unsigned n)
{
	unsigned i = 0;

	for (; i + 8 <= n; i += 8)
		*(u64_any *)&to[i] = __atomic_load_n((const u64_any *)&from[i], __ATOMIC_RELAXED);
	for (; i < n; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

bool x86_same_code(const u8 *a, const u8 *mem, unsigned n)
{
	unsigned i = 0;

	for (; i + 8 <= n; i += 8)
		if (*(const u64_any *)&a[i] != __atomic_load_n((const u64_any *)&mem[i], __ATOMIC_RELAXED))
			return false;
	for (; i < n; i++)
		if (a[i] != __atomic_load_n(&mem[i], __ATOMIC_RELAXED))
			return false;
	return true;
}

static struct x86_fetch *fetch(struct x86_cpu *cpu, u64 lin)
{
	struct x86_decode *d = cpu->decode;
	u64 page = lin & PAGE_MASK, key = x86_code_key(cpu, 0);
	struct x86_fetch *e = itlb_of(d, lin);

	if (e->lin != page || e->key != key || e->gen != d->fetch_gen) {
		u64 spa;
		const u8 *host = x86_fetch_page(cpu, lin, &spa);

		*e = (struct x86_fetch){ .lin = page, .key = key, .gen = d->fetch_gen, .spa = spa & PAGE_MASK,
				    .host = host, .stamp = ++d->stamp };
	}
	return e;
}

/* Canonical and CS limit checks of a fetch at cpu->rip. */
static void check_fetch(struct x86_cpu *cpu)
{
	if (x86_in_64(cpu) ? !x86_canonical(cpu, cpu->rip) : cpu->rip > cpu->seg[X86_CS].limit)
		x86_gp0(cpu);
}

/* ---- Blocks ---- */

static u8 *block_bytes(struct x86_block *b)
{
	return (u8 *)&b->op[b->nr_ops];
}

const u8 *x86_block_bytes(const struct x86_block *b)
{
	return (const u8 *)&b->op[b->nr_ops];
}

static u8 block_key(const struct x86_cpu *cpu)
{
	return (u8)(cpu->mode | cpu->code_size << 4);
}

static unsigned nr_granules(u64 spa, unsigned len)
{
	return (unsigned)(((spa + len - 1) >> X86_GRANULE_SHIFT) - (spa >> X86_GRANULE_SHIFT)) + 1;
}

static bool granules_unchanged(const struct x86_block *b)
{
	for (unsigned i = 0; i < nr_granules(b->spa, b->len); i++)
		if (x86_codepage_granule(b->spa + ((u64)i << X86_GRANULE_SHIFT)) != b->granule[i])
			return false;
	return true;
}

bool x86_block_recheck(struct x86_cpu *cpu, struct x86_block *b)
{
	u64 seq = atomic_load(b->seq);

	/* The kill half: the page has been unmarked, stores went unseen. */
	if (seq >> 32 != b->seen >> 32 || !granules_unchanged(b))
		return false;
	b->seen = seq;
	return true;
}

/*
 * Prepare to read code: mark the page, then note the sequence numbers. What is
 * read after them is either current or will be rejected by them.
 */
static void observe(struct x86_cpu *cpu, struct x86_block *b, u64 spa)
{
	b->seq = x86_codepage_seq(spa);
	do {
		x86_codepage_mark(cpu, spa);
		b->seen = atomic_load(b->seq);
		b->spa = spa;
		for (unsigned i = 0; i < ARRAY_SIZE(b->granule); i++)
			b->granule[i] = x86_codepage_decode_granule(
				cpu, spa + ((u64)i << X86_GRANULE_SHIFT));
	} while (!x86_codepage_marked(spa));
}

/* Always ends with another generation: x86_block_follow() relies on it. */
static void drop_all(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;

	x86_jit_flush(cpu);
	memset(d->hash, 0, sizeof(d->hash));
	d->used = 0;
	if (d->jumps.gen) {
		forget_jumps(d);
		return;
	}
	memset(d->jumps.jump, 0, sizeof(d->jumps.jump));
	d->jumps.gen = FIRST_GEN;
}

static struct x86_block **bucket(struct x86_decode *d, u64 spa, u8 key)
{
	u64 h = (spa ^ key) * 0x9e3779b97f4a7c15ull;

	return &d->hash[h >> (64 - HASH_BITS)];
}

static size_t block_size(const struct x86_block *b)
{
	return round_up(sizeof(*b) + b->nr_ops * sizeof(struct x86_op) + b->len, 16);
}

static void into_hash(struct x86_decode *d, struct x86_block *b)
{
	struct x86_block **list = bucket(d, b->spa, b->key);

	b->next = *list;
	*list = b;
}

/* Most blocks are executed a few times and never again. Ends as drop_all() does. */
static void make_room(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;
	size_t kept = 0, size;

	memset(d->hash, 0, sizeof(d->hash));
	forget_jumps(d);
	for (size_t at = 0; at < d->used; at += size) {
		struct x86_block *b = (struct x86_block *)(d->arena + at);

		size = block_size(b);
		if (!b->trans)
			continue;
		b = memmove(d->arena + kept, b, size);
		x86_jit_moved(b);
		into_hash(d, b);
		kept += size;
	}
	d->used = kept;
	if (kept > ARENA_KEPT || !d->jumps.gen)
		drop_all(cpu);
}

/* @head: what observe() filled; ops and bytes are in the scratch arrays. */
static struct x86_block *install(struct x86_cpu *cpu, const struct x86_block *head)
{
	struct x86_decode *d = cpu->decode;
	size_t ops = head->nr_ops * sizeof(struct x86_op);
	size_t size = block_size(head);
	struct x86_block *b;

	if (d->used + size > ARENA_SIZE)
		make_room(cpu);
	b = (struct x86_block *)(d->arena + d->used);
	d->used += size;
	*b = *head;
	memcpy(b->op, d->scratch, ops);
	memcpy(block_bytes(b), d->bytes, head->len);
	into_hash(d, b);
	return b;
}

/* May an instruction follow @op in its block? */
static bool goes_on(const struct x86_op *op, unsigned nr, unsigned len)
{
	return !(op->flags & X86_OP_END) && nr < X86_BLOCK_MAX_OPS && len < MAX_BYTES;
}

/* An instruction that begins on page @e and ends on the next: a block of its own. */
static struct x86_block *decode_crossing(struct x86_cpu *cpu, struct x86_block *head,
					 const struct x86_fetch *e, u64 lin, unsigned have)
{
	struct x86_decode *d = cpu->decode;
	const struct x86_fetch *e2;
	u64 spa = e->spa;

	/* @e may be evicted by the second fetch; @d->bytes has its bytes. */
	e2 = fetch(cpu, (lin + have) & cpu->lin_mask);
	x86_copy_code(d->bytes + have, e2->host, MAX_INSN - have);
	x86_decode_bytes(cpu, cpu->mode, cpu->code_size, d->bytes, MAX_INSN, &d->scratch[0]);
	head->spa = spa + (lin & ~PAGE_MASK);
	head->spa2 = e2->spa;
	head->nr_ops = 1;
	head->len = max(d->scratch[0].len, (u8)(have + 1));
	return install(cpu, head);
}

static struct x86_block *decode_block(struct x86_cpu *cpu, const struct x86_fetch *e, u64 lin)
{
	struct x86_decode *d = cpu->decode;
	unsigned off = lin & ~PAGE_MASK, room = min((unsigned)PAGE_SIZE - off, X86_BLOCK_MAX_BYTES + 0u);
	struct x86_block head = { .spa2 = NO_PAGE, .key = block_key(cpu), .checked = d->stamp };
	unsigned nr = 0, len = 0;

	observe(cpu, &head, e->spa + off);
	x86_copy_code(d->bytes, e->host + off, room);
	do {
		struct x86_op *op = &d->scratch[nr];
		unsigned n = min(room - len, (unsigned)MAX_INSN);

		if (!n || x86_decode_bytes(cpu, cpu->mode, cpu->code_size, d->bytes + len, n, op) == X86_DEC_MORE)
			break;
		nr++;
		len += op->len;
	} while (goes_on(&d->scratch[nr - 1], nr, len));
	if (!nr)
		return decode_crossing(cpu, &head, e, lin, room);
	head.nr_ops = (u16)nr;
	head.len = (u16)len;
	return install(cpu, &head);
}

/* Both translations and all bytes are checked on every use. */
static bool crossing_valid(struct x86_cpu *cpu, struct x86_block *b, const struct x86_fetch *e, u64 lin)
{
	unsigned have = PAGE_SIZE - (lin & ~PAGE_MASK);
	const u8 *bytes = block_bytes(b);
	const struct x86_fetch *e2;

	if (!x86_same_code(bytes, e->host + (lin & ~PAGE_MASK), have))
		return false;
	e2 = fetch(cpu, (lin + have) & cpu->lin_mask);
	return e2->spa == b->spa2 && x86_same_code(bytes + have, e2->host, b->len - have);
}

static bool block_valid(struct x86_cpu *cpu, struct x86_block *b, const struct x86_fetch *e, u64 lin)
{
	struct x86_block now;

	if (b->spa2 != NO_PAGE)
		return crossing_valid(cpu, b, e, lin);
	if (x86_block_fresh(cpu, b)) {
		/* The page has been marked all the time: no store went unseen, but others may write too. */
		if (b->checked >= max(e->stamp, cpu->decode->changed))
			return true;
		if (!x86_same_code(block_bytes(b), e->host + (lin & ~PAGE_MASK), b->len))
			return false;
		b->checked = cpu->decode->stamp;
		return true;
	}
	/* Compare the bytes, with fresh sequence numbers taken first. */
	observe(cpu, &now, b->spa);
	if (!x86_same_code(block_bytes(b), e->host + (lin & ~PAGE_MASK), b->len))
		return false;
	b->seen = now.seen;
	memcpy(b->granule, now.granule, sizeof(b->granule));
	b->checked = cpu->decode->stamp;
	return true;
}

/*
 * Memory does not hold @b any more: make it what is there now, if that is of the same shape.
 * What leads to it stays, but for translations.
 */
static bool revise(struct x86_cpu *cpu, struct x86_block *b, const struct x86_fetch *e, u64 lin)
{
	struct x86_block now;

	x86_jit_drop_block(cpu, b);
	if (b->spa2 != NO_PAGE)
		return false;
	observe(cpu, &now, b->spa);
	if (!x86_block_revise(cpu, b, e->host + (lin & ~PAGE_MASK)))
		return false;
	b->seen = now.seen;
	memcpy(b->granule, now.granule, sizeof(b->granule));
	b->checked = cpu->decode->stamp;
	/* What keeps changing is better interpreted. */
	b->runs = 0;
	return true;
}

/* ---- Longer blocks ---- */

#define LONGER 8u		/* in the key, beside the mode */

x86_select_fn x86_sel_jcc;

static struct x86_block *in_hash(struct x86_decode *d, u64 spa, u8 key)
{
	struct x86_block *b = *bucket(d, spa, key);

	while (b && (b->spa != spa || b->key != key))
		b = b->next;
	return b;
}

static void out_of_hash(struct x86_decode *d, struct x86_block *b)
{
	struct x86_block **link = bucket(d, b->spa, b->key);

	while (*link != b)
		link = &(*link)->next;
	*link = b->next;
	b->seen = DEAD;
}

/* What was executed behind the conditional branch at the end of @b, which is at @lin; or NULL. */
static struct x86_block *behind(struct x86_cpu *cpu, const struct x86_block *b, u64 lin)
{
	const struct x86_op *op = &b->op[b->nr_ops - 1];
	struct x86_block *next;

	if (x86_insn_row(op->row)->select != x86_sel_jcc || (b->link[0].rip != lin + b->len && b->link[1].rip != lin + b->len))
		return NULL;
	next = in_hash(cpu->decode, b->spa + b->len, b->key);
	if (!next || next->spa2 != NO_PAGE || !((lin + b->len) & ~PAGE_MASK) || !x86_block_fresh(cpu, next))
		return NULL;
	return next;
}

struct x86_block *x86_block_longer(struct x86_cpu *cpu, struct x86_block *b, u64 lin, bool make)
{
	struct x86_decode *d = cpu->decode;
	struct x86_block head = { .spa = b->spa, .spa2 = NO_PAGE, .key = b->key | LONGER, .checked = d->stamp };
	struct x86_block *found = in_hash(d, b->spa, head.key);
	const struct x86_fetch *e;

	if (b->spa2 != NO_PAGE)
		return NULL;
	if (found) {
		if (block_valid(cpu, found, fetch(cpu, lin), lin))
			return found;
		x86_jit_drop_block(cpu, found);
		out_of_hash(d, found);
	}
	if (!make || b->spa2 != NO_PAGE || !behind(cpu, b, lin))
		return NULL;
	observe(cpu, &head, b->spa);
	for (struct x86_block *next = b; next; next = behind(cpu, next, lin + head.len - next->len)) {
		if (head.nr_ops + next->nr_ops > X86_BLOCK_MAX_OPS || head.len + next->len > X86_BLOCK_MAX_BYTES)
			break;
		memcpy(d->scratch + head.nr_ops, next->op, next->nr_ops * sizeof(struct x86_op));
		memcpy(d->bytes + head.len, x86_block_bytes(next), next->len);
		head.nr_ops += next->nr_ops;
		head.len += next->len;
	}
	e = fetch(cpu, lin);
	if (head.nr_ops == b->nr_ops || e->spa != (b->spa & PAGE_MASK) ||
	    !x86_same_code(d->bytes, e->host + (lin & ~PAGE_MASK), head.len))
		return NULL;
	return install(cpu, &head);
}

const struct x86_fetch *x86_block_fetch(struct x86_cpu *cpu, u64 lin)
{
	return fetch(cpu, lin);
}

u64 x86_fetch_spa(const struct x86_fetch *f)
{
	return f->spa;
}

const u8 *x86_fetch_host(const struct x86_fetch *f)
{
	return f->host;
}

bool x86_block_good(struct x86_cpu *cpu, struct x86_block *b, const struct x86_fetch *e, u64 lin)
{
	return e->spa == (b->spa & PAGE_MASK) && block_valid(cpu, b, e, lin);
}

struct x86_block *x86_block_find(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;
	u64 lin = (cpu->seg_base[X86_CS] + cpu->rip) & cpu->lin_mask;
	struct x86_block *b, **link;
	const struct x86_fetch *e;
	u64 spa;

	if (unlikely(!d->jumps.gen))
		drop_all(cpu);
	check_fetch(cpu);
	e = fetch(cpu, lin);
	spa = e->spa + (lin & ~PAGE_MASK);
	for (link = bucket(d, spa, block_key(cpu)); (b = *link); link = &b->next) {
		if (b->spa != spa || b->key != block_key(cpu))
			continue;
		if (block_valid(cpu, b, e, lin) || revise(cpu, b, e, lin))
			break;
		*link = b->next;
		b->seen = DEAD;
		b = NULL;
		break;
	}
	if (!b)
		b = decode_block(cpu, fetch(cpu, lin), lin);
	if (b->spa2 == NO_PAGE) {
		struct x86_jump *j = &d->jumps.jump[x86_jump_index(lin)];

		*j = (struct x86_jump){ .lin = lin, .key = x86_code_key(cpu, d->jumps.gen), .block = b };
	}
	return b;
}

/* ---- One instruction, uncached ---- */

static bool decode_have(struct x86_cpu *cpu, unsigned have)
{
	struct x86_decode *d = cpu->decode;

	d->single_len = (u8)have;
	if (x86_decode_bytes(cpu, cpu->mode, cpu->code_size, d->single_bytes, have, &d->single) != X86_DEC_OK)
		return false;
	d->single_len = d->single.len;
	return true;
}

const struct x86_op *x86_decode_single(struct x86_cpu *cpu)
{
	struct x86_decode *d = cpu->decode;
	u64 lin = (cpu->seg_base[X86_CS] + cpu->rip) & cpu->lin_mask;
	unsigned room = PAGE_SIZE - (lin & ~PAGE_MASK), limit = MAX_INSN, have;
	const u8 *page;
	u64 spa;

	check_fetch(cpu);
	if (!x86_in_64(cpu) && cpu->seg[X86_CS].limit - cpu->rip < MAX_INSN - 1)
		limit = (unsigned)(cpu->seg[X86_CS].limit - cpu->rip) + 1;
	have = min(room, limit);
	page = x86_fetch_page(cpu, lin, &spa);
	x86_copy_code(d->single_bytes, page + (lin & ~PAGE_MASK), have);
	if (decode_have(cpu, have))
		return &d->single;
	if (have == limit)
		x86_gp0(cpu);	/* the next byte is beyond the CS limit */
	page = x86_fetch_page(cpu, (lin + have) & cpu->lin_mask, &spa);
	x86_copy_code(d->single_bytes + have, page, limit - have);
	if (!decode_have(cpu, limit))
		x86_gp0(cpu);
	return &d->single;
}

const u8 *x86_decode_single_bytes(const struct x86_cpu *cpu, unsigned *len)
{
	*len = cpu->decode->single_len;
	return cpu->decode->single_bytes;
}
