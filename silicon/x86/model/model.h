/* SPDX-License-Identifier: MIT */
/*
 * Processor models: what distinguishes one from another, as data. The tables
 * are spec/x86/feature.def (feature bits) and spec/x86/cpuid_*.def (the rest of
 * CPUID); behaviour that differs by vendor asks x86_is_amd().
 */
#ifndef SILICON_X86_MODEL_MODEL_H
#define SILICON_X86_MODEL_MODEL_H

#include "silicon/x86/cpu.h"

enum x86_vendor { X86_INTEL, X86_AMD };

struct x86_cpuid_row {
	u32 leaf, subleaf;	/* subleaf X86_ANY_SUBLEAF: the leaf has none */
	u32 reg[4];		/* EAX EBX ECX EDX */
};
#define X86_ANY_SUBLEAF 0xffffffffu

struct x86_model {
	const char *name;
	enum x86_vendor vendor;
	u8 physbits, linbits;
	u32 max_basic, max_extended;
	char brand[48];
	const struct x86_cpuid_row *rows;
	unsigned nr_rows;
};

/* State components that XSETBV accepts: bits of XCR0. */
u64 x86_xcr0_supported(const struct x86_cpu *cpu);
/* Bytes of an XSAVE area holding the components of @mask. */
unsigned x86_xsave_bytes(const struct x86_cpu *cpu, u64 mask, bool compacted);

/* Make @cpu one of @model: features and widths. Before the first reset. */
void x86_model_bind(struct x86_cpu *cpu, const struct x86_model *model);

static inline bool x86_is_amd(const struct x86_cpu *cpu)
{
	return cpu->model->vendor == X86_AMD;
}

#endif
