// SPDX-License-Identifier: MIT
/* Paravirtual features: feature bits, MSRs, steal time, hypercalls. */
#include "kvm/x86/pv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "kvm/host_time.h"
#include "kvm/mem.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/irq/irq.h"

/* Reading the scheduler's account costs as much as two exits: not at each of them. */
#define STEAL_POLL_NS 100000

_Static_assert(sizeof(struct kvm_steal_time) == 64, "kvm_steal_time");
_Static_assert(sizeof(struct kvm_clock_pairing) == 64, "kvm_clock_pairing");

struct hv_vcpu_pv {
	u32 features;
	u64 poll_msr;
	u64 steal_msr;
	/* Steal time: the schedstat file of the thread that ran this vCPU last. */
	pid_t tid;
	int schedstat;
	u64 delay;		/* run delay that has been told, ns */
	u64 told;		/* when: host ns */
};

int hv_pv_vcpu_new(struct hv_vcpu *v)
{
	v->pv = calloc(1, sizeof(*v->pv));
	if (!v->pv)
		return -ENOMEM;
	v->pv->features = HV_PV_FEATURES;
	v->pv->poll_msr = 1;
	v->pv->schedstat = -1;
	return 0;
}

void hv_pv_vcpu_free(struct hv_vcpu *v)
{
	if (!v->pv)
		return;
	if (v->pv->schedstat >= 0)
		close(v->pv->schedstat);
	free(v->pv);
	v->pv = NULL;
}

void hv_pv_set_features(struct hv_vcpu *v, u32 eax)
{
	v->pv->features = eax & HV_PV_FEATURES;
}

bool hv_pv_has(struct hv_vcpu *v, unsigned bit)
{
	return v->pv->features >> bit & 1;
}

/* ---- Steal time ---- */

/* Nanoseconds for which the calling thread was ready to run and was not let, or -1. */
static s64 run_delay(struct hv_vcpu_pv *pv)
{
	unsigned long long ran, waited;
	char text[96];
	pid_t tid = gettid();
	ssize_t n;

	if (tid != pv->tid) {
		if (pv->schedstat >= 0)
			close(pv->schedstat);
		snprintf(text, sizeof(text), "/proc/self/task/%d/schedstat", tid);
		pv->schedstat = open(text, O_RDONLY | O_CLOEXEC);
		pv->tid = tid;
		pv->delay = 0;
	}
	if (pv->schedstat < 0)
		return -1;
	n = pread(pv->schedstat, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -1;
	text[n] = 0;
	return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? (s64)waited : -1;
}

void hv_steal_update(struct hv_vcpu *v)
{
	struct hv_vcpu_pv *pv = v->pv;
	u64 gpa = pv->steal_msr & KVM_STEAL_VALID_BITS;
	struct kvm_steal_time st;
	s64 delay;

	if (!(pv->steal_msr & KVM_MSR_ENABLED))
		return;
	pv->told = hv_host_ns();
	delay = run_delay(pv);
	if (delay < 0 || hv_read_guest(v->vm, 0, gpa, &st, sizeof(st)))
		return;
	st.version = (st.version + 1) | 1;
	if (hv_write_guest(v->vm, 0, gpa + offsetof(struct kvm_steal_time, version), &st.version,
			   4))
		return;
	st.steal += (u64)delay - pv->delay;
	st.flags = 0;
	st.preempted = 0;
	pv->delay = (u64)delay;
	hv_write_guest(v->vm, 0, gpa, &st, sizeof(st));
	st.version++;
	hv_write_guest(v->vm, 0, gpa + offsetof(struct kvm_steal_time, version), &st.version, 4);
}

void hv_steal_poll(struct hv_vcpu *v)
{
	if ((v->pv->steal_msr & KVM_MSR_ENABLED) && hv_host_ns() - v->pv->told >= STEAL_POLL_NS)
		hv_steal_update(v);
}

static int write_steal(struct hv_vcpu *v, u64 val)
{
	s64 delay;

	if (val & KVM_STEAL_RESERVED_MASK)
		return 1;
	v->pv->steal_msr = val;
	if (!(val & KVM_MSR_ENABLED))
		return 0;
	/* What was stolen before nobody asked about. */
	delay = run_delay(v->pv);
	v->pv->delay = delay < 0 ? 0 : (u64)delay;
	hv_set_request(v, HV_REQ_STEAL_UPDATE);
	return 0;
}

/* ---- MSRs ---- */

/* Feature bit of an MSR that we have, or -1. */
static int msr_feature(u32 msr)
{
	switch (msr) {
	case MSR_KVM_STEAL_TIME:
		return KVM_FEATURE_STEAL_TIME;
	case MSR_KVM_PV_EOI_EN:
		return KVM_FEATURE_PV_EOI;
	case MSR_KVM_POLL_CONTROL:
		return KVM_FEATURE_POLL_CONTROL;
	}
	return -1;
}

static bool accessible(struct hv_vcpu *v, u32 msr, bool host)
{
	int bit = msr_feature(msr);

	return bit >= 0 && (host || hv_pv_has(v, bit));
}

int hv_pv_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host)
{
	if (!accessible(v, msr, host))
		return 1;
	switch (msr) {
	case MSR_KVM_STEAL_TIME:
		*val = v->pv->steal_msr;
		break;
	case MSR_KVM_PV_EOI_EN:
		*val = hv_pv_eoi_get(v);
		break;
	case MSR_KVM_POLL_CONTROL:
		*val = v->pv->poll_msr;
		break;
	}
	return 0;
}

int hv_pv_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host)
{
	if (!accessible(v, msr, host))
		return 1;
	switch (msr) {
	case MSR_KVM_STEAL_TIME:
		return write_steal(v, val);
	case MSR_KVM_PV_EOI_EN:
		return hv_pv_eoi_set(v, val);
	case MSR_KVM_POLL_CONTROL:
		if (val & ~1ull)
			return 1;
		v->pv->poll_msr = val;
		break;
	}
	return 0;
}

bool hv_pv_host_may_poll(struct hv_vcpu *v)
{
	return v->pv->poll_msr & 1;
}

/* ---- Hypercalls ---- */

/* The guest says that @apic_id waits for it: end its halt. */
static long kick_cpu(struct hv_vcpu *v, u64 apic_id)
{
	struct hv_vcpu *to = apic_id <= UINT32_MAX ? hv_vcpu_by_id(v->vm, (u32)apic_id) : NULL;

	if (to) {
		hv_set_request(to, HV_REQ_UNHALT);
		hv_kick(to);
	}
	return 0;
}

static long clock_pairing(struct hv_vcpu *v, u64 gpa, u64 type)
{
	struct kvm_clock_pairing p = { 0 };
	u64 tsc;
	s64 sec, nsec;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK)
		return -KVM_EOPNOTSUPP;
	hv_clock_pair(v, &tsc, &sec, &nsec);
	p.sec = sec;
	p.nsec = nsec;
	p.tsc = tsc;
	return hv_write_guest(v->vm, 0, gpa, &p, sizeof(p)) ? -KVM_EFAULT : 0;
}

static long dispatch(struct hv_vcpu *v, u64 nr, const u64 a[4], bool long_mode)
{
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		if (!hv_pv_has(v, KVM_FEATURE_PV_UNHALT))
			break;
		return kick_cpu(v, a[1]);
	case KVM_HC_CLOCK_PAIRING:
		return clock_pairing(v, a[0], a[1]);
	case KVM_HC_SEND_IPI:
		if (!v->lapic || !hv_pv_has(v, KVM_FEATURE_PV_SEND_IPI))
			break;
		return hv_pv_send_ipi(v->vm, a[0], a[1], (u32)a[2], a[3], long_mode);
	case KVM_HC_SCHED_YIELD:
		if (!hv_pv_has(v, KVM_FEATURE_PV_SCHED_YIELD))
			break;
		/*
		 * The target cannot be named to the scheduler; letting others run is what can be
		 * done.
		 */
		sched_yield();
		return 0;
	}
	return -KVM_ENOSYS;
}

int hv_hypercall(struct hv_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3, bool long_mode,
		 u64 *ret)
{
	u64 a[4] = { a0, a1, a2, a3 };

	if (!long_mode) {
		nr = (u32)nr;
		for (unsigned i = 0; i < ARRAY_SIZE(a); i++)
			a[i] = (u32)a[i];
	}
	*ret = (u64)dispatch(v, nr, a, long_mode);
	if (!long_mode)
		*ret = (u32)*ret;
	return 0;
}
