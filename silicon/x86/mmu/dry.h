/* SPDX-License-Identifier: MIT */
/*
 * Dry runs: instructions whose stores go to a private buffer and whose loads see them
 * there, so that nobody else notices. For comparing engines (jit/lockstep.c). While
 * cpu->dry is set the owner keeps every access off the inline fast path; what has effects
 * beyond registers and plain memory gives the dry run up by x86_dry_refuse().
 */
#ifndef SILICON_X86_MMU_DRY_H
#define SILICON_X86_MMU_DRY_H

#include "silicon/x86/fault.h"

#define X86_DRY_WORDS 1024
#define X86_DRY_BITS 12

/* Eight aligned bytes of memory; bit n of @loaded, @stored: byte n. */
struct x86_dry_word {
	u64 at;
	u8 seen[8];		/* what loads found in memory */
	u8 now[8];		/* what stores have left */
	u8 loaded, stored;
	u16 slot;
};

struct x86_dry {
	unsigned nr;
	u16 slot[1u << X86_DRY_BITS];	/* index + 1 */
	struct x86_dry_word word[X86_DRY_WORDS];
};

/* Forget everything: at the start of a dry run. */
void x86_dry_reset(struct x86_dry *d);

/* @len bytes of plain memory in one page. */
void x86_dry_read(struct x86_cpu *cpu, u64 pa, void *buf, unsigned len);
void x86_dry_write(struct x86_cpu *cpu, u64 pa, const void *buf, unsigned len);

/* Unwinds with X86_UNWIND_NONE. */
_Noreturn void x86_dry_give_up(struct x86_cpu *cpu);

static inline void x86_dry_refuse(struct x86_cpu *cpu)
{
	if (unlikely(cpu->dry))
		x86_dry_give_up(cpu);
}

#endif
