// SPDX-License-Identifier: MIT
/*
 * HLT where the client is the interrupt controller, and where it does not exit
 * (KVM_CAP_X86_DISABLE_EXITS): who wakes the processor, and that it sleeps.
 */
#include <errno.h>
#include <linux/kvm_para.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bits.h"
#include "tests/abi/vmtest.h"

/* Handlers of vector 2 and 0x40 are at 0x200 and 0x280 from VM_CODE. */
static void tables(struct vm *vm)
{
	vm_idtr(vm);
	vm_gate(vm, 2, 0x200);
	vm_gate(vm, 0x40, 0x280);
}

GUEST(halts, 64, "lidt 0x1ff0; sti; hlt; out %al, $0x10; cli; hlt; out %al, $0x11; hlt;"
      ".org 0x200 + guest_halts\nout %al, $0x12; iretq; .org 0x280 + guest_halts\nout %al, $0x13; iretq");

#define AT_FIRST_HLT (VM_CODE + 10)	/* behind it */

static void handler(int sig)
{
}

static _Atomic bool ended;

static void *send_signals(void *arg)
{
	do {
		usleep(20000);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	} while (!ended);
	return NULL;
}

/* KVM_RUN, which only a signal ends. */
static void run_until_signal(struct vm *vm)
{
	struct sigaction sa = { .sa_handler = handler };
	pthread_t me = pthread_self(), t;

	assert_int_equal(vfs_sigaction(SIGUSR1, &sa, NULL), 0);
	ended = false;
	pthread_create(&t, NULL, send_signals, &me);
	assert_int_equal(vcpu_ioctl(vm, KVM_RUN, NULL), -EINTR);
	ended = true;
	pthread_join(t, NULL);
	assert_int_equal(vm->run->exit_reason, KVM_EXIT_INTR);
}

static void interrupt(struct vm *vm, u32 vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	vcpu_do(vm, KVM_INTERRUPT, &irq);
}

static void start(struct vm *vm, unsigned flags)
{
	vm_new(vm, flags);
	START(vm, long, halts);
	tables(vm);
}

/* Without a local APIC of ours each HLT is the client's. */
static void client_halts(void **state)
{
	struct vm vm;

	start(&vm, 0);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_regs(&vm).rip, AT_FIRST_HLT);
	assert_int_equal(vm.run->if_flag, 1);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 1);
	interrupt(&vm, 0x40);
	vm_out(&vm, 0x13, 1);
	vm_out(&vm, 0x10, 1);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm.run->if_flag, 0);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 0);
	/* A client that calls again wants it to go on. */
	vm_out(&vm, 0x11, 1);
	vm_free(&vm);
}

/* Halted from one KVM_RUN to the next, and asleep, until there is an event. */
static void halted_until_an_event(void **state)
{
	struct kvm_mp_state mp;
	struct vm vm;

	start(&vm, VM_HLT_IN_GUEST);
	for (unsigned i = 0; i < 3; i++) {
		run_until_signal(&vm);
		assert_int_equal(vm_regs(&vm).rip, AT_FIRST_HLT);
		assert_int_equal(vm.run->ready_for_interrupt_injection, 1);
	}
	vcpu_do(&vm, KVM_GET_MP_STATE, &mp);
	assert_int_equal(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	interrupt(&vm, 0x40);
	vm_out(&vm, 0x13, 1);
	vm_out(&vm, 0x10, 1);
	/* CLI; HLT */
	run_until_signal(&vm);
	vcpu_do(&vm, KVM_NMI, NULL);
	vm_out(&vm, 0x12, 1);
	vm_out(&vm, 0x11, 1);
	vm_free(&vm);
}

static void *send_nmi(void *arg)
{
	usleep(300000);
	assert_int_equal(vfs_ioctl(((struct vm *)arg)->vcpu, KVM_NMI, 0), 0);
	return NULL;
}

static void halted_guest_sleeps(void **state)
{
	struct rusage before, after;
	struct vm vm;
	pthread_t t;

	start(&vm, VM_HLT_IN_GUEST);
	getrusage(RUSAGE_THREAD, &before);
	pthread_create(&t, NULL, send_nmi, &vm);
	vm_out(&vm, 0x12, 1);
	getrusage(RUSAGE_THREAD, &after);
	pthread_join(t, NULL);
	/* Of 300 ms, most asleep; no polling either: every 50 us were 6000 times (TSan: 300). */
	assert_true((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
		    after.ru_utime.tv_usec - before.ru_utime.tv_usec < 150000);
	assert_true(after.ru_nvcsw - before.ru_nvcsw < 1000);
	vm_free(&vm);
}

/* The timer of our local APIC wakes it too: by the preemption timer. */
GUEST(apic_timer, 64, "mov $0xfee00000, %ebx; lidt 0x1ff0; movl $0x1ff, 0xf0(%rbx); movl $0x40, 0x320(%rbx);"
      "movl $0xb, 0x3e0(%rbx); movl $1000000, 0x380(%rbx); sti; hlt; cli; out %al, $0x10;"
      ".org 0x280 + guest_apic_timer\nmovl $0, 0xb0(%rbx); out %al, $0x13; iretq");

static void timer_wakes(void **state)
{
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP | VM_HLT_IN_GUEST);
	START(&vm, long, apic_timer);
	tables(&vm);
	vm_out(&vm, 0x13, 1);
	vm_out(&vm, 0x10, 1);
	vm_free(&vm);
}

/* Registers with another RIP: a client's reset. */
static void new_rip_wakes(void **state)
{
	struct kvm_regs regs;
	struct vm vm;

	start(&vm, VM_HLT_IN_GUEST);
	run_until_signal(&vm);
	regs = vm_regs(&vm);
	vcpu_do(&vm, KVM_SET_REGS, &regs);
	run_until_signal(&vm);
	assert_int_equal(vm_regs(&vm).rip, AT_FIRST_HLT);
	regs.rip = VM_CODE + 0x280;
	vcpu_do(&vm, KVM_SET_REGS, &regs);
	vm_out(&vm, 0x13, 1);
	vm_free(&vm);
}

static void enabling(void **state)
{
	struct kvm_enable_cap c = { .cap = KVM_CAP_X86_DISABLE_EXITS };
	const unsigned all = KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE;
	struct vm vm;
	int fd;

	vm_new(&vm, 0);
	assert_int_equal(vfs_ioctl(vm.sys, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS), all);
	c.args[0] = all;
	assert_int_equal(vm_ioctl(&vm, KVM_ENABLE_CAP, &c), -EINVAL);	/* it has a vCPU */
	fd = (int)vfs_ioctl(vm.sys, KVM_CREATE_VM, 0);
	assert_true(fd >= 0);
	c.args[0] = all | KVM_X86_DISABLE_EXITS_MWAIT;
	assert_int_equal(vfs_ioctl(fd, KVM_ENABLE_CAP, (unsigned long)&c), -EINVAL);
	c.args[0] = all;
	c.flags = 1;
	assert_int_equal(vfs_ioctl(fd, KVM_ENABLE_CAP, (unsigned long)&c), -EINVAL);
	c.flags = 0;
	assert_int_equal(vfs_ioctl(fd, KVM_ENABLE_CAP, (unsigned long)&c), 0);
	vfs_close(fd);
	vm_free(&vm);
}

/* What of KVM's leaf 40000001 the guest is offered, of what the client asked for. */
static u32 pv_features(unsigned flags)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 100 * sizeof(c->entries[0]));
	u32 eax = 0;
	struct vm vm;

	assert_non_null(c);
	vm_new(&vm, flags);
	c->nent = 100;
	vcpu_do(&vm, KVM_GET_CPUID2, c);
	for (unsigned i = 0; i < c->nent; i++) {
		if (c->entries[i].function == KVM_CPUID_FEATURES)
			eax = c->entries[i].eax;
	}
	free(c);
	vm_free(&vm);
	return eax;
}

static void paravirtual_calls_that_could_not_work(void **state)
{
	const u32 ipi = BIT(KVM_FEATURE_PV_SEND_IPI), unhalt = BIT(KVM_FEATURE_PV_UNHALT);
	u32 all = pv_features(VM_IRQCHIP);

	assert_int_equal(all & (ipi | unhalt), ipi | unhalt);
	assert_int_equal(pv_features(VM_SPLIT), all);
	assert_int_equal(pv_features(0), all & ~(ipi | unhalt));
	assert_int_equal(pv_features(VM_IRQCHIP | VM_HLT_IN_GUEST), all & ~unhalt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_halts),
		cmocka_unit_test(halted_until_an_event),
		cmocka_unit_test(halted_guest_sleeps),
		cmocka_unit_test(timer_wakes),
		cmocka_unit_test(new_rip_wakes),
		cmocka_unit_test(enabling),
		cmocka_unit_test(paravirtual_calls_that_could_not_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
