// SPDX-License-Identifier: MIT
/*
 * KVM's descriptors as descriptors: close-on-exec, poll and epoll, eventfds that
 * other processes hold, SCM_RIGHTS, and calls through syscall(2)'s libc function.
 * Replay: build/userkvm run -- build/tests/shim/shim_descriptors
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/shim/vm.h"

static void close_on_exec(void **state)
{
	struct vm vm;
	int plain, moved;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	/* KVM's own are always; /dev/kvm and duplicates as the caller says. */
	assert_int_equal(fcntl(vm.sys, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(vm.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(vm.vcpu, F_GETFD), FD_CLOEXEC);
	plain = open("/dev/kvm", O_RDWR);
	assert_int_equal(fcntl(plain, F_GETFD), 0);
	moved = dup(vm.fd);
	assert_int_equal(fcntl(moved, F_GETFD), 0);
	close(moved);
	moved = fcntl(vm.fd, F_DUPFD_CLOEXEC, 50);
	assert_int_equal(fcntl(moved, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(moved, F_SETFD, 0), 0);
	assert_int_equal(fcntl(moved, F_GETFD), 0);
	close(moved);
	moved = dup3(vm.fd, 60, O_CLOEXEC);
	assert_int_equal(fcntl(moved, F_GETFD), FD_CLOEXEC);
	close(moved);
	close(plain);
	vm_free(&vm);
}

static int doorbell(struct vm *vm)
{
	struct kvm_ioeventfd io = { .addr = 0x10, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };

	io.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(ioctl(vm->fd, KVM_IOEVENTFD, &io), 0);
	return io.fd;
}

static void polled(void **state)
{
	struct epoll_event e = { .events = EPOLLIN };
	struct pollfd p[3];
	struct vm vm;
	int bell, ep;
	eventfd_t n;

	/* OUT 0x10, AL rings; OUT 0x11, AL comes out. */
	static const unsigned char code[] = { 0xb0, 0x2a, 0xe6, 0x10, 0xe6, 0x11, 0xf4 };

	assert_int_equal(vm_new(&vm, code, sizeof(code)), 0);
	bell = doorbell(&vm);
	ep = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, bell, &e), 0);
	assert_int_equal(epoll_wait(ep, &e, 1, 0), 0);
	p[0] = (struct pollfd){ .fd = bell, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = vm.fd, .events = POLLERR };
	p[2] = (struct pollfd){ .fd = vm.vcpu, .events = POLLERR };
	assert_int_equal(poll(p, 3, 0), 0);
	assert_true(runs_to_out(&vm));
	assert_int_equal(vm.run->io.port, 0x11);
	assert_int_equal(poll(p, 3, 0), 1);
	assert_int_equal(p[0].revents, POLLIN);
	assert_int_equal(epoll_wait(ep, &e, 1, 0), 1);
	assert_int_equal(eventfd_read(bell, &n), 0);
	assert_int_equal(n, 1);
	close(ep);
	close(bell);
	vm_free(&vm);
}

static void send_fd(int socket, int fd)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } c = { 0 };
	struct iovec v = { (char *)"x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };

	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	c.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	assert_int_equal(sendmsg(socket, &m, 0), 1);
}

static int receive_fd(int socket)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } c = { 0 };
	char byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	int fd = -1;

	if (recvmsg(socket, &m, 0) == 1 && m.msg_controllen >= sizeof(c.h))
		memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	return fd;
}

/* As vhost-user: another process gets the doorbell and guest memory by a socket. */
static void served_by_another_process(void **state)
{
	int pair[2], bell, memory, status;
	struct kvm_userspace_memory_region r = { .slot = 1, .guest_phys_addr = 0x20000, .memory_size = 4096 };
	struct vm vm;
	pid_t pid;
	void *shared;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	bell = doorbell(&vm);
	memory = (int)syscall(SYS_memfd_create, "guest", 1u);
	assert_int_equal(ftruncate(memory, 4096), 0);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	r.userspace_addr = (__u64)shared;
	assert_int_equal(ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &r), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (!pid) {
		int b = receive_fd(pair[1]), m = receive_fd(pair[1]);
		struct pollfd p = { .fd = b, .events = POLLIN };
		char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);

		if (mapped == MAP_FAILED || poll(&p, 1, 20000) != 1)
			_exit(1);
		mapped[0] = 77;
		_exit(0);
	}
	send_fd(pair[0], bell);
	send_fd(pair[0], memory);
	/* To the HLT, where nothing wakes it; a signal ends that. */
	signal(SIGALRM, SIG_IGN);
	assert_int_equal(ioctl(vm.vcpu, KVM_CHECK_EXTENSION, 0), -1);
	vm.run->immediate_exit = 0;
	{
		struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

		assert_int_equal(ioctl(vm.vcpu, KVM_SET_GUEST_DEBUG, &d), 0);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(ioctl(vm.vcpu, KVM_RUN, 0), 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(*(char *)shared, 77);
	close(pair[0]);
	close(pair[1]);
	close(bell);
	vm_free(&vm);
	munmap(shared, 4096);
	close(memory);
}

/* ---- irqfd: it ends with the last descriptor of its eventfd, as KVM's does ---- */

#define COUNTER 0x3000u	/* of interrupts */

/*
 * Real mode: vector 0x20 at 0:0x80 counts at COUNTER. 8259s in their state of reset but for the
 * base vector and the mask; the GSI is a line of theirs.
 */
static const unsigned char code_count[] = {
	0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21,	/* ICW1, 2, 3 */
	0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xdf, 0xe6, 0x21,	/* ICW4; all but line 5 masked */
	0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,	/* INC word [COUNTER]: ready */
	0xfb, 0xf4, 0xeb, 0xfc,				/* STI; HLT; again */
};
static const unsigned char code_handler[] = {
	0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,	/* INC word [COUNTER] */
	0xb0, 0x20, 0xe6, 0x20, 0xcf,			/* OUT 0x20, EOI; IRET */
};

static void *run_vcpu(void *arg)
{
	struct vm *vm = arg;

	while (ioctl(vm->vcpu, KVM_RUN, 0) == 0 || (errno == EINTR && !vm->run->immediate_exit))
		;
	return NULL;
}

static void kicked(int sig)
{
}

struct counting {
	struct vm vm;
	pthread_t thread;
};

static unsigned interrupts(const struct counting *c)
{
	return *(volatile unsigned short *)(c->vm.ram + COUNTER);
}

static int more_interrupts(const struct counting *c, unsigned than, unsigned ms)
{
	for (unsigned i = 0; i < ms && interrupts(c) <= than; i++)
		usleep(1000);
	return interrupts(c) > than;
}

static void counting_new(struct counting *c)
{
	static const struct sigaction sa = { .sa_handler = kicked };

	assert_int_equal(vm_new(&c->vm, code_count, sizeof(code_count)), 0);
	memcpy(c->vm.ram + 0x800, code_handler, sizeof(code_handler));
	/* Vector 0x25, in a table that is where code begins, above which it does not reach. */
	memcpy(c->vm.ram + 0x25 * 4, "\x00\x08\x00\x00", 4);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&c->thread, NULL, run_vcpu, &c->vm);
	/* What comes before ICW1 is forgotten. */
	assert_true(more_interrupts(c, 0, 20000));
}

static void counting_free(struct counting *c)
{
	c->vm.run->immediate_exit = 1;
	pthread_kill(c->thread, SIGUSR1);
	pthread_join(c->thread, NULL);
	vm_free(&c->vm);
}

static int attach(struct counting *c, int fd, unsigned flags)
{
	struct kvm_irqfd f = { .fd = (unsigned)fd, .gsi = 5, .flags = flags };

	return ioctl(c->vm.fd, KVM_IRQFD, &f);
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void by_close(int fd) { assert_int_equal(close(fd), 0); }
static void by_syscall(int fd) { assert_int_equal(syscall(SYS_close, fd), 0); }
static void by_range(int fd) { assert_int_equal(close_range((unsigned)fd, (unsigned)fd, 0), 0); }

static void by_dup2(int fd)
{
	assert_int_equal(dup2(STDIN_FILENO, fd), fd);
	close(fd);
}

static void by_dup3(int fd)
{
	assert_int_equal(dup3(STDIN_FILENO, fd, O_CLOEXEC), fd);
	close(fd);
}

static void by_syscall_dup2(int fd)
{
	assert_int_equal(syscall(SYS_dup2, STDIN_FILENO, fd), fd);
	close(fd);
}

static void irqfd_ends_with_its_eventfd(void **state)
{
	static void (*const ways[])(int) = { by_close, by_syscall, by_range, by_dup2, by_dup3, by_syscall_dup2 };
	struct counting c;
	unsigned before;
	int first, last;

	counting_new(&c);
	/* The first makes a thread with descriptors of its own. */
	first = eventfd(0, 0);
	assert_int_equal(attach(&c, first, 0), 0);
	assert_int_equal(attach(&c, first, KVM_IRQFD_FLAG_DEASSIGN), 0);
	close(first);
	before = descriptors();
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		unsigned n = interrupts(&c);

		first = eventfd(0, 0);
		last = i % 2 ? dup(first) : fcntl(first, F_DUPFD_CLOEXEC, 90);
		assert_int_equal(attach(&c, first, 0), 0);
		ways[i](first);
		/* A duplicate is left: attached. */
		assert_int_equal(eventfd_write(last, 1), 0);
		assert_true(more_interrupts(&c, n, 20000));
		assert_int_equal(attach(&c, last, 0), -1);
		assert_int_equal(errno, EBUSY);
		ways[i](last);
		assert_int_equal(descriptors(), before);
	}
	counting_free(&c);
}

/* The program has closed it, another process rings on. */
static void irqfd_of_another_process(void **state)
{
	int pair[2], fd = eventfd(0, 0), status;
	struct counting c;
	pid_t pid;

	counting_new(&c);
	assert_int_equal(attach(&c, fd, 0), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (!pid) {
		int got = receive_fd(pair[1]);
		char byte;

		close_range(0, (unsigned)pair[1] - 1, 0);
		while (got >= 0 && read(pair[1], &byte, 1) == 1)
			eventfd_write(got, 1);
		_exit(got < 0);
	}
	close(pair[1]);
	send_fd(pair[0], fd);
	close(fd);
	for (unsigned i = 0; i < 3; i++) {
		unsigned n = interrupts(&c);

		assert_int_equal(write(pair[0], "x", 1), 1);
		assert_true(more_interrupts(&c, n, 20000));
	}
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	counting_free(&c);
}

static void *close_while_cancelled(void *arg)
{
	pthread_cancel(pthread_self());
	close(*(int *)arg);
	pthread_testcancel();
	return NULL;
}

/* A thread that is to end closes whole files, not halves. */
static void closed_by_a_cancelled_thread(void **state)
{
	unsigned before = descriptors();
	void *result;
	pthread_t t;
	struct vm vm;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	munmap(vm.run, RUN_BYTES);
	close(vm.vcpu);
	pthread_create(&t, NULL, close_while_cancelled, &vm.fd);
	pthread_join(t, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_int_equal(close(vm.fd), -1);
	close(vm.sys);
	assert_int_equal(descriptors(), before);
	munmap(vm.ram, RAM);
}

/* A VM's descriptor that comes by a socket is a descriptor without a VM: refused, and harmless. */
static void passed_vm(void **state)
{
	int pair[2], got;
	struct vm vm;

	assert_int_equal(vm_new(&vm, code_out, sizeof(code_out)), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	send_fd(pair[0], vm.fd);
	got = receive_fd(pair[1]);
	assert_true(got >= 0 && got != vm.fd);
	assert_int_equal(ioctl(got, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(close(got), 0);
	assert_true(runs_to_out(&vm));
	close(pair[0]);
	close(pair[1]);
	vm_free(&vm);
}

static void through_syscall(void **state)
{
	long fd = syscall(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;
	int status;
	pid_t pid;
	void *run;

	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_ioctl, fd, KVM_GET_API_VERSION, 0), 12);
	vm = syscall(SYS_ioctl, fd, KVM_CREATE_VM, 0);
	vcpu = syscall(SYS_ioctl, vm, KVM_CREATE_VCPU, 0);
	assert_true(vm >= 0 && vcpu >= 0);
	run = (void *)syscall(SYS_mmap, NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	assert_true(run != MAP_FAILED);
	assert_int_equal(syscall(SYS_munmap, run, RUN_BYTES), 0);
	assert_int_equal(syscall(SYS_close, vcpu), 0);
	errno = 0;
	assert_int_equal(syscall(SYS_ioctl, vcpu, KVM_RUN, 0), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(syscall(SYS_close, vm), 0);
	assert_int_equal(syscall(SYS_close, fd), 0);
	/* What is not about files passes through, with its arguments, errors and odd returns. */
	assert_int_equal(syscall(SYS_gettid), gettid());
	assert_int_equal(syscall(SYS_openat, AT_FDCWD, "/nonexistent", O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(syscall(100000), -1);
	assert_int_equal(errno, ENOSYS);
	pid = (pid_t)syscall(SYS_fork);
	if (!pid)
		syscall(SYS_exit_group, 3);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_on_exec),
		cmocka_unit_test(polled),
		cmocka_unit_test(served_by_another_process),
		cmocka_unit_test(irqfd_ends_with_its_eventfd),
		cmocka_unit_test(irqfd_of_another_process),
		cmocka_unit_test(closed_by_a_cancelled_thread),
		cmocka_unit_test(passed_vm),
		cmocka_unit_test(through_syscall),
	};

	return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
