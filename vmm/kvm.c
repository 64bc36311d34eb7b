// SPDX-License-Identifier: MIT
/* From the KVM node to a VM with interrupt controllers and RAM, each lack named. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "abi/kvm.h"
#include "base/log.h"
#include "vmm/layout.h"
#include "vmm/machine.h"

#define MAX_CPUID_ENTRIES 256

/* What the machine cannot do without. */
static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_HLT, "KVM_CAP_HLT" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
};

static long vm_ioctl(struct vmm *vmm, unsigned long req, unsigned long arg)
{
	return vmm->sys->ioctl(vmm->vm_fd, req, arg);
}

static long check_cap(struct vmm *vmm, int cap)
{
	return vmm->sys->ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

static int fail(struct vmm *vmm, long ret, const char *what)
{
	machine_end(vmm, VMM_END_ERROR, 0, "%s: %s: %s", vmm->cfg->kvm_path, what,
		    strerror((int)-ret));
	return (int)ret;
}

static int check_caps(struct vmm *vmm)
{
	long ret, max_vcpus;

	for (unsigned i = 0; i < ARRAY_SIZE(needed_caps); i++) {
		if (check_cap(vmm, needed_caps[i].cap) > 0)
			continue;
		machine_end(vmm, VMM_END_ERROR, 0, "%s lacks %s, which the machine needs",
			    vmm->cfg->kvm_path, needed_caps[i].name);
		return -ENOTSUP;
	}
	max_vcpus = check_cap(vmm, KVM_CAP_MAX_VCPUS);
	if (max_vcpus <= 0)
		max_vcpus = check_cap(vmm, KVM_CAP_NR_VCPUS);
	if ((long)vmm->cfg->cpus > max(max_vcpus, 1l)) {
		machine_end(vmm, VMM_END_ERROR, 0, "%u CPUs asked for, %s has at most %ld",
			    vmm->cfg->cpus, vmm->cfg->kvm_path, max(max_vcpus, 1l));
		return -EINVAL;
	}
	vmm->cap_irqfd =
		check_cap(vmm, KVM_CAP_IRQFD) > 0 && check_cap(vmm, KVM_CAP_IRQ_ROUTING) > 0;
	if (!vmm->cap_irqfd && check_cap(vmm, KVM_CAP_SIGNAL_MSI) <= 0) {
		machine_end(vmm, VMM_END_ERROR, 0,
			    "%s lacks KVM_CAP_IRQFD with KVM_CAP_IRQ_ROUTING, and "
			    "KVM_CAP_SIGNAL_MSI; the machine needs one of them",
			    vmm->cfg->kvm_path);
		return -ENOTSUP;
	}
	vmm->cap_ioeventfd = check_cap(vmm, KVM_CAP_IOEVENTFD) > 0;
	vmm->cap_any_length = check_cap(vmm, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
	vmm->cap_tsc_deadline = check_cap(vmm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	ret = vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < (long)sizeof(struct kvm_run))
		return fail(vmm, ret < 0 ? ret : -EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
	vmm->run_size = (size_t)ret;
	return 0;
}

static int get_cpuid(struct vmm *vmm)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + MAX_CPUID_ENTRIES * sizeof(c->entries[0]));
	long ret;

	if (!c)
		return fail(vmm, -ENOMEM, "CPUID table");
	vmm->cpuid = c;
	c->nent = MAX_CPUID_ENTRIES;
	ret = vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_SUPPORTED_CPUID, (unsigned long)c);
	return ret < 0 ? fail(vmm, ret, "KVM_GET_SUPPORTED_CPUID") : 0;
}

int kvm_init(struct vmm *vmm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	u64 identity_map = LAYOUT_IDENTITY_MAP;
	long ret;
	int err;

	vmm->kvm_fd = vmm->sys->open(vmm->cfg->kvm_path, O_RDWR | O_CLOEXEC);
	if (vmm->kvm_fd < 0)
		return fail(vmm, vmm->kvm_fd, "cannot open");
	ret = vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (ret != KVM_API_VERSION) {
		machine_end(vmm, VMM_END_ERROR, 0, "%s has KVM API version %ld, needed is %d",
			    vmm->cfg->kvm_path, ret, KVM_API_VERSION);
		return -ENOTSUP;
	}
	err = check_caps(vmm);
	if (!err)
		err = get_cpuid(vmm);
	if (err)
		return err;

	ret = vmm->sys->ioctl(vmm->kvm_fd, KVM_CREATE_VM, 0);
	if (ret < 0)
		return fail(vmm, ret, "KVM_CREATE_VM");
	vmm->vm_fd = (int)ret;
	/* Intel hosts without unrestricted guest run real mode with their help. */
	if (check_cap(vmm, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
		ret = vm_ioctl(vmm, KVM_SET_IDENTITY_MAP_ADDR, (unsigned long)&identity_map);
		if (ret < 0)
			return fail(vmm, ret, "KVM_SET_IDENTITY_MAP_ADDR");
	}
	ret = vm_ioctl(vmm, KVM_SET_TSS_ADDR, LAYOUT_TSS);
	if (ret < 0)
		return fail(vmm, ret, "KVM_SET_TSS_ADDR");
	ret = vm_ioctl(vmm, KVM_CREATE_IRQCHIP, 0);
	if (ret < 0)
		return fail(vmm, ret, "KVM_CREATE_IRQCHIP");
	ret = vm_ioctl(vmm, KVM_CREATE_PIT2, (unsigned long)&pit);
	if (ret < 0)
		return fail(vmm, ret, "KVM_CREATE_PIT2");
	for (u32 i = 0; i < vmm->mem.nr_regions; i++) {
		const struct vmm_mem_region *r = &vmm->mem.region[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (u64)(uintptr_t)r->host,
		};

		ret = vm_ioctl(vmm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&slot);
		if (ret < 0)
			return fail(vmm, ret, "KVM_SET_USER_MEMORY_REGION");
	}
	return 0;
}

void kvm_exit(struct vmm *vmm)
{
	if (vmm->vm_fd >= 0)
		vmm->sys->close(vmm->vm_fd);
	if (vmm->kvm_fd >= 0)
		vmm->sys->close(vmm->kvm_fd);
	vmm->vm_fd = vmm->kvm_fd = -1;
	free(vmm->cpuid);
	vmm->cpuid = NULL;
}
