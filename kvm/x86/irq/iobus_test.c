// SPDX-License-Identifier: MIT
/* I/O buses, coalesced rings and host timers. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/host_time.h"
#include "kvm/timer.h"
#include "kvm/x86/irq/test_vm.h"

struct dev {
	struct hv_iodev d;
	int answer;
	_Atomic unsigned calls;
	u64 addr;
	unsigned len;
	_Atomic bool gone, called_when_gone;
};

static int dev_read(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len, void *data)
{
	struct dev *x = container_of(d, struct dev, d);

	x->calls++;
	x->addr = addr;
	x->len = len;
	memset(data, 0xaa, len);
	if (x->gone)
		x->called_when_gone = true;
	return x->answer;
}

static struct dev dev(int answer)
{
	return (struct dev){ .d = { .read = dev_read }, .answer = answer };
}

static int rd(struct hv_vcpu *v, u64 addr, unsigned len)
{
	u8 buf[16];

	return hv_iobus_read(v, HV_BUS_MMIO, addr, len, buf);
}

static void ranges(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct hv_vcpu *v = test_vcpu_new(vm, 0);
	struct dev a = dev(0), b = dev(0), no = dev(-EOPNOTSUPP), any = dev(0);
	u64 zero = 0;

	assert_int_equal(rd(v, 0x1000, 4), -EOPNOTSUPP);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x1000, 0x10, 0, &a.d), 0);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x100f, 1, 0, &b.d), -EEXIST);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0xff0, 0x11, 0, &b.d), -EEXIST);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, ~0ull, 2, 0, &b.d), -EINVAL);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, ~0ull, 1, 0, &b.d), 0);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x1010, 0x10, 0, &b.d), 0);
	assert_int_equal(rd(v, 0x100f, 1), 0);
	assert_int_equal(a.addr, 0x100f);
	assert_int_equal(rd(v, 0x1010, 1), 0);
	assert_int_equal(b.calls, 1);
	assert_int_equal(rd(v, ~0ull, 1), 0);
	assert_int_equal(rd(v, ~0ull, 2), -EOPNOTSUPP);
	/* Wholly inside one range, or nobody's. */
	assert_int_equal(rd(v, 0x100e, 4), -EOPNOTSUPP);
	assert_int_equal(rd(v, 0xfff, 1), -EOPNOTSUPP);
	assert_int_equal(rd(v, 0x1020, 1), -EOPNOTSUPP);
	/* A shared range is asked first if it starts later, and may pass the access on. */
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x1004, 4, HV_IODEV_SHARED, &no.d), 0);
	assert_int_equal(rd(v, 0x1004, 4), 0);
	assert_int_equal(no.calls, 1);
	assert_int_equal(a.calls, 2);
	/* A wide range behind many small ones is still found. */
	assert_int_equal(rd(v, 0x100c, 4), 0);
	assert_int_equal(a.calls, 3);
	/* Length 0: any width, exactly there. */
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x3000, 0, HV_IODEV_SHARED, &any.d), 0);
	assert_int_equal(rd(v, 0x3000, 8), 0);
	assert_int_equal(rd(v, 0x3001, 1), -EOPNOTSUPP);
	/* No write function; the other buses are empty. */
	assert_int_equal(hv_iobus_write(v, HV_BUS_MMIO, 0x1000, 4, &zero), -EOPNOTSUPP);
	assert_int_equal(hv_iobus_read(v, HV_BUS_PIO, 0x1000, 4, &zero), -EOPNOTSUPP);
	/* Removed: the place is free. */
	hv_iobus_del(vm, HV_BUS_MMIO, &a.d);
	assert_int_equal(rd(v, 0x1000, 4), -EOPNOTSUPP);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x1000, 8, 0, &b.d), 0);
	assert_int_equal(rd(v, 0x1000, 4), 0);
	hv_iobus_del(vm, HV_BUS_MMIO, &b.d);		/* all its ranges */
	assert_int_equal(rd(v, ~0ull, 1), -EOPNOTSUPP);
	test_vm_free(vm);
}

static void limit(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct dev a = dev(0);

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(hv_iobus_add(vm, HV_BUS_PIO, i * 8, 1, 0, &a.d), 0);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_PIO, 0x8000, 1, 0, &a.d), -ENOSPC);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_PIO, 0x8000, 1, HV_IODEV_UNCOUNTED, &a.d), 0);
	hv_iobus_del(vm, HV_BUS_PIO, &a.d);
	assert_int_equal(hv_iobus_add(vm, HV_BUS_PIO, 0x8000, 1, 0, &a.d), 0);
	test_vm_free(vm);
}

struct reader {
	struct hv_vcpu *v;
	_Atomic bool stop;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	while (!atomic_load(&r->stop))
		rd(r->v, 0x1000, 4);
	return NULL;
}

static void removal_waits_for_readers(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct reader r = { .v = test_vcpu_new(vm, 0) };
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, reader_main, &r), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct dev a = dev(0);

		assert_int_equal(hv_iobus_add(vm, HV_BUS_MMIO, 0x1000, 4, 0, &a.d), 0);
		while (i % 30 == 0 && !a.calls)
			sched_yield();
		hv_iobus_del(vm, HV_BUS_MMIO, &a.d);
		atomic_store(&a.gone, true);
		if (i % 30 == 0)
			usleep(100);
		assert_false(a.called_when_gone);
	}
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	test_vm_free(vm);
}

/* ---- Coalesced ring ---- */

static int wr(struct hv_vcpu *v, u64 addr, unsigned len, u64 val)
{
	return hv_iobus_write(v, HV_BUS_MMIO, addr, len, &val);
}

static void coalesced(void **state)
{
	struct hv_vm *vm = test_vm_new();
	struct hv_vcpu *v = test_vcpu_new(vm, 0);
	struct kvm_coalesced_mmio_zone z = {.addr = 0xa0000, .size = 0x100},
				       part = {.addr = 0xa0010, .size = 4};
	struct kvm_coalesced_mmio_zone bad = { .addr = 0, .size = 1, .pio = 2 };
	struct kvm_coalesced_mmio_ring *ring;
	unsigned n;
	u64 val = 0;

	/* The client's view. */
	ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vm->coalesced_memfd, 0);
	assert_true(ring != MAP_FAILED);
	assert_int_equal(hv_coalesced_register(vm, &bad), -EINVAL);
	assert_int_equal(hv_coalesced_unregister(vm, &bad), -EINVAL);
	assert_int_equal(hv_coalesced_register(vm, &z), 0);
	assert_int_equal(wr(v, 0xa0004, 4, 0x11223344), 0);
	assert_int_equal(ring->last, 1);
	assert_int_equal(ring->coalesced_mmio[0].phys_addr, 0xa0004);
	assert_int_equal(ring->coalesced_mmio[0].len, 4);
	assert_int_equal(ring->coalesced_mmio[0].pio, 0);
	assert_memory_equal(ring->coalesced_mmio[0].data, "\x44\x33\x22\x11", 4);
	/* Reads, and writes that leave the zone, are not. */
	assert_int_equal(hv_iobus_read(v, HV_BUS_MMIO, 0xa0004, 4, &val), -EOPNOTSUPP);
	assert_int_equal(wr(v, 0xa00fe, 4, 0), -EOPNOTSUPP);
	for (n = 1; !wr(v, 0xa0000, 1, n); n++)
		;
	assert_int_equal(n, 169);
	assert_int_equal(ring->last, 169);
	/* From the oldest in either half: full only when full. */
	ring->first = 100;
	assert_int_equal(wr(v, 0xa0000, 1, 0), 0);
	assert_int_equal(ring->last, 0);
	for (n = 0; !wr(v, 0xa0000, 1, n); n++)
		;
	assert_int_equal(n, 99);
	/* Indices that the client has scribbled on. */
	ring->first = 0;
	ring->last = 170;
	assert_int_equal(wr(v, 0xa0000, 1, 0), -EOPNOTSUPP);
	ring->last = 0xffffffff;
	assert_int_equal(wr(v, 0xa0000, 1, 0), -EOPNOTSUPP);
	ring->last = 0;
	ring->first = 0x80000000;
	assert_int_equal(wr(v, 0xa0000, 1, 0), 0);
	/* A part of the zone takes it all away; what is not there is no error. */
	part.pio = 1;
	assert_int_equal(hv_coalesced_unregister(vm, &part), 0);
	assert_int_equal(wr(v, 0xa0000, 1, 0), 0);
	part.pio = 0;
	assert_int_equal(hv_coalesced_unregister(vm, &part), 0);
	assert_int_equal(wr(v, 0xa0000, 1, 0), -EOPNOTSUPP);
	assert_int_equal(hv_coalesced_unregister(vm, &part), 0);
	/* Ports; and a zone that the end of the VM finds. */
	z = (struct kvm_coalesced_mmio_zone){ .addr = 0x70, .size = 2, .pio = 1 };
	assert_int_equal(hv_coalesced_register(vm, &z), 0);
	ring->first = ring->last = 0;
	assert_int_equal(test_out(v, 0x71, 5), 0);
	assert_int_equal(ring->coalesced_mmio[0].pio, 1);
	munmap(ring, 4096);
	test_vm_free(vm);
}

/* ---- Timers ---- */

struct probe {
	struct hv_timer t;
	_Atomic unsigned fired;
	u64 late;
};

static _Atomic unsigned order;

static void probe_fn(struct hv_timer *t)
{
	struct probe *p = container_of(t, struct probe, t);

	p->late = hv_host_ns() - t->expires;
	atomic_store(&p->fired, atomic_fetch_add(&order, 1) + 1);
}

static void wait_for(_Atomic unsigned *what)
{
	for (unsigned i = 0; i < 5000 && !atomic_load(what); i++)
		usleep(1000);
	assert_int_not_equal(atomic_load(what), 0);
}

static void timers(void **state)
{
	static struct probe p[40];
	u64 now = hv_host_ns(), worst = 0;

	for (unsigned i = 0; i < 40; i++) {
		hv_timer_init(&p[i].t, probe_fn);
		assert_int_equal(hv_timer_arm(&p[i].t, now + 1000000000 + (i * 17 % 40) * 200000), 0);
	}
	hv_timer_disarm(&p[5].t);
	hv_timer_stop(&p[6].t);
	hv_timer_stop(&p[6].t);
	assert_int_equal(hv_timer_arm(&p[7].t, now - 1), 0);	/* the past */
	wait_for(&p[7].fired);
	assert_int_equal(p[7].fired, 1);
	for (unsigned i = 0; i < 40; i++) {
		if (i == 5 || i == 6)
			continue;
		wait_for(&p[i].fired);
		if (i != 7)
			worst = max(worst, p[i].late);
	}
	assert_int_equal(p[5].fired, 0);
	assert_int_equal(p[6].fired, 0);
	/* In the order of their times. */
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned k = 0; k < 40; k++) {
			if (p[i].fired > 1 && p[k].fired > 1 && i * 17 % 40 < k * 17 % 40)
				assert_true(p[i].fired < p[k].fired);
		}
	}
	print_message("# timers: at most %llu us late\n", (unsigned long long)worst / 1000);
}

static void slow_fn(struct hv_timer *t)
{
	struct probe *p = container_of(t, struct probe, t);

	atomic_store(&p->fired, 1);
	usleep(20000);
	hv_timer_arm(t, 0);
	p->late = 1;
}

static void stop_waits(void **state)
{
	static struct probe p;

	hv_timer_init(&p.t, slow_fn);
	assert_int_equal(hv_timer_arm(&p.t, 0), 0);
	wait_for(&p.fired);
	hv_timer_stop(&p.t);
	assert_int_equal(p.late, 1);
	assert_int_equal(p.t.slot, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(limit),
		cmocka_unit_test(removal_waits_for_readers),
		cmocka_unit_test(coalesced),
		cmocka_unit_test(timers),
		cmocka_unit_test(stop_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
