// SPDX-License-Identifier: MIT
/* The rest of the hypervisor as the tests of interrupts and clocks see it. */
#include "kvm/x86/irq/test_vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/epoch.h"
#include "kvm/host_time.h"
#include "kvm/mem.h"
#include "kvm/x86/clock.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/pv.h"

u8 test_ram[TEST_RAM];

static _Atomic u64 stopped_ns;	/* 0: time runs */

void test_time_set(u64 ns)
{
	atomic_store(&stopped_ns, ns);
}

void test_time_add(u64 ns)
{
	atomic_fetch_add(&stopped_ns, ns);
}

void test_time_real(void)
{
	atomic_store(&stopped_ns, 0);
}

u64 hv_host_ns(void)
{
	u64 ns = atomic_load(&stopped_ns);
	struct timespec ts;

	if (ns)
		return ns;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

u64 hv_host_realtime_ns(void)
{
	return hv_host_ns() + 1000 * NSEC_PER_SEC;
}

u64 hv_host_tsc(void)
{
	return hv_host_ns() * 2;
}

u32 x86_tsc_khz(void)
{
	return TEST_TSC_KHZ;
}

void hv_kick(struct hv_vcpu *v)
{
	atomic_fetch_add(&test_vcpu(v)->kicks, 1);
}

void hv_wake(struct hv_vcpu *v)
{
	hv_kick(v);
}

void hv_request_all(struct hv_vm *vm, enum hv_request r, bool wait)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm)
		hv_set_request(v, r);
}

void hv_inject_nmi(struct hv_vcpu *v)
{
	atomic_fetch_add(&test_vcpu(v)->nmis, 1);
}

void hv_vcpu_reset(struct hv_vcpu *v, bool init)
{
	test_vcpu(v)->resets++;
	hv_lapic_reset(v, init);
}

void hv_vcpu_sipi(struct hv_vcpu *v, u8 vector)
{
	test_vcpu(v)->sipis++;
	test_vcpu(v)->sipi_vector = vector;
}

struct hv_vcpu *hv_vcpu_by_id(struct hv_vm *vm, u32 id)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm) {
		if (v->id == id)
			return v;
	}
	return NULL;
}

int hv_read_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, void *buf, size_t len)
{
	if (gpa > TEST_RAM || len > TEST_RAM - gpa)
		return -EFAULT;
	memcpy(buf, test_ram + gpa, len);
	return 0;
}

int hv_write_guest(struct hv_vm *vm, unsigned as_id, u64 gpa, const void *buf, size_t len)
{
	if (gpa > TEST_RAM || len > TEST_RAM - gpa)
		return -EFAULT;
	memcpy(test_ram + gpa, buf, len);
	return 0;
}

/* No guest here knows Hyper-V. */
int hyperv_raise_sint(struct hv_vm *vm, u32 vp, u32 sint)
{
	return -EINVAL;
}

void hyperv_clock_moved(struct hv_vm *vm)
{
}

struct hv_vm *test_vm_new(void)
{
	struct hv_vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	memset(test_ram, 0, sizeof(test_ram));
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->slots_lock, NULL);
	pthread_mutex_init(&vm->irq_lock, NULL);
	list_init(&vm->ioeventfds);
	assert_int_equal(hv_clock_vm_new(vm), 0);
	assert_int_equal(hv_coalesced_new(vm), 0);
	return vm;
}

struct hv_vcpu *test_vcpu_new(struct hv_vm *vm, u32 id)
{
	struct test_vcpu *t = calloc(1, sizeof(*t));
	struct hv_vcpu *v = &t->v;

	assert_non_null(t);
	v->vm = vm;
	v->id = id;
	v->idx = atomic_load(&vm->nr_vcpus);
	assert_int_equal(hv_clock_vcpu_new(v), 0);
	assert_int_equal(hv_pv_vcpu_new(v), 0);
	if (vm->irqchip_mode != HV_IRQCHIP_NONE)
		assert_int_equal(hv_lapic_new(v), 0);
	atomic_store(&vm->vcpus[v->idx], v);
	atomic_store(&vm->nr_vcpus, v->idx + 1);
	hv_apic_map_update(vm);
	return v;
}

void test_vm_free(struct hv_vm *vm)
{
	unsigned n = atomic_load(&vm->nr_vcpus);

	hv_eventfds_free(vm);
	hv_irqchip_free(vm);
	for (unsigned i = 0; i < n; i++) {
		struct hv_vcpu *v = vm->vcpus[i];

		hv_lapic_free(v);
		hv_pv_vcpu_free(v);
		hv_clock_vcpu_free(v);
		free(test_vcpu(v));
	}
	hv_coalesced_free(vm);
	hv_iobus_free(vm);
	hv_clock_vm_free(vm);
	epoch_barrier();
	free(vm);
	test_time_real();
}

int test_in(struct hv_vcpu *v, u16 port)
{
	u8 val;

	return hv_iobus_read(v, HV_BUS_PIO, port, 1, &val) ? -1 : val;
}

int test_out(struct hv_vcpu *v, u16 port, u8 val)
{
	return hv_iobus_write(v, HV_BUS_PIO, port, 1, &val);
}

u32 test_mmio_read(struct hv_vcpu *v, u64 gpa)
{
	u32 val;

	assert_int_equal(hv_iobus_read(v, HV_BUS_MMIO, gpa, 4, &val), 0);
	return val;
}

void test_mmio_write(struct hv_vcpu *v, u64 gpa, u32 val)
{
	assert_int_equal(hv_iobus_write(v, HV_BUS_MMIO, gpa, 4, &val), 0);
}
