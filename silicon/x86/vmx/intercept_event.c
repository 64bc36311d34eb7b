/* SPDX-License-Identifier: MIT */
/*
 * Events that exit instead of being delivered: exceptions, triple faults, task
 * switches, EPT violations; and NMI blocking, which their information reports.
 *
 * SDM vol. 3C "Exceptions", "Other Causes of VM Exits", "Information for VM
 * Exits Due to Vectored Events".
 */
#include "silicon/x86/op.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

/* ---- NMI blocking ---- */

bool x86_vmx_nmi_blocked(struct x86_cpu *cpu)
{
	if (cpu->vmx.non_root && cpu->vmx.pin & PIN_VIRTUAL_NMIS)
		return cpu->vmx.virt_nmi_blocked;
	return cpu->nmi_blocked;
}

void x86_vmx_iret_unblock(struct x86_cpu *cpu)
{
	struct x86_vmx *x = &cpu->vmx;
	bool was = x86_vmx_nmi_blocked(cpu);

	if (!x->non_root) {
		cpu->nmi_blocked = false;
		return;
	}
	if (x->pin & PIN_VIRTUAL_NMIS)
		x->virt_nmi_blocked = false;
	else if (!(x->pin & PIN_NMI_EXITING))
		cpu->nmi_blocked = false;
	else
		return;
	/* Until the next boundary an exit reports that this IRET did it. */
	x->iret_unblocked = was;
	if (was)
		cpu->slow |= X86_SLOW_VMX_TRAP;
}

static bool report_unblocking(const struct x86_cpu *cpu)
{
	return cpu->vmx.iret_unblocked && !cpu->delivering;
}

/* ---- Exceptions ---- */

static bool intercepted(const struct x86_cpu *cpu, u8 vector, u32 error)
{
	const struct vmcs *v = cpu->vmx.vmcs;
	bool bit = cpu->vmx.exc_bitmap >> vector & 1;

	if (vector != X86_PF)
		return bit;
	return bit == ((error & V(v, PF_ERROR_MASK)) == V(v, PF_ERROR_MATCH));
}

void x86_icpt_exception(struct x86_cpu *cpu, u8 vector, u8 type, bool has_error, u32 error, u64 payload)
{
	struct vmcs *v = cpu->vmx.vmcs;
	u32 info;
	u64 qual = 0;

	if (!cpu->vmx.non_root)
		return;
	/* An APIC write of an instruction that faults is not emulated. */
	if (type == INTR_HARD && vector != X86_DB)
		cpu->vmx.apic_write = false;
	if (!intercepted(cpu, vector, error)) {
		cpu->vmx.injecting = false;
		vmx_mtf_step(cpu);
		return;
	}
	info = INTR_VALID | (u32)type << 8 | vector;
	if (has_error && cpu->cr0 & CR0_PE)
		info |= INTR_ERROR;
	if (type == INTR_HARD && vector != X86_DF && report_unblocking(cpu))
		info |= INTR_NMI_UNBLOCK;
	/* A #DF exits in its own right: it is the original event. */
	if (type == INTR_HARD && vector == X86_DF)
		cpu->delivering = 0;
	if (type == INTR_HARD && vector == X86_PF)
		qual = payload & cpu->lin_mask;
	else if (type == INTR_HARD && vector == X86_DB)
		qual = payload & (BITS(3, 0) | BIT(13) | BIT(14));
	if (type == INTR_INT1 || type == INTR_SOFT_EXC)
		V(v, EXIT_INSN_LEN) = (cpu->gpr[X86_REG_NEXT_RIP] - cpu->rip) & 0xf;
	vmx_exit_event(cpu, VMX_EXIT_EXCEPTION_NMI, qual, VMX_RF_KEEP, info, error & 0xffff);
}

void x86_icpt_triple_fault(struct x86_cpu *cpu)
{
	if (!cpu->vmx.non_root)
		return;
	cpu->delivering = 0;
	vmx_exit(cpu, VMX_EXIT_TRIPLE_FAULT, 0, VMX_RF_KEEP);
}

void x86_icpt_task_switch(struct x86_cpu *cpu, u16 tss_sel, unsigned reason)
{
	if (!cpu->vmx.non_root)
		return;
	/* By an instruction, or by one that raised the event; record_vectoring() has the latter. */
	if (!cpu->delivering)
		V(cpu->vmx.vmcs, EXIT_INSN_LEN) = (cpu->gpr[X86_REG_NEXT_RIP] - cpu->rip) & 0xf;
	vmx_exit(cpu, VMX_EXIT_TASK_SWITCH, tss_sel | (u64)reason << 30, VMX_RF_CLEAR);
}

/* ---- EPT ---- */

void x86_vmx_ept_exit(struct x86_cpu *cpu, u32 reason, u64 qual, u64 gpa, u64 lin, bool lin_valid)
{
	struct vmcs *v = cpu->vmx.vmcs;

	V(v, GUEST_PHYSICAL_ADDRESS) = gpa;
	if (lin_valid)
		V(v, GUEST_LINEAR_ADDRESS) = lin & cpu->lin_mask;
	if (reason != VMX_EXIT_EPT_MISCONFIG && report_unblocking(cpu))
		qual |= INTR_NMI_UNBLOCK;
	vmx_exit(cpu, reason, qual, VMX_RF_SET);
}
