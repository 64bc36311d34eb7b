// SPDX-License-Identifier: MIT
/*
 * Debugging by user space (KVM_SET_GUEST_DEBUG) and the guest's own debug
 * registers (KVM_GET/SET_DEBUGREGS).
 *
 * Normally the guest owns DR0-DR3, DR6 and DR7 in hardware. While user space
 * uses hardware breakpoints it owns DR0-DR3 and DR7: the guest's values are kept
 * in struct hv_vcpu_x86 and its MOV DR exits.
 */
#include <errno.h>
#include <string.h>

#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/x86/x86.h"

#define GUESTDBG_VALID (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP | \
			KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB | \
			KVM_GUESTDBG_BLOCKIRQ)

static bool user_owns(struct hv_vcpu *v)
{
	return v->x86->guest_debug & KVM_GUESTDBG_USE_HW_BP;
}

u64 hv_get_dr(struct hv_vcpu *v, unsigned n)
{
	if (n == 6)
		return x86_get_dr(v->cpu, 6);
	if (user_owns(v))
		return n == 7 ? v->x86->dr7 : v->x86->dr[n];
	return n == 7 ? vmcs_get(v, VMCS_GUEST_DR7) : x86_get_dr(v->cpu, n);
}

void hv_set_dr(struct hv_vcpu *v, unsigned n, u64 val)
{
	if (n == 6)
		x86_set_dr(v->cpu, 6, val);
	else if (n == 7 && user_owns(v))
		v->x86->dr7 = val;
	else if (n == 7)
		vmcs_set(v, VMCS_GUEST_DR7, val);
	else if (user_owns(v))
		v->x86->dr[n] = val;
	else
		x86_set_dr(v->cpu, n, val);
}

void hv_update_exception_bitmap(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 bitmap = BIT(HV_MC) | BIT(HV_UD);

	if (x->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP))
		bitmap |= BIT(HV_DB);
	if (x->guest_debug & KVM_GUESTDBG_USE_SW_BP)
		bitmap |= BIT(HV_BP);
	if (bitmap == x->exc_bitmap)
		return;
	x->exc_bitmap = bitmap;
	vmcs_set(v, VMCS_EXCEPTION_BITMAP, bitmap);
}

int hv_debug_exit(struct hv_vcpu *v, u32 exception, u64 dr6, u64 pc)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.exception = exception;
	run->debug.arch.pc = pc;
	run->debug.arch.dr6 = dr6;
	run->debug.arch.dr7 = exception == HV_DB ? vmcs_get(v, VMCS_GUEST_DR7) : 0;
	return 0;
}

int hv_singlestep_done(struct hv_vcpu *v)
{
	if (v->x86->guest_debug & KVM_GUESTDBG_SINGLESTEP)
		return hv_debug_exit(v, HV_DB, DR6_BS | DR6_FIXED_1, hv_linear_rip(v));
	hv_queue_exception(v, HV_DB, false, 0, true, DR6_BS);
	return 1;
}

/* MOV DR while user space owns the breakpoints. SDM vol. 3B "Debug Registers". */
int hv_exit_dr(struct hv_vcpu *v)
{
	u64 q = v->x86->exit_qual, val;
	unsigned n = q & 7, gpr = (unsigned)bits_get(q, 11, 8);

	/* The exit precedes every check of the instruction. */
	if (hv_get_cpl(v) != 0) {
		hv_queue_gp(v, 0);
		return 1;
	}
	if (n == 4 || n == 5) {
		if (hv_get_cr4(v) & CR4_DE) {
			hv_queue_ud(v);
			return 1;
		}
		n += 2;
	}
	/* General detect is of the DR7 in force, which is user space's while it debugs. */
	if (vmcs_get(v, VMCS_GUEST_DR7) & DR7_GD) {
		if (v->x86->guest_debug & KVM_GUESTDBG_USE_HW_BP)
			return hv_debug_exit(v, HV_DB, DR6_BD | DR6_FIXED_1, hv_linear_rip(v));
		hv_queue_exception(v, HV_DB, false, 0, true, DR6_BD);
		return 1;
	}
	if (q & BIT(4)) {
		hv_set_gpr(v, gpr, hv_get_dr(v, n));
		return hv_skip_insn(v);
	}
	val = hv_get_gpr(v, gpr);
	if (!hv_is_64bit(v))
		val = (u32)val;
	if (n >= 6 && val >> 32)
		return hv_complete_insn_gp(v, 1);
	if (n == 7)
		val = (val & 0xffff2fff) | DR7_FIXED_1;
	hv_set_dr(v, n, val);
	return hv_skip_insn(v);
}

static void take_debug_registers(struct hv_vcpu *v, const struct kvm_guest_debug *d)
{
	struct hv_vcpu_x86 *x = v->x86;

	for (unsigned i = 0; i < 4; i++) {
		x->dr[i] = x86_get_dr(v->cpu, i);
		x86_set_dr(v->cpu, i, d->arch.debugreg[i]);
	}
	x->dr7 = vmcs_get(v, VMCS_GUEST_DR7);
	vmcs_set(v, VMCS_GUEST_DR7, (d->arch.debugreg[7] & 0xffff2fff) | DR7_FIXED_1);
}

static void give_debug_registers_back(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	for (unsigned i = 0; i < 4; i++)
		x86_set_dr(v->cpu, i, x->dr[i]);
	vmcs_set(v, VMCS_GUEST_DR7, x->dr7);
}

int hv_set_guest_debug(struct hv_vcpu *v, const struct kvm_guest_debug *d)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 rflags;

	if (d->control & ~(u32)GUESTDBG_VALID)
		return -EINVAL;
	if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (x->exception.pending || x->exception.injected)
			return -EBUSY;
		x->event_insn_len = 1;	/* a queued INT3 is the one-byte instruction */
		hv_queue_exception(v, d->control & KVM_GUESTDBG_INJECT_DB ? HV_DB : HV_BP, false, 0,
				   false, 0);
	}
	/* Read without the TF of stepping, written back with that of the new setting. */
	rflags = hv_get_rflags(v);
	if (user_owns(v))
		give_debug_registers_back(v);
	x->guest_debug = 0;
	if (d->control & KVM_GUESTDBG_ENABLE) {
		if (d->control & KVM_GUESTDBG_USE_HW_BP)
			take_debug_registers(v, d);
		x->guest_debug = d->control;
	}
	if (x->guest_debug & KVM_GUESTDBG_SINGLESTEP)
		x->singlestep_rip = hv_linear_rip(v);
	hv_set_rflags(v, rflags);
	hv_vmx_set_proc(v, PROC_MOV_DR_EXITING, user_owns(v));
	hv_update_exception_bitmap(v);
	/* What was held back by BLOCKIRQ may go now. */
	hv_set_request(v, HV_REQ_EVENT);
	return 0;
}

void hv_get_debugregs(struct hv_vcpu *v, struct kvm_debugregs *d)
{
	memset(d, 0, sizeof(*d));
	for (unsigned i = 0; i < 4; i++)
		d->db[i] = hv_get_dr(v, i);
	d->dr6 = hv_get_dr(v, 6);
	d->dr7 = hv_get_dr(v, 7);
}

int hv_set_debugregs(struct hv_vcpu *v, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	for (unsigned i = 0; i < 4; i++)
		hv_set_dr(v, i, d->db[i]);
	hv_set_dr(v, 6, d->dr6);
	hv_set_dr(v, 7, (d->dr7 & 0xffff2fff) | DR7_FIXED_1);
	return 0;
}
