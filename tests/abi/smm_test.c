// SPDX-License-Identifier: MIT
/* System-management mode: entry, the save area, RSM, what waits meanwhile, state ioctls. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/abi/vmtest.h"

#define SMRAM 0x1000000u	/* only in the address space of SMM */
#define SMBASE_MSR 0x9e
#define SMI_COUNT_MSR 0x34

/* The handler runs in real mode with CS = SMBASE. */
GUEST(handler, 16, "mov $0x77, %al; out %al, $0x80; rsm");
GUEST(main64, 64, "mov $0x1122334455667788, %r15; 1: mov $1, %al; out %al, $0x10; jmp 1b");
GUEST(rsm, 64, "rsm; hlt");

static u8 *smram;

static void smm_new(struct vm *vm, unsigned flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = 1 << 16 | 1, .guest_phys_addr = SMRAM, .memory_size = 0x10000
	};

	vm_new(vm, flags);
	smram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(smram != MAP_FAILED);
	r.userspace_addr = (u64)(uintptr_t)smram;
	vm_do(vm, KVM_SET_USER_MEMORY_REGION, &r);
	memcpy(smram + 0x8000, guest_handler, (size_t)(guest_handler_end - guest_handler));
	vm_set_msr(vm, SMBASE_MSR, SMRAM);
}

static void smm_free(struct vm *vm)
{
	vm_free(vm);
	munmap(smram, 0x10000);
}

static u64 saved(unsigned offset, unsigned bytes)
{
	u64 val = 0;

	memcpy(&val, smram + 0x8000 + offset, bytes);
	return val;
}

static void entry_and_rsm(void **state)
{
	struct kvm_sregs before, in, after;
	struct kvm_regs regs, r;
	struct vm vm;

	smm_new(&vm, 0);
	START(&vm, long, main64);
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	vcpu_do(&vm, KVM_GET_SREGS, &before);
	vcpu_do(&vm, KVM_SMI, NULL);
	assert_int_equal(vm_out(&vm, 0x80, 1), 0x77);
	assert_true(vm.run->flags & KVM_RUN_X86_SMM);
	vcpu_do(&vm, KVM_GET_SREGS, &in);
	assert_int_equal(in.cs.base, SMRAM);
	assert_int_equal(in.cs.selector, (u16)(SMRAM >> 4));
	assert_int_equal(in.cr0 & 0x80000001, 0);
	assert_int_equal(in.cr4 | in.efer, 0);
	assert_int_equal(saved(0x7efc, 4), 0x20064);
	assert_int_equal(saved(0x7f00, 4), SMRAM);
	assert_int_equal(saved(0x7f80, 8), 0x1122334455667788);
	assert_int_equal(saved(0x7f50, 8), before.cr3);
	assert_int_equal(saved(0x7ed0, 8), before.efer);
	/* CS: 64-bit code in the attributes of AMD64. */
	assert_int_equal(saved(0x7e12, 2), 0xa9b);

	/* The handler edits the guest's registers, and moves SMBASE. */
	memcpy(smram + 0x8000 + 0x7f80, &(u64){ 42 }, 8);
	memcpy(smram + 0x8000 + 0x7f00, &(u32){ 0x40000 }, 4);
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	assert_false(vm.run->flags & KVM_RUN_X86_SMM);
	vcpu_do(&vm, KVM_GET_SREGS, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	regs = vm_regs(&vm);
	assert_int_equal(regs.r15, 42);
	assert_int_equal(vm_get_msr(&vm, SMBASE_MSR), 0x40000);
	assert_int_equal(vm_get_msr(&vm, SMI_COUNT_MSR), 1);

	/* Outside of SMM it is an invalid opcode: here, without a handler, a shutdown. */
	START(&vm, long, rsm);
	vm_run(&vm, KVM_EXIT_SHUTDOWN);
	vcpu_do(&vm, KVM_GET_REGS, &r);
	smm_free(&vm);
}

/* A save area that no processor could have left shuts down. */
static void impossible_state(void **state)
{
	static const struct { unsigned offset, bytes; u64 val; } rows[] = {
		{ 0x7f48, 8, 1ull << 30 },		/* CR4 */
		{ 0x7ed0, 8, 0x400 },			/* LMA without LME */
		{ 0x7f78, 8, 0x900000000000 },		/* RIP */
		{ 0x7f58, 8, 0x80000000 },		/* PG without PE */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm vm;

		smm_new(&vm, 0);
		START(&vm, long, main64);
		vcpu_do(&vm, KVM_SMI, NULL);
		assert_int_equal(vm_out(&vm, 0x80, 1), 0x77);
		memcpy(smram + 0x8000 + rows[i].offset, &rows[i].val, rows[i].bytes);
		vm_run(&vm, KVM_EXIT_SHUTDOWN);
		smm_free(&vm);
	}
}

/* Pending SMI and the mode itself are part of the events; a second SMI and NMIs wait for RSM. */
static void events(void **state)
{
	struct kvm_vcpu_events e;
	struct kvm_mp_state mp = { KVM_MP_STATE_INIT_RECEIVED };
	struct vm vm;

	smm_new(&vm, VM_IRQCHIP);
	START(&vm, long, main64);
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_true(e.flags & KVM_VCPUEVENT_VALID_SMM);
	assert_int_equal(e.smi.smm | e.smi.pending, 0);
	e.smi.pending = 1;
	vcpu_do(&vm, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(vcpu_ioctl(&vm, KVM_SET_MP_STATE, &mp), -EINVAL);
	assert_int_equal(vm_out(&vm, 0x80, 1), 0x77);
	vcpu_do(&vm, KVM_SMI, NULL);
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.smi.smm, 1);
	assert_int_equal(e.smi.pending, 1);
	assert_int_equal(e.nmi.masked, 1);
	assert_int_equal(e.smi.smm_inside_nmi, 0);
	/* RSM, at once the second, RSM again. */
	assert_int_equal(vm_out(&vm, 0x80, 1), 0x77);
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.smi.pending, 0);
	e.smi.smm_inside_nmi = 1;
	vcpu_do(&vm, KVM_SET_VCPU_EVENTS, &e);
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	vcpu_do(&vm, KVM_GET_VCPU_EVENTS, &e);
	assert_int_equal(e.smi.smm, 0);
	assert_int_equal(e.nmi.masked, 1);
	smm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_and_rsm),
		cmocka_unit_test(impossible_state),
		cmocka_unit_test(events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
