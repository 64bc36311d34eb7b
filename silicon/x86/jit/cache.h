/* SPDX-License-Identifier: MIT */
/*
 * One processor's translations: who knows what about a piece of code.
 *
 *	page		(linear page, physical page, kind of code): its translations are good in
 *			each context that has its id
 *	translation	of one block at one linear address
 *	link		a jump from one translation to another, or to its exit
 */
#ifndef SILICON_X86_JIT_CACHE_H
#define SILICON_X86_JIT_CACHE_H

#include "silicon/jit/code.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/jit/jit_priv.h"

/* What a translation is for beside its address: the mode and the TLB index. */
#define JIT_KINDS (X86_NR_JIT_MODES * X86_NR_MMU_IDX)

static inline unsigned jit_kind_of(unsigned mode, unsigned mmu_idx)
{
	return mode * X86_NR_MMU_IDX + mmu_idx;
}

/* Of the code that @cpu executes, if that is translated. */
static inline unsigned jit_kind(const struct x86_cpu *cpu)
{
	return jit_kind_of(cpu->jit_mode, cpu->mmu_idx);
}

static inline enum x86_jit_mode jit_kind_mode(unsigned kind)
{
	return (enum x86_jit_mode)(kind / X86_NR_MMU_IDX);
}

/* Bytes of an address, of a stack slot and of the instruction pointer. */
static inline unsigned jit_word(unsigned kind)
{
	return jit_kind_mode(kind) == X86_JIT_64 ? 8 : 4;
}

struct jit_page {
	u64 lin, spa;		/* of the pages */
	u16 id;
	u8 kind;
	u32 granules;		/* of the page: what @sum is made of */
	u64 sum;
	struct jit_page *next, *next_lin;	/* same hash bucket: by @spa, by @lin */
	struct x86_jit_trans *trans;
	struct x86_jit_trans
		*tails; /* of instructions that begin on another page and end on this one */
	struct x86_jit_trans *summed;	/* from this one on they are in @sum; those before are newer */
};

struct x86_jit_link {
	u8 *at;			/* rel32, in writable memory */
	u8 *out;		/* where it leads without a translation, in writable memory */
	u64 rip;
	u8 way;			/* enum jit_way */
	bool checked;		/* events must be looked for */
	bool saved;		/* the flags are in cpu->jit_flags */
	u8 kind;		/* of the code there */
	struct x86_jit_trans *from, *to;
	struct x86_jit_link *next;	/* to the same translation */
};

/* Entries: what is looked at first. CHECKED: the page, and so events; MAIN: events. */
enum jit_entry { JIT_CHECKED, JIT_MAIN, JIT_BODY, JIT_NR_ENTRIES };

struct x86_jit_trans {
	struct x86_block *block;
	struct jit_page *page;
	struct jit_page *page2; /* where an instruction across a page end ends; or NULL */
	struct x86_jit_trans *in_block, *in_page, *in_tails; /* lists */
	struct x86_jit_link *incoming;
	u64 lin;
	u8 *code;		/* writable address of at[true][JIT_CHECKED] */
	s16 at[2][JIT_NR_ENTRIES];	/* offsets of the entries; [true]: with the flags in cpu->jit_flags, */
	u32 self[2], size;	/* of the exits to its own address, of the end */
	u32 loop[2], loop_out;	/* of the copies for the block's loop, 0 = none, and of the way out of there */
	u16 nr_access;
	u8 crossed;		/* see jit_span_crossed() */
	bool dead;
	u8 sti;			/* index of the instruction behind an STI; 0 = none */
	u8 dry;			/* lockstep.c: may it be run dry? */
	struct jit_access *access;
	u8 off[];		/* of each instruction, from @lin */
};

/* Tables behind struct x86_cpu, reached from RBP. An address that is none is 0, but 1 in the place of 0. */
#define JIT_HASH_SIZE 65536u	/* by RIP bits 15:0 */
struct jit_tables {
	u64 rip[JIT_KINDS][JIT_HASH_SIZE];
	u64 entry[JIT_KINDS][JIT_HASH_SIZE];	/* at[true][JIT_CHECKED] */
	u64 span[JIT_SPANS];				/* slots: span.c */
	u64 limit, rounds;				/* hoist.c */
	struct jit_cache { u64 page, limit, addend; } cache[JIT_CACHES];
	u64 crossed;		/* translation that was left because of a span across a page end, + JIT_NO_WRITE; or 0 */
	_Alignas(64) u8 x87[576];			/* XSAVE area: x87.c */
};
#define JIT_TABLES_AT ((sizeof(struct x86_cpu) + PAGE_SIZE - 1) & PAGE_MASK)
#define JIT_TABLE(field) ((s32)(JIT_TABLES_AT + offsetof(struct jit_tables, field)))

static inline struct jit_tables *jit_tables(struct x86_cpu *cpu)
{
	return (struct jit_tables *)((u8 *)cpu + JIT_TABLES_AT);
}

#define JIT_PAGE_HASH 4096u
#define JIT_MAX_PAGES 32768u

/* Which pages one context may enter without a look. */
#define JIT_CTX_PAGES 1024u
struct jit_ctx {
	u32 ctx;		/* JIT_NO_CTX: none, but ok[] is still to be cleared */
	u32 nr;
	u64 used;		/* x86_jit.switches when it was put away */
	u64 group;		/* see x86_tlb_group() */
	u16 id[JIT_CTX_PAGES];	/* all that may be set in ok[] */
	u8 ok[JIT_MAX_PAGES];	/* by id of struct jit_page: 0, JIT_OK or JIT_OK_GLOBAL */
};
#define JIT_OK 1
#define JIT_OK_GLOBAL 2
#define JIT_CONTEXTS 12
#define JIT_NO_CTX (~0u)

#define JIT_GRAIN_SIZES 6 /* 1 to 32 bytes */

struct x86_jit {
	struct jit_code code;
	s64 delta;		/* code.rx - code.rw */
	u8 *base, *p, *end;	/* writable: after the stubs, next free, end */
	u64 enter, vec_load, vec_spill, x87_load, x87_spill;	/* stubs */
	struct jit_doors door[2];	/* of 64-bit code, of other code */
	u64 grain[X86_NR_MMU_IDX][JIT_GRAIN_SIZES];	/* stubs: grain.c */
	u8 *arena;		/* pages, translations and links */
	size_t used;
	struct jit_page *page[JIT_PAGE_HASH], *page_lin[JIT_PAGE_HASH];
	u32 nr_pages;
	struct jit_ctx ctx[JIT_CONTEXTS];
	struct jit_ctx *now;	/* whose code is executed */
	bool ring_stale;	/* a page on the ring (entry.c) may not be good any more */
	u64 key[18];		/* of jit_page.sum: pages.c */
	u64 switches;
	u64 *calls;		/* by mode and row: instructions executed by their handler; NULL = not counted */
	u16 hot;		/* a block is interpreted so often before it is translated */
	u64 seen;		/* stores noticed, of the process-wide list */
	bool chain;		/* translations are linked; else each is left at its end */
	u64 nr_trans, nr_flush, nr_drop, nr_enter;
	u64 lo, hi;		/* only blocks at these addresses are translated */
	struct jit_lockstep *lockstep;	/* NULL: another engine */
	struct x86_jit_tr tr;	/* scratch of the translator */
};

/* Emit the shared stubs. entry.c */
void jit_stubs(struct x86_jit *j);
/* Those of the vector and x87 state; and a call of its spill if it is live: RAX, RCX, flags are clobbered. vec.c */
void jit_vec_stubs(struct x86_jit *j, struct jit_asm *a);
void jit_x87_stubs(struct x86_jit *j, struct jit_asm *a);
void jit_vec_spill(const struct x86_jit *j, struct jit_asm *a);
void jit_grain_stubs(struct x86_jit *j, struct jit_asm *a);

/* Make a translation of @b at @lin; NULL: not possible. translate.c */
struct x86_jit_trans *jit_translate(struct x86_cpu *cpu, struct x86_block *b, u64 lin);

/* Code behind the block for JIT_COLD_GUESS; @l, of a guess, has been linked. guess.c */
void jit_cold_guess(struct x86_jit_tr *t, const struct jit_cold *c, struct x86_jit_trans *tr);
void jit_guess_linked(struct x86_jit_link *l);

/* Arena memory, 8-byte aligned, zeroed; NULL if there is none left. cache.c */
void *jit_new(struct x86_jit *j, size_t size);
/* Take @t out of everything that leads to it. cache.c */
void jit_drop(struct x86_cpu *cpu, struct x86_jit_trans *t);

/* The page record of (@lin, @spa) in the present mode; NULL: no memory or id left. pages.c */
struct jit_page *jit_page(struct x86_cpu *cpu, u64 lin, u64 spa);
/* The first page of the bucket of @spa. */
struct jit_page **jit_page_bucket(struct x86_jit *j, u64 spa);
/* Make the context of the processor the one whose code is executed. */
void jit_pages_switch(struct x86_cpu *cpu);
/* cpu->jit_pages := its table, unless an event is pending; see x86_post(). */
void jit_pages_set(struct x86_cpu *cpu);
/* Let @p, to which fetches of its linear page are translated by @f, into the present context; drops what is not good any more. */
void jit_page_enter(struct x86_cpu *cpu, struct jit_page *p, const struct x86_fetch *f);
void jit_sum_key(struct x86_jit *j);
/* Tell codepage.c that there is a translation of @b, or no more. pages.c */
void jit_count_translation(const struct x86_block *b, bool there);
/* All pages are forgotten. */
void jit_pages_flush(struct x86_cpu *cpu);

static inline bool jit_page_is_ok(const struct x86_jit *j, const struct jit_page *p)
{
	return j->now->ok[p->id];
}

static inline bool jit_pages_are_ok(const struct x86_jit *j, const struct x86_jit_trans *t)
{
	return jit_page_is_ok(j, t->page) && (!t->page2 || jit_page_is_ok(j, t->page2));
}

/* Checked entry, with the flags in cpu->jit_flags, for cpu->rip in the present mode, if the run loop need not look; else JIT_LEAVE. cache.c */
u64 jit_next(struct x86_cpu *cpu);
/* A translation for cpu->rip, if there is one or it is time to make it. @chain as for x86_jit_run(). Raises. */
struct x86_jit_trans *jit_find(struct x86_cpu *cpu, bool chain);
/* -ENOMEM; and the end, which prints @statistics. lockstep.c */
int jit_lockstep_new(struct x86_jit *j);
void jit_lockstep_free(struct x86_jit *j, bool statistics);
/* Execute @t, and what it leads to, until it leaves. entry.c */
void jit_enter(struct x86_cpu *cpu, struct x86_jit_trans *t);
/* jit_tables.crossed is set: enough of it, and the block is translated without spans from then on. span.c */
void jit_span_crossed(struct x86_cpu *cpu);
#define JIT_CROSSED 128		/* 8 times; without a write tag 128 times */
#define JIT_NO_WRITE 1u		/* not across a page end, but written later than read */
#define JIT_NO_CACHE 2u			/* the caches of a loop missed too often: it is translated without */
#define JIT_RUNS_NO_SPANS 0xffff	/* x86_block.runs of such a block */
#define JIT_RUNS_NO_CACHES 0xfffe	/* this or the above */
/*
 * C side of the call stub: execute instruction @nr of @t by its handler. Returns what to do
 * then, or the address of the code to go on with. entry.c
 */
#define JIT_GO_ON 0	/* with the next instruction of @t */
#define JIT_LEAVE 1
u64 jit_call_c(struct x86_cpu *cpu, struct x86_jit_trans *t, u64 nr);

#endif
