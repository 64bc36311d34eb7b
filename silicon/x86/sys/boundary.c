/* SPDX-License-Identifier: MIT */
/*
 * Between two instructions: which pending event is taken, in the order of SDM
 * vol. 3A "Priority Among Concurrent Events"; in VMX non-root operation that of
 * vol. 3C "Event Blocking" and "Pending Debug Exceptions After VM Entry".
 *
 * cpu->slow bits 16-19 hold what was true when the instruction started (TF, RF and
 * the two shadows): an instruction that changes one of them obeys the old value.
 */
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "silicon/vmx.h"
#include "silicon/x86/sys/sys_priv.h"

#define START(bit) ((u32)(bit) << X86_SLOW_START_SHIFT)
#define START_BITS (X86_SLOW_TF | X86_SLOW_RF | X86_SLOW_SHADOW_STI | X86_SLOW_SHADOW_SS)

/* All traps of the previous instruction, merged into one #DB. */
static void deliver_debug_trap(struct x86_cpu *cpu)
{
	u64 dr6 = cpu->pending_db & (BITS(3, 0) | DR6_BS | DR6_BT);

	cpu->pending_db = 0;
	cpu->slow &= ~(u32)X86_SLOW_DB_PENDING;
	x86_icpt_exception(cpu, X86_DB, 3, false, 0, dr6);
	debug_enter(cpu, dr6);
	x86_deliver(cpu, X86_DB, 3, false, 0, cpu->rip);
}

/* NMI and external interrupts that do not exit. True: one was delivered. */
static bool deliver_interrupt(struct x86_cpu *cpu)
{
	u32 exiting = x86_guest(cpu) ? cpu->vmx.pin : 0;
	u32 events = atomic_load(&cpu->events);
	int vector;

	if (cpu->activity == X86_ACT_WAIT_SIPI || (cpu->slow & X86_SLOW_SHADOW_SS))
		return false;
	if ((events & X86_EV_NMI) && !(exiting & PIN_NMI_EXITING) && !cpu->nmi_blocked) {
		atomic_fetch_and(&cpu->events, ~(u32)X86_EV_NMI);
		cpu->nmi_blocked = true;
		x86_deliver(cpu, X86_NMI, 2, false, 0, cpu->rip);
		return true;
	}
	if (!(events & X86_EV_INTR) || (exiting & PIN_EXT_INTR_EXITING) || !(cpu->rflags & RFLAGS_IF) ||
	    (cpu->slow & X86_SLOW_SHADOW_STI) || cpu->activity == X86_ACT_SHUTDOWN)
		return false;
	vector = x86_ack_intr(cpu);
	if (vector < 0)
		return false;
	x86_deliver(cpu, (u8)vector, 0, false, 0, cpu->rip);
	return true;
}

/*
 * The hypervisor lets its guest halt: sleep until there is an event that was not among @seen,
 * those that did not end the halt, or until the VMX-preemption timer is due.
 */
static void sleep_halted(struct x86_cpu *cpu, u32 seen)
{
	u64 due = cpu->vmx.timer_deadline, now = __rdtsc();
	struct timespec t = { .tv_sec = 1 };

	if (due) {
		u64 ns = due > now ? (u64)((u128)(due - now) * 1000000 / x86_tsc_khz()) : 0;

		if (!ns)
			return;
		if (ns < 1000000000)
			t = (struct timespec){ .tv_nsec = (long)ns };
	}
#ifdef __SANITIZE_THREAD__
	/* It holds signals back until a call that it knows to block; a raw system call is none. */
	poll(NULL, 0, 0);
	t = (struct timespec){ .tv_nsec = 1000000 };
#endif
	/* Publish, then look (the kernel does): x86_post() has the other half. */
	atomic_store(&cpu->asleep, true);
	syscall(SYS_futex, &cpu->events, FUTEX_WAIT_PRIVATE, seen, &t, NULL, 0);
	atomic_store(&cpu->asleep, false);
}

void x86_boundary(struct x86_cpu *cpu)
{
	u32 seen;
	bool again;

	do {
		seen = atomic_load(&cpu->events);
		again = false;
		if (x86_guest(cpu))
			x86_vmx_boundary_high(cpu);
		if ((cpu->slow & (X86_SLOW_DB_PENDING | X86_SLOW_SHADOW_SS)) == X86_SLOW_DB_PENDING &&
		    cpu->activity <= X86_ACT_HLT) {
			deliver_debug_trap(cpu);
			again = true;
		} else {
			if (x86_guest(cpu))
				x86_vmx_boundary_low(cpu);
			again = deliver_interrupt(cpu);
		}
	} while (again);

	if (cpu->slow & X86_SLOW_HALTED) {
		x86_pmu_halt(cpu);
		if (x86_guest(cpu))
			sleep_halted(cpu, seen);
		return;
	}
	x86_pmu_wake(cpu);
	if ((cpu->slow & (X86_SLOW_IBP | X86_SLOW_SHADOW_SS)) == X86_SLOW_IBP)
		x86_check_insn_breakpoint(cpu);
	cpu->slow = (cpu->slow & ~(u32)X86_SLOW_START) | START(cpu->slow & START_BITS);
	cpu->start_rip = cpu->rip;
}

/* Does TF trap after this instruction? With DEBUGCTL.BTF only after a taken branch. */
static bool step_traps(const struct x86_cpu *cpu)
{
	const struct x86_op *op = cpu->op_first;

	if (!(cpu->debugctl & DEBUGCTL_BTF))
		return true;
	/* A string instruction that is not done comes back to itself and is no branch. */
	return cpu->rip != ((cpu->start_rip + op->len) & cpu->ip_mask) &&
	       !(cpu->rip == cpu->start_rip && (op->flags & (X86_OP_REP | X86_OP_REPNE)));
}

void x86_after_insn(struct x86_cpu *cpu)
{
	u32 start = cpu->slow & X86_SLOW_START;

	cpu->slow &= ~(u32)X86_SLOW_START;
	if (start & START(X86_SLOW_RF)) {
		cpu->rflags &= ~RFLAGS_RF;
		cpu->slow &= ~(u32)X86_SLOW_RF;
	}
	/* A shadow covers one instruction; the second of two MOV SS in a row casts none. */
	if (start & START(X86_SLOW_SHADOW_STI))
		cpu->slow &= ~(u32)X86_SLOW_SHADOW_STI;
	if (start & START(X86_SLOW_SHADOW_SS))
		cpu->slow &= ~(u32)X86_SLOW_SHADOW_SS;
	/* The step of an instruction that casts the MOV SS shadow is lost. */
	if ((start & START(X86_SLOW_TF)) && !(cpu->slow & X86_SLOW_SHADOW_SS) && step_traps(cpu)) {
		cpu->pending_db |= DR6_BS;
		cpu->slow |= X86_SLOW_DB_PENDING;
	}
}
