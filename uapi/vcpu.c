// SPDX-License-Identifier: MIT
/* vCPU descriptors: ioctls and the mapping of the run page. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uapi/uapi_priv.h"

#define MAX_MSRS 255u

/* ---- Ioctls with arguments of their own shape ---- */

static long set_cpuid2(struct hv_vcpu *v, unsigned long arg)
{
	UAPI_IN(struct kvm_cpuid2, head, arg);
	struct kvm_cpuid_entry2 *list;
	long r;

	if (head.nent > UAPI_MAX_CPUID)
		return -E2BIG;
	list = uapi_cpuid_list(head.nent);
	if (!list)
		return -ENOMEM;
	r = uapi_read(list, arg + offsetof(struct kvm_cpuid2, entries), head.nent * sizeof(*list));
	if (r == 0)
		r = hv_set_cpuid2(v, list, head.nent);
	free(list);
	return r;
}

static long get_cpuid2(struct hv_vcpu *v, unsigned long arg)
{
	UAPI_IN(struct kvm_cpuid2, head, arg);
	u32 nent = head.nent < UAPI_MAX_CPUID ? head.nent : UAPI_MAX_CPUID;
	struct kvm_cpuid_entry2 *list = uapi_cpuid_list(nent);
	long r;

	if (!list)
		return -ENOMEM;
	r = hv_get_cpuid2(v, list, &nent);
	if (r == 0)
		r = uapi_put_cpuid(arg, list, nent);
	else if (uapi_write(arg, &nent, sizeof(nent)) < 0)
		r = -EFAULT;
	free(list);
	return r;
}

/* The count of those that were processed; stops at the first that fails. */
static long msrs(struct hv_vcpu *v, unsigned long arg, bool set)
{
	UAPI_IN(struct kvm_msrs, head, arg);
	struct kvm_msr_entry *list;
	unsigned long user = arg + offsetof(struct kvm_msrs, entries);
	size_t bytes = head.nmsrs * sizeof(*list);
	u32 i;
	long r;

	if (head.nmsrs > MAX_MSRS)
		return -E2BIG;
	list = malloc(bytes ? bytes : 1);
	if (!list)
		return -ENOMEM;
	r = uapi_read(list, user, bytes);
	for (i = 0; r == 0 && i < head.nmsrs; i++) {
		u64 val = list[i].data;

		if (set ? hv_set_msr_host(v, list[i].index, val) < 0 :
			  hv_get_msr_host(v, list[i].index, &val) < 0)
			break;
		list[i].data = val;
	}
	if (r == 0 && !set)
		r = uapi_write(user, list, bytes);
	free(list);
	return r < 0 ? r : (long)i;
}

static long xsave(struct hv_vcpu *v, u32 req, unsigned long arg)
{
	unsigned size = hv_xsave2_size(v->vm->model);
	void *buf;
	long r = 0;

	if (req == KVM_GET_XSAVE)
		size = sizeof(struct kvm_xsave);
	buf = calloc(1, size);
	if (!buf)
		return -ENOMEM;
	if (req == KVM_SET_XSAVE) {
		r = uapi_read(buf, arg, size);
		if (r == 0)
			r = hv_set_xsave(v, buf);
	} else {
		hv_get_xsave(v, buf, size);
		r = uapi_write(arg, buf, size);
	}
	free(buf);
	return r;
}

static long set_signal_mask(struct hv_vcpu *v, unsigned long arg)
{
	struct kvm_signal_mask head;
	u64 mask;
	int r;

	if (!arg) {
		hv_set_signal_mask(v, NULL);
		return 0;
	}
	r = uapi_read(&head, arg, sizeof(head));
	if (r < 0)
		return r;
	if (head.len != sizeof(mask))
		return -EINVAL;
	r = uapi_read(&mask, arg + offsetof(struct kvm_signal_mask, sigset), sizeof(mask));
	if (r < 0)
		return r;
	hv_set_signal_mask(v, &mask);
	return 0;
}

static long vcpu_attr(struct hv_vcpu *v, u32 req, unsigned long arg)
{
	UAPI_IN(struct kvm_device_attr, a, arg);
	u64 val;
	int r;

	if (a.group != KVM_VCPU_TSC_CTRL || a.attr != KVM_VCPU_TSC_OFFSET)
		return -ENXIO;
	switch (req) {
	case KVM_GET_DEVICE_ATTR:
		val = hv_tsc_attr_get(v);
		return uapi_write((unsigned long)a.addr, &val, sizeof(val));
	case KVM_SET_DEVICE_ATTR:
		r = uapi_read(&val, (unsigned long)a.addr, sizeof(val));
		if (r < 0)
			return r;
		hv_tsc_attr_set(v, val);
		return 0;
	default:
		return 0;	/* KVM_HAS_DEVICE_ATTR */
	}
}

/* The client says how much room it has, and is told what it needs. */
static long get_nested_state(struct hv_vcpu *v, unsigned long arg)
{
	UAPI_IN(struct kvm_nested_state, s, arg);
	u32 room = s.size, need = (u32)hv_get_nested_state(v, &s, room);

	if (need <= room)
		return uapi_write(arg, &s, sizeof(s));
	return uapi_write(arg + offsetof(struct kvm_nested_state, size), &need, sizeof(need)) < 0 ? -EFAULT :
												    -E2BIG;
}

static long get_lapic(struct hv_vcpu *v, unsigned long arg)
{
	struct kvm_lapic_state *s;
	long r;

	if (!v->lapic)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = hv_lapic_get_state(v, s);
	if (r == 0)
		r = uapi_write(arg, s, sizeof(*s));
	free(s);
	return r;
}

static long set_lapic(struct hv_vcpu *v, unsigned long arg)
{
	UAPI_IN(struct kvm_lapic_state, s, arg);

	return v->lapic ? hv_lapic_set_state(v, &s) : -EINVAL;
}

static long set_tsc_khz(struct hv_vcpu *v, unsigned long khz)
{
	return khz > UINT32_MAX ? -EINVAL : hv_tsc_set_khz(v, (u32)khz);
}

/* ---- Structs that are copied out, or in ---- */

#define OUT(type, call) \
	({ \
		type s_ = { 0 }; \
		long r_; \
		call; \
		r_ = uapi_write(arg, &s_, sizeof(s_)); \
		r_; \
	})

static long ioctl_get(struct hv_vcpu *v, u32 req, unsigned long arg)
{
	switch (req) {
	case KVM_GET_REGS:
		return OUT(struct kvm_regs, hv_get_regs(v, &s_));
	case KVM_GET_SREGS:
		return OUT(struct kvm_sregs, hv_get_sregs(v, &s_));
	case KVM_GET_SREGS2:
		return OUT(struct kvm_sregs2, hv_get_sregs2(v, &s_));
	case KVM_GET_FPU:
		return OUT(struct kvm_fpu, hv_get_fpu(v, &s_));
	case KVM_GET_XCRS:
		return OUT(struct kvm_xcrs, hv_get_xcrs(v, &s_));
	case KVM_GET_DEBUGREGS:
		return OUT(struct kvm_debugregs, hv_get_debugregs(v, &s_));
	case KVM_GET_VCPU_EVENTS:
		return OUT(struct kvm_vcpu_events, hv_get_vcpu_events(v, &s_));
	case KVM_GET_MP_STATE:
		return OUT(struct kvm_mp_state, hv_get_mp_state(v, &s_));
	default:
		return -EINVAL;
	}
}

static long ioctl_set(struct hv_vcpu *v, u32 req, unsigned long arg)
{
	switch (req) {
	case KVM_SET_REGS: {
		UAPI_IN(struct kvm_regs, s, arg);
		return hv_set_regs(v, &s);
	}
	case KVM_SET_SREGS: {
		UAPI_IN(struct kvm_sregs, s, arg);
		return hv_set_sregs(v, &s);
	}
	case KVM_SET_SREGS2: {
		UAPI_IN(struct kvm_sregs2, s, arg);
		return hv_set_sregs2(v, &s);
	}
	case KVM_SET_FPU: {
		UAPI_IN(struct kvm_fpu, s, arg);
		return hv_set_fpu(v, &s);
	}
	case KVM_SET_XCRS: {
		UAPI_IN(struct kvm_xcrs, s, arg);
		return hv_set_xcrs(v, &s);
	}
	case KVM_SET_DEBUGREGS: {
		UAPI_IN(struct kvm_debugregs, s, arg);
		return hv_set_debugregs(v, &s);
	}
	case KVM_SET_VCPU_EVENTS: {
		UAPI_IN(struct kvm_vcpu_events, s, arg);
		return hv_set_vcpu_events(v, &s);
	}
	case KVM_SET_MP_STATE: {
		UAPI_IN(struct kvm_mp_state, s, arg);
		return hv_set_mp_state(v, &s);
	}
	case KVM_SET_NESTED_STATE: {
		UAPI_IN(struct kvm_nested_state, s, arg);
		return hv_set_nested_state(v, &s);
	}
	case KVM_SET_GUEST_DEBUG: {
		UAPI_IN(struct kvm_guest_debug, s, arg);
		return hv_set_guest_debug(v, &s);
	}
	case KVM_SET_VAPIC_ADDR: {
		UAPI_IN(struct kvm_vapic_addr, s, arg);
		return hv_set_vapic_addr(v, s.vapic_addr);
	}
	case KVM_X86_SETUP_MCE: {
		UAPI_IN(u64, cap, arg);
		return hv_setup_mce(v, cap);
	}
	case KVM_X86_SET_MCE: {
		UAPI_IN(struct kvm_x86_mce, m, arg);
		return hv_set_mce(v, &m);
	}
	case KVM_INTERRUPT: {
		UAPI_IN(struct kvm_interrupt, i, arg);
		return hv_user_interrupt(v, i.irq);
	}
	case KVM_ENABLE_CAP: {
		UAPI_IN(struct kvm_enable_cap, c, arg);
		return hv_vcpu_enable_cap(v, &c);
	}
	case KVM_TRANSLATE: {
		UAPI_IN(struct kvm_translation, t, arg);
		long r = hv_translate(v, &t);
		return r < 0 ? r : uapi_write(arg, &t, sizeof(t));
	}
	default:
		return ioctl_get(v, req, arg);
	}
}

static long ioctl_locked(struct hv_vcpu *v, u32 req, unsigned long arg)
{
	switch (req) {
	case KVM_RUN:
		return arg ? -EINVAL : hv_vcpu_run(v);
	case KVM_SET_CPUID2:
		return set_cpuid2(v, arg);
	case KVM_GET_CPUID2:
		return get_cpuid2(v, arg);
	case KVM_GET_MSRS:
		return msrs(v, arg, false);
	case KVM_SET_MSRS:
		return msrs(v, arg, true);
	case KVM_GET_SUPPORTED_HV_CPUID:
		return uapi_hyperv_cpuid(arg);
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
	case KVM_SET_XSAVE:
		return xsave(v, req, arg);
	case KVM_GET_NESTED_STATE:
		return get_nested_state(v, arg);
	case KVM_GET_LAPIC:
		return get_lapic(v, arg);
	case KVM_SET_LAPIC:
		return set_lapic(v, arg);
	case KVM_SET_SIGNAL_MASK:
		return set_signal_mask(v, arg);
	case KVM_SET_TSC_KHZ:
		return set_tsc_khz(v, arg);
	case KVM_GET_TSC_KHZ:
		return (long)hv_guest_tsc_khz(v);
	case KVM_KVMCLOCK_CTRL:
		return hv_kvmclock_ctrl(v);
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR:
		return vcpu_attr(v, req, arg);
	case KVM_GET_STATS_FD:
		return hv_vcpu_stats_fd(v);
	default:
		return ioctl_set(v, req, arg);
	}
}

static long vcpu_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	struct hv_vcpu *v = f->priv;
	long r;

	if (atomic_load(&v->vm->dying))
		return -EIO;
	/* Other threads use it while the vCPU runs. */
	if (req == KVM_NMI)
		return hv_user_nmi(v);
	if (req == KVM_SMI)
		return hv_user_smi(v);
	hv_vcpu_lock(v);
	r = ioctl_locked(v, req, arg);
	hv_vcpu_unlock(v);
	return r;
}

/* ---- The mapping ---- */

static int vcpu_mmap(struct vfs_file *f, size_t len, int prot, int flags, off_t off)
{
	struct hv_vcpu *v = f->priv;
	u64 ring = HV_DIRTY_RING_PAGE * PAGE_SIZE, end = (u64)off + len;

	if (off < 0 || end < (u64)off || end > ring + v->vm->dirty_ring_bytes)
		return -EINVAL;
	/* A private or executable view of the dirty ring makes no sense. */
	if (v->vm->dirty_ring_bytes && end > ring && (!(flags & MAP_SHARED) || (prot & PROT_EXEC)))
		return -EINVAL;
	return 0;
}

/* The page of coalesced MMIO is one for all vCPUs of a VM: lay it over this vCPU's own. */
static int vcpu_mapped(struct vfs_file *f, void *addr, size_t len, int prot, int flags, off_t off)
{
	struct hv_vcpu *v = f->priv;
	u64 at = HV_COALESCED_PAGE * PAGE_SIZE;

	if ((u64)off > at || (u64)off + len < at + PAGE_SIZE || !(flags & MAP_SHARED))
		return 0;
	if (mmap((u8 *)addr + (at - (u64)off), PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED,
		 v->vm->coalesced_memfd, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

static void vcpu_release(struct vfs_file *f)
{
	struct hv_vcpu *v = f->priv;

	hv_vm_put(v->vm);
}

static const struct vfs_file_ops vcpu_ops = {
	.ioctl = vcpu_ioctl, .mmap = vcpu_mmap, .mapped = vcpu_mapped, .release = vcpu_release,
};

int uapi_vcpu_fd(struct hv_vcpu *v)
{
	int fd = fcntl(v->memfd, F_DUPFD_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	hv_vm_get(v->vm);
	r = vfs_file_new(&vcpu_ops, v, fd);
	if (r < 0)
		hv_vm_put(v->vm);
	return r;
}
