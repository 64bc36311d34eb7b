/* SPDX-License-Identifier: MIT */
/*
 * What follows from CR0, EFER, RFLAGS, CPL and the segment registers: the mode, the
 * sizes and masks of addresses, which segments need no check, the TLB array.
 */
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/sys/sys_priv.h"

/* A usable segment of 4 GiB that grows up: no offset can violate its limit. */
static bool unlimited(const struct x86_segment *s)
{
	if (s->limit != 0xffffffff || (s->ar & (X86_AR_UNUSABLE | X86_AR_P)) != X86_AR_P)
		return false;
	return (s->ar & AR_CODE) || !(s->ar & AR_EXPAND_DOWN);
}

static enum x86_mode current_mode(const struct x86_cpu *cpu)
{
	if (!(cpu->cr0 & CR0_PE))
		return X86_MODE_REAL;
	if (x86_lma(cpu))
		return cpu->seg[X86_CS].ar & X86_AR_L ? X86_MODE_64 : X86_MODE_COMPAT;
	return cpu->rflags & RFLAGS_VM ? X86_MODE_VM86 : X86_MODE_PROT;
}

static enum x86_jit_mode jit_mode(const struct x86_cpu *cpu)
{
	const unsigned cs = 1u << X86_CS, data = 1u << X86_SS | 1u << X86_DS;

	if (cpu->mode == X86_MODE_64)
		return X86_JIT_64;
	if (!x86_prot(cpu) || cpu->ip_mask != 0xffffffff || cpu->sp_mask != 0xffffffff ||
	    ~cpu->seg_read_ok & (cs | data) || ~cpu->seg_write_ok & data ||
	    cpu->seg_base[X86_CS] | cpu->seg_base[X86_SS] | cpu->seg_base[X86_DS])
		return X86_JIT_NONE;
	return cpu->mode == X86_MODE_COMPAT ? X86_JIT_COMPAT : X86_JIT_PROT;
}

void x86_update_mode(struct x86_cpu *cpu)
{
	const struct x86_segment *cs = &cpu->seg[X86_CS];
	bool is64;

	x86_dry_refuse(cpu);
	cpu->mode = (u8)current_mode(cpu);
	is64 = cpu->mode == X86_MODE_64;
	if (cpu->mode == X86_MODE_REAL)
		cpu->cpl = 0;
	else if (cpu->mode == X86_MODE_VM86)
		cpu->cpl = 3;

	cpu->code_size = is64 ? 8 : cs->ar & X86_AR_DB ? 4 : 2;
	cpu->lin_mask = is64 ? ~0ull : 0xffffffff;
	cpu->ip_mask = is64 ? ~0ull : cs->ar & X86_AR_DB ? 0xffffffff : 0xffff;
	cpu->sp_mask = is64 ? ~0ull : cpu->seg[X86_SS].ar & X86_AR_DB ? 0xffffffff : 0xffff;

	cpu->seg_read_ok = cpu->seg_write_ok = 0;
	for (unsigned i = 0; i < X86_NR_SREGS; i++) {
		const struct x86_segment *s = &cpu->seg[i];

		cpu->seg_base[i] = is64 && i != X86_FS && i != X86_GS ? 0 : s->base;
		if (is64) {
			cpu->seg_read_ok |= 1u << i;
			cpu->seg_write_ok |= 1u << i;
		} else if (unlimited(s)) {
			/* Types do not count in real and virtual-8086 mode. */
			if (!x86_prot(cpu) || !(s->ar & AR_CODE) || (s->ar & AR_READABLE))
				cpu->seg_read_ok |= 1u << i;
			if (!x86_prot(cpu) || (s->ar & (AR_CODE | AR_WRITABLE)) == AR_WRITABLE)
				cpu->seg_write_ok |= 1u << i;
		}
	}

	cpu->jit_mode = (u8)jit_mode(cpu);
	mode_update_ac(cpu);
	if (unlikely(cpu->pmu.by_level))
		x86_pmu_level(cpu);
}

void mode_update_ac(struct x86_cpu *cpu)
{
	if (cpu->cpl == 3)
		cpu->mmu_idx = (cpu->cr0 & CR0_AM) && (cpu->rflags & RFLAGS_AC) ?
			       X86_MMU_USER_ALIGN : X86_MMU_USER;
	else
		cpu->mmu_idx = cpu->rflags & RFLAGS_AC ? X86_MMU_KERNEL_AC : X86_MMU_KERNEL;
	cpu->tlb = &cpu->tlbs[cpu->mmu_idx];
}
