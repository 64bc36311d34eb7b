// SPDX-License-Identifier: MIT
/* Hyper-V's interface for guests: gates, hypercalls, reference time, synthetic interrupts and timers. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

#define MSR(n) (0x40000000u + (n))
#define PAGE_AT 0x30000u
#define LEAVES 10

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 e[100];
};

/* The model's CPUID with KVM's leaves moved away, and Hyper-V's in their place. */
static void hyperv_new(struct vm *vm, unsigned flags)
{
	struct cpuid c = { .head.nent = 100 }, h = { .head.nent = LEAVES };
	u32 n = 0;

	vm_new(vm, flags);
	assert_int_equal(vfs_ioctl(vm->sys, KVM_GET_SUPPORTED_CPUID, (unsigned long)&c), 0);
	h.head.nent = LEAVES - 1;
	assert_int_equal(vcpu_ioctl(vm, KVM_GET_SUPPORTED_HV_CPUID, &h), -E2BIG);
	h.head.nent = LEAVES;
	vcpu_do(vm, KVM_GET_SUPPORTED_HV_CPUID, &h);
	assert_int_equal(h.head.nent, LEAVES);
	for (u32 i = 0; i < c.head.nent; i++) {
		if (c.e[i].function >> 28 != 4)
			c.e[n++] = c.e[i];
	}
	memcpy(&c.e[n], h.e, LEAVES * sizeof(h.e[0]));
	c.head.nent = n + LEAVES;
	vcpu_do(vm, KVM_SET_CPUID2, &c);
}

/* OUT 0x10: EAX after a hypercall with RCX, RDX, R8. */
GUEST(call, 64, "1: vmcall; out %eax, $0x10; jmp 1b");

static u32 call(struct vm *vm, u64 input, u64 in, u64 out)
{
	struct kvm_regs r = vm_regs(vm);

	r.rip = VM_CODE;
	r.rcx = input;
	r.rdx = in;
	r.r8 = out;
	vcpu_do(vm, KVM_SET_REGS, &r);
	return vm_out(vm, 0x10, 4);
}

static void hypercalls(void **state)
{
	static const struct { u64 input, in, out; u32 want; } rows[] = {
		{ 0xbeef, 0, 0, 2 },
		{ 0x2, PAGE_AT, 0, 0 },				/* flush: everybody */
		{ 0x2 | 1 << 17, PAGE_AT, 0, 3 },		/* with a header it has not */
		{ 0x2 | 1ull << 32, PAGE_AT, 0, 3 },		/* and repetitions */
		{ 0x2 | 1 << 27, PAGE_AT, 0, 3 },		/* reserved */
		{ 0x3, PAGE_AT, 0, 3 },				/* a list without repetitions */
		{ 0x2, 0xf0000000, 0, 3 },			/* parameters in no memory */
		{ 0xb, PAGE_AT, 0, 3 },				/* IPI of vector 0 */
		{ 0xb | 1 << 16, 0x40, 1, 0 },			/* fast, to the first processor */
		{ 0xb | 1 << 16, 0x100, 1, 3 },
		{ 0xb | 1 << 16, 0x40 | 1ull << 32, 1, 3 },
		{ 0x15, PAGE_AT, 0, 0 },			/* to nobody */
		{ 0x8, 0, 0, 0 },
		{ 0x5c, PAGE_AT, 0, 3 },			/* no SynIC */
		{ 0x5d, PAGE_AT + 4, 0, 4 },
		{ 0x5d | 1 << 16, 77, 0, 3 },			/* nobody listens, no SynIC */
		{ 0x5d | 1 << 16, 1ull << 48, 0, 3 },
		{ 0x6b, 0, 0, 8 },
	};
	struct kvm_hyperv_eventfd listen = { .conn_id = 77 };
	u64 count;
	struct vm vm;

	hyperv_new(&vm, VM_IRQCHIP);
	START(&vm, long, call);
	/* Without an identity VMCALL is KVM's: no such call. */
	assert_int_equal(call(&vm, 0xbeef, 0, 0), (u32)-1000);
	vm_set_msr(&vm, MSR(0), 0x8100ull << 48);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(call(&vm, rows[i].input, rows[i].in, rows[i].out), rows[i].want);

	listen.fd = eventfd(0, 0);
	vm_do(&vm, KVM_HYPERV_EVENTFD, &listen);
	assert_int_equal(vm_ioctl(&vm, KVM_HYPERV_EVENTFD, &listen), -EEXIST);
	assert_int_equal(call(&vm, 0x5d | 1 << 16, 77, 0), 0);
	assert_int_equal(read(listen.fd, &count, sizeof(count)), 8);
	listen.flags = KVM_HYPERV_EVENTFD_DEASSIGN;
	vm_do(&vm, KVM_HYPERV_EVENTFD, &listen);
	assert_int_equal(vm_ioctl(&vm, KVM_HYPERV_EVENTFD, &listen), -ENOENT);
	close(listen.fd);
	vm_free(&vm);
}

/* With SynIC a message goes to user space, whose answer the guest gets. */
static void message_to_user(void **state)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct kvm_regs r;
	struct vm vm;

	hyperv_new(&vm, 0);
	assert_int_equal(vcpu_ioctl(&vm, KVM_ENABLE_CAP, &synic), -EINVAL);
	vm_free(&vm);
	hyperv_new(&vm, VM_IRQCHIP);
	vcpu_do(&vm, KVM_ENABLE_CAP, &synic);
	START(&vm, long, call);
	vm_set_msr(&vm, MSR(0), 1);
	r = vm_regs(&vm);
	r.rcx = 0x5c;
	r.rdx = PAGE_AT;
	vcpu_do(&vm, KVM_SET_REGS, &r);
	vm_run(&vm, KVM_EXIT_HYPERV);
	assert_int_equal(vm.run->hyperv.type, KVM_EXIT_HYPERV_HCALL);
	assert_int_equal(vm.run->hyperv.u.hcall.input, 0x5c);
	assert_int_equal(vm.run->hyperv.u.hcall.params[0], PAGE_AT);
	vm.run->hyperv.u.hcall.result = 0x1234;
	assert_int_equal(vm_out(&vm, 0x10, 4), 0x1234);
	vm_free(&vm);
}

struct tsc_page {
	u32 sequence, reserved;
	u64 scale, offset;
};

GUEST(loop, 64, "1: out %eax, $0x10; jmp 1b");

static void reference_tsc(void **state)
{
	struct kvm_clock_data zero = { 0 };
	struct tsc_page *page, was;
	struct vm vm;
	u64 a, b;

	hyperv_new(&vm, VM_IRQCHIP);
	page = (struct tsc_page *)(vm.ram + PAGE_AT);
	START(&vm, long, loop);
	vm_set_msr(&vm, MSR(0x21), PAGE_AT);
	vm_out(&vm, 0x10, 4);
	assert_int_equal(page->sequence | page->scale | page->offset, 0);
	vm_set_msr(&vm, MSR(0x21), PAGE_AT | 1);
	/* Nobody but a vCPU writes it. */
	assert_int_equal(page->sequence, 0);
	vm_out(&vm, 0x10, 4);
	assert_int_not_equal(page->sequence, 0);
	a = vm_get_msr(&vm, MSR(0x20));
	b = (u64)((unsigned __int128)vm_get_msr(&vm, 0x10) * page->scale >> 64) + page->offset;
	assert_true(b >= a && b - a < 10000000);

	was = *page;
	vm_do(&vm, KVM_SET_CLOCK, &zero);
	assert_memory_equal(&was, page, sizeof(was));
	vm_out(&vm, 0x10, 4);
	assert_int_not_equal(page->sequence, was.sequence);
	assert_int_not_equal(page->offset, was.offset);

	/* While the guest emulates the TSC for its own guests, the page stays; the MSR agrees with it. */
	was = *page;
	vm_set_msr(&vm, MSR(0x107), 1);
	vm_do(&vm, KVM_SET_CLOCK, &zero);
	vm_out(&vm, 0x10, 4);
	assert_memory_equal(&was, page, sizeof(was));
	vm_set_msr(&vm, MSR(0x107), 0);
	vm_set_msr(&vm, MSR(0x21), 0);
	memset(page, 0, sizeof(*page));
	vm_do(&vm, KVM_SET_CLOCK, &zero);
	vm_out(&vm, 0x10, 4);
	assert_int_equal(page->sequence, 0);
	/* In no memory: the MSR still counts. */
	vm_set_msr(&vm, MSR(0x21), 0xf0000001);
	vm_out(&vm, 0x10, 4);
	assert_true(vm_get_msr(&vm, MSR(0x20)) < 100000000);
	vm_free(&vm);
}

static u32 irr(struct vm *vm, u8 vector)
{
	struct kvm_lapic_state s;

	vcpu_do(vm, KVM_GET_LAPIC, &s);
	return *(u32 *)(s.regs + 0x200 + vector / 32 * 16) >> vector % 32 & 1;
}

static void timers(void **state)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct kvm_lapic_state s;
	struct vm vm;

	hyperv_new(&vm, VM_IRQCHIP);
	/* Nothing of it before activation but zeros. */
	assert_int_equal(vm_try_msr(&vm, MSR(0x92), 0x42), 0);
	assert_int_equal(vm_try_msr(&vm, MSR(0xb0), 1), 0);
	vcpu_do(&vm, KVM_ENABLE_CAP, &synic);
	START(&vm, long, loop);
	vcpu_do(&vm, KVM_GET_LAPIC, &s);
	*(u32 *)(s.regs + 0xf0) |= 0x100;
	vcpu_do(&vm, KVM_SET_LAPIC, &s);
	vm_set_msr(&vm, MSR(0x83), PAGE_AT | 1);	/* SIMP */
	vm_set_msr(&vm, MSR(0x92), 0x42);		/* SINT2 */
	vm_set_msr(&vm, MSR(0xb0), 2 << 16 | 1 << 3);	/* to SINT2, enabled by its count */
	vm_set_msr(&vm, MSR(0xb1), 1);			/* long past */
	for (unsigned i = 0; i < 3; i++)
		vm_out(&vm, 0x10, 4);
	assert_int_equal(*(u32 *)(vm.ram + PAGE_AT + 512), 0x80000010);
	assert_int_equal(irr(&vm, 0x42), 1);
	assert_int_equal(vm_get_msr(&vm, MSR(0xb0)) & 1, 0);	/* one shot */

	/* The slot is taken: the second one waits, and the guest is asked to say when it is free. */
	vm_set_msr(&vm, MSR(0xb1), 2);
	for (unsigned i = 0; i < 3; i++)
		vm_out(&vm, 0x10, 4);
	assert_int_equal(vm_get_msr(&vm, MSR(0xb0)) & 1, 1);
	assert_int_equal(vm.ram[PAGE_AT + 512 + 5], 1);
	memset(vm.ram + PAGE_AT + 512, 0, 256);
	vm_set_msr(&vm, MSR(0x84), 0);			/* EOM */
	for (unsigned i = 0; i < 3; i++)
		vm_out(&vm, 0x10, 4);
	assert_int_equal(*(u32 *)(vm.ram + PAGE_AT + 512), 0x80000010);
	assert_int_equal(vm_get_msr(&vm, MSR(0xb0)) & 1, 0);

	/* Direct: vector 50h, no message. */
	vm_set_msr(&vm, MSR(0xb2), 1 << 12 | 0x50 << 4 | 1);
	vm_set_msr(&vm, MSR(0xb3), 1);
	vm_set_msr(&vm, MSR(0xb2), 1 << 12 | 0x50 << 4 | 1);
	for (unsigned i = 0; i < 3; i++)
		vm_out(&vm, 0x10, 4);
	assert_int_equal(irr(&vm, 0x50), 1);
	vm_free(&vm);
}

GUEST(rd, 64, "rdmsr; hlt");

/* A guest may use what its CPUID announces, if user space enforces that; the host may always. */
static void gates(void **state)
{
	static const struct { u32 msr; bool in_eax; unsigned bit; } rows[] = {
		{ MSR(0), true, 5 }, { MSR(0x10), true, 0 }, { MSR(0x20), true, 1 }, { MSR(2), true, 6 },
		{ MSR(0x21), true, 9 }, { MSR(0x22), true, 11 }, { MSR(0x106), true, 13 }, { MSR(0x100), false, 10 },
	};
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args = { 1 } };

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		struct kvm_regs r;
		struct cpuid c = { .head.nent = 100 };
		struct vm vm;

		hyperv_new(&vm, 0);
		vcpu_do(&vm, KVM_GET_CPUID2, &c);
		for (u32 n = 0; n < c.head.nent; n++) {
			u32 bit = i & 1 ? 1u << rows[i / 2].bit : 0;

			if (c.e[n].function != 0x40000003)
				continue;
			c.e[n].eax = rows[i / 2].in_eax ? bit : 0;
			c.e[n].edx = rows[i / 2].in_eax ? 0 : bit;
		}
		vcpu_do(&vm, KVM_SET_CPUID2, &c);
		vcpu_do(&vm, KVM_ENABLE_CAP, &enforce);
		START(&vm, long, rd);
		r = vm_regs(&vm);
		r.rcx = rows[i / 2].msr;
		vcpu_do(&vm, KVM_SET_REGS, &r);
		vm_run(&vm, i & 1 ? KVM_EXIT_HLT : KVM_EXIT_SHUTDOWN);
		vm_get_msr(&vm, rows[i / 2].msr);
		vm_free(&vm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hypercalls),
		cmocka_unit_test(message_to_user),
		cmocka_unit_test(reference_tsc),
		cmocka_unit_test(timers),
		cmocka_unit_test(gates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
