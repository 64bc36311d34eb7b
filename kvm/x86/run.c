// SPDX-License-Identifier: MIT
/*
 * KVM_RUN: what happens before the first entry and after the last exit, the
 * loop between guest, halt and wait, signals.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/stats.h"
#include "kvm/vcpu_life.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/x86.h"

#define SYNC_FIELDS (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

bool hv_vcpu_has_events(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 requests = atomic_load(&v->requests);

	if (hv_has_init_sipi(v))
		return true;
	/* KVM_HC_KICK_CPU wakes whatever IF says; it stays until the halt has ended. */
	if (requests & (BIT(HV_REQ_UNHALT) | BIT(HV_REQ_TRIPLE_FAULT) | BIT(HV_REQ_VM_DEAD)))
		return true;
	if (x->exception.pending)
		return true;
	/*
	 * Our rule: with BLOCKIRQ a halted guest stays halted, since nothing that would
	 * end the halt may be taken. (KVM's wake-up check does not look at the flag.)
	 */
	if (x->guest_debug & KVM_GUESTDBG_BLOCKIRQ)
		return false;
	if ((requests & BIT(HV_REQ_NMI)) || (x->nmi.pending && hv_nmi_allowed(v)))
		return true;
	if ((requests & BIT(HV_REQ_SMI)) || (x->smi_pending && !x->smm))
		return true;
	if (x->interrupt.injected)
		return true;
	return v->lapic && hv_interrupt_allowed(v) && hv_irq_pending_any(v);
}

/* Latched INIT and start-up IPIs, then: is the vCPU to execute? */
static bool runnable(struct hv_vcpu *v)
{
	if (hv_has_init_sipi(v))
		hv_take_init_sipi(v);
	return atomic_load(&v->mp_state) == KVM_MP_STATE_RUNNABLE;
}

static bool work_while_blocked(struct hv_vcpu *v)
{
	const u64 now = BIT(HV_REQ_VM_DEAD) | BIT(HV_REQ_IOAPIC_EOI_EXIT) | BIT(HV_REQ_HYPERV);

	return hv_vcpu_has_events(v) || (atomic_load(&v->requests) & now) || hv_signal_pending(v);
}

static u64 monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* Sleep until there is something to do. */
static void block(struct hv_vcpu *v)
{
	u64 start = monotonic_ns();

	atomic_store_explicit(&v->stats->count[HV_STAT_blocking], 1, memory_order_relaxed);
	for (;;) {
		u32 word;

		atomic_store(&v->waiting, true);
		word = atomic_load(&v->wait_word);
		if (v->lapic)
			hv_lapic_timer_poll(v);
		if (work_while_blocked(v))
			break;
		hv_vcpu_sleep(v, word, v->lapic ? hv_lapic_timer_next(v) : 0);
	}
	atomic_store(&v->waiting, false);
	atomic_store_explicit(&v->stats->count[HV_STAT_blocking], 0, memory_order_relaxed);
	hv_stat_add(v, HV_STAT_halt_wait_ns, monotonic_ns() - start);
	trace(kvm_vcpu_wakeup, "wait time %llu ns, polling invalid",
	      (unsigned long long)(monotonic_ns() - start));
}

/* Not runnable: wait for what changes that. As an exit handler. */
static int wait_runnable(struct hv_vcpu *v)
{
	u32 state;

	block(v);
	if (atomic_load(&v->requests) & BIT(HV_REQ_VM_DEAD))
		return -EIO;
	if (hv_test_request(v, HV_REQ_HYPERV)) {
		int r = hyperv_serve(v);

		if (r <= 0)
			return r;
	}
	state = atomic_load(&v->mp_state);
	if (state == KVM_MP_STATE_HALTED && hv_vcpu_has_events(v)) {
		hv_stat_inc(v, HV_STAT_halt_wakeup);
		hv_test_request(v, HV_REQ_UNHALT);
		atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
		hv_set_request(v, HV_REQ_EVENT);
	} else if (hv_has_init_sipi(v)) {
		hv_take_init_sipi(v);
	}
	return 1;
}

int hv_vcpu_halt(struct hv_vcpu *v)
{
	hv_stat_inc(v, HV_STAT_halt_exits);
	if (!v->lapic) {
		v->run->exit_reason = KVM_EXIT_HLT;
		return 0;
	}
	atomic_store(&v->mp_state, KVM_MP_STATE_HALTED);
	return 1;
}

/* User space plays the interrupt controller: would the guest take its interrupt now? */
static bool ready_for_user_interrupt(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (v->lapic && !hv_lapic_takes_user_extint(v))
		return false;
	return hv_interrupt_allowed(v) && !x->interrupt.injected && !x->exception.pending &&
	       !x->exception.injected;
}

static bool user_irqchip(struct hv_vcpu *v)
{
	return v->vm->irqchip_mode != HV_IRQCHIP_KERNEL;
}

static int interrupted(struct hv_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_INTR;
	hv_stat_inc(v, HV_STAT_signal_exits);
	return -EINTR;
}

static int run_loop(struct hv_vcpu *v)
{
	int r;

	for (;;) {
		/* No entry with a ring that one more stay could overflow: a PML buffer comes at once. */
		if (unlikely(hv_dirty_ring_soft_full(v))) {
			v->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
			return 0;
		}
		if (likely(atomic_load_explicit(&v->mp_state, memory_order_relaxed) ==
			   KVM_MP_STATE_RUNNABLE) || runnable(v))
			r = hv_vmx_run(v);
		else
			r = wait_runnable(v);
		if (r <= 0)
			return r;
		if (hv_user_wants_window(v) && ready_for_user_interrupt(v)) {
			v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			hv_stat_inc(v, HV_STAT_request_irq_exits);
			return 0;
		}
		if (unlikely(hv_signal_pending(v)))
			return interrupted(v);
	}
}

/* ---- KVM_CAP_SYNC_REGS ---- */

static int load_sync_regs(struct hv_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 dirty = run->kvm_dirty_regs;
	int r = 0;

	if (dirty & KVM_SYNC_X86_REGS) {
		struct kvm_regs regs = run->s.regs.regs;

		r = hv_set_regs(v, &regs);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_REGS;
	}
	if (r == 0 && (dirty & KVM_SYNC_X86_SREGS)) {
		struct kvm_sregs sregs = run->s.regs.sregs;

		r = hv_set_sregs(v, &sregs);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
	if (r == 0 && (dirty & KVM_SYNC_X86_EVENTS)) {
		struct kvm_vcpu_events events = run->s.regs.events;

		r = hv_set_vcpu_events(v, &events);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_EVENTS;
	}
	return r < 0 ? -EINVAL : 0;
}

static void store_sync_regs(struct hv_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 valid = run->kvm_valid_regs;

	if (valid & KVM_SYNC_X86_REGS)
		hv_get_regs(v, &run->s.regs.regs);
	if (valid & KVM_SYNC_X86_SREGS)
		hv_get_sregs(v, &run->s.regs.sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		hv_get_vcpu_events(v, &run->s.regs.events);
}

/* Fields that clients read after every return, EINTR included. */
static void publish(struct hv_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->if_flag = !!(vmcs_get(v, VMCS_GUEST_RFLAGS) & RFLAGS_IF);
	run->flags = v->x86->smm ? KVM_RUN_X86_SMM : 0;
	run->cr8 = hv_get_cr8(v);
	run->apic_base = v->lapic ? hv_lapic_get_base(v) : v->x86->apic_base;
	run->ready_for_interrupt_injection = !user_irqchip(v) || ready_for_user_interrupt(v);
	if (run->kvm_valid_regs)
		store_sync_regs(v);
}

/* A vCPU that has never been started waits here and returns to its client once it was. */
static int run_uninitialized(struct hv_vcpu *v)
{
	if (v->run->immediate_exit)
		return -EINTR;
	block(v);
	if (hv_has_init_sipi(v))
		hv_take_init_sipi(v);
	if (hv_signal_pending(v))
		return interrupted(v);
	return -EAGAIN;
}

static int run_checked(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	int (*complete)(struct hv_vcpu *v) = x->complete;
	int r;

	if (atomic_load(&v->vm->dying))
		return -EIO;
	if ((v->run->kvm_valid_regs | v->run->kvm_dirty_regs) & ~(u64)SYNC_FIELDS)
		return -EINVAL;
	if (atomic_load(&v->mp_state) == KVM_MP_STATE_UNINITIALIZED)
		return run_uninitialized(v);
	if (v->run->kvm_dirty_regs) {
		r = load_sync_regs(v);
		if (r < 0)
			return r;
	}
	if (!v->lapic && hv_guest_set_cr8(v, v->run->cr8))
		return -EINVAL;
	if (complete) {
		x->complete = NULL;
		r = complete(v);
		if (r <= 0)
			return r;
	}
	if (v->run->immediate_exit)
		return -EINTR;
	/* Pending already: nobody will tell again. */
	if (unlikely(v->sigmask_set && hv_signal_pending(v)))
		return interrupted(v);
	x->ran = true;
	return run_loop(v);
}

static const char *exit_reason_name(u32 reason)
{
	static const char *const names[] = {
#define REASON(x) [KVM_EXIT_##x] = "KVM_EXIT_" #x
		REASON(UNKNOWN), REASON(IO), REASON(HYPERCALL), REASON(DEBUG), REASON(HLT), REASON(MMIO),
		REASON(IRQ_WINDOW_OPEN), REASON(SHUTDOWN), REASON(FAIL_ENTRY), REASON(INTR),
		REASON(SET_TPR), REASON(TPR_ACCESS), REASON(NMI), REASON(INTERNAL_ERROR),
		REASON(SYSTEM_EVENT), REASON(IOAPIC_EOI), REASON(HYPERV), REASON(X86_RDMSR),
		REASON(X86_WRMSR), REASON(DIRTY_RING_FULL), REASON(X86_BUS_LOCK),
#undef REASON
	};

	return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "unknown";
}

static void on_signal(void *arg)
{
	struct hv_vcpu *v = arg;

	atomic_store(&v->signalled, true);
	hv_kick(v);
}

/* A signal is on its way to a thread that may have it blocked: see hv_signal_pending(). */
static void on_poke(void *arg)
{
	hv_kick(arg);
}

int hv_vcpu_run(struct hv_vcpu *v)
{
	const struct vfs_kick kick = { on_signal, v, v->sigmask_set ? on_poke : NULL }, *outer;
	sigset_t add, old;
	int r;

	atomic_store(&v->signalled, false);
	outer = vfs_set_kick(&kick);
	if (v->sigmask_set) {
		/*
		 * Signals that the client's KVM mask blocks must not end KVM_RUN. Those that
		 * it opens stay blocked here, and are looked for with sigpending(): their
		 * handler must not run before the client takes them.
		 */
		sigemptyset(&add);
		for (int sig = 1; sig <= 64; sig++) {
			if (v->sigmask >> (sig - 1) & 1)
				sigaddset(&add, sig);
		}
		pthread_sigmask(SIG_BLOCK, &add, &old);
	}
	/* The client may have written code while it had control. */
	x86_code_changed(v->cpu);
	r = run_checked(v);
	publish(v);
	if (v->sigmask_set)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	vfs_set_kick(outer);
	trace(kvm_userspace_exit, "reason %s (%d)",
	      r < 0 ? (r == -EINTR ? "restart" : "error") : exit_reason_name(v->run->exit_reason),
	      r < 0 ? -r : (int)v->run->exit_reason);
	return r;
}
