/* SPDX-License-Identifier: MIT */
/*
 * Control registers, EFER and XCR0: every check that a write makes, and what it
 * changes. The instructions are in cr_insn.c.
 * SDM vol. 3A "Control Registers", vol. 2B "MOV - Move to/from Control Registers".
 */
#include "silicon/vmx.h"
#include "silicon/x86/sys/sys_priv.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | \
		     CR0_NW | CR0_CD | CR0_PG)
#define CR3_NO_FLUSH BIT(63)

/* CR4 bits and the feature that each needs. */
static const struct {
	u32 bit;
	u16 feat;
} cr4_bits[] = {
	{ CR4_VME | CR4_PVI, X86_FEAT_VME },
	{ CR4_TSD, X86_FEAT_TSC },
	{ CR4_DE, X86_FEAT_DE },
	{ CR4_PSE, X86_FEAT_PSE },
	{ CR4_PAE, X86_FEAT_PAE },
	{ CR4_MCE, X86_FEAT_MCE },
	{ CR4_PGE, X86_FEAT_PGE },
	{ CR4_PCE, X86_FEAT_NONE },
	{ CR4_OSFXSR, X86_FEAT_FXSR },
	{ CR4_OSXMMEXCPT, X86_FEAT_SSE },
	{ CR4_UMIP, X86_FEAT_UMIP },
	{ CR4_LA57, X86_FEAT_LA57 },
	{ CR4_VMXE, X86_FEAT_VMX },
	{ CR4_SMXE, X86_FEAT_SMX },
	{ CR4_FSGSBASE, X86_FEAT_FSGSBASE },
	{ CR4_PCIDE, X86_FEAT_PCID },
	{ CR4_OSXSAVE, X86_FEAT_XSAVE },
	{ CR4_SMEP, X86_FEAT_SMEP },
	{ CR4_SMAP, X86_FEAT_SMAP },
	{ CR4_PKE, X86_FEAT_PKU },
};

u64 x86_cr4_allowed(const struct x86_cpu *cpu)
{
	u64 v = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(cr4_bits); i++)
		if (x86_has(cpu, cr4_bits[i].feat))
			v |= cr4_bits[i].bit;
	return v;
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* Bits that VMX operation fixes to 1: SDM "Restrictions on VMX Operation". */
static bool vmx_cr0_ok(const struct x86_cpu *cpu, u64 v)
{
	u64 must = CR0_PE | CR0_NE | CR0_PG;

	if (!cpu->vmx.on)
		return true;
	if (cpu->vmx.non_root && (cpu->vmx.proc2 & PROC2_UNRESTRICTED_GUEST))
		must = CR0_NE;
	return (v & must) == must;
}

bool x86_write_cr0(struct x86_cpu *cpu, u64 v)
{
	u64 old = cpu->cr0, efer = cpu->efer;
	bool paging_on = (v & CR0_PG) && !(old & CR0_PG);
	bool paging_off = !(v & CR0_PG) && (old & CR0_PG);

	if (v >> 32)
		return false;
	v = (v & CR0_DEFINED) | CR0_ET;
	if (((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
		return false;
	if (!vmx_cr0_ok(cpu, v))
		return false;
	if (paging_on && (efer & EFER_LME)) {
		unsigned tr = cpu->seg[X86_TR].ar & X86_AR_TYPE;

		if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[X86_CS].ar & X86_AR_L) ||
		    tr == TYPE_TSS16_AVAIL || tr == TYPE_TSS16_BUSY)
			return false;
		efer |= EFER_LMA;
	}
	if (paging_off) {
		if (x86_in_64(cpu) || (cpu->cr4 & CR4_PCIDE))
			return false;
		efer &= ~EFER_LMA;
	}
	if (((v ^ old) & (CR0_PG | CR0_CD | CR0_NW)) && pae_paging(v, cpu->cr4, efer) &&
	    !x86_load_pdptes(cpu, cpu->cr3))
		return false;

	cpu->cr0 = v;
	cpu->efer = efer;
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	if (paging_off)
		x86_tlb_flush_all(cpu);
	return true;
}

bool x86_write_cr3(struct x86_cpu *cpu, u64 v)
{
	bool pcide = cpu->cr4 & CR4_PCIDE;
	bool no_flush = pcide && (v & CR3_NO_FLUSH);

	if (pcide)
		v &= ~CR3_NO_FLUSH;
	if (v >> cpu->physbits)
		return false;
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && !x86_load_pdptes(cpu, v))
		return false;

	cpu->cr3 = v;
	x86_tlb_switch(cpu);
	if (!pcide)
		x86_tlb_flush_nonglobal(cpu);
	else if (!no_flush)
		x86_tlb_flush_pcid(cpu, v & 0xfff);
	return true;
}

bool x86_write_cr4(struct x86_cpu *cpu, u64 v)
{
	u64 changed = v ^ cpu->cr4;

	if (v & ~x86_cr4_allowed(cpu))
		return false;
	if (x86_lma(cpu) && ((changed & CR4_LA57) || !(v & CR4_PAE)))
		return false;
	if ((v & changed & CR4_PCIDE) && (!x86_lma(cpu) || (cpu->cr3 & 0xfff)))
		return false;
	if (cpu->vmx.on && !(v & CR4_VMXE))
		return false;
	if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) &&
	    pae_paging(cpu->cr0, v, cpu->efer) && !x86_load_pdptes(cpu, cpu->cr3))
		return false;

	cpu->cr4 = v;
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	if ((changed & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57)) || (v & changed & CR4_SMEP) ||
	    (~v & changed & CR4_PCIDE))
		x86_tlb_flush_all(cpu);
	return true;
}

bool x86_write_efer(struct x86_cpu *cpu, u64 v)
{
	u64 allowed = EFER_LMA;

	if (x86_has(cpu, X86_FEAT_SYSCALL))
		allowed |= EFER_SCE;
	if (x86_has(cpu, X86_FEAT_LM))
		allowed |= EFER_LME;
	if (x86_has(cpu, X86_FEAT_NX))
		allowed |= EFER_NXE;
	if (v & ~allowed)
		return false;
	if (((v ^ cpu->efer) & EFER_LME) && x86_paging(cpu))
		return false;
	cpu->efer = (v & ~EFER_LMA) | (cpu->efer & EFER_LMA);
	x86_tlb_switch(cpu);
	return true;
}

u64 x86_get_cr2(struct x86_cpu *cpu)
{
	return cpu->cr2;
}

void x86_set_cr2(struct x86_cpu *cpu, u64 v)
{
	cpu->cr2 = v;
}

u64 x86_get_cr8(struct x86_cpu *cpu)
{
	return cpu->tpr >> 4;
}

void x86_set_cr8(struct x86_cpu *cpu, u64 v)
{
	cpu->tpr = (u8)(v << 4);
}

u64 x86_get_xcr0(struct x86_cpu *cpu)
{
	return cpu->xcr0;
}

int x86_set_xcr0(struct x86_cpu *cpu, u64 v)
{
	if (!(v & 1) || (v & ~x86_xcr0_supported(cpu)) || (v & 6) == 4)
		return -1;
	cpu->xcr0 = v;
	return 0;
}

u32 x86_get_pkru(struct x86_cpu *cpu)
{
	return cpu->pkru;
}

void x86_set_pkru(struct x86_cpu *cpu, u32 v)
{
	cpu->pkru = v;
	x86_tlb_switch(cpu);
}
