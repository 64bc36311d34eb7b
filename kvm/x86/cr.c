// SPDX-License-Identifier: MIT
/*
 * Control registers, EFER and XCR0 of the guest: the checks that the
 * instruction would make, and how values are split between the VMCS register,
 * the mask and the read shadow. SDM vol. 3C "Guest/Host Masks and Read Shadows
 * for CR0 and CR4".
 */
#include "kvm/mem.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/x86.h"

/* What a guest may change without an exit. PE and PG stay ours: the mode depends on them. */
#define CR0_GUEST_OWNED (CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM)
#define CR4_GUEST_OWNED (CR4_PVI | CR4_TSD | CR4_DE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | \
			 CR4_PGE | CR4_FSGSBASE)
#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | \
		     CR0_NW | CR0_CD | CR0_PG)
/* Bits whose change invalidates translations: SDM vol. 3A "Operations that Invalidate TLBs". */
#define CR4_TLB_BITS (CR4_PGE | CR4_PSE | CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_LA57)

u64 hv_get_cr0(struct hv_vcpu *v)
{
	return (v->x86->cr0 & ~CR0_GUEST_OWNED) | (vmcs_get(v, VMCS_GUEST_CR0) & CR0_GUEST_OWNED);
}

u64 hv_get_cr4(struct hv_vcpu *v)
{
	u64 owned = v->x86->cr4_owned;

	return (v->x86->cr4 & ~owned) | (vmcs_get(v, VMCS_GUEST_CR4) & owned);
}

u64 hv_get_cr8(struct hv_vcpu *v)
{
	return v->lapic ? hv_lapic_get_cr8(v) : v->x86->cr8;
}

bool hv_is_prot(struct hv_vcpu *v)
{
	return v->x86->cr0 & CR0_PE;
}

void hv_load_cr0(struct hv_vcpu *v, u64 val)
{
	u64 old = v->x86->cr0;

	val |= CR0_ET;
	v->x86->cr0 = val;
	/* Caching does not exist here, and NE must be 1 in VMX operation. */
	vmcs_set(v, VMCS_GUEST_CR0, (val & ~(CR0_CD | CR0_NW)) | CR0_NE);
	vmcs_set(v, VMCS_CR0_MASK, ~CR0_GUEST_OWNED);
	vmcs_set(v, VMCS_CR0_SHADOW, val);
	if ((old ^ val) & (CR0_PG | CR0_WP))
		hv_vmx_flush_guest_tlb(v);
}

static u64 cr4_supported(struct hv_vcpu *v)
{
	const struct hv_guest_features *f = &v->x86->f;
	u64 ok = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
		 CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (f->c7_ecx & BIT(2))
		ok |= CR4_UMIP;
	if (f->c7_ecx & BIT(16))
		ok |= CR4_LA57;
	if (f->c7_ebx & BIT(0))
		ok |= CR4_FSGSBASE;
	if (f->c1_ecx & BIT(17))
		ok |= CR4_PCIDE;
	if (f->c1_ecx & BIT(26))
		ok |= CR4_OSXSAVE;
	if (f->c7_ebx & BIT(7))
		ok |= CR4_SMEP;
	if (f->c7_ebx & BIT(20))
		ok |= CR4_SMAP;
	if (f->c7_ecx & BIT(3))
		ok |= CR4_PKE;
	return ok;
}

bool hv_cr4_valid(struct hv_vcpu *v, u64 cr4)
{
	return !(cr4 & ~cr4_supported(v));
}

void hv_update_cr4_mask(struct hv_vcpu *v)
{
	u64 cr4 = hv_get_cr4(v);

	v->x86->cr4_owned = CR4_GUEST_OWNED & cr4_supported(v);
	vmcs_set(v, VMCS_CR4_MASK, ~v->x86->cr4_owned);
	hv_load_cr4(v, cr4);
}

void hv_load_cr4(struct hv_vcpu *v, u64 val)
{
	u64 old = v->x86->cr4;

	v->x86->cr4 = val;
	vmcs_set(v, VMCS_GUEST_CR4, val | CR4_VMXE);
	vmcs_set(v, VMCS_CR4_SHADOW, val);
	if ((old ^ val) & CR4_TLB_BITS)
		hv_vmx_flush_guest_tlb(v);
	if ((old ^ val) & (CR4_OSXSAVE | CR4_PKE))
		hv_cpuid_update_runtime(v);
}

static void set_entry_mode(struct hv_vcpu *v, bool long_mode)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 ctls = long_mode ? x->entry_ctls | ENTRY_IA32E_GUEST : x->entry_ctls & ~ENTRY_IA32E_GUEST;
	u32 tr;

	/*
	 * An exit stores LMA into this control, so the copy in x->entry_ctls is as good
	 * as the field: PG is ours and LMA changes by our hand alone.
	 */
	if (ctls != x->entry_ctls) {
		x->entry_ctls = ctls;
		vmcs_set(v, VMCS_ENTRY_CTLS, ctls);
	}
	if (!long_mode)
		return;
	/* VM entry to IA-32e mode wants a 64-bit busy TSS even before the guest loads one. */
	tr = (u32)vmcs_get(v, VMCS_GUEST_TR_AR);
	if ((tr & X86_AR_TYPE) != 0xb)
		vmcs_set(v, VMCS_GUEST_TR_AR, (tr & ~(X86_AR_TYPE | X86_AR_S | X86_AR_UNUSABLE)) |
			 0xb | X86_AR_P);
}

void hv_load_efer(struct hv_vcpu *v, u64 val)
{
	u64 old = vmcs_get(v, VMCS_GUEST_EFER);

	vmcs_set(v, VMCS_GUEST_EFER, val);
	set_entry_mode(v, val & EFER_LMA);
	if ((old ^ val) & (EFER_NXE | EFER_LMA))
		hv_vmx_flush_guest_tlb(v);
}

bool hv_efer_valid(struct hv_vcpu *v, u64 efer)
{
	const struct hv_guest_features *f = &v->x86->f;
	u64 ok = 0;

	if (f->x1_edx & BIT(11))
		ok |= EFER_SCE;
	if (f->x1_edx & BIT(20))
		ok |= EFER_NXE;
	if (f->x1_edx & BIT(29))
		ok |= EFER_LME | EFER_LMA;
	return !(efer & ~ok);
}

int hv_guest_set_efer(struct hv_vcpu *v, u64 val)
{
	u64 old = vmcs_get(v, VMCS_GUEST_EFER);

	if (!hv_efer_valid(v, val & ~EFER_LMA))
		return 1;
	if ((v->x86->cr0 & CR0_PG) && ((old ^ val) & EFER_LME))
		return 1;
	hv_load_efer(v, (val & ~EFER_LMA) | (old & EFER_LMA));
	return 0;
}

bool hv_load_pdptrs(struct hv_vcpu *v, u64 cr3)
{
	u64 pdpte[4], reserved = BITS(2, 1) | BITS(8, 5) | BITS(63, v->x86->f.physbits);

	if (hv_read_guest(v->vm, hv_as(v), cr3 & 0xffffffe0, pdpte, sizeof(pdpte)) < 0)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		if ((pdpte[i] & 1) && (pdpte[i] & reserved))
			return false;
	}
	for (unsigned i = 0; i < 4; i++)
		vmcs_set(v, VMCS_GUEST_PDPTE0 + 2 * i, pdpte[i]);
	return true;
}

int hv_guest_set_cr0(struct hv_vcpu *v, u64 val)
{
	u64 old = hv_get_cr0(v), cr4 = hv_get_cr4(v), efer = vmcs_get(v, VMCS_GUEST_EFER);

	val |= CR0_ET;
	if (val >> 32)
		return 1;
	val &= CR0_DEFINED;
	if ((val & CR0_NW) && !(val & CR0_CD))
		return 1;
	if ((val & CR0_PG) && !(val & CR0_PE))
		return 1;
	if (!(old & CR0_PG) && (val & CR0_PG)) {
		if (efer & EFER_LME) {
			if (!(cr4 & CR4_PAE) || (vmcs_get(v, VMCS_GUEST_CS_AR) & X86_AR_L))
				return 1;
		} else if ((cr4 & CR4_PAE) && !hv_load_pdptrs(v, vmcs_get(v, VMCS_GUEST_CR3))) {
			return 1;
		}
	} else if ((val & CR0_PG) && !(efer & EFER_LMA) && (cr4 & CR4_PAE) &&
		   ((old ^ val) & (CR0_CD | CR0_NW | CR0_PG))) {
		if (!hv_load_pdptrs(v, vmcs_get(v, VMCS_GUEST_CR3)))
			return 1;
	}
	if ((old & CR0_PG) && !(val & CR0_PG)) {
		if (cr4 & CR4_PCIDE)
			return 1;
		if ((efer & EFER_LMA) && (vmcs_get(v, VMCS_GUEST_CS_AR) & X86_AR_L))
			return 1;
	}
	hv_load_cr0(v, val);
	if ((old ^ val) & CR0_PG) {
		bool lma = (val & CR0_PG) && (efer & EFER_LME);

		if (lma != !!(efer & EFER_LMA))
			hv_load_efer(v, lma ? efer | EFER_LMA : efer & ~EFER_LMA);
	}
	return 0;
}

int hv_guest_set_cr3(struct hv_vcpu *v, u64 val)
{
	u64 efer = vmcs_get(v, VMCS_GUEST_EFER);

	if (hv_get_cr4(v) & CR4_PCIDE)
		val &= ~BIT(63);
	if (efer & EFER_LMA) {
		if (val & BITS(63, v->x86->f.physbits))
			return 1;
	} else if ((v->x86->cr0 & CR0_PG) && (v->x86->cr4 & CR4_PAE) && !hv_load_pdptrs(v, val)) {
		return 1;
	}
	vmcs_set(v, VMCS_GUEST_CR3, val);
	hv_vmx_flush_guest_tlb(v);
	return 0;
}

int hv_guest_set_cr4(struct hv_vcpu *v, u64 val)
{
	u64 old = hv_get_cr4(v), efer = vmcs_get(v, VMCS_GUEST_EFER);

	if (!hv_cr4_valid(v, val))
		return 1;
	if (efer & EFER_LMA) {
		if (!(val & CR4_PAE) || ((old ^ val) & CR4_LA57))
			return 1;
	} else if ((v->x86->cr0 & CR0_PG) && (val & CR4_PAE) &&
		   ((old ^ val) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP))) {
		if (!hv_load_pdptrs(v, vmcs_get(v, VMCS_GUEST_CR3)))
			return 1;
	}
	if ((val & CR4_PCIDE) && !(old & CR4_PCIDE)) {
		if (!(efer & EFER_LMA) || (vmcs_get(v, VMCS_GUEST_CR3) & 0xfff))
			return 1;
	}
	hv_load_cr4(v, val);
	return 0;
}

int hv_guest_set_cr8(struct hv_vcpu *v, u64 val)
{
	if (val & ~0xfull)
		return 1;
	if (v->lapic)
		hv_lapic_set_cr8(v, (u8)val);
	else
		v->x86->cr8 = val;
	return 0;
}

int hv_guest_set_xcr0(struct hv_vcpu *v, u64 val)
{
	/* The processor checks what depends on its model, we what depends on the guest's CPUID. */
	if (val & ~v->x86->f.xcr0)
		return 1;
	if (x86_set_xcr0(v->cpu, val) < 0)
		return 1;
	hv_cpuid_update_runtime(v);
	return 0;
}
