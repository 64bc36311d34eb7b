// SPDX-License-Identifier: MIT
/* TSC, kvmclock, steal time and hypercalls. */
#include "kvm/x86/clock.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "kvm/host_time.h"
#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/test_vm.h"
#include "kvm/x86/pv.h"

#define START 5000000000ull
#define SEC NSEC_PER_SEC
#define TSC_SEC (TEST_TSC_KHZ * 1000ull)

struct fixture {
	struct hv_vm *vm;
	struct hv_vcpu *v[2];
};

static int setup(void **state)
{
	static struct fixture f;

	test_time_set(START);
	f.vm = test_vm_new();
	assert_int_equal(hv_irqchip_create(f.vm), 0);
	f.v[0] = test_vcpu_new(f.vm, 0);
	test_time_add(SEC / 10);
	f.v[1] = test_vcpu_new(f.vm, 1);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	test_vm_free(((struct fixture *)*state)->vm);
	return 0;
}

/* ---- TSC ---- */

static void tsc_starts_in_step(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(hv_guest_tsc(f->v[0]), TSC_SEC / 10);
	assert_int_equal(hv_guest_tsc(f->v[1]), TSC_SEC / 10);
	assert_int_equal(hv_tsc_multiplier(f->v[0]), HV_TSC_UNITY);
	assert_int_equal(hv_tsc_offset(f->v[0]), -(START * 2));
	assert_int_equal(hv_guest_tsc_khz(f->v[0]), TEST_TSC_KHZ);
}

static void tsc_host_writes_match(void **state)
{
	struct fixture *f = *state;

	/* Two writes that mean one moment, a little apart. */
	hv_tsc_write(f->v[0], 100 * TSC_SEC, true);
	test_time_add(1000000);
	hv_tsc_write(f->v[1], 100 * TSC_SEC, true);
	assert_int_equal(hv_tsc_offset(f->v[0]), hv_tsc_offset(f->v[1]));
	assert_int_equal(hv_guest_tsc(f->v[1]), 100 * TSC_SEC + TSC_SEC / 1000);
	/* Zero joins, whenever. */
	test_time_add(500 * SEC);
	hv_tsc_write(f->v[1], 0, true);
	assert_int_equal(hv_tsc_offset(f->v[0]), hv_tsc_offset(f->v[1]));
	/* Just under a second away joins, just over does not; both sides. */
	hv_tsc_write(f->v[1], hv_guest_tsc(f->v[0]) + TSC_SEC - 1, true);
	assert_int_equal(hv_tsc_offset(f->v[0]), hv_tsc_offset(f->v[1]));
	hv_tsc_write(f->v[1], hv_guest_tsc(f->v[0]) - TSC_SEC, true);
	assert_int_equal(hv_tsc_offset(f->v[0]), hv_tsc_offset(f->v[1]));
	hv_tsc_write(f->v[1], hv_guest_tsc(f->v[0]) - TSC_SEC - 1, true);
	assert_int_equal(hv_guest_tsc(f->v[0]) - hv_guest_tsc(f->v[1]), TSC_SEC + 1);
	/* The other follows the last write. */
	hv_tsc_write(f->v[0], hv_guest_tsc(f->v[1]) + 5, true);
	assert_int_equal(hv_tsc_offset(f->v[0]), hv_tsc_offset(f->v[1]));
	hv_tsc_write(f->v[1], hv_guest_tsc(f->v[0]) + TSC_SEC, true);
	assert_int_equal(hv_guest_tsc(f->v[1]) - hv_guest_tsc(f->v[0]), TSC_SEC);
	assert_int_equal(hv_tsc_adjust(f->v[0]), 0);
}

static void tsc_adjust(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];
	u64 now = hv_guest_tsc(v);

	hv_tsc_write(v, now + 1000, false);
	assert_int_equal(hv_guest_tsc(v), now + 1000);
	assert_int_equal(hv_tsc_adjust(v), 1000);
	hv_tsc_adjust_write(v, 400, false);
	assert_int_equal(hv_guest_tsc(v), now + 400);
	assert_int_equal(hv_tsc_adjust(v), 400);
	hv_tsc_adjust_write(v, 77, true);
	assert_int_equal(hv_guest_tsc(v), now + 400);
	assert_int_equal(hv_tsc_adjust(v), 77);
	hv_tsc_write(v, now + 50 * TSC_SEC, true);
	assert_int_equal(hv_guest_tsc(v), now + 50 * TSC_SEC);
	assert_int_equal(hv_tsc_adjust(v), 77);
	assert_true(hv_test_request(v, HV_REQ_CLOCK_UPDATE));
}

static void tsc_scaling(void **state)
{
	struct fixture *f = *state;
	static const struct { u32 khz; u64 per_sec; } rows[] = {
		{ 1000000, 1000000000 }, { 3000000, 3000000000 }, { 10, 10000 }, { TEST_TSC_KHZ, TSC_SEC },
		{ TEST_TSC_KHZ + 500, TSC_SEC }, { TEST_TSC_KHZ + 501, TSC_SEC + 501000 },
		{ 4294967295u, 4294967295000ull }, { 0, TSC_SEC },
	};
	struct hv_vcpu *v = f->v[0];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 before = hv_guest_tsc(v), after;

		assert_int_equal(hv_tsc_set_khz(v, rows[i].khz), 0);
		after = hv_guest_tsc(v);
		assert_int_equal(after, before);	/* it goes on */
		test_time_add(SEC);
		after = hv_guest_tsc(v) - before;
		assert_in_range(after, rows[i].per_sec - 2 - rows[i].per_sec / 1000000000,
				rows[i].per_sec + 2);
		assert_int_equal(hv_guest_tsc_khz(v), rows[i].khz ? rows[i].khz : TEST_TSC_KHZ);
	}
	assert_int_equal(hv_tsc_multiplier(v), HV_TSC_UNITY);
	/* The default of the VM, and vCPUs of one frequency stay in step. */
	assert_int_equal(hv_vm_tsc_set_khz(f->vm, 1000000), 0);
	v = test_vcpu_new(f->vm, 2);
	test_time_add(1000);
	assert_int_equal(hv_tsc_offset(test_vcpu_new(f->vm, 3)), hv_tsc_offset(v));
	assert_int_equal(hv_tsc_multiplier(v), HV_TSC_UNITY / 2);
	assert_int_equal(hv_tsc_to_host_ns(v, hv_guest_tsc(v) + 1000), hv_host_ns() + 1000);
}

static void tsc_attribute(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];

	hv_tsc_attr_set(v, 12345);
	assert_int_equal(hv_tsc_attr_get(v), 12345);
	assert_int_equal(hv_guest_tsc(v), hv_host_tsc() + 12345);
	hv_tsc_write(((struct fixture *)*state)->v[1], 0, true);
	assert_int_equal(hv_tsc_attr_get(((struct fixture *)*state)->v[1]), 12345);
}

static void deadlines(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];
	u64 now = hv_host_ns(), tsc = hv_guest_tsc(v);

	assert_int_equal(hv_tsc_to_host_ns(v, tsc), now);
	assert_int_equal(hv_tsc_to_host_ns(v, tsc - 1), now);
	assert_int_equal(hv_tsc_to_host_ns(v, tsc + 1), now + 1);	/* never early */
	assert_int_equal(hv_tsc_to_host_ns(v, tsc + 20), now + 10);
	assert_true(hv_tsc_to_host_ns(v, ~0ull) > now + SEC);
}

/* ---- kvmclock ---- */

/* What a guest computes, as the ABI's description has it. */
static u64 guest_clock(struct hv_vcpu *v, u64 gpa, u8 *flags)
{
	u32 version, mul;
	u64 stamp, system, delta;
	s8 shift;

	memcpy(&version, test_ram + gpa, 4);
	assert_int_equal(version & 1, 0);
	memcpy(&stamp, test_ram + gpa + 8, 8);
	memcpy(&system, test_ram + gpa + 16, 8);
	memcpy(&mul, test_ram + gpa + 24, 4);
	shift = (s8)test_ram[gpa + 28];
	*flags = test_ram[gpa + 29];
	delta = hv_guest_tsc(v) - stamp;
	delta = shift < 0 ? delta >> -shift : delta << shift;
	return system + (u64)((u128)delta * mul >> 32);
}

static void serve(struct hv_vcpu *v)
{
	if (hv_test_request(v, HV_REQ_CLOCK_UPDATE))
		hv_clock_update(v);
}

static void kvmclock_pages(void **state)
{
	struct fixture *f = *state;
	u64 gpa[2] = { 0x100, 0x240 }, last = 0, ns;
	u32 version;
	u8 flags;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(hv_clock_wrmsr(f->v[i], MSR_KVM_SYSTEM_TIME_NEW, gpa[i] | 1), 0);
		serve(f->v[i]);
	}
	for (unsigned i = 0; i < 50; i++) {
		test_time_add(12345678901ull);
		ns = hv_kvmclock_ns(f->vm);
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(guest_clock(f->v[k], gpa[k], &flags), ns);
			assert_int_equal(flags, 1);
		}
		assert_true(ns > last);
		last = ns;
		if (i % 7 == 0) {		/* a page written anew says the same */
			hv_clock_update(f->v[1]);
			assert_int_equal(guest_clock(f->v[1], gpa[1], &flags), ns);
		}
	}
	/* In agreement with the host's time: 2 GHz is exact in this format to 2^-32. */
	assert_in_range(ns - 50 * 12345678901ull, SEC / 10 - 1000, SEC / 10 + 1000);
	/* TSCs that differ: the clocks agree still, but the stable bit goes from all pages. */
	hv_tsc_write(f->v[1], 7, false);
	serve(f->v[0]);
	serve(f->v[1]);
	ns = hv_kvmclock_ns(f->vm);
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(guest_clock(f->v[k], gpa[k], &flags), ns);
		assert_int_equal(flags, 0);
	}
	hv_tsc_attr_set(f->v[1], hv_tsc_attr_get(f->v[0]));
	serve(f->v[0]);
	guest_clock(f->v[0], gpa[0], &flags);
	assert_int_equal(flags, 1);
	/* A scaled TSC. */
	assert_int_equal(hv_tsc_set_khz(f->v[0], 1234567), 0);
	serve(f->v[0]);
	test_time_add(SEC);
	ns = hv_kvmclock_ns(f->vm);
	assert_in_range(guest_clock(f->v[0], gpa[0], &flags), ns - 200000, ns + 200000);
	/* Turned off: the page is left alone. */
	memcpy(&version, test_ram + gpa[0], 4);
	assert_int_equal(hv_clock_wrmsr(f->v[0], MSR_KVM_SYSTEM_TIME, gpa[0]), 0);
	serve(f->v[0]);
	assert_memory_equal(&version, test_ram + gpa[0], 4);
	assert_int_equal(hv_kvmclock_ctrl(f->v[0]), -EINVAL);
	/* Memory that is not there. */
	assert_int_equal(hv_clock_wrmsr(f->v[0], MSR_KVM_SYSTEM_TIME, TEST_RAM | 1), 0);
	serve(f->v[0]);
}

static void stopped_flag(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];
	u8 flags;

	hv_clock_wrmsr(v, MSR_KVM_SYSTEM_TIME_NEW, 0x101);
	serve(v);
	assert_int_equal(hv_kvmclock_ctrl(v), 0);
	serve(v);
	guest_clock(v, 0x100, &flags);
	assert_int_equal(flags, 3);
	hv_clock_update(v);
	guest_clock(v, 0x100, &flags);
	assert_int_equal(flags, 3);		/* until the guest takes it away */
	test_ram[0x100 + 29] &= ~2;
	hv_clock_update(v);
	guest_clock(v, 0x100, &flags);
	assert_int_equal(flags, 1);
}

static void get_set_clock(void **state)
{
	struct fixture *f = *state;
	struct kvm_clock_data c = { .clock = 0 };
	u8 flags;

	hv_clock_get(f->vm, &c);
	assert_int_equal(c.flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
	assert_int_equal(c.clock, hv_kvmclock_ns(f->vm));
	assert_int_equal(c.realtime, hv_host_realtime_ns());
	assert_int_equal(c.host_tsc, hv_host_tsc());
	hv_clock_wrmsr(f->v[0], MSR_KVM_SYSTEM_TIME_NEW, 0x101);
	c.clock = 1000 * SEC;
	c.flags = 0;
	assert_int_equal(hv_clock_set(f->vm, &c), 0);
	assert_int_equal(hv_kvmclock_ns(f->vm), 1000 * SEC);
	serve(f->v[0]);
	assert_int_equal(guest_clock(f->v[0], 0x100, &flags), 1000 * SEC);
	/* The time of the journey is added; a realtime of the future is not. */
	c.flags = KVM_CLOCK_REALTIME;
	test_time_add(3 * SEC);
	assert_int_equal(hv_clock_set(f->vm, &c), 0);
	assert_int_equal(hv_kvmclock_ns(f->vm), 1003 * SEC);
	c.realtime += 1000 * SEC;
	assert_int_equal(hv_clock_set(f->vm, &c), 0);
	assert_int_equal(hv_kvmclock_ns(f->vm), 1000 * SEC);
	c.flags = 1;
	assert_int_equal(hv_clock_set(f->vm, &c), -EINVAL);
	c.flags = 16;
	assert_int_equal(hv_clock_set(f->vm, &c), -EINVAL);
}

static void wall_clock(void **state)
{
	struct fixture *f = *state;
	u32 w[3];
	u64 val;

	assert_int_equal(hv_clock_wrmsr(f->v[0], MSR_KVM_WALL_CLOCK_NEW, 0x200), 0);
	memcpy(w, test_ram + 0x200, 12);
	assert_int_equal(w[0] & 1, 0);
	assert_int_not_equal(w[0], 0);
	assert_int_equal(w[1] * SEC + w[2] + hv_kvmclock_ns(f->vm), hv_host_realtime_ns());
	assert_int_equal(hv_clock_rdmsr(f->v[1], MSR_KVM_WALL_CLOCK, &val), 0);
	assert_int_equal(val, 0x200);
	assert_int_equal(hv_clock_wrmsr(f->v[0], MSR_KVM_WALL_CLOCK, TEST_RAM - 4), 0);
	assert_int_equal(hv_clock_wrmsr(f->v[0], MSR_KVM_WALL_CLOCK, 0), 0);
}

/* ---- PV ---- */

static void pv_msrs(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];
	static const struct { u32 msr; u64 val; int ret; } rows[] = {
		{ 0x4b564d03, 0x1001, 0 }, { 0x4b564d03, 0x1003, 1 }, { 0x4b564d03, 0x1021, 1 },
		{ 0x4b564d04, 0x101, 0 }, { 0x4b564d04, 0x103, 1 }, { 0x4b564d05, 0, 0 }, { 0x4b564d05, 2, 1 },
		{ 0x4b564d02, 0, 1 }, { 0x4b564d06, 0, 1 }, { 0x4b564d07, 0, 1 }, { 0x4b564d08, 0, 1 },
		{ 0x4b564dff, 0, 1 },
	};
	u64 val;

	assert_true(hv_pv_host_may_poll(v));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(hv_pv_wrmsr(v, rows[i].msr, rows[i].val, false), rows[i].ret);
		if (!rows[i].ret) {
			assert_int_equal(hv_pv_rdmsr(v, rows[i].msr, &val, false), 0);
			assert_int_equal(val, rows[i].val);
		}
	}
	assert_false(hv_pv_host_may_poll(v));
	/* Taken away from the guest, not from the host. */
	hv_pv_set_features(v, 0);
	assert_false(hv_pv_has(v, KVM_FEATURE_CLOCKSOURCE2));
	for (u32 msr = 0x4b564d03; msr <= 0x4b564d05; msr++) {
		assert_int_equal(hv_pv_rdmsr(v, msr, &val, false), 1);
		assert_int_equal(hv_pv_wrmsr(v, msr, 0, false), 1);
		assert_int_equal(hv_pv_rdmsr(v, msr, &val, true), 0);
	}
	hv_pv_set_features(v, ~0u);
	assert_true(hv_pv_has(v, KVM_FEATURE_STEAL_TIME));
	assert_false(hv_pv_has(v, KVM_FEATURE_ASYNC_PF));
}

static void steal_time(void **state)
{
	struct hv_vcpu *v = ((struct fixture *)*state)->v[0];
	struct kvm_steal_time st;

	hv_steal_update(v);
	assert_int_equal(test_ram[0x1008], 0);		/* not asked for */
	assert_int_equal(hv_pv_wrmsr(v, MSR_KVM_STEAL_TIME, 0x1001, false), 0);
	assert_true(hv_test_request(v, HV_REQ_STEAL_UPDATE));
	hv_steal_update(v);
	memcpy(&st, test_ram + 0x1000, sizeof(st));
	assert_int_equal(st.version, 2);
	assert_int_equal(st.flags, 0);
	/* Polling has a pace. */
	hv_steal_poll(v);
	assert_int_equal(test_ram[0x1008], 2);
	test_time_add(1000000);
	hv_steal_poll(v);
	assert_int_equal(test_ram[0x1008], 4);
	/* An odd version that was left behind. */
	test_ram[0x1008] = 7;
	hv_steal_update(v);
	assert_int_equal(test_ram[0x1008], 10);
	assert_int_equal(hv_pv_wrmsr(v, MSR_KVM_STEAL_TIME, TEST_RAM | 1, false), 0);
	hv_steal_update(v);
}

static void hypercalls(void **state)
{
	struct fixture *f = *state;
	struct hv_vcpu *v = f->v[0];
	struct kvm_clock_pairing p;
	u64 ret;

	lapic_write_reg(f->v[1]->lapic, APIC_SVR, 0x1ff);
	assert_int_equal(hv_hypercall(v, KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0, true, &ret), 0);
	assert_int_equal(ret, 0);
	hv_hypercall(v, 99, 0, 0, 0, 0, true, &ret);
	assert_int_equal(ret, (u64)-1000);
	hv_hypercall(v, KVM_HC_MAP_GPA_RANGE, 0, 1, 0, 0, false, &ret);
	assert_int_equal(ret, (u32)-1000);
	hv_hypercall(v, KVM_HC_SEND_IPI, 2, 0, 0, 0x4055, true, &ret);
	assert_int_equal(ret, 1);
	assert_int_equal(hv_lapic_pending(f->v[1]), 0x55);
	/* Without long mode the words have 32 bits. */
	hv_hypercall(v, KVM_HC_SEND_IPI, 1ull << 33, 0, 0, 0x4056, false, &ret);
	assert_int_equal(ret, 0);
	hv_hypercall(v, KVM_HC_KICK_CPU, 0, 1, 0, 0, true, &ret);
	assert_int_equal(ret, 0);
	assert_true(hv_test_request(f->v[1], HV_REQ_UNHALT));
	hv_hypercall(v, KVM_HC_KICK_CPU, 0, 1ull << 40, 0, 0, true, &ret);
	assert_int_equal(ret, 0);
	hv_hypercall(v, KVM_HC_SCHED_YIELD, 1, 0, 0, 0, true, &ret);
	assert_int_equal(ret, 0);
	hv_hypercall(v, KVM_HC_CLOCK_PAIRING, 0x300, 0, 0, 0, true, &ret);
	assert_int_equal(ret, 0);
	memcpy(&p, test_ram + 0x300, sizeof(p));
	assert_int_equal(p.tsc, hv_guest_tsc(v));
	assert_int_equal((u64)p.sec * SEC + (u64)p.nsec, hv_host_realtime_ns());
	hv_hypercall(v, KVM_HC_CLOCK_PAIRING, 0x300, 1, 0, 0, true, &ret);
	assert_int_equal(ret, (u64)-KVM_EOPNOTSUPP);
	hv_hypercall(v, KVM_HC_CLOCK_PAIRING, TEST_RAM, 0, 0, 0, true, &ret);
	assert_int_equal(ret, (u64)-EFAULT);
	hv_pv_set_features(v, 0);
	for (unsigned i = 0; i < 3; i++) {
		hv_hypercall(v, (u64[]){KVM_HC_KICK_CPU, KVM_HC_SEND_IPI, KVM_HC_SCHED_YIELD}[i], 0,
			     0, 0, 0, true, &ret);
		assert_int_equal(ret, (u64)-1000);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(tsc_starts_in_step),
		T(tsc_host_writes_match),
		T(tsc_adjust),
		T(tsc_scaling),
		T(tsc_attribute),
		T(deadlines),
		T(kvmclock_pages),
		T(stopped_flag),
		T(get_set_clock),
		T(wall_clock),
		T(pv_msrs),
		T(steal_time),
		T(hypercalls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
