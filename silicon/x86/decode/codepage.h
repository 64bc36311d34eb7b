/* SPDX-License-Identifier: MIT */
/*
 * Which simulated physical pages hold decoded code, process-wide, and the
 * sequence numbers by which blocks notice stores to them.
 */
#ifndef SILICON_X86_DECODE_CODEPAGE_H
#define SILICON_X86_DECODE_CODEPAGE_H

#include "silicon/x86/cpu.h"

/* Does the page of @spa hold decoded code? */
bool x86_codepage_test(u64 spa);
/* If not: may the caller's TLB entry have a write tag? Notes that it has. */
bool x86_codepage_may_write(u64 spa);
/*
 * @cpu has stored @len bytes at @spa, in one page, through the slow path.
 * To be called after the bytes are in memory. NULL: root-mode software has.
 */
void x86_codepage_store(struct x86_cpu *cpu, u64 spa, unsigned len);

/* May @cpu store there, on a page that holds code, without telling anybody? Only data was ever
 * stored there, often. */
static inline bool x86_codepage_data(const struct x86_cpu *cpu, u64 spa, unsigned len)
{
	u64 granule = spa & ~((1ull << X86_GRANULE_SHIFT) - 1);

	return cpu->grain[(spa >> X86_GRANULE_SHIFT) % X86_GRAINS] == granule &&
	       spa + len <= granule + (1u << X86_GRANULE_SHIFT);
}

/*
 * Code of this page is about to be decoded: returns when no processor can store
 * there any more without calling x86_codepage_store().
 */
void x86_codepage_mark(struct x86_cpu *cpu, u64 spa);
/* Serve X86_EV_CODE_PAGE: drop write tags and acknowledge. */
void x86_codepage_serve(struct x86_cpu *cpu);

/*
 * Bytes of this page have been translated: from here on x86_jit_stored() is called for
 * stores to them. A store before that shows in the sequence numbers.
 */
void x86_codepage_translated(u64 spa, unsigned len);
/* A translation of them is not used any more: for each call of the above, with the same bytes. */
void x86_codepage_dropped(u64 spa, unsigned len);

const _Atomic u64 *x86_codepage_seq(u64 spa);
u32 x86_codepage_granule(u64 spa);
/* The same, bytes of it being about to be decoded: from here on no processor stores there without
 * telling. */
u32 x86_codepage_decode_granule(struct x86_cpu *cpu, u64 spa);
bool x86_codepage_marked(u64 spa);

#endif
