// SPDX-License-Identifier: MIT
/* irqfd and ioeventfd through real eventfds. */
#include <dirent.h>
#include <errno.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm/host_time.h"
#include "kvm/x86/irq/lapic.h"
#include "kvm/x86/irq/test_vm.h"

struct fixture {
	struct hv_vm *vm;
	struct hv_vcpu *v;
	int e[3];
};

static int setup(void **state)
{
	static struct fixture f;
	const struct kvm_irq_routing_entry routes[] = {
		{ .gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 5 } },
		{ .gsi = 24, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = 0x51 } },
		{ .gsi = 25, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = 0x52 } },
	};

	f.vm = test_vm_new();
	assert_int_equal(hv_irqchip_create(f.vm), 0);
	f.v = test_vcpu_new(f.vm, 0);
	lapic_write_reg(f.v->lapic, APIC_SVR, 0x1ff);
	assert_int_equal(hv_set_gsi_routing(f.vm, routes, 3, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		f.e[i] = eventfd(0, i == 1 ? EFD_NONBLOCK : 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	test_vm_free(f->vm);
	for (unsigned i = 0; i < 3; i++)
		close(f->e[i]);
	return 0;
}

static int irqfd(struct hv_vm *vm, int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd f = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	return hv_irqfd(vm, &f);
}

static void add(int fd, u64 n)
{
	assert_int_equal(write(fd, &n, 8), 8);
}

/* The count, or 0. */
static u64 take(int fd)
{
	struct iovec io;
	u64 n = 0;

	io = (struct iovec){ &n, 8 };
	return preadv2(fd, &io, 1, -1, RWF_NOWAIT) == 8 ? n : 0;
}

static int wait_vector(struct hv_vcpu *v, unsigned ms)
{
	for (unsigned i = 0; i < ms * 10; i++) {
		int vec = hv_irq_ack(v);

		if (vec >= 0)
			return vec;
		usleep(100);
	}
	return -1;
}

static void eoi(struct hv_vcpu *v)
{
	lapic_write_reg(v->lapic, APIC_EOI, 0);
}

static void errors(void **state)
{
	struct fixture *f = *state;
	struct hv_vm *none = test_vm_new(), *split = test_vm_new();
	int file = dup(0), copy = dup(f->e[0]);

	assert_int_equal(hv_irqchip_split(split, 24), 0);
	assert_int_equal(irqfd(none, f->e[0], 24, 0, 0), -EINVAL);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, 4, 0), -EINVAL);
	assert_int_equal(irqfd(f->vm, -1, 24, 0, 0), -EBADF);
	assert_int_equal(irqfd(f->vm, 9999, 24, 0, 0), -EBADF);
	assert_int_equal(irqfd(f->vm, file, 24, 0, 0), -EINVAL);
	assert_int_equal(irqfd(split, f->e[0], 24, KVM_IRQFD_FLAG_RESAMPLE, f->e[1]), -EINVAL);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, KVM_IRQFD_FLAG_RESAMPLE, file), -EINVAL);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, KVM_IRQFD_FLAG_RESAMPLE, -1), -EBADF);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, 0, 0), 0);
	/* The same eventfd, whatever its number and the GSI. */
	assert_int_equal(irqfd(f->vm, copy, 25, 0, 0), -EBUSY);
	assert_int_equal(irqfd(f->vm, f->e[1], 24, 0, 0), 0);
	/* Deassign names eventfd and GSI; nothing there is no error. */
	assert_int_equal(irqfd(f->vm, copy, 25, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(irqfd(f->vm, copy, 25, 0, 0), -EBUSY);
	assert_int_equal(irqfd(f->vm, copy, 24, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(irqfd(f->vm, copy, 25, 0, 0), 0);
	close(file);
	close(copy);
	test_vm_free(none);
	test_vm_free(split);
}

static void interrupts(void **state)
{
	struct fixture *f = *state;
	const struct kvm_irq_routing_entry moved = {
		.gsi = 24,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = 0xfee00000, .data = 0x71},
	};
	u64 start;

	/* Readable already: at once. */
	add(f->e[0], 3);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, 0, 0), 0);
	assert_int_equal(hv_irq_ack(f->v), 0x51);
	eoi(f->v);
	assert_int_equal(take(f->e[0]), 0);
	assert_int_equal(irqfd(f->vm, f->e[1], 25, 0, 0), 0);
	start = hv_host_ns();
	add(f->e[1], 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x52);
	print_message("# irqfd: %llu us\n", (unsigned long long)(hv_host_ns() - start) / 1000);
	eoi(f->v);
	/* Rerouted under it. */
	assert_int_equal(hv_set_gsi_routing(f->vm, &moved, 1, 0), 0);
	add(f->e[0], 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x71);
	eoi(f->v);
	/* No route: the count is consumed. */
	add(f->e[1], 1);
	for (unsigned i = 0; i < 5000 && take(f->e[1]); i++) {
		add(f->e[1], 1);
		usleep(1000);
	}
	assert_int_equal(take(f->e[1]), 0);
	/* Gone: the count stays. */
	assert_int_equal(irqfd(f->vm, f->e[0], 24, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	add(f->e[0], 1);
	assert_int_equal(wait_vector(f->v, 20), -1);
	assert_int_equal(take(f->e[0]), 1);
}

/* ---- The program's last close ---- */

/* How many this process has, those that we keep included. */
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

static void close_plainly(int fd) { assert_int_equal(vfs_close(fd), 0); }
static void close_a_range(int fd) { assert_int_equal(vfs_close_range((unsigned)fd, (unsigned)fd, 0), 0); }

static void put_another_there(int fd)
{
	assert_int_equal(vfs_dup_to(STDIN_FILENO, fd, 0), fd);
	close(fd);
}

static void detaches_at_the_last_close(void **state)
{
	static void (*const ways[])(int) = { close_plainly, close_a_range, put_another_there };
	struct fixture *f = *state;
	unsigned before;

	/* What the first one makes for all. */
	assert_int_equal(irqfd(f->vm, f->e[0], 24, 0, 0), 0);
	before = descriptors();
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		int first = eventfd(0, 0), last = dup(first);

		assert_int_equal(irqfd(f->vm, first, 25, 0, 0), 0);
		ways[i](first);
		/* One is left: as ever, and the count is taken. */
		assert_int_equal(descriptors(), before + 2);
		add(last, 1);
		assert_int_equal(wait_vector(f->v, 5000), 0x52);
		eoi(f->v);
		assert_int_equal(take(last), 0);
		assert_int_equal(irqfd(f->vm, last, 24, 0, 0), -EBUSY);
		ways[(i + 1) % ARRAY_SIZE(ways)](last);
		assert_int_equal(descriptors(), before);
	}
	/* The number that was watched is somebody else's by now. */
	close_plainly(eventfd(0, 0));
	add(f->e[0], 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x51);
}

/* Refused calls, and those that close nothing. */
static void stays_attached(void **state)
{
	struct fixture *f = *state;
	int fd = eventfd(0, 0);

	assert_int_equal(irqfd(f->vm, fd, 24, 0, 0), 0);
	assert_int_equal(vfs_close_range((unsigned)fd, (unsigned)fd, 8), -EINVAL);
	assert_int_equal(vfs_close_range((unsigned)fd, (unsigned)fd, CLOSE_RANGE_CLOEXEC), 0);
	assert_int_equal(vfs_dup_to(9999, fd, 0), -EBADF);
	assert_int_equal(vfs_dup_to(fd, fd, 0), fd);
	add(fd, 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x51);
	assert_int_equal(take(fd), 0);
	vfs_close(fd);
}

static void another_process_has_it(void **state)
{
	struct fixture *f = *state;
	int fd = eventfd(0, 0), go[2], status;
	unsigned before = descriptors();
	char c;
	pid_t pid;

	assert_int_equal(irqfd(f->vm, f->e[0], 24, 0, 0), 0);
	assert_int_equal(irqfd(f->vm, fd, 25, 0, 0), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (!pid) {
		close(go[1]);
		while (read(go[0], &c, 1) == 1)
			(void)!write(fd, &(u64){ 1 }, 8);
		_exit(0);
	}
	close(go[0]);
	before = descriptors();
	vfs_close(fd);
	assert_int_equal(descriptors(), before - 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(write(go[1], "x", 1), 1);
		assert_int_equal(wait_vector(f->v, 5000), 0x52);
		eoi(f->v);
		assert_int_equal(wait_vector(f->v, 5), -1);
	}
	close(go[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Nobody tells of that, but whoever comes next looks. */
	assert_int_equal(irqfd(f->vm, f->e[0], 25, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(descriptors(), before - 3);
}

/* In the queue of a socket meanwhile. */
static void comes_back(void **state)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } c = { 0 };
	char byte = 0;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	struct fixture *f = *state;
	int fd = eventfd(0, 0), pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(irqfd(f->vm, fd, 25, 0, 0), 0);
	c.h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	assert_int_equal(sendmsg(pair[0], &m, 0), 1);
	/* What was written just before is not lost. */
	add(fd, 1);
	vfs_close(fd);
	assert_int_equal(wait_vector(f->v, 5000), 0x52);
	eoi(f->v);
	assert_int_equal(recvmsg(pair[1], &m, 0), 1);
	memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	assert_int_equal(irqfd(f->vm, fd, 24, 0, 0), -EBUSY);
	for (unsigned i = 1; i <= 3; i++) {
		add(fd, 1);
		assert_int_equal(wait_vector(f->v, 5000), 0x52);
		eoi(f->v);
	}
	assert_int_equal(take(fd), 3);
	assert_int_equal(irqfd(f->vm, fd, 25, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	add(fd, 1);
	assert_int_equal(wait_vector(f->v, 20), -1);
	assert_int_equal(irqfd(f->vm, fd, 24, 0, 0), 0);
	assert_int_equal(wait_vector(f->v, 5000), 0x51);
	assert_int_equal(take(fd), 0);
	vfs_close(fd);
	close(pair[0]);
	close(pair[1]);
}

static void close_lowers_the_line(void **state)
{
	struct fixture *f = *state;
	int fd = eventfd(0, 0);

	test_mmio_write(f->v, 0xfec00000, 0x10 + 2 * 5);
	test_mmio_write(f->v, 0xfec00010, 0x8061);
	assert_int_equal(irqfd(f->vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, f->e[1]), 0);
	add(fd, 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x61);
	vfs_close(fd);
	eoi(f->v);
	assert_int_equal(hv_irq_ack(f->v), -1);
	assert_int_equal(take(f->e[1]), 0);
}

static void resample(void **state)
{
	struct fixture *f = *state;
	int extra = eventfd(0, 0);

	test_mmio_write(f->v, 0xfec00000, 0x10 + 2 * 5);
	test_mmio_write(f->v, 0xfec00010, 0x8061);
	assert_int_equal(irqfd(f->vm, f->e[0], 5, KVM_IRQFD_FLAG_RESAMPLE, f->e[1]), 0);
	assert_int_equal(irqfd(f->vm, extra, 5, KVM_IRQFD_FLAG_RESAMPLE, f->e[2]), 0);
	add(f->e[0], 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x61);
	assert_int_equal(take(f->e[1]), 0);
	/* The EOI lowers the line and tells both. */
	eoi(f->v);
	assert_int_equal(take(f->e[1]), 1);
	assert_int_equal(take(f->e[2]), 1);
	assert_int_equal(hv_irq_ack(f->v), -1);
	/* The device asserts again; the interrupt comes again. */
	add(extra, 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x61);
	eoi(f->v);
	assert_int_equal(take(f->e[1]), 1);
	/* Removing the last one while its line is high lowers it. */
	add(f->e[0], 1);
	assert_int_equal(wait_vector(f->v, 5000), 0x61);
	assert_int_equal(irqfd(f->vm, f->e[0], 5, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(irqfd(f->vm, extra, 5, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
	eoi(f->v);
	assert_int_equal(hv_irq_ack(f->v), -1);
	close(extra);
}

/* ---- ioeventfd ---- */

static int ioev(struct hv_vm *vm, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd f = {
		.fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match};

	return hv_ioeventfd(vm, &f);
}

#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO KVM_IOEVENTFD_FLAG_PIO
#define DEASSIGN KVM_IOEVENTFD_FLAG_DEASSIGN

static void ioeventfd_errors(void **state)
{
	struct fixture *f = *state;
	int copy = dup(f->e[0]), file = dup(0);
	static const struct { u64 addr; u32 len, flags; u64 match; int err; } rows[] = {
		{ 0x1000, 3, 0, 0, -EINVAL }, { 0x1000, 16, 0, 0, -EINVAL }, { 0x1000, 5, 0, 0, -EINVAL },
		{ 0x1000, 4, 8, 0, -EINVAL }, { 0x1000, 0, MATCH, 0, -EINVAL }, { ~0ull, 2, 0, 0, -EINVAL },
		{ 0x1000, 4, DEASSIGN, 0, -ENOENT },
		{ 0x1000, 4, MATCH, 1, 0 }, { 0x1000, 4, MATCH, 2, 0 }, { 0x1000, 4, MATCH, 1, -EEXIST },
		{ 0x1000, 4, 0, 0, -EEXIST }, { 0x1000, 0, 0, 0, -EEXIST }, { 0x1000, 2, MATCH, 1, 0 },
		{ 0x1000, 4, PIO | MATCH, 1, 0 }, { 0x2000, 0, 0, 0, 0 }, { 0x2000, 4, MATCH, 1, -EEXIST },
		{ 0x1000, 4, DEASSIGN, 1, -ENOENT }, { 0x1000, 2, DEASSIGN | MATCH, 2, -ENOENT },
		{ 0x1000, 4, DEASSIGN | MATCH, 1, 0 }, { 0x1000, 4, DEASSIGN | MATCH, 1, -ENOENT },
		{ 0x2000, 0, DEASSIGN, 0, 0 }, { 0x2000, 0, 0, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = ioev(f->vm, i % 2 ? copy : f->e[0], rows[i].addr, rows[i].len,
			     rows[i].flags, rows[i].match);

		if (r != rows[i].err)
			print_error("row %u\n", i);
		assert_int_equal(r, rows[i].err);
	}
	assert_int_equal(ioev(f->vm, 9999, 0x5000, 4, 0, 0), -EBADF);
	assert_int_equal(ioev(f->vm, file, 0x5000, 4, 0, 0), -EINVAL);
	assert_int_equal(ioev(f->vm, f->e[1], 0x1000, 4, DEASSIGN | MATCH, 2), -ENOENT);
	close(copy);
	close(file);
}

static int wr(struct hv_vcpu *v, enum hv_bus bus, u64 addr, unsigned len, u64 val)
{
	return hv_iobus_write(v, bus, addr, len, &val);
}

static void ioeventfd_hits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ioev(f->vm, f->e[0], 0xc050, 2, PIO | MATCH, 7), 0);
	assert_int_equal(ioev(f->vm, f->e[1], 0xc050, 2, PIO | MATCH, 8), 0);
	assert_int_equal(ioev(f->vm, f->e[2], 0xfe000000, 0, 0, 0), 0);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 2, 7), 0);
	assert_int_equal(take(f->e[0]), 1);
	assert_int_equal(take(f->e[1]), 0);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 2, 8), 0);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 2, 8), 0);
	assert_int_equal(take(f->e[1]), 2);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 2, 9), -EOPNOTSUPP);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 4, 7), -EOPNOTSUPP);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc050, 1, 7), -EOPNOTSUPP);
	assert_int_equal(wr(f->v, HV_BUS_PIO, 0xc051, 1, 7), -EOPNOTSUPP);
	assert_int_equal(wr(f->v, HV_BUS_MMIO, 0xc050, 2, 7), -EOPNOTSUPP);
	/* Length 0: any width, and by address alone. */
	for (unsigned len = 1; len <= 8; len *= 2)
		assert_int_equal(wr(f->v, HV_BUS_MMIO, 0xfe000000, len, 0x123), 0);
	assert_int_equal(wr(f->v, HV_BUS_FAST_MMIO, 0xfe000000, 0, 0), 0);
	assert_int_equal(take(f->e[2]), 5);
	assert_int_equal(wr(f->v, HV_BUS_FAST_MMIO, 0xfe000004, 0, 0), -EOPNOTSUPP);
	assert_int_equal(ioev(f->vm, f->e[2], 0xfe000000, 0, DEASSIGN, 0), 0);
	assert_int_equal(wr(f->v, HV_BUS_FAST_MMIO, 0xfe000000, 0, 0), -EOPNOTSUPP);
	assert_int_equal(wr(f->v, HV_BUS_MMIO, 0xfe000000, 4, 0), -EOPNOTSUPP);
}

/* ---- Everything at once: for the thread sanitizer ---- */

struct stress {
	struct fixture *f;
	_Atomic bool stop;
	unsigned seen;
};

static void *vcpu_main(void *arg)
{
	struct stress *s = arg;
	struct hv_vcpu *v = s->f->v;

	while (!atomic_load(&s->stop)) {
		if (hv_irq_ack(v) >= 0) {
			s->seen++;
			eoi(v);
		}
		wr(v, HV_BUS_PIO, 0xc050, 2, 7);
		take(s->f->e[2]);
	}
	return NULL;
}

static void *router_main(void *arg)
{
	struct stress *s = arg;
	struct kvm_irq_routing_entry e[2] = {
		{ .gsi = 24, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = 0x51 } },
		{ .gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 5 } },
	};

	for (unsigned i = 0; !atomic_load(&s->stop); i++) {
		e[0].u.msi.data = 0x51 + i % 16;
		assert_int_equal(hv_set_gsi_routing(s->f->vm, e, 2, 0), 0);
		irqfd(s->f->vm, s->f->e[1], 24, i % 2 ? KVM_IRQFD_FLAG_DEASSIGN : 0, 0);
		ioev(s->f->vm, s->f->e[2], 0xc050, 2, PIO | (i % 2 ? DEASSIGN : 0), 0);
		hv_irq_line(s->f->vm, 5, i & 1, HV_IRQ_USER);
		if (i % 8 == 0) {
			int fd = eventfd(0, 0);

			assert_int_equal(irqfd(s->f->vm, fd, 24, 0, 0), 0);
			add(fd, 1);
			vfs_close(fd);
		}
		usleep(50);
	}
	return NULL;
}

static void concurrent(void **state)
{
	struct fixture *f = *state;
	struct stress s = { .f = f };
	pthread_t vcpu, router;

	test_mmio_write(f->v, 0xfec00000, 0x10 + 2 * 5);
	test_mmio_write(f->v, 0xfec00010, 0x8061);
	assert_int_equal(irqfd(f->vm, f->e[0], 24, 0, 0), 0);
	assert_int_equal(pthread_create(&vcpu, NULL, vcpu_main, &s), 0);
	assert_int_equal(pthread_create(&router, NULL, router_main, &s), 0);
	for (unsigned i = 0; i < 500; i++) {
		add(f->e[0], 1);
		usleep(100);
	}
	atomic_store(&s.stop, true);
	pthread_join(router, NULL);
	pthread_join(vcpu, NULL);
	assert_true(s.seen > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(errors),
		T(interrupts),
		T(detaches_at_the_last_close),
		T(stays_attached),
		T(another_process_has_it),
		T(comes_back),
		T(close_lowers_the_line),
		T(resample),
		T(ioeventfd_errors),
		T(ioeventfd_hits),
		T(concurrent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
