// SPDX-License-Identifier: MIT
/* The interval timer: counters as functions of time, ports, ticks. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvm/host_time.h"
#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/pit_chan.h"
#include "kvm/x86/irq/test_vm.h"

#define START 1000000000ull

/* The instant at which @clocks have passed since START. */
static u64 at(u64 clocks)
{
	return START + pit_clocks_to_ns(clocks);
}

static void load(struct pit_chan *c, unsigned mode, bool bcd, u16 count)
{
	pit_chan_control(c, 0x30 | mode << 1 | bcd, START);
	assert_false(pit_chan_write(c, count & 0xff, START));
	assert_true(pit_chan_write(c, count >> 8, START));
}

static void modes(void **state)
{
	static const struct { u8 mode; bool bcd; u16 count; u32 t; bool out; u16 value; } rows[] = {
		/* 0: low until the end, then counts on */
		{ 0, 0, 5, 0, 0, 5 }, { 0, 0, 5, 4, 0, 1 }, { 0, 0, 5, 5, 1, 0 }, { 0, 0, 5, 6, 1, 0xffff },
		{ 0, 0, 5, 65541, 1, 0 }, { 0, 0, 0, 65535, 0, 1 }, { 0, 0, 0, 65536, 1, 0 },
		{ 0, 1, 0x0012, 2, 0, 0x0010 }, { 0, 1, 0x0012, 13, 1, 0x9999 }, { 0, 1, 0, 1, 0, 0x9999 },
		{ 0, 1, 0, 10000, 1, 0 },
		/* 2: low for the last clock */
		{ 2, 0, 4, 0, 1, 4 }, { 2, 0, 4, 2, 1, 2 }, { 2, 0, 4, 3, 0, 1 }, { 2, 0, 4, 4, 1, 4 },
		{ 2, 0, 4, 4003, 0, 1 }, { 6, 0, 4, 3, 0, 1 }, { 2, 0, 0, 0, 1, 0 }, { 2, 1, 0x0100, 1, 1, 0x0099 },
		/* 3: halves, by twos; odd counts are high for one clock more */
		{ 3, 0, 4, 0, 1, 4 }, { 3, 0, 4, 1, 1, 2 }, { 3, 0, 4, 2, 0, 4 }, { 3, 0, 4, 3, 0, 2 }, { 3, 0, 4, 4, 1, 4 },
		{ 3, 0, 5, 0, 1, 4 }, { 3, 0, 5, 2, 1, 0 }, { 3, 0, 5, 3, 0, 4 }, { 3, 0, 5, 4, 0, 2 }, { 3, 0, 5, 5, 1, 4 },
		{ 7, 0, 4, 2, 0, 4 }, { 3, 0, 0, 0, 1, 0 }, { 3, 0, 0, 32768, 0, 0 },
		/* 4: low for one clock at the end */
		{ 4, 0, 3, 2, 1, 1 }, { 4, 0, 3, 3, 0, 0 }, { 4, 0, 3, 4, 1, 0xffff },
	};
	struct pit_chan c;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		pit_chan_init(&c, true);
		load(&c, rows[i].mode, rows[i].bcd, rows[i].count);
		if (pit_chan_out(&c, at(rows[i].t)) != rows[i].out ||
		    pit_chan_count(&c, at(rows[i].t)) != rows[i].value)
			print_error("row %u\n", i);
		assert_int_equal(pit_chan_out(&c, at(rows[i].t)), rows[i].out);
		assert_int_equal(pit_chan_count(&c, at(rows[i].t)), rows[i].value);
	}
}

static void before_the_count(void **state)
{
	static const bool out[] = { 0, 1, 1, 1, 1, 1 };
	struct pit_chan c;
	u64 first, period;

	pit_chan_init(&c, true);
	for (u8 mode = 0; mode < 6; mode++) {
		pit_chan_control(&c, 0x30 | mode << 1, START);
		assert_int_equal(pit_chan_out(&c, at(100)), out[mode]);
		assert_false(pit_chan_edges(&c, &first, &period));
		pit_chan_latch_status(&c, at(100));
		assert_int_equal(pit_chan_read(&c, at(100)), out[mode] << 7 | 0x70 | mode << 1);
	}
	/* Mode 0: the first byte of a new count stops the old one. */
	load(&c, 0, false, 3);
	assert_true(pit_chan_out(&c, at(5)));
	pit_chan_write(&c, 9, at(5));
	assert_false(pit_chan_out(&c, at(50)));
	pit_chan_write(&c, 0, at(50));
	assert_false(pit_chan_out(&c, at(58)));
	assert_true(pit_chan_out(&c, at(50) + pit_clocks_to_ns(9)));
}

static void gates(void **state)
{
	struct pit_chan c;

	/* Mode 0 pauses. */
	pit_chan_init(&c, true);
	load(&c, 0, false, 10);
	pit_chan_gate(&c, false, at(4));
	assert_int_equal(pit_chan_count(&c, at(1000)), 6);
	assert_false(pit_chan_out(&c, at(1000)));
	pit_chan_gate(&c, true, at(1000));
	assert_false(pit_chan_out(&c, at(1005)));
	assert_true(pit_chan_out(&c, at(1007)));
	/* Modes 1 and 5 wait for the rise. */
	pit_chan_init(&c, false);
	load(&c, 1, false, 10);
	assert_true(pit_chan_out(&c, at(5)));
	pit_chan_gate(&c, true, at(100));
	assert_false(pit_chan_out(&c, at(105)));
	assert_true(pit_chan_out(&c, at(111)));
	pit_chan_gate(&c, false, at(120));
	pit_chan_gate(&c, true, at(200));
	assert_false(pit_chan_out(&c, at(205)));
	pit_chan_init(&c, false);
	load(&c, 5, false, 10);
	assert_true(pit_chan_out(&c, at(10)));
	pit_chan_gate(&c, true, at(100));
	assert_true(pit_chan_out(&c, at(105)));
	assert_false(pit_chan_out(&c, at(100) + pit_clocks_to_ns(10)));
	assert_true(pit_chan_out(&c, at(112)));
	/* Modes 2 and 3: high while closed, anew when it opens. */
	pit_chan_init(&c, true);
	load(&c, 3, false, 10);
	assert_false(pit_chan_out(&c, at(7)));
	pit_chan_gate(&c, false, at(7));
	assert_true(pit_chan_out(&c, at(8)));
	pit_chan_gate(&c, true, at(20));
	assert_int_equal(pit_chan_count(&c, at(20)), 10);
}

static void latches(void **state)
{
	struct pit_chan c;

	pit_chan_init(&c, true);
	load(&c, 2, false, 0x1234);
	pit_chan_control(&c, 0, at(0x34));		/* latch: 1200h */
	pit_chan_control(&c, 0, at(0x40));		/* ignored while one is there */
	assert_int_equal(pit_chan_read(&c, at(0x50)), 0x00);
	assert_int_equal(pit_chan_read(&c, at(0x50)), 0x12);
	/* Unlatched: low byte, high byte, of the moment. */
	assert_int_equal(pit_chan_read(&c, at(0x34)), 0x00);
	assert_int_equal(pit_chan_read(&c, at(0x134)), 0x11);
	/* Status first, then count. */
	pit_chan_latch_count(&c, at(0x34));
	pit_chan_latch_status(&c, at(0x34));
	assert_int_equal(pit_chan_read(&c, at(0x99)), 0xb4);
	assert_int_equal(pit_chan_read(&c, at(0x99)), 0x00);
	assert_int_equal(pit_chan_read(&c, at(0x99)), 0x12);
	/* One byte only. */
	pit_chan_control(&c, 0x24, START);		/* high byte, mode 2 */
	assert_true(pit_chan_write(&c, 0x20, START));
	assert_int_equal(pit_chan_read(&c, at(0x100)), 0x1f);
	pit_chan_latch_count(&c, at(0x100));
	assert_int_equal(pit_chan_read(&c, at(0x900)), 0x1f);
	assert_int_equal(pit_chan_read(&c, at(0x900)), 0x17);
	pit_chan_control(&c, 0x14, START);		/* low byte */
	assert_true(pit_chan_write(&c, 0x20, START));
	assert_int_equal(pit_chan_read(&c, at(1)), 0x1f);
}

/* ---- In a VM ---- */

static struct hv_vm *pit_vm(struct hv_vcpu **v)
{
	struct kvm_pit_config c = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct hv_vm *vm = test_vm_new();

	assert_int_equal(hv_irqchip_create(vm), 0);
	assert_int_equal(hv_pit_create(vm, &c), 0);
	assert_int_equal(hv_pit_create(vm, &c), -EEXIST);
	*v = test_vcpu_new(vm, 0);
	lapic_write_reg((*v)->lapic, APIC_SVR, 0x1ff);
	return vm;
}

static void ports(void **state)
{
	struct hv_vcpu *v;
	struct hv_vm *vm = pit_vm(&v);
	int bit;

	test_time_set(START);
	assert_int_equal(test_in(v, 0x43), 0);
	/* As Linux calibrates: channel 2, mode 0, gate by port 61h, output in bit 5. */
	test_out(v, 0x61, 1);
	test_out(v, 0x43, 0xb0);
	test_out(v, 0x42, 0x10);
	test_out(v, 0x42, 0);
	assert_int_equal(test_in(v, 0x61) & 0x2f, 1);
	test_time_set(at(0x10));
	assert_int_equal(test_in(v, 0x61) & 0x2f, 0x21);
	test_out(v, 0x61, 0xfe);
	assert_int_equal(test_in(v, 0x61) & 0xf, 0xe);
	/* The refresh bit toggles. */
	bit = test_in(v, 0x61);
	test_time_add(15085);
	assert_int_equal((test_in(v, 0x61) ^ bit) & 0x10, 0x10);
	/* Read-back of count and status of channel 2. */
	test_out(v, 0x61, 1);
	test_time_set(START);
	test_out(v, 0x43, 0xb4);
	test_out(v, 0x42, 0x34);
	test_out(v, 0x42, 0x12);
	test_out(v, 0x43, 0xc8);
	assert_int_equal(test_in(v, 0x42), 0xb4);
	assert_int_equal(test_in(v, 0x42), 0x34);
	assert_int_equal(test_in(v, 0x42), 0x12);
	test_vm_free(vm);
}

static unsigned wait_vector(struct hv_vcpu *v, unsigned ms)
{
	for (unsigned i = 0; i < ms * 10; i++) {
		int vec = hv_irq_ack(v);

		if (vec >= 0) {
			lapic_write_reg(v->lapic, APIC_EOI, 0);
			return vec;
		}
		usleep(100);
	}
	return 0;
}

/* Take interrupts until none has come for a while. */
static void drain(struct hv_vcpu *v)
{
	while (wait_vector(v, 10))
		;
}

static void set_count(struct hv_vcpu *v, u8 control, u16 count)
{
	test_out(v, 0x43, control);
	test_out(v, 0x40, count & 0xff);
	test_out(v, 0x40, count >> 8);
}

static void ticks(void **state)
{
	struct hv_vcpu *v;
	struct hv_vm *vm = pit_vm(&v);
	unsigned n;
	u64 start;

	test_out(v, 0x21, 0xff);
	test_mmio_write(v, 0xfec00000, 0x10);		/* GSI 0 is pin 0 by default */
	test_mmio_write(v, 0xfec00010, 0x51);
	set_count(v, 0x34, 1193);			/* 1 ms */
	start = hv_host_ns();
	for (n = 0; n < 20; n++)
		assert_int_equal(wait_vector(v, 1000), 0x51);
	/* However late we look, none is lost; and none is invented. */
	usleep(50000);
	for (; n < 60; n++)
		assert_int_equal(wait_vector(v, 1000), 0x51);
	assert_true(n <= (hv_host_ns() - start) / 999863 + 1);
	/* A control word stops it: what it owes still comes, and then no more. */
	test_out(v, 0x43, 0x30);
	drain(v);
	assert_int_equal(wait_vector(v, 20), 0);
	/* One-shot. */
	set_count(v, 0x30, 1193);
	assert_int_equal(wait_vector(v, 1000), 0x51);
	assert_int_equal(wait_vector(v, 20), 0);
	test_vm_free(vm);
}

/* How many interrupts there are for 20 ms of ticks that nobody looked after. */
static unsigned ticks_of_a_while(struct hv_vcpu *v)
{
	unsigned n = 0;

	set_count(v, 0x34, 1193);
	usleep(20000);
	test_out(v, 0x43, 0x34);
	while (wait_vector(v, 10))
		n++;
	return n;
}

static void reinjection(void **state)
{
	struct hv_vcpu *v;
	struct hv_vm *vm = pit_vm(&v);
	unsigned n = 0;

	test_out(v, 0x21, 0xff);
	test_mmio_write(v, 0xfec00000, 0x10);
	test_mmio_write(v, 0xfec00010, 0x51);
	/* A busy host may keep the timer thread from running; not for ever. */
	for (unsigned i = 0; i < 100 && n < 2; i++)
		n = ticks_of_a_while(v);
	assert_true(n > 1);
	/* Before the guest has acknowledged one, the next is not even pending. */
	set_count(v, 0x34, 1193);
	for (unsigned i = 0; i < 10000 && hv_lapic_pending(v) < 0; i++)
		usleep(100);
	assert_int_equal(hv_irq_ack(v), 0x51);
	usleep(10000);
	assert_false(lapic_vec_test(v->lapic, APIC_IRR, 0x51));
	test_out(v, 0x43, 0x34);
	lapic_write_reg(v->lapic, APIC_EOI, 0);
	drain(v);
	/* Discarded: what came meanwhile is one interrupt. */
	assert_int_equal(hv_pit_reinject(vm, false), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(ticks_of_a_while(v) <= 2);	/* and one that was on its way */
	/* Ticks while masked are forgotten, and opening the mask finds it alive. */
	assert_int_equal(hv_pit_reinject(vm, true), 0);
	test_mmio_write(v, 0xfec00010, 0x10051);
	set_count(v, 0x34, 1193);
	usleep(20000);
	test_mmio_write(v, 0xfec00010, 0x51);
	assert_int_equal(wait_vector(v, 1000), 0x51);
	assert_int_equal(wait_vector(v, 1000), 0x51);
	test_vm_free(vm);
}

static void pit_state(void **state)
{
	struct hv_vcpu *v;
	struct hv_vm *vm = pit_vm(&v), *none = test_vm_new();
	struct kvm_pit_state2 s;

	test_time_set(START);
	/* What was never programmed does not begin to run by being saved and restored. */
	assert_int_equal(hv_pit_get(vm, &s), 0);
	assert_int_equal(s.channels[0].mode, 0xff);
	assert_int_equal(hv_pit_set(vm, &s), 0);
	assert_int_equal(hv_pit_get(vm, &s), 0);
	assert_int_equal(s.channels[0].mode, 0xff);
	set_count(v, 0xb4, 0); /* control of channel 2, count of channel 0 */
	set_count(v, 0x34, 0x8000);
	test_out(v, 0x61, 3);
	assert_int_equal(hv_pit_get(vm, &s), 0);
	assert_int_equal(s.channels[0].count, 0x8000);
	assert_int_equal(s.channels[0].mode, 2);
	assert_int_equal(s.channels[0].gate, 1);
	assert_int_equal(s.channels[0].count_load_time, START);
	assert_int_equal(s.channels[2].gate, 1);
	assert_int_equal(s.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	s.channels[0].count = 0;
	s.channels[1].count = 0xffffffff;
	s.channels[1].mode = 9;
	s.channels[2].gate = 0;
	s.flags = KVM_PIT_FLAGS_HPET_LEGACY | 0x80;
	assert_int_equal(hv_pit_set(vm, &s), 0);
	assert_int_equal(hv_pit_get(vm, &s), 0);
	assert_int_equal(s.channels[0].count, 65536);
	assert_int_equal(s.channels[1].mode, 0xff);	/* no mode at all */
	assert_int_equal(s.flags, KVM_PIT_FLAGS_HPET_LEGACY);
	assert_int_equal(test_in(v, 0x61) & 3, 0);
	assert_int_equal(hv_pit_get(none, &s), -ENXIO);
	assert_int_equal(hv_pit_set(none, &s), -ENXIO);
	assert_int_equal(hv_pit_reinject(none, false), -ENXIO);
	test_vm_free(vm);
	test_vm_free(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes),       cmocka_unit_test(before_the_count),
		cmocka_unit_test(gates),       cmocka_unit_test(latches),
		cmocka_unit_test(ports),       cmocka_unit_test(ticks),
		cmocka_unit_test(reinjection), cmocka_unit_test(pit_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
