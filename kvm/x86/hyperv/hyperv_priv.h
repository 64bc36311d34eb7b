/* SPDX-License-Identifier: MIT */
/* Between the files of this folder: state of VM and vCPU, and who does what. */
#ifndef KVM_X86_HYPERV_HYPERV_PRIV_H
#define KVM_X86_HYPERV_HYPERV_PRIV_H

#include "base/list.h"
#include "kvm/timer.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/irq.h"
#include "kvm/x86/x86.h"

enum {
#define HYPERV_MSR(name, first, last, reg, bit) HYPERV_##name = first,
#include "kvm/x86/hyperv/hyperv_msr.def"
#undef HYPERV_MSR
};

#define HYPERV_SINTS 16u
#define HYPERV_STIMERS 4u
#define HYPERV_CRASH_PARAMS 5u
#define HYPERV_PAGE_ENABLE 1ull
#define HYPERV_CRASH_NOTIFY BIT(63)

/* The reference TSC page: tsc_page.c has the states' meaning. */
enum tsc_page_state { TSC_PAGE_UNSET, TSC_PAGE_GUEST_CHANGED, TSC_PAGE_HOST_CHANGED, TSC_PAGE_SET,
		      TSC_PAGE_BROKEN };

struct hyperv_vm {
	pthread_mutex_t lock;		/* all of it; innermost but for guest memory */
	_Atomic u64 guest_os_id;	/* read without the lock */
	u64 hypercall, reference_tsc;
	u64 reenlightenment, tsc_emulation_control, tsc_emulation_status;
	u64 crash[HYPERV_CRASH_PARAMS], crash_ctl;
	_Atomic u64 syndbg_control, syndbg_status, syndbg_send, syndbg_recv, syndbg_pending;
	_Atomic u64 syndbg_options;
	enum tsc_page_state page_state;
	u64 page_scale;
	s64 page_offset;
	struct list eventfds;		/* hypercall.c: connections */
};

struct hyperv_stimer {
	struct hv_timer timer;		/* kicks the vCPU when due */
	struct hv_vcpu *v;
	u64 config, count;
	u64 expires;			/* reference time; 0 = not running */
	bool message_waits;		/* the slot of the message page was taken */
};

struct hyperv_vcpu {
	bool enabled;			/* the guest's CPUID has the interface */
	bool enforce;
	u32 features_a, features_b, features_d;	/* 40000003h */
	u32 recommended_a, spin_retries;	/* 40000004h */
	u32 syndbg_caps;		/* 40000082h */

	_Atomic u32 vp_index;
	u64 assist_page;
	u64 runtime_offset;

	/* synic.c; sint is read by other threads */
	_Atomic bool synic;
	bool keep_pages;
	u64 scontrol, sversion, siefp, simp;
	_Atomic u64 sint[HYPERV_SINTS];
	struct hyperv_stimer stimer[HYPERV_STIMERS];

	/* Exits to user space that wait. */
	bool exit_pending, reset_pending, crash_pending;
	struct kvm_hyperv_exit exit;
};

static inline struct hyperv_vcpu *hyperv_of(struct hv_vcpu *v)
{
	return v->x86->hyperv;
}

/* May the guest debug over the synthetic debugger? */
static inline bool hyperv_syndbg_on(struct hv_vcpu *v)
{
	return hyperv_of(v)->syndbg_caps & BIT(1);
}

struct hv_vcpu *hyperv_vcpu_by_index(struct hv_vm *vm, u32 vp);
/* Leave to user space before the next entry, with hyperv->exit. */
void hyperv_request_exit(struct hv_vcpu *v, const struct kvm_hyperv_exit *e);

/* Reference time in 100 ns: tsc_page.c. */
u64 hyperv_time(struct hv_vcpu *v);
void hyperv_set_reference_tsc(struct hv_vcpu *v, u64 val, bool host);

/* SCONTROL..SINT15: synic.c. 0, or 1 for #GP(0). */
int hyperv_synic_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hyperv_synic_write(struct hv_vcpu *v, u32 msr, u64 val, bool host);
/* Message of a timer in slot @sint. 0; -EAGAIN: the slot is taken, retry later; else it is lost. */
int hyperv_post_timer_message(struct hv_vcpu *v, unsigned sint, unsigned timer, u64 expired, bool retry);
int hyperv_sint_fire(struct hv_vcpu *v, unsigned sint);

/* STIMERn: stimer.c. */
void hyperv_stimer_init(struct hv_vcpu *v);
void hyperv_stimer_free(struct hv_vcpu *v);
int hyperv_stimer_read(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hyperv_stimer_write(struct hv_vcpu *v, u32 msr, u64 val, bool host);
void hyperv_stimer_run(struct hv_vcpu *v);

#endif
