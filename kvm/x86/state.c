// SPDX-License-Identifier: MIT
/*
 * The state of a vCPU that is neither register nor MSR: events, MP state,
 * interrupts and NMIs from user space, address translation.
 */
#include <errno.h>
#include <string.h>

#include "kvm/hv.h"
#include "kvm/x86/x86.h"

#define EVENT_FLAGS (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | \
		     KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | \
		     KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

void hv_get_vcpu_events(struct hv_vcpu *v, struct kvm_vcpu_events *e)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct hv_exception *exc = &x->exception;
	u32 shadow = (u32)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);

	if (hv_test_request(v, HV_REQ_NMI))
		hv_process_nmi(v);
	memset(e, 0, sizeof(*e));
	/*
	 * Without the payload capability a client knows one kind of exception only:
	 * it must find CR2 and DR6 in the registers and the exception "injected".
	 */
	if (!v->vm->exception_payload && exc->pending)
		hv_deliver_payload(v, exc);
	if (exc->vector == HV_BP || exc->vector == HV_OF) {
		/* Software exceptions are made again by executing the instruction. */
	} else if (v->vm->exception_payload) {
		e->exception.injected = exc->injected;
		e->exception.pending = exc->pending;
	} else {
		e->exception.injected = exc->injected || exc->pending;
	}
	e->exception.nr = exc->vector;
	e->exception.has_error_code = exc->has_error;
	e->exception.error_code = exc->error;
	e->exception_has_payload = exc->has_payload;
	e->exception_payload = exc->payload;
	e->interrupt.injected = x->interrupt.injected && !x->interrupt.soft;
	e->interrupt.nr = x->interrupt.vector;
	e->interrupt.shadow = (shadow & INTERRUPTIBILITY_STI ? KVM_X86_SHADOW_INT_STI : 0) |
			      (shadow & INTERRUPTIBILITY_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
	e->nmi.injected = x->nmi.injected;
	e->nmi.pending = x->nmi.pending;
	e->nmi.masked = !!(shadow & INTERRUPTIBILITY_NMI);
	hv_get_smi(v, e);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SMM;
	if (v->vm->exception_payload)
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (v->vm->triple_fault_event) {
		e->triple_fault.pending = !!(atomic_load(&v->requests) & BIT(HV_REQ_TRIPLE_FAULT));
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
}

static bool events_valid(struct hv_vcpu *v, const struct kvm_vcpu_events *e)
{
	if (e->flags & ~(u32)EVENT_FLAGS)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && !v->vm->exception_payload)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !v->vm->triple_fault_event)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && e->exception.pending && e->exception.injected)
		return false;
	if ((e->exception.injected || e->exception.pending) &&
	    (e->exception.nr > 31 || e->exception.nr == HV_NMI))
		return false;
	/* A processor that waits for a start-up IPI cannot be in SMM, where INIT is blocked. */
	if ((e->flags & KVM_VCPUEVENT_VALID_SMM) && (e->smi.smm || e->smi.pending) &&
	    atomic_load(&v->mp_state) == KVM_MP_STATE_INIT_RECEIVED)
		return false;
	return true;
}

int hv_set_vcpu_events(struct hv_vcpu *v, const struct kvm_vcpu_events *e)
{
	struct hv_vcpu_x86 *x = v->x86;
	bool payload = e->flags & KVM_VCPUEVENT_VALID_PAYLOAD;
	u32 shadow = (u32)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);

	if (!events_valid(v, e))
		return -EINVAL;
	if (hv_test_request(v, HV_REQ_NMI))
		hv_process_nmi(v);
	x->exception = (struct hv_exception){
		.injected = e->exception.injected, .pending = payload && e->exception.pending,
		.vector = e->exception.nr, .has_error = e->exception.has_error_code,
		.error = e->exception.error_code, .has_payload = payload && e->exception_has_payload,
		.payload = payload ? e->exception_payload : 0,
	};
	x->interrupt.injected = e->interrupt.injected;
	x->interrupt.vector = e->interrupt.nr;
	x->interrupt.soft = e->interrupt.soft;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		shadow &= ~(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOVSS);
		if (e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS)
			shadow |= INTERRUPTIBILITY_MOVSS;
		else if (e->interrupt.shadow & KVM_X86_SHADOW_INT_STI)
			shadow |= INTERRUPTIBILITY_STI;
	}
	x->nmi.injected = e->nmi.injected;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		x->nmi.pending = e->nmi.pending;
	shadow = e->nmi.masked ? shadow | INTERRUPTIBILITY_NMI : shadow & ~INTERRUPTIBILITY_NMI;
	vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY, shadow);
	if (e->flags & KVM_VCPUEVENT_VALID_SMM)
		hv_set_smi(v, e);
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		if (e->triple_fault.pending)
			hv_set_request(v, HV_REQ_TRIPLE_FAULT);
		else
			hv_test_request(v, HV_REQ_TRIPLE_FAULT);
	}
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

int hv_get_mp_state(struct hv_vcpu *v, struct kvm_mp_state *m)
{
	/* INIT and start-up IPIs that have arrived count, and change the registers. */
	if (hv_has_init_sipi(v))
		hv_take_init_sipi(v);
	m->mp_state = atomic_load(&v->mp_state);
	return 0;
}

int hv_set_mp_state(struct hv_vcpu *v, const struct kvm_mp_state *m)
{
	/* INIT is latched, not taken, in SMM or on the way there. */
	if ((v->x86->smm || v->x86->smi_pending) &&
	    (m->mp_state == KVM_MP_STATE_INIT_RECEIVED || m->mp_state == KVM_MP_STATE_SIPI_RECEIVED))
		return -EINVAL;
	switch (m->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_INIT_RECEIVED:
		if (!v->lapic)
			return -EINVAL;
		break;
	case KVM_MP_STATE_SIPI_RECEIVED:
		/* Held for an instant only: a start-up IPI to vector 0 has been taken. */
		if (!v->lapic)
			return -EINVAL;
		hv_vcpu_sipi(v, 0);
		atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
		hv_set_request(v, HV_REQ_EVENT);
		return 0;
	default:
		return -EINVAL;
	}
	atomic_store(&v->mp_state, m->mp_state);
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

int hv_user_interrupt(struct hv_vcpu *v, u32 vector)
{
	if (vector >= 256)
		return -EINVAL;
	switch (v->vm->irqchip_mode) {
	case HV_IRQCHIP_KERNEL:
		return -ENXIO;
	case HV_IRQCHIP_SPLIT:
		return hv_irq_set_extint(v, (u8)vector);
	case HV_IRQCHIP_NONE:
		break;
	}
	v->x86->interrupt.injected = true;
	v->x86->interrupt.soft = false;
	v->x86->interrupt.vector = (u8)vector;
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

int hv_user_nmi(struct hv_vcpu *v)
{
	hv_inject_nmi(v);
	return 0;
}

/*
 * What the guest's page tables say, by its present CR0.WP and the like: may user mode read, and
 * may whoever can read write? SMAP hides pages of users from the kernel, not from a debugger.
 */
int hv_translate(struct hv_vcpu *v, struct kvm_translation *t)
{
	enum { WRITE = 1, USER = 2 };
	struct x86_cpu *cpu = hv_emul_load(v, false);
	unsigned who;
	u64 pa = 0;

	if (!cpu)
		return -ENOMEM;
	t->usermode = !x86_emul_translate(cpu, t->linear_address, USER, &pa);
	who = t->usermode && x86_emul_translate(cpu, t->linear_address, 0, &pa) ? USER : 0;
	t->valid = !x86_emul_translate(cpu, t->linear_address, who, &pa);
	t->physical_address = t->valid ? pa : ~0ull;
	t->writeable = t->valid && !x86_emul_translate(cpu, t->linear_address, who | WRITE, &pa);
	return 0;
}

int hv_set_vapic_addr(struct hv_vcpu *v, u64 addr)
{
	u8 page[4];

	if (!v->lapic)
		return -EINVAL;
	/* TPR-access reporting is not offered; an address must still be one of memory. */
	if (addr && hv_read_guest(v->vm, 0, addr, page, sizeof(page)) < 0)
		return -EINVAL;
	return 0;
}

/* ---- Nested virtualization: the state of a guest that has none ---- */

#define NOWHERE (~0ull)

int hv_get_nested_state(struct hv_vcpu *v, struct kvm_nested_state *s, u32 size)
{
	if (size < sizeof(*s))
		return (int)sizeof(*s);
	memset(s, 0, sizeof(*s));
	s->format = KVM_STATE_NESTED_FORMAT_VMX;
	s->size = sizeof(*s);
	s->hdr.vmx.vmxon_pa = NOWHERE;
	s->hdr.vmx.vmcs12_pa = NOWHERE;
	return (int)sizeof(*s);
}

int hv_set_nested_state(struct hv_vcpu *v, const struct kvm_nested_state *s)
{
	if (s->size < sizeof(*s) || s->flags || s->format != KVM_STATE_NESTED_FORMAT_VMX)
		return -EINVAL;
	if (s->hdr.vmx.vmxon_pa != NOWHERE || s->hdr.vmx.vmcs12_pa != NOWHERE || s->hdr.vmx.smm.flags)
		return -EINVAL;
	return 0;
}
