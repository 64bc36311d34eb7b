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
 * Every other way into a page compares the page's id in the ITLB table. An id gets there
 * when x86_block_lookup() has translated the fetch and all of the page's blocks have been
 * compared as decode.h says; x86_jit_recheck() empties the table.
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

static void empty_others(struct x86_jit *j)
{
	for (unsigned i = 0; i < JIT_CONTEXTS; i++)
		j->other[i].ctx = JIT_NO_CTX;
}

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
	j->next_id = 1;
	j->chain = true;
	j->hot = (u16)env("USERKVM_JIT_HOT", HOT);
	jit_stubs(j);
	j->base = j->p;
	j->itlb.ctx = cpu->tlb_ctx;
	empty_others(j);
	if (env("USERKVM_JIT_STATS", 0))
		j->calls = calloc(x86_insn_rows(), sizeof(*j->calls));
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

/* USERKVM_JIT_STATS=1: which rows are executed by their handler, slow paths included. */
static void print_statistics(const struct x86_jit *j)
{
	if (!j->calls)
		return;
	dprintf(STDERR_FILENO, "jit: %llu translations, %llu dropped, %llu flushes, %llu KiB of code, %llu entries\n",
		(unsigned long long)j->nr_trans, (unsigned long long)j->nr_drop, (unsigned long long)j->nr_flush,
		(unsigned long long)(j->p - j->base) >> 10, (unsigned long long)j->nr_enter);
	for (unsigned i = 0; i < x86_insn_rows(); i++)
		if (j->calls[i])
			dprintf(STDERR_FILENO, "jit: %12llu %s\n", (unsigned long long)j->calls[i],
				x86_insn_row(i)->name);
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

/* ---- Pages ---- */

static struct jit_page **bucket(struct x86_jit *j, u64 spa)
{
	return &j->page[(spa >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 52];
}

struct jit_page *jit_page(struct x86_cpu *cpu, u64 lin, u64 spa)
{
	struct x86_jit *j = cpu->jit;
	struct jit_page **list = bucket(j, spa &= PAGE_MASK), *p;

	lin &= PAGE_MASK;
	for (p = *list; p; p = p->next)
		if (p->spa == spa && p->lin == lin && p->idx == cpu->mmu_idx)
			return p;
	p = jit_new(j, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct jit_page){ .lin = lin, .spa = spa, .id = j->next_id++, .idx = cpu->mmu_idx, .next = *list };
	*list = p;
	return p;
}

/* ---- Dropping ---- */

static void set_rel32(u8 *at, const u8 *target)
{
	s32 rel = (s32)(target - (at + 4));

	memcpy(at, &rel, 4);
}

static void unlink_block(struct x86_jit_trans *t)
{
	for (struct x86_jit_trans **p = &t->block->trans; *p; p = &(*p)->in_block)
		if (*p == t) {
			*p = t->in_block;
			return;
		}
	BUG();
}

static void unlink_page(struct x86_jit_trans *t)
{
	for (struct x86_jit_trans **p = &t->page->trans; *p; p = &(*p)->in_page)
		if (*p == t) {
			*p = t->in_page;
			return;
		}
	BUG();
}

static void drop_hash(struct x86_cpu *cpu, const struct x86_jit_trans *t)
{
	u64 *tag = &jit_tables(cpu)->tag[t->page->idx][t->lin % JIT_HASH_SIZE];

	if (*tag == ~t->lin)
		*tag = 0;
}

static void drop(struct x86_cpu *cpu, struct x86_jit_trans *t)
{
	struct x86_jit *j = cpu->jit;

	unlink_block(t);
	unlink_page(t);
	drop_hash(cpu, t);
	for (struct x86_jit_link *l = t->incoming; l; l = l->next) {
		set_rel32(l->at, l->out);
		l->to = NULL;
	}
	t->incoming = NULL;
	/* Who still holds its address is led out: JMP over the main entry. */
	t->code[t->main] = 0xe9;
	set_rel32(t->code + t->main + 1, t->code + t->self);
	t->dead = true;
	j->nr_drop++;
}

void x86_jit_drop_block(struct x86_cpu *cpu, struct x86_block *b)
{
	while (b->trans)
		drop(cpu, b->trans);
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
				t->block->trans = NULL;
			}
	memset(j->page, 0, sizeof(j->page));
	x86_jit_recheck(cpu);
	j->used = 0;
	j->p = j->base;
	cpu->jit_link = NULL;
	j->nr_flush++;
}

/* ---- The ITLB: ids of pages that need no check ---- */

static u32 *itlb_word(struct x86_cpu *cpu, const struct jit_itlb_word *w)
{
	return &jit_tables(cpu)->itlb[w->idx][w->slot];
}

/* Take words out of the tables; @keep_globals: but for these. */
static void take_out(struct x86_cpu *cpu, bool keep_globals)
{
	struct jit_itlb *now = &cpu->jit->itlb;
	unsigned kept = 0;

	for (unsigned i = 0; i < now->nr; i++)
		if (keep_globals && now->word[i].global && *itlb_word(cpu, &now->word[i]) == now->word[i].id)
			now->word[kept++] = now->word[i];
		else if (*itlb_word(cpu, &now->word[i]) == now->word[i].id)
			*itlb_word(cpu, &now->word[i]) = 0;
	now->nr = kept;
}

void x86_jit_recheck(struct x86_cpu *cpu)
{
	if (!cpu->jit)
		return;
	take_out(cpu, false);
	empty_others(cpu->jit);
}

/*
 * Of the present ITLB the global pages stay; if it was that of the context before the flush, it
 * is that of its successor now. The ids of others that were flushed will not come again.
 */
void x86_jit_recheck_nonglobal(struct x86_cpu *cpu, unsigned before)
{
	struct x86_jit *j = cpu->jit;

	if (!j)
		return;
	take_out(cpu, true);
	if (j->itlb.ctx == before)
		j->itlb.ctx = cpu->tlb_ctx;
}

/* The order stays: of two words for one slot the later one counts. */
static void forget_slot(struct jit_itlb *t, unsigned slot)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < t->nr; i++)
		if (t->word[i].slot != slot)
			t->word[kept++] = t->word[i];
	t->nr = kept;
}

void x86_jit_recheck_page(struct x86_cpu *cpu, u64 lin)
{
	struct x86_jit *j = cpu->jit;
	unsigned slot = jit_itlb_index(lin);

	if (!j)
		return;
	for (unsigned idx = 0; idx < X86_NR_MMU_IDX; idx++)
		jit_tables(cpu)->itlb[idx][slot] = 0;
	forget_slot(&j->itlb, slot);
	for (unsigned i = 0; i < JIT_CONTEXTS; i++)
		if (j->other[i].ctx != JIT_NO_CTX)
			forget_slot(&j->other[i], slot);
}

/*
 * Another context is in force than the one whose ITLB this is. One that is new and differs
 * in its PCID alone takes over the global pages.
 */
static void switch_itlb(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;
	struct jit_itlb *other = &j->other[0];
	u64 group = x86_tlb_group(cpu);

	for (unsigned i = 0; i < JIT_CONTEXTS && other->ctx != cpu->tlb_ctx; i++) {
		struct jit_itlb *o = &j->other[i];

		if (o->ctx == cpu->tlb_ctx || o->ctx == JIT_NO_CTX || (other->ctx != JIT_NO_CTX && o->used < other->used))
			other = o;
	}
	if (other->ctx == cpu->tlb_ctx) {
		struct jit_itlb found = *other;

		*other = j->itlb;
		other->used = ++j->switches;
		take_out(cpu, false);
		j->itlb = found;
		for (unsigned i = 0; i < found.nr; i++)
			*itlb_word(cpu, &found.word[i]) = found.word[i].id;
		return;
	}
	*other = j->itlb;
	other->used = ++j->switches;
	take_out(cpu, j->itlb.group == group);
	j->itlb.ctx = cpu->tlb_ctx;
	j->itlb.group = group;
}

static void put_in(struct x86_cpu *cpu, const struct jit_page *p)
{
	struct jit_itlb *now = &cpu->jit->itlb;
	struct jit_itlb_word *w;

	if (now->nr == JIT_ITLB_USED)
		take_out(cpu, false);
	w = &now->word[now->nr++];
	*w = (struct jit_itlb_word){ .slot = (u16)jit_itlb_index(p->lin), .idx = p->idx, .id = p->id,
				     .global = x86_fetch_is_global(cpu, p->lin) };
	*itlb_word(cpu, w) = p->id;
	now->group = x86_tlb_group(cpu);
}

/* ---- Stores to code ---- */

static struct { u64 spa; unsigned len; bool page; } stores[STORES];
static u64 nr_stores;
static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;

static void drop_range(struct x86_cpu *cpu, u64 spa, unsigned len, bool all)
{
	struct x86_jit_trans *next;

	for (struct jit_page *p = *bucket(cpu->jit, spa); p; p = p->next) {
		if (p->spa != (spa & PAGE_MASK))
			continue;
		for (struct x86_jit_trans *t = p->trans; t; t = next) {
			const struct x86_block *b = t->block;

			next = t->in_page;
			if (all || (spa < b->spa + b->len && b->spa < spa + len))
				drop(cpu, t);
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

/* Compare what the page has and let its id into the ITLB. */
static void validate(struct x86_cpu *cpu, struct jit_page *p)
{
	const struct x86_fetch *f;
	struct x86_jit_trans *next;

	if (jit_tables(cpu)->itlb[p->idx][jit_itlb_index(p->lin)] == p->id)
		return;
	f = x86_block_fetch(cpu, p->lin);
	for (struct x86_jit_trans *t = p->trans; t; t = next) {
		next = t->in_page;
		if (!x86_block_good(cpu, t->block, f, t->lin))
			drop(cpu, t);
	}
	put_in(cpu, p);
}

static struct x86_jit_trans *find(struct x86_cpu *cpu)
{
	struct x86_jit *j = cpu->jit;
	struct jit_tables *tb = jit_tables(cpu);
	u64 rip = cpu->rip;
	unsigned slot = rip % JIT_HASH_SIZE;
	struct x86_jit_trans *t;
	struct x86_block *b;

	if (tb->tag[cpu->mmu_idx][slot] == ~rip) {
		t = *(struct x86_jit_trans **)(tb->code[cpu->mmu_idx][slot] - 8);
		if (tb->itlb[cpu->mmu_idx][jit_itlb_index(rip)] == t->page->id)
			return t;
	}
	b = x86_block_lookup(cpu);
	if (b->spa2 != ~0ull)
		return NULL;
	for (t = b->trans; t; t = t->in_block)
		if (t->lin == rip && t->page->idx == cpu->mmu_idx)
			break;
	if (t) {
		validate(cpu, t->page);
		if (t->dead)
			return NULL;
	} else {
		if (rip < j->lo || rip > j->hi)
			return NULL;
		if (b->runs < j->hot) {
			b->runs++;
			return NULL;
		}
		t = jit_translate(cpu, b, rip);
		if (!t)
			return NULL;
		validate(cpu, t->page);
		if (t->dead)
			return NULL;
		j->nr_trans++;
	}
	if (j->chain) {
		tb->tag[cpu->mmu_idx][slot] = ~rip;
		tb->code[cpu->mmu_idx][slot] = (u64)t->code + (u64)j->delta;
	}
	return t;
}

u64 jit_next(struct x86_cpu *cpu)
{
	const struct x86_jit *j = cpu->jit;
	const struct jit_tables *tb = jit_tables(cpu);
	unsigned slot = cpu->rip % JIT_HASH_SIZE;

	/* Events are polled by the entry. */
	if (!j->chain || !x86_jit_usable(cpu) || j->itlb.ctx != cpu->tlb_ctx ||
	    tb->tag[cpu->mmu_idx][slot] != ~cpu->rip)
		return JIT_LEAVE;
	return tb->code[cpu->mmu_idx][slot];
}

/* The jump that led out of translated code may go straight to @to from now on. */
static void link_to(struct x86_cpu *cpu, struct x86_jit_link *l, struct x86_jit_trans *to)
{
	if (l->to || l->rip != to->lin || l->from->page->idx != to->page->idx || l->from->dead)
		return;
	set_rel32(l->at, to->code + (l->from->page == to->page ? to->main : 0));
	l->to = to;
	l->next = to->incoming;
	to->incoming = l;
}

struct x86_jit_trans *jit_find(struct x86_cpu *cpu, bool chain)
{
	struct x86_jit *j = cpu->jit;

	if (unlikely(j->chain != chain)) {
		x86_jit_flush(cpu);
		j->chain = chain;
	}
	if (unlikely(j->itlb.ctx != cpu->tlb_ctx))
		switch_itlb(cpu);
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
		link_to(cpu, l, t);
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
