/* SPDX-License-Identifier: MIT */
/* Bit fields, rounding, sign extension. */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include "base/types.h"

#define BIT(n) (1ull << (n))
/* Bits h..l inclusive, 63 >= h >= l >= 0. */
#define BITS(h, l) ((~0ull >> (63 - (h))) & (~0ull << (l)))

static inline u64 bits_get(u64 v, unsigned h, unsigned l)
{
	return (v & BITS(h, l)) >> l;
}

static inline u64 bits_set(u64 v, unsigned h, unsigned l, u64 field)
{
	return (v & ~BITS(h, l)) | ((field << l) & BITS(h, l));
}

/* Sign-extend the low @n bits, 1..64. */
static inline s64 sign_extend(u64 v, unsigned n)
{
	return (s64)(v << (64 - n)) >> (64 - n);
}

static inline u64 round_up(u64 v, u64 align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline u64 round_down(u64 v, u64 align)
{
	return v & ~(align - 1);
}

static inline bool is_aligned(u64 v, u64 align)
{
	return (v & (align - 1)) == 0;
}

#endif
