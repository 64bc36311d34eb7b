// SPDX-License-Identifier: MIT
/* /dev/kvm itself: the system ioctls. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "silicon/x86.h"
#include "uapi/uapi.h"
#include "uapi/uapi_priv.h"

const char *uapi_model_name;
const struct x86_model *uapi_model;
u64 (*uapi_hidden_xcr0)(void);
void (*uapi_first_open)(void);

struct kvm_cpuid_entry2 *uapi_cpuid_list(u32 nent)
{
	return calloc(nent ? nent : 1, sizeof(struct kvm_cpuid_entry2));
}

int uapi_put_cpuid(unsigned long arg, const struct kvm_cpuid_entry2 *list, u32 nent)
{
	int r = uapi_write(arg + offsetof(struct kvm_cpuid2, entries), list, nent * sizeof(*list));

	return r < 0 ? r : uapi_write(arg, &nent, sizeof(nent));
}

/* CPUID.7.0:ECX of the one component beyond AVX that models have. */
#define XCR0_PKRU (1ull << 9)
#define CPUID_7_ECX_PKU (1u << 3)

static u64 hidden_xcr0(void)
{
	return uapi_hidden_xcr0 ? uapi_hidden_xcr0() : 0;
}

static void hide_xstate(struct kvm_cpuid_entry2 *e, u64 hidden)
{
	if (e->function == 7 && e->index == 0 && (hidden & XCR0_PKRU))
		e->ecx &= ~CPUID_7_ECX_PKU;
	if (e->function != 0xd)
		return;
	if (e->index == 0) {
		e->eax &= ~(u32)hidden;
		e->edx &= ~(u32)(hidden >> 32);
	} else if (e->index >= 2 && e->index < 64 && (hidden >> e->index & 1)) {
		e->eax = e->ebx = e->ecx = e->edx = 0;
	}
}

static long get_supported_cpuid(unsigned long arg)
{
	UAPI_IN(struct kvm_cpuid2, head, arg);
	u32 nent = head.nent < UAPI_MAX_CPUID ? head.nent : UAPI_MAX_CPUID;
	struct kvm_cpuid_entry2 *list;
	long r;

	if (!nent)
		return -E2BIG;
	list = uapi_cpuid_list(nent);
	if (!list)
		return -ENOMEM;
	r = hv_supported_cpuid(uapi_model, list, &nent);
	for (u32 i = 0; r == 0 && i < nent; i++)
		hide_xstate(&list[i], hidden_xcr0());
	if (r == 0)
		r = uapi_put_cpuid(arg, list, nent);
	free(list);
	return r;
}

long uapi_hyperv_cpuid(unsigned long arg)
{
	UAPI_IN(struct kvm_cpuid2, head, arg);
	u32 nent = head.nent < UAPI_MAX_CPUID ? head.nent : UAPI_MAX_CPUID;
	struct kvm_cpuid_entry2 *list = uapi_cpuid_list(nent);
	long r;

	if (!list)
		return -ENOMEM;
	r = hv_hyperv_cpuid(list, &nent);
	if (r == 0)
		r = uapi_put_cpuid(arg, list, nent);
	free(list);
	return r;
}

/* Nothing is emulated that is not supported. */
static long get_emulated_cpuid(unsigned long arg)
{
	UAPI_IN(struct kvm_cpuid2, head, arg);

	return head.nent ? uapi_put_cpuid(arg, NULL, 0) : -E2BIG;
}

static long put_msr_list(unsigned long arg, const u32 *list, u32 n)
{
	UAPI_IN(struct kvm_msr_list, head, arg);
	int r;

	/* The count is told in any case. */
	r = uapi_write(arg, &n, sizeof(n));
	if (r < 0)
		return r;
	if (head.nmsrs < n)
		return -E2BIG;
	return uapi_write(arg + offsetof(struct kvm_msr_list, indices), list, n * sizeof(*list));
}

static long get_feature_msrs(unsigned long arg)
{
	UAPI_IN(struct kvm_msrs, head, arg);
	unsigned long p = arg + offsetof(struct kvm_msrs, entries);
	u32 i;

	if (head.nmsrs > 255)
		return -E2BIG;
	for (i = 0; i < head.nmsrs; i++, p += sizeof(struct kvm_msr_entry)) {
		UAPI_IN(struct kvm_msr_entry, e, p);
		u64 val;
		int r;

		if (hv_feature_msr(uapi_model, e.index, &val) < 0)
			break;
		e.data = val;
		r = uapi_write(p, &e, sizeof(e));
		if (r < 0)
			return r;
	}
	return i;
}

static long system_attr(u32 req, unsigned long arg)
{
	UAPI_IN(struct kvm_device_attr, a, arg);
	u64 xcr0 = hv_supported_xcr0(uapi_model) & ~hidden_xcr0();

	if (a.group != 0 || a.attr != KVM_X86_XCOMP_GUEST_SUPP)
		return -ENXIO;
	if (req == KVM_HAS_DEVICE_ATTR)
		return 0;
	return uapi_write((unsigned long)a.addr, &xcr0, sizeof(xcr0));
}

static long create_vm(unsigned long type)
{
	struct hv_vm *vm;
	int r;

	if (type)
		return -EINVAL;
	r = hv_vm_new(uapi_model_name, &vm);
	if (r < 0)
		return r;
	r = uapi_vm_fd(vm);
	if (r < 0)
		hv_vm_put(vm);
	return r;
}

static long system_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	const u32 *list;
	unsigned n;
	u64 val;

	switch (req) {
	case KVM_GET_API_VERSION:
		return arg ? -EINVAL : KVM_API_VERSION;
	case KVM_CREATE_VM:
		return create_vm(arg);
	case KVM_CHECK_EXTENSION:
		return hv_check_extension(uapi_model, NULL, arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return arg ? -EINVAL : (long)HV_VCPU_MMAP_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return get_supported_cpuid(arg);
	case KVM_GET_EMULATED_CPUID:
		return get_emulated_cpuid(arg);
	case KVM_GET_SUPPORTED_HV_CPUID:
		return uapi_hyperv_cpuid(arg);
	case KVM_GET_MSR_INDEX_LIST:
		list = hv_msr_list(uapi_model, &n);
		return put_msr_list(arg, list, n);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		list = hv_feature_msr_list(uapi_model, &n);
		return put_msr_list(arg, list, n);
	case KVM_GET_MSRS:
		return get_feature_msrs(arg);
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		val = hv_mce_cap_supported();
		return uapi_write(arg, &val, sizeof(val));
	case KVM_GET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR:
		return system_attr(req, arg);
	default:
		return -EINVAL;
	}
}

static const struct vfs_file_ops system_ops = { .ioctl = system_ioctl };

/*
 * Client memory may be gone at any access: that is -EFAULT, not our end. From
 * the first open on; programs that never get here keep their signals untouched.
 */
static int take_faults(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool done;
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!done) {
		r = vfs_guard_signal(SIGSEGV);
		if (!r)
			r = vfs_guard_signal(SIGBUS);
		if (!r)
			r = x86_install_fault_handler();
		done = r == 0;
		if (done && uapi_first_open)
			uapi_first_open();
	}
	pthread_mutex_unlock(&lock);
	return r;
}

static int open_system(const struct vfs_node *node, struct vfs_file *f, int flags)
{
	const char *lacks = x86_host_lacks();
	int r, fd;

	if (lacks) {
		log_error("/dev/kvm: this host's processor lacks %s: simulated processors need x86-64-v3", lacks);
		return -ENODEV;
	}
	r = take_faults();
	if (r < 0)
		return r;
	fd = eventfd(0, EFD_CLOEXEC);
	f->ops = &system_ops;
	/* No VM belongs to it: as with KVM, a forked child may go on using it. */
	f->any_process = true;
	return fd < 0 ? -errno : fd;
}

static const struct vfs_node kvm_node = {
	.path = "/dev/kvm", .open = open_system, .rdev = 10 << 8 | 232, /* misc device kvm */
};

int uapi_register(const char *model)
{
	const struct x86_model *m = x86_model_find(model);

	if (!m)
		return -ENOENT;
	if (!hv_model_supported(m))
		return -ENODEV;
	uapi_model = m;
	uapi_model_name = model;
	return vfs_register_node(&kvm_node);
}
