/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor as uapi/ uses it. Memory (slots, dirty logging) is in mem.h,
 * interrupt controllers, eventfds and coalesced zones in x86/irq/irq.h, time
 * in x86/clock.h; this header has the life cycle, KVM_RUN and the state of a
 * vCPU. Structs are those of the KVM API.
 *
 * Results: 0 or a value >= 0, or negative errno as the API documents it.
 * Context: functions on a vCPU are called with its mutex held (hv_vcpu_lock());
 * functions on a VM take its locks themselves unless they say otherwise.
 */
#ifndef KVM_HV_H
#define KVM_HV_H

#include "kvm/mem.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/pmu.h"
#include "kvm/x86/pv.h"
#include "kvm/x86/irq/irq.h"

/* ---- What a model and this hypervisor support together: before any VM ---- */

/* Can @model run guests: does it have VT-x? */
bool hv_model_supported(const struct x86_model *model);
/* KVM_GET_SUPPORTED_CPUID: @nent in = room, out = count; -E2BIG when short. */
int hv_supported_cpuid(const struct x86_model *model, struct kvm_cpuid_entry2 *e, u32 *nent);
/* KVM_GET_SUPPORTED_HV_CPUID, likewise. */
int hv_hyperv_cpuid(struct kvm_cpuid_entry2 *e, u32 *nent);
/* Index lists; the pointers stay valid for ever. */
const u32 *hv_msr_list(const struct x86_model *model, unsigned *n);
const u32 *hv_feature_msr_list(const struct x86_model *model, unsigned *n);
/* KVM_GET_MSRS of the system: -EINVAL if @msr is no feature MSR. */
int hv_feature_msr(const struct x86_model *model, u32 msr, u64 *val);
/* XCR0 components that guests may use (KVM_X86_XCOMP_GUEST_SUPP). */
u64 hv_supported_xcr0(const struct x86_model *model);
/* Bytes of struct kvm_xsave that KVM_GET_XSAVE2 fills, >= 4096. */
unsigned hv_xsave2_size(const struct x86_model *model);
u64 hv_mce_cap_supported(void);

/* ---- VM ---- */

/* -ENOENT: no such model; -ENODEV: it cannot run guests; -ENOMEM, -EMFILE. The caller owns the reference. */
int hv_vm_new(const char *model, struct hv_vm **vm);
void hv_vm_get(struct hv_vm *vm);
void hv_vm_put(struct hv_vm *vm);

/* KVM_ENABLE_CAP on a VM, as far as no other folder owns the capability; else -EINVAL. */
int hv_vm_enable_cap(struct hv_vm *vm, const struct kvm_enable_cap *cap);
/* Value of KVM_CHECK_EXTENSION; @vm NULL = asked of the system. */
long hv_check_extension(const struct x86_model *model, struct hv_vm *vm, unsigned long cap);
int hv_set_tss_addr(struct hv_vm *vm, u64 addr);
int hv_set_identity_map_addr(struct hv_vm *vm, u64 addr);
int hv_set_boot_cpu_id(struct hv_vm *vm, u64 id);
int hv_set_msr_filter(struct hv_vm *vm, const struct kvm_msr_filter *f);
int hv_vm_stats_fd(struct hv_vm *vm);
/* What the API refuses once a vCPU exists. */
/* KVM_HYPERV_EVENTFD. */
int hyperv_eventfd(struct hv_vm *vm, const struct kvm_hyperv_eventfd *e);
bool hv_vm_has_vcpus(struct hv_vm *vm);

/* ---- vCPU: life, run ---- */

/* -EEXIST duplicate id, -EINVAL id or count too large, -ENOMEM, -EMFILE. Lives until its VM is freed. */
int hv_vcpu_new(struct hv_vm *vm, u32 id, struct hv_vcpu **v);
/* Size of a plain mapping of the vCPU's memfd, without the dirty ring. */
#define HV_VCPU_MMAP_SIZE (3 * PAGE_SIZE)
#define HV_COALESCED_PAGE 2
#define HV_DIRTY_RING_PAGE 64
void hv_vcpu_lock(struct hv_vcpu *v);
void hv_vcpu_unlock(struct hv_vcpu *v);
/*
 * KVM_RUN. 0 with run->exit_reason set; -EINTR (KVM_EXIT_INTR, or exit_reason
 * untouched for immediate_exit); -EAGAIN after an INIT/SIPI woke a waiting
 * vCPU; -EFAULT guest memory is gone; -EINVAL bad sync-regs bits; -EIO VM dead.
 */
int hv_vcpu_run(struct hv_vcpu *v);
/* @mask NULL switches back to the thread's own. */
void hv_set_signal_mask(struct hv_vcpu *v, const u64 *mask);
int hv_vcpu_stats_fd(struct hv_vcpu *v);
int hv_vcpu_enable_cap(struct hv_vcpu *v, const struct kvm_enable_cap *cap);

/* ---- vCPU: state ---- */

void hv_get_regs(struct hv_vcpu *v, struct kvm_regs *r);
int hv_set_regs(struct hv_vcpu *v, const struct kvm_regs *r);
void hv_get_sregs(struct hv_vcpu *v, struct kvm_sregs *s);
int hv_set_sregs(struct hv_vcpu *v, const struct kvm_sregs *s);
void hv_get_sregs2(struct hv_vcpu *v, struct kvm_sregs2 *s);
int hv_set_sregs2(struct hv_vcpu *v, const struct kvm_sregs2 *s);
void hv_get_fpu(struct hv_vcpu *v, struct kvm_fpu *f);
int hv_set_fpu(struct hv_vcpu *v, const struct kvm_fpu *f);
/* @size: 4096 or hv_xsave2_size(). */
void hv_get_xsave(struct hv_vcpu *v, void *buf, unsigned size);
int hv_set_xsave(struct hv_vcpu *v, const void *buf);
void hv_get_xcrs(struct hv_vcpu *v, struct kvm_xcrs *x);
int hv_set_xcrs(struct hv_vcpu *v, const struct kvm_xcrs *x);
void hv_get_debugregs(struct hv_vcpu *v, struct kvm_debugregs *d);
int hv_set_debugregs(struct hv_vcpu *v, const struct kvm_debugregs *d);
void hv_get_vcpu_events(struct hv_vcpu *v, struct kvm_vcpu_events *e);
int hv_set_vcpu_events(struct hv_vcpu *v, const struct kvm_vcpu_events *e);
/*
 * KVM_GET/SET_NESTED_STATE without nesting: a guest that is not in VMX operation. GET: the bytes
 * that the state has; the caller's room is @size. SET: -EINVAL for anything else.
 */
int hv_get_nested_state(struct hv_vcpu *v, struct kvm_nested_state *s, u32 size);
int hv_set_nested_state(struct hv_vcpu *v, const struct kvm_nested_state *s);
int hv_get_mp_state(struct hv_vcpu *v, struct kvm_mp_state *m);
int hv_set_mp_state(struct hv_vcpu *v, const struct kvm_mp_state *m);
/* One MSR, by user space. 0 or -EINVAL. */
int hv_get_msr_host(struct hv_vcpu *v, u32 msr, u64 *val);
int hv_set_msr_host(struct hv_vcpu *v, u32 msr, u64 val);
int hv_set_cpuid2(struct hv_vcpu *v, const struct kvm_cpuid_entry2 *e, u32 nent);
int hv_get_cpuid2(struct hv_vcpu *v, struct kvm_cpuid_entry2 *e, u32 *nent);
int hv_set_guest_debug(struct hv_vcpu *v, const struct kvm_guest_debug *d);
int hv_translate(struct hv_vcpu *v, struct kvm_translation *t);
int hv_set_vapic_addr(struct hv_vcpu *v, u64 addr);
int hv_setup_mce(struct hv_vcpu *v, u64 mcg_cap);
int hv_set_mce(struct hv_vcpu *v, const struct kvm_x86_mce *m);
/* KVM_INTERRUPT; KVM_NMI and KVM_SMI, from any thread. */
int hv_user_interrupt(struct hv_vcpu *v, u32 vector);
int hv_user_nmi(struct hv_vcpu *v);
int hv_user_smi(struct hv_vcpu *v);

#endif
