/* SPDX-License-Identifier: MIT */
/* What the two generators share: random bytes and states. */
#ifndef TESTS_DIFF_GEN_H
#define TESTS_DIFF_GEN_H

#include <Zydis/Zydis.h>

#include "tests/diff/diff.h"

struct diff_gen {
	struct diff_rng rng;
	ZydisDecoder dec64, dec32;
};

/* A random encoding, legacy or VEX, with ModRM and more behind it; @p: 32 bytes. Returns its length. */
unsigned diff_legacy_bytes(struct diff_rng *r, bool bits32, u8 *p);
unsigned diff_vex_bytes(struct diff_rng *r, bool bits32, u8 *p);
/* Numbers that are often edges. */
u64 diff_rand_int(struct diff_rng *r);
/* Registers, flags and seed of the data; @x87: an interesting x87 state. */
void diff_rand_state(struct diff_rng *r, struct diff_case *c, bool x87);

#endif
