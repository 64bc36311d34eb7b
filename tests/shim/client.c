// SPDX-License-Identifier: MIT
/*
 * A client of /dev/kvm as any other: plain libc calls, nothing of userkvm linked
 * in. Runs under `userkvm run`; where there is a real /dev/kvm, without it too.
 * Replay: build/userkvm run -- build/tests/shim/shim_client
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "abi/kvm.h"

#define RAM (64u << 10)
#define RUN_BYTES 12288u

/* Real mode, at 0. */
static const unsigned char code_out[] = { 0xb0, 0x2a, 0xe6, 0x10, 0xf4 };	/* OUT 0x10, 42; HLT */
static const unsigned char code_spin[] = { 0xeb, 0xfe };
static const unsigned char code_halt[] = { 0xfb, 0xf4, 0xeb, 0xfc };		/* STI; HLT; again */
/* MOV AL, [8000]; OUT 0x10, AL; HLT */
static const unsigned char code_touch[] = { 0xa0, 0x00, 0x80, 0xe6, 0x10, 0xf4 };

struct vm {
	int sys, fd, vcpu;
	unsigned char *ram;
	struct kvm_run *run;
};

/* Also runs in forked children, so it tells by its result. */
static int vm_new(struct vm *vm, const unsigned char *code, size_t len)
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

static void vm_free(struct vm *vm)
{
	munmap(vm->run, RUN_BYTES);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->sys);
	munmap(vm->ram, RAM);
}

/* Until the OUT; true if it sent 42. */
static int runs_to_out(struct vm *vm)
{
	return ioctl(vm->vcpu, KVM_RUN, 0) == 0 && vm->run->exit_reason == KVM_EXIT_IO &&
	       ((unsigned char *)vm->run)[vm->run->io.data_offset] == 42;
}

static void checks_before_opening(void **state)
{
	struct stat st;
	char text[8] = "";
	FILE *f;

	assert_int_equal(access("/dev/kvm", R_OK | W_OK), 0);
	assert_int_equal(stat("/dev/kvm", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(major(st.st_rdev), 10);
	assert_int_equal(minor(st.st_rdev), 232);
	f = fopen("/sys/module/kvm_intel/parameters/unrestricted_guest", "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	assert_string_equal(text, "Y\n");
	fclose(f);
	assert_int_equal(open("/sys/module/kvm_intel/parameters/ept", O_RDWR), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(access("/dev/kvm-not", F_OK), -1);
}

static void duplicates(void **state)
{
	volatile struct kvm_run *second;
	int vm2, vcpu2, high = 200;
	struct vm vm;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	vm2 = dup(vm.fd);
	vcpu2 = fcntl(vm.vcpu, F_DUPFD_CLOEXEC, 100);
	assert_true(vcpu2 >= 100);
	second = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu2, 0);
	assert_true(second != MAP_FAILED);
	assert_int_equal(close(vm.vcpu), 0);
	assert_int_equal(close(vm.fd), 0);
	errno = 0;
	assert_int_equal(ioctl(vm.vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EBADF);
	vm.vcpu = vcpu2;
	second->immediate_exit = 1;
	assert_int_equal(vm.run->immediate_exit, 1);
	assert_int_equal(ioctl(vcpu2, KVM_RUN, 0), -1);
	assert_int_equal(errno, EINTR);
	second->immediate_exit = 0;
	assert_true(runs_to_out(&vm));
	/* dup2 onto an ordinary descriptor, then an ordinary one onto it. */
	assert_int_equal(dup2(vm2, high), high);
	assert_int_equal(ioctl(high, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	assert_int_equal(dup3(STDERR_FILENO, high, O_CLOEXEC), high);
	assert_int_equal(ioctl(high, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), -1);
	close(high);
	assert_int_equal(dup2(vm2, vm2), vm2);
	assert_int_equal(ioctl(vm2, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	munmap((void *)second, RUN_BYTES);
	assert_int_equal(close_range((unsigned)vm2, (unsigned)vm2, 0), 0);
	assert_int_equal(ioctl(vm2, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), -1);
	assert_int_equal(errno, EBADF);
	vm.fd = -1;
	vm_free(&vm);
}

static int child_status(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int in_child(struct vm *parents)
{
	struct vm vm;

	if (ioctl(parents->fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != -1 || errno != EIO)
		return 1;
	if (ioctl(parents->vcpu, KVM_RUN, 0) != -1 || errno != EIO)
		return 2;
	if (ioctl(parents->sys, KVM_GET_API_VERSION, 0) != 12)
		return 3;
	vm_free(parents);
	if (vm_new(&vm, code_out, sizeof(code_out)) || !runs_to_out(&vm))
		return 4;
	vm_free(&vm);
	return 0;
}

static void forked_child(void **state)
{
	struct vm vm;
	pid_t pid;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	pid = fork();
	if (!pid)
		_exit(in_child(&vm));
	assert_int_equal(child_status(pid), 0);
	assert_true(runs_to_out(&vm));
	vm_free(&vm);
}

/* A child of vfork() closes its own descriptors in our memory. */
static void vforked_child(void **state)
{
	struct vm vm;
	pid_t pid;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	pid = vfork();
	if (!pid) {
		close(vm.vcpu);
		close_range(3, ~0u, 0);
		_exit(0);
	}
	assert_int_equal(child_status(pid), 0);
	assert_true(runs_to_out(&vm));
	vm_free(&vm);
}

static void executed_program(void **state)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "shim_client", "--one-vm", (char *)NULL);
		_exit(99);
	}
	assert_int_equal(child_status(pid), 0);
}

/* ---- Kicks ---- */

enum protocol { IMMEDIATE_EXIT, KVM_MASK, PLAIN };

struct kicked {
	struct vm vm;
	enum protocol protocol;
	pthread_t thread;
	_Atomic unsigned wanted, done;	/* kicks sent and answered */
	_Atomic unsigned stop;
	unsigned wrong;
};

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

	/* It began with the signal blocked. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (k->protocol != KVM_MASK)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!k->stop) {
		int ret = ioctl(k->vm.vcpu, KVM_RUN, 0);

		if (ret != -1 || errno != EINTR)
			k->wrong++;
		k->vm.run->immediate_exit = 0;
		if (k->protocol == KVM_MASK && sigtimedwait(&set, NULL, &none) != SIGUSR1)
			k->wrong++;	/* it had to stay pending */
		/* The flag first, then what it stands for: as every client must. */
		atomic_thread_fence(memory_order_seq_cst);
		k->done = k->wanted;
	}
	return NULL;
}

static void send_kicks(struct kicked *k, unsigned count)
{
	for (unsigned i = 1; i <= count && !k->wrong; i++) {
		k->wanted = i;
		pthread_kill(k->thread, SIGUSR1);
		for (unsigned ms = 0; k->done != i; ms++) {
			if (ms >= 20000)
				fail_msg("protocol %d: kick %u was lost", k->protocol, i);
			/* A plain signal just before KVM_RUN does not end it: clients repeat. */
			if (k->protocol == PLAIN && ms % 5 == 4)
				pthread_kill(k->thread, SIGUSR1);
			usleep(ms < 10 ? 20 : 1000);
		}
		if (rand() & 1)
			usleep((unsigned)rand() % 150);
	}
}

static void kick_test(enum protocol protocol, const unsigned char *code, size_t len, unsigned count)
{
	struct { struct kvm_signal_mask head; unsigned char set[8]; } mask = { .head.len = 8 };
	struct sigaction sa = { .sa_handler = on_kick, .sa_flags = SA_RESTART };
	struct kicked k = { .protocol = protocol };
	sigset_t set, old;

	assert_int_equal(vm_new(&k.vm, code, len), 0);
	handler_run = protocol == IMMEDIATE_EXIT ? k.vm.run : NULL;
	handled = 0;
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	if (protocol == KVM_MASK)
		assert_int_equal(ioctl(k.vm.vcpu, KVM_SET_SIGNAL_MASK, &mask), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	assert_int_equal(pthread_create(&k.thread, NULL, vcpu_thread, &k), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	send_kicks(&k, count);
	k.stop = 1;
	k.wanted = count + 1;
	while (k.done != count + 1) {
		pthread_kill(k.thread, SIGUSR1);
		usleep(1000);
	}
	pthread_join(k.thread, NULL);
	assert_int_equal(k.wrong, 0);
	if (protocol == KVM_MASK)
		assert_int_equal(handled, 0);
	else
		assert_true(handled >= count);
	handler_run = NULL;
	vm_free(&k.vm);
}

#define KICKS 2000

static void kicks_immediate_exit(void **state)
{
	kick_test(IMMEDIATE_EXIT, code_spin, sizeof(code_spin), KICKS);
	kick_test(IMMEDIATE_EXIT, code_halt, sizeof(code_halt), KICKS);
}

static void kicks_kvm_mask(void **state)
{
	kick_test(KVM_MASK, code_spin, sizeof(code_spin), KICKS / 10);
	kick_test(KVM_MASK, code_halt, sizeof(code_halt), KICKS / 10);
}

static void kicks_plain(void **state)
{
	kick_test(PLAIN, code_spin, sizeof(code_spin), KICKS);
	kick_test(PLAIN, code_halt, sizeof(code_halt), KICKS);
}

static void *run_until_cancelled(void *arg)
{
	struct vm *vm = arg;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	ioctl(vm->vcpu, KVM_RUN, 0);
	return NULL;
}

/* A thread that is cancelled in the guest or in a halt goes, and leaves a vCPU that works. */
static void cancelled_in_the_guest(void **state)
{
	static const struct { const unsigned char *code; size_t len; } rows[] = {
		{ code_spin, sizeof(code_spin) }, { code_halt, sizeof(code_halt) },
	};

	for (unsigned i = 0; i < 2; i++) {
		struct kvm_regs regs;
		pthread_t t;
		void *result;
		struct vm vm;

		assert_int_equal(vm_new(&vm, rows[i].code, rows[i].len), 0);
		pthread_create(&t, NULL, run_until_cancelled, &vm);
		usleep(20000);
		assert_int_equal(pthread_cancel(t), 0);
		pthread_join(t, &result);
		assert_ptr_equal(result, PTHREAD_CANCELED);
		assert_int_equal(ioctl(vm.vcpu, KVM_GET_REGS, &regs), 0);
		vm_free(&vm);
	}
}

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

/* ---- Memory faults ---- */

static sigjmp_buf recover;
static _Atomic int faults;
static volatile int *volatile nowhere = (int *)16;

static void on_fault(int sig, siginfo_t *info, void *uc)
{
	faults++;
	siglongjmp(recover, 1);
}

static void client_faults_and_ours(void **state)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, before, old;
	sigset_t all, mask;
	struct vm vm;

	assert_int_equal(vm_new(&vm, code_touch, sizeof(code_touch)), 0);
	vm.ram[0x8000] = 42;
	/* The client takes SIGSEGV after the fact; it gets its own faults, and only those. */
	assert_int_equal(sigaction(SIGSEGV, &sa, &before), 0);
	assert_int_equal(sigaction(SIGSEGV, NULL, &old), 0);
	assert_ptr_equal(old.sa_sigaction, on_fault);
	faults = 0;
	if (!sigsetjmp(recover, 1))
		*nowhere = 1;
	assert_int_equal(faults, 1);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	assert_int_equal(mprotect(vm.ram + 0x8000, 4096, PROT_NONE), 0);
	assert_int_equal(ioctl(vm.vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EFAULT);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	assert_int_equal(faults, 1);
	assert_int_equal(mprotect(vm.ram + 0x8000, 4096, PROT_READ | PROT_WRITE), 0);
	assert_true(runs_to_out(&vm));
	if (!sigsetjmp(recover, 1))
		*nowhere = 1;
	assert_int_equal(faults, 2);
	sigaction(SIGSEGV, &before, NULL);
	vm_free(&vm);
}

static void default_fault_still_kills(void **state)
{
	struct rlimit none = { 0 };
	int status;
	pid_t pid = fork();

	if (!pid) {
		int fd = open("/dev/kvm", O_RDWR);

		signal(SIGSEGV, SIG_DFL);
		setrlimit(RLIMIT_CORE, &none);
		*nowhere = fd;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static int vmx_in_cpuid(void)
{
	unsigned eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	return ecx >> 5 & 1;
}

static void *cpuid_thread(void *arg)
{
	*(int *)arg = vmx_in_cpuid();
	return NULL;
}

static void on_cpuid(int sig)
{
	handled = (unsigned)vmx_in_cpuid();
}

/* Where CPUID can be made to fault, VMX shows: in threads, with all blocked, in handlers. */
static void cpuid_tells_of_the_model(void **state)
{
	struct sigaction sa = { .sa_handler = on_cpuid };
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), in_thread = 0;
	sigset_t all, mask;
	pthread_t t;

	if (!vmx_in_cpuid()) {
		close(fd);
		skip();
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	assert_true(vmx_in_cpuid());
	pthread_create(&t, NULL, cpuid_thread, &in_thread);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	assert_true(in_thread);
	sigfillset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	handled = 0;
	raise(SIGUSR1);
	assert_int_equal(handled, 1);
	close(fd);
}

/* Guest memory moves while the VM has it mapped. */
static void moved_memory(void **state)
{
	struct vm vm;
	void *to;

	assert_int_equal(vm_new(&vm, code_touch, sizeof(code_touch)), 0);
	vm.ram[0x8000] = 42;
	to = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_equal(mremap(vm.ram + 0x8000, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	assert_int_equal(ioctl(vm.vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_ptr_equal(mremap(to, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, vm.ram + 0x8000),
			 vm.ram + 0x8000);
	assert_true(runs_to_out(&vm));
	vm_free(&vm);
}

/* Leaves the guest by a HLT every few milliseconds until @seconds are over, 20 times at least. */
static int halts(int seconds)
{
	const struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	struct sigaction sa = { .sa_handler = on_kick };
	time_t end = time(NULL) + seconds;
	struct vm vm;

	if (vm_new(&vm, code_halt, sizeof(code_halt)) || sigaction(SIGALRM, &sa, NULL) ||
	    setitimer(ITIMER_REAL, &often, NULL))
		return 99;
	for (unsigned i = 0; i < 20 || time(NULL) < end; i++) {
		struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

		if (ioctl(vm.vcpu, KVM_RUN, 0) != -1 || errno != EINTR)
			return 98;
		ioctl(vm.vcpu, KVM_SET_MP_STATE, &runnable);
	}
	return seconds;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_before_opening),
		cmocka_unit_test(duplicates),
		cmocka_unit_test(forked_child),
		cmocka_unit_test(vforked_child),
		cmocka_unit_test(executed_program),
		cmocka_unit_test(kicks_immediate_exit),
		cmocka_unit_test(kicks_kvm_mask),
		cmocka_unit_test(kicks_plain),
		cmocka_unit_test(cancelled_in_the_guest),
		cmocka_unit_test(halted_vcpu_sleeps),
		cmocka_unit_test(client_faults_and_ours),
		cmocka_unit_test(default_fault_still_kills),
		cmocka_unit_test(moved_memory),
		cmocka_unit_test(cpuid_tells_of_the_model),
	};
	struct vm vm;

	if (argc > 1 && !strcmp(argv[1], "--one-vm"))
		return vm_new(&vm, code_out, sizeof(code_out)) || !runs_to_out(&vm);
	if (argc > 2 && !strcmp(argv[1], "--halts"))
		return halts(atoi(argv[2]));
	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
