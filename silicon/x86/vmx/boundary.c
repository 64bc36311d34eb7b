/* SPDX-License-Identifier: MIT */
/*
 * What happens between two instructions in non-root operation, in the order of
 * the manual: completion of APIC writes, INIT and SIPI, MTF; then, after the
 * debug traps of sys/, timer, windows, and the NMIs and interrupts that exit (sys/ delivers
 * the others).
 *
 * While a window or a virtual interrupt has to be watched, the run loop is asked
 * to come here between any two blocks (X86_EV_TIMER). That is enough: every
 * instruction that can open a window ends its block. An armed timer is looked at
 * every few dozen blocks only (x86_vmx_timer_poll()): reading the TSC is dear.
 *
 * SDM vol. 3C "Event Blocking", "Other Causes of VM Exits"; vol. 3A "Priority
 * Among Concurrent Events".
 */
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

void vmx_poll_boundaries(struct x86_cpu *cpu)
{
	x86_post(cpu, X86_EV_TIMER);
}

static bool take(struct x86_cpu *cpu, u32 event)
{
	return atomic_fetch_and(&cpu->events, ~event) & event;
}

static u32 pending(const struct x86_cpu *cpu)
{
	return atomic_load_explicit(&cpu->events, memory_order_relaxed);
}

u64 x86_vmx_tsc(struct x86_cpu *cpu)
{
	u64 t = x86_rdtsc(cpu);

	if (!cpu->vmx.non_root)
		return t;
	if (cpu->vmx.tsc_mult)
		t = (u64)((u128)t * cpu->vmx.tsc_mult >> 48);
	return t + cpu->vmx.tsc_offset;
}

/* ---- High half ---- */

static void init_and_sipi(struct x86_cpu *cpu)
{
	if (cpu->activity == X86_ACT_WAIT_SIPI) {
		/* INIT stays blocked; a SIPI ends the wait in the hypervisor. */
		if (pending(cpu) & X86_EV_SIPI && take(cpu, X86_EV_SIPI))
			vmx_exit(cpu, VMX_EXIT_SIPI_SIGNAL, atomic_load(&cpu->vmx.sipi_vector), VMX_RF_KEEP);
		return;
	}
	if (pending(cpu) & X86_EV_SIPI)
		take(cpu, X86_EV_SIPI);	/* not waited for: dropped */
	if (pending(cpu) & X86_EV_INIT && take(cpu, X86_EV_INIT))
		vmx_exit(cpu, VMX_EXIT_INIT_SIGNAL, 0, VMX_RF_KEEP);
}

static void monitor_trap_flag(struct x86_cpu *cpu)
{
	struct x86_vmx *x = &cpu->vmx;

	/* An instruction completed, or sys/ delivered an interrupt that does not exit. */
	if (x->mtf == VMX_MTF_ARMED && (cpu->insn_count != x->mtf_insns || cpu->rip != x->mtf_rip))
		x->mtf = VMX_MTF_PENDING;
	if (x->mtf == VMX_MTF_PENDING && cpu->activity <= X86_ACT_HLT)
		vmx_exit(cpu, VMX_EXIT_MONITOR_TRAP_FLAG, 0, VMX_RF_KEEP);
}

void x86_vmx_boundary_high(struct x86_cpu *cpu)
{
	struct x86_vmx *x = &cpu->vmx;

	if (!x->non_root)
		return;
	x->iret_unblocked = false;
	if (x->inject_due)
		vmx_inject(cpu);
	if (x->apic_write) {
		x->apic_write = false;
		vmx_apic_write_emulate(cpu, x->apic_write_off);
	}
	if (x->tpr_check) {
		x->tpr_check = false;
		if (cpu->activity <= X86_ACT_HLT)
			vmx_tpr_threshold(cpu);
	}
	cpu->slow &= ~(u32)X86_SLOW_VMX_TRAP;
	init_and_sipi(cpu);
	if (x->mtf != VMX_MTF_OFF)
		monitor_trap_flag(cpu);
}

/* ---- Low half ---- */

static bool if_open(const struct x86_cpu *cpu)
{
	return cpu->rflags & RFLAGS_IF && !(cpu->slow & SLOW_SHADOWS);
}

static void nmi(struct x86_cpu *cpu)
{
	if (!(cpu->vmx.pin & PIN_NMI_EXITING) || cpu->nmi_blocked || cpu->slow & SLOW_SHADOWS ||
	    !take(cpu, X86_EV_NMI))
		return;
	/* The saved state is that of before the NMI; blocking starts behind it. */
	cpu->vmx.exit_by_nmi = true;
	vmx_exit_event(cpu, VMX_EXIT_EXCEPTION_NMI, 0, VMX_RF_KEEP, INTR_VALID | INTR_NMI << 8 | X86_NMI, 0);
}

/* IF does not matter; the shadows block. */
static void external_interrupt(struct x86_cpu *cpu)
{
	struct x86_vmx *x = &cpu->vmx;
	int vector;

	if (!(x->pin & PIN_EXT_INTR_EXITING) || cpu->slow & SLOW_SHADOWS)
		return;
	if (!(x->exitc & EXITC_ACK_INTR))
		vmx_exit(cpu, VMX_EXIT_EXTERNAL_INTERRUPT, 0, VMX_RF_KEEP);
	vector = x86_ack_intr(cpu);
	if (vector < 0)
		return;
	if (x->pin & PIN_POSTED_INTR && (u64)vector == V(x->vmcs, POSTED_INTR_VECTOR))
		vmx_posted_intr(cpu);
	else
		vmx_exit_event(cpu, VMX_EXIT_EXTERNAL_INTERRUPT, 0, VMX_RF_KEEP,
			       INTR_VALID | INTR_EXT << 8 | (u32)vector, 0);
}

static void virtual_interrupt(struct x86_cpu *cpu)
{
	if (cpu->vmx.vintr && if_open(cpu))
		vmx_deliver_virtual(cpu);
}

void x86_vmx_timer_poll(struct x86_cpu *cpu)
{
	if (cpu->vmx.timer_deadline && __rdtsc() >= cpu->vmx.timer_deadline)
		vmx_poll_boundaries(cpu);
}

void x86_vmx_boundary_low(struct x86_cpu *cpu)
{
	struct x86_vmx *x = &cpu->vmx;

	if (!x->non_root || cpu->activity == X86_ACT_WAIT_SIPI)
		return;
	if (x->timer_deadline && __rdtsc() >= x->timer_deadline)
		vmx_exit(cpu, VMX_EXIT_PREEMPTION_TIMER, 0, VMX_RF_KEEP);
	if (x->proc & PROC_NMI_WINDOW_EXITING && !x->virt_nmi_blocked && !(cpu->slow & X86_SLOW_SHADOW_SS))
		vmx_exit(cpu, VMX_EXIT_NMI_WINDOW, 0, VMX_RF_KEEP);
	if (pending(cpu) & X86_EV_NMI)
		nmi(cpu);
	if (cpu->activity == X86_ACT_SHUTDOWN)
		return;
	if (x->proc & PROC_INTR_WINDOW_EXITING && if_open(cpu))
		vmx_exit(cpu, VMX_EXIT_INTERRUPT_WINDOW, 0, VMX_RF_KEEP);
	virtual_interrupt(cpu);
	if (pending(cpu) & X86_EV_INTR) {
		external_interrupt(cpu);
		/* A posted one may be deliverable at once. */
		virtual_interrupt(cpu);
	}
	if (!x->vintr && !(x->proc & (PROC_NMI_WINDOW_EXITING | PROC_INTR_WINDOW_EXITING)) &&
	    pending(cpu) & X86_EV_TIMER)
		take(cpu, X86_EV_TIMER);
}
