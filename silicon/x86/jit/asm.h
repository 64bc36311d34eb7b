/* SPDX-License-Identifier: MIT */
/*
 * The host's instruction encoder for what the translator itself emits: moves,
 * simple arithmetic and jumps on host registers and memory. Guest instructions are
 * rewritten by rewrite.h instead.
 */
#ifndef SILICON_X86_JIT_ASM_H
#define SILICON_X86_JIT_ASM_H

#include "base/types.h"

enum jit_host {
	JIT_RAX, JIT_RCX, JIT_RDX, JIT_RBX, JIT_RSP, JIT_RBP, JIT_RSI, JIT_RDI,
	JIT_R8, JIT_R9, JIT_R10, JIT_R11, JIT_R12, JIT_R13, JIT_R14, JIT_R15,
};

/* Condition codes as in the opcodes. */
enum jit_cc { JIT_O, JIT_NO, JIT_B, JIT_AE, JIT_E, JIT_NE, JIT_BE, JIT_A, JIT_LE = 14, JIT_G };

/* Binary arithmetic: the number in opcode bits 5:3 and as /digit of 80h..83h. */
enum jit_alu { JIT_ADD, JIT_OR, JIT_ADC, JIT_SBB, JIT_AND, JIT_SUB, JIT_XOR, JIT_CMP };

/*
 * Code is written through one mapping and executed through another, @delta bytes
 * apart (rx = rw + delta). Emission behind @end stops and sets @full.
 */
struct jit_asm {
	u8 *p, *end;
	s64 delta;
	bool full;
};

/* Bytes kept free behind @end, so that only whole instructions need a check. */
#define JIT_ASM_SLACK 64

static inline void jit_8(struct jit_asm *a, unsigned v)
{
	*a->p++ = (u8)v;
}

static inline void jit_32(struct jit_asm *a, u32 v)
{
	__builtin_memcpy(a->p, &v, 4);
	a->p += 4;
}

static inline void jit_64(struct jit_asm *a, u64 v)
{
	__builtin_memcpy(a->p, &v, 8);
	a->p += 8;
}

/* Every emitting function begins with this; behind the end the last bytes are overwritten. */
static inline void jit_room(struct jit_asm *a)
{
	if (a->p >= a->end) {
		a->p = a->end;
		a->full = true;
	}
}

/* Where the next byte will be executed. */
static inline u64 jit_here(const struct jit_asm *a)
{
	return (u64)a->p + (u64)a->delta;
}

/* [base + disp] or [base + index + disp] behind an opcode; index JIT_RSP = none. */
#define JIT_NO_BASE 0x80
struct jit_mem {
	u8 base, index, scale;
	s32 disp;
};

static inline struct jit_mem jit_at(unsigned base, s32 disp)
{
	return (struct jit_mem){ (u8)base, JIT_RSP, 0, disp };
}

static inline struct jit_mem jit_at_index(unsigned base, unsigned index, unsigned scale, s32 disp)
{
	return (struct jit_mem){ (u8)base, (u8)index, (u8)scale, disp };
}

/*
 * One instruction. @op: opcode, with 0F in bits 15:8 and 66/F2/F3 in bits 23:16 where
 * they belong. @size 8 sets REX.W, 2 adds 66, 1 makes RSI and RDI byte registers SIL, DIL.
 */
void jit_op_rr(struct jit_asm *a, unsigned op, unsigned reg, unsigned rm, unsigned size);
void jit_op_rm(struct jit_asm *a, unsigned op, unsigned reg, struct jit_mem m, unsigned size);

/* reg := ... */
static inline void jit_mov_rr(struct jit_asm *a, unsigned to, unsigned from)
{
	jit_op_rr(a, 0x89, from, to, 8);
}

static inline void jit_load(struct jit_asm *a, unsigned reg, struct jit_mem m, unsigned size)
{
	jit_op_rm(a, 0x8b, reg, m, size);
}

static inline void jit_store(struct jit_asm *a, unsigned reg, struct jit_mem m, unsigned size)
{
	jit_op_rm(a, size == 1 ? 0x88 : 0x89, reg, m, size);
}

static inline void jit_lea(struct jit_asm *a, unsigned reg, struct jit_mem m, unsigned size)
{
	jit_op_rm(a, 0x8d, reg, m, size);
}

/* Shortest of three forms; changes no flag. */
void jit_mov_imm(struct jit_asm *a, unsigned reg, u64 v);
/* MOV m, imm: 8 bytes are sign-extended from 32. */
void jit_store_imm(struct jit_asm *a, struct jit_mem m, s32 v, unsigned size);

/* RORX: no flag changes. */
void jit_rorx(struct jit_asm *a, unsigned to, unsigned from, unsigned n, unsigned size);

/* PEXT, PDEP of 32 bits: bits of @from under @mask; no flag changes. */
void jit_pext(struct jit_asm *a, unsigned to, unsigned from, unsigned mask);
void jit_pdep(struct jit_asm *a, unsigned to, unsigned from, unsigned mask);

static inline void jit_alu_rr(struct jit_asm *a, enum jit_alu f, unsigned to, unsigned from, unsigned size)
{
	jit_op_rr(a, (unsigned)f << 3 | (size == 1 ? 0 : 1), from, to, size);
}

static inline void jit_alu_rm(struct jit_asm *a, enum jit_alu f, unsigned to, struct jit_mem m, unsigned size)
{
	jit_op_rm(a, (unsigned)f << 3 | (size == 1 ? 2 : 3), to, m, size);
}

void jit_alu_ri(struct jit_asm *a, enum jit_alu f, unsigned reg, s32 v, unsigned size);

/* TEST reg, v (32 bits) */
void jit_test_ri(struct jit_asm *a, unsigned reg, u32 v);
/* Bytes as they stand: at most JIT_ASM_SLACK. */
void jit_bytes(struct jit_asm *a, const u8 *p, unsigned n);
void jit_push(struct jit_asm *a, unsigned reg);
void jit_pop(struct jit_asm *a, unsigned reg);
/* Keep the arithmetic flags on the host's stack and give them back; both clobber RAX. */
void jit_push_flags(struct jit_asm *a);
void jit_pop_flags(struct jit_asm *a);

/* ---- Jumps: return the place of the displacement, for jit_bind() ---- */

u8 *jit_jmp(struct jit_asm *a);				/* rel32 */
u8 *jit_call(struct jit_asm *a);			/* rel32 */
u8 *jit_jcc(struct jit_asm *a, unsigned cc);		/* rel32 */
u8 *jit_jcc8(struct jit_asm *a, unsigned cc);
u8 *jit_jrcxz(struct jit_asm *a);			/* rel8; reads RCX, no flags */
/* To an address of executable code. */
void jit_jmp_to(struct jit_asm *a, u64 target);
void jit_call_to(struct jit_asm *a, u64 target);

/* The jump whose rel8 (rel32) is at @at leads here. */
static inline void jit_bind8(struct jit_asm *a, u8 *at)
{
	*at = (u8)(a->p - (at + 1));
}

static inline void jit_bind(struct jit_asm *a, u8 *at)
{
	s32 rel = (s32)(a->p - (at + 4));

	__builtin_memcpy(at, &rel, 4);
}

/* The jump whose rel32 is at @at leads to @to, in the same mapping. */
static inline void jit_bind_to(u8 *at, const u8 *to)
{
	s32 rel = (s32)(to - (at + 4));

	__builtin_memcpy(at, &rel, 4);
}

#endif
