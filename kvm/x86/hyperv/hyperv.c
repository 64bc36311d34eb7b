// SPDX-License-Identifier: MIT
/*
 * Life, CPUID and synthetic MSRs of Hyper-V's interface; the exits that wait for user
 * space. The parts with state of their own: tsc_page.c, synic.c, stimer.c.
 */
#include "kvm/x86/hyperv/hyperv.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "kvm/mem.h"
#include "kvm/x86/hyperv/hyperv_priv.h"

#define LEAF_INTERFACE 0x40000001u
#define LEAF_FEATURES 0x40000003u
#define LEAF_RECOMMENDATIONS 0x40000004u
#define LEAF_SYNDBG 0x40000082u
#define INTERFACE_HV1 0x31237648u	/* "Hv#1" */
#define APIC_FREQUENCY 1000000000ull	/* of lapic_timer.c */
#define ASSIST_VALID(msr) ((msr) & PAGE_MASK)

/* ---- Life ---- */

int hyperv_vm_new(struct hv_vm *vm)
{
	struct hyperv_vm *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	list_init(&h->eventfds);
	vm->hyperv = h;
	return 0;
}

int hyperv_vcpu_new(struct hv_vcpu *v)
{
	struct hyperv_vcpu *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	v->x86->hyperv = h;
	atomic_init(&h->vp_index, v->idx);
	for (unsigned i = 0; i < HYPERV_SINTS; i++)
		atomic_init(&h->sint[i], BIT(16));	/* masked */
	hyperv_stimer_init(v);
	return 0;
}

void hyperv_vcpu_free(struct hv_vcpu *v)
{
	if (!hyperv_of(v))
		return;
	hyperv_stimer_free(v);
	free(hyperv_of(v));
}

struct hv_vcpu *hyperv_vcpu_by_index(struct hv_vm *vm, u32 vp)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm) {
		if (hyperv_of(v)->vp_index == vp)
			return v;
	}
	return NULL;
}

void hyperv_cpuid_changed(struct hv_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = hv_cpuid_entry(v, LEAF_INTERFACE, 0);
	struct hyperv_vcpu *h = hyperv_of(v);

	h->enabled = e && e->eax == INTERFACE_HV1;
	e = hv_cpuid_entry(v, LEAF_FEATURES, 0);
	h->features_a = e ? e->eax : 0;
	h->features_b = e ? e->ebx : 0;
	h->features_d = e ? e->edx : 0;
	e = hv_cpuid_entry(v, LEAF_RECOMMENDATIONS, 0);
	h->recommended_a = e ? e->eax : 0;
	h->spin_retries = e ? e->ebx : 0;
	e = hv_cpuid_entry(v, LEAF_SYNDBG, 0);
	h->syndbg_caps = e ? e->eax : 0;
}

void hyperv_enforce_cpuid(struct hv_vcpu *v, bool on)
{
	hyperv_of(v)->enforce = on;
}

/* ---- Exits ---- */

void hyperv_request_exit(struct hv_vcpu *v, const struct kvm_hyperv_exit *e)
{
	hyperv_of(v)->exit = *e;
	hyperv_of(v)->exit_pending = true;
	hv_set_request(v, HV_REQ_HYPERV);
}

static int system_event(struct hv_vcpu *v, u32 type)
{
	v->run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	v->run->system_event.type = type;
	v->run->system_event.ndata = 0;
	return 0;
}

/* The debugger's answer is the status register. */
static int syndbg_answered(struct hv_vcpu *v)
{
	if (v->run->hyperv.u.syndbg.msr == HYPERV_SYNDBG_CONTROL) {
		pthread_mutex_lock(&v->vm->hyperv->lock);
		v->vm->hyperv->syndbg_status = v->run->hyperv.u.syndbg.status;
		pthread_mutex_unlock(&v->vm->hyperv->lock);
	}
	return 1;
}

int hyperv_serve(struct hv_vcpu *v)
{
	struct hyperv_vcpu *h = hyperv_of(v);

	hyperv_stimer_run(v);
	if (h->crash_pending) {
		h->crash_pending = false;
		return system_event(v, KVM_SYSTEM_EVENT_CRASH);
	}
	if (h->reset_pending) {
		h->reset_pending = false;
		return system_event(v, KVM_SYSTEM_EVENT_RESET);
	}
	if (h->exit_pending) {
		h->exit_pending = false;
		v->run->exit_reason = KVM_EXIT_HYPERV;
		v->run->hyperv = h->exit;
		if (h->exit.type == KVM_EXIT_HYPERV_SYNDBG)
			v->x86->complete = syndbg_answered;
		return 0;
	}
	return 1;
}

/* ---- MSRs of the partition ---- */

/* VMCALL; RET: what a guest calls through its hypercall page. */
static int write_hypercall(struct hv_vcpu *v, struct hyperv_vm *h, u64 val)
{
	static const u8 code[] = { 0x0f, 0x01, 0xc1, 0xc3 };

	/* Without an identity the guest has no business here: ignored. */
	if (!h->guest_os_id)
		return 0;
	if ((val & HYPERV_PAGE_ENABLE) && hv_write_guest(v->vm, 0, val & PAGE_MASK, code, sizeof(code)))
		return 1;
	h->hypercall = val;
	return 0;
}

static int write_partition(struct hv_vcpu *v, struct hyperv_vm *h, u32 msr, u64 val, bool host)
{
	switch (msr) {
	case HYPERV_GUEST_OS_ID:
		h->guest_os_id = val;
		if (!val)
			h->hypercall &= ~HYPERV_PAGE_ENABLE;
		return 0;
	case HYPERV_HYPERCALL:
		return write_hypercall(v, h, val);
	case HYPERV_CRASH_CTL:
		if (host) {
			h->crash_ctl = val & HYPERV_CRASH_NOTIFY;
		} else if (val & HYPERV_CRASH_NOTIFY) {
			log_info("vcpu %u: the guest crashed: 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx", v->id,
				 (unsigned long long)h->crash[0], (unsigned long long)h->crash[1],
				 (unsigned long long)h->crash[2], (unsigned long long)h->crash[3],
				 (unsigned long long)h->crash[4]);
			hyperv_of(v)->crash_pending = true;
			hv_set_request(v, HV_REQ_HYPERV);
		}
		return 0;
	case HYPERV_REENLIGHTENMENT_CONTROL:
		h->reenlightenment = val;
		return 0;
	case HYPERV_TSC_EMULATION_CONTROL:
		h->tsc_emulation_control = val;
		return 0;
	case HYPERV_TSC_EMULATION_STATUS:
		if (val && !host)
			return 1;
		h->tsc_emulation_status = val;
		return 0;
	default:
		h->crash[msr - HYPERV_CRASH_P0] = val;
		return 0;
	}
}

static u64 read_partition(const struct hyperv_vm *h, u32 msr)
{
	switch (msr) {
	case HYPERV_GUEST_OS_ID:
		return h->guest_os_id;
	case HYPERV_HYPERCALL:
		return h->hypercall;
	case HYPERV_REFERENCE_TSC:
		return h->reference_tsc;
	case HYPERV_CRASH_CTL:
		return h->crash_ctl;
	case HYPERV_REENLIGHTENMENT_CONTROL:
		return h->reenlightenment;
	case HYPERV_TSC_EMULATION_CONTROL:
		return h->tsc_emulation_control;
	case HYPERV_TSC_EMULATION_STATUS:
		return h->tsc_emulation_status;
	default:
		return h->crash[msr - HYPERV_CRASH_P0];
	}
}

static _Atomic u64 *syndbg_reg(struct hyperv_vm *h, u32 msr)
{
	switch (msr) {
	case HYPERV_SYNDBG_CONTROL:
		return &h->syndbg_control;
	case HYPERV_SYNDBG_STATUS:
		return &h->syndbg_status;
	case HYPERV_SYNDBG_SEND_BUFFER:
		return &h->syndbg_send;
	case HYPERV_SYNDBG_RECV_BUFFER:
		return &h->syndbg_recv;
	case HYPERV_SYNDBG_PENDING_BUFFER:
		return &h->syndbg_pending;
	default:
		return &h->syndbg_options;
	}
}

static int write_syndbg(struct hv_vcpu *v, struct hyperv_vm *h, u32 msr, u64 val, bool host)
{
	if (!hyperv_syndbg_on(v) && !host)
		return 1;
	*syndbg_reg(h, msr) = val;
	if (!host && (msr == HYPERV_SYNDBG_CONTROL || msr == HYPERV_SYNDBG_PENDING_BUFFER)) {
		const struct kvm_hyperv_exit e = {
			.type = KVM_EXIT_HYPERV_SYNDBG,
			.u.syndbg = { .msr = msr, .control = h->syndbg_control,
				      .status = h->syndbg_status, .send_page = h->syndbg_send,
				      .recv_page = h->syndbg_recv, .pending_page = h->syndbg_pending },
		};

		hyperv_request_exit(v, &e);
	}
	return 0;
}

/* ---- MSRs of the virtual processor ---- */

static u64 runtime_100ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ((u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec) / 100;
}

/* The page's first word is that of paravirtual EOI, which both interfaces share. */
static int write_assist_page(struct hv_vcpu *v, u64 val)
{
	const u32 zero = 0;

	if (val & HYPERV_PAGE_ENABLE) {
		/* Only this word: the rest may hold the guest's data. */
		if (hv_write_guest(v->vm, 0, ASSIST_VALID(val), &zero, sizeof(zero)))
			return 1;
	}
	if (v->lapic && hv_pv_eoi_set(v, val & HYPERV_PAGE_ENABLE ? ASSIST_VALID(val) | 1 : 0))
		return 1;
	hyperv_of(v)->assist_page = val;
	return 0;
}

static int write_vp(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hyperv_vcpu *h = hyperv_of(v);

	switch (msr) {
	case HYPERV_VP_INDEX:
		if (!host || val >= HV_MAX_VCPUS)
			return 1;
		h->vp_index = (u32)val;
		return 0;
	case HYPERV_RESET:
		if (val == 1) {
			h->reset_pending = true;
			hv_set_request(v, HV_REQ_HYPERV);
		}
		return 0;
	case HYPERV_VP_RUNTIME:
		if (!host)
			return 1;
		h->runtime_offset = val - runtime_100ns();
		return 0;
	case HYPERV_TIME_REF_COUNT:
	case HYPERV_TSC_FREQUENCY:
	case HYPERV_APIC_FREQUENCY:
		/* Read-only; who restores everything that was listed is let through. */
		return !host;
	case HYPERV_REFERENCE_TSC:
		hyperv_set_reference_tsc(v, val, host);
		return 0;
	case HYPERV_VP_ASSIST_PAGE:
		return write_assist_page(v, val);
	default:	/* EOI, ICR, TPR */
		return v->lapic ? hv_lapic_synthetic_write(v, msr - HYPERV_EOI, val) : 1;
	}
}

static int read_vp(struct hv_vcpu *v, u32 msr, u64 *val)
{
	struct hyperv_vcpu *h = hyperv_of(v);

	switch (msr) {
	case HYPERV_VP_INDEX:
		*val = h->vp_index;
		return 0;
	case HYPERV_RESET:
		*val = 0;
		return 0;
	case HYPERV_VP_RUNTIME:
		*val = runtime_100ns() + h->runtime_offset;
		return 0;
	case HYPERV_TIME_REF_COUNT:
		*val = hyperv_time(v);
		return 0;
	case HYPERV_TSC_FREQUENCY:
		*val = hv_guest_tsc_khz(v) * 1000;
		return 0;
	case HYPERV_APIC_FREQUENCY:
		*val = APIC_FREQUENCY;
		return 0;
	case HYPERV_VP_ASSIST_PAGE:
		*val = h->assist_page;
		return 0;
	default:
		return v->lapic ? hv_lapic_synthetic_read(v, msr - HYPERV_EOI, val) : 1;
	}
}

/* ---- All of them ---- */

static const struct row {
	u32 first, last;
	u8 reg, bit;
} rows[] = {
#define HYPERV_MSR(name, first, last, reg, bit) { first, last, #reg[0], bit },
#include "kvm/x86/hyperv/hyperv_msr.def"
#undef HYPERV_MSR
};

static bool accessible(struct hv_vcpu *v, u32 msr, bool host)
{
	const struct hyperv_vcpu *h = hyperv_of(v);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		if (msr < r->first || msr > r->last)
			continue;
		if (host)
			return true;
		if (!h->enabled)
			return false;
		return !h->enforce || ((r->reg == 'A' ? h->features_a : h->features_d) >> r->bit & 1);
	}
	return false;
}

static bool is_partition(u32 msr)
{
	return msr == HYPERV_GUEST_OS_ID || msr == HYPERV_HYPERCALL || msr >= HYPERV_CRASH_P0;
}

static bool is_syndbg(u32 msr)
{
	return msr >= HYPERV_SYNDBG_CONTROL && msr <= HYPERV_SYNDBG_OPTIONS;
}

int hyperv_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	struct hyperv_vm *h = v->vm->hyperv;
	int r;

	if (!accessible(v, msr, host))
		return 1;
	if (is_partition(msr) || is_syndbg(msr)) {
		pthread_mutex_lock(&h->lock);
		r = is_syndbg(msr) ? write_syndbg(v, h, msr, val, host) :
				     write_partition(v, h, msr, val, host);
		pthread_mutex_unlock(&h->lock);
		return r;
	}
	if (msr >= HYPERV_STIMER0_CONFIG)
		return hyperv_stimer_write(v, msr, val, host);
	if (msr >= HYPERV_SCONTROL)
		return hyperv_synic_write(v, msr, val, host);
	return write_vp(v, msr, val, host);
}

int hyperv_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	struct hyperv_vm *h = v->vm->hyperv;

	if (!accessible(v, msr, host))
		return 1;
	if (is_syndbg(msr) && !host && !hyperv_syndbg_on(v))
		return 1;
	if (is_partition(msr) || is_syndbg(msr) || msr == HYPERV_REFERENCE_TSC) {
		pthread_mutex_lock(&h->lock);
		*val = is_syndbg(msr) ? *syndbg_reg(h, msr) : read_partition(h, msr);
		pthread_mutex_unlock(&h->lock);
		return 0;
	}
	if (msr >= HYPERV_STIMER0_CONFIG)
		return hyperv_stimer_read(v, msr, val, host);
	if (msr >= HYPERV_SCONTROL)
		return hyperv_synic_read(v, msr, val, host);
	return read_vp(v, msr, val);
}
