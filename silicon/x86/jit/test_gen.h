/* SPDX-License-Identifier: MIT */
/* Random encodings for the tests of the translator. */
#ifndef SILICON_X86_JIT_TEST_GEN_H
#define SILICON_X86_JIT_TEST_GEN_H

#include "base/bits.h"
#include "base/types.h"

static u64 seed = 0x9e3779b97f4a7c15ull;

static inline u32 rnd(u32 n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (u32)(((seed * 0x2545f4914f6cdd1dull) >> 32) * n >> 32);
}

/* 32 bytes that begin with prefixes and an opcode that may exist. */
static inline unsigned encoding(bool bits64, u8 *p)
{
	static const u8 prefix[] = { 0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x64 };
	unsigned n = 0;

	if (rnd(3) == 0) {
		bool three = rnd(2);

		p[n++] = three ? 0xc4 : 0xc5;
		p[n] = (u8)(rnd(256) | (bits64 ? 0 : 0xc0));
		if (three)
			p[n] = (u8)((p[n] & 0xe0) | (1 + rnd(3)));
		n++;
		if (three)
			p[n++] = (u8)rnd(256);
		p[n++] = (u8)rnd(256);
	} else {
		unsigned map = rnd(5);

		while (rnd(3) == 0 && n < 3)
			p[n++] = prefix[rnd(rnd(2) ? 3 : (u32)ARRAY_SIZE(prefix))];
		if (bits64 && rnd(2))
			p[n++] = (u8)(0x40 | rnd(16));
		if (map >= 2)
			p[n++] = 0x0f;
		if (map == 3)
			p[n++] = 0x38;
		if (map == 4)
			p[n++] = 0x3a;
		p[n++] = (u8)rnd(256);
	}
	while (n < 32)
		p[n++] = (u8)rnd(256);
	return n;
}

#endif
