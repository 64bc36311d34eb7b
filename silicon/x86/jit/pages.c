/* SPDX-License-Identifier: MIT */
/*
 * Which pages of code may be entered: the translator's instruction TLB.
 *
 * A page record stands for (linear page, physical page, kind of code). Each context has a
 * byte for each of them; checked entries of translations look at the byte of their page
 * in the table of the present context (cpu->jit_pages). It is set when the fetch has been
 * translated and the page's code has been compared with memory, since a client may have
 * written there behind our back (decode.h), and cleared by whatever flushes translations
 * of fetches. A change of context is a change of tables. While an event is pending the table is
 * one in which no page may be entered.
 *
 * Comparing. Simulated stores drop translations by themselves (cache.c), so what is left
 * to find is writes of others. A page's code is compared by a keyed sum of the granules
 * that hold it, in one pass, instead of block by block; the key is random and differs in
 * each process. Translations made after the sum was taken are compared by themselves, once.
 */
#include <string.h>
#include <sys/random.h>

#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"

#define GRANULE (1u << X86_GRANULE_SHIFT)
#define GRANULES (PAGE_SIZE / GRANULE)

static u8 no_pages[JIT_MAX_PAGES];
const u8 *const x86_jit_no_pages = no_pages;

/* ---- Records ---- */

static unsigned hash(u64 page)
{
	return (unsigned)((page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 52);
}

struct jit_page **jit_page_bucket(struct x86_jit *j, u64 spa)
{
	return &j->page[hash(spa)];
}

struct jit_page *jit_page(struct x86_cpu *cpu, u64 lin, u64 spa)
{
	struct x86_jit *j = cpu->jit;
	struct jit_page **list = jit_page_bucket(j, spa &= PAGE_MASK), **list_lin, *p;

	lin &= PAGE_MASK;
	for (p = *list; p; p = p->next)
		if (p->spa == spa && p->lin == lin && p->kind == jit_kind(cpu))
			return p;
	if (j->nr_pages == JIT_MAX_PAGES)
		return NULL;
	p = jit_new(j, sizeof(*p));
	if (!p)
		return NULL;
	list_lin = &j->page_lin[hash(lin)];
	*p = (struct jit_page){ .lin = lin, .spa = spa, .id = (u16)j->nr_pages++, .kind = (u8)jit_kind(cpu),
				.next = *list, .next_lin = *list_lin };
	*list = *list_lin = p;
	return p;
}

/* ---- Contexts ---- */

static void take_out(struct jit_ctx *c, bool keep_globals)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < c->nr; i++)
		if (keep_globals && c->ok[c->id[i]] == JIT_OK_GLOBAL)
			c->id[kept++] = c->id[i];
		else
			c->ok[c->id[i]] = 0;
	c->nr = kept;
}

static void put_in(struct jit_ctx *c, unsigned id, u8 how)
{
	if (c->nr == JIT_CTX_PAGES)
		take_out(c, false);
	c->id[c->nr++] = (u16)id;
	c->ok[id] = how;
}

static void empty_others(struct x86_jit *j)
{
	j->ring_stale = true;
	for (unsigned i = 0; i < JIT_CONTEXTS; i++)
		if (&j->ctx[i] != j->now)
			j->ctx[i].ctx = JIT_NO_CTX;
}

void x86_jit_recheck(struct x86_cpu *cpu)
{
	if (!cpu->jit)
		return;
	take_out(cpu->jit->now, false);
	empty_others(cpu->jit);
}

/*
 * Of the present table the global pages stay; if it was that of the context before the flush, it
 * is that of its successor now. The ids of others that were flushed will not come again.
 */
void x86_jit_recheck_nonglobal(struct x86_cpu *cpu, unsigned before)
{
	struct x86_jit *j = cpu->jit;

	if (!j)
		return;
	j->ring_stale = true;
	take_out(j->now, true);
	if (j->now->ctx == before)
		j->now->ctx = cpu->tlb_ctx;
}

void x86_jit_recheck_page(struct x86_cpu *cpu, u64 lin)
{
	struct x86_jit *j = cpu->jit;

	if (!j)
		return;
	j->ring_stale = true;
	for (struct jit_page *p = j->page_lin[hash(lin)]; p; p = p->next_lin) {
		if (p->lin != (lin & PAGE_MASK))
			continue;
		for (unsigned i = 0; i < JIT_CONTEXTS; i++)
			j->ctx[i].ok[p->id] = 0;
	}
}

void jit_pages_flush(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;

	for (unsigned i = 0; i < JIT_CONTEXTS; i++)
		take_out(&j->ctx[i], false);
	memset(j->page, 0, sizeof(j->page));
	memset(j->page_lin, 0, sizeof(j->page_lin));
	j->nr_pages = 0;
}

/* The table of the processor's context, or the one to be used for it. */
static struct jit_ctx *find_ctx(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;
	struct jit_ctx *c, *found = NULL;

	for (c = j->ctx; c < j->ctx + JIT_CONTEXTS; c++) {
		if (c->ctx == cpu->tlb_ctx)
			return c;
		if (c != j->now && (!found || (found->ctx != JIT_NO_CTX && (c->ctx == JIT_NO_CTX || c->used < found->used))))
			found = c;
	}
	return found;
}

void jit_pages_set(struct x86_cpu *cpu)
{
	atomic_store(&cpu->jit_pages, cpu->jit->now->ok);
	if (!atomic_load(&cpu->calm))
		atomic_store(&cpu->jit_pages, x86_jit_no_pages);
}

/* A context that is new and differs from the one before in its PCID alone takes over the global pages. */
void jit_pages_switch(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;
	struct jit_ctx *before = j->now, *c = find_ctx(cpu);

	before->used = ++j->switches;
	j->ring_stale = true;
	j->now = c;
	jit_pages_set(cpu);
	if (c->ctx == cpu->tlb_ctx)
		return;
	take_out(c, false);
	c->ctx = cpu->tlb_ctx;
	c->group = x86_tlb_group(cpu);
	if (before->group != c->group)
		return;
	for (unsigned i = 0; i < before->nr; i++)
		if (before->ok[before->id[i]] == JIT_OK_GLOBAL)
			put_in(c, before->id[i], JIT_OK_GLOBAL);
}

/* ---- Comparing ---- */

typedef u64 __attribute__((aligned(1), may_alias)) u64_any;

static u64 mix(u64 a, u64 b)
{
	u128 p = (u128)a * b;

	return (u64)p ^ (u64)(p >> 64);
}

static u64 granule_sum(const u8 *page, unsigned n, const u64 *key)
{
	const u64_any *m = (const u64_any *)(page + n * GRANULE);
	u64 sum = 0;

	for (unsigned i = 0; i < GRANULE / 8; i += 2)
		sum += mix(__atomic_load_n(&m[i], __ATOMIC_RELAXED) ^ key[i],
			   __atomic_load_n(&m[i + 1], __ATOMIC_RELAXED) ^ key[i + 1]);
	return mix(sum ^ key[GRANULE / 8], key[GRANULE / 8 + 1] + n);
}

static u64 page_sum(const struct x86_jit *j, const u8 *page, u32 granules)
{
	u64 sum = 0;

	for (; granules; granules &= granules - 1)
		sum += granule_sum(page, (unsigned)__builtin_ctz(granules), j->key);
	return sum;
}

void jit_sum_key(struct x86_jit *j)
{
	/* What a guest does not know is enough where there is no randomness: it could only fool itself. */
	if (getrandom(j->key, sizeof(j->key), GRND_NONBLOCK) != (ssize_t)sizeof(j->key))
		for (unsigned i = 0; i < ARRAY_SIZE(j->key); i++)
			j->key[i] = mix((u64)j ^ 0x9e3779b97f4a7c15ull, 0xd6e8feb86659fd93ull * (i + 1));
}

/* The granules of all translations of @p. */
static u32 granules_of(const struct jit_page *p)
{
	u32 all = 0;

	for (const struct x86_jit_trans *t = p->trans; t && t != p->summed; t = t->in_page) {
		unsigned first = (t->lin & ~PAGE_MASK) / GRANULE;
		unsigned last = ((t->lin & ~PAGE_MASK) + x86_block_head(t->block) - 1) / GRANULE;

		all |= (2u << last) - (1u << first);
	}
	return all | (p->summed ? p->granules : 0);
}

/* Does memory of the page at @f still hold what @t has of it? */
static bool is_good(struct x86_cpu *cpu, const struct x86_jit_trans *t, const struct x86_fetch *f)
{
	if (!t->page2)
		return x86_block_good(cpu, t->block, f, t->lin);
	return x86_same_code(x86_block_bytes(t->block), x86_fetch_host(f) + (t->lin & ~PAGE_MASK),
			     x86_block_head(t->block));
}

static bool tail_is_good(const struct x86_jit_trans *t, const struct x86_fetch *f)
{
	unsigned head = x86_block_head(t->block);

	return x86_same_code(x86_block_bytes(t->block) + head, x86_fetch_host(f),
			     t->block->len - head);
}

void jit_count_translation(const struct x86_block *b, bool there)
{
	void (*tell)(u64 spa, unsigned len) =
		there ? x86_codepage_translated : x86_codepage_dropped;

	tell(b->spa, x86_block_head(b));
	if (b->spa2 != ~0ull)
		tell(b->spa2, b->len - x86_block_head(b));
}

void jit_page_enter(struct x86_cpu *cpu, struct jit_page *p, const struct x86_fetch *f)
{
	struct x86_jit *j = cpu->jit;
	const u8 *host = x86_fetch_host(f);
	struct x86_jit_trans *until = NULL, *next;
	u64 sum = 0;

	if (p->summed) {
		/* Taken before any comparison: what is written in between shows the next time. */
		sum = page_sum(j, host, p->granules);
		if (sum == p->sum)
			until = p->summed;
		else
			p->summed = NULL;
	}
	if (p->trans != until) {
		u32 granules = granules_of(p);

		/* Also taken before what it stands for is compared. */
		sum = page_sum(j, host, granules);
		for (struct x86_jit_trans *t = p->trans; t != until; t = next) {
			next = t->in_page;
			if (!is_good(cpu, t, f))
				jit_drop(cpu, t);
		}
		p->granules = granules;
		p->sum = sum;
		p->summed = p->trans;
	}
	for (struct x86_jit_trans *t = p->tails; t; t = next) {
		next = t->in_tails;
		if (!tail_is_good(t, f))
			jit_drop(cpu, t);
	}
	put_in(j->now, p->id, x86_fetch_is_global(cpu, p->lin) ? JIT_OK_GLOBAL : JIT_OK);
}
