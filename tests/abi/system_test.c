// SPDX-License-Identifier: MIT
/* Ioctls of /dev/kvm and of VM descriptors: good, bad size, bad flag, wrong state. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"
#include "uapi/uapi.h"

#define BAD_POINTER 0x10ul

static long sys(struct vm *vm, unsigned long req, unsigned long arg)
{
	return vfs_ioctl(vm->sys, req, arg);
}

static void model_without_virtualization(void **state)
{
	assert_int_equal(uapi_register("no such"), -ENOENT);
	/* SVM is not there yet. */
	assert_int_equal(uapi_register("amd"), -ENODEV);
}

static void system_values(void **state)
{
	static const struct { unsigned long req, arg; long want; } rows[] = {
		{ KVM_GET_API_VERSION, 0, 12 },
		{ KVM_GET_API_VERSION, 1, -EINVAL },
		{ KVM_GET_VCPU_MMAP_SIZE, 0, 12288 },
		{ KVM_GET_VCPU_MMAP_SIZE, 1, -EINVAL },
		{ KVM_CREATE_VM, 1, -EINVAL },
		/* As QEMU sends it: the request in a signed int. */
		{ (unsigned long)(int)KVM_GET_SUPPORTED_CPUID, BAD_POINTER, -EFAULT },
		{ KVM_GET_MSR_INDEX_LIST, BAD_POINTER, -EFAULT },
		{ KVM_GET_MSRS, BAD_POINTER, -EFAULT },
		{ KVM_RUN, 0, -EINVAL },
		{ 0xae00aeae, 0, -EINVAL },
		{ KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING, 4096 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO, 2 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS, 288 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS, 7 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK, 0xe },
		{ KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2, 0x1f0003 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE, 128 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_HYPERV, 1 },
		{ KVM_CHECK_EXTENSION, KVM_CAP_X86_NOTIFY_VMEXIT, 0 },
		{ KVM_CHECK_EXTENSION, 100000, 0 },
	};
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		long r = sys(&vm, rows[i].req, rows[i].arg);

		if (r != rows[i].want)
			fail_msg("row %u: %ld instead of %ld", i, r, rows[i].want);
	}
	vm_free(&vm);
}

static void cpuid_sizes(void **state)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
	bool saw_kvm = false;
	struct vm vm;
	u32 n;

	vm_new(&vm, 0);
	c->nent = 1;
	assert_int_equal(sys(&vm, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), -E2BIG);
	c->nent = 256;
	assert_int_equal(sys(&vm, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), 0);
	n = c->nent;
	/* Firecracker has room for 80. */
	assert_in_range(n, 20, 80);
	for (u32 i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		saw_kvm |= e->function == 0x40000000 && !memcmp(&e->ebx, "KVMK", 4);
		if (e->function == 1) {
			assert_int_equal(e->ecx >> 27 & 1, 0);	/* OSXSAVE */
			assert_int_equal(e->ecx >> 24 & 1, 0);	/* TSC deadline */
			assert_int_equal(e->ecx >> 21 & 1, 1);	/* x2APIC */
			assert_int_equal(e->ecx >> 31 & 1, 1);	/* hypervisor */
			assert_int_equal(e->ecx >> 5 & 1, 0);	/* VMX */
		}
	}
	assert_true(saw_kvm);
	c->nent = n;
	assert_int_equal(sys(&vm, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), 0);
	c->nent = n - 1;
	assert_int_equal(sys(&vm, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), -E2BIG);

	/* Frozen after the first run: the same again is fine. */
	c->nent = 256;
	vcpu_do(&vm, KVM_GET_CPUID2, c);
	assert_int_equal(c->nent, n);
	c->nent = 3;
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_CPUID2, c), -E2BIG);
	assert_int_equal(c->nent, n);
	c->nent = 257;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_CPUID2, c), -E2BIG);
	vm_real(&vm, "\xf4", 1);
	vm_run(&vm, KVM_EXIT_HLT);
	c->nent = 256;
	vcpu_do(&vm, KVM_GET_CPUID2, c);
	vcpu_do(&vm, KVM_SET_CPUID2, c);
	c->entries[1].ecx ^= 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_CPUID2, c), -EINVAL);
	vm_free(&vm);
	free(c);
}

/* Every MSR of the list can be read and written back, in one call. */
static void msr_lists(void **state)
{
	struct kvm_msr_list *l = calloc(1, sizeof(*l) + 256 * sizeof(l->indices[0]));
	struct kvm_msrs *m = calloc(1, sizeof(*m) + 256 * sizeof(m->entries[0]));
	struct vm vm;
	u32 n;

	vm_new(&vm, VM_IRQCHIP);
	assert_int_equal(sys(&vm, KVM_GET_MSR_INDEX_LIST, (unsigned long)l), -E2BIG);
	n = l->nmsrs;
	assert_in_range(n, 20, 200);
	assert_int_equal(sys(&vm, KVM_GET_MSR_INDEX_LIST, (unsigned long)l), 0);
	assert_int_equal(l->nmsrs, n);
	m->nmsrs = n;
	for (u32 i = 0; i < n; i++)
		m->entries[i].index = l->indices[i];
	for (unsigned pass = 0; pass < 2; pass++) {
		long r = vcpu_ioctl(&vm, pass ? KVM_SET_MSRS : KVM_GET_MSRS, m);

		if (r != (long)n)
			fail_msg("pass %u stopped at MSR %x", pass, m->entries[r].index);
	}
	m->nmsrs = 2;
	m->entries[0].index = 0x10;
	m->entries[1].index = 0x12345678;
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_MSRS, m), 1);
	m->nmsrs = 256;
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_MSRS, m), -E2BIG);

	l->nmsrs = 0;
	assert_int_equal(sys(&vm, KVM_GET_MSR_FEATURE_INDEX_LIST, (unsigned long)l), -E2BIG);
	assert_int_equal(sys(&vm, KVM_GET_MSR_FEATURE_INDEX_LIST, (unsigned long)l), 0);
	m->nmsrs = 1;
	for (u32 i = 0; i < l->nmsrs; i++) {
		m->entries[0].index = l->indices[i];
		assert_int_equal(sys(&vm, KVM_GET_MSRS, (unsigned long)m), 1);
	}
	m->entries[0].index = 0x277;
	assert_int_equal(sys(&vm, KVM_GET_MSRS, (unsigned long)m), 0);
	vm_free(&vm);
	free(l);
	free(m);
}

static void vm_values(void **state)
{
	static const struct { unsigned long req, arg; long want; } rows[] = {
		{ KVM_CREATE_VCPU, 0, -EEXIST },
		{ KVM_CREATE_VCPU, 1152, -EINVAL },
		{ KVM_CREATE_VCPU, ~0ul, -EINVAL },
		{ KVM_CREATE_IRQCHIP, 0, -EINVAL },		/* a vCPU exists */
		{ KVM_SET_TSS_ADDR, 0xfffbd000, 0 },
		{ KVM_SET_TSS_ADDR, 0xfffff000, -EINVAL },
		{ KVM_SET_NR_MMU_PAGES, 63, -EINVAL },
		{ KVM_SET_NR_MMU_PAGES, 64, 0 },
		{ KVM_SET_BOOT_CPU_ID, 0, -EBUSY },
		{ KVM_GET_IRQCHIP, BAD_POINTER, -EFAULT },
		{ KVM_IRQ_LINE, BAD_POINTER, -EFAULT },
		{ KVM_SET_USER_MEMORY_REGION, BAD_POINTER, -EFAULT },
		{ KVM_GET_API_VERSION, 0, -EINVAL },
		{ KVM_RUN, 0, -EINVAL },
		{ KVM_CHECK_EXTENSION, KVM_CAP_CHECK_EXTENSION_VM, 1 },
		{ KVM_RESET_DIRTY_RINGS, 0, -EINVAL },
	};
	static const struct { struct kvm_enable_cap cap; long want; } caps[] = {
		{ { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } }, 0 },
		{ { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .flags = 1, .args = { 1 } }, -EINVAL },
		{ { .cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = { 1 } }, 0 },
		{ { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args = { 8 } }, -EINVAL },
		{ { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 25 } }, -EINVAL },
		{ { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } }, -EEXIST },
		{ { .cap = KVM_CAP_X2APIC_API, .args = { 4 } }, -EINVAL },
		{ { .cap = KVM_CAP_X2APIC_API, .args = { 3 } }, 0 },
		{ { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 2 } }, -EINVAL },
		{ { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 3 } }, 0 },
		{ { .cap = KVM_CAP_DISABLE_QUIRKS2, .args = { 1u << 7 } }, -EINVAL },
		{ { .cap = KVM_CAP_DISABLE_QUIRKS2, .args = { 0x7f } }, 0 },
		{ { .cap = KVM_CAP_MAX_VCPU_ID, .args = { 4 } }, -EINVAL },
		{ { .cap = 100000 }, -EINVAL },
	};
	struct kvm_create_device dev = { .type = KVM_DEV_TYPE_VFIO };
	struct kvm_irq_level line = { .irq = 1, .level = 1 };
	struct kvm_clock_data clock;
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		long r = vfs_ioctl(vm.fd, rows[i].req, rows[i].arg);

		if (r != rows[i].want)
			fail_msg("row %u: %ld instead of %ld", i, r, rows[i].want);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		long r = vm_ioctl(&vm, KVM_ENABLE_CAP, &caps[i].cap);

		if (r != caps[i].want)
			fail_msg("capability row %u: %ld instead of %ld", i, r, caps[i].want);
	}
	assert_int_equal(vm_ioctl(&vm, KVM_CREATE_DEVICE, &dev), -ENODEV);
	assert_int_equal(vm_ioctl(&vm, KVM_IRQ_LINE, &line), -ENXIO);
	vm_do(&vm, KVM_GET_CLOCK, &clock);
	clock.flags = 1;
	assert_int_equal(vm_ioctl(&vm, KVM_SET_CLOCK, &clock), -EINVAL);
	vm_free(&vm);
}

/* The irqchip must come before vCPUs, once; the PIT after the irqchip. */
static void irqchip_order(void **state)
{
	struct kvm_pit_config pit = { 0 };
	struct kvm_irqchip chip = { .chip_id = 7 };
	struct vm vm;
	int fd;

	vm_new(&vm, 0);
	fd = (int)sys(&vm, KVM_CREATE_VM, 0);
	assert_true(fd >= 0);
	assert_int_equal(vfs_ioctl(fd, KVM_CREATE_PIT2, (unsigned long)&pit), -ENOENT);
	assert_int_equal(vfs_ioctl(fd, KVM_GET_IRQCHIP, (unsigned long)&chip), -ENXIO);
	assert_int_equal(vfs_ioctl(fd, KVM_CREATE_IRQCHIP, 0), 0);
	assert_int_equal(vfs_ioctl(fd, KVM_CREATE_IRQCHIP, 0), -EEXIST);
	assert_int_equal(vfs_ioctl(fd, KVM_GET_IRQCHIP, (unsigned long)&chip), -EINVAL);
	assert_int_equal(vfs_ioctl(fd, KVM_CREATE_PIT2, (unsigned long)&pit), 0);
	assert_int_equal(vfs_ioctl(fd, KVM_CREATE_PIT2, (unsigned long)&pit), -EEXIST);
	vfs_close(fd);
	vm_free(&vm);
}

/* Header, id, descriptors and data in their places; counters move. */
static void statistics(void **state)
{
	struct kvm_stats_header h;
	struct kvm_stats_desc *d = calloc(1, sizeof(*d) + 48);
	bool saw_exits = false;
	struct vm vm;
	char id[48];
	u64 val;
	int fd;

	vm_new(&vm, 0);
	vm_real(&vm, "\xf4", 1);
	vm_run(&vm, KVM_EXIT_HLT);
	fd = (int)vfs_ioctl(vm.vcpu, KVM_GET_STATS_FD, 0);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &h, sizeof(h)), sizeof(h));
	assert_int_equal(h.name_size, 48);
	assert_int_equal(pread(fd, id, 48, h.id_offset), 48);
	assert_memory_equal(id, "kvm-", 4);
	assert_true(h.data_offset >= h.desc_offset + h.num_desc * (sizeof(*d) + 48));
	for (u32 i = 0; i < h.num_desc; i++) {
		assert_int_equal(pread(fd, d, sizeof(*d) + 48, h.desc_offset + i * (sizeof(*d) + 48)),
				 sizeof(*d) + 48);
		assert_int_equal(d->size, 1);
		if (strcmp(d->name, "exits"))
			continue;
		assert_int_equal(pread(fd, &val, 8, h.data_offset + d->offset), 8);
		assert_true(val >= 1);
		saw_exits = true;
	}
	assert_true(saw_exits);
	close(fd);
	vm_free(&vm);
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(model_without_virtualization),
		cmocka_unit_test(system_values),
		cmocka_unit_test(cpuid_sizes),
		cmocka_unit_test(msr_lists),
		cmocka_unit_test(vm_values),
		cmocka_unit_test(irqchip_order),
		cmocka_unit_test(statistics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
