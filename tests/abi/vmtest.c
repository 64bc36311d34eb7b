// SPDX-License-Identifier: MIT
/* VMs for the tests of this folder. */
#include "tests/abi/vmtest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "uapi/uapi.h"

#define MAX_CPUID 100

long vm_ioctl(struct vm *vm, unsigned long req, const void *arg)
{
	return vfs_ioctl(vm->fd, req, (unsigned long)arg);
}

long vcpu_ioctl(struct vm *vm, unsigned long req, const void *arg)
{
	return vfs_ioctl(vm->vcpu, req, (unsigned long)arg);
}

void vm_do(struct vm *vm, unsigned long req, const void *arg)
{
	assert_int_equal(vm_ioctl(vm, req, arg), 0);
}

void vcpu_do(struct vm *vm, unsigned long req, const void *arg)
{
	assert_int_equal(vcpu_ioctl(vm, req, arg), 0);
}

void vm_new(struct vm *vm, unsigned flags)
{
	struct kvm_userspace_memory_region r = { .memory_size = VM_RAM };
	const struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	const struct kvm_enable_cap hlt = {
		.cap = KVM_CAP_X86_DISABLE_EXITS, .args = { KVM_X86_DISABLE_EXITS_HLT }
	};
	long size;

	assert_true(vfs_is_node("/dev/kvm") || uapi_register("intel") == 0);
	vm->sys = vfs_open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_true(vm->sys >= 0);
	vm->fd = (int)vfs_ioctl(vm->sys, KVM_CREATE_VM, 0);
	assert_true(vm->fd >= 0);
	vm->ram = mmap(NULL, VM_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(vm->ram != MAP_FAILED);
	r.userspace_addr = (u64)(uintptr_t)vm->ram;
	vm_do(vm, KVM_SET_USER_MEMORY_REGION, &r);
	if (flags & VM_IRQCHIP)
		vm_do(vm, KVM_CREATE_IRQCHIP, NULL);
	if (flags & VM_SPLIT)
		vm_do(vm, KVM_ENABLE_CAP, &split);
	if (flags & VM_HLT_IN_GUEST)
		vm_do(vm, KVM_ENABLE_CAP, &hlt);
	vm->vcpu = (int)vfs_ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	assert_true(vm->vcpu >= 0);
	size = vfs_ioctl(vm->sys, KVM_GET_VCPU_MMAP_SIZE, 0);
	assert_int_equal(size, 12288);
	vm->run = vfs_mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	assert_true(vm->run != MAP_FAILED);
	vm_cpuid(vm);
}

void vm_free(struct vm *vm)
{
	munmap(vm->run, 12288);
	vfs_close(vm->vcpu);
	vfs_close(vm->fd);
	vfs_close(vm->sys);
	munmap(vm->ram, VM_RAM);
}

void vm_cpuid(struct vm *vm)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + MAX_CPUID * sizeof(c->entries[0]));

	assert_non_null(c);
	c->nent = MAX_CPUID;
	assert_int_equal(vfs_ioctl(vm->sys, KVM_GET_SUPPORTED_CPUID, (unsigned long)c), 0);
	vcpu_do(vm, KVM_SET_CPUID2, c);
	free(c);
}

static void start(struct vm *vm, const void *code, size_t len, const struct kvm_sregs *s)
{
	struct kvm_regs r = { .rip = VM_CODE, .rflags = 2, .rsp = 0x8000 };

	memcpy(vm->ram + VM_CODE, code, len);
	vcpu_do(vm, KVM_SET_SREGS, s);
	vcpu_do(vm, KVM_SET_REGS, &r);
}

void vm_real(struct vm *vm, const void *code, size_t len)
{
	struct kvm_sregs s;

	vcpu_do(vm, KVM_GET_SREGS, &s);
	s.cs.base = 0;
	s.cs.selector = 0;
	start(vm, code, len, &s);
}

static void flat(struct kvm_sregs *s, bool long_mode)
{
	struct kvm_segment seg = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
	};

	s->ds = s->es = s->fs = s->gs = s->ss = seg;
	seg.type = 11;
	seg.selector = 8;
	seg.db = !long_mode;
	seg.l = long_mode;
	s->cs = seg;
}

void vm_prot(struct vm *vm, const void *code, size_t len)
{
	struct kvm_sregs s;

	vcpu_do(vm, KVM_GET_SREGS, &s);
	flat(&s, false);
	s.cr0 = 0x11;
	start(vm, code, len, &s);
}

void vm_long(struct vm *vm, const void *code, size_t len)
{
	u64 *pml4 = (u64 *)(vm->ram + 0x100000), *pdpt = (u64 *)(vm->ram + 0x101000);
	struct kvm_sregs s;

	/* The first 4 GiB in pages of 1 GiB. */
	pml4[0] = 0x101000 | 7;
	for (u64 i = 0; i < 4; i++)
		pdpt[i] = i << 30 | 0x87;
	vcpu_do(vm, KVM_GET_SREGS, &s);
	flat(&s, true);
	s.cr0 = 0x80050033;
	s.cr3 = 0x100000;
	s.cr4 = 0x620;
	s.efer = 0x501;
	start(vm, code, len, &s);
}

void vm_run(struct vm *vm, u32 reason)
{
	long r = vcpu_ioctl(vm, KVM_RUN, NULL);
	struct kvm_regs regs;

	if (r == 0 && vm->run->exit_reason == reason)
		return;
	vcpu_do(vm, KVM_GET_REGS, &regs);
	fail_msg("KVM_RUN: %ld, exit %u instead of %u, at rip %llx (suberror %u data %llx)", r,
		 vm->run->exit_reason, reason, regs.rip, vm->run->internal.suberror,
		 (unsigned long long)vm->run->internal.data[0]);
}

u32 vm_out(struct vm *vm, u16 port, unsigned size)
{
	u32 val = 0;

	vm_run(vm, KVM_EXIT_IO);
	assert_int_equal(vm->run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(vm->run->io.port, port);
	assert_int_equal(vm->run->io.size, size);
	assert_int_equal(vm->run->io.count, 1);
	memcpy(&val, (u8 *)vm->run + vm->run->io.data_offset, size);
	return val;
}

struct kvm_regs vm_regs(struct vm *vm)
{
	struct kvm_regs r;

	vcpu_do(vm, KVM_GET_REGS, &r);
	return r;
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry e;
};

u64 vm_get_msr(struct vm *vm, u32 msr)
{
	struct one_msr m = { .head.nmsrs = 1, .e.index = msr };

	assert_int_equal(vcpu_ioctl(vm, KVM_GET_MSRS, &m), 1);
	return m.e.data;
}

long vm_try_msr(struct vm *vm, u32 msr, u64 val)
{
	struct one_msr m = { .head.nmsrs = 1, .e = { .index = msr, .data = val } };

	return vcpu_ioctl(vm, KVM_SET_MSRS, &m);
}

void vm_set_msr(struct vm *vm, u32 msr, u64 val)
{
	assert_int_equal(vm_try_msr(vm, msr, val), 1);
}

void vm_idtr(struct vm *vm)
{
	const u64 gdt[] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	const u64 base = VM_IDT;
	const u16 limit = 0xfff;

	memcpy(vm->ram, gdt, sizeof(gdt));
	memcpy(vm->ram + 0x1ff0, &limit, 2);
	memcpy(vm->ram + 0x1ff2, &base, 8);
}

void vm_gate(struct vm *vm, u8 vector, u32 off)
{
	u32 *g = (u32 *)(vm->ram + VM_IDT + 16u * vector), to = VM_CODE + off;

	g[0] = 8u << 16 | (to & 0xffff);
	g[1] = (to & 0xffff0000) | 0x8e00;
	g[2] = g[3] = 0;
}
