/* SPDX-License-Identifier: MIT */
/*
 * CPUID: a leaf is its row, its feature words, and what depends on the state of
 * the processor. SDM vol. 2A "CPUID"; APM vol. 3 appendix E.
 */
#include <string.h>

#include "silicon/x86/model/model.h"

enum { EAX, EBX, ECX, EDX };

/* Which register of which leaf a feature word is. */
static const struct {
	u32 leaf, subleaf;
	u8 reg;
} words[X86_NR_FEAT_WORDS] = {
	[X86_W_1C] = { 1, X86_ANY_SUBLEAF, ECX },
	[X86_W_1D] = { 1, X86_ANY_SUBLEAF, EDX },
	[X86_W_6A] = { 6, X86_ANY_SUBLEAF, EAX },
	[X86_W_7B] = { 7, 0, EBX },
	[X86_W_7C] = { 7, 0, ECX },
	[X86_W_7D] = { 7, 0, EDX },
	[X86_W_7A1] = { 7, 1, EAX },
	[X86_W_AA] = { 0xa, X86_ANY_SUBLEAF, EAX },
	[X86_W_DA1] = { 0xd, 1, EAX },
	[X86_W_X1C] = { 0x80000001, X86_ANY_SUBLEAF, ECX },
	[X86_W_X1D] = { 0x80000001, X86_ANY_SUBLEAF, EDX },
	[X86_W_X7D] = { 0x80000007, X86_ANY_SUBLEAF, EDX },
	[X86_W_X8B] = { 0x80000008, X86_ANY_SUBLEAF, EBX },
};

static const struct x86_cpuid_row *find_row(const struct x86_model *m, u32 leaf, u32 subleaf)
{
	for (unsigned i = 0; i < m->nr_rows; i++)
		if (m->rows[i].leaf == leaf &&
		    (m->rows[i].subleaf == X86_ANY_SUBLEAF || m->rows[i].subleaf == subleaf))
			return &m->rows[i];
	return NULL;
}

#define XSTATE_SSE BIT(1)
#define XSTATE_AVX BIT(2)
#define XSTATE_PKRU BIT(9)
#define XSAVE_LEGACY_AND_HEADER (512 + 64)

u64 x86_xcr0_supported(const struct x86_cpu *cpu)
{
	return 1 | XSTATE_SSE | (x86_has(cpu, X86_FEAT_AVX) ? XSTATE_AVX : 0) |
	       (x86_has(cpu, X86_FEAT_PKU) ? XSTATE_PKRU : 0);
}

unsigned x86_xsave_bytes(const struct x86_cpu *cpu, u64 mask, bool compacted)
{
	unsigned end = XSAVE_LEGACY_AND_HEADER;

	for (unsigned i = 2; i < 63; i++) {
		const struct x86_cpuid_row *row;

		if (!(mask & BIT(i)))
			continue;
		row = find_row(cpu->model, 0xd, i);
		if (row)
			end = (compacted ? end : row->reg[EBX]) + row->reg[EAX];
	}
	return end;
}

/* One thread in one core in one package: levels 0 and 1 exist. */
static void topology_leaf(const struct x86_cpu *cpu, u32 subleaf, u32 out[4])
{
	out[EBX] = subleaf < 2;
	out[ECX] = (subleaf & 0xff) | (subleaf < 2 ? (subleaf + 1) << 8 : 0);
	out[EDX] = cpu->apic_id;
}

static void fill_dynamic(struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
	const struct x86_model *m = cpu->model;

	switch (leaf) {
	case 1:
		out[EBX] |= cpu->apic_id << 24;
		if (cpu->cr4 & CR4_OSXSAVE)
			out[ECX] |= 1u << 27;
		if (!(cpu->apic_base & BIT(11)))
			out[EDX] &= ~(1u << 9);
		break;
	case 7:
		if (subleaf == 0 && (cpu->cr4 & CR4_PKE))
			out[ECX] |= 1u << 4;
		break;
	case 0xb:
	case 0x1f:
		if (leaf <= m->max_basic)
			topology_leaf(cpu, subleaf, out);
		break;
	case 0xd:
		if (subleaf == 0) {
			out[EAX] = (u32)x86_xcr0_supported(cpu);
			out[EBX] = x86_xsave_bytes(cpu, cpu->xcr0, false);
			out[ECX] = x86_xsave_bytes(cpu, x86_xcr0_supported(cpu), false);
		} else if (subleaf == 1) {
			out[EBX] = x86_xsave_bytes(cpu, cpu->xcr0 | cpu->xss, true);
		} else if (subleaf < 63 && !(x86_xcr0_supported(cpu) & BIT(subleaf))) {
			memset(out, 0, 4 * sizeof(*out));
		}
		break;
	case 0x15:
		if (out[EAX])
			out[EBX] = x86_tsc_khz();
		break;
	case 0x16:
		if (out[ECX])
			out[EAX] = out[EBX] = x86_tsc_khz() / 1000;
		break;
	case 0x80000001:
		if (x86_is_amd(cpu)) {
			/* AMD repeats these bits of leaf 1. */
			out[EDX] |= cpu->feat[X86_W_1D] & 0x0183f3ff;
			if (!(cpu->apic_base & BIT(11)))
				out[EDX] &= ~(1u << 9);
		} else if (!x86_in_64(cpu)) {
			/* SDM: SYSCALL/SYSRET are "available when in 64-bit mode". */
			out[EDX] &= ~(1u << 11);
		}
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		memcpy(out, m->brand + (leaf - 0x80000002) * 16, 16);
		break;
	case 0x80000008:
		out[EAX] = (u32)m->linbits << 8 | m->physbits;
		break;
	case 0x8000001e:
		if (x86_is_amd(cpu)) {
			out[EAX] = cpu->apic_id;
			out[EBX] = cpu->apic_id & 0xff;
		}
		break;
	}
}

void x86_cpuid(struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
	const struct x86_model *m = cpu->model;
	const struct x86_cpuid_row *row;
	bool extended = leaf >= 0x80000000;

	memset(out, 0, 4 * sizeof(*out));
	if (extended ? leaf > m->max_extended : leaf > m->max_basic) {
		/* Intel answers with the highest basic leaf, AMD with zeros. */
		if (x86_is_amd(cpu))
			return;
		leaf = m->max_basic;
	}
	row = find_row(m, leaf, subleaf);
	if (row)
		memcpy(out, row->reg, sizeof(row->reg));
	for (unsigned w = 0; w < X86_NR_FEAT_WORDS; w++)
		if (words[w].leaf == leaf &&
		    (words[w].subleaf == X86_ANY_SUBLEAF || words[w].subleaf == subleaf))
			out[words[w].reg] |= cpu->feat[w];
	fill_dynamic(cpu, leaf, subleaf, out);
}
