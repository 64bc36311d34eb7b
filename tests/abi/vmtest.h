/* SPDX-License-Identifier: MIT */
/*
 * A VM made through the client's calls (vfs_open, vfs_ioctl, vfs_mmap), for the
 * tests of this folder. Helpers fail the running cmocka test on any surprise.
 */
#ifndef TESTS_ABI_VMTEST_H
#define TESTS_ABI_VMTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "abi/kvm.h"
#include "base/types.h"
#include "vfs/vfs.h"

#define VM_RAM (4u << 20)	/* slot 0, at guest-physical 0 */
#define VM_CODE 0x1000u		/* where vm_code() puts a guest */

struct vm {
	int sys, fd, vcpu;
	u8 *ram;
	struct kvm_run *run;
};

/* Registers the node once. Flags: make an in-kernel irqchip first, or local APICs only; HLT does not exit. */
#define VM_IRQCHIP 1u
#define VM_SPLIT 2u
#define VM_HLT_IN_GUEST 4u
void vm_new(struct vm *vm, unsigned flags);
void vm_free(struct vm *vm);

long vm_ioctl(struct vm *vm, unsigned long req, const void *arg);
long vcpu_ioctl(struct vm *vm, unsigned long req, const void *arg);
/* Must succeed. */
void vm_do(struct vm *vm, unsigned long req, const void *arg);
void vcpu_do(struct vm *vm, unsigned long req, const void *arg);

/* Supported CPUID for the vCPU. */
void vm_cpuid(struct vm *vm);
/* Put @code at VM_CODE and start there: 16-bit real mode, flat 32-bit, or 64-bit with 1:1 tables. */
void vm_real(struct vm *vm, const void *code, size_t len);
void vm_prot(struct vm *vm, const void *code, size_t len);
void vm_long(struct vm *vm, const void *code, size_t len);

/*
 * For LIDT 0x1ff0 of 64-bit code: the operand, which leads to VM_IDT, and flat descriptors at
 * 0, where GDTR points after reset. And an interrupt gate to VM_CODE + @off.
 */
#define VM_IDT 0x20000u
void vm_idtr(struct vm *vm);
void vm_gate(struct vm *vm, u8 vector, u32 off);

/* KVM_RUN must return 0 with this exit reason. */
void vm_run(struct vm *vm, u32 reason);
/* The exit is an OUT of @size bytes to @port; its value. */
u32 vm_out(struct vm *vm, u16 port, unsigned size);
struct kvm_regs vm_regs(struct vm *vm);
/* One MSR of the vCPU, which must be there. */
u64 vm_get_msr(struct vm *vm, u32 msr);
void vm_set_msr(struct vm *vm, u32 msr, u64 val);
/* 1 if the vCPU took the value, 0 if not. */
long vm_try_msr(struct vm *vm, u32 msr, u64 val);

/* A guest in assembly: bytes from guest_<name> to guest_<name>_end. */
#define GUEST(name, mode, text) \
	extern const u8 guest_##name[], guest_##name##_end[]; \
	__asm__(".pushsection .rodata\n.global guest_" #name ", guest_" #name "_end\n" \
		"guest_" #name ":\n.code" #mode "\n" text "\nguest_" #name "_end:\n.code64\n.popsection")
#define START(vm, kind, name) \
	vm_##kind(vm, guest_##name, (size_t)(guest_##name##_end - guest_##name))

#endif
