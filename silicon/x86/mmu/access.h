/* SPDX-License-Identifier: MIT */
/* Parts of a slow access that access.c and rmw.c share. */
#ifndef SILICON_X86_MMU_ACCESS_H
#define SILICON_X86_MMU_ACCESS_H

#include "silicon/x86/mmu/mmu_priv.h"
#include "silicon/x86/vmx/intercept.h"

/* An access of up to 4096 bytes: one or two pages. */
struct x86_span {
	struct x86_xlat x[2];
	unsigned len[2];
};

/* Non-canonical: #SS(0) for the stack segment, else #GP(0). */
void x86_check_linear(struct x86_cpu *cpu, unsigned seg, u64 lin, unsigned len);
/* #AC(0) where alignment checks are on. */
void x86_check_align(struct x86_cpu *cpu, u64 lin, unsigned align);
/* The TLB array of data accesses. */
unsigned x86_data_idx(const struct x86_cpu *cpu);
/* Translate all pages of the access; returns their number. @mask: where addresses wrap. */
unsigned x86_span_translate(struct x86_cpu *cpu, struct x86_span *s, u64 lin, unsigned len,
			    unsigned acc, unsigned idx, u64 mask);

#endif
