// SPDX-License-Identifier: MIT
/*
 * VDUSE's nodes as a daemon's process sees them: the calls of vfs/ on one
 * side, the hub in a thread on the other. Bad pointers, readiness, memory of
 * the daemon's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "tests/vdpa/daemon.h"
#include "vdpa/client/nodes.h"
#include "vdpa/client/vduse.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse.h"
#include "vdpa/vduse/vduse.h"
#include "vfs/vfs.h"

#define BAD ((unsigned long)4096)	/* never mapped */
#define BOUNCE (4u << 20)	/* below the usual RLIMIT_MEMLOCK */

static int control, dev;
static struct vdpa_device *bus_dev;

static void create(const char *name, unsigned vqs)
{
	struct vduse_dev_config c = {.device_id = 2, .features = BIT(33) | BIT(32), .vq_num = vqs, .vq_align = 4096};

	strcpy(c.name, name);
	assert_int_equal(vfs_ioctl(control, VDUSE_CREATE_DEV, (unsigned long)&c), 0);
}

static long destroy(const char *name)
{
	char arg[VDUSE_NAME_MAX] = "";

	strcpy(arg, name);
	return vfs_ioctl(control, VDUSE_DESTROY_DEV, (unsigned long)arg);
}

/* Created, open, one queue set up, on the bus. */
static void up(void)
{
	struct vduse_vq_config q = {.max_size = 64};

	create("x", 1);
	assert_int_equal(vduse_set_bounce_size("x", BOUNCE + 100), 0);
	dev = vfs_open("/dev/vduse/x", O_RDWR);
	assert_true(dev >= 0);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP, (unsigned long)&q), 0);
	assert_int_equal(attach("x"), 0);
	assert_int_equal(vduse_set_bounce_size("x", BOUNCE), -EPERM);
	bus_dev = vdpa_find("x");
}

static void down(void)
{
	vdpa_put(bus_dev);
	assert_int_equal(vdpa_delete("x"), 0);
	assert_int_equal(vfs_close(dev), 0);
	assert_int_equal(destroy("x"), 0);
	assert_int_equal(vduse_count(), 0);
}

static void control_node(void **state)
{
	u8 arg[sizeof(struct vduse_dev_config) + 64] = { 0 };
	struct vduse_dev_config *c = (void *)arg;
	u8 *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pollfd p = {.fd = control, .events = POLLIN | POLLOUT};
	u32 seconds;
	u64 v = 1;

	assert_int_equal(vfs_ioctl(control, VDUSE_GET_API_VERSION, (unsigned long)&v), 0);
	assert_int_equal(v, 0);
	v = 2;
	assert_int_equal(vfs_ioctl(control, VDUSE_SET_API_VERSION, (unsigned long)&v), -EINVAL);
	assert_int_equal(vfs_ioctl(control, VDUSE_GET_API_VERSION, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(control, VDUSE_SET_API_VERSION, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(control, VDUSE_CREATE_DEV, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(control, VDUSE_DESTROY_DEV, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(control, 0x8144, BAD), -EINVAL);
	assert_int_equal(vfs_read(control, &v, sizeof(v)), -EINVAL);
	assert_int_equal(vfs_write(control, &v, sizeof(v)), -EINVAL);
	assert_int_equal(poll(&p, 1, 0), 1);

	/* The configuration space cannot be read: after the struct's own refusals. */
	munmap(edge + 4096, 4096);
	c->device_id = 2;
	c->features = BIT(33);
	c->vq_num = 1;
	c->vq_align = 4096;
	c->config_size = 60;
	memcpy(c->name, "x", 2);
	memcpy(edge + 4096 - sizeof(*c), c, sizeof(*c));
	assert_int_equal(vfs_ioctl(control, VDUSE_CREATE_DEV, (unsigned long)edge + 4096 - sizeof(*c)), -EFAULT);
	c->vq_align = 4097;
	memcpy(edge + 4096 - sizeof(*c), c, sizeof(*c));
	assert_int_equal(vfs_ioctl(control, VDUSE_CREATE_DEV, (unsigned long)edge + 4096 - sizeof(*c)), -EINVAL);
	munmap(edge, 4096);
	assert_int_equal(vduse_count(), 0);

	assert_int_equal(vfs_open("/dev/vduse/nobody", O_RDWR), -ENODEV);
	assert_int_equal(destroy("nobody"), -EINVAL);
	create("x", 1);
	create("y", 0);
	assert_int_equal(vduse_set_bounce_size("y", (1 << 20) - 1), -EINVAL);
	assert_int_equal(vduse_set_bounce_size("y", (1ull << 30) + 1), -EINVAL);
	assert_int_equal(vduse_set_bounce_size("y", 1ull << 30), 0);
	assert_int_equal(vduse_set_bounce_size("z", 1 << 20), -ENODEV);
	assert_int_equal(vduse_client_set_bounce("y", 1 << 20), 0);
	assert_int_equal(vduse_client_set_timeout("y", 7), 0);
	assert_int_equal(vduse_client_get_timeout("y", &seconds), 0);
	assert_int_equal(seconds, 7);
	assert_int_equal(vduse_client_set_timeout("z", 7), -ENODEV);
	assert_int_equal(destroy("x"), 0);
	assert_int_equal(destroy("y"), 0);
}

/* close() and what needs it, in a row: the hub hears of it in order. */
static void close_then_destroy(void **state)
{
	for (unsigned i = 0; i < 200; i++) {
		int fd;

		create("x", 1);
		fd = vfs_open("/dev/vduse/x", O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(vfs_open("/dev/vduse/x", O_RDWR), -EBUSY);
		vfs_close(fd);
		fd = vfs_open("/dev/vduse/x", O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(destroy("x"), -EBUSY);
		vfs_close(fd);
		assert_int_equal(destroy("x"), 0);
	}
}

static void bad_arguments(void **state)
{
	struct vduse_vq_eventfd e = {.index = 1, .fd = 999};
	u32 q = 1;

	up();
	assert_int_equal(vfs_ioctl(dev, VDUSE_DEV_GET_FEATURES, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_GET_FD, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_GET_INFO, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP_KICKFD, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_DEV_SET_CONFIG, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_DEREG_UMEM, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_GET_INFO, BAD), -EFAULT);
	assert_int_equal(vfs_ioctl(dev, 0x8144, BAD), -ENOTTY);
	/* The index comes before the descriptor. */
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP_KICKFD, (unsigned long)&e), -EINVAL);
	e.index = 0;
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP_KICKFD, (unsigned long)&e), -EBADF);
	e.fd = control;
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_SETUP_KICKFD, (unsigned long)&e), -EINVAL);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, (unsigned long)&q), -EINVAL);
	down();
}

static void *status_thread(void *arg)
{
	vdpa_set_status(bus_dev, *(u8 *)arg);
	return NULL;
}

static int uring_poll(int fd)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 2, &p), res = -1;
	struct io_uring_sqe *sqe;
	u8 *sq, *cq;

	if (ring < 0)
		return -ENOSYS;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = fd;
	sqe->poll32_events = POLLIN;
	*(u32 *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((u32 *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1)
		res = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;
	close(ring);
	return res;
}

static _Atomic int read_result;

static void *blocking_read(void *arg)
{
	u8 buf[152];

	atomic_store(&read_result, (int)vfs_read(dev, buf, sizeof(buf)));
	return arg;
}

static void nothing(int sig)
{
}

/* G.A 6, 12: a device whose daemon did not answer says so for good, and gives nothing to read. */
static void broken_node(void **state)
{
	struct pollfd p = {.events = POLLIN | POLLOUT};
	u8 buf[152] = { 0 }, status = 1;
	pthread_t t, r;

	up();
	p.fd = dev;
	assert_int_equal(vduse_set_msg_timeout("x", 1), 0);
	/* One message is read and not answered, which is what breaks it. */
	pthread_create(&r, NULL, blocking_read, NULL);
	pthread_create(&t, NULL, status_thread, &status);
	pthread_join(t, NULL);
	pthread_join(r, NULL);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_int_equal(p.revents, POLLERR);
		fcntl(dev, F_SETFL, O_NONBLOCK);
		assert_int_equal(vfs_read(dev, buf, sizeof(buf)), -EAGAIN);
		assert_int_equal(vfs_write(dev, buf, sizeof(buf)), -ENOENT);
	}
	/* A blocking read ends by a signal only, and leaves the error to be seen. */
	fcntl(dev, F_SETFL, 0);
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nothing}, NULL);
	atomic_store(&read_result, 0);
	pthread_create(&r, NULL, blocking_read, NULL);
	usleep(100000);
	assert_int_equal(atomic_load(&read_result), 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(p.revents, POLLERR);
	while (!atomic_load(&read_result)) {
		pthread_kill(r, SIGUSR1);
		usleep(1000);
	}
	pthread_join(r, NULL);
	assert_int_equal(atomic_load(&read_result), -EINTR);
	down();
}

/* G.A 5, 6 */
static void messages(void **state)
{
	struct vduse_dev_request q;
	struct vduse_dev_response r = { 0 };
	struct pollfd p;
	pthread_t t;
	u8 status = 1, buf[400];
	int ret, copy;

	up();
	p = (struct pollfd){.fd = dev, .events = POLLIN | POLLOUT};
	assert_int_equal(poll(&p, 1, 0), 0);
	for (size_t len = 0; len < sizeof(q); len++)
		assert_int_equal(vfs_read(dev, buf, len), -EINVAL);
	fcntl(dev, F_SETFL, O_NONBLOCK);
	assert_int_equal(vfs_read(dev, buf, sizeof(buf)), -EAGAIN);
	fcntl(dev, F_SETFL, 0);
	pthread_create(&t, NULL, status_thread, &status);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(p.revents, POLLIN);
	ret = uring_poll(dev);
	assert_true(ret == -ENOSYS || (ret > 0 && (ret & POLLIN)));
	for (size_t len = 0; len < sizeof(q); len++)
		assert_int_equal(vfs_read(dev, buf, len), -EINVAL);
	/* A buffer that cannot be written leaves it where it is. */
	assert_int_equal(vfs_read(dev, (void *)BAD, sizeof(q)), -EFAULT);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(p.revents, POLLIN);
	/* Through a duplicate, the first number being closed. */
	copy = vfs_dup(dev, 0, true);
	vfs_close(dev);
	dev = copy;
	assert_int_equal(vfs_read(dev, buf, sizeof(buf)), sizeof(q));
	memcpy(&q, buf, sizeof(q));
	assert_int_equal(q.type, VDUSE_SET_STATUS);
	p.fd = dev;
	/* To be answered: at once, and until it is. */
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(p.revents, POLLOUT);
	for (size_t len = 0; len < sizeof(r); len++)
		assert_int_equal(vfs_write(dev, &r, len), -EINVAL);
	r.request_id = q.request_id + 1;
	assert_int_equal(vfs_write(dev, &r, sizeof(r)), -ENOENT);
	r.request_id = q.request_id;
	r.reserved[3] = 1;
	assert_int_equal(vfs_write(dev, &r, sizeof(r)), -EINVAL);
	r.reserved[3] = 0;
	assert_int_equal(vfs_write(dev, (void *)BAD, sizeof(r)), -EINVAL);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(vfs_write(dev, &r, sizeof(r)), sizeof(r));
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(vfs_write(dev, &r, sizeof(r)), -ENOENT);
	pthread_join(t, NULL);
	assert_int_equal(bus_dev->ops->get_status(bus_dev), 1);
	/* Deleting does not wait for a daemon that is gone, but for its time-out: none here. */
	assert_int_equal(vduse_set_msg_timeout("x", 1), 0);
	down();
}

/* G.A 14, over both ways: by the hub, then straight to the eventfd, then with nobody there. */
static void interrupts(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct vdpa_callback none = {.eventfd = -1};
	pthread_t t;
	u8 status = 15;
	u32 q = 0;
	u64 n;

	up();
	{
		struct vduse_dev_request req;
		struct vduse_dev_response r = { 0 };

		pthread_create(&t, NULL, status_thread, &status);
		assert_int_equal(vfs_read(dev, &req, sizeof(req)), sizeof(req));
		assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, (unsigned long)&q), -EINVAL);
		r.request_id = req.request_id;
		assert_int_equal(vfs_write(dev, &r, sizeof(r)), sizeof(r));
		pthread_join(t, NULL);
	}
	bus_dev->ops->set_vq_cb(bus_dev, 0, &(struct vdpa_callback){NULL, NULL, fd});
	bus_dev->ops->set_vq_ready(bus_dev, 0, true);
	for (unsigned i = 0; i < 1000000; i++)
		if (vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, (unsigned long)&q))
			fail();
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1000000);
	bus_dev->ops->set_vq_cb(bus_dev, 0, &none);
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, (unsigned long)&q), 0);
	assert_int_equal(read(fd, &n, sizeof(n)), -1);
	bus_dev->ops->set_vq_cb(bus_dev, 0, &(struct vdpa_callback){NULL, NULL, fd});
	assert_int_equal(vfs_ioctl(dev, VDUSE_VQ_INJECT_IRQ, (unsigned long)&q), 0);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(vduse_set_msg_timeout("x", 1), 0);
	down();
	close(fd);
}

/* G.A 17 */
static void umem(void **state)
{
	struct vduse_iova_umem u = {.size = BOUNCE};
	struct vdpa_dma_info info;
	struct rlimit before, enough, little;
	u8 *mem = mmap(NULL, BOUNCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *driver, *other;
	int file;

	getrlimit(RLIMIT_MEMLOCK, &before);
	enough = (struct rlimit){BOUNCE, max(before.rlim_max, (rlim_t)BOUNCE)};
	little = (struct rlimit){65536, enough.rlim_max};
	if (setrlimit(RLIMIT_MEMLOCK, &enough) < 0) {
		print_message("RLIMIT_MEMLOCK is below the bounce region\n");
		skip();
	}
	up();
	u.uaddr = (unsigned long)mem;
	assert_int_equal(bus_dev->ops->dma->bounce(bus_dev), 0);
	assert_int_equal(bus_dev->ops->dma->info(bus_dev, &info), 0);
	driver = mmap(NULL, BOUNCE, PROT_READ | PROT_WRITE, MAP_SHARED, info.fd, 0);
	setrlimit(RLIMIT_MEMLOCK, &little);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), -ENOMEM);
	setrlimit(RLIMIT_MEMLOCK, &enough);
	/* What is in flight is in the daemon's memory afterwards, and what it writes reaches the driver. */
	memcpy(driver + 8192, "in flight", 10);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), 0);
	assert_string_equal(mem + 8192, "in flight");
	memcpy(mem + 12288, "answer", 7);
	assert_string_equal(driver + 12288, "answer");
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), -EEXIST);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_DEREG_UMEM, (unsigned long)&u), 0);
	/* Both have it, neither sees the other. */
	assert_string_equal(mem + 8192, "in flight");
	assert_string_equal(driver + 12288, "answer");
	mem[8192] = 'X';
	assert_int_equal(driver[8192], 'i');
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_DEREG_UMEM, (unsigned long)&u), -ENOENT);
	/* Closing ends it too. */
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), 0);
	vfs_close(dev);
	mem[8192] = 'Y';
	assert_int_equal(driver[8192], 'i');
	dev = vfs_open("/dev/vduse/x", O_RDWR);
	assert_true(dev >= 0);
	/* A file that others have mapped too is there again afterwards, with what was in flight. */
	file = memfd_create("umem", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, BOUNCE + 4096), 0);
	other = mmap(NULL, BOUNCE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096);
	assert_ptr_equal(mmap(mem, BOUNCE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 4096), mem);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), 0);
	assert_string_equal(mem + 8192, "in flight");
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_DEREG_UMEM, (unsigned long)&u), 0);
	assert_string_equal(other + 8192, "in flight");
	other[8192] = 'Z';
	assert_int_equal(mem[8192], 'Z');
	assert_int_equal(driver[8192], 'i');
	munmap(other, BOUNCE);
	close(file);
	munmap(mem, BOUNCE / 2);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_REG_UMEM, (unsigned long)&u), -ENOMEM);
	assert_int_equal(vfs_ioctl(dev, VDUSE_IOTLB_DEREG_UMEM, (unsigned long)&u), -ENOENT);
	munmap(mem, BOUNCE);
	munmap(driver, BOUNCE);
	setrlimit(RLIMIT_MEMLOCK, &before);
	assert_int_equal(vduse_set_msg_timeout("x", 1), 0);
	down();
}

static int set_up(void **state)
{
	if (!live_begin("/proc/self/exe", "/proc/self/exe", "") || vduse_register_nodes())
		return -1;
	control = vfs_open("/dev/vduse/control", O_RDWR | O_CLOEXEC);
	return control < 0;
}

static int tear_down(void **state)
{
	vfs_close(control);
	live_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "G.A 3, 4, 19: the control node", control_node, NULL, NULL, NULL },
		{ "close, open and destroy in a row", close_then_destroy, NULL, NULL, NULL },
		{ "G.A 4: bad pointers and numbers", bad_arguments, NULL, NULL, NULL },
		{ "G.A 5, 6: messages", messages, NULL, NULL, NULL },
		{ "G.A 6, 12: a broken device", broken_node, NULL, NULL, NULL },
		{ "G.A 14: 10^6 interrupts", interrupts, NULL, NULL, NULL },
		{ "G.A 17: umem", umem, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
