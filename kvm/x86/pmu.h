/* SPDX-License-Identifier: MIT */
/* The performance counters of a guest: pmu.c. */
#ifndef KVM_X86_PMU_H
#define KVM_X86_PMU_H

#include "base/epoch.h"
#include "kvm/vcpu.h"

#define HV_PMU_GP 8
#define HV_PMU_FIXED 3

/* The part of a vCPU. Counters and IA32_PERF_GLOBAL_CTRL are in the processor and the VMCS. */
struct hv_pmu {
	u8 version;			/* 0: the guest has none */
	u8 nr_gp, nr_fixed;
	u64 gp_mask, fixed_mask;	/* as wide as the guest's counters */
	u64 global_valid, fixed_valid;	/* bits of GLOBAL_CTRL, FIXED_CTR_CTRL that exist */
	bool whole;			/* all that the processor has: the guest may reach it itself */
	bool counts_insns;		/* an event that the guest enabled */
	u64 evtsel[HV_PMU_GP], fixed_ctrl;	/* as the guest wrote them */
	u64 status;			/* overflows that the processor knows nothing of */
	u64 capabilities;		/* IA32_PERF_CAPABILITIES */
};

void hv_pmu_vcpu_new(struct hv_vcpu *v);
void hv_pmu_reset(struct hv_vcpu *v);
/* The guest's CPUID decides what it has. */
void hv_pmu_cpuid_changed(struct hv_vcpu *v);

/* MSRs of the table: 0, or 1 for #GP. */
int hv_pmu_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hv_pmu_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host);
int hv_pmu_read_capabilities(struct hv_vcpu *v, u64 *val);
int hv_pmu_write_capabilities(struct hv_vcpu *v, u64 val);
/* May the guest reach this register without an exit? */
bool hv_pmu_passes(struct hv_vcpu *v, u32 msr);
/* RDPMC of the guest, its privilege checked: 0 or 1. */
int hv_pmu_rdpmc(struct hv_vcpu *v, u32 index, u64 *val);

/* An instruction of the guest was executed by the hypervisor. */
void hv_pmu_insn(struct hv_vcpu *v);
/* The processor's counters interrupt. */
void hv_pmu_interrupt(struct hv_vcpu *v);
/* The filter has changed: HV_REQ_PMU. */
void hv_pmu_apply_filter(struct hv_vcpu *v);

/* KVM_SET_PMU_EVENT_FILTER. -EINVAL, -E2BIG, -ENOMEM. */
int hv_set_pmu_event_filter(struct hv_vm *vm, const struct kvm_pmu_event_filter *f, const u64 *events);
void hv_pmu_filter_free(struct hv_vm *vm);

#endif
