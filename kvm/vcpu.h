/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU: one simulated processor, the thread in KVM_RUN, requests and
 * kicks. For the files of kvm/.
 *
 * Entry handshake: the vCPU stores mode = HV_IN_GUEST (seq_cst), then looks at
 * its requests; a requester sets the request (seq_cst), then looks at the mode.
 * One of them sees the other. A vCPU that is kicked leaves the guest within one
 * block of instructions, serves requests, and may enter again.
 */
#ifndef KVM_VCPU_H
#define KVM_VCPU_H

#include "kvm/exit_stat.h"
#include "kvm/vm.h"

enum hv_vcpu_mode { HV_OUTSIDE_GUEST, HV_IN_GUEST, HV_EXITING_GUEST };

enum hv_request {
	HV_REQ_TLB_FLUSH,	/* INVEPT before the next entry */
	HV_REQ_MMU_RELOAD,	/* the root was invalidated */
	HV_REQ_EVENT,		/* interrupts may have become deliverable */
	HV_REQ_NMI,
	HV_REQ_SMI,
	HV_REQ_TRIPLE_FAULT,
	HV_REQ_CLOCK_UPDATE,	/* kvmclock page */
	HV_REQ_STEAL_UPDATE,
	HV_REQ_SCAN_IOAPIC,	/* EOI-exit bitmaps */
	HV_REQ_IOAPIC_EOI_EXIT,	/* split irqchip */
	HV_REQ_APIC_PAGE_RELOAD,
	HV_REQ_UNHALT,
	HV_REQ_IMMEDIATE_EXIT,
	HV_REQ_MSR_FILTER,	/* rebuild the MSR bitmap */
	HV_REQ_PMU,		/* the client's filter of events */
	HV_REQ_HYPERV,		/* synthetic timers, exits of Hyper-V's interface */
	HV_REQ_VM_DEAD,
	HV_NR_REQS
};

struct hv_lapic;
struct hv_vcpu_mmu;
struct hv_vcpu_clock;
struct hv_vcpu_pv;
struct hv_vcpu_x86;	/* x86/vcpu_x86.h */

struct hv_vcpu {
	struct hv_vm *vm;
	u32 id;			/* vcpu_id = initial APIC id */
	u32 idx;
	pthread_mutex_t mutex;
	struct x86_cpu *cpu;
	int memfd;		/* run page, PIO page, coalesced page, dirty ring */
	struct kvm_run *run;
	void *pio_data;

	_Atomic int mode;	/* enum hv_vcpu_mode */
	_Atomic u64 requests;	/* bit = enum hv_request */
	_Atomic u32 mp_state;	/* KVM_MP_STATE_* */
	_Atomic u32 wait_word;	/* futex: bumped by every wake-up */
	_Atomic bool waiting;	/* its thread sleeps, or is about to, on wait_word */
	_Atomic bool signalled;	/* a client's signal arrived: set by the kick hook */
	bool sigmask_set;
	u64 sigmask;

	struct hv_lapic *lapic;		/* x86/irq/; NULL without in-kernel APIC */
	struct hv_vcpu_mmu *mmu;	/* x86/mmu/ */
	struct hv_vcpu_clock *clock;	/* x86/clock.c */
	struct hv_vcpu_pv *pv;		/* x86/pv.c */
	struct hv_vcpu_x86 *x86;
	struct hv_stats *stats;
	struct hv_exit_stat exits;
};

static inline void hv_set_request(struct hv_vcpu *v, enum hv_request r)
{
	atomic_fetch_or(&v->requests, 1ull << r);
}

/* True if it was set; clears it. */
static inline bool hv_test_request(struct hv_vcpu *v, enum hv_request r)
{
	u64 bit = 1ull << r;

	if (!(atomic_load_explicit(&v->requests, memory_order_relaxed) & bit))
		return false;
	return atomic_fetch_and(&v->requests, ~bit) & bit;
}

/* The host interrupt that ends a stay in the guest; nothing else in this process sends it. */
#define HV_KICK_VECTOR 0xfb
/* The performance counters' */
#define HV_PMI_VECTOR 0xfa

/* Make the vCPU look at its requests: kick out of the guest, wake from a halt. Async-signal-safe. */
void hv_kick(struct hv_vcpu *v);
/* Wake from a halt only. Async-signal-safe. */
void hv_wake(struct hv_vcpu *v);

/*
 * Set @r on all vCPUs and kick those in the guest. With @wait, return only when
 * every vCPU that was in the guest has left it (the TLB-flush handshake). Not
 * to be called inside an epoch section that a vCPU might wait for.
 */
void hv_request_all(struct hv_vm *vm, enum hv_request r, bool wait);

/* INVEPT on every vCPU; returns when no stale translation can be used any more. */
void hv_flush_remote_tlbs(struct hv_vm *vm);

/* True if the guest would take an external interrupt now (IF, shadows, nothing injected). */
bool hv_interrupt_allowed(struct hv_vcpu *v);
/* The guest's CPUID: entry of @leaf (index 0), or NULL; bit test. x86/cpuid.c */
const struct kvm_cpuid_entry2 *hv_cpuid_entry(struct hv_vcpu *v, u32 leaf, u32 index);
bool hv_guest_has(struct hv_vcpu *v, u32 leaf, u32 index, unsigned reg, unsigned bit);

/* Guest time: TSC value that the guest would read now, kvmclock nanoseconds. x86/clock.c */
u64 hv_guest_tsc(struct hv_vcpu *v);
u64 hv_guest_tsc_khz(struct hv_vcpu *v);
u64 hv_kvmclock_ns(struct hv_vm *vm);

/* Queue events of the next entry: x86/events.c. */
void hv_queue_exception(struct hv_vcpu *v, u8 vector, bool has_error, u32 error, bool has_payload, u64 payload);
/* Any thread. */
void hv_inject_nmi(struct hv_vcpu *v);

/*
 * Processor state of power-on, or INIT (@init), with hv_lapic_reset(); and the
 * start of a waiting processor by a start-up IPI: CS = @vector << 8, IP = 0.
 * Called by hv_lapic_accept_events() on the vCPU's thread. x86/vcpu.c.
 */
void hv_vcpu_reset(struct hv_vcpu *v, bool init);
void hv_vcpu_sipi(struct hv_vcpu *v, u8 vector);

#endif
