// SPDX-License-Identifier: MIT
/*
 * The event queue of a vCPU: exceptions, NMIs and interrupts on their way into
 * the guest.
 *
 * An exception is first pending, when its payload (CR2, DR6) has not reached
 * the guest's registers yet; then injected, when its delivery has begun. An exit
 * that interrupts a delivery hands the event back through the IDT-vectoring
 * field, and it becomes injected again: it is delivered before anything else is
 * considered. Two exceptions merge as SDM vol. 3A "Interrupt 8 - Double Fault
 * Exception" says.
 */
#include "base/log.h"
#include "base/trace.h"
#include "kvm/stats.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/x86.h"

enum exc_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PF };

static enum exc_class exc_class(u8 vector)
{
	switch (vector) {
	case HV_PF:
	case HV_VE:
		return CLASS_PF;
	case HV_DE:
	case HV_TS:
	case HV_NP:
	case HV_SS:
	case HV_GP:
	case HV_CP:
		return CLASS_CONTRIBUTORY;
	default:
		return CLASS_BENIGN;
	}
}

/* Faults push RF = 1. #DB is one only for instruction breakpoints, whose injection sets RF itself. */
static bool is_fault(u8 vector)
{
	switch (vector) {
	case HV_DB:
	case HV_NMI:
	case HV_BP:
	case HV_OF:
	case HV_DF:
	case HV_MC:
		return false;
	default:
		return vector < 32;
	}
}

void hv_queue_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error, bool has_payload,
			u64 payload)
{
	struct hv_exception *e = &v->x86->exception;
	enum exc_class first, second;

	hv_set_request(v, HV_REQ_EVENT);
	if (e->pending || e->injected) {
		if (e->vector == HV_DF) {
			e->pending = e->injected = false;
			hv_set_request(v, HV_REQ_TRIPLE_FAULT);
			return;
		}
		first = exc_class(e->vector);
		second = exc_class(vector);
		if ((first == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY) ||
		    (first == CLASS_PF && second != CLASS_BENIGN)) {
			vector = HV_DF;
			has_error = true;
			error = 0;
			has_payload = false;
			payload = 0;
		}
	}
	*e = (struct hv_exception){
		.pending = true, .vector = vector, .has_error = has_error, .error = error,
		.has_payload = has_payload, .payload = payload,
	};
}

void hv_queue_ud(struct hv_vcpu *v)
{
	hv_queue_exception(v, HV_UD, false, 0, false, 0);
}

void hv_queue_gp(struct hv_vcpu *v, u32 error)
{
	hv_queue_exception(v, HV_GP, true, error, false, 0);
}

int hv_complete_insn_gp(struct hv_vcpu *v, int gp)
{
	if (gp) {
		hv_queue_gp(v, 0);
		return 1;
	}
	return hv_skip_insn(v);
}

void hv_deliver_payload(struct hv_vcpu *v, struct hv_exception *e)
{
	if (!e->has_payload)
		return;
	switch (e->vector) {
	case HV_DB: {
		/* BS, BD and B3-B0 of this #DB; of the old causes only BT and BS stay. */
		u64 dr6 = x86_get_dr(v->cpu, 6) & ~0xfull;

		x86_set_dr(v->cpu, 6, dr6 | (e->payload & DR6_VOLATILE));
		break;
	}
	case HV_PF:
		x86_set_cr2(v->cpu, e->payload);
		break;
	default:
		break;
	}
	e->has_payload = false;
	e->payload = 0;
}

static void trace_exception(const struct hv_exception *e)
{
	static const char *const names[32] = {
		"DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF",
		"15", "MF", "AC", "MC", "XM", "VE", "CP",
	};
	const char *name = e->vector < 32 && names[e->vector] ? names[e->vector] : "?";

	if (e->has_error)
		trace_emit(TRACE_kvm_inj_exception, "#%s (0x%x)", name, e->error);
	else
		trace_emit(TRACE_kvm_inj_exception, "#%s", name);
}

static void inject_exception(struct hv_vcpu *v)
{
	struct hv_exception *e = &v->x86->exception;
	bool soft = e->vector == HV_BP || e->vector == HV_OF;
	u32 info = e->vector | INTR_VALID |
		   (soft ? INTR_TYPE_SOFT_EXC : INTR_TYPE_HARD) << 8;

	if (trace_on(TRACE_kvm_inj_exception))
		trace_exception(e);
	/* In real mode exceptions push no error code, and entry would refuse one. */
	if (e->has_error && hv_is_prot(v))
		info |= INTR_ERROR;
	hv_vmx_inject(v, info, e->error, soft ? v->x86->event_insn_len : 0);
}

static void inject_irq(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 type = x->interrupt.soft ? INTR_TYPE_SOFT_INT : INTR_TYPE_EXT;

	trace(kvm_inj_virq, "%s 0x%x%s", x->interrupt.soft ? "Soft/INTn" : "IRQ", x->interrupt.vector,
	      "");
	hv_stat_inc(v, HV_STAT_irq_injections);
	hv_vmx_inject(v, x->interrupt.vector | type << 8 | INTR_VALID, 0,
		      x->interrupt.soft ? x->event_insn_len : 0);
}

static void inject_nmi(struct hv_vcpu *v)
{
	hv_stat_inc(v, HV_STAT_nmi_injections);
	hv_vmx_inject(v, HV_NMI | INTR_TYPE_NMI << 8 | INTR_VALID, 0, 0);
}

/* What has begun must end first. Returns true if the entry is taken by it. */
static bool reinject(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (x->exception.injected) {
		inject_exception(v);
		return true;
	}
	if (x->exception.pending)
		return false;	/* beats an interrupt that was queued by user space only */
	if (x->nmi.injected) {
		inject_nmi(v);
		return true;
	}
	if (x->interrupt.injected) {
		inject_irq(v);
		return true;
	}
	return false;
}

static bool inject_pending_exception(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct hv_exception *e = &x->exception;

	if (!e->pending)
		return false;
	if (is_fault(e->vector))
		vmcs_set(v, VMCS_GUEST_RFLAGS, vmcs_get(v, VMCS_GUEST_RFLAGS) | RFLAGS_RF);
	hv_deliver_payload(v, e);
	if (e->vector == HV_DB && (hv_get_dr(v, 7) & DR7_GD))
		hv_set_dr(v, 7, hv_get_dr(v, 7) & ~DR7_GD);
	e->pending = false;
	e->injected = true;
	inject_exception(v);
	return true;
}

bool hv_nmi_allowed(struct hv_vcpu *v)
{
	return !v->x86->nmi.injected &&
	       !(vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) &
		 (INTERRUPTIBILITY_NMI | INTERRUPTIBILITY_MOVSS | INTERRUPTIBILITY_STI));
}

bool hv_interrupt_allowed(struct hv_vcpu *v)
{
	return (vmcs_get(v, VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
	       !(vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) &
		 (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS));
}

static void set_windows(struct hv_vcpu *v, bool nmi, bool irq)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (nmi != x->nmi_window) {
		x->nmi_window = nmi;
		hv_vmx_set_proc(v, PROC_NMI_WINDOW_EXITING, nmi);
	}
	if (irq != x->irq_window) {
		x->irq_window = irq;
		hv_vmx_set_proc(v, PROC_INTR_WINDOW_EXITING, irq);
	}
}

static bool irq_waits(struct hv_vcpu *v)
{
	return v->lapic && hv_irq_pending_any(v);
}

/*
 * Not while LINT0 is masked, or an interrupt from there is on its way: a window
 * would open at each entry for nobody, and the guest would not move.
 */
bool hv_user_wants_window(struct hv_vcpu *v)
{
	return v->run->request_interrupt_window && v->vm->irqchip_mode != HV_IRQCHIP_KERNEL &&
	       (!v->lapic || hv_lapic_takes_user_extint(v));
}

static void take_irq(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	int vector = hv_irq_ack(v);

	if (vector < 0)
		return;
	x->interrupt.injected = true;
	x->interrupt.soft = false;
	x->interrupt.vector = (u8)vector;
	inject_irq(v);
}

void hv_inject_events(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	bool taken = reinject(v);

	if (!taken)
		taken = inject_pending_exception(v);
	else if (x->exception.pending)
		hv_set_request(v, HV_REQ_EVENT);

	/*
	 * A debugger that steps may ask for interrupts to be held (BLOCKIRQ):
	 * nothing is lost, the sources keep them pending.
	 */
	if (x->guest_debug & KVM_GUESTDBG_BLOCKIRQ) {
		set_windows(v, false, false);
		return;
	}
	/* Before NMIs: SDM vol. 3A "Priority Among Simultaneous Exceptions and Interrupts". */
	if (x->smi_pending && !x->smm && !taken) {
		x->smi_pending = false;
		hv_enter_smm(v);
		taken = true;
	}
	if (x->nmi.pending && !taken && hv_nmi_allowed(v)) {
		x->nmi.pending--;
		x->nmi.injected = true;
		inject_nmi(v);
		taken = true;
	}
	if (!taken && irq_waits(v) && hv_interrupt_allowed(v)) {
		take_irq(v);
		taken = true;
	}
	set_windows(v, x->nmi.pending, irq_waits(v) || hv_user_wants_window(v));
}

void hv_cancel_injection(struct hv_vcpu *v)
{
	u32 info = (u32)vmcs_get(v, VMCS_ENTRY_INTR_INFO);

	/* Queues still say "injected": the next entry starts with reinject(). */
	if (info & INTR_VALID) {
		vmcs_set(v, VMCS_ENTRY_INTR_INFO, 0);
		hv_set_request(v, HV_REQ_EVENT);
	}
}

void hv_complete_events(struct hv_vcpu *v, u32 idtv)
{
	struct hv_vcpu_x86 *x = v->x86;
	u8 vector = (u8)idtv;

	x->exception.injected = false;
	x->nmi.injected = false;
	x->interrupt.injected = false;
	if (!(idtv & INTR_VALID))
		return;
	hv_set_request(v, HV_REQ_EVENT);
	switch (INTR_TYPE(idtv)) {
	case INTR_TYPE_NMI:
		x->nmi.injected = true;
		/* Injecting it needs virtual-NMI blocking off; delivery turns it on again. */
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY,
			 vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) & ~INTERRUPTIBILITY_NMI);
		break;
	case INTR_TYPE_SOFT_EXC:
	case INTR_TYPE_PRIV_SOFT:
		x->event_insn_len = (u8)vmcs_get(v, VMCS_EXIT_INSN_LEN);
		/* fallthrough */
	case INTR_TYPE_HARD:
		x->exception = (struct hv_exception){
			.injected = true, .vector = vector, .has_error = idtv & INTR_ERROR,
			.error = idtv & INTR_ERROR ? (u32)vmcs_get(v, VMCS_IDT_VECTORING_ERROR) : 0,
		};
		break;
	case INTR_TYPE_SOFT_INT:
		x->event_insn_len = (u8)vmcs_get(v, VMCS_EXIT_INSN_LEN);
		/* fallthrough */
	case INTR_TYPE_EXT:
		x->interrupt.injected = true;
		x->interrupt.soft = INTR_TYPE(idtv) == INTR_TYPE_SOFT_INT;
		x->interrupt.vector = vector;
		break;
	default:
		BUG();
	}
}

void hv_inject_nmi(struct hv_vcpu *v)
{
	hv_set_request(v, HV_REQ_NMI);
	hv_kick(v);
}

void hv_process_smi(struct hv_vcpu *v)
{
	v->x86->smi_pending = true;
	hv_set_request(v, HV_REQ_EVENT);
}

void hv_process_nmi(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	bool blocked = x->nmi.injected ||
		       (vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_NMI);
	u8 limit = blocked ? 1 : 2;

	/* The processor latches one NMI while another is being handled. */
	if (x->nmi.pending < limit)
		x->nmi.pending++;
	hv_set_request(v, HV_REQ_EVENT);
}
