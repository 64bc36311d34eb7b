/* SPDX-License-Identifier: MIT */
/*
 * The translations of a processor: finding, entering, linking and dropping them.
 *
 * Each processor has its own, so nothing here takes a lock and nothing is freed while it
 * may be executing: a translation that is dropped is unlinked and its entry leads out;
 * its memory is used again when everything is flushed, which only this processor does,
 * outside of translated code. The price is that vCPUs translate the same code each.
 *
 * Freshness. A jump inside a page goes straight to the target: the page was good when it
 * was entered, and what could change that (a flush, a store to its code) ends the block.
 * A return to the call that led here does so too: the same things empty the ring (entry.c).
 * Every other way into a page looks whether the page may be entered (pages.c).
 *
 * Stores of other processors arrive through a process-wide list of recent stores and an
 * event, see x86_jit_stored(): they are served before any event that was raised after the
 * store, so an interrupt that announces new code finds the old translations gone.
 */
#include "silicon/x86/jit/cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "base/log.h"
#include "silicon/x86/cpulist.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"

#define CODE_SIZE (32ul << 20)
#define ARENA_SIZE (64ul << 20)
#define HOT 12			/* interpreted so often before translation, if USERKVM_JIT_HOT says nothing */
#define STORES 256		/* remembered */

/* ---- Memory ---- */

static size_t cpu_size(void)
{
	return JIT_TABLES_AT + sizeof(struct jit_tables);
}

struct x86_cpu *x86_jit_alloc_cpu(void)
{
	void *p = mmap(NULL, cpu_size(), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
#ifdef __SANITIZE_ADDRESS__
	/* What only a processor points to is no leak. */
	__lsan_register_root_region(p, sizeof(struct x86_cpu));
#endif
	return p;
}

void x86_jit_free_cpu(struct x86_cpu *cpu)
{
#ifdef __SANITIZE_ADDRESS__
	__lsan_unregister_root_region(cpu, sizeof(struct x86_cpu));
#endif
	munmap(cpu, cpu_size());
}

static unsigned env(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);

	return s ? (unsigned)strtoul(s, NULL, 10) : otherwise;
}

/* USERKVM_JIT_CACHE: MiB of code, to test what happens when it is full. */
static size_t code_size(void)
{
	unsigned mib = env("USERKVM_JIT_CACHE", 0);

	return mib && mib <= 1024 ? (size_t)mib << 20 : CODE_SIZE;
}

/* USERKVM_JIT_RANGE=LO-HI, hexadecimal: blocks at other addresses are interpreted, to find the one that is wrong. */
static void read_range(struct x86_jit *j)
{
	const char *s = getenv("USERKVM_JIT_RANGE");
	char *end;

	j->lo = 0;
	j->hi = ~0ull;
	if (!s || !*s)
		return;
	j->lo = strtoull(s, &end, 16);
	if (*end == '-' && end[1])
		j->hi = strtoull(end + 1, &end, 16);
	if (*end) {
		log_warn("USERKVM_JIT_RANGE: '%s' is no LO-HI", s);
		j->lo = 0;
		j->hi = ~0ull;
	}
}

/* What is no address of the slot of @lin. */
static u64 no_rip(u64 lin)
{
	return lin % JIT_HASH_SIZE == 0;
}

int x86_jit_new(struct x86_cpu *cpu)
{
	struct x86_jit *j = calloc(1, sizeof(*j));
	int r = -ENOMEM;

	if (!j)
		return r;
	j->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (j->arena == MAP_FAILED)
		goto no_arena;
	r = jit_code_new(&j->code, code_size());
	if (r)
		goto no_code;
	if (cpu->engine == X86_ENGINE_LOCKSTEP) {
		r = jit_lockstep_new(j);
		if (r)
			goto no_lockstep;
	}
	read_range(j);
	j->delta = j->code.rx - j->code.rw;
	j->p = j->code.rw;
	j->end = j->code.rw + j->code.size;
	j->chain = true;
	j->hot = (u16)env("USERKVM_JIT_HOT", HOT);
	jit_stubs(j);
	j->base = j->p;
	j->now = &j->ctx[0];
	for (unsigned i = 0; i < JIT_CONTEXTS; i++)
		j->ctx[i].ctx = JIT_NO_CTX;
	jit_sum_key(j);
	if (env("USERKVM_JIT_STATS", 0))
		j->calls = calloc(X86_NR_JIT_MODES * x86_insn_rows(), sizeof(*j->calls));
	for (unsigned i = 0; i < JIT_KINDS; i++)
		jit_tables(cpu)->rip[i][0] = no_rip(0);
	cpu->jit = j;
	return 0;
no_lockstep:
	jit_code_free(&j->code);
no_code:
	munmap(j->arena, ARENA_SIZE);
no_arena:
	free(j);
	return r;
}

/* USERKVM_JIT_STATS=1: which rows are executed by their handler, slow paths included, in each mode. */
static void print_statistics(const struct x86_jit *j)
{
	static const char *const mode[X86_NR_JIT_MODES] = {
		[X86_JIT_64] = "", [X86_JIT_COMPAT] = " (compatibility)", [X86_JIT_PROT] = " (32-bit)",
	};

	if (!j->calls)
		return;
	dprintf(STDERR_FILENO, "jit: %llu translations, %llu dropped, %llu flushes, %llu KiB of code, %llu entries\n",
		(unsigned long long)j->nr_trans, (unsigned long long)j->nr_drop, (unsigned long long)j->nr_flush,
		(unsigned long long)(j->p - j->base) >> 10, (unsigned long long)j->nr_enter);
	for (unsigned i = 0; i < X86_NR_JIT_MODES * x86_insn_rows(); i++)
		if (j->calls[i])
			dprintf(STDERR_FILENO, "jit: %12llu %s%s\n", (unsigned long long)j->calls[i],
				x86_insn_row(i % x86_insn_rows())->name, mode[i / x86_insn_rows()]);
}

void x86_jit_free(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;

	if (!j)
		return;
	print_statistics(j);
	jit_lockstep_free(j, j->calls);
	free(j->calls);
	x86_jit_flush(cpu);
	cpu->jit = NULL;
	jit_code_free(&j->code);
	munmap(j->arena, ARENA_SIZE);
	free(j);
}

void *jit_new(struct x86_jit *j, size_t size)
{
	void *p = j->arena + j->used;

	size = round_up(size, (size_t)8);
	if (j->used + size > ARENA_SIZE)
		return NULL;
	j->used += size;
	return memset(p, 0, size);
}

/* ---- Dropping ---- */

static void unlink_block(struct x86_jit_trans *t)
{
	for (struct x86_jit_trans **p = &t->block->trans; *p; p = &(*p)->in_block)
		if (*p == t) {
			*p = t->in_block;
			return;
		}
	BUG();
}

static void unlink_tail(struct x86_jit_trans *t)
{
	for (struct x86_jit_trans **p = &t->page2->tails; *p; p = &(*p)->in_tails)
		if (*p == t) {
			*p = t->in_tails;
			return;
		}
	BUG();
}

static void unlink_page(struct x86_jit_trans *t)
{
	if (t->page->summed == t)
		t->page->summed = t->in_page;
	for (struct x86_jit_trans **p = &t->page->trans; *p; p = &(*p)->in_page)
		if (*p == t) {
			*p = t->in_page;
			return;
		}
	BUG();
}

static void drop_hash(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	u64 *rip = &jit_tables(cpu)->rip[t->page->kind][t->lin % JIT_HASH_SIZE];

	if (*rip == t->lin)
		*rip = no_rip(t->lin);
}

/* JMP over what is at @at. */
static void lead(u8 *at, const u8 *target)
{
	*at = 0xe9;
	jit_bind_to(at + 1, target);
}

void jit_drop(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	struct x86_jit *j = cpu->jit;

	unlink_block(t);
	unlink_page(t);
	if (t->page2)
		unlink_tail(t);
	drop_hash(cpu, t);
	for (struct x86_jit_link *l = t->incoming; l; l = l->next) {
		jit_bind_to(l->at, l->out);
		l->to = NULL;
	}
	t->incoming = NULL;
	/* Who still holds its address is led out: at the main entries and the loop's heads. */
	for (unsigned saved = 0; saved < 2; saved++) {
		lead(t->code + t->at[saved][JIT_CHECKED], t->code + t->self[saved]);
		lead(t->code + t->at[saved][JIT_MAIN], t->code + t->self[saved]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(t->loop) && t->loop[i]; i++)
		lead(t->code + t->loop[i], t->code + t->loop_out);
	t->dead = true;
	jit_count_translation(t->block, false);
	j->nr_drop++;
}

void x86_jit_drop_block(struct x86_cpu *cpu, struct x86_block *b)
{
	while (b->trans)
		jit_drop(cpu, b->trans);
}

void x86_jit_moved(struct x86_block *b)
{
	for (struct x86_jit_trans *t = b->trans; t; t = t->in_block)
		t->block = b;
}

void x86_jit_flush(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;

	if (!j)
		return;
	for (unsigned i = 0; i < JIT_PAGE_HASH; i++)
		for (struct jit_page *p = j->page[i]; p; p = p->next)
			for (struct x86_jit_trans *t = p->trans; t; t = t->in_page) {
				drop_hash(cpu, t);
				jit_count_translation(t->block, false);
				t->block->trans = NULL;
			}
	jit_pages_flush(cpu);
	j->used = 0;
	j->p = j->base;
	cpu->jit_link = NULL;
	j->nr_flush++;
}

/* ---- Stores to code ---- */

static struct { u64 spa; unsigned len; bool page; } stores[STORES];
static u64 nr_stores;
static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;

static void drop_range(struct x86_cpu *cpu, u64 spa, unsigned len, bool all)
{
	struct x86_jit_trans *next;

	for (struct jit_page *p = *jit_page_bucket(cpu->jit, spa); p; p = p->next) {
		if (p->spa != (spa & PAGE_MASK))
			continue;
		for (struct x86_jit_trans *t = p->trans; t; t = next) {
			const struct x86_block *b = t->block;

			next = t->in_page;
			if (all || (spa < b->spa + b->len && b->spa < spa + len))
				jit_drop(cpu, t);
		}
		for (struct x86_jit_trans *t = p->tails; t; t = next) {
			next = t->in_tails;
			if (all || (spa & ~PAGE_MASK) < t->block->len - x86_block_head(t->block))
				jit_drop(cpu, t);
		}
	}
}

static void lock_list(struct x86_cpu *self)
{
	/* Who holds it may be waiting for this processor to serve a code-page event. */
	while (!x86_cpu_list_trylock())
		if (self && atomic_load(&self->events) & X86_EV_CODE_PAGE)
			x86_codepage_serve(self);
}

void x86_jit_stored(struct x86_cpu *cpu, u64 spa, unsigned len, bool page)
{
	if (cpu && cpu->jit)
		drop_range(cpu, spa, len, page);
	pthread_mutex_lock(&stores_lock);
	stores[nr_stores % STORES].spa = spa;
	stores[nr_stores % STORES].len = len;
	stores[nr_stores % STORES].page = page;
	nr_stores++;
	pthread_mutex_unlock(&stores_lock);
	lock_list(cpu);
	for (struct x86_cpu *c = x86_cpu_list(); c; c = c->next_cpu)
		if (c != cpu && c->jit)
			x86_post(c, X86_EV_JIT);
	x86_cpu_list_unlock();
}

void x86_jit_serve(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;

	atomic_fetch_and(&cpu->events, ~(u32)X86_EV_JIT);
	if (!j)
		return;
	pthread_mutex_lock(&stores_lock);
	if (nr_stores - j->seen > STORES)
		x86_jit_flush(cpu);
	else
		for (u64 i = j->seen; i < nr_stores; i++)
			drop_range(cpu, stores[i % STORES].spa, stores[i % STORES].len,
				   stores[i % STORES].page);
	j->seen = nr_stores;
	pthread_mutex_unlock(&stores_lock);
}

/* ---- Finding ---- */

static struct x86_jit_trans *known(const struct x86_cpu *cpu, const struct x86_block *b)
{
	struct x86_jit_trans *t;

	for (t = b->trans; t; t = t->in_block)
		if (t->lin == cpu->rip && t->page->kind == jit_kind(cpu))
			return t;
	return NULL;
}

/* The translation of block @b at cpu->rip, or of a longer one: an old one or a new one. */
static struct x86_jit_trans *of_block(struct x86_cpu *cpu, struct x86_block *b)
{
	struct x86_jit_trans *t = known(cpu, b);
	struct x86_jit *j = cpu->jit;
	struct x86_block *longer;
	bool hot = b->runs >= j->hot;

	if (t)
		return t;
	if (cpu->rip < j->lo || cpu->rip > j->hi)
		return NULL;
	longer = x86_block_longer(cpu, b, cpu->rip, hot);
	if (longer) {
		t = known(cpu, longer);
		if (t)
			return t;
	}
	if (!hot) {
		b->runs++;
		return NULL;
	}
	t = jit_translate(cpu, longer ? longer : b, cpu->rip);
	j->nr_trans += t != NULL;
	return t;
}

/* Do fetches lead to the pages of @t? Raises what the fetch of the instruction would. */
static bool leads_to(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	if (x86_fetch_spa(x86_block_fetch(cpu, t->page->lin)) != t->page->spa)
		return false;
	return !t->page2 || x86_fetch_spa(x86_block_fetch(cpu, t->page2->lin)) == t->page2->spa;
}

/* They do: may @t be entered? It is good no more if not. */
static bool enter_pages(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	struct jit_page *page[2] = {t->page, t->page2};

	for (unsigned i = 0; i < 2 && !t->dead; i++)
		if (page[i] && !jit_page_is_ok(cpu->jit, page[i]))
			jit_page_enter(cpu, page[i], x86_block_fetch(cpu, page[i]->lin));
	return !t->dead;
}

static struct x86_jit_trans *find(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;
	struct jit_tables *tb = jit_tables(cpu);
	u64 rip = cpu->rip;
	unsigned slot = rip % JIT_HASH_SIZE, kind = jit_kind(cpu);
	struct x86_jit_trans *t = NULL;

	if (tb->rip[kind][slot] == rip) {
		t = *(struct x86_jit_trans **)(tb->entry[kind][slot] - 8);
		if (jit_pages_are_ok(j, t))
			return t;
	}
	if (!t || !leads_to(cpu, t)) {
		t = of_block(cpu, x86_block_lookup(cpu));
		if (!t)
			return NULL;
	}
	if (!enter_pages(cpu, t))
		return NULL;
	if (j->chain) {
		tb->rip[kind][slot] = rip;
		tb->entry[kind][slot] = (u64)t->code + (u64)j->delta;
	}
	return t;
}

u64 jit_next(struct x86_cpu *cpu)
{
	const struct x86_jit *j = cpu->jit;
	const struct jit_tables *tb = jit_tables(cpu);
	unsigned slot = cpu->rip % JIT_HASH_SIZE, kind;

	if (!j->chain || !x86_jit_usable(cpu))
		return JIT_LEAVE;
	kind = jit_kind(cpu);
	if (tb->rip[kind][slot] != cpu->rip)
		return JIT_LEAVE;
	if (unlikely(j->now->ctx != cpu->tlb_ctx))
		jit_pages_switch(cpu);
	/* Page and events are looked at by the entry. */
	return tb->entry[kind][slot];
}

/*
 * Where a link enters: jumps inside a page need no look at the page, and, forward, none at the
 * events either: every loop has a jump backward, a call, or a way to another page or by the
 * table. What is returned to was called. What STI lets in comes in right behind it.
 */
static int entry_for(const struct x86_jit_link *l, const struct x86_jit_trans *to)
{
	enum jit_entry e = JIT_MAIN;

	if (l->checked || l->from->page != to->page)
		e = JIT_CHECKED;
	else if (l->way == JIT_WAY_RETURN || (l->way != JIT_WAY_CALL && to->lin > l->from->lin && !l->from->sti))
		e = JIT_BODY;
	return to->at[l->saved][e];
}

/* The jump that led out of translated code may go straight to @to from now on. */
static void link_to(struct x86_jit_link *l, struct x86_jit_trans *to)
{
	if (l->to || l->rip != to->lin || l->kind != to->page->kind || l->from->dead)
		return;
	jit_bind_to(l->at, to->code + entry_for(l, to));
	l->to = to;
	l->next = to->incoming;
	to->incoming = l;
	if (l->way == JIT_WAY_GUESS)
		jit_guess_linked(l);
}

struct x86_jit_trans *jit_find(struct x86_cpu *cpu, bool chain)
{
	struct x86_jit *j = cpu->jit;

	if (unlikely(j->chain != chain)) {
		x86_jit_flush(cpu);
		j->chain = chain;
	}
	if (unlikely(j->now->ctx != cpu->tlb_ctx))
		jit_pages_switch(cpu);
	return find(cpu);
}

bool x86_jit_run(struct x86_cpu *cpu, bool chain)
{
	struct x86_jit_trans *t = jit_find(cpu, chain);
	struct x86_jit_link *l;

	l = cpu->jit_link;
	cpu->jit_link = NULL;
	if (!t)
		return false;
	if (l && chain)
		link_to(l, t);
	cpu->jit->nr_enter++;
	jit_enter(cpu, t);
	return true;
}

u64 x86_jit_fault_pc(struct x86_cpu *cpu, u64 pc)
{
	struct x86_jit *j = cpu->jit;
	u64 at = pc - (u64)j->delta;

	if (at < (u64)j->base || at >= (u64)j->p)
		return 0;
	for (unsigned i = 0; i < JIT_PAGE_HASH; i++)
		for (struct jit_page *p = j->page[i]; p; p = p->next)
			for (struct x86_jit_trans *t = p->trans; t; t = t->in_page) {
				u64 off = at - (u64)t->code;

				if (off >= t->size)
					continue;
				for (unsigned k = 0; k < t->nr_access; k++)
					if (off >= t->access[k].begin && off < t->access[k].end)
						return (u64)t->code + (u64)j->delta + t->access[k].slow;
				return 0;
			}
	return 0;
}
