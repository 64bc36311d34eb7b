// SPDX-License-Identifier: MIT
/*
 * Reference time: TIME_REF_COUNT and the page from which guests compute it without
 * an exit. TLFS "Partition Reference Time Enlightenment":
 *	time = (TSC * scale >> 64) + offset, unless the sequence is 0.
 *
 * States: UNSET, the guest has no page. GUEST_CHANGED and HOST_CHANGED, the page has
 * to be written: the guest asked for it, or user space did or moved the clock. SET.
 * BROKEN: no page can be, the sequence stays 0 and guests read the MSR.
 *
 * Only a vCPU on its way into the guest writes the page, so that a write is always
 * somebody's, also for the dirty ring. While a guest has turned TSC emulation on
 * (after a migration, until it has told its own guests), the page is not touched,
 * except if it is the guest that asks.
 */
#include <linux/kvm.h>

#include "kvm/mem.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/hyperv/hyperv_priv.h"

struct tsc_page {
	u32 sequence, reserved;
	u64 scale;
	s64 offset;
};
_Static_assert(sizeof(struct tsc_page) == 24, "TLFS HV_REFERENCE_TSC_PAGE");

#define PAGE_ADDR(msr) ((msr) & PAGE_MASK)

static bool must_not_change(const struct hyperv_vm *h)
{
	return h->page_state != TSC_PAGE_GUEST_CHANGED && h->tsc_emulation_control;
}

/* False: the clock bends, or its rate cannot be expressed. */
static bool compute(struct hv_vcpu *v, u64 *scale, s64 *offset)
{
	struct hv_clock_line line;
	u128 wide;

	if (!hv_clock_line(v, &line))
		return false;
	/* ns = (ticks << shift) * mul >> 32, in units of 100 ns with 64 fraction bits. */
	wide = ((u128)line.mul << (32 + line.shift)) / 100;
	if (wide >> 64)
		return false;
	*scale = (u64)wide;
	*offset = (s64)(line.system_time / 100) - (s64)((u128)line.tsc * *scale >> 64);
	return true;
}

/* Lock held. */
static void set_up(struct hv_vcpu *v, struct hyperv_vm *h)
{
	u64 gpa = PAGE_ADDR(h->reference_tsc);
	struct tsc_page page;
	u32 sequence;

	if (hv_read_guest(v->vm, 0, gpa, &page, sizeof(page)))
		goto broken;
	if (page.sequence && must_not_change(h)) {
		h->page_scale = page.scale;
		h->page_offset = page.offset;
		h->page_state = TSC_PAGE_SET;
		return;
	}
	/* Invalid, then the body, then valid with another sequence: three writes, in this order. */
	sequence = page.sequence;
	page.sequence = 0;
	if (hv_write_guest(v->vm, 0, gpa, &page.sequence, sizeof(page.sequence)))
		goto broken;
	if (!compute(v, &page.scale, &page.offset))
		goto broken;
	if (hv_write_guest(v->vm, 0, gpa, &page, sizeof(page)))
		goto broken;
	/* 0 and all ones mean "invalid" to one version of the TLFS or the other. */
	sequence++;
	if (sequence == 0 || sequence == UINT32_MAX)
		sequence = 1;
	if (hv_write_guest(v->vm, 0, gpa, &sequence, sizeof(sequence)))
		goto broken;
	h->page_scale = page.scale;
	h->page_offset = page.offset;
	h->page_state = TSC_PAGE_SET;
	return;

broken:
	h->page_state = TSC_PAGE_BROKEN;
}

void hyperv_clock_update(struct hv_vcpu *v)
{
	struct hyperv_vm *h = v->vm->hyperv;

	pthread_mutex_lock(&h->lock);
	if (h->page_state == TSC_PAGE_GUEST_CHANGED || h->page_state == TSC_PAGE_HOST_CHANGED)
		set_up(v, h);
	pthread_mutex_unlock(&h->lock);
}

void hyperv_clock_moved(struct hv_vm *vm)
{
	struct hyperv_vm *h = vm->hyperv;

	pthread_mutex_lock(&h->lock);
	if (h->page_state == TSC_PAGE_SET && !must_not_change(h))
		h->page_state = TSC_PAGE_HOST_CHANGED;
	pthread_mutex_unlock(&h->lock);
}

void hyperv_set_reference_tsc(struct hv_vcpu *v, u64 val, bool host)
{
	struct hyperv_vm *h = v->vm->hyperv;
	bool on = val & HYPERV_PAGE_ENABLE;

	pthread_mutex_lock(&h->lock);
	h->reference_tsc = val;
	if (!on)
		h->page_state = TSC_PAGE_UNSET;
	else
		h->page_state = host ? TSC_PAGE_HOST_CHANGED : TSC_PAGE_GUEST_CHANGED;
	pthread_mutex_unlock(&h->lock);
	if (on)
		hv_request_all(v->vm, HV_REQ_CLOCK_UPDATE, false);
}

u64 hyperv_time(struct hv_vcpu *v)
{
	struct hyperv_vm *h = v->vm->hyperv;
	bool by_page;
	u64 time = 0;

	/* As the page says, so that who reads both sees one time. */
	pthread_mutex_lock(&h->lock);
	by_page = h->page_state == TSC_PAGE_SET;
	if (by_page)
		time = (u64)((u128)hv_guest_tsc(v) * h->page_scale >> 64) + (u64)h->page_offset;
	pthread_mutex_unlock(&h->lock);
	return by_page ? time : hv_kvmclock_ns(v->vm) / 100;
}
