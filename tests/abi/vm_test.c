// SPDX-License-Identifier: MIT
/* Ioctls of a VM, by rows: interrupt controllers, routing, messages, timers, clocks, filters. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

#define BAD_POINTER ((const void *)0x10)

/* ---- Chips ---- */

static void chip_state(void **state)
{
	struct kvm_irqchip chip = { .chip_id = 3 }, back;
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_IRQCHIP, &chip), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_SET_IRQCHIP, &chip), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_SET_IRQCHIP, BAD_POINTER), -EFAULT);
	for (unsigned id = 0; id < 3; id++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = id;
		vm_do(&vm, KVM_GET_IRQCHIP, &chip);
		if (id == KVM_IRQCHIP_IOAPIC)
			chip.chip.ioapic.redirtbl[3].bits = 0x0300000000008031;
		else
			chip.chip.pic.imr = (u8)(0x55 + id);
		vm_do(&vm, KVM_SET_IRQCHIP, &chip);
		memset(&back, 0, sizeof(back));
		back.chip_id = id;
		vm_do(&vm, KVM_GET_IRQCHIP, &back);
		assert_memory_equal(&chip.chip, &back.chip, sizeof(chip.chip));
	}
	vm_free(&vm);
	/* Without chips, or with local APICs only. */
	for (unsigned flags = 0; flags <= VM_SPLIT; flags += VM_SPLIT) {
		vm_new(&vm, flags);
		chip.chip_id = 0;
		assert_int_equal(vm_ioctl(&vm, KVM_GET_IRQCHIP, &chip), -ENXIO);
		assert_int_equal(vm_ioctl(&vm, KVM_SET_IRQCHIP, &chip), -ENXIO);
		vm_free(&vm);
	}
}

static int line_status(struct vm *vm, u32 gsi, u32 level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	vm_do(vm, KVM_IRQ_LINE_STATUS, &l);
	return l.status;
}

static void lines(void **state)
{
	struct kvm_irq_level l = { .irq = 4, .level = 1 };
	struct vm vm;

	vm_new(&vm, VM_SPLIT);
	assert_int_equal(vm_ioctl(&vm, KVM_IRQ_LINE, BAD_POINTER), -EFAULT);
	vm_free(&vm);
	vm_new(&vm, VM_IRQCHIP);
	/* The PIC takes an edge once; the IOAPIC's pin is masked. */
	vm_do(&vm, KVM_IRQ_LINE, &l);
	l.level = 0;
	vm_do(&vm, KVM_IRQ_LINE, &l);
	assert_true(line_status(&vm, 5, 1) > 0);
	line_status(&vm, 5, 0);
	assert_int_equal(line_status(&vm, 5, 1), 0);	/* coalesced: nobody took the first */
	assert_true(line_status(&vm, 4000, 1) < 0);	/* no route */
	vm_free(&vm);
}

/* ---- Routing and messages ---- */

#define CHIP(g, c, p) { .gsi = (g), .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { (c), (p) } }
#define MSI(g, hi) \
	{ .gsi = (g), .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .address_hi = (hi), .data = 0x41 } }

static long route(struct vm *vm, const struct kvm_irq_routing_entry *e, u32 nr, u32 flags)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} r = { .head = { .nr = nr, .flags = flags } };

	memcpy(r.e, e, min(nr, 2u) * sizeof(*e));
	return vm_ioctl(vm, KVM_SET_GSI_ROUTING, &r);
}

static void routing(void **state)
{
	static const struct { struct kvm_irq_routing_entry e[2]; u32 nr, flags; long want; } rows[] = {
		{ { CHIP(0, 0, 0) }, 0, 0, 0 },			/* none at all */
		{ { CHIP(0, 0, 0) }, 1, 1, -EINVAL },
		{ { CHIP(0, 0, 0) }, 4097, 0, -EINVAL },
		{ { CHIP(4096, 0, 0) }, 1, 0, -EINVAL },
		{ { CHIP(4095, 0, 7) }, 1, 0, 0 },
		{ { CHIP(0, 0, 8) }, 1, 0, -EINVAL },
		{ { CHIP(0, 1, 8) }, 1, 0, -EINVAL },
		{ { CHIP(0, 2, 24) }, 1, 0, -EINVAL },
		{ { CHIP(0, 3, 0) }, 1, 0, -EINVAL },
		{ { CHIP(0, 0, 0), CHIP(0, 2, 2) }, 2, 0, 0 },
		{ { CHIP(0, 0, 0), CHIP(0, 0, 1) }, 2, 0, -EINVAL },	/* two pins of one chip */
		{ { CHIP(0, 0, 0), MSI(0, 0) }, 2, 0, -EINVAL },
		{ { MSI(30, 0) }, 1, 0, 0 },
		{ { MSI(30, 0), MSI(30, 0) }, 2, 0, -EINVAL },
		{ { { .type = 77 } }, 1, 0, -EINVAL },
		{ { { .type = KVM_IRQ_ROUTING_MSI, .flags = 1 } }, 1, 0, -EINVAL },
	};
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		long got = route(&vm, rows[i].e, rows[i].nr, rows[i].flags);

		if (got != rows[i].want)
			fail_msg("row %u: %ld instead of %ld", i, got, rows[i].want);
	}
	assert_int_equal(vm_ioctl(&vm, KVM_SET_GSI_ROUTING, BAD_POINTER), -EFAULT);
	vm_free(&vm);
	vm_new(&vm, VM_SPLIT);
	assert_int_equal(route(&vm, rows[4].e, 1, 0), -EINVAL);		/* no such chip here */
	assert_int_equal(route(&vm, rows[12].e, 1, 0), 0);
	vm_free(&vm);
	vm_new(&vm, 0);
	assert_int_equal(route(&vm, rows[12].e, 1, 0), -EINVAL);
	vm_free(&vm);
}

/* An APIC that is on; its spurious-interrupt vector register. */
static void apic_on(struct vm *vm)
{
	struct kvm_lapic_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	vcpu_do(vm, KVM_GET_LAPIC, s);
	s->regs[0xf1] |= 1;
	vcpu_do(vm, KVM_SET_LAPIC, s);
	free(s);
}

static bool requested(struct vm *vm, unsigned vector)
{
	struct kvm_lapic_state *s = calloc(1, sizeof(*s));
	bool set;

	assert_non_null(s);
	vcpu_do(vm, KVM_GET_LAPIC, s);
	set = (u8)s->regs[0x200 + vector / 32 * 16 + vector / 8 % 4] >> (vector % 8) & 1;
	free(s);
	return set;
}

static void messages(void **state)
{
	struct kvm_enable_cap wide = { .cap = KVM_CAP_X2APIC_API, .args = { 3 } };
	struct kvm_msi m = { .address_lo = 0xfee00000, .data = 0x41 };
	struct vm vm;

	vm_new(&vm, 0);
	assert_int_equal(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m), -EINVAL);
	vm_free(&vm);
	vm_new(&vm, VM_SPLIT);
	apic_on(&vm);
	assert_true(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m) > 0);
	assert_true(requested(&vm, 0x41) && !requested(&vm, 0x42));
	m.flags = 1;
	assert_int_equal(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m), -EINVAL);
	m.flags = 0;
	m.address_lo = 0xfee05000;		/* there is no APIC 5 */
	assert_int_equal(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m), 0);
	/* The upper byte of wide IDs must be clear. */
	m.address_lo = 0xfee00000;
	m.address_hi = 1;
	assert_true(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m) >= 0);
	vm_do(&vm, KVM_ENABLE_CAP, &wide);
	assert_int_equal(vm_ioctl(&vm, KVM_SIGNAL_MSI, &m), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_SIGNAL_MSI, BAD_POINTER), -EFAULT);
	vm_free(&vm);
}

static void eventfds(void **state)
{
	struct kvm_irqfd i = { .gsi = 5 };
	struct kvm_ioeventfd io = { .addr = 0x10, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };
	struct vm vm;

	i.fd = (u32)eventfd(0, EFD_CLOEXEC);
	io.fd = (int)i.fd;
	vm_new(&vm, 0);
	assert_int_equal(vm_ioctl(&vm, KVM_IRQFD, &i), -EINVAL);
	/* A guest without chips has doorbells; QEMU's probe: seven with data, then none. */
	io.len = 2;
	io.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	for (io.datamatch = 0; io.datamatch < 7; io.datamatch++)
		vm_do(&vm, KVM_IOEVENTFD, &io);
	io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	for (io.datamatch = 0; io.datamatch < 7; io.datamatch++)
		vm_do(&vm, KVM_IOEVENTFD, &io);
	assert_int_equal(vm_ioctl(&vm, KVM_IOEVENTFD, &io), -ENOENT);
	assert_int_equal(vm_ioctl(&vm, KVM_IOEVENTFD, BAD_POINTER), -EFAULT);
	vm_free(&vm);
	vm_new(&vm, VM_SPLIT);
	i.flags = KVM_IRQFD_FLAG_RESAMPLE;
	i.resamplefd = i.fd;
	assert_int_equal(vm_ioctl(&vm, KVM_IRQFD, &i), -EINVAL);
	i.flags = 4;
	assert_int_equal(vm_ioctl(&vm, KVM_IRQFD, &i), -EINVAL);
	i.flags = 0;
	vm_do(&vm, KVM_IRQFD, &i);
	assert_int_equal(vm_ioctl(&vm, KVM_IRQFD, &i), -EBUSY);
	assert_int_equal(vm_ioctl(&vm, KVM_IRQFD, BAD_POINTER), -EFAULT);
	vm_free(&vm);
	close((int)i.fd);
}

/* ---- PIT ---- */

static void pit(void **state)
{
	struct kvm_reinject_control off = { 0 };
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_pit_state2 s, back;
	struct kvm_pit_state old;
	struct vm vm;

	vm_new(&vm, VM_SPLIT);
	assert_int_equal(vm_ioctl(&vm, KVM_CREATE_PIT2, &config), -ENOENT);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_PIT2, &s), -ENXIO);
	assert_int_equal(vm_ioctl(&vm, KVM_SET_PIT2, &s), -ENXIO);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_PIT, &old), -ENXIO);
	assert_int_equal(vm_ioctl(&vm, KVM_REINJECT_CONTROL, &off), -ENXIO);
	vm_free(&vm);
	for (unsigned legacy = 0; legacy < 2; legacy++) {
		vm_new(&vm, VM_IRQCHIP);
		assert_int_equal(vm_ioctl(&vm, KVM_CREATE_PIT2, BAD_POINTER), -EFAULT);
		vm_do(&vm, legacy ? KVM_CREATE_PIT : KVM_CREATE_PIT2, legacy ? NULL : &config);
		assert_int_equal(vm_ioctl(&vm, KVM_CREATE_PIT, NULL), -EEXIST);
		vm_do(&vm, KVM_REINJECT_CONTROL, &off);
		vm_do(&vm, KVM_GET_PIT2, &s);
		s.channels[0].count = 0x1234;
		s.channels[0].mode = 2;
		s.flags = KVM_PIT_FLAGS_HPET_LEGACY;
		vm_do(&vm, KVM_SET_PIT2, &s);
		vm_do(&vm, KVM_GET_PIT2, &back);
		assert_int_equal(back.channels[0].count, 0x1234);
		assert_int_equal(back.channels[0].mode, 2);
		assert_int_equal(back.flags, KVM_PIT_FLAGS_HPET_LEGACY);
		/* The shorter struct of before: all but the flags. */
		vm_do(&vm, KVM_GET_PIT, &old);
		assert_int_equal(old.channels[0].count, 0x1234);
		old.channels[2].count = 77;
		vm_do(&vm, KVM_SET_PIT, &old);
		vm_do(&vm, KVM_GET_PIT2, &back);
		assert_int_equal(back.channels[2].count, 77);
		assert_int_equal(vm_ioctl(&vm, KVM_SET_PIT2, BAD_POINTER), -EFAULT);
		vm_free(&vm);
	}
}

/* ---- Clocks ---- */

static void clocks(void **state)
{
	struct kvm_clock_data c = { 0 }, later;
	struct vm vm;

	vm_new(&vm, 0);
	vm_do(&vm, KVM_GET_CLOCK, &c);
	assert_int_equal(c.flags & ~(u32)(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC), 0);
	assert_true(c.flags & KVM_CLOCK_REALTIME);
	c.clock = 1000000000000;
	c.flags = 0;
	vm_do(&vm, KVM_SET_CLOCK, &c);
	vm_do(&vm, KVM_GET_CLOCK, &later);
	assert_true(later.clock >= c.clock && later.clock - c.clock < 60000000000);
	/* As if it had stood for an hour of the real time. */
	c.flags = KVM_CLOCK_REALTIME;
	c.realtime = later.realtime - 3600000000000;
	vm_do(&vm, KVM_SET_CLOCK, &c);
	vm_do(&vm, KVM_GET_CLOCK, &later);
	assert_true(later.clock >= c.clock + 3600000000000);
	c.flags = 0x10;
	assert_int_equal(vm_ioctl(&vm, KVM_SET_CLOCK, &c), -EINVAL);
	assert_int_equal(vm_ioctl(&vm, KVM_SET_CLOCK, BAD_POINTER), -EFAULT);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_CLOCK, BAD_POINTER), -EFAULT);
	/* No guest has a clock page yet. */
	assert_int_equal(vcpu_ioctl(&vm, KVM_KVMCLOCK_CTRL, NULL), -EINVAL);
	vm_set_msr(&vm, 0x4b564d01, 0x3001);
	vcpu_do(&vm, KVM_KVMCLOCK_CTRL, NULL);
	vm_free(&vm);
}

static void tsc(void **state)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	u64 offset = 0, back = 0;
	struct vm vm;
	long khz;
	int fd, vcpu;

	vm_new(&vm, 0);
	khz = vcpu_ioctl(&vm, KVM_GET_TSC_KHZ, NULL);
	assert_true(khz > 100000);
	assert_int_equal(vm_ioctl(&vm, KVM_GET_TSC_KHZ, NULL), khz);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_TSC_KHZ, (void *)(khz / 2)), 0);
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_TSC_KHZ, NULL), khz / 2);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_TSC_KHZ, NULL), 0);	/* 0: the host's */
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_TSC_KHZ, NULL), khz);
	/* What new vCPUs of a VM begin with. */
	fd = (int)vfs_ioctl(vm.sys, KVM_CREATE_VM, 0);
	assert_int_equal(vfs_ioctl(fd, KVM_SET_TSC_KHZ, (unsigned long)khz * 2), 0);
	assert_int_equal(vfs_ioctl(fd, KVM_GET_TSC_KHZ, 0), khz * 2);
	vcpu = (int)vfs_ioctl(fd, KVM_CREATE_VCPU, 0);
	assert_int_equal(vfs_ioctl(vcpu, KVM_GET_TSC_KHZ, 0), khz * 2);
	vfs_close(vcpu);
	vfs_close(fd);
	/* The offset as an attribute. */
	attr.addr = (u64)&offset;
	vcpu_do(&vm, KVM_HAS_DEVICE_ATTR, &attr);
	vcpu_do(&vm, KVM_GET_DEVICE_ATTR, &attr);
	offset += 12345;
	vcpu_do(&vm, KVM_SET_DEVICE_ATTR, &attr);
	attr.addr = (u64)&back;
	vcpu_do(&vm, KVM_GET_DEVICE_ATTR, &attr);
	assert_true(back == offset);
	attr.addr = 0x10;
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_DEVICE_ATTR, &attr), -EFAULT);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_DEVICE_ATTR, &attr), -EFAULT);
	attr.attr = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);
	attr.attr = 0;
	attr.group = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_DEVICE_ATTR, &attr), -ENXIO);
	vm_free(&vm);
}

/* ---- What is set before vCPUs, and what any time ---- */

static void before_vcpus(void **state)
{
	u64 addr = 0xfeffc000, zero = 0;
	struct kvm_enable_cap pmu = { .cap = KVM_CAP_PMU_CAPABILITY, .args = { KVM_PMU_CAP_DISABLE } };
	struct kvm_enable_cap ids = { .cap = KVM_CAP_MAX_VCPU_ID, .args = { 4 } };
	struct kvm_enable_cap exits = { .cap = KVM_CAP_X86_DISABLE_EXITS, .args = { 0xf } };
	struct vm vm;
	int fd;

	vm_new(&vm, 0);
	fd = (int)vfs_ioctl(vm.sys, KVM_CREATE_VM, 0);
#define FD(req, p) vfs_ioctl(fd, req, (unsigned long)(p))
	assert_int_equal(FD(KVM_SET_IDENTITY_MAP_ADDR, &addr), 0);
	assert_int_equal(FD(KVM_SET_IDENTITY_MAP_ADDR, &zero), 0);
	assert_int_equal(FD(KVM_SET_IDENTITY_MAP_ADDR, BAD_POINTER), -EFAULT);
	assert_int_equal(FD(KVM_SET_BOOT_CPU_ID, 3), 0);
	assert_int_equal(FD(KVM_ENABLE_CAP, &pmu), 0);
	pmu.args[0] = 2;
	assert_int_equal(FD(KVM_ENABLE_CAP, &pmu), -EINVAL);
	/* Only what was offered. */
	exits.args[0] = (u64)vfs_ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
	assert_int_equal(FD(KVM_ENABLE_CAP, &exits), 0);
	exits.args[0] = 1u << 10;
	assert_int_equal(FD(KVM_ENABLE_CAP, &exits), -EINVAL);
	ids.args[0] = 0;
	assert_int_equal(FD(KVM_ENABLE_CAP, &ids), -EINVAL);
	ids.args[0] = 100000;
	assert_int_equal(FD(KVM_ENABLE_CAP, &ids), -EINVAL);
	ids.args[0] = 4;
	assert_int_equal(FD(KVM_ENABLE_CAP, &ids), 0);
	ids.args[0] = 5;
	assert_int_equal(FD(KVM_ENABLE_CAP, &ids), -EINVAL);
	assert_int_equal(FD(KVM_CREATE_VCPU, 4), -EINVAL);
	assert_true(vfs_close((int)FD(KVM_CREATE_VCPU, 3)) == 0);
	assert_int_equal(FD(KVM_SET_IDENTITY_MAP_ADDR, &addr), -EINVAL);
	pmu.args[0] = 0;
	assert_int_equal(FD(KVM_ENABLE_CAP, &pmu), -EINVAL);
	assert_int_equal(FD(KVM_ENABLE_CAP, BAD_POINTER), -EFAULT);
#undef FD
	vfs_close(fd);
	vm_free(&vm);
}

static void msr_filter(void **state)
{
	u8 bits[0x600] = { 0 };
	enum { R = KVM_MSR_FILTER_READ, W = KVM_MSR_FILTER_WRITE, DENY = KVM_MSR_FILTER_DEFAULT_DENY };
	const struct { u32 flags; struct kvm_msr_filter_range r; long want; } rows[] = {
		{ 2, { R, 1, 0x35, bits }, -EINVAL },
		{ 0, { 4, 1, 0x35, bits }, -EINVAL },
		{ 0, { 0, 1, 0x35, bits }, -EINVAL },
		{ DENY, { 0, 0, 0, NULL }, -EINVAL },			/* nothing would be left */
		{ 0, { R, 0x600 * 8 + 1, 0, bits }, -EINVAL },
		{ 0, { R, ~0u, 0, bits }, -EINVAL },
		{ 0, { R, 8, 0, (u8 *)0x10 }, -EFAULT },
		{ 0, { R | W, 0x600 * 8, 0, bits }, 0 },
		{ DENY, { R | W, 8, 0xc0000080, bits }, 0 },
		{ 0, { 0, 0, 0, NULL }, 0 },				/* off */
	};
	struct vm vm;

	vm_new(&vm, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_msr_filter f = { .flags = rows[i].flags };
		long got;

		/* The last place is as good as the first. */
		f.ranges[i % 2 ? KVM_MSR_FILTER_MAX_RANGES - 1 : 0] = rows[i].r;
		got = vm_ioctl(&vm, KVM_X86_SET_MSR_FILTER, &f);
		if (got != rows[i].want)
			fail_msg("row %u: %ld instead of %ld", i, got, rows[i].want);
	}
	assert_int_equal(vm_ioctl(&vm, KVM_X86_SET_MSR_FILTER, BAD_POINTER), -EFAULT);
	/* Nobody filters the client. */
	assert_int_equal(vm_get_msr(&vm, 0xc0000080), 0);
	vm_free(&vm);
}

/* What the system says beside capabilities. */
static void lists(void **state)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 64 * sizeof(c->entries[0]));
	struct kvm_device_attr attr = { .attr = KVM_X86_XCOMP_GUEST_SUPP };
	struct kvm_create_device dev = { .type = KVM_DEV_TYPE_VFIO, .flags = KVM_CREATE_DEVICE_TEST };
	u64 val = 0;
	struct vm vm;

	assert_non_null(c);
	vm_new(&vm, 0);
#define SYS(req, p) vfs_ioctl(vm.sys, req, (unsigned long)(p))
	assert_int_equal(SYS(KVM_X86_GET_MCE_CAP_SUPPORTED, &val), 0);
	/* The count of banks is the capability's. */
	assert_int_equal(val & 0x1ff, 0x100);
	assert_int_equal(SYS(KVM_CHECK_EXTENSION, KVM_CAP_MCE), 32);
	assert_int_equal(SYS(KVM_X86_GET_MCE_CAP_SUPPORTED, BAD_POINTER), -EFAULT);
	c->nent = 9;
	assert_int_equal(SYS(KVM_GET_SUPPORTED_HV_CPUID, c), -E2BIG);
	assert_int_equal(vcpu_ioctl(&vm, KVM_GET_SUPPORTED_HV_CPUID, c), -E2BIG);
	c->nent = 64;
	assert_int_equal(SYS(KVM_GET_SUPPORTED_HV_CPUID, c), 0);
	assert_int_equal(c->nent, 10);
	c->nent = 0;
	assert_int_equal(SYS(KVM_GET_EMULATED_CPUID, c), -E2BIG);
	c->nent = 64;
	assert_int_equal(SYS(KVM_GET_EMULATED_CPUID, c), 0);
	assert_int_equal(c->nent, 0);
	assert_int_equal(SYS(KVM_GET_SUPPORTED_CPUID, c), -E2BIG);
	attr.addr = (u64)&val;
	assert_int_equal(SYS(KVM_HAS_DEVICE_ATTR, &attr), 0);
	assert_int_equal(SYS(KVM_GET_DEVICE_ATTR, &attr), 0);
	assert_int_equal(val & 7, 7);
	assert_int_equal(SYS(KVM_SET_DEVICE_ATTR, &attr), -EINVAL);
	attr.addr = 0x10;
	assert_int_equal(SYS(KVM_GET_DEVICE_ATTR, &attr), -EFAULT);
	attr.attr = 7;
	assert_int_equal(SYS(KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);
	attr.attr = 0;
	attr.group = 1;
	assert_int_equal(SYS(KVM_GET_DEVICE_ATTR, &attr), -ENXIO);
	assert_int_equal(vm_ioctl(&vm, KVM_CREATE_DEVICE, &dev), -ENODEV);
	assert_int_equal(vm_ioctl(&vm, KVM_CREATE_DEVICE, BAD_POINTER), -EFAULT);
#undef SYS
	vm_free(&vm);
	free(c);
}

/* Each capability that is offered for enabling can be enabled; what is not offered cannot. */
static void absent(void **state)
{
	static const u32 caps[] = {
		KVM_CAP_XEN_HVM, KVM_CAP_X86_NOTIFY_VMEXIT, KVM_CAP_X86_BUS_LOCK_EXIT, KVM_CAP_SGX_ATTRIBUTE,
		KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
		KVM_CAP_EXIT_HYPERCALL, KVM_CAP_HYPERV_ENLIGHTENED_VMCS, KVM_CAP_PTP_KVM, KVM_CAP_DEVICE_CTRL,
		KVM_CAP_VAPIC, KVM_CAP_S390_UCONTROL, KVM_CAP_VM_ATTRIBUTES, KVM_CAP_SMALLER_MAXPHYADDR,
	};
	static const unsigned long reqs[] = {
		KVM_XEN_HVM_CONFIG, KVM_XEN_HVM_SET_ATTR, KVM_MEMORY_ENCRYPT_OP, KVM_MEMORY_ENCRYPT_REG_REGION,
	};
	u8 zero[256] = { 0 };
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		struct kvm_enable_cap c = { .cap = caps[i], .args = { 1 } };

		if (vm_ioctl(&vm, KVM_CHECK_EXTENSION, (void *)(unsigned long)caps[i]))
			fail_msg("capability %u is offered", caps[i]);
		assert_int_equal(vm_ioctl(&vm, KVM_ENABLE_CAP, &c), -EINVAL);
		assert_int_equal(vcpu_ioctl(&vm, KVM_ENABLE_CAP, &c), -EINVAL);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(reqs); i++) {
		long got = vm_ioctl(&vm, reqs[i], zero);

		assert_true(got == -EINVAL || got == -ENOTTY);
	}
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chip_state), cmocka_unit_test(lines),	      cmocka_unit_test(routing),
		cmocka_unit_test(messages),   cmocka_unit_test(eventfds),     cmocka_unit_test(pit),
		cmocka_unit_test(clocks),     cmocka_unit_test(tsc),	      cmocka_unit_test(before_vcpus),
		cmocka_unit_test(msr_filter), cmocka_unit_test(lists),	      cmocka_unit_test(absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
