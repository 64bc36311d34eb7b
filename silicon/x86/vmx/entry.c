/* SPDX-License-Identifier: MIT */
/*
 * VM entry: from VMLAUNCH/VMRESUME to the guest's first boundary. The checks
 * are in entry_check.c; events pending at the first boundary in boundary.c.
 *
 * The event to inject is not delivered here but at that boundary, inside the
 * run loop: its delivery may fault or exit, and both unwind to there.
 *
 * SDM vol. 3C "VM Entries".
 */
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/run.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

/* CR0 bits that VM entries and exits leave alone. */
#define CR0_KEPT (CR0_ET | BITS(15, 6) | BIT(17) | BITS(28, 19) | CR0_NW | CR0_CD)

static void load_dr7(struct x86_cpu *cpu, u64 dr7)
{
	bool enabled = (cpu->dr7 | dr7) & 0xff;

	cpu->dr7 = dr7;
	if (enabled)
		x86_debug_update(cpu);
}

/* Cache the controls in their gated form. */
static void load_controls(struct x86_cpu *cpu, const struct vmcs *v)
{
	struct x86_vmx *x = &cpu->vmx;

	x->pin = (u32)V(v, PIN_BASED_CTLS);
	x->proc = (u32)V(v, PROC_BASED_CTLS);
	x->proc2 = vmx_proc2(v);
	x->proc3 = 0;
	x->exitc = (u32)V(v, EXIT_CTLS);
	x->entryc = (u32)V(v, ENTRY_CTLS);
	x->exc_bitmap = (u32)V(v, EXCEPTION_BITMAP);
	x->eptp = x->proc2 & PROC2_EPT ? V(v, EPT_POINTER) : 0;
	x->vpid = x->proc2 & PROC2_VPID ? (u16)V(v, VPID) : 0;
	x->tsc_offset = x->proc & PROC_TSC_OFFSETTING ? V(v, TSC_OFFSET) : 0;
	x->tsc_mult = (x->proc & PROC_TSC_OFFSETTING) && (x->proc2 & PROC2_TSC_SCALING) ?
		      V(v, TSC_MULTIPLIER) : 0;
	x->virt_apic = x->proc & PROC_TPR_SHADOW ? V(v, VIRT_APIC_ADDR) : 0;
	x->apic_access = x->proc2 & PROC2_VIRT_APIC_ACCESSES ? V(v, APIC_ACCESS_ADDR) : ~0ull;
}

static void load_segments(struct x86_cpu *cpu, const struct vmcs *v)
{
	for (unsigned i = 0; i < X86_NR_SEGS; i++)
		cpu->seg[i] = (struct x86_segment){
			.base = V_SEG(v, BASE, i),
			.limit = (u32)V_SEG(v, LIMIT, i),
			.ar = (u32)V_SEG(v, AR, i),
			.sel = (u16)V_SEG(v, SEL, i),
		};
	cpu->gdtr.base = V(v, GUEST_GDTR_BASE);
	cpu->gdtr.limit = (u16)V(v, GUEST_GDTR_LIMIT);
	cpu->idtr.base = V(v, GUEST_IDTR_BASE);
	cpu->idtr.limit = (u16)V(v, GUEST_IDTR_LIMIT);
	/* The CPL is SS.DPL, even of an unusable SS. */
	cpu->cpl = X86_AR_DPL(cpu->seg[X86_SS].ar);
}

static void load_control_registers(struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 entryc = cpu->vmx.entryc;

	cpu->cr0 = (V(v, GUEST_CR0) & ~CR0_KEPT) | (cpu->cr0 & CR0_KEPT);
	cpu->cr3 = V(v, GUEST_CR3);
	cpu->cr4 = V(v, GUEST_CR4);
	if (entryc & ENTRY_LOAD_DEBUG) {
		load_dr7(cpu, (V(v, GUEST_DR7) & ~(BIT(15) | BIT(14) | BIT(12))) | BIT(10));
		cpu->debugctl = V(v, GUEST_DEBUGCTL);
	}
	cpu->sysenter_cs = (u32)V(v, GUEST_SYSENTER_CS);
	cpu->sysenter_esp = V(v, GUEST_SYSENTER_ESP);
	cpu->sysenter_eip = V(v, GUEST_SYSENTER_EIP);
	if (entryc & ENTRY_LOAD_EFER) {
		cpu->efer = V(v, GUEST_EFER);
	} else {
		bool ia32e = entryc & ENTRY_IA32E_GUEST;

		/* An unpaged guest inherits the host's LME. */
		cpu->efer &= ~(EFER_LMA | (cpu->cr0 & CR0_PG ? EFER_LME : 0));
		cpu->efer |= ia32e ? EFER_LMA | EFER_LME : 0;
	}
	if (entryc & ENTRY_LOAD_PAT)
		cpu->pat = V(v, GUEST_PAT);
	if (entryc & ENTRY_LOAD_PERF_GLOBAL)
		x86_pmu_set_global_ctrl(cpu, V(v, GUEST_PERF_GLOBAL_CTRL));
}

static bool pae_guest(const struct x86_cpu *cpu)
{
	return x86_paging(cpu) && (cpu->cr4 & CR4_PAE) && !x86_lma(cpu);
}

static void load_non_register(struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 block = (u32)V(v, GUEST_INTERRUPTIBILITY);
	u32 slow = cpu->slow & (X86_SLOW_IBP | X86_SLOW_PMU | X86_SLOW_TF | X86_SLOW_RF);

	if (block & BLOCK_STI)
		slow |= X86_SLOW_SHADOW_STI;
	if (block & BLOCK_SS)
		slow |= X86_SLOW_SHADOW_SS;
	if (cpu->vmx.pin & PIN_VIRTUAL_NMIS) {
		cpu->vmx.virt_nmi_blocked = block & BLOCK_NMI;
		cpu->nmi_blocked = false;
	} else {
		cpu->nmi_blocked = block & BLOCK_NMI;
	}
	cpu->pending_db = V(v, GUEST_PENDING_DEBUG);
	if (cpu->pending_db & (PDB_ENABLED | PDB_BS))
		slow |= X86_SLOW_DB_PENDING;
	cpu->activity = (u8)V(v, GUEST_ACTIVITY);
	if (cpu->activity != X86_ACT_ACTIVE)
		slow |= X86_SLOW_HALTED;
	cpu->slow = slow;
}

/* What must be looked at before the first instruction. SDM "Special Features of VM Entry". */
static void arm_boundary(struct x86_cpu *cpu, const struct vmcs *v)
{
	struct x86_vmx *x = &cpu->vmx;
	u32 info = (u32)V(v, ENTRY_INTR_INFO), slow = 0;

	x->inject_due = info & INTR_VALID;
	x->injecting = x->iret_unblocked = x->apic_write = x->tpr_check = false;
	x->ple_first = x->ple_last = 0;
	x->mtf = VMX_MTF_OFF;
	if (x->proc & PROC_MONITOR_TRAP_FLAG) {
		x->mtf = VMX_MTF_ARMED;
		x->mtf_insns = cpu->insn_count;
		x->mtf_rip = cpu->rip;
	}
	if (x->inject_due && INTR_TYPE(info) == INTR_OTHER) {
		x->inject_due = false;
		x->mtf = VMX_MTF_PENDING;
	}
	if (x->proc & PROC_TPR_SHADOW && x->proc2 & PROC2_VIRT_APIC_ACCESSES &&
	    !(x->proc2 & PROC2_VIRT_INTR_DELIVERY))
		x->tpr_check = true;
	if (x->inject_due || x->tpr_check)
		slow |= X86_SLOW_VMX_TRAP;
	if (x->mtf != VMX_MTF_OFF)
		slow |= X86_SLOW_MTF;
	x->vintr = false;
	x->timer_deadline = 0;
	if (x->pin & PIN_PREEMPTION_TIMER)
		x->timer_deadline = ((__rdtsc() >> VMX_TIMER_SHIFT) + V(v, PREEMPTION_TIMER_VALUE))
				    << VMX_TIMER_SHIFT;
	/* A timer that starts above zero is left to whoever looks at the clock: x86_vmx_timer_poll(), the ticker. */
	if ((x->timer_deadline && !V(v, PREEMPTION_TIMER_VALUE)) ||
	    x->proc & (PROC_INTR_WINDOW_EXITING | PROC_NMI_WINDOW_EXITING))
		vmx_poll_boundaries(cpu);
	cpu->slow |= slow;
}

static void load_guest(struct x86_cpu *cpu, struct vmcs *v)
{
	load_controls(cpu, v);
	cpu->vmx.non_root = true;
	load_control_registers(cpu, v);
	load_segments(cpu, v);
	x86_set_rflags(cpu, V(v, GUEST_RFLAGS));
	cpu->gpr[X86_RSP] = V(v, GUEST_RSP);
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP] = V(v, GUEST_RIP);
	load_non_register(cpu, v);
	cpu->vmx.stale = false;
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	if (!cpu->vmx.vpid)
		x86_tlb_flush_vpid(cpu, 0, false);
}

/* SDM "VM Entries" and the instruction's own conditions; @cpu is in VMX root operation. */
static int check_instruction(struct x86_cpu *cpu, bool launch)
{
	struct vmcs *v = cpu->vmx.vmcs;

	if (!v || v->revision & VMCS_SHADOW)
		return VMX_FAIL_INVALID;
	if (cpu->slow & X86_SLOW_SHADOW_SS)
		return vmx_fail(cpu, 26);
	if (launch && v->launch != VMCS_CLEAR)
		return vmx_fail(cpu, 4);
	if (!launch && v->launch != VMCS_LAUNCHED)
		return vmx_fail(cpu, 5);
	if (!vmx_check_controls(cpu, v))
		return vmx_fail(cpu, 7);
	if (!vmx_check_host(cpu, v))
		return vmx_fail(cpu, 8);
	return VMX_OK;
}

int vmx_entry(struct x86_cpu *cpu, bool launch)
{
	struct vmcs *v = cpu->vmx.vmcs;
	int r = check_instruction(cpu, launch);
	u32 bad;

	if (r != VMX_OK)
		return r;
	r = vmx_check_guest(cpu, v);
	if (r != VMX_GUEST_OK) {
		load_controls(cpu, v);
		vmx_entry_failed(cpu, VMX_EXIT_INVALID_STATE, (u64)r);
		return VMX_OK;
	}
	load_guest(cpu, v);
	if (pae_guest(cpu)) {
		if (!cpu->vmx.eptp && !x86_load_pdptes(cpu, cpu->cr3)) {
			vmx_entry_failed(cpu, VMX_EXIT_INVALID_STATE, 2);
			return VMX_OK;
		}
		for (unsigned i = 0; cpu->vmx.eptp && i < 4; i++)
			cpu->pdpte[i] = v->f[VS_GUEST_PDPTE0 + i];
	}
	if (V(v, ENTRY_MSR_LOAD_COUNT)) {
		bad = vmx_msr_load(cpu, V(v, ENTRY_MSR_LOAD_ADDR), (u32)V(v, ENTRY_MSR_LOAD_COUNT));
		if (bad) {
			vmx_entry_failed(cpu, VMX_EXIT_MSR_LOAD_FAIL, bad);
			return VMX_OK;
		}
	}
	v->launch = VMCS_LAUNCHED;
	arm_boundary(cpu, v);
	if (cpu->vmx.proc2 & PROC2_VIRT_INTR_DELIVERY)
		vmx_vapic_entry(cpu);
	return VMX_OK;
}

/*
 * SDM "Event Injection". Software events push the RIP behind the instruction
 * that the host says was there; the saved RIP of a nested event is without it.
 */
void vmx_inject(struct x86_cpu *cpu)
{
	struct vmcs *v = cpu->vmx.vmcs;
	u32 info = (u32)V(v, ENTRY_INTR_INFO);
	u8 type = INTR_TYPE(info);
	u64 rip = cpu->rip;

	cpu->vmx.inject_due = false;
	cpu->vmx.injecting = true;
	cpu->vmx.inject_len = (u8)V(v, ENTRY_INSN_LEN);
	if (type == INTR_SOFT_INT || type == INTR_INT1 || type == INTR_SOFT_EXC) {
		rip += cpu->vmx.inject_len;
		if (!x86_in_64(cpu))
			rip = (u32)rip;
	}
	cpu->activity = X86_ACT_ACTIVE;
	cpu->pending_db = 0;
	cpu->slow &= ~(X86_SLOW_HALTED | SLOW_SHADOWS | X86_SLOW_DB_PENDING);
	if (type == INTR_NMI) {
		if (cpu->vmx.pin & PIN_VIRTUAL_NMIS)
			cpu->vmx.virt_nmi_blocked = true;
		else
			cpu->nmi_blocked = true;
	}
	vmx_mtf_step(cpu);
	x86_deliver(cpu, (u8)info, type, info & INTR_ERROR, (u32)V(v, ENTRY_ERROR_CODE), rip);
	cpu->vmx.injecting = false;
}

/* Does the entry itself read memory that might be gone? */
static bool entry_reads_memory(const struct vmcs *v)
{
	return v && ((V(v, PROC_BASED_CTLS) & PROC_TPR_SHADOW) || V(v, ENTRY_MSR_LOAD_COUNT) ||
		     V(v, LINK_POINTER) != ~0ull || !(vmx_proc2(v) & PROC2_EPT));
}

/* vmx_entry() outside a run loop: a host fault makes it VMX_BUS_ERROR. */
static int guarded_entry(struct x86_cpu *cpu, bool launch)
{
	sigjmp_buf here, *volatile outer = cpu->unwind;
	struct x86_cpu *volatile outer_cpu = x86_access_begin(cpu);
	int r;

	cpu->unwind = &here;
	if (sigsetjmp(here, 0))
		r = VMX_BUS_ERROR;
	else
		r = vmx_entry(cpu, launch);
	x86_access_end(cpu, outer_cpu);
	cpu->unwind = outer;
	return r;
}

int x86_vmenter(struct x86_cpu *cpu, bool launch, spa_t *bad)
{
	int r;

	if (!cpu->vmx.on)
		return VMX_UD;
	cpu->vmx.from_c = true;
	r = entry_reads_memory(cpu->vmx.vmcs) ? guarded_entry(cpu, launch) : vmx_entry(cpu, launch);
	if (r == VMX_OK && cpu->vmx.non_root && x86_run_guest(cpu) != 0)
		r = VMX_BUS_ERROR;
	if (r == VMX_BUS_ERROR) {
		*bad = SPA(cpu->fault.payload);
		if (cpu->vmx.non_root)
			vmx_leave_guest(cpu);
	}
	cpu->vmx.from_c = false;
	return cpu->vmx.aborted ? VMX_ABORT : r;
}
