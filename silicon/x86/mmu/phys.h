/* SPDX-License-Identifier: MIT */
/* Data at a translated address, inside one page: memory, APIC-access page or bus. */
#ifndef SILICON_X86_MMU_PHYS_H
#define SILICON_X86_MMU_PHYS_H

#include "silicon/x86/mmu/mmu_priv.h"

void x86_xlat_read(struct x86_cpu *cpu, const struct x86_xlat *x, void *buf, unsigned len);
/* Tells decode/ when the bytes belong to a page with decoded code. */
void x86_xlat_write(struct x86_cpu *cpu, const struct x86_xlat *x, const void *buf, unsigned len);
/* @len 1, 2, 4, 8, 16; *@old is replaced by what was found. Not for the APIC-access page. */
bool x86_xlat_cmpxchg(struct x86_cpu *cpu, const struct x86_xlat *x, void *old, const void *val, unsigned len);
/*
 * Copy with relaxed atomic accesses of 8 bytes, at the end 4, 2, 1: an aligned
 * operand of such a size moves as one; 16 bytes too where both are aligned.
 */
void x86_mem_copy(void *dst, const void *src, size_t len);
/* Locked, on plain memory of this process; unaligned but for 16 bytes; as above. */
bool x86_mem_cmpxchg(void *p, u64 old[2], const u64 val[2], unsigned len);

#endif
