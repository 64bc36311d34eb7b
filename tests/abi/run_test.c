// SPDX-License-Identifier: MIT
/* KVM_RUN end to end: tiny guests and the exits that they cause. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

GUEST(out16, 16, "mov $'x', %al; out %al, $0x10; mov $0x1234, %ax; mov $0x3f8, %dx; out %ax, %dx; hlt");

static void real_mode_out(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, real, out16);
	assert_int_equal(vm_out(&vm, 0x10, 1), 'x');
	assert_int_equal(vm_out(&vm, 0x3f8, 2), 0x1234);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_regs(&vm).rip, VM_CODE + guest_out16_end - guest_out16);
	vm_free(&vm);
}

GUEST(in32, 32, "mov $-1, %eax; in $0x20, %al; out %eax, $0x80; in $0x20, %ax; out %eax, $0x80;"
		"in $0x20, %eax; out %eax, $0x80; hlt");

static void in_merges_with_eax(void **state)
{
	static const struct { u32 data, want; u8 size; } rows[] = {
		{ 0xffffff11, 0xffffff11, 1 }, { 0xffff2233, 0xffff2233, 2 }, { 0x44556677, 0x44556677, 4 },
	};
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, prot, in32);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		vm_run(&vm, KVM_EXIT_IO);
		assert_int_equal(vm.run->io.direction, KVM_EXIT_IO_IN);
		assert_int_equal(vm.run->io.size, rows[i].size);
		memcpy((u8 *)vm.run + vm.run->io.data_offset, &rows[i].data, 4);
		assert_int_equal(vm_out(&vm, 0x80, 4), rows[i].want);
	}
	vm_run(&vm, KVM_EXIT_HLT);
	vm_free(&vm);
}

/* 0xd0000000 is in no slot. */
GUEST(mmio64, 64,
      "mov $0xd0000000, %rbx; movl $0x11223344, (%rbx); mov %rax, 8(%rbx); mov 16(%rbx), %ecx;"
      "movzbl 20(%rbx), %edx; movswq 22(%rbx), %rsi; add %ecx, 24(%rbx); xchg %rdx, 32(%rbx);"
      "push 40(%rbx); pop %rdi; hlt");

static void mmio_is(struct vm *vm, u64 gpa, u32 len, bool write, u64 val)
{
	u64 data = 0;

	vm_run(vm, KVM_EXIT_MMIO);
	assert_int_equal(vm->run->mmio.phys_addr, gpa);
	assert_int_equal(vm->run->mmio.len, len);
	assert_int_equal(vm->run->mmio.is_write, write);
	if (write) {
		memcpy(&data, vm->run->mmio.data, len);
		assert_int_equal(data, val);
	} else {
		memcpy(vm->run->mmio.data, &val, 8);
	}
}

static void mmio(void **state)
{
	const u64 base = 0xd0000000;
	struct kvm_regs r;
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, mmio64);
	r = vm_regs(&vm);
	r.rax = 0x0123456789abcdef;
	vcpu_do(&vm, KVM_SET_REGS, &r);
	mmio_is(&vm, base, 4, true, 0x11223344);
	mmio_is(&vm, base + 8, 8, true, 0x0123456789abcdef);
	mmio_is(&vm, base + 16, 4, false, 0xdeadbeef);
	mmio_is(&vm, base + 20, 1, false, 0x80);
	mmio_is(&vm, base + 22, 2, false, 0x8001);
	mmio_is(&vm, base + 24, 4, false, 1);
	mmio_is(&vm, base + 24, 4, true, 0xdeadbef0);
	mmio_is(&vm, base + 32, 8, false, 0x5555);
	mmio_is(&vm, base + 32, 8, true, 0x80);
	mmio_is(&vm, base + 40, 8, false, 0x7777);
	vm_run(&vm, KVM_EXIT_HLT);
	r = vm_regs(&vm);
	assert_int_equal(r.rcx, 0xdeadbeef);
	assert_int_equal(r.rdx, 0x5555);
	assert_int_equal(r.rsi, 0xffffffffffff8001);
	assert_int_equal(r.rdi, 0x7777);
	assert_int_equal(r.rsp, 0x8000);
	vm_free(&vm);
}

/* The completion of an access consumes the data and executes nothing with immediate_exit. */
static void immediate_exit_completes(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, prot, in32);
	vm_run(&vm, KVM_EXIT_IO);
	memset((u8 *)vm.run + vm.run->io.data_offset, 0x5a, 1);
	vm.run->immediate_exit = 1;
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINTR);
	assert_int_equal(vm.run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(vm_regs(&vm).rax, 0xffffff5a);
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINTR);
	assert_int_equal(vm_regs(&vm).rax, 0xffffff5a);
	vm.run->immediate_exit = 0;
	assert_int_equal(vm_out(&vm, 0x80, 4), 0xffffff5a);
	vm_free(&vm);
}

GUEST(outs, 64, "cld; mov $0x10000, %esi; mov $5000, %ecx; mov $0x80, %dx; rep outsb; hlt");

static void string_out_in_pages(void **state)
{
	unsigned sent = 0;
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, outs);
	for (unsigned i = 0; i < 5000; i++)
		vm.ram[0x10000 + i] = (u8)(i * 7);
	while (sent < 5000) {
		vm_run(&vm, KVM_EXIT_IO);
		assert_int_equal(vm.run->io.size, 1);
		assert_true(vm.run->io.count <= 4096);
		assert_memory_equal((u8 *)vm.run + vm.run->io.data_offset, vm.ram + 0x10000 + sent,
				    vm.run->io.count);
		sent += vm.run->io.count;
	}
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_regs(&vm).rcx, 0);
	assert_int_equal(vm_regs(&vm).rsi, 0x10000 + 5000);
	vm_free(&vm);
}

GUEST(ins, 32, "cld; mov $0x10ffe, %edi; mov $6, %ecx; mov $0x80, %dx; rep insw; hlt");

static void string_in(void **state)
{
	static const u32 counts[] = { 1, 5 };
	struct vm vm;
	u16 n = 0;

	vm_new(&vm, 0);
	START(&vm, prot, ins);
	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		vm_run(&vm, KVM_EXIT_IO);
		assert_int_equal(vm.run->io.direction, KVM_EXIT_IO_IN);
		assert_int_equal(vm.run->io.count, counts[i]);
		for (u32 k = 0; k < counts[i]; k++, n++)
			memcpy((u8 *)vm.run + vm.run->io.data_offset + 2 * k, &n, 2);
	}
	vm_run(&vm, KVM_EXIT_HLT);
	for (u16 i = 0; i < 6; i++)
		assert_memory_equal(vm.ram + 0x10ffe + 2 * i, &i, 2);
	assert_int_equal(vm_regs(&vm).rdi, 0x10ffe + 12);
	vm_free(&vm);
}

GUEST(cpuid, 64, "mov $0x40000000, %eax; cpuid; hlt");

static void cpuid_of_kvm(void **state)
{
	struct kvm_regs r;
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, cpuid);
	vm_run(&vm, KVM_EXIT_HLT);
	r = vm_regs(&vm);
	assert_int_equal(r.rax, 0x40000001);
	assert_memory_equal(&r.rbx, "KVMK", 4);
	assert_memory_equal(&r.rcx, "VMKV", 4);
	vm_free(&vm);
}

GUEST(ud, 64, "ud2");

/* No IDT: #UD, #GP, #DF, shutdown. */
static void triple_fault(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, ud);
	vm_run(&vm, KVM_EXIT_SHUTDOWN);
	vm_free(&vm);
}

/* From real mode to 64-bit mode by the guest's own hand. */
GUEST(switch_modes, 16,
      "mov $0x620, %eax; mov %eax, %cr4; mov $0x100000, %eax; mov %eax, %cr3;"
      "mov $0xc0000080, %ecx; rdmsr; or $0x101, %eax; wrmsr;"
      "lgdtl %cs:(0x1000 + 2f - guest_switch_modes);"
      "mov %cr0, %eax; or $0x80000001, %eax; mov %eax, %cr0;"
      ".byte 0x66, 0xea; .long 0x1000 + 1f - guest_switch_modes; .word 8\n"
      ".code64\n1: mov $0x10, %eax; mov %eax, %ss; mov %cr0, %rax; out %eax, $0x80; hlt\n"
      "2: .word 23; .long 0x1000 + 3f - guest_switch_modes; .balign 8\n"
      "3: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n");

static void guest_enters_long_mode(void **state)
{
	u64 *pml4, *pdpt;
	struct kvm_sregs s;
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, real, switch_modes);
	pml4 = (u64 *)(vm.ram + 0x100000);
	pdpt = (u64 *)(vm.ram + 0x101000);
	pml4[0] = 0x101007;
	pdpt[0] = 0x87;
	assert_int_equal(vm_out(&vm, 0x80, 4) & 0x80000001, 0x80000001);
	vm_run(&vm, KVM_EXIT_HLT);
	vcpu_do(&vm, KVM_GET_SREGS, &s);
	assert_int_equal(s.efer & 0xd01, 0x501);
	assert_int_equal(s.cs.l, 1);
	vm_free(&vm);
}

GUEST(msr, 64, "mov $0x4b564dff, %ecx; rdmsr; out %eax, $0x80; mov $7, %eax; xor %edx, %edx; wrmsr; hlt");

static void unknown_msr_goes_to_user(void **state)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR };
	struct vm vm;

	vm_new(&vm, 0);
	cap.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
	vm_do(&vm, KVM_ENABLE_CAP, &cap);
	START(&vm, long, msr);
	vm_run(&vm, KVM_EXIT_X86_RDMSR);
	assert_int_equal(vm.run->msr.index, 0x4b564dff);
	vm.run->msr.data = 0x12345678;
	assert_int_equal(vm_out(&vm, 0x80, 4), 0x12345678);
	vm_run(&vm, KVM_EXIT_X86_WRMSR);
	assert_int_equal(vm.run->msr.data, 7);
	vm_run(&vm, KVM_EXIT_HLT);
	vm_free(&vm);
}

/* With KVM_INTERRUPT: asked for, taken when IF is set, window reported. */
GUEST(irq, 16, "cli; movw $0x1000 + 1f - guest_irq, 0x80; movw $0, 0x82; nop; out %al, $0x10; sti; nop; nop;"
	       "hlt; 1: mov $0x77, %al; out %al, $0x11; iret");

static void user_interrupt(void **state)
{
	struct kvm_interrupt irq = { .irq = 0x20 };
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, real, irq);
	vm_out(&vm, 0x10, 1);
	assert_int_equal(vm.run->if_flag, 0);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 0);
	vm.run->request_interrupt_window = 1;
	vm_run(&vm, KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(vm.run->if_flag, 1);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 1);
	vm.run->request_interrupt_window = 0;
	vcpu_do(&vm, KVM_INTERRUPT, &irq);
	assert_int_equal(vm_out(&vm, 0x11, 1), 0x77);
	vm_run(&vm, KVM_EXIT_HLT);
	vm_free(&vm);
}

GUEST(steps, 64, "nop; mov $3, %eax; cpuid; xor %ecx, %ecx; int3; nop; hlt");

static void debug_steps(void **state)
{
	static const u8 at[] = { 1, 6, 8, 10 };	/* ends of the instructions */
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, steps);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &d);
		vm_run(&vm, KVM_EXIT_DEBUG);
		assert_int_equal(vm.run->debug.arch.exception, 1);
		assert_int_equal(vm.run->debug.arch.pc, VM_CODE + at[i]);
		assert_int_equal(vm.run->debug.arch.dr6, 0xffff4ff0);
		assert_int_equal(vm_regs(&vm).rflags & 0x100, 0);
	}
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &d);
	vm_run(&vm, KVM_EXIT_DEBUG);
	assert_int_equal(vm.run->debug.arch.exception, 3);
	assert_int_equal(vm.run->debug.arch.pc, VM_CODE + 10);
	vm_free(&vm);
}

static void debug_hardware_breakpoint(void **state)
{
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, steps);
	d.arch.debugreg[2] = VM_CODE + 6;
	d.arch.debugreg[7] = 0x400 | 1 << 5;
	vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &d);
	vm_run(&vm, KVM_EXIT_DEBUG);
	assert_int_equal(vm.run->debug.arch.exception, 1);
	assert_int_equal(vm.run->debug.arch.pc, VM_CODE + 6);
	assert_int_equal(vm.run->debug.arch.dr6, 0xffff0ff4);
	vm_free(&vm);
}

/* A jump to a TSS: VMX leaves the switch to the hypervisor. */
GUEST(task, 32, "mov $0x18, %eax; ltr %ax; ljmp $0x20, $0; 1: out %eax, $0x11; iret; hlt;"
		".org 0x100 + guest_task; out %eax, $0x10; ljmp $0x18, $0");

static void task_switch(void **state)
{
	static const u64 gdt[] = {
		0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x0000890040000067, 0x0000890050000067
	};
	u32 *to;
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, prot, task);
	memcpy(vm.ram, gdt, sizeof(gdt));
	to = (u32 *)(vm.ram + 0x5000);
	to[8] = VM_CODE + 0x100;	/* EIP */
	to[9] = 2;			/* EFLAGS */
	to[10] = 0xcafe;		/* EAX */
	to[14] = 0x7000;		/* ESP */
	to[18] = to[20] = to[21] = to[22] = to[23] = 0x10;
	to[19] = 8;			/* CS */
	assert_int_equal(vm_out(&vm, 0x10, 4), 0xcafe);
	assert_int_equal(vm_regs(&vm).rsp, 0x7000);
	/* And back, behind the first jump, with the registers of that task. */
	assert_int_equal(vm_out(&vm, 0x11, 4), 0x18);
	assert_int_equal(vm_regs(&vm).rsp, 0x8000);
	vm_free(&vm);
}

/* The other vendor's hypercall is patched, unless the quirk is off. */
GUEST(vmmcall, 64, "mov $0x1234, %eax; vmmcall; out %eax, $0x10; hlt");

static void foreign_hypercall(void **state)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DISABLE_QUIRKS2 };
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, vmmcall);
	assert_int_equal(vm_out(&vm, 0x10, 4), (u32)-1000);	/* KVM_ENOSYS */
	assert_int_equal(vm.ram[VM_CODE + 7], 0xc1);
	vm_free(&vm);
	vm_new(&vm, 0);
	cap.args[0] = KVM_X86_QUIRK_FIX_HYPERCALL_INSN;
	vm_do(&vm, KVM_ENABLE_CAP, &cap);
	START(&vm, long, vmmcall);
	vm_run(&vm, KVM_EXIT_SHUTDOWN);		/* #UD without an IDT */
	assert_int_equal(vm.ram[VM_CODE + 7], 0xd9);
	vm_free(&vm);
}

GUEST(patched, 64, "1: mov $1, %al; out %al, $0x80; jmp 1b");

/* What a client writes while it has control is executed next: a loader, a debugger, a device. */
static void client_writes_code(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, patched);
	for (u8 n = 1; n < 20; n++) {
		vm.ram[VM_CODE + 1] = n;
		assert_int_equal(vm_out(&vm, 0x80, 1), n);
	}
	vm_free(&vm);
}

/* KVM_HC_KICK_CPU (5) for itself, APIC id 0, then HLT without interrupts. */
GUEST(kicked, 64, "mov $5, %eax; xor %ebx, %ebx; xor %ecx, %ecx; vmcall; cli; hlt;"
		  "mov $0x42, %al; out %al, $0x80; hlt");

/* A paravirtual kick that comes before the halt ends it. */
static void kick_before_halt(void **state)
{
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	vm_cpuid(&vm);
	START(&vm, long, kicked);
	alarm(20);	/* a lost kick sleeps for ever */
	assert_int_equal(vm_out(&vm, 0x80, 1), 0x42);
	alarm(0);
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_out),
		cmocka_unit_test(in_merges_with_eax),
		cmocka_unit_test(mmio),
		cmocka_unit_test(immediate_exit_completes),
		cmocka_unit_test(string_out_in_pages),
		cmocka_unit_test(string_in),
		cmocka_unit_test(cpuid_of_kvm),
		cmocka_unit_test(triple_fault),
		cmocka_unit_test(guest_enters_long_mode),
		cmocka_unit_test(unknown_msr_goes_to_user),
		cmocka_unit_test(user_interrupt),
		cmocka_unit_test(debug_steps),
		cmocka_unit_test(debug_hardware_breakpoint),
		cmocka_unit_test(task_switch),
		cmocka_unit_test(foreign_hypercall),
		cmocka_unit_test(client_writes_code),
		cmocka_unit_test(kick_before_halt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
