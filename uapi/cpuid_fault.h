/* SPDX-License-Identifier: MIT */
/* CPUID as the client itself executes it. */
#ifndef UAPI_CPUID_FAULT_H
#define UAPI_CPUID_FAULT_H

#include "base/types.h"

struct x86_model;

/*
 * From now on the client's CPUID instructions tell of @model where its identity
 * and what KVM clients take from there are concerned. Call once, before there
 * are threads; threads and forked children inherit it. 0; -ENODEV: this host
 * cannot do that; -ENOMEM. Guards SIGSEGV.
 */
int uapi_cpuid_fault_start(const struct x86_model *model);
bool uapi_cpuid_fault_active(void);

#endif
