/* SPDX-License-Identifier: MIT */
/*
 * A VM without processors, for the tests of this folder and its neighbours:
 * what the chips, buses and clocks call of the rest of kvm/ is recorded here.
 */
#ifndef KVM_X86_IRQ_TEST_VM_H
#define KVM_X86_IRQ_TEST_VM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/x86/irq/irq.h"

#define TEST_RAM 0x10000u
#define TEST_TSC_KHZ 2000000u

/*
 * Host clocks: real, until test_time_set() stops them at a value. The TSC runs at 2 GHz of that
 * time.
 */
void test_time_set(u64 ns);
void test_time_add(u64 ns);
void test_time_real(void);

struct test_vcpu {
	struct hv_vcpu v;
	_Atomic unsigned kicks, nmis;
	unsigned resets, sipis;
	u8 sipi_vector;
};

/* RAM is guest memory at 0. */
extern u8 test_ram[TEST_RAM];

struct hv_vm *test_vm_new(void);
/* With an APIC if the VM has an irqchip. */
struct hv_vcpu *test_vcpu_new(struct hv_vm *vm, u32 id);
void test_vm_free(struct hv_vm *vm);

static inline struct test_vcpu *test_vcpu(struct hv_vcpu *v)
{
	return container_of(v, struct test_vcpu, v);
}

/* Port and MMIO accesses through the buses; -1 if no device takes them. */
int test_in(struct hv_vcpu *v, u16 port);
int test_out(struct hv_vcpu *v, u16 port, u8 val);
u32 test_mmio_read(struct hv_vcpu *v, u64 gpa);
void test_mmio_write(struct hv_vcpu *v, u64 gpa, u32 val);

#endif
