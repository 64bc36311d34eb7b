/* SPDX-License-Identifier: MIT */
/*
 * The KVM API's numbers and structs, in Linux spelling: the system's own
 * header, and what is newer than the oldest header that we build with
 * (Debian 12: Linux 6.1).
 */
#ifndef ABI_KVM_H
#define ABI_KVM_H

#include <linux/kvm.h>

#endif
