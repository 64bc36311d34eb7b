// SPDX-License-Identifier: MIT
/* Interrupts, halts, signals and several vCPUs, end to end. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/vmtest.h"

/* IDTR: vm_idtr(). rbx = the APIC page. */
#define PROLOGUE "mov $0xfee00000, %ebx; lidt 0x1ff0; movl $0x1ff, 0xf0(%rbx);"

GUEST(timer, 64, PROLOGUE
      "movl $0x40, 0x320(%rbx); movl $0xb, 0x3e0(%rbx); movl $1000000, 0x380(%rbx); sti; hlt;"
      "mov $2, %al; out %al, $0x10; cli; hlt; .org 0x200 + guest_timer\n"
      "movl $0, 0xb0(%rbx); mov $1, %al; out %al, $0x10; iretq");

static void apic_timer_ends_halt(void **state)
{
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	START(&vm, long, timer);
	vm_idtr(&vm);
	vm_gate(&vm, 0x40, 0x200);
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	assert_int_equal(vm_out(&vm, 0x10, 1), 2);
	vm_free(&vm);
}

/* The timer must also end a stay in the guest that has no exits. */
GUEST(spin, 64, PROLOGUE
      "movl $0x40, 0x320(%rbx); movl $0xb, 0x3e0(%rbx); movl $1000000, 0x380(%rbx); sti; 1: jmp 1b;"
      ".org 0x200 + guest_spin\nmovl $0, 0xb0(%rbx); mov $1, %al; out %al, $0x10; iretq");

static void apic_timer_in_a_loop(void **state)
{
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	START(&vm, long, spin);
	vm_idtr(&vm);
	vm_gate(&vm, 0x40, 0x200);
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	vm_free(&vm);
}

GUEST(nmi, 64, PROLOGUE "mov $3, %al; out %al, $0x10; 1: jmp 1b;"
      ".org 0x200 + guest_nmi\nmov $4, %al; out %al, $0x10; iretq");

static void *send_nmi(void *arg)
{
	struct vm *vm = arg;

	usleep(20000);
	assert_int_equal(vfs_ioctl(vm->vcpu, KVM_NMI, 0), 0);
	return NULL;
}

static void nmi_while_running(void **state)
{
	pthread_t t;
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	START(&vm, long, nmi);
	vm_idtr(&vm);
	vm_gate(&vm, 2, 0x200);
	assert_int_equal(vm_out(&vm, 0x10, 1), 3);
	pthread_create(&t, NULL, send_nmi, &vm);
	assert_int_equal(vm_out(&vm, 0x10, 1), 4);
	pthread_join(t, NULL);
	vm_free(&vm);
}

static _Atomic int handled;

static void handler(int sig)
{
	handled++;
}

static _Atomic bool run_ended;

/* Until it has worked: one that comes before KVM_RUN does not count. */
static void *send_signals(void *arg)
{
	do {
		usleep(20000);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	} while (!run_ended);
	return NULL;
}

static void *send_signal(void *arg)
{
	usleep(20000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

GUEST(loop, 64, "1: jmp 1b");
GUEST(halt, 64, "sti; hlt; jmp guest_halt");

/* Steps with BLOCKIRQ: the pending self-IPI waits; without it, its handler runs after STI. */
GUEST(blockirq, 64, PROLOGUE "movl $0x400aa, 0x300(%rbx); nop; out %al, $0x11; sti; xor %eax, %eax; cpuid;"
      "mov $0x1a0, %ecx; rdmsr; cli; out %al, $0x12; sti; nop; nop; hlt;"
      ".org 0x200 + guest_blockirq\nmov $0xfee00000, %ebx; movl $0, 0xb0(%rbx); out %al, $0x13; iretq");

static void step(struct vm *vm, u32 control)
{
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | control };

	vcpu_do(vm, KVM_SET_GUEST_DEBUG, &d);
	vm_run(vm, KVM_EXIT_DEBUG);
	assert_int_equal(vm->run->debug.arch.exception, 1);
	assert_int_equal(vm->run->debug.arch.dr6, 0xffff4ff0);
}

static void steps_hold_interrupts(void **state)
{
	static const u8 lengths[] = { 1, 2, 2, 5, 2, 1 };	/* STI XOR CPUID MOV RDMSR CLI */
	struct kvm_guest_debug off = { 0 };
	u64 rip;
	struct vm vm;

	for (unsigned held = 0; held < 2; held++) {
		vm_new(&vm, VM_IRQCHIP);
		START(&vm, long, blockirq);
		vm_idtr(&vm);
		vm_gate(&vm, 0xaa, 0x200);
		vm_out(&vm, 0x11, 1);
		rip = vm_regs(&vm).rip + 2;	/* behind the OUT, which completes by KVM_RUN */
		step(&vm, held ? KVM_GUESTDBG_BLOCKIRQ : 0);
		assert_int_equal(vm.run->debug.arch.pc, rip);
		for (unsigned i = 0; held && i < ARRAY_SIZE(lengths); i++) {
			step(&vm, KVM_GUESTDBG_BLOCKIRQ);
			rip += lengths[i];
			assert_int_equal(vm.run->debug.arch.pc, rip);
		}
		if (!held) {
			step(&vm, 0);		/* STI */
			vm_out(&vm, 0x13, 1);	/* delivery clears TF: the handler runs */
		} else {
			vcpu_do(&vm, KVM_SET_GUEST_DEBUG, &off);
			vm_out(&vm, 0x12, 1);
			vm_out(&vm, 0x13, 1);
		}
		vm_free(&vm);
	}
}

/* A caught signal ends KVM_RUN in the guest and in a halt; the exit reason says so. */
static void signal_ends_run(void **state)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
	pthread_t me = pthread_self(), t;
	struct vm vm;

	assert_int_equal(vfs_sigaction(SIGUSR1, &sa, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		vm_new(&vm, VM_IRQCHIP);
		if (i)
			START(&vm, long, halt);
		else
			START(&vm, long, loop);
		handled = 0;
		run_ended = false;
		pthread_create(&t, NULL, send_signals, &me);
		assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINTR);
		run_ended = true;
		assert_int_equal(vm.run->exit_reason, KVM_EXIT_INTR);
		pthread_join(t, NULL);
		assert_true(handled >= 1);
		vm_free(&vm);
	}
}

/* A signal that only the KVM mask opens ends KVM_RUN, stays pending, its handler does not run. */
static void signal_mask(void **state)
{
	const struct timespec none = { 0 };
	pthread_t me = pthread_self(), t;
	struct { struct kvm_signal_mask head; u8 set[8]; } m = { .head.len = 8 };
	struct vm vm;
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	for (unsigned i = 0; i < 2; i++) {
		vm_new(&vm, VM_IRQCHIP);
		if (i)
			START(&vm, long, halt);
		else
			START(&vm, long, loop);
		vcpu_do(&vm, KVM_SET_SIGNAL_MASK, &m);
		handled = 0;
		pthread_create(&t, NULL, send_signal, &me);
		assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EINTR);
		assert_int_equal(vm.run->exit_reason, KVM_EXIT_INTR);
		pthread_join(t, NULL);
		assert_int_equal(handled, 0);
		assert_int_equal(sigtimedwait(&set, NULL, &none), SIGUSR1);
		vm_free(&vm);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/*
 * The client's PIC waits for a window. None opens while LINT0 is masked, nor
 * does the wish for one keep the guest from moving.
 */
GUEST(window, 64, PROLOGUE
      "movl $0x10700, 0x350(%rbx); sti; mov $1, %al; out %al, $0x10;"
      "movl $0x700, 0x350(%rbx); nop; mov $2, %al; out %al, $0x10; cli; hlt;"
      ".org 0x200 + guest_window\nmov $3, %al; out %al, $0x10; iretq");

static void user_interrupt_window(void **state)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct vm vm;

	vm_new(&vm, VM_SPLIT);
	START(&vm, long, window);
	vm_idtr(&vm);
	vm_gate(&vm, 0x40, 0x200);
	vm.run->request_interrupt_window = 1;
	assert_int_equal(vm_out(&vm, 0x10, 1), 1);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 0);
	vm_run(&vm, KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(vm.run->ready_for_interrupt_injection, 1);
	vcpu_do(&vm, KVM_INTERRUPT, &irq);
	assert_int_equal(vcpu_ioctl(&vm, KVM_INTERRUPT, &irq), -EEXIST);
	assert_int_equal(vm_out(&vm, 0x10, 1), 3);
	vm.run->request_interrupt_window = 0;
	assert_int_equal(vm_out(&vm, 0x10, 1), 2);
	vm_free(&vm);
}

/* The first processor starts the second with INIT and a start-up IPI to page 3. */
GUEST(bsp, 64, PROLOGUE
      "movl $0x01000000, 0x310(%rbx); movl $0x4500, 0x300(%rbx); movl $0x01000000, 0x310(%rbx);"
      "movl $0x4603, 0x300(%rbx); 1: mov 0x3ff0, %al; test %al, %al; jz 1b; out %al, $0x10; hlt");
GUEST(ap, 16, "movb $7, %cs:0xff0; 1: hlt; jmp 1b");

struct second {
	int fd;
	long first, then;
};

static void *second_vcpu(void *arg)
{
	struct second *s = arg;

	s->first = vfs_ioctl(s->fd, KVM_RUN, 0);
	s->then = vfs_ioctl(s->fd, KVM_RUN, 0);
	return NULL;
}

static void startup_ipi(void **state)
{
	struct sigaction sa = { .sa_handler = handler };
	struct second s;
	pthread_t t;
	struct vm vm;

	vm_new(&vm, VM_IRQCHIP);
	s.fd = (int)vfs_ioctl(vm.fd, KVM_CREATE_VCPU, 1);
	assert_true(s.fd >= 0);
	START(&vm, long, bsp);
	vm_idtr(&vm);
	memcpy(vm.ram + 0x3000, guest_ap, (size_t)(guest_ap_end - guest_ap));
	assert_int_equal(vfs_sigaction(SIGUSR1, &sa, NULL), 0);
	pthread_create(&t, NULL, second_vcpu, &s);
	assert_int_equal(vm_out(&vm, 0x10, 1), 7);
	/* It may be between its two calls of KVM_RUN. */
	while (pthread_tryjoin_np(t, NULL) == EBUSY) {
		pthread_kill(t, SIGUSR1);
		usleep(20000);
	}
	/* Woken, the client calls again. */
	assert_int_equal(s.first, -EAGAIN);
	assert_int_equal(s.then, -EINTR);
	vfs_close(s.fd);
	vm_free(&vm);
}

/* Memory that the client unmaps ends as EFAULT, not as a crash. */
GUEST(touch, 64, "mov 0x200000, %eax; out %al, $0x10; mov 0x200000, %eax; hlt");

static void unmapped_memory(void **state)
{
	struct vm vm;

	vm_new(&vm, 0);
	START(&vm, long, touch);
	vm_out(&vm, 0x10, 1);
	assert_int_equal(vfs_munmap(vm.ram + 0x200000, 0x1000), 0);
	assert_int_equal(vcpu_ioctl(&vm, KVM_RUN, NULL), -EFAULT);
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(apic_timer_ends_halt),
		cmocka_unit_test(apic_timer_in_a_loop),
		cmocka_unit_test(nmi_while_running),
		cmocka_unit_test(steps_hold_interrupts),
		cmocka_unit_test(signal_ends_run),
		cmocka_unit_test(signal_mask),
		cmocka_unit_test(user_interrupt_window),
		cmocka_unit_test(startup_ipi),
		cmocka_unit_test(unmapped_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
