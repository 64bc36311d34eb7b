/* SPDX-License-Identifier: MIT */
/*
 * Time as a guest sees it: the TSC of each vCPU, kvmclock, wall clock.
 *
 *	guest TSC = (host TSC * multiplier >> 48) + offset
 *	kvmclock  = (host TSC - base TSC) / TSC frequency + base
 *
 * There is one host TSC for all processors and one kvmclock line per VM, so the
 * clock pages of all vCPUs describe the same line and it never bends; each page
 * is written in terms of its own vCPU's TSC. The stable bit is given while all
 * vCPUs of the VM have the same offset and multiplier, since a guest may then
 * read any vCPU's page on any vCPU.
 *
 * Functions that take a vCPU are for the thread that holds vcpu->mutex, unless
 * they say otherwise. The MSR functions return 0, or 1 for #GP(0); @host: the
 * access comes from KVM_SET_MSRS. Lock: vm->clock has one, innermost.
 */
#ifndef KVM_X86_CLOCK_H
#define KVM_X86_CLOCK_H

#include "kvm/vcpu.h"

#define HV_TSC_FRAC_BITS 48		/* of the multiplier, as VMCS_TSC_MULTIPLIER has them */
#define HV_TSC_UNITY (1ull << HV_TSC_FRAC_BITS)

/*
 * Life. hv_clock_vm_new() starts kvmclock at 0 and sets default_tsc_khz to the
 * host's; hv_clock_vcpu_new() wants v->cpu and gives the vCPU a TSC of 0 (or in
 * step with the vCPUs that are there already). 0 or -ENOMEM; free takes what
 * new did not make.
 */
int hv_clock_vm_new(struct hv_vm *vm);
void hv_clock_vm_free(struct hv_vm *vm);
int hv_clock_vcpu_new(struct hv_vcpu *v);
void hv_clock_vcpu_free(struct hv_vcpu *v);

/* ---- TSC ---- */

/*
 * What goes into VMCS_TSC_OFFSET and VMCS_TSC_MULTIPLIER. They change by the
 * calls below only; each change sets HV_REQ_CLOCK_UPDATE, after which the run
 * loop loads them again. "Use TSC scaling" is needed if not HV_TSC_UNITY.
 */
u64 hv_tsc_offset(struct hv_vcpu *v);
u64 hv_tsc_multiplier(struct hv_vcpu *v);

/* RDTSC and RDMSR of IA32_TIME_STAMP_COUNTER: hv_guest_tsc() in kvm/vcpu.h. */

/*
 * WRMSR of IA32_TIME_STAMP_COUNTER. A guest's write moves TSC_ADJUST by the
 * same amount. A host's does not, and is matched with the last one: 0, or a
 * value within a second of what the TSC of that vCPU shows now, joins it.
 */
void hv_tsc_write(struct hv_vcpu *v, u64 val, bool host);
/* IA32_TSC_ADJUST. A guest's write moves the TSC, a host's does not. */
u64 hv_tsc_adjust(struct hv_vcpu *v);
void hv_tsc_adjust_write(struct hv_vcpu *v, u64 val, bool host);

/*
 * KVM_SET_TSC_KHZ; 0 means the host's frequency. The TSC goes on from the value
 * that it has. -EINVAL if no multiplier expresses it. KVM_GET_TSC_KHZ is
 * hv_guest_tsc_khz(). The VM's applies to vCPUs created later; vm->lock held.
 */
int hv_tsc_set_khz(struct hv_vcpu *v, u32 khz);
int hv_vm_tsc_set_khz(struct hv_vm *vm, u32 khz);

/* vCPU attribute KVM_VCPU_TSC_OFFSET: the offset against the host's RDTSC. */
u64 hv_tsc_attr_get(struct hv_vcpu *v);
void hv_tsc_attr_set(struct hv_vcpu *v, u64 offset);

/* When the guest's TSC reaches @tsc: CLOCK_MONOTONIC ns, rounded up; now if it has. */
u64 hv_tsc_to_host_ns(struct hv_vcpu *v, u64 tsc);

/* ---- kvmclock ---- */

/*
 * MSRs 11, 12, 4b564d00, 4b564d01; others are a BUG. Whether CPUID has them is the caller's
 * business.
 */
int hv_clock_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val);
int hv_clock_wrmsr(struct hv_vcpu *v, u32 msr, u64 val);

/* HV_REQ_CLOCK_UPDATE: write this vCPU's clock page, if it has one. */
void hv_clock_update(struct hv_vcpu *v);

/* KVM_GET_CLOCK and KVM_SET_CLOCK; SET: -EINVAL for unknown flags. */
void hv_clock_get(struct hv_vm *vm, struct kvm_clock_data *c);
int hv_clock_set(struct hv_vm *vm, const struct kvm_clock_data *c);
/* KVM_KVMCLOCK_CTRL: the guest was paused. -EINVAL without an active kvmclock. */
int hv_kvmclock_ctrl(struct hv_vcpu *v);

/*
 * The line of kvmclock in terms of this vCPU's TSC, as a clock page has it:
 * ns = system_time + ((TSC - tsc) << shift) * mul >> 32. False if not all vCPUs have one line.
 */
struct hv_clock_line {
	u64 tsc, system_time;
	u32 mul;
	int shift;
};
bool hv_clock_line(struct hv_vcpu *v, struct hv_clock_line *line);

/* A TSC value of this vCPU with the wall-clock time of the same moment (KVM_HC_CLOCK_PAIRING). */
void hv_clock_pair(struct hv_vcpu *v, u64 *tsc, s64 *sec, s64 *nsec);

#endif
