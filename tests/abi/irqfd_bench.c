// SPDX-License-Identifier: MIT
/*
 * Latency of an interrupt through an irqfd alone: from before the eventfd is
 * written until the guest's handler has written memory, the vCPU running or
 * halted; beside it a host thread that waits for the same eventfd. Not a test: prints.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

#define ROUNDS 2001u
#define VECTOR 0x40u
#define GSI 5u
#define COUNTER 0x3ff0u		/* of interrupts */
#define STOP 0x3ff8u

#define ENTRY "mov $0xfee00000, %ebx; lidt 0x1ff0; movl $0x1ff, 0xf0(%rbx); sti;"
#define HANDLER(name) ".org 0x200 + guest_" #name "\nincl 0x3ff0; movl $0, 0xb0(%rbx); cmpl $0, 0x3ff8; je 2f;" \
	"out %al, $0x10; 2: iretq"
GUEST(runs, 64, ENTRY "1: jmp 1b;" HANDLER(runs));
GUEST(halts, 64, ENTRY "1: hlt; jmp 1b;" HANDLER(halts));

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* One at a time, some time apart, so that who halts is halted. Returns the median. */
static u64 measure(int efd, volatile u32 *counter)
{
	u64 *ns = calloc(ROUNDS, sizeof(*ns)), one = 1, result;

	assert_non_null(ns);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u32 before = *counter;

		usleep(100);
		ns[i] = now();
		assert_int_equal(write(efd, &one, 8), 8);
		/* The other side may need this processor. */
		for (unsigned n = 0; *counter == before; n++) {
			if (n > 1000)
				sched_yield();
		}
		ns[i] = now() - ns[i];
	}
	qsort(ns, ROUNDS, sizeof(*ns), by_value);
	result = ns[ROUNDS / 2];
	free(ns);
	return result;
}

struct waiter {
	int efd;
	volatile u32 counter;
	volatile bool stop;
};

static void *wait_on_host(void *arg)
{
	struct waiter *w = arg;
	u64 n;

	while (!w->stop) {
		if (read(w->efd, &n, 8) == 8)
			w->counter++;
	}
	return NULL;
}

static u64 host(void)
{
	struct waiter w = { .efd = eventfd(0, EFD_CLOEXEC) };
	u64 result, one = 1;
	pthread_t t;

	pthread_create(&t, NULL, wait_on_host, &w);
	result = measure(w.efd, &w.counter);
	w.stop = true;
	assert_int_equal(write(w.efd, &one, 8), 8);
	pthread_join(t, NULL);
	close(w.efd);
	return result;
}

static void *run_vcpu(void *arg)
{
	struct vm *vm = arg;

	while (vcpu_ioctl(vm, KVM_RUN, NULL) == 0 && vm->run->exit_reason != KVM_EXIT_IO)
		;
	return NULL;
}

static u64 guest(const u8 *code, const u8 *end)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e;
	} routing = {
		.head.nr = 1,
		.e = { .gsi = GSI, .type = KVM_IRQ_ROUTING_MSI,
		       .u.msi = { .address_lo = 0xfee00000, .data = VECTOR } },
	};
	struct kvm_irqfd irqfd = { .gsi = GSI };
	u64 result, one = 1;
	struct vm vm;
	pthread_t t;

	vm_new(&vm, VM_IRQCHIP);
	vm_long(&vm, code, (size_t)(end - code));
	vm_idtr(&vm);
	vm_gate(&vm, VECTOR, 0x200);
	irqfd.fd = (u32)eventfd(0, EFD_CLOEXEC);
	vm_do(&vm, KVM_SET_GSI_ROUTING, &routing);
	vm_do(&vm, KVM_IRQFD, &irqfd);
	pthread_create(&t, NULL, run_vcpu, &vm);
	usleep(100000);
	result = measure((int)irqfd.fd, (volatile u32 *)(vm.ram + COUNTER));
	*(volatile u32 *)(vm.ram + STOP) = 1;
	assert_int_equal(write((int)irqfd.fd, &one, 8), 8);
	pthread_join(t, NULL);
	close((int)irqfd.fd);
	vm_free(&vm);
	return result;
}

static void latency(void **state)
{
	double bare = (double)host() / 1e3, running = (double)guest(guest_runs, guest_runs_end) / 1e3;
	double halted = (double)guest(guest_halts, guest_halts_end) / 1e3;

	printf("  %-44s %10s %10s %-10s %6s\n", "eventfd write to the other side's first store", "userkvm", "host thread",
	       "", "ratio");
	printf("  %-44s %10.2f %10.2f %-10s %6.2f\n", "irqfd, vCPU running", running, bare, "us", running / bare);
	printf("  %-44s %10.2f %10.2f %-10s %6.2f\n", "irqfd, vCPU halted", halted, bare, "us", halted / bare);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(latency) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
