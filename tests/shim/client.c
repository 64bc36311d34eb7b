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

#include "tests/shim/vm.h"

/* MOV AL, [8000]; OUT 0x10, AL; HLT */
static const unsigned char code_touch[] = { 0xa0, 0x00, 0x80, 0xe6, 0x10, 0xf4 };

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

static _Atomic unsigned handled;

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

static void on_alarm(int sig)
{
}

/* Leaves the guest by a HLT every few milliseconds until @seconds are over, 20 times at least. */
static int halts(int seconds)
{
	const struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	struct sigaction sa = { .sa_handler = on_alarm };
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

/* Fetches where no memory is: nobody can emulate that. */
static int fails(void)
{
	static const unsigned char jump[] = { 0xea, 0x34, 0x12, 0x00, 0xf0 };
	struct vm vm;

	return vm_new(&vm, jump, sizeof(jump)) || ioctl(vm.vcpu, KVM_RUN, 0) ||
	       vm.run->exit_reason != KVM_EXIT_INTERNAL_ERROR ||
	       vm.run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_before_opening),
		cmocka_unit_test(duplicates),
		cmocka_unit_test(forked_child),
		cmocka_unit_test(vforked_child),
		cmocka_unit_test(executed_program),
		cmocka_unit_test(cancelled_in_the_guest),
		cmocka_unit_test(client_faults_and_ours),
		cmocka_unit_test(default_fault_still_kills),
		cmocka_unit_test(moved_memory),
		cmocka_unit_test(cpuid_tells_of_the_model),
	};
	struct vm vm;

	if (argc > 1 && !strcmp(argv[1], "--one-vm"))
		return vm_new(&vm, code_out, sizeof(code_out)) || !runs_to_out(&vm);
	if (argc > 1 && !strcmp(argv[1], "--fails"))
		return fails();
	if (argc > 2 && !strcmp(argv[1], "--halts"))
		return halts(atoi(argv[2]));
	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
