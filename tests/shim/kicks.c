// SPDX-License-Identifier: MIT
/*
 * The ways in which clients end KVM_RUN of another thread, many times at random
 * moments: none may be lost, and none may end it twice.
 * Replay: build/userkvm run -- build/tests/shim/shim_kicks [COUNT]
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "tests/shim/vm.h"

/*
 * QEMU: the signal's handler sets immediate_exit. QEMU without that: the signal is
 * blocked, KVM_SET_SIGNAL_MASK opens it, it stays pending and is taken afterwards.
 * kvmtool: a caught signal, and nothing else.
 * Firecracker: the sender sets immediate_exit, through another mapping, then signals.
 */
enum protocol { HANDLER_SETS, KVM_MASK, PLAIN, SENDER_SETS };

/*
 * What one signal may end. Two only where the flag and the signal each do it: the call that it
 * found, and the next one, which finds the flag.
 */
static const unsigned most_returns[] = {
	[HANDLER_SETS] = 1, [KVM_MASK] = 1, [PLAIN] = 1, [SENDER_SETS] = 2,
};

struct kicked {
	struct vm vm;
	enum protocol protocol;
	volatile struct kvm_run *second;	/* the sender's mapping */
	pthread_t thread;
	pid_t tid;
	_Atomic unsigned wanted, done;		/* kicks sent and answered */
	_Atomic unsigned stop, returns, signals;
	unsigned wrong;
};

static unsigned count = 1000;
static struct kvm_run *_Atomic handler_run;
static _Atomic unsigned handled;

static void on_kick(int sig)
{
	struct kvm_run *run = handler_run;

	if (run)
		run->immediate_exit = 1;
	handled++;
}

static void *vcpu_thread(void *arg)
{
	const struct timespec none = { 0 };
	struct kicked *k = arg;
	sigset_t set;

	k->tid = (pid_t)syscall(SYS_gettid);
	/* It began with the signal blocked. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (k->protocol != KVM_MASK)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!k->stop) {
		int ret = ioctl(k->vm.vcpu, KVM_RUN, 0);

		if (ret != -1 || errno != EINTR)
			k->wrong++;
		k->returns++;
		k->vm.run->immediate_exit = 0;
		if (k->protocol == KVM_MASK && sigtimedwait(&set, NULL, &none) != SIGUSR1)
			k->wrong++;	/* it had to stay pending */
		/* The flag first, then what it stands for: as every client must. */
		atomic_thread_fence(memory_order_seq_cst);
		k->done = k->wanted;
	}
	return NULL;
}

static void send_signal(struct kicked *k, unsigned i)
{
	k->signals++;
	/* The calls that clients have for it. */
	if (i % 3 == 0)
		tgkill(getpid(), k->tid, SIGUSR1);
	else if (i % 3 == 1)
		pthread_sigqueue(k->thread, SIGUSR1, (union sigval){ .sival_int = 1 });
	else
		pthread_kill(k->thread, SIGUSR1);
}

static void send_kicks(struct kicked *k)
{
	struct timespec start, now;

	for (unsigned i = 1; i <= count && !k->wrong; i++) {
		unsigned spins = 0;

		k->wanted = i;
		if (k->protocol == SENDER_SETS)
			k->second->immediate_exit = 1;
		send_signal(k, i);
		clock_gettime(CLOCK_MONOTONIC, &start);
		while (k->done != i) {
			/* A plain signal just before KVM_RUN does not end it: clients repeat. */
			if (++spins % 64 == 0) {
				if (k->protocol == PLAIN)
					send_signal(k, i);
				clock_gettime(CLOCK_MONOTONIC, &now);
				if (now.tv_sec - start.tv_sec >= 20)
					fail_msg("protocol %d: kick %u was lost", k->protocol, i);
			}
			if (spins > 4)
				usleep(spins < 64 ? 10 : 500);
		}
		if (k->returns > most_returns[k->protocol] * k->signals)
			fail_msg("protocol %d: %u returns for %u signals", k->protocol, k->returns,
				 k->signals);
		/* From the moment of its return to long in the guest. */
		for (unsigned n = (unsigned)rand() % 4000; n; n--)
			__builtin_ia32_pause();
		if (rand() % 8 == 0)
			usleep((unsigned)rand() % 150);
	}
}

static void kick_test(enum protocol protocol, const unsigned char *code, size_t len)
{
	struct { struct kvm_signal_mask head; unsigned char set[8]; } mask = { .head.len = 8 };
	struct sigaction sa = { .sa_handler = on_kick, .sa_flags = SA_RESTART };
	struct kicked k = { .protocol = protocol };
	sigset_t set, old;

	assert_int_equal(vm_new(&k.vm, code, len), 0);
	k.second = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, k.vm.vcpu, 0);
	assert_true(k.second != MAP_FAILED);
	handler_run = protocol == HANDLER_SETS ? k.vm.run : NULL;
	handled = 0;
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	if (protocol == KVM_MASK)
		assert_int_equal(ioctl(k.vm.vcpu, KVM_SET_SIGNAL_MASK, &mask), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	assert_int_equal(pthread_create(&k.thread, NULL, vcpu_thread, &k), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	while (!*(volatile pid_t *)&k.tid)
		usleep(100);
	send_kicks(&k);
	k.stop = 1;
	k.wanted = count + 1;
	while (k.done != count + 1) {
		send_signal(&k, 2);
		usleep(1000);
	}
	pthread_join(k.thread, NULL);
	assert_int_equal(k.wrong, 0);
	if (protocol == KVM_MASK)
		assert_int_equal(handled, 0);
	else
		assert_true(handled >= count);
	if (k.returns > most_returns[protocol] * k.signals)
		fail_msg("protocol %d: %u returns for %u signals", protocol, k.returns, k.signals);
	print_message("# %u signals, %u returns\n", k.signals, k.returns);
	handler_run = NULL;
	munmap((void *)k.second, RUN_BYTES);
	vm_free(&k.vm);
}

static void handler_sets_running(void **state) { kick_test(HANDLER_SETS, code_spin, sizeof(code_spin)); }
static void handler_sets_halted(void **state) { kick_test(HANDLER_SETS, code_halt, sizeof(code_halt)); }
static void kvm_mask_running(void **state) { kick_test(KVM_MASK, code_spin, sizeof(code_spin)); }
static void kvm_mask_halted(void **state) { kick_test(KVM_MASK, code_halt, sizeof(code_halt)); }
static void plain_running(void **state) { kick_test(PLAIN, code_spin, sizeof(code_spin)); }
static void plain_halted(void **state) { kick_test(PLAIN, code_halt, sizeof(code_halt)); }
static void sender_sets_running(void **state) { kick_test(SENDER_SETS, code_spin, sizeof(code_spin)); }
static void sender_sets_halted(void **state) { kick_test(SENDER_SETS, code_halt, sizeof(code_halt)); }

static void *kick_later(void *arg)
{
	usleep(300000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void halted_vcpu_sleeps(void **state)
{
	struct sigaction sa = { .sa_handler = on_kick };
	pthread_t me = pthread_self(), t;
	struct rusage before, after;
	struct vm vm;

	assert_int_equal(vm_new(&vm, code_halt, sizeof(code_halt)), 0);
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	pthread_create(&t, NULL, kick_later, &me);
	getrusage(RUSAGE_THREAD, &before);
	assert_int_equal(ioctl(vm.vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(vm.run->exit_reason, KVM_EXIT_INTR);
	getrusage(RUSAGE_THREAD, &after);
	pthread_join(t, NULL);
	/* Processor time, not the clock: of 300 ms, most asleep. */
	assert_true((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
		    (after.ru_utime.tv_usec - before.ru_utime.tv_usec) < 150000);
	vm_free(&vm);
}

/* Blocked, and no KVM mask that opens it: it ends nothing, however it is sent. */
static void blocked_signal_ends_nothing(void **state)
{
	struct kicked k = { .protocol = PLAIN };
	sigset_t set, old;
	struct sigaction sa = { .sa_handler = on_kick };

	assert_int_equal(vm_new(&k.vm, code_halt, sizeof(code_halt)), 0);
	handler_run = NULL;
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	assert_int_equal(pthread_create(&k.thread, NULL, vcpu_thread, &k), 0);
	while (!*(volatile pid_t *)&k.tid)
		usleep(100);
	for (unsigned i = 0; i < 30; i++) {
		pthread_kill(k.thread, SIGUSR2);
		tgkill(getpid(), k.tid, SIGUSR2);
		usleep(1000);
	}
	assert_int_equal(k.returns, 0);
	k.stop = 1;
	while (!k.returns) {
		pthread_kill(k.thread, SIGUSR1);
		usleep(1000);
	}
	pthread_join(k.thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	assert_int_equal(k.returns, 1);
	vm_free(&k.vm);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handler_sets_running),
		cmocka_unit_test(handler_sets_halted),
		cmocka_unit_test(kvm_mask_running),
		cmocka_unit_test(kvm_mask_halted),
		cmocka_unit_test(plain_running),
		cmocka_unit_test(plain_halted),
		cmocka_unit_test(sender_sets_running),
		cmocka_unit_test(sender_sets_halted),
		cmocka_unit_test(halted_vcpu_sleeps),
		cmocka_unit_test(blocked_signal_ends_nothing),
	};

	if (argc > 1)
		count = (unsigned)atoi(argv[1]);
	return cmocka_run_group_tests_name("kicks", tests, NULL, NULL);
}
