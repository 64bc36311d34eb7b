/* SPDX-License-Identifier: MIT */
/*
 * Hyper-V's interface for guests, as the rest of kvm/x86 uses it: synthetic MSRs,
 * hypercalls, reference time, synthetic interrupts and timers.
 * Source: Hypervisor Top Level Functional Specification ("TLFS") by section names;
 * what user space sees: the KVM API document.
 *
 * For the thread that holds vcpu->mutex, unless a function says otherwise.
 */
#ifndef KVM_X86_HYPERV_HYPERV_H
#define KVM_X86_HYPERV_HYPERV_H

#include "kvm/vcpu.h"

/* 0 or -ENOMEM; free takes what new did not make. */
int hyperv_vm_new(struct hv_vm *vm);
void hyperv_vm_free(struct hv_vm *vm);
int hyperv_vcpu_new(struct hv_vcpu *v);
void hyperv_vcpu_free(struct hv_vcpu *v);

/* After KVM_SET_CPUID2: does the guest see Hyper-V, and what of it? */
void hyperv_cpuid_changed(struct hv_vcpu *v);
/* KVM_CAP_HYPERV_ENFORCE_CPUID: features without their CPUID bit do not exist. */
void hyperv_enforce_cpuid(struct hv_vcpu *v, bool on);
/* KVM_CAP_HYPERV_SYNIC and _SYNIC2 (@keep_pages: enabling a page does not clear it). -EINVAL without local APIC. */
int hyperv_enable_synic(struct hv_vcpu *v, bool keep_pages);

/* MSRs 4000'0000..4000'0fff: 0, or 1 for #GP(0). */
int hyperv_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val, bool host);
int hyperv_wrmsr(struct hv_vcpu *v, u32 msr, u64 val, bool host);

/* Are VMCALLs Hyper-V's? Then the exit handler for them. */
bool hyperv_takes_hypercalls(struct hv_vcpu *v);
int hyperv_hypercall(struct hv_vcpu *v);

/* KVM_SET_CLOCK moved reference time: any thread. */
void hyperv_clock_moved(struct hv_vm *vm);
/* HV_REQ_CLOCK_UPDATE: the reference TSC page. */
void hyperv_clock_update(struct hv_vcpu *v);

/* HV_REQ_HYPERV: timers that are due, exits that wait. As an exit handler. */
int hyperv_serve(struct hv_vcpu *v);

/* Raise SINT @sint of the vCPU with VP index @vp: any thread. > 0 delivered, or -errno. */
int hyperv_raise_sint(struct hv_vm *vm, u32 vp, u32 sint);

#endif
