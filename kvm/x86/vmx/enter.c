// SPDX-License-Identifier: MIT
/*
 * One stay in the guest: requests, the event to inject, VM entry, and what an
 * exit leaves behind. exit.c decides what the exit means.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/mem.h"
#include "kvm/stats.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/pv.h"
#include "kvm/x86/vmx/exit.h"
#include "kvm/x86/x86.h"

/* While the client has a signal mask of its own, pending signals are polled. */
#define SIGPENDING_POLL_NS 500000u

void hv_vmx_inject(struct hv_vcpu *v, u32 info, u32 error, u32 insn_len)
{
	vmcs_set(v, VMCS_ENTRY_INTR_INFO, info);
	if (info & INTR_ERROR)
		vmcs_set(v, VMCS_ENTRY_ERROR_CODE, error);
	if (insn_len)
		vmcs_set(v, VMCS_ENTRY_INSN_LEN, insn_len);
	/* An injected event wakes the processor; a halted one may not take every kind. */
	if (vmcs_get(v, VMCS_GUEST_ACTIVITY))
		vmcs_set(v, VMCS_GUEST_ACTIVITY, 0);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/*
 * The preemption timer ends the stay when the local APIC's timer is due. The
 * deadline is converted to TSC once, when it changes.
 */
static void arm_timer(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 next = v->lapic ? hv_lapic_timer_next(v) : 0;
	u64 tsc, left;

	if (unlikely(v->sigmask_set)) {
		u64 poll = now_ns() + SIGPENDING_POLL_NS;

		next = next ? min(next, poll) : poll;
	}
	if (!next) {
		if (x->timer_armed) {
			x->timer_armed = false;
			x->pin &= ~PIN_PREEMPTION_TIMER;
			vmcs_set(v, VMCS_PIN_BASED_CTLS, x->pin);
		}
		x->timer_next = 0;
		return;
	}
	tsc = x86_rdtsc(v->cpu);
	if (next != x->timer_next) {
		u64 now = now_ns();

		x->timer_next = next;
		x->timer_deadline = tsc;
		if (next > now)
			x->timer_deadline += (u64)((u128)(next - now) * x86_tsc_khz() / 1000000);
	}
	left = x->timer_deadline > tsc ? ((x->timer_deadline - tsc) >> x->timer_shift) + 1 : 0;
	vmcs_set(v, VMCS_PREEMPTION_TIMER_VALUE, min(left, (u64)0xffffffff));
	if (!x->timer_armed) {
		x->timer_armed = true;
		x->pin |= PIN_PREEMPTION_TIMER;
		vmcs_set(v, VMCS_PIN_BASED_CTLS, x->pin);
	}
}

static int load_mmu(struct hv_vcpu *v)
{
	u64 eptp = hv_mmu_load(v, hv_as(v));

	if (!eptp)
		return -ENOMEM;
	if (eptp != v->x86->eptp) {
		v->x86->eptp = eptp;
		vmcs_set(v, VMCS_EPT_POINTER, eptp);
	}
	return 0;
}

static void flush_tlb(struct hv_vcpu *v)
{
	const u64 desc[2] = { 0 };

	hv_stat_inc(v, HV_STAT_tlb_flush);
	/* 2: global. Translations of the other address space may be there too. */
	if (v->x86->eptp)
		BUG_ON(x86_invept(v->cpu, 2, desc) != VMX_OK);
}

/* Returns 1, or as an exit handler when a request ends KVM_RUN. */
static int serve_requests(struct hv_vcpu *v)
{
	int r;

	if (hv_test_request(v, HV_REQ_VM_DEAD)) {
		hv_set_request(v, HV_REQ_VM_DEAD);
		return -EIO;
	}
	if (hv_test_request(v, HV_REQ_MMU_RELOAD)) {
		r = load_mmu(v);
		if (r < 0) {
			hv_set_request(v, HV_REQ_MMU_RELOAD);
			return r;
		}
	}
	if (hv_test_request(v, HV_REQ_TLB_FLUSH))
		flush_tlb(v);
	if (hv_test_request(v, HV_REQ_TRIPLE_FAULT)) {
		v->run->exit_reason = KVM_EXIT_SHUTDOWN;
		return 0;
	}
	if (hv_test_request(v, HV_REQ_CLOCK_UPDATE)) {
		hv_vmx_load_tsc(v);
		hv_clock_update(v);
		hyperv_clock_update(v);
	}
	if (hv_test_request(v, HV_REQ_MSR_FILTER))
		hv_update_msr_bitmap(v);
	if (hv_test_request(v, HV_REQ_PMU))
		hv_pmu_apply_filter(v);
	if (hv_test_request(v, HV_REQ_STEAL_UPDATE))
		hv_steal_update(v);
	if (hv_test_request(v, HV_REQ_NMI))
		hv_process_nmi(v);
	if (hv_test_request(v, HV_REQ_SMI))
		hv_process_smi(v);
	if (hv_test_request(v, HV_REQ_HYPERV)) {
		r = hyperv_serve(v);
		if (r <= 0)
			return r;
	}
	if (hv_test_request(v, HV_REQ_IOAPIC_EOI_EXIT)) {
		v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		v->run->eoi.vector = hv_lapic_take_eoi_exit(v);
		return 0;
	}
	/* No EOI-exit bitmap and no APIC-access page without APIC virtualization. */
	hv_test_request(v, HV_REQ_SCAN_IOAPIC);
	hv_test_request(v, HV_REQ_APIC_PAGE_RELOAD);
	hv_test_request(v, HV_REQ_IMMEDIATE_EXIT);
	return 1;
}

/*
 * An NMI-blocking IRET that the exit interrupted has unblocked already: SDM
 * vol. 3C "Information for VM Exits Due to Vectored Events", bit 12.
 */
static void recover_nmi_blocking(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u16 reason = (u16)x->exit_reason;
	bool unblocked = false;

	if (x->idt_vectoring & INTR_VALID)
		return;
	if (reason == VMX_EXIT_EXCEPTION_NMI)
		unblocked = (x->exit_intr_info & INTR_NMI_UNBLOCK) &&
			    (u8)x->exit_intr_info != HV_DF;
	else if (reason == VMX_EXIT_EPT_VIOLATION || reason == VMX_EXIT_PML_FULL)
		unblocked = x->exit_qual & INTR_NMI_UNBLOCK;
	if (unblocked)
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
			 vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) | INTERRUPTIBILITY_NMI);
}

static int entry_failed(struct hv_vcpu *v, int r)
{
	struct kvm_run *run = v->run;
	u32 error = r > 0 ? (u32)vmcs_get(v, VMCS_INSN_ERROR) : 0;

	log_error("vcpu %u: VM entry failed: %s, error %u", v->id,
		  r == VMX_ABORT ? "abort" : r == VMX_FAIL_INVALID ? "no VMCS" : "VMfail", error);
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = error;
	run->fail_entry.cpu = 0;
	return 0;
}

static int bus_error(struct hv_vcpu *v, u64 spa)
{
	switch (hv_mmu_bus_error(v, spa)) {
	case HV_FAULT_RESUME:
		return 1;
	case HV_FAULT_MMIO:
	case HV_FAULT_EFAULT:
	case HV_FAULT_DIRTY_FULL:
		break;
	}
	return -EFAULT;
}

/*
 * Overflows come as exits; one that another exit revealed is pending. What else is (kicks)
 * has done its work by the exit.
 */
static void take_interrupts(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (x->exit_reason == VMX_EXIT_EXTERNAL_INTERRUPT && (u8)x->exit_intr_info == HV_PMI_VECTOR)
		hv_pmu_interrupt(v);
	while (unlikely(x86_intr_pending(v->cpu)))
		if (x86_ack_intr(v->cpu) == HV_PMI_VECTOR)
			hv_pmu_interrupt(v);
}

static int after_exit(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	hv_stat_inc(v, HV_STAT_exits);
	x->exit_reason = (u32)vmcs_get(v, VMCS_EXIT_REASON);
	if (unlikely(x->exit_reason & VMX_EXIT_ENTRY_FAILURE))
		return hv_vmx_entry_failure_exit(v);
	x->launched = true;
	x->exit_qual = vmcs_get(v, VMCS_EXIT_QUALIFICATION);
	x->idt_vectoring = (u32)vmcs_get(v, VMCS_IDT_VECTORING_INFO);
	x->exit_intr_info = (u32)vmcs_get(v, VMCS_EXIT_INTR_INFO);
	if (trace_on(TRACE_kvm_exit))
		hv_vmx_trace_exit(v);
	if (hv_exit_stat_wanted(&v->exits))
		hv_exit_stat_begin(&v->exits, HV_EVENT_VMEXIT, (u16)x->exit_reason);
	if (unlikely(x->idt_vectoring & INTR_VALID) || x->injected) {
		x->injected = false;
		hv_complete_events(v, x->idt_vectoring);
	}
	recover_nmi_blocking(v);
	take_interrupts(v);
	if (v->lapic)
		hv_pv_eoi_exit(v);
	return hv_vmx_handle_exit(v);
}

int hv_vmx_run(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	spa_t bad;
	int r;

	if (unlikely(!x->eptp)) {
		r = load_mmu(v);
		if (r < 0)
			return r;
	}
	if (v->lapic) {
		hv_lapic_timer_poll(v);
		hv_steal_poll(v);
	}
	if (unlikely(atomic_load_explicit(&v->requests, memory_order_relaxed) &
		     ~(BIT(HV_REQ_EVENT) | BIT(HV_REQ_UNHALT)))) {
		r = serve_requests(v);
		if (r <= 0)
			return r;
	}
	if (hv_test_request(v, HV_REQ_EVENT) || hv_user_wants_window(v)) {
		hv_stat_inc(v, HV_STAT_req_event);
		if (v->lapic) {
			hv_take_init_sipi(v);
			if (atomic_load(&v->mp_state) != KVM_MP_STATE_RUNNABLE)
				return 1;
		}
		hv_inject_events(v);
		x->injected = vmcs_get(v, VMCS_ENTRY_INTR_INFO) & INTR_VALID;
	}
	/*
	 * A user's single step over STI or MOV SS: with the shadow set and TF, VM entry
	 * wants a pending step that belongs to the guest. There is none.
	 */
	if (unlikely(x->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY, vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) &
			 ~(u64)(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS));
	if (v->lapic)
		hv_pv_eoi_entry(v);
	arm_timer(v);
	trace(kvm_entry, "vcpu %u, rip 0x%llx", v->id,
	      (unsigned long long)vmcs_get(v, VMCS_GUEST_RIP));
	if (hv_exit_stat_wanted(&v->exits))
		hv_exit_stat_entry(&v->exits);

	/* Publish first, look second: vcpu.h has the other half of the handshake. */
	atomic_store(&v->mode, HV_IN_GUEST);
	if ((atomic_load(&v->requests) & ~BIT(HV_REQ_UNHALT)) ||
	    atomic_load_explicit(&v->signalled, memory_order_relaxed)) {
		atomic_store(&v->mode, HV_OUTSIDE_GUEST);
		hv_cancel_injection(v);
		return 1;
	}
	r = x86_vmenter(v->cpu, !x->launched, &bad);
	/* Before anybody may take this vCPU for outside: who collects dirty pages relies on that. */
	if (x->proc2 & PROC2_PML)
		hv_mmu_flush_pml(v);
	atomic_store_explicit(&v->mode, HV_OUTSIDE_GUEST, memory_order_release);
	if (unlikely(r != VMX_OK)) {
		if (r == VMX_BUS_ERROR) {
			x->launched = true;
			/* As after an exit: what was being delivered is in the VMCS. */
			x->injected = false;
			hv_complete_events(v, (u32)vmcs_get(v, VMCS_IDT_VECTORING_INFO));
			return bus_error(v, bad.v);
		}
		return entry_failed(v, r);
	}
	return after_exit(v);
}
