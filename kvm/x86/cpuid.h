/* SPDX-License-Identifier: MIT */
/* CPUID of the model itself, for the files of kvm/x86/. */
#ifndef KVM_X86_CPUID_H
#define KVM_X86_CPUID_H

#include "silicon/x86.h"

/* As a processor of @model in 64-bit mode answers. Any thread. */
void hv_model_cpuid(const struct x86_model *model, u32 leaf, u32 subleaf, u32 out[4]);
/* MSR of a processor of @model at reset: 0, or -1 if it has none. Any thread. */
int hv_model_rdmsr(const struct x86_model *model, u32 msr, u64 *val);
bool hv_model_is_intel(const struct x86_model *model);

#endif
