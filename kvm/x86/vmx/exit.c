// SPDX-License-Identifier: MIT
/*
 * VM exits, one handler per reason, in a table. A handler reads the exit fields
 * that its reason defines (SDM vol. 3C "VM-Exit Information Fields") and returns
 * 1 to enter the guest again, 0 to leave to user space, or a negative errno.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/mem.h"
#include "kvm/stats.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/pv.h"
#include "kvm/x86/vmx/exit.h"
#include "kvm/x86/x86.h"

#define KVM_EPERM 1

static const char *const exit_names[] = {
#define VMX_EXIT(nr, name, text) [nr] = text,
#include "spec/x86/vmx_exit.def"
#undef VMX_EXIT
};

const char *hv_vmx_exit_name(u32 reason)
{
	reason &= 0xffff;
	return reason < ARRAY_SIZE(exit_names) && exit_names[reason] ? exit_names[reason] : "UNKNOWN";
}

void hv_vmx_trace_exit(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	trace_emit(TRACE_kvm_exit,
		   "vcpu %u reason %s rip 0x%llx info1 0x%016llx info2 0x%016llx intr_info 0x%08x error_code 0x%08x",
		   v->id, hv_vmx_exit_name(x->exit_reason),
		   (unsigned long long)vmcs_get(v, VMCS_GUEST_RIP),
		   (unsigned long long)x->exit_qual, (unsigned long long)x->idt_vectoring,
		   x->exit_intr_info,
		   x->exit_intr_info & INTR_ERROR ? (u32)vmcs_get(v, VMCS_EXIT_INTR_ERROR) : 0);
}

int hv_internal_error(struct hv_vcpu *v, u32 suberror, unsigned ndata, const u64 *data)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = ndata;
	for (unsigned i = 0; i < ndata; i++)
		run->internal.data[i] = data[i];
	return 0;
}

static int unexpected_exit(struct hv_vcpu *v)
{
	const u64 data[2] = { v->x86->exit_reason, 0 };

	log_warn("vcpu %u: unexpected VM exit %u (%s)", v->id, v->x86->exit_reason,
		 hv_vmx_exit_name(v->x86->exit_reason));
	return hv_internal_error(v, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, 2, data);
}

int hv_vmx_entry_failure_exit(struct hv_vcpu *v)
{
	struct kvm_run *run = v->run;
	struct hv_vcpu_x86 *x = v->x86;

	log_info("vcpu %u: VM entry failed, exit reason 0x%x (%s), qualification 0x%llx, rip 0x%llx",
		 v->id, x->exit_reason, hv_vmx_exit_name(x->exit_reason),
		 (unsigned long long)vmcs_get(v, VMCS_EXIT_QUALIFICATION),
		 (unsigned long long)vmcs_get(v, VMCS_GUEST_RIP));
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = x->exit_reason;
	run->fail_entry.cpu = 0;
	return 0;
}

/* ---- Exceptions, interrupts ---- */

static int exit_debug(struct hv_vcpu *v)
{
	u64 dr6 = v->x86->exit_qual & DR6_VOLATILE;

	if (v->x86->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP))
		return hv_debug_exit(v, HV_DB, dr6 | DR6_FIXED_1, hv_linear_rip(v));
	/*
	 * The guest's own. A pending single step that the exit left in the shadow of
	 * STI or MOV SS needs BS in the pending debug exceptions: VM entry checks it.
	 */
	hv_queue_exception(v, HV_DB, false, 0, true, dr6);
	return 1;
}

static int exit_breakpoint(struct hv_vcpu *v)
{
	v->x86->event_insn_len = (u8)vmcs_get(v, VMCS_EXIT_INSN_LEN);
	return hv_debug_exit(v, HV_BP, x86_get_dr(v->cpu, 6), hv_linear_rip(v));
}

/*
 * A guest that calls with the other vendor's instruction (0F 01 D9 for 0F 01 C1):
 * KVM patches it in place unless the quirk is off. Only where the guest itself
 * could write.
 */
static bool fix_hypercall(struct hv_vcpu *v)
{
	static const u8 vmmcall[3] = { 0x0f, 0x01, 0xd9 }, vmcall[3] = { 0x0f, 0x01, 0xc1 };
	unsigned access = HV_WALK_WRITE | (hv_get_cpl(v) == 3 ? HV_WALK_USER : 0);
	u64 lin = hv_linear_rip(v), gpa;
	u8 insn[15];

	if ((v->vm->disabled_quirks & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) ||
	    (lin & ~PAGE_MASK) > PAGE_SIZE - sizeof(vmcall))
		return false;
	if (hv_fetch_insn(v, insn) < sizeof(vmmcall) || memcmp(insn, vmmcall, sizeof(vmmcall)))
		return false;
	return hv_walk(v, lin, access, &gpa) &&
	       hv_write_guest(v->vm, hv_as(v), gpa, vmcall, sizeof(vmcall)) == 0;
}

static int hv_vmx_exit_exception(struct hv_vcpu *v)
{
	u32 info = v->x86->exit_intr_info, error = 0;
	u8 vector = (u8)info;

	/* Physical NMIs and machine checks do not exist under a C program. */
	if (INTR_TYPE(info) == INTR_TYPE_NMI)
		return 1;
	if (info & INTR_ERROR)
		error = (u32)vmcs_get(v, VMCS_EXIT_INTR_ERROR);
	switch (vector) {
	case HV_DB:
		return exit_debug(v);
	case HV_BP:
		return exit_breakpoint(v);
	case HV_UD:
		if (unlikely(v->x86->smm) && hv_insn_is_rsm(v) && hv_leave_smm(v))
			return 1;
		if (!fix_hypercall(v))
			hv_queue_ud(v);
		return 1;
	default:
		v->run->exit_reason = KVM_EXIT_EXCEPTION;
		v->run->ex.exception = vector;
		v->run->ex.error_code = error;
		return 0;
	}
}

static int hv_vmx_exit_external_interrupt(struct hv_vcpu *v)
{
	hv_stat_inc(v, HV_STAT_irq_exits);
	return 1;
}

static int hv_vmx_exit_triple_fault(struct hv_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

static int hv_vmx_exit_interrupt_window(struct hv_vcpu *v)
{
	v->x86->irq_window = false;
	hv_vmx_set_proc(v, PROC_INTR_WINDOW_EXITING, false);
	hv_set_request(v, HV_REQ_EVENT);
	hv_stat_inc(v, HV_STAT_irq_window_exits);
	return 1;
}

static int hv_vmx_exit_nmi_window(struct hv_vcpu *v)
{
	v->x86->nmi_window = false;
	hv_vmx_set_proc(v, PROC_NMI_WINDOW_EXITING, false);
	hv_set_request(v, HV_REQ_EVENT);
	hv_stat_inc(v, HV_STAT_nmi_window_exits);
	return 1;
}

static int hv_vmx_exit_preemption_timer(struct hv_vcpu *v)
{
	return 1;	/* the next entry polls the timer */
}

/* ---- Instructions ---- */

static int hv_vmx_exit_hlt(struct hv_vcpu *v)
{
	int r = hv_skip_insn(v);

	return r <= 0 ? r : hv_vcpu_halt(v);
}

/* Caches do not exist. */
static int hv_vmx_exit_nop(struct hv_vcpu *v)
{
	return hv_skip_insn(v);
}

static int hv_vmx_exit_invlpg(struct hv_vcpu *v)
{
	const u64 desc[2] = { v->x86->vpid, v->x86->exit_qual };

	hv_stat_inc(v, HV_STAT_invlpg);
	/* 0: individual address; a non-canonical one was none of the TLB's. */
	if (x86_invvpid(v->cpu, 0, desc) != VMX_OK)
		hv_vmx_flush_guest_tlb(v);
	return hv_skip_insn(v);
}

static int hv_vmx_exit_rdpmc(struct hv_vcpu *v)
{
	u64 *gpr = x86_gprs(v->cpu), val;

	if (hv_pmu_rdpmc(v, (u32)gpr[X86_RCX], &val))
		return hv_complete_insn_gp(v, 1);
	gpr[X86_RAX] = (u32)val;
	gpr[X86_RDX] = val >> 32;
	return hv_skip_insn(v);
}

static int hv_vmx_exit_vmcall(struct hv_vcpu *v)
{
	bool long_mode = hv_is_64bit(v);
	u64 mask = long_mode ? ~0ull : 0xffffffffull;
	u64 nr = hv_get_gpr(v, X86_RAX) & mask;
	u64 a0 = hv_get_gpr(v, X86_RBX) & mask, a1 = hv_get_gpr(v, X86_RCX) & mask;
	u64 a2 = hv_get_gpr(v, X86_RDX) & mask, a3 = hv_get_gpr(v, X86_RSI) & mask;
	u64 ret;

	if (hyperv_takes_hypercalls(v))
		return hyperv_hypercall(v);
	hv_stat_inc(v, HV_STAT_hypercalls);
	trace(kvm_hypercall, "nr 0x%llx a0 0x%llx a1 0x%llx a2 0x%llx  a3 0x%llx", (unsigned long long)nr,
	      (unsigned long long)a0, (unsigned long long)a1, (unsigned long long)a2,
	      (unsigned long long)a3);
	if (hv_get_cpl(v) != 0)
		ret = (u64)-KVM_EPERM;
	else
		hv_hypercall(v, nr, a0, a1, a2, a3, long_mode, &ret);
	hv_set_gpr(v, X86_RAX, ret & mask);
	return hv_skip_insn(v);
}

/* VMX is not offered to guests: its instructions do not exist for them. */
static int hv_vmx_exit_ud(struct hv_vcpu *v)
{
	hv_queue_ud(v);
	return 1;
}

/*
 * MONITOR and MWAIT without the CPUID bit: KVM executes them as no-ops unless
 * the quirk is switched off.
 */
static int hv_vmx_exit_mwait(struct hv_vcpu *v)
{
	if ((v->vm->disabled_quirks & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) &&
	    !hv_guest_has(v, 1, 0, 2, 3)) {	/* ECX bit 3, which may follow IA32_MISC_ENABLE */
		hv_queue_ud(v);
		return 1;
	}
	return hv_skip_insn(v);
}

static int hv_vmx_exit_pause(struct hv_vcpu *v)
{
	hv_stat_inc(v, HV_STAT_directed_yield_attempted);
	sched_yield();
	return hv_skip_insn(v);
}

static int hv_vmx_exit_xsetbv(struct hv_vcpu *v)
{
	u64 val = (u32)hv_get_gpr(v, X86_RAX) | hv_get_gpr(v, X86_RDX) << 32;
	bool bad = (u32)hv_get_gpr(v, X86_RCX) != 0;

	return hv_complete_insn_gp(v, bad || hv_guest_set_xcr0(v, val));
}

/* ---- Control registers ---- */

static int set_cr8(struct hv_vcpu *v, u64 val)
{
	u64 old = hv_get_cr8(v);
	int r = hv_complete_insn_gp(v, hv_guest_set_cr8(v, val));

	/* A user-space APIC must hear when interrupts may have become deliverable. */
	if (r <= 0 || v->lapic || old <= (u8)val)
		return r;
	v->run->exit_reason = KVM_EXIT_SET_TPR;
	return 0;
}

static int write_cr(struct hv_vcpu *v, unsigned n, u64 val)
{
	trace(kvm_cr, "cr_write %x = 0x%llx", n, (unsigned long long)val);
	switch (n) {
	case 0:
		return hv_complete_insn_gp(v, hv_guest_set_cr0(v, val));
	case 3:
		return hv_complete_insn_gp(v, hv_guest_set_cr3(v, val));
	case 4:
		return hv_complete_insn_gp(v, hv_guest_set_cr4(v, val));
	case 8:
		return set_cr8(v, val);
	default:
		return unexpected_exit(v);
	}
}

static int read_cr(struct hv_vcpu *v, unsigned n, unsigned gpr)
{
	u64 val;

	if (n == 3)
		val = vmcs_get(v, VMCS_GUEST_CR3);
	else if (n == 8)
		val = hv_get_cr8(v);
	else
		return unexpected_exit(v);
	trace(kvm_cr, "cr_read %x = 0x%llx", n, (unsigned long long)val);
	hv_set_gpr(v, gpr, val);
	return hv_skip_insn(v);
}

static int hv_vmx_exit_cr(struct hv_vcpu *v)
{
	u64 q = v->x86->exit_qual, val;
	unsigned n = q & 15, gpr = (unsigned)bits_get(q, 11, 8);

	switch (bits_get(q, 5, 4)) {
	case 0:
		val = hv_get_gpr(v, gpr);
		return write_cr(v, n, hv_is_64bit(v) ? val : (u32)val);
	case 1:
		return read_cr(v, n, gpr);
	case 2:	/* CLTS */
		return hv_complete_insn_gp(v, hv_guest_set_cr0(v, hv_get_cr0(v) & ~CR0_TS));
	default: /* LMSW sets PE, MP, EM, TS and cannot clear PE */
		val = hv_get_cr0(v);
		val = (val & ~0xeull) | (bits_get(q, 31, 16) & 0xf);
		return hv_complete_insn_gp(v, hv_guest_set_cr0(v, val));
	}
}

/* ---- Memory ---- */

static int ept_fault(struct hv_vcpu *v, enum hv_fault f, u64 gpa)
{
	switch (f) {
	case HV_FAULT_RESUME:
		return 1;
	case HV_FAULT_MMIO:
		break;
	case HV_FAULT_EFAULT:
		return -EFAULT;
	case HV_FAULT_DIRTY_FULL:
		v->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
		return 0;
	}
	/* An event that is delivered through a device register: nothing can be emulated. */
	if (v->x86->idt_vectoring & INTR_VALID) {
		const u64 data[4] = { v->x86->idt_vectoring, v->x86->exit_reason,
				      v->x86->exit_qual, gpa };

		return hv_internal_error(v, KVM_INTERNAL_ERROR_DELIVERY_EV, 4, data);
	}
	hv_stat_inc(v, HV_STAT_pf_emulate);
	return hv_emulate_mmio(v, gpa);
}

static int hv_vmx_exit_ept_violation(struct hv_vcpu *v)
{
	u64 gpa = vmcs_get(v, VMCS_GUEST_PHYSICAL_ADDRESS);

	hv_stat_inc(v, HV_STAT_pf_taken);
	trace(kvm_page_fault, "vcpu %u rip 0x%llx address 0x%016llx error_code 0x%llx", v->id,
	      (unsigned long long)vmcs_get(v, VMCS_GUEST_RIP), (unsigned long long)gpa,
	      (unsigned long long)v->x86->exit_qual);
	return ept_fault(v, hv_mmu_fault(v, gpa, v->x86->exit_qual), gpa);
}

static int hv_vmx_exit_ept_misconfig(struct hv_vcpu *v)
{
	u64 gpa = vmcs_get(v, VMCS_GUEST_PHYSICAL_ADDRESS);

	return ept_fault(v, hv_mmu_misconfig(v, gpa), gpa);
}

static int hv_vmx_exit_pml_full(struct hv_vcpu *v)
{
	hv_mmu_flush_pml(v);
	return 1;
}

static int hv_vmx_exit_task_switch(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	unsigned reason = (unsigned)bits_get(x->exit_qual, 31, 30);
	bool has_error = false;
	u32 error = 0;

	if (reason == X86_TASK_GATE && (x->idt_vectoring & INTR_VALID)) {
		switch (INTR_TYPE(x->idt_vectoring)) {
		case INTR_TYPE_HARD:
		case INTR_TYPE_SOFT_EXC:
		case INTR_TYPE_PRIV_SOFT:
			has_error = x->idt_vectoring & INTR_ERROR;
			error = x->exception.error;
			x->exception.injected = false;
			break;
		case INTR_TYPE_NMI:
			x->nmi.injected = false;
			vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
				 vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) | INTERRUPTIBILITY_NMI);
			break;
		default:
			x->interrupt.injected = false;
			break;
		}
	}
	/* The task resumes behind the instruction that switched, hardware events aside. */
	if (reason != X86_TASK_GATE ||
	    INTR_TYPE(x->idt_vectoring) == INTR_TYPE_SOFT_INT ||
	    INTR_TYPE(x->idt_vectoring) == INTR_TYPE_SOFT_EXC ||
	    INTR_TYPE(x->idt_vectoring) == INTR_TYPE_PRIV_SOFT)
		vmcs_set(v, VMCS_GUEST_RIP,
			 vmcs_get(v, VMCS_GUEST_RIP) + vmcs_get(v, VMCS_EXIT_INSN_LEN));
	return hv_emulate_task_switch(v, (u16)x->exit_qual, reason, has_error, error);
}

typedef int (*exit_fn)(struct hv_vcpu *v);

/* What the controls do not ask for has no row. */
static const exit_fn handlers[] = {
	[VMX_EXIT_EXCEPTION_NMI] = hv_vmx_exit_exception,
	[VMX_EXIT_EXTERNAL_INTERRUPT] = hv_vmx_exit_external_interrupt,
	[VMX_EXIT_TRIPLE_FAULT] = hv_vmx_exit_triple_fault,
	[VMX_EXIT_INTERRUPT_WINDOW] = hv_vmx_exit_interrupt_window,
	[VMX_EXIT_NMI_WINDOW] = hv_vmx_exit_nmi_window,
	[VMX_EXIT_TASK_SWITCH] = hv_vmx_exit_task_switch,
	[VMX_EXIT_CPUID] = hv_exit_cpuid,
	[VMX_EXIT_HLT] = hv_vmx_exit_hlt,
	[VMX_EXIT_INVD] = hv_vmx_exit_nop,
	[VMX_EXIT_INVLPG] = hv_vmx_exit_invlpg,
	[VMX_EXIT_RDPMC] = hv_vmx_exit_rdpmc,
	[VMX_EXIT_VMCALL] = hv_vmx_exit_vmcall,
	[VMX_EXIT_VMCLEAR] = hv_vmx_exit_ud,
	[VMX_EXIT_VMLAUNCH] = hv_vmx_exit_ud,
	[VMX_EXIT_VMPTRLD] = hv_vmx_exit_ud,
	[VMX_EXIT_VMPTRST] = hv_vmx_exit_ud,
	[VMX_EXIT_VMREAD] = hv_vmx_exit_ud,
	[VMX_EXIT_VMRESUME] = hv_vmx_exit_ud,
	[VMX_EXIT_VMWRITE] = hv_vmx_exit_ud,
	[VMX_EXIT_VMXOFF] = hv_vmx_exit_ud,
	[VMX_EXIT_VMXON] = hv_vmx_exit_ud,
	[VMX_EXIT_CR_ACCESS] = hv_vmx_exit_cr,
	[VMX_EXIT_DR_ACCESS] = hv_exit_dr,
	[VMX_EXIT_IO_INSTRUCTION] = hv_exit_io,
	[VMX_EXIT_MSR_READ] = hv_exit_rdmsr,
	[VMX_EXIT_MSR_WRITE] = hv_exit_wrmsr,
	[VMX_EXIT_MWAIT_INSTRUCTION] = hv_vmx_exit_mwait,
	[VMX_EXIT_MONITOR_INSTRUCTION] = hv_vmx_exit_mwait,
	[VMX_EXIT_PAUSE_INSTRUCTION] = hv_vmx_exit_pause,
	[VMX_EXIT_EPT_VIOLATION] = hv_vmx_exit_ept_violation,
	[VMX_EXIT_EPT_MISCONFIG] = hv_vmx_exit_ept_misconfig,
	[VMX_EXIT_INVEPT] = hv_vmx_exit_ud,
	[VMX_EXIT_PREEMPTION_TIMER] = hv_vmx_exit_preemption_timer,
	[VMX_EXIT_INVVPID] = hv_vmx_exit_ud,
	[VMX_EXIT_WBINVD] = hv_vmx_exit_nop,
	[VMX_EXIT_XSETBV] = hv_vmx_exit_xsetbv,
	[VMX_EXIT_VMFUNC] = hv_vmx_exit_ud,
	[VMX_EXIT_PML_FULL] = hv_vmx_exit_pml_full,
};

int hv_vmx_handle_exit(struct hv_vcpu *v)
{
	u16 reason = (u16)v->x86->exit_reason;

	if (unlikely(reason >= ARRAY_SIZE(handlers) || !handlers[reason]))
		return unexpected_exit(v);
	return handlers[reason](v);
}
