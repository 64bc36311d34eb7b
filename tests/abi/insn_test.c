// SPDX-License-Identifier: MIT
/* Instructions of a guest that the hypervisor answers: what depends on settings of the client. */
#include <errno.h>
#include <string.h>

#include "tests/abi/vmtest.h"

#define MISC_ENABLE 0x1a0
#define MISC_ENABLE_MWAIT (1u << 18)
#define PLATFORM_INFO 0xce

/* Reports a fault by HLT with the IDT's limit 0: any exception is a triple fault. */
GUEST(mwait, 64, "mov $0x8000, %eax; xor %ecx, %ecx; xor %edx, %edx; monitor; mwait; hlt");

static void mwait_and_its_quirks(void **state)
{
	const u64 never_ud = KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, no_cpuid = KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT;
	static const struct { bool never_ud, no_cpuid, enable, faults; } rows[] = {
		{ false, false, false, false }, { false, false, true, false },
		{ true, false, false, true }, { false, true, false, false },
		{ true, true, false, true }, { true, true, true, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_DISABLE_QUIRKS2 };
		struct vm vm;

		vm_new(&vm, 0);
		vm_cpuid(&vm);
		START(&vm, long, mwait);
		cap.args[0] = (rows[i].never_ud ? never_ud : 0) | (rows[i].no_cpuid ? no_cpuid : 0);
		vm_do(&vm, KVM_ENABLE_CAP, &cap);
		vm_set_msr(&vm, MISC_ENABLE, rows[i].enable ? MISC_ENABLE_MWAIT : 0);
		vm_run(&vm, rows[i].faults ? KVM_EXIT_SHUTDOWN : KVM_EXIT_HLT);
		vm_free(&vm);
	}
}

GUEST(dr, 64, "mov %dr0, %rax; hlt");

/* The client's general detect is its own: the guest's DR7 does not have it. */
static void general_detect_of_the_client(void **state)
{
	struct kvm_guest_debug dbg = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, dr);
	dbg.arch.debugreg[7] = 0x2400;
	vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &dbg);
	vm_run(&vm, KVM_EXIT_DEBUG);
	assert_int_equal(vm.run->debug.arch.exception, 1);
	assert_int_equal(vm.run->debug.arch.pc, VM_CODE);
	assert_int_equal(vm.run->debug.arch.dr6, 0xffff2ff0);
	dbg.arch.debugreg[7] = 0x400;
	vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &dbg);
	vm_run(&vm, KVM_EXIT_HLT);
	vm_free(&vm);
}

GUEST(platform, 64, "mov $0xce, %ecx; rdmsr; hlt");

static void platform_info_is_the_clients(void **state)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MSR_PLATFORM_INFO };
	struct vm vm;

	vm_new(&vm, 0);
	vm_cpuid(&vm);
	START(&vm, long, platform);
	vm_set_msr(&vm, PLATFORM_INFO, 0x8000ff00);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_regs(&vm).rax, 0x8000ff00);
	/* CPUID faulting that is on must stay possible. */
	vm_set_msr(&vm, 0x140, 1);
	assert_int_equal(vm_try_msr(&vm, PLATFORM_INFO, 0xff00), 0);
	START(&vm, long, platform);
	vm_do(&vm, KVM_ENABLE_CAP, &cap);
	vm_run(&vm, KVM_EXIT_SHUTDOWN);
	vm_free(&vm);
}

GUEST(two_loads, 64, "mov $0xd0000000, %rbx; add (%rbx), %rax; add (%rbx), %rax; hlt");

/* No device answers a fetch, whether memory was never there or went while a device was asked. */
static void code_without_memory(void **state)
{
	struct kvm_userspace_memory_region gone = { 0 };
	struct vm vm;

	vm_new(&vm, 0);
	vm_do(&vm, KVM_SET_USER_MEMORY_REGION, &gone);
	vm_run(&vm, KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(vm.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	vm_free(&vm);

	vm_new(&vm, 0);
	START(&vm, long, two_loads);
	vm_run(&vm, KVM_EXIT_MMIO);
	vm_do(&vm, KVM_SET_USER_MEMORY_REGION, &gone);
	vm_run(&vm, KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(vm.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	vm_free(&vm);
}

/* User code without memory: #UD for the guest, which here shuts down, or the client's business. */
static void failure_at_cpl3(void **state)
{
	for (unsigned ask = 0; ask < 2; ask++) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { ask } };
		struct kvm_sregs s;
		struct kvm_regs r;
		struct vm vm;

		vm_new(&vm, 0);
		vm_do(&vm, KVM_ENABLE_CAP, &cap);
		START(&vm, long, two_loads);
		vcpu_do(&vm, KVM_GET_SREGS, &s);
		s.ss.dpl = s.cs.dpl = 3;
		s.ss.selector |= 3;
		s.cs.selector |= 3;
		vcpu_do(&vm, KVM_SET_SREGS, &s);
		r = vm_regs(&vm);
		r.rip = 0xd0000000;
		vcpu_do(&vm, KVM_SET_REGS, &r);
		vm_run(&vm, ask ? KVM_EXIT_INTERNAL_ERROR : KVM_EXIT_SHUTDOWN);
		cap.args[0] = 2;
		assert_int_equal(vm_ioctl(&vm, KVM_ENABLE_CAP, &cap), -EINVAL);
		vm_free(&vm);
	}
}

/* Corrected errors interrupt, where the client and the guest want them to. */
static void corrected_machine_checks(void **state)
{
	const u64 with = 10 | 1 << 10, without = 10, enable = 1ull << 30;
	struct kvm_x86_mce m = { .status = 1ull << 63 | 1ull << 61 | 0x90, .addr = 0x1000, .bank = 7 };
	struct kvm_lapic_state lapic;
	struct vm vm;
	u32 *lvt = (u32 *)(lapic.regs + 0x2f0), *svr = (u32 *)(lapic.regs + 0xf0);

	vm_new(&vm, VM_IRQCHIP);
	vcpu_do(&vm, KVM_X86_SETUP_MCE, &without);
	assert_int_equal(vm_try_msr(&vm, 0x287, enable), 0);
	vcpu_do(&vm, KVM_X86_SETUP_MCE, &with);
	assert_int_equal(vm_try_msr(&vm, 0x287, 1ull << 29), 0);
	assert_int_equal(vm_try_msr(&vm, 0x28a, 0), 0);		/* no such bank */
	vcpu_do(&vm, KVM_GET_LAPIC, &lapic);
	*svr |= 0x100;
	*lvt = 0xa9;
	vcpu_do(&vm, KVM_SET_LAPIC, &lapic);
	for (unsigned on = 0; on < 2; on++) {
		vm_set_msr(&vm, 0x287, on ? enable : 0);
		vcpu_do(&vm, KVM_X86_SET_MCE, &m);
		assert_int_equal(vm_get_msr(&vm, 0x41e), 0x1000);
		vcpu_do(&vm, KVM_GET_LAPIC, &lapic);
		/* IRR of vector a9 */
		assert_int_equal(*(u32 *)(lapic.regs + 0x250) >> 9 & 1, on);
	}
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mwait_and_its_quirks),
		cmocka_unit_test(general_detect_of_the_client),
		cmocka_unit_test(platform_info_is_the_clients),
		cmocka_unit_test(code_without_memory),
		cmocka_unit_test(failure_at_cpl3),
		cmocka_unit_test(corrected_machine_checks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
