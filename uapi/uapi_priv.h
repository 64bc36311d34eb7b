/* SPDX-License-Identifier: MIT */
/*
 * Between the files of uapi/: descriptors of the three kinds, and copies from
 * and to the client's memory.
 */
#ifndef UAPI_UAPI_PRIV_H
#define UAPI_UAPI_PRIV_H

#include "kvm/hv.h"
#include "vfs/user.h"
#include "vfs/vfs.h"

/* A fault in an ioctl's argument must not be a crash: 0 or -EFAULT. */
static inline int uapi_read(void *dst, unsigned long user, size_t len)
{
	return vfs_user_read(dst, user, len);
}

static inline int uapi_write(unsigned long user, const void *src, size_t len)
{
	return vfs_user_write(user, src, len);
}

/* The struct at @arg; declares @name in the caller, which must return @r if it is negative. */
#define UAPI_IN(type, name, arg) \
	type name; \
	int name##_err = uapi_read(&name, (arg), sizeof(name)); \
	if (name##_err < 0) \
		return name##_err

/* New descriptors; each holds a reference on the VM. A descriptor or -errno. */
int uapi_vm_fd(struct hv_vm *vm);
int uapi_vcpu_fd(struct hv_vcpu *v);

extern const char *uapi_model_name;
extern const struct x86_model *uapi_model;
/* Optional: called once, at the first open of /dev/kvm. */
extern void (*uapi_first_open)(void);
/* Optional: XSAVE components that the client is not to be offered, see nodes.c. */
extern u64 (*uapi_hidden_xcr0)(void);

/*
 * CPUID lists: @arg is struct kvm_cpuid2 with room for its nent entries. Reads
 * the head; on success the caller frees the list.
 */
struct kvm_cpuid_entry2 *uapi_cpuid_list(u32 nent);
int uapi_put_cpuid(unsigned long arg, const struct kvm_cpuid_entry2 *list, u32 nent);

/* KVM_GET_SUPPORTED_HV_CPUID of system and vCPU. */
long uapi_hyperv_cpuid(unsigned long arg);

#define UAPI_MAX_CPUID 256u

#endif
