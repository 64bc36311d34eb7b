/* SPDX-License-Identifier: MIT */
/* The smallest VM of a client: real mode, 64 KiB at 0, one vCPU, through libc's calls. */
#ifndef TESTS_SHIM_VM_H
#define TESTS_SHIM_VM_H

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/kvm.h"

#define RAM (64u << 10)
#define RUN_BYTES 12288u

static const unsigned char code_out[] = { 0xb0, 0x2a, 0xe6, 0x10, 0xf4 };	/* OUT 0x10, 42; HLT */
static const unsigned char code_spin[] = { 0xeb, 0xfe };
static const unsigned char code_halt[] = { 0xfb, 0xf4, 0xeb, 0xfc };		/* STI; HLT; again */

struct vm {
	int sys, fd, vcpu;
	unsigned char *ram;
	struct kvm_run *run;
};

/* Also runs in forked children, so it tells by its result: 0 or -1. */
static inline int vm_new(struct vm *vm, const unsigned char *code, size_t len)
{
	struct kvm_userspace_memory_region r = { .memory_size = RAM };
	struct kvm_sregs s;
	struct kvm_regs regs = { .rflags = 2 };

	vm->sys = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->sys < 0 || ioctl(vm->sys, KVM_GET_API_VERSION, 0) != 12)
		return -1;
	vm->fd = ioctl(vm->sys, KVM_CREATE_VM, 0);
	vm->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->fd < 0 || vm->ram == MAP_FAILED)
		return -1;
	memcpy(vm->ram, code, len);
	r.userspace_addr = (__u64)vm->ram;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) || ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		return -1;
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->vcpu < 0 || vm->run == MAP_FAILED || ioctl(vm->vcpu, KVM_GET_SREGS, &s))
		return -1;
	s.cs.base = 0;
	s.cs.selector = 0;
	return ioctl(vm->vcpu, KVM_SET_SREGS, &s) || ioctl(vm->vcpu, KVM_SET_REGS, &regs) ? -1 : 0;
}

static inline void vm_free(struct vm *vm)
{
	munmap(vm->run, RUN_BYTES);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->sys);
	munmap(vm->ram, RAM);
}

/* Until the OUT; true if it sent 42. */
static inline int runs_to_out(struct vm *vm)
{
	return ioctl(vm->vcpu, KVM_RUN, 0) == 0 && vm->run->exit_reason == KVM_EXIT_IO &&
	       ((unsigned char *)vm->run)[vm->run->io.data_offset] == 42;
}

#endif
