// SPDX-License-Identifier: MIT
/*
 * The synthetic interrupt controller: sixteen sources of a vCPU with a vector each,
 * and the pages for messages and events. TLFS "Inter-Partition Communication".
 */
#include <errno.h>
#include <string.h>

#include "kvm/mem.h"
#include "kvm/x86/hyperv/hyperv_priv.h"

#define SINT_VECTOR 0xffull
#define SINT_MASKED BIT(16)
#define SINT_AUTO_EOI BIT(17)
#define SYNIC_VERSION 1
#define MESSAGE_BYTES 256u
#define MESSAGE_TIMER_EXPIRED 0x80000010u
#define MESSAGE_PENDING 1u

struct timer_message {
	u32 type;
	u8 size, flags, reserved[2];
	u64 sender;
	u32 timer, reserved2;
	u64 expired, delivered;
};
_Static_assert(sizeof(struct timer_message) == 40, "TLFS HV_MESSAGE with HV_TIMER_MESSAGE_PAYLOAD");

int hyperv_enable_synic(struct hv_vcpu *v, bool keep_pages)
{
	struct hyperv_vcpu *h = hyperv_of(v);

	if (!v->lapic)
		return -EINVAL;
	h->synic = true;
	h->keep_pages = keep_pages;
	h->scontrol = 1;
	return 0;
}

/* Vectors of the sources, and those that end by themselves: the local APIC acts on both. */
static void tell_lapic(struct hv_vcpu *v)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	u64 used[4] = { 0 }, self_ending[4] = { 0 };

	for (unsigned i = 0; i < HYPERV_SINTS; i++) {
		u64 s = atomic_load(&h->sint[i]);
		u8 vector = s & SINT_VECTOR;

		if (s & SINT_MASKED || vector < 16)
			continue;
		used[vector / 64] |= BIT(vector % 64);
		if (s & SINT_AUTO_EOI)
			self_ending[vector / 64] |= BIT(vector % 64);
	}
	hv_lapic_set_synic(v, used, self_ending);
}

static int write_sint(struct hv_vcpu *v, unsigned n, u64 val, bool host)
{
	/* A masked source may have any vector: nested Hyper-V writes just the mask at boot. */
	if ((val & SINT_VECTOR) < 16 && !host && !(val & SINT_MASKED))
		return 1;
	atomic_store(&hyperv_of(v)->sint[n], val);
	tell_lapic(v);
	return 0;
}

/* A page that the guest turns on begins empty, unless user space said otherwise. */
static int write_page(struct hv_vcpu *v, u64 *reg, u64 val, bool host)
{
	static const u8 zero[PAGE_SIZE];

	if ((val & HYPERV_PAGE_ENABLE) && !host && !hyperv_of(v)->keep_pages &&
	    hv_write_guest(v->vm, 0, val & PAGE_MASK, zero, PAGE_SIZE))
		return 1;
	*reg = val;
	return 0;
}

/* User space follows the pages: a guest's write goes to it as an exit. */
static void tell_user(struct hv_vcpu *v, u32 msr)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	const struct kvm_hyperv_exit e = {
		.type = KVM_EXIT_HYPERV_SYNIC,
		.u.synic = { .msr = msr, .control = h->scontrol, .evt_page = h->siefp,
			     .msg_page = h->simp },
	};

	hyperv_request_exit(v, &e);
}

int hyperv_synic_write(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	int r = 0;

	if (!h->synic && (!host || val))
		return 1;
	switch (msr) {
	case HYPERV_SCONTROL:
		h->scontrol = val;
		break;
	case HYPERV_SVERSION:
		if (!host)
			return 1;
		h->sversion = val;
		return 0;
	case HYPERV_SIEFP:
		r = write_page(v, &h->siefp, val, host);
		break;
	case HYPERV_SIMP:
		r = write_page(v, &h->simp, val, host);
		break;
	case HYPERV_EOM:
		/* A slot of the message page is free again: timers may be waiting for one. */
		hv_set_request(v, HV_REQ_HYPERV);
		return 0;
	default:
		return write_sint(v, msr - HYPERV_SINT0, val, host);
	}
	if (r == 0 && !host)
		tell_user(v, msr);
	return r;
}

int hyperv_synic_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	struct hyperv_vcpu *h = hyperv_of(v);

	if (!h->synic && !host)
		return 1;
	switch (msr) {
	case HYPERV_SCONTROL:
		*val = h->scontrol;
		break;
	case HYPERV_SVERSION:
		*val = h->synic ? SYNIC_VERSION : 0;
		break;
	case HYPERV_SIEFP:
		*val = h->siefp;
		break;
	case HYPERV_SIMP:
		*val = h->simp;
		break;
	case HYPERV_EOM:
		*val = 0;
		break;
	default:
		*val = atomic_load(&h->sint[msr - HYPERV_SINT0]);
	}
	return 0;
}

int hyperv_sint_fire(struct hv_vcpu *v, unsigned sint)
{
	u64 s = atomic_load(&hyperv_of(v)->sint[sint]);

	if ((s & SINT_MASKED) || (s & SINT_VECTOR) < 16 || !v->lapic)
		return -ENOENT;
	return hv_lapic_fixed(v, s & SINT_VECTOR);
}

int hyperv_raise_sint(struct hv_vm *vm, u32 vp, u32 sint)
{
	struct hv_vcpu *v = hyperv_vcpu_by_index(vm, vp);

	return v && sint < HYPERV_SINTS && hyperv_of(v)->synic ? hyperv_sint_fire(v, sint) : -EINVAL;
}

int hyperv_post_timer_message(struct hv_vcpu *v, unsigned sint, unsigned timer, u64 expired, bool retry)
{
	struct hyperv_vcpu *h = hyperv_of(v);
	u64 gpa = (h->simp & PAGE_MASK) + sint * MESSAGE_BYTES;
	struct timer_message m;
	u8 flags;
	int r;

	if (!(h->simp & HYPERV_PAGE_ENABLE))
		return -ENOENT;
	if (hv_read_guest(v->vm, 0, gpa, &m, sizeof(m)))
		return -EFAULT;
	if (m.type) {
		if (!retry)
			return 0;
		/* The guest must tell when it has emptied the slot. */
		flags = m.flags | MESSAGE_PENDING;
		return hv_write_guest(v->vm, 0, gpa + offsetof(struct timer_message, flags), &flags, 1) ?
		       -EFAULT : -EAGAIN;
	}
	m = (struct timer_message){
		.type = MESSAGE_TIMER_EXPIRED, .size = sizeof(m) - offsetof(struct timer_message, timer),
		.timer = timer, .expired = expired, .delivered = hyperv_time(v),
	};
	if (hv_write_guest(v->vm, 0, gpa, &m, sizeof(m)))
		return -EFAULT;
	r = hyperv_sint_fire(v, sint);
	return r < 0 ? r : 0;
}
