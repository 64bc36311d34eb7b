/* SPDX-License-Identifier: MIT */
/*
 * VM exit: record, save the guest, load the host, unwind. Why an exit happens
 * is decided elsewhere (intercept*.c, boundary.c, vapic.c).
 *
 * SDM vol. 3C "VM Exits": "Recording VM-Exit Information and Updating VM-entry
 * Control Fields", "Saving Guest State", "Loading Host State", "VMX Aborts".
 */
#include "base/log.h"
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

#define CR0_KEPT (CR0_ET | BITS(15, 6) | BIT(17) | BITS(28, 19) | CR0_NW | CR0_CD)
#define DR7_INIT 0x400u

enum vmx_abort_code {
	ABORT_MSR_STORE = 1,
	ABORT_HOST_PDPTES = 2,
	ABORT_MSR_LOAD = 4,
	ABORT_HOST_NOT_64 = 6,
};

/* ---- MSR lists ---- */

#define MSR_BIOS_UPDATE 0x79
#define MSR_SMM_MONITOR_CTL 0x9b
#define MSR_SMBASE 0x9e
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

static bool x2apic_msr(u32 msr)
{
	return msr >= 0x800 && msr <= 0x8ff;
}

u32 vmx_msr_load(struct x86_cpu *cpu, u64 addr, u32 count)
{
	for (u32 i = 0; i < count; i++, addr += 16) {
		u64 index = vmx_read64(addr), val = vmx_read64(addr + 8);
		u32 msr = (u32)index;

		if (i == VMX_MAX_MSRS || index >> 32 || msr == MSR_FS_BASE || msr == MSR_GS_BASE ||
		    x2apic_msr(msr) || msr == MSR_SMM_MONITOR_CTL || msr == MSR_BIOS_UPDATE ||
		    !x86_msr_write(cpu, msr, val))
			return i + 1;
	}
	return 0;
}

u32 vmx_msr_store(struct x86_cpu *cpu, u64 addr, u32 count)
{
	for (u32 i = 0; i < count; i++, addr += 16) {
		u64 index = vmx_read64(addr), val;
		u32 msr = (u32)index;

		if (i == VMX_MAX_MSRS || index >> 32 || x2apic_msr(msr) || msr == MSR_SMBASE ||
		    !x86_msr_read(cpu, msr, &val))
			return i + 1;
		vmx_write64(addr + 8, val);
	}
	return 0;
}

/* ---- Abort ---- */

static void vmx_abort(struct x86_cpu *cpu, enum vmx_abort_code code)
{
	cpu->vmx.vmcs->abort = code;
	cpu->vmx.non_root = false;
	cpu->vmx.aborted = true;
	cpu->activity = X86_ACT_SHUTDOWN;
	cpu->slow |= X86_SLOW_HALTED;
	log_warn("VMX abort %d", (int)code);
}

/* ---- Guest state ---- */

u32 vmx_timer_left(const struct x86_cpu *cpu)
{
	u64 now = __rdtsc() >> VMX_TIMER_SHIFT, end = cpu->vmx.timer_deadline >> VMX_TIMER_SHIFT;

	return end > now ? (u32)(end - now) : 0;
}

static bool trap_like(u32 reason)
{
	return reason == VMX_EXIT_MONITOR_TRAP_FLAG || reason == VMX_EXIT_TPR_BELOW_THRESHOLD ||
	       reason == VMX_EXIT_EOI_INDUCED || reason == VMX_EXIT_APIC_WRITE;
}

static void save_segments(const struct x86_cpu *cpu, struct vmcs *v)
{
	for (unsigned i = 0; i < X86_NR_SEGS; i++) {
		V_SEG(v, SEL, i) = cpu->seg[i].sel;
		V_SEG(v, BASE, i) = cpu->seg[i].base;
		V_SEG(v, LIMIT, i) = cpu->seg[i].limit;
		V_SEG(v, AR, i) = cpu->seg[i].ar & ~0xfffe0f00u;
	}
	V(v, GUEST_GDTR_BASE) = cpu->gdtr.base;
	V(v, GUEST_GDTR_LIMIT) = cpu->gdtr.limit;
	V(v, GUEST_IDTR_BASE) = cpu->idtr.base;
	V(v, GUEST_IDTR_LIMIT) = cpu->idtr.limit;
}

/*
 * RF as the event that was being delivered would have pushed it: set by faults,
 * unchanged by interrupts and traps (a #DB on delivery has its RF already).
 */
static enum vmx_rf delivery_rf(u32 vectoring)
{
	return INTR_TYPE(vectoring) == INTR_HARD && (vectoring & 0xff) != X86_DB ? VMX_RF_SET : VMX_RF_KEEP;
}

static void save_flags(const struct x86_cpu *cpu, struct vmcs *v, enum vmx_rf rf)
{
	u64 rflags = x86_get_rflags(cpu);

	if (cpu->delivering)
		rf = delivery_rf(cpu->idt_vectoring);
	if (rf == VMX_RF_CLEAR)
		rflags &= ~RFLAGS_RF;
	else if (rf == VMX_RF_SET)
		rflags |= RFLAGS_RF;
	V(v, GUEST_RFLAGS) = rflags;
}

static void save_non_register(const struct x86_cpu *cpu, struct vmcs *v, u32 reason, bool debug_exit)
{
	u32 block = 0, activity = cpu->activity;
	bool keep_pending;

	if (cpu->delivering) {
		activity = X86_ACT_ACTIVE;
	} else {
		if (cpu->slow & X86_SLOW_SHADOW_STI)
			block |= BLOCK_STI;
		if (cpu->slow & X86_SLOW_SHADOW_SS)
			block |= BLOCK_SS;
	}
	keep_pending = reason == VMX_EXIT_INIT_SIGNAL || trap_like(reason) ||
		       (block & BLOCK_SS && !debug_exit);
	if (x86_vmx_nmi_blocked((struct x86_cpu *)cpu))
		block |= BLOCK_NMI;
	V(v, GUEST_INTERRUPTIBILITY) = block;
	V(v, GUEST_ACTIVITY) = activity;
	V(v, GUEST_PENDING_DEBUG) = keep_pending ? cpu->pending_db : 0;
}

/* What the SDM calls "Saving Guest State"; @debug_exit: the exit is a #DB's own. */
static void save_guest(struct x86_cpu *cpu, struct vmcs *v, u32 reason, enum vmx_rf rf, bool debug_exit)
{
	const struct x86_vmx *x = &cpu->vmx;

	V(v, GUEST_CR0) = cpu->cr0;
	V(v, GUEST_CR3) = cpu->cr3;
	V(v, GUEST_CR4) = cpu->cr4;
	V(v, GUEST_SYSENTER_CS) = cpu->sysenter_cs;
	V(v, GUEST_SYSENTER_ESP) = cpu->sysenter_esp;
	V(v, GUEST_SYSENTER_EIP) = cpu->sysenter_eip;
	V(v, GUEST_RSP) = cpu->gpr[X86_RSP];
	V(v, GUEST_RIP) = cpu->rip;
	if (x->exitc & EXITC_SAVE_DEBUG) {
		V(v, GUEST_DR7) = cpu->dr7;
		V(v, GUEST_DEBUGCTL) = cpu->debugctl;
	}
	if (x->exitc & EXITC_SAVE_PAT)
		V(v, GUEST_PAT) = cpu->pat;
	if (x->exitc & EXITC_SAVE_EFER)
		V(v, GUEST_EFER) = cpu->efer;
	if (x->exitc & EXITC_SAVE_PERF_GLOBAL)
		V(v, GUEST_PERF_GLOBAL_CTRL) = cpu->pmu.global_ctrl;
	if (x->exitc & EXITC_SAVE_TIMER)
		V(v, PREEMPTION_TIMER_VALUE) = vmx_timer_left(cpu);
	V(v, ENTRY_CTLS) = (V(v, ENTRY_CTLS) & ~(u64)ENTRY_IA32E_GUEST) |
			   (x86_lma(cpu) ? ENTRY_IA32E_GUEST : 0);
	if (x->eptp && x86_paging(cpu) && (cpu->cr4 & CR4_PAE) && !x86_lma(cpu))
		for (unsigned i = 0; i < 4; i++)
			v->f[VS_GUEST_PDPTE0 + i] = cpu->pdpte[i];
	save_segments(cpu, v);
	save_flags(cpu, v, rf);
	save_non_register(cpu, v, reason, debug_exit);
}

/* ---- Host state ---- */

static void load_host_segments(struct x86_cpu *cpu, const struct vmcs *v, bool host64)
{
	static const u8 host_sel[X86_NR_SREGS] = {
		[X86_ES] = VS_HOST_ES_SEL, [X86_CS] = VS_HOST_CS_SEL, [X86_SS] = VS_HOST_SS_SEL,
		[X86_DS] = VS_HOST_DS_SEL, [X86_FS] = VS_HOST_FS_SEL, [X86_GS] = VS_HOST_GS_SEL,
	};
	const u32 data = 0x3 | X86_AR_S | X86_AR_P | X86_AR_DB | X86_AR_G;

	for (unsigned i = 0; i < X86_NR_SREGS; i++) {
		u16 sel = (u16)v->f[host_sel[i]];

		cpu->seg[i] = (struct x86_segment){
			.sel = sel, .limit = 0xffffffff, .ar = sel ? data : data | X86_AR_UNUSABLE,
		};
	}
	cpu->seg[X86_CS].ar = 0xb | X86_AR_S | X86_AR_P | X86_AR_G | (host64 ? X86_AR_L : X86_AR_DB);
	cpu->seg[X86_FS].base = V(v, HOST_FS_BASE);
	cpu->seg[X86_GS].base = V(v, HOST_GS_BASE);
	cpu->seg[X86_TR] = (struct x86_segment){
		.sel = (u16)V(v, HOST_TR_SEL), .base = V(v, HOST_TR_BASE), .limit = 0x67,
		.ar = 0xb | X86_AR_P,
	};
	cpu->seg[X86_LDTR] = (struct x86_segment){ .ar = X86_AR_UNUSABLE };
	cpu->gdtr = (struct x86_dtable){ .base = V(v, HOST_GDTR_BASE), .limit = 0xffff };
	cpu->idtr = (struct x86_dtable){ .base = V(v, HOST_IDTR_BASE), .limit = 0xffff };
	cpu->cpl = 0;
}

/* "Loading Host State" with the MSR-load list; false after a VMX abort. */
static bool load_host(struct x86_cpu *cpu, struct vmcs *v)
{
	struct x86_vmx *x = &cpu->vmx;
	bool host64 = x->exitc & EXITC_HOST_64;
	u64 old_dr7 = cpu->dr7;

	if (x86_lma(cpu) && !host64 && x->non_root) {
		vmx_abort(cpu, ABORT_HOST_NOT_64);
		return false;
	}
	x->non_root = false;
	cpu->cr0 = (V(v, HOST_CR0) & ~CR0_KEPT) | (cpu->cr0 & CR0_KEPT);
	cpu->cr3 = V(v, HOST_CR3);
	cpu->cr4 = V(v, HOST_CR4);
	cpu->sysenter_cs = (u32)V(v, HOST_SYSENTER_CS);
	cpu->sysenter_esp = V(v, HOST_SYSENTER_ESP);
	cpu->sysenter_eip = V(v, HOST_SYSENTER_EIP);
	if (x->exitc & EXITC_LOAD_EFER)
		cpu->efer = V(v, HOST_EFER);
	else
		cpu->efer = (cpu->efer & ~(EFER_LMA | EFER_LME)) | (host64 ? EFER_LMA | EFER_LME : 0);
	if (x->exitc & EXITC_LOAD_PAT)
		cpu->pat = V(v, HOST_PAT);
	if (x->exitc & EXITC_LOAD_PERF_GLOBAL)
		x86_pmu_set_global_ctrl(cpu, V(v, HOST_PERF_GLOBAL_CTRL));
	cpu->dr7 = DR7_INIT;
	cpu->debugctl = 0;
	load_host_segments(cpu, v, host64);
	x86_set_rflags(cpu, RFLAGS_1);
	cpu->gpr[X86_RSP] = V(v, HOST_RSP);
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP] = V(v, HOST_RIP);

	cpu->activity = X86_ACT_ACTIVE;
	x86_pmu_wake(cpu);
	cpu->pending_db = 0;
	cpu->delivering = 0;
	cpu->idt_vectoring = 0;
	cpu->slow &= X86_SLOW_PMU;
	if (atomic_load_explicit(&cpu->events, memory_order_relaxed) & X86_EV_TIMER)
		atomic_fetch_and(&cpu->events, ~(u32)X86_EV_TIMER);
	if (old_dr7 & 0xff)
		x86_debug_update(cpu);

	/*
	 * The next entry makes these anew, and a C caller runs no code until then:
	 * x86_vmenter() leaves them to x86_run().
	 */
	if (x->from_c) {
		x->stale = true;
	} else {
		x86_update_mode(cpu);
		x86_tlb_switch(cpu);
	}
	if (!x->vpid)
		x86_tlb_flush_vpid(cpu, 0, false);
	if (!host64 && cpu->cr4 & CR4_PAE && !x86_load_pdptes(cpu, cpu->cr3)) {
		vmx_abort(cpu, ABORT_HOST_PDPTES);
		return false;
	}
	if (V(v, EXIT_MSR_LOAD_COUNT) &&
	    vmx_msr_load(cpu, V(v, EXIT_MSR_LOAD_ADDR), (u32)V(v, EXIT_MSR_LOAD_COUNT))) {
		vmx_abort(cpu, ABORT_MSR_LOAD);
		return false;
	}
	return true;
}

void x86_vmx_root_refresh(struct x86_cpu *cpu)
{
	cpu->vmx.stale = false;
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
}

/* ---- Exits ---- */

/* Interruption of an event's delivery: SDM "Information About NMI, ... and Event Delivery". */
static void record_vectoring(struct x86_cpu *cpu, struct vmcs *v)
{
	u32 info = cpu->idt_vectoring, type = INTR_TYPE(info);

	if (!cpu->delivering) {
		V(v, IDT_VECTORING_INFO) = 0;
		return;
	}
	V(v, IDT_VECTORING_INFO) = info;
	if (info & INTR_ERROR)
		V(v, IDT_VECTORING_ERROR) = cpu->idt_vectoring_error;
	if (type == INTR_SOFT_INT || type == INTR_INT1 || type == INTR_SOFT_EXC)
		V(v, EXIT_INSN_LEN) = cpu->vmx.injecting ? cpu->vmx.inject_len :
				      (cpu->gpr[X86_REG_NEXT_RIP] - cpu->rip) & 0xf;
}

static _Noreturn void complete(struct x86_cpu *cpu, u32 reason, u64 qual, enum vmx_rf rf, bool debug_exit)
{
	struct vmcs *v = cpu->vmx.vmcs;

	x86_dry_refuse(cpu);
	/* The instruction, if there is one, does not retire: what is counted from here on is not its. */
	if (cpu->op)
		x86_retire_before(cpu);
	V(v, EXIT_REASON) = reason;
	V(v, EXIT_QUALIFICATION) = qual;
	V(v, ENTRY_INTR_INFO) &= ~(u64)INTR_VALID;
	record_vectoring(cpu, v);
	save_guest(cpu, v, reason, rf, debug_exit);
	/* The lists see the TSC and MSRs of root mode; CPL and EFER are still the guest's. */
	if (V(v, EXIT_MSR_STORE_COUNT)) {
		cpu->vmx.non_root = false;
		if (vmx_msr_store(cpu, V(v, EXIT_MSR_STORE_ADDR), (u32)V(v, EXIT_MSR_STORE_COUNT))) {
			vmx_abort(cpu, ABORT_MSR_STORE);
			x86_unwind(cpu, X86_UNWIND_VMEXIT);
		}
		cpu->vmx.non_root = true;
	}
	if (load_host(cpu, v) && cpu->vmx.exit_by_nmi)
		cpu->nmi_blocked = true;
	cpu->vmx.exit_by_nmi = false;
	x86_unwind(cpu, X86_UNWIND_VMEXIT);
}

void vmx_exit(struct x86_cpu *cpu, u32 reason, u64 qual, enum vmx_rf rf)
{
	V(cpu->vmx.vmcs, EXIT_INTR_INFO) = 0;
	complete(cpu, reason, qual, rf, false);
}

void vmx_exit_event(struct x86_cpu *cpu, u32 reason, u64 qual, enum vmx_rf rf, u32 info, u32 error)
{
	struct vmcs *v = cpu->vmx.vmcs;

	V(v, EXIT_INTR_INFO) = info;
	if (info & INTR_ERROR)
		V(v, EXIT_INTR_ERROR) = error;
	complete(cpu, reason, qual, rf, INTR_TYPE(info) == INTR_HARD && (info & 0xff) == X86_DB);
}

void vmx_exit_insn(struct x86_cpu *cpu, unsigned len, u32 reason, u64 qual)
{
	V(cpu->vmx.vmcs, EXIT_INSN_LEN) = len;
	vmx_exit(cpu, reason, qual, VMX_RF_CLEAR);
}

void vmx_leave_guest(struct x86_cpu *cpu)
{
	struct vmcs *v = cpu->vmx.vmcs;

	/* An event whose delivery has not begun stays in the entry field. */
	if (!cpu->vmx.inject_due)
		V(v, ENTRY_INTR_INFO) &= ~(u64)INTR_VALID;
	V(v, EXIT_INTR_INFO) = 0;
	record_vectoring(cpu, v);
	save_guest(cpu, v, ~0u, VMX_RF_KEEP, false);
	load_host(cpu, v);
}

void vmx_entry_failed(struct x86_cpu *cpu, u32 reason, u64 qual)
{
	struct vmcs *v = cpu->vmx.vmcs;

	V(v, EXIT_REASON) = reason | VMX_EXIT_ENTRY_FAILURE;
	V(v, EXIT_QUALIFICATION) = qual;
	/* Nobody was in the guest: host size and LMA need not agree. */
	cpu->vmx.non_root = false;
	load_host(cpu, v);
}
