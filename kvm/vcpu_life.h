/* SPDX-License-Identifier: MIT */
/* Between the common files of kvm/ and kvm/x86/: pieces of a VM's and vCPU's life. */
#ifndef KVM_VCPU_LIFE_H
#define KVM_VCPU_LIFE_H

#include "kvm/vcpu.h"

/* The vCPU's thread is not in KVM_RUN and cannot enter it any more. */
void hv_vcpu_free(struct hv_vcpu *v);

/* x86/vcpu.c: everything but the common part; @v->cpu included. */
int hv_x86_vcpu_new(struct hv_vcpu *v);
void hv_x86_vcpu_free(struct hv_vcpu *v);

/* x86/vmx/vmcs.c: does VT-x of the model log dirty pages? */
bool hv_vmx_has_pml(const struct x86_model *model);

/* x86/msr_user.c */
void hv_msr_filter_free(struct hv_vm *vm);

/*
 * Sleep until hv_wake(), @deadline (CLOCK_MONOTONIC ns; 0 = none) or a signal.
 * The caller has set v->waiting, taken *@word from v->wait_word and then looked
 * once more for reasons not to sleep.
 */
void hv_vcpu_sleep(struct hv_vcpu *v, u32 word, u64 deadline);

/* A signal that ends KVM_RUN has arrived (or is pending and open in the client's mask). */
bool hv_signal_pending(struct hv_vcpu *v);

#endif
