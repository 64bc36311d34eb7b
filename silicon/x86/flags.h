/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic flags, kept as three words that an operation stores without
 * computing any flag:
 *
 *   cc_z   ZF = (cc_z == 0)
 *   cc_s   SF = bit 63, PF = even parity of bits 7:0
 *   cc_c   CF = bit 63, OF = bit 63 ^ bit 62, AF = bit 3
 *
 * For an addition cc_c is the word of carries out of each bit, moved up so that
 * the carry out of the operand's top bit is bit 63 (and the one below it 62);
 * for a subtraction the word of borrows. Results are sign-extended to 64 bits.
 */
#ifndef SILICON_X86_FLAGS_H
#define SILICON_X86_FLAGS_H

#include "silicon/x86/cpu.h"

static inline bool x86_cf(const struct x86_cpu *c) { return c->cc_c >> 63; }
static inline bool x86_zf(const struct x86_cpu *c) { return c->cc_z == 0; }
static inline bool x86_sf(const struct x86_cpu *c) { return c->cc_s >> 63; }
static inline bool x86_of(const struct x86_cpu *c) { return ((c->cc_c >> 63) ^ (c->cc_c >> 62)) & 1; }
static inline bool x86_af(const struct x86_cpu *c) { return c->cc_c >> 3 & 1; }
static inline bool x86_pf(const struct x86_cpu *c) { return !__builtin_parity((u8)c->cc_s); }

static inline u64 x86_carry_word(bool cf, bool of, bool af)
{
	return (u64)cf << 63 | (u64)(cf ^ of) << 62 | (u64)af << 3;
}

/* All six at once, from an RFLAGS image. */
static inline void x86_set_arith(struct x86_cpu *c, u64 rflags)
{
	c->cc_z = !(rflags & RFLAGS_ZF);
	/* Parity source: 0 has even parity (PF = 1), 1 has odd. */
	c->cc_s = (rflags & RFLAGS_SF) << 56 | !(rflags & RFLAGS_PF);
	c->cc_c = x86_carry_word(rflags & RFLAGS_CF, rflags & RFLAGS_OF, rflags & RFLAGS_AF);
}

static inline u64 x86_get_arith(const struct x86_cpu *c)
{
	return (u64)x86_cf(c) | (u64)x86_pf(c) << 2 | (u64)x86_af(c) << 4 | (u64)x86_zf(c) << 6 |
	       (u64)x86_sf(c) << 7 | (u64)x86_of(c) << 11;
}

static inline u64 x86_get_rflags(const struct x86_cpu *c)
{
	return c->rflags | x86_get_arith(c);
}

/*
 * Load RFLAGS whole (no privilege rule applied). Keeps cpu->slow's TF and RF
 * bits in step; the caller runs x86_update_mode() if VM or AC changed.
 */
static inline void x86_set_rflags(struct x86_cpu *c, u64 v)
{
	x86_set_arith(c, v);
	c->rflags = (v & ~RFLAGS_ARITH) | RFLAGS_1;
	c->slow = (c->slow & ~(X86_SLOW_TF | X86_SLOW_RF)) |
		  (v & RFLAGS_TF ? X86_SLOW_TF : 0) | (v & RFLAGS_RF ? X86_SLOW_RF : 0);
}

/* Set CF, keep OF and AF. */
static inline void x86_set_cf(struct x86_cpu *c, bool cf)
{
	c->cc_c = x86_carry_word(cf, x86_of(c), x86_af(c));
}

/* @size 1, 2, 4, 8 bytes; operands and result may carry garbage above it. */
static inline void x86_flags_result(struct x86_cpu *c, u64 res, unsigned size)
{
	c->cc_z = c->cc_s = (u64)sign_extend(res, size * 8);
}

static inline u64 x86_align_carry(u64 carries, unsigned size)
{
	return size == 8 ? carries : carries << (64 - size * 8) | (carries & 8);
}

/* res = a + b (+ carry in). */
static inline void x86_flags_add(struct x86_cpu *c, u64 a, u64 b, u64 res, unsigned size)
{
	x86_flags_result(c, res, size);
	c->cc_c = x86_align_carry((a & b) | ((a | b) & ~res), size);
}

/* res = a - b (- borrow in). */
static inline void x86_flags_sub(struct x86_cpu *c, u64 a, u64 b, u64 res, unsigned size)
{
	x86_flags_result(c, res, size);
	c->cc_c = x86_align_carry((~a & b) | ((~a | b) & res), size);
}

/* CF = OF = AF = 0. */
static inline void x86_flags_logic(struct x86_cpu *c, u64 res, unsigned size)
{
	x86_flags_result(c, res, size);
	c->cc_c = 0;
}

#endif
