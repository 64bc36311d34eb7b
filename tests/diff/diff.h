/* SPDX-License-Identifier: MIT */
/*
 * Differential tester: one instruction, or a block of them with branches, loops
 * and changes to itself, with one state; run by the host processor and by the
 * engines of the simulated one, all results compared.
 *
 * All run the same bytes at the same linear addresses, at CPL 3, followed by
 * INT3; so each run ends in an exception, whose frame is part of the result.
 */
#ifndef TESTS_DIFF_DIFF_H
#define TESTS_DIFF_DIFF_H

#include "base/types.h"

/* Linear addresses, below 2 GiB so that 32-bit code reaches them too. */
#define DIFF_CODE 0x20000000ul	/* two pages: the instruction may cross */
#define DIFF_DATA 0x20010000ul	/* DIFF_DATA_PAGES read-write pages, then one read-only page, then a hole */
#define DIFF_DATA_PAGES 3
#define DIFF_DATA_SIZE (DIFF_DATA_PAGES * PAGE_SIZE)
#define DIFF_RO (DIFF_DATA + DIFF_DATA_SIZE)
#define DIFF_HOLE (DIFF_RO + PAGE_SIZE)

struct diff_state {
	u64 gpr[16];		/* ModRM order */
	u64 rip, rflags;
	u8 ymm[16][32];
	u32 mxcsr;
	u16 fcw, fsw;
	u8 ftw;			/* abridged */
	u8 st[8][10];		/* ST(0)..ST(7) */
};

#define DIFF_CODE_MAX 1024
#define DIFF_MAX_INSNS 160

struct diff_case {
	u8 code[DIFF_CODE_MAX];
	u16 len;
	u16 nr;			/* blocks: instructions in @insn; 0: one instruction */
	struct diff_insn {
		u16 offset;
		u16 undefined;	/* RFLAGS bits without a defined value before it */
		u16 group;	/* of instructions that only make sense together; 0: alone */
	} insn[DIFF_MAX_INSNS + 1];	/* one more for the INT3 behind */
	bool bits32;		/* compatibility mode, else 64-bit */
	struct diff_state in;
	u64 data_seed;		/* contents of the data pages */
};

struct diff_result {
	struct diff_state out;
	u8 vector;
	u32 error;
	u64 cr2;		/* #PF only */
	u8 data[DIFF_DATA_SIZE];
};

/* Fill @data as the case's seed says. */
void diff_fill(u64 seed, u8 *data, size_t len);

int diff_native_init(void);
void diff_native_run(const struct diff_case *c, struct diff_result *r);

/* Engines of the simulated processor, as `userkvm boot --engine` names them. Returns 0, or -1: not here. */
enum diff_engine { DIFF_INTERP, DIFF_JIT, DIFF_NR_ENGINES };
int diff_sim_init(const char *model, enum diff_engine engine);
/* Returns 0, or -1 if the simulated processor did not end in an exception (a bug). */
int diff_sim_run(enum diff_engine engine, const struct diff_case *c, struct diff_result *r);

/* xorshift64*: small, seedable, good enough to choose cases. */
struct diff_rng { u64 s; };
static inline u64 diff_rand(struct diff_rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * 0x2545f4914f6cdd1dull;
}
static inline u32 diff_below(struct diff_rng *r, u32 n)
{
	return (u32)((diff_rand(r) >> 32) * n >> 32);
}

/* Next case of one instruction. False: this draw gave nothing usable (draw again). */
struct diff_gen;
struct diff_gen *diff_gen_new(u64 seed);
bool diff_gen_next(struct diff_gen *g, struct diff_case *c);
/* The next block; the same generator. */
void diff_gen_block(struct diff_gen *g, struct diff_case *c);

/*
 * Set what is undefined before each instruction of a block. False: something
 * reads a flag that has no defined value.
 */
bool diff_flow(struct diff_case *c);

/*
 * Replace by NOPs what the failure does not need. @fails says whether a case
 * still fails.
 */
void diff_minimise(struct diff_case *c, bool (*fails)(const struct diff_case *c));

/* What a case is, for reports and coverage: mnemonic number and text (a block: a line each, after @prefix). */
u16 diff_mnemonic(const struct diff_case *c);
void diff_disas(const struct diff_case *c, char *buf, size_t len);
void diff_disas_block(const struct diff_case *c, const char *prefix);

/* Flags of RFLAGS that the manual leaves undefined when the case ends with exception @vector at @rip. */
u64 diff_undefined_flags(const struct diff_case *c, u8 vector, u64 rip);

#endif
