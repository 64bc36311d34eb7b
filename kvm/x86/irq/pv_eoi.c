// SPDX-License-Identifier: MIT
/*
 * PV EOI: a flag in guest memory says "no EOI needed". The guest then clears it
 * with one locked instruction instead of writing the EOI register, and we take
 * its clearing for the EOI when we next look.
 *
 * It is offered only where the EOI has nothing to do but clear ISR: for an edge
 * interrupt that no chip waits for, with nothing else in IRR that the EOI would
 * have to let in.
 */
#include <linux/kvm_para.h>

#include "kvm/mem.h"
#include "kvm/x86/irq/lapic.h"

#define FLAG_GPA(msr) ((msr) & ~3ull)

/* The flag's byte; false if it cannot be reached: the feature is off then. */
static bool flag_read(struct hv_lapic *l, u8 *flag)
{
	return !hv_read_guest(l->v->vm, 0, FLAG_GPA(l->pv_eoi), flag, 1);
}

static bool flag_write(struct hv_lapic *l, u8 flag)
{
	return !hv_write_guest(l->v->vm, 0, FLAG_GPA(l->pv_eoi), &flag, 1);
}

int hv_pv_eoi_set(struct hv_vcpu *v, u64 val)
{
	struct hv_lapic *l = v->lapic;

	/* Bit 1 is reserved; the flag is a dword, so the address is a multiple of 4. */
	if (val & 2)
		return 1;
	if (!l)
		return val & KVM_MSR_ENABLED ? 1 : 0;
	lapic_pv_eoi_sync(l);
	l->pv_eoi = val;
	return 0;
}

u64 hv_pv_eoi_get(struct hv_vcpu *v)
{
	return v->lapic ? v->lapic->pv_eoi : 0;
}

void lapic_pv_eoi_reset(struct hv_lapic *l)
{
	l->pv_eoi = 0;
	l->pv_eoi_offered = false;
}

void lapic_pv_eoi_sync(struct hv_lapic *l)
{
	u8 flag;

	if (!l->pv_eoi_offered)
		return;
	l->pv_eoi_offered = false;
	if (!flag_read(l, &flag))
		return;
	if (flag & KVM_PV_EOI_MASK)
		flag_write(l, flag & ~KVM_PV_EOI_MASK);
	else
		lapic_guest_eoi(l);
}

void hv_pv_eoi_exit(struct hv_vcpu *v)
{
	if (v->lapic)
		lapic_pv_eoi_sync(v->lapic);
}

void hv_pv_eoi_entry(struct hv_vcpu *v)
{
	struct hv_lapic *l = v->lapic;
	u64 handled[4];
	int isr;
	u8 flag;

	if (!l || !(l->pv_eoi & KVM_MSR_ENABLED) || l->pv_eoi_offered)
		return;
	isr = lapic_vec_highest(l, APIC_ISR);
	if (isr < 0 || lapic_vec_highest(l, APIC_IRR) >= 0 || lapic_vec_test(l, APIC_TMR, (u8)isr))
		return;
	if (l->synic_used[isr / 64] >> (isr % 64) & 1)
		return;
	/* Edges are of interest to our own IOAPIC only. */
	if (v->vm->ioapic) {
		hv_ioapic_eoi_bitmap(v, handled);
		if (handled[isr / 64] & BIT(isr % 64))
			return;
	}
	if (!flag_read(l, &flag) || !flag_write(l, flag | KVM_PV_EOI_MASK))
		return;
	l->pv_eoi_offered = true;
}
