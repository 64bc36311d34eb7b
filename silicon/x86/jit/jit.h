/* SPDX-License-Identifier: MIT */
/*
 * The translator, as the run loop, the decoder and the code-page tables see it.
 *
 * 64-bit code and flat 32-bit code (enum x86_jit_mode) is translated at CPL 0 and 3, only with
 * memory as bus, and never with alignment checks on: everything else is interpreted. A block is translated when it has been
 * interpreted some times; from there on translated blocks jump to each other until an
 * event, an instruction that ends its block by a handler, or a block that is not
 * translated yet.
 *
 * Threads: all functions belong to the processor's thread, but for those said otherwise.
 */
#ifndef SILICON_X86_JIT_JIT_H
#define SILICON_X86_JIT_JIT_H

#include "silicon/x86/cpu.h"

struct x86_block;

/* What cpu->jit_pages points to while an event is pending. */
extern const u8 *const x86_jit_no_pages;

/* Memory of struct x86_cpu: zeroed, with the translator's tables behind it at a fixed distance. */
struct x86_cpu *x86_jit_alloc_cpu(void);
void x86_jit_free_cpu(struct x86_cpu *cpu);

/* Returns 0, or a negative errno: the processor stays with the interpreter. */
int __must_check x86_jit_new(struct x86_cpu *cpu);
void x86_jit_free(struct x86_cpu *cpu);

/* May the code at cpu->rip be run by translations? */
static inline bool x86_jit_usable(const struct x86_cpu *cpu)
{
	return cpu->jit && cpu->jit_mode != X86_JIT_NONE && cpu->mmu_idx < X86_NR_MMU_IDX &&
	       (cpu->cpl == 0 || cpu->cpl == 3);
}

/*
 * Execute translations from cpu->rip on, if there is one or it is time to make it:
 * true. False: the caller interprets one block. @chain: go on from block to block without
 * counting instructions; else exactly one block is executed and counted. Raises.
 */
bool x86_jit_run(struct x86_cpu *cpu, bool chain);

/*
 * Engine lockstep: the same for one block, which is executed by its handlers in a dry run
 * before; a difference ends the process.
 */
bool x86_lockstep_run(struct x86_cpu *cpu);

/* Every translation of @cpu is forgotten: their blocks are about to go. */
void x86_jit_flush(struct x86_cpu *cpu);
/* Block @b is not valid any more. */
void x86_jit_drop_block(struct x86_cpu *cpu, struct x86_block *b);
/* Block @b has moved to this address. */
void x86_jit_moved(struct x86_block *b);
/* Translations of fetches, or memory, may have changed: check pages before their next use. */
void x86_jit_recheck(struct x86_cpu *cpu);
/*
 * Only translations that are not global, cpu->tlb_ctx having taken the place of context id
 * @before; the page of @lin in every context.
 */
void x86_jit_recheck_nonglobal(struct x86_cpu *cpu, unsigned before);
void x86_jit_recheck_page(struct x86_cpu *cpu, u64 lin);

/*
 * Bytes that may be translated have been stored to, @len at @spa in one page: drop what
 * @cpu (NULL: root-mode software) has of it, and make the other processors do so before
 * they notice any later event. @page: all of the page. Any thread.
 */
void x86_jit_stored(struct x86_cpu *cpu, u64 spa, unsigned len, bool page);
/* Serve X86_EV_JIT. */
void x86_jit_serve(struct x86_cpu *cpu);

/*
 * A host fault at @pc of this thread: if that is an access of translated code, where it
 * must go on instead, so that the interpreter makes the access; else 0.
 */
u64 x86_jit_fault_pc(struct x86_cpu *cpu, u64 pc);

/*
 * Raise the event of @which when the host's TSC has reached @deadline (0: not at all), as
 * chained code does not come back to look. The last deadline counts.
 */
void x86_ticker_arm(struct x86_cpu *cpu, enum x86_tick which, u64 deadline);

#endif
