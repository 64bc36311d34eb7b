/* SPDX-License-Identifier: MIT */
/*
 * The VMX instructions other than VMLAUNCH/VMRESUME, as functions: operand
 * checks, error numbers, effects. Their encodings, #UD and CPL checks are in insn.c.
 * SDM vol. 3C "VMX Instruction Reference".
 */
#include "base/log.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/vmx_priv.h"

#define FEATURE_LOCKED BIT(0)
#define FEATURE_VMX BIT(2)

int vmx_fail(struct x86_cpu *cpu, unsigned error)
{
	struct vmcs *v = cpu->vmx.vmcs;

	if (!v)
		return VMX_FAIL_INVALID;
	V(v, INSN_ERROR) = error;
	return (int)error;
}

int vmx_vmxon_allowed(const struct x86_cpu *cpu)
{
	const u64 enabled = FEATURE_LOCKED | FEATURE_VMX;

	if (!x86_has(cpu, X86_FEAT_VMX) || !(cpu->cr4 & CR4_VMXE))
		return VMX_UD;
	if ((cpu->cr0 & VMX_CR0_FIXED0) != VMX_CR0_FIXED0 || cpu->cr0 & ~VMX_CR0_FIXED1 ||
	    cpu->cr4 & ~x86_cr4_allowed(cpu) || (cpu->feature_control & enabled) != enabled)
		return VMX_GP;
	return VMX_OK;
}

int x86_vmxon(struct x86_cpu *cpu, spa_t region)
{
	struct x86_vmx *x = &cpu->vmx;
	int r;

	BUG_ON(x->non_root);
	if (x->on)
		return vmx_fail(cpu, 15);
	r = vmx_vmxon_allowed(cpu);
	if (r != VMX_OK)
		return r;
	if (!vmx_addr_ok(cpu, region.v, 4096))
		return VMX_FAIL_INVALID;
	if (vmx_read32(region.v) != VMCS_REVISION)	/* bit 31 set is wrong, too */
		return VMX_FAIL_INVALID;
	x->on = true;
	x->vmxon_ptr = region.v;
	x->current = ~0ull;
	x->vmcs = NULL;
	return VMX_OK;
}

int x86_vmxoff(struct x86_cpu *cpu)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	BUG_ON(cpu->vmx.non_root);
	cpu->vmx.on = false;
	cpu->vmx.current = ~0ull;
	cpu->vmx.vmcs = NULL;
	return VMX_OK;
}

int x86_vmclear(struct x86_cpu *cpu, spa_t vmcs)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	if (!vmx_addr_ok(cpu, vmcs.v, 4096))
		return vmx_fail(cpu, 2);
	if (vmcs.v == cpu->vmx.vmxon_ptr)
		return vmx_fail(cpu, 3);
	vmx_write32(vmcs.v + offsetof(struct vmcs, launch), VMCS_CLEAR);
	if (cpu->vmx.current == vmcs.v) {
		cpu->vmx.current = ~0ull;
		cpu->vmx.vmcs = NULL;
	}
	return VMX_OK;
}

int x86_vmptrld(struct x86_cpu *cpu, spa_t vmcs)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	if (!vmx_addr_ok(cpu, vmcs.v, 4096))
		return vmx_fail(cpu, 9);
	if (vmcs.v == cpu->vmx.vmxon_ptr)
		return vmx_fail(cpu, 10);
	/* Bit 31 is legal: shadow VMCSs are supported. */
	if ((vmx_read32(vmcs.v) & ~VMCS_SHADOW) != VMCS_REVISION)
		return vmx_fail(cpu, 11);
	if (cpu->vmx.current != vmcs.v) {
		cpu->vmx.current = vmcs.v;
		cpu->vmx.vmcs = (struct vmcs *)vmcs.v;
		cpu->vmx.vmcs->dirty = VMCS_DIRTY_ALL;
	}
	return VMX_OK;
}

int x86_vmptrst(struct x86_cpu *cpu, spa_t *vmcs)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	*vmcs = SPA(cpu->vmx.current);
	return VMX_OK;
}

int x86_vmread(struct x86_cpu *cpu, u32 enc, u64 *val)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	if (!cpu->vmx.vmcs)
		return VMX_FAIL_INVALID;
	return vmcs_read(cpu->vmx.vmcs, enc, val) ? VMX_OK : vmx_fail(cpu, 12);
}

int x86_vmwrite(struct x86_cpu *cpu, u32 enc, u64 val)
{
	if (!cpu->vmx.on)
		return VMX_UD;
	if (!cpu->vmx.vmcs)
		return VMX_FAIL_INVALID;
	/* Read-only data fields may be written: IA32_VMX_MISC bit 29, so error 13 does not occur. */
	return vmcs_write(cpu->vmx.vmcs, enc, val) ? VMX_OK : vmx_fail(cpu, 12);
}

bool vmx_eptp_ok(const struct x86_cpu *cpu, u64 eptp)
{
	unsigned type = eptp & 7, walk = eptp >> 3 & 7;

	if (type != 0 && type != 6)
		return false;
	/* Bit 6: A/D flags are supported; bits 11:7 are reserved. */
	return (walk == 3 || walk == 4) && !(eptp & BITS(11, 7)) && !(eptp >> vmx_addr_bits(cpu));
}

enum { INVEPT_SINGLE = 1, INVEPT_ALL };

int x86_invept(struct x86_cpu *cpu, u64 type, const u64 desc[2])
{
	if (!cpu->vmx.on)
		return VMX_UD;
	switch (type) {
	case INVEPT_SINGLE:
		if (!vmx_eptp_ok(cpu, desc[0]))
			return vmx_fail(cpu, 28);
		x86_tlb_flush_ept(cpu, desc[0]);
		return VMX_OK;
	case INVEPT_ALL:
		x86_tlb_flush_ept(cpu, 0);
		return VMX_OK;
	default:
		return vmx_fail(cpu, 28);
	}
}

enum { INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_SINGLE_KEEP_GLOBAL };

int x86_invvpid(struct x86_cpu *cpu, u64 type, const u64 desc[2])
{
	u16 vpid;

	if (!cpu->vmx.on)
		return VMX_UD;
	if (type > INVVPID_SINGLE_KEEP_GLOBAL)
		return vmx_fail(cpu, 28);
	vpid = (u16)desc[0];
	if (desc[0] >> 16 || (type != INVVPID_ALL && !vpid))
		return vmx_fail(cpu, 28);
	switch (type) {
	case INVVPID_ADDRESS:
		if (!x86_canonical(cpu, desc[1]))
			return vmx_fail(cpu, 28);
		x86_tlb_flush_vpid_page(cpu, vpid, desc[1]);
		break;
	case INVVPID_SINGLE:
		x86_tlb_flush_vpid(cpu, vpid, false);
		break;
	case INVVPID_SINGLE_KEEP_GLOBAL:
		x86_tlb_flush_vpid(cpu, vpid, true);
		break;
	default:	/* VPID 0 is flushed along: allowed */
		x86_tlb_flush_vpid(cpu, 0xffffffff, false);
		break;
	}
	return VMX_OK;
}
