/* SPDX-License-Identifier: MIT */
/*
 * Paravirtual features of the KVM CPUID leaf, apart from the clock: hypercalls,
 * steal time, poll control. (PV EOI and PV IPI live with the APIC.)
 *
 * Offered: CPUID 40000001 EAX bits 0, 3 (clock.h), 1, 5, 6, 7, 11, 12, 13, 24.
 * Not offered: async page faults, PV TLB flush, MSI_EXT_DEST_ID, MAP_GPA_RANGE,
 * MIGRATION_CONTROL.
 *
 * For the thread that holds vcpu->mutex.
 */
#ifndef KVM_X86_PV_H
#define KVM_X86_PV_H

#include "kvm/vcpu.h"

/* Of CPUID 40000001 EAX. */
#define HV_PV_FEATURES 0x010038ebu

int hv_pv_vcpu_new(struct hv_vcpu *v);
void hv_pv_vcpu_free(struct hv_vcpu *v);

/*
 * Features that the guest may use, as CPUID 40000001 EAX has them: everything
 * above until this is called. To be called by KVM_SET_CPUID2 if
 * KVM_CAP_ENFORCE_PV_FEATURE_CPUID is on, and when it is turned on.
 */
void hv_pv_set_features(struct hv_vcpu *v, u32 eax);
/* May the guest use feature bit @bit? Also to be asked before the MSRs of clock.h. */
bool hv_pv_has(struct hv_vcpu *v, unsigned bit);

/*
 * RDMSR and WRMSR of 4b564d02..4b564dff: 0, or 1 for #GP(0). What the guest may
 * not use is #GP for it and accessible to the host (@host).
 */
int hv_pv_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hv_pv_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host);

/*
 * Write the steal-time record, for HV_REQ_STEAL_UPDATE. hv_steal_poll() does so at
 * most once in 100 us: for every entry. Both do nothing if the guest did not ask for it.
 */
void hv_steal_update(struct hv_vcpu *v);
void hv_steal_poll(struct hv_vcpu *v);

/* MSR_KVM_POLL_CONTROL bit 0: may the host poll before it puts a halted vCPU to sleep? */
bool hv_pv_host_may_poll(struct hv_vcpu *v);

/*
 * VMCALL at CPL 0 with @nr in RAX; arguments and result are cut to 32 bits
 * unless @long_mode. *@ret goes to RAX. Returns 0. (CPL > 0 is the caller's:
 * RAX = -KVM_EPERM.)
 */
int hv_hypercall(struct hv_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3, bool long_mode,
		 u64 *ret);

#endif
