/* SPDX-License-Identifier: MIT */
/*
 * Decoding and the cache of decoded blocks, for the run loop and the MMU.
 *
 * A block is a run of instructions inside one page, decoded once and kept by
 * (simulated physical address, mode, code size). A small cache maps linear
 * addresses to blocks; it lives until x86_decode_flush(). Blocks never go
 * stale unseen: stores of simulated processors bump sequence numbers
 * (codepage.h) that are compared at every entry; and after each flush a block
 * is compared with the bytes in memory before its first use, which catches
 * writes that bypass the simulated MMU.
 */
#ifndef SILICON_X86_DECODE_DECODE_H
#define SILICON_X86_DECODE_DECODE_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/op.h"

#define X86_BLOCK_MAX_OPS 48
#define X86_BLOCK_MAX_BYTES 255		/* so that a block touches at most three granules */

struct x86_block;
struct x86_jit_trans;

/* Where execution went from a block: valid while the key of the jump cache is the same. */
struct x86_link {
	u64 rip;
	u64 key;
	struct x86_block *to;
};

struct x86_block {
	u64 spa;			/* of the first byte */
	const _Atomic u64 *seq;		/* sequence word of its page ... */
	u64 seen;			/* ... as last checked */
	u64 checked;			/* fetch stamp at which the bytes were last compared */
	u64 spa2;			/* second page of a page-crossing instruction, or ~0 */
	struct x86_block *next;		/* same hash bucket */
	u32 granule[3];			/* sequence numbers of the granules it covers */
	u16 nr_ops;
	u16 len;			/* in bytes; they are kept behind the ops */
	u8 key;				/* mode and code size */
	u8 next_link;			/* the one to replace */
	u16 runs;			/* times it was interpreted, up to a limit of jit/ */
	struct x86_jit_trans *trans;	/* translations of it, at different linear addresses */
	struct x86_link link[2];
	struct x86_op op[];
};

struct x86_jump {
	u64 lin;
	u64 key;
	struct x86_block *block;
	u64 pad;
};
#define X86_JUMP_BITS 12

/* Head of struct x86_decode, for the inline lookup. */
struct x86_jumps {
	u64 gen;			/* in bits 63:40; 0: nothing matches */
	struct x86_jump jump[1u << X86_JUMP_BITS];
};

int x86_decode_new(struct x86_cpu *cpu);
void x86_decode_free(struct x86_cpu *cpu);

/*
 * Translations or permissions of fetches may have changed: forget which linear
 * address leads to which block. Cheap. Every TLB flush calls one of the three.
 */
void x86_decode_flush(struct x86_cpu *cpu);
/*
 * All but global ones: contexts have been retired, and cpu->tlb_ctx has taken the place of
 * context id @before.
 */
void x86_decode_flush_nonglobal(struct x86_cpu *cpu, unsigned before);
/* The one of the small page of @lin, in every context. */
void x86_decode_flush_page(struct x86_cpu *cpu, u64 lin);

/*
 * Memory may have been written by others than simulated processors: compare
 * each block with its bytes before its next use. Translations stay.
 */
void x86_decode_recheck(struct x86_cpu *cpu);

/* The block at cpu->rip after a miss in the jump cache. Raises fetch faults. */
struct x86_block *x86_block_find(struct x86_cpu *cpu);
/* The fetch translation of the page of @lin, valid until the next one. Raises. */
struct x86_fetch;
const struct x86_fetch *x86_block_fetch(struct x86_cpu *cpu, u64 lin);
/* The page where it leads: its simulated physical address, and its bytes. */
u64 x86_fetch_spa(const struct x86_fetch *f);
const u8 *x86_fetch_host(const struct x86_fetch *f);
/* Does memory at @lin on the page of @f still hold one-page block @b? */
bool x86_block_good(struct x86_cpu *cpu, struct x86_block *b, const struct x86_fetch *f, u64 lin);
/*
 * @b at @lin ends in a conditional branch that has been seen not to be taken: a block that goes
 * on behind it, perhaps past several; or NULL. Only translations are made of such blocks. @b may
 * have moved if they are a new one's. @make: else only one that is there.
 */
struct x86_block *x86_block_longer(struct x86_cpu *cpu, struct x86_block *b, u64 lin, bool make);
/* The bytes it was decoded from, b->len. */
const u8 *x86_block_bytes(const struct x86_block *b);
/* How many of its bytes are on its first page. */
static inline unsigned x86_block_head(const struct x86_block *b)
{
	unsigned room = (unsigned)(PAGE_SIZE - (b->spa & ~PAGE_MASK));

	return min((unsigned)b->len, room);
}
/* @n bytes of code, which others may be writing meanwhile; compared with @a. */
void x86_copy_code(u8 *to, const u8 *from, unsigned n);
bool x86_same_code(const u8 *a, const u8 *mem, unsigned n);
/* @b := what is at @mem now, if it is of the same shape; else false, and @b is not to be used.
 * revise.c */
bool x86_block_revise(struct x86_cpu *cpu, struct x86_block *b, const u8 *mem);
/* The pages of @b were stored to: is it still good? */
bool x86_block_recheck(struct x86_cpu *cpu, struct x86_block *b);

/*
 * Decode the one instruction at cpu->rip without any cache: under a bus, or
 * where the CS limit cuts a block. Valid until the next call.
 */
const struct x86_op *x86_decode_single(struct x86_cpu *cpu);
/* The bytes of the last x86_decode_single(). */
const u8 *x86_decode_single_bytes(const struct x86_cpu *cpu, unsigned *len);

/* What distinguishes cached entries besides the address: mode, context, generation @gen. */
static inline u64 x86_code_key(const struct x86_cpu *cpu, u64 gen)
{
	return cpu->mode_word >> 24 | gen;
}

static inline unsigned x86_jump_index(u64 lin)
{
	return (unsigned)(lin ^ lin >> X86_JUMP_BITS) & ((1u << X86_JUMP_BITS) - 1);
}

/* Has no store hit @b, as far as its page's sequence word tells? */
static inline bool x86_block_fresh(struct x86_cpu *cpu, struct x86_block *b)
{
	return likely(b->seen == atomic_load_explicit(b->seq, memory_order_acquire)) ||
	       x86_block_recheck(cpu, b);
}

/* The block to execute at cpu->rip. */
static inline struct x86_block *x86_block_lookup(struct x86_cpu *cpu)
{
	const struct x86_jumps *js = (const struct x86_jumps *)cpu->decode;
	u64 lin = (cpu->seg_base[X86_CS] + cpu->rip) & cpu->lin_mask;
	const struct x86_jump *j = &js->jump[x86_jump_index(lin)];

	if (likely(j->lin == lin && j->key == x86_code_key(cpu, js->gen)) && x86_block_fresh(cpu, j->block))
		return j->block;
	return x86_block_find(cpu);
}

/*
 * The block to execute after @prev, whose links remember where it went. 64-bit mode
 * only: elsewhere the base of CS decides too. *@rip becomes the address as the link
 * has it: the same value as cpu->rip, but known without waiting for the stores of
 * the instructions before, which a branch prediction has then bridged.
 */
static inline struct x86_block *x86_block_follow(struct x86_cpu *cpu, struct x86_block *prev, u64 *rip)
{
	const struct x86_jumps *js = (const struct x86_jumps *)cpu->decode;
	u64 key = x86_code_key(cpu, js->gen);
	struct x86_block *b;

	for (unsigned i = 0; i < ARRAY_SIZE(prev->link); i++) {
		struct x86_link *l = &prev->link[i];

		if (l->rip == *rip && l->key == key) {
			if (!x86_block_fresh(cpu, l->to))
				break;
			*rip = l->rip;
			/* Keep the compiler from using the equal value instead. */
			__asm__("" : "+r"(*rip));
			return l->to;
		}
	}
	b = x86_block_lookup(cpu);
	/* Another key now: the arena was emptied, @prev may be gone. */
	if (b->spa2 == ~0ull && x86_code_key(cpu, js->gen) == key) {
		prev->link[prev->next_link & 1] = (struct x86_link){ *rip, key, b };
		prev->next_link++;
	}
	return b;
}

/*
 * May the CS limit cut a block that begins at cpu->rip? Such instructions go
 * through x86_decode_single(). 64-bit mode has no limit.
 */
static inline bool x86_near_cs_limit(const struct x86_cpu *cpu)
{
	return unlikely(!x86_in_64(cpu)) && cpu->rip + X86_BLOCK_MAX_BYTES > cpu->seg[X86_CS].limit;
}

/* One instruction: table lookup and operand extraction. */
enum x86_dec_result { X86_DEC_OK, X86_DEC_MORE };
/*
 * Decode @n (1..15) bytes. An undefined or too long instruction decodes to a handler
 * that raises its fault. X86_DEC_MORE: the instruction goes on behind @n < 15.
 */
enum x86_dec_result x86_decode_bytes(struct x86_cpu *cpu, unsigned mode, unsigned code_size,
				     const u8 *bytes, unsigned n, struct x86_op *op);

/* The instruction table: row of @op, how many there are, and its linter (NULL or what is wrong). */
const struct x86_insn_row *x86_insn_row(unsigned row);
unsigned x86_insn_rows(void);
const char *x86_insn_table_lint(void);

#endif
