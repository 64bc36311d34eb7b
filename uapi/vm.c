// SPDX-License-Identifier: MIT
/* VM descriptors: one function per ioctl that is more than a copy and a call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "uapi/uapi_priv.h"

#define MAX_GSI_ROUTES 4096u
#define MSR_BITMAP_MAX 0x600u
#define PMU_EVENTS_MAX 300u

static long create_vcpu(struct hv_vm *vm, unsigned long id)
{
	struct hv_vcpu *v;
	int r;

	if (id > UINT32_MAX)
		return -EINVAL;
	r = hv_vcpu_new(vm, (u32)id, &v);
	return r < 0 ? r : uapi_vcpu_fd(v);
}

static long create_irqchip(struct hv_vm *vm)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	if (vm->irqchip_mode != HV_IRQCHIP_NONE)
		r = -EEXIST;
	else if (hv_vm_has_vcpus(vm))
		r = -EINVAL;
	else
		r = hv_irqchip_create(vm);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static long create_pit(struct hv_vm *vm, const struct kvm_pit_config *c)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	if (vm->pit)
		r = -EEXIST;
	else if (vm->irqchip_mode != HV_IRQCHIP_KERNEL)
		r = -ENOENT;
	else
		r = hv_pit_create(vm, c);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static long get_irqchip(struct hv_vm *vm, unsigned long arg)
{
	UAPI_IN(struct kvm_irqchip, c, arg);
	int r;

	if (vm->irqchip_mode != HV_IRQCHIP_KERNEL)
		return -ENXIO;
	r = hv_irqchip_get(vm, &c);
	return r < 0 ? r : uapi_write(arg, &c, sizeof(c));
}

static long irq_line(struct hv_vm *vm, u32 req, unsigned long arg)
{
	UAPI_IN(struct kvm_irq_level, l, arg);
	int status = hv_irq_line(vm, l.irq, (int)l.level, HV_IRQ_USER);

	if (status == -ENXIO)
		return -ENXIO;
	if (req != KVM_IRQ_LINE_STATUS)
		return 0;
	l.status = status;
	return uapi_write(arg, &l, sizeof(l));
}

static long set_gsi_routing(struct hv_vm *vm, unsigned long arg)
{
	UAPI_IN(struct kvm_irq_routing, head, arg);
	struct kvm_irq_routing_entry *list = NULL;
	int r;

	if (vm->irqchip_mode == HV_IRQCHIP_NONE || head.nr > MAX_GSI_ROUTES || head.flags)
		return -EINVAL;
	if (head.nr) {
		list = malloc(head.nr * sizeof(*list));
		if (!list)
			return -ENOMEM;
		r = uapi_read(list, arg + offsetof(struct kvm_irq_routing, entries),
			      head.nr * sizeof(*list));
		if (r < 0)
			goto out;
	}
	r = hv_set_gsi_routing(vm, list, head.nr, head.flags);
out:
	free(list);
	return r;
}

static long set_msr_filter(struct hv_vm *vm, unsigned long arg)
{
	UAPI_IN(struct kvm_msr_filter, f, arg);
	int r = 0;

	/* Bitmaps come into our memory before anybody looks at them. */
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		unsigned long user = (unsigned long)f.ranges[i].bitmap;
		size_t bytes = ((size_t)f.ranges[i].nmsrs + 7) / 8;

		f.ranges[i].bitmap = NULL;
		if (!f.ranges[i].nmsrs || r < 0)
			continue;
		if (bytes > MSR_BITMAP_MAX) {
			r = -EINVAL;
			continue;
		}
		f.ranges[i].bitmap = malloc(bytes);
		r = f.ranges[i].bitmap ? uapi_read(f.ranges[i].bitmap, user, bytes) : -ENOMEM;
	}
	if (r == 0)
		r = hv_set_msr_filter(vm, &f);
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		free(f.ranges[i].bitmap);
	return r;
}

static long set_pmu_event_filter(struct hv_vm *vm, unsigned long arg)
{
	UAPI_IN(struct kvm_pmu_event_filter, f, arg);
	u64 *events;
	long r;

	/* The order of refusals is the callee's, but it needs the events. */
	if (f.nevents > PMU_EVENTS_MAX)
		return hv_set_pmu_event_filter(vm, &f, NULL);
	events = calloc(max(f.nevents, 1u), sizeof(*events));
	if (!events)
		return -ENOMEM;
	r = uapi_read(events, arg + sizeof(f), f.nevents * sizeof(*events));
	if (r == 0)
		r = hv_set_pmu_event_filter(vm, &f, events);
	free(events);
	return r;
}

static long create_device(unsigned long arg)
{
	UAPI_IN(struct kvm_create_device, d, arg);

	(void)d;
	return -ENODEV;
}

static long set_tsc_khz(struct hv_vm *vm, unsigned long khz)
{
	int r;

	if (khz > UINT32_MAX)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	r = hv_vm_has_vcpus(vm) ? -EINVAL : hv_vm_tsc_set_khz(vm, (u32)khz);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static long get_clock(struct hv_vm *vm, unsigned long arg)
{
	struct kvm_clock_data c = { 0 };

	hv_clock_get(vm, &c);
	return uapi_write(arg, &c, sizeof(c));
}

static long identity_map(struct hv_vm *vm, unsigned long arg)
{
	UAPI_IN(u64, addr, arg);

	return hv_set_identity_map_addr(vm, addr);
}

static long pit_legacy(struct hv_vm *vm, u32 req, unsigned long arg)
{
	struct kvm_pit_state2 s2 = { 0 };
	struct kvm_pit_state s;
	int r;

	r = hv_pit_get(vm, &s2);
	if (r < 0)
		return r;
	if (req == KVM_GET_PIT) {
		memcpy(&s, &s2, sizeof(s));
		return uapi_write(arg, &s, sizeof(s));
	}
	r = uapi_read(&s, arg, sizeof(s));
	if (r < 0)
		return r;
	memcpy(&s2, &s, sizeof(s));
	return hv_pit_set(vm, &s2);
}

static long pit2(struct hv_vm *vm, u32 req, unsigned long arg)
{
	struct kvm_pit_state2 s;
	int r;

	if (!vm->pit)
		return -ENXIO;
	if (req == KVM_GET_PIT || req == KVM_SET_PIT)
		return pit_legacy(vm, req, arg);
	if (req == KVM_GET_PIT2) {
		memset(&s, 0, sizeof(s));
		r = hv_pit_get(vm, &s);
		return r < 0 ? r : uapi_write(arg, &s, sizeof(s));
	}
	r = uapi_read(&s, arg, sizeof(s));
	return r < 0 ? r : hv_pit_set(vm, &s);
}

/* Those whose argument is a struct that is only read. */
static long vm_ioctl_in(struct hv_vm *vm, u32 req, unsigned long arg)
{
	switch (req) {
	case KVM_SET_USER_MEMORY_REGION: {
		UAPI_IN(struct kvm_userspace_memory_region, r, arg);
		return hv_set_memory_region(vm, &r);
	}
	case KVM_GET_DIRTY_LOG: {
		UAPI_IN(struct kvm_dirty_log, l, arg);
		return hv_get_dirty_log(vm, &l);
	}
	case KVM_CLEAR_DIRTY_LOG: {
		UAPI_IN(struct kvm_clear_dirty_log, l, arg);
		return hv_clear_dirty_log(vm, &l);
	}
	case KVM_REGISTER_COALESCED_MMIO: {
		UAPI_IN(struct kvm_coalesced_mmio_zone, z, arg);
		return hv_coalesced_register(vm, &z);
	}
	case KVM_UNREGISTER_COALESCED_MMIO: {
		UAPI_IN(struct kvm_coalesced_mmio_zone, z, arg);
		return hv_coalesced_unregister(vm, &z);
	}
	case KVM_SIGNAL_MSI: {
		UAPI_IN(struct kvm_msi, m, arg);
		return hv_signal_msi(vm, &m);
	}
	case KVM_IRQFD: {
		UAPI_IN(struct kvm_irqfd, i, arg);
		return hv_irqfd(vm, &i);
	}
	case KVM_IOEVENTFD: {
		UAPI_IN(struct kvm_ioeventfd, i, arg);
		return hv_ioeventfd(vm, &i);
	}
	case KVM_HYPERV_EVENTFD: {
		UAPI_IN(struct kvm_hyperv_eventfd, e, arg);
		return hyperv_eventfd(vm, &e);
	}
	case KVM_ENABLE_CAP: {
		UAPI_IN(struct kvm_enable_cap, c, arg);
		return hv_vm_enable_cap(vm, &c);
	}
	case KVM_CREATE_PIT2: {
		UAPI_IN(struct kvm_pit_config, c, arg);
		return create_pit(vm, &c);
	}
	case KVM_SET_IRQCHIP: {
		UAPI_IN(struct kvm_irqchip, c, arg);
		return vm->irqchip_mode == HV_IRQCHIP_KERNEL ? hv_irqchip_set(vm, &c) : -ENXIO;
	}
	case KVM_REINJECT_CONTROL: {
		UAPI_IN(struct kvm_reinject_control, c, arg);
		return vm->pit ? hv_pit_reinject(vm, c.pit_reinject) : -ENXIO;
	}
	case KVM_SET_CLOCK: {
		UAPI_IN(struct kvm_clock_data, c, arg);
		return hv_clock_set(vm, &c);
	}
	default:
		return -EINVAL;
	}
}

static long vm_ioctl(struct vfs_file *f, u32 req, unsigned long arg)
{
	struct hv_vm *vm = f->priv;
	const struct kvm_pit_config no_flags = { 0 };

	if (atomic_load(&vm->dying))
		return -EIO;
	switch (req) {
	case KVM_CREATE_VCPU:
		return create_vcpu(vm, arg);
	case KVM_CHECK_EXTENSION:
		return hv_check_extension(vm->model, vm, arg);
	case KVM_IRQ_LINE:
	case KVM_IRQ_LINE_STATUS:
		return irq_line(vm, req, arg);
	case KVM_CREATE_IRQCHIP:
		return create_irqchip(vm);
	case KVM_CREATE_PIT:
		return create_pit(vm, &no_flags);
	case KVM_GET_IRQCHIP:
		return get_irqchip(vm, arg);
	case KVM_SET_GSI_ROUTING:
		return set_gsi_routing(vm, arg);
	case KVM_SET_TSS_ADDR:
		return hv_set_tss_addr(vm, arg);
	case KVM_SET_IDENTITY_MAP_ADDR:
		return identity_map(vm, arg);
	case KVM_SET_NR_MMU_PAGES:
		return arg < 64 ? -EINVAL : 0;
	case KVM_SET_BOOT_CPU_ID:
		return hv_set_boot_cpu_id(vm, arg);
	case KVM_X86_SET_MSR_FILTER:
		return set_msr_filter(vm, arg);
	case KVM_SET_PMU_EVENT_FILTER:
		return set_pmu_event_filter(vm, arg);
	case KVM_GET_CLOCK:
		return get_clock(vm, arg);
	case KVM_GET_PIT:
	case KVM_SET_PIT:
	case KVM_GET_PIT2:
	case KVM_SET_PIT2:
		return pit2(vm, req, arg);
	case KVM_SET_TSC_KHZ:
		return set_tsc_khz(vm, arg);
	case KVM_GET_TSC_KHZ:
		return vm->default_tsc_khz;
	case KVM_CREATE_DEVICE:
		return create_device(arg);
	case KVM_RESET_DIRTY_RINGS:
		return hv_reset_dirty_rings(vm);
	case KVM_GET_STATS_FD:
		return hv_vm_stats_fd(vm);
	default:
		return vm_ioctl_in(vm, req, arg);
	}
}

static void vm_release(struct vfs_file *f)
{
	hv_vm_put(f->priv);
}

static const struct vfs_file_ops vm_ops = { .ioctl = vm_ioctl, .release = vm_release };

int uapi_vm_fd(struct hv_vm *vm)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	return fd < 0 ? -errno : vfs_file_new(&vm_ops, vm, fd);
}
