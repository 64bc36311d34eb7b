// SPDX-License-Identifier: MIT
/*
 * A client of /dev/vhost-vdpa-0, a simulated disk, by nothing but libc:
 *
 *   userkvm run -- vhost_client
 *
 * Names carry the acceptance test that they automate.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/vhost.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define NODE "/dev/vhost-vdpa-0"
#define IOVA 0x100000ull

static const char *self;

static int open_node(void)
{
	int fd = open(NODE, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void fails(int fd, unsigned long req, const void *arg, int err)
{
	errno = 0;
	assert_int_equal(ioctl(fd, req, arg), -1);
	assert_int_equal(errno, err);
}

static ssize_t message(int fd, uint8_t type, uint64_t iova, uint64_t size, void *addr, uint8_t perm)
{
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };

	m.iotlb = (struct vhost_iotlb_msg){ .iova = iova, .size = size, .uaddr = (uint64_t)addr, .perm = perm,
					    .type = type };
	return write(fd, &m, sizeof(m));
}

static void test_names(void **state)
{
	struct stat st;
	int fd;

	assert_int_equal(stat(NODE, &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(access(NODE, R_OK | W_OK), 0);
	assert_int_equal(stat("/dev/vhost-vdpa-99", &st), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(open("/dev/vhost-vdpa-99", O_RDWR), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(open("/dev/vhost-vdpa-00", O_RDWR), -1);
	assert_int_equal(errno, ENOENT);
	/* G.B 9 */
	fd = open_node();
	assert_int_equal(open(NODE, O_RDWR), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(close(fd), 0);
	fd = open_node();	/* at once */
	close(fd);
}

static void test_errors(void **state)
{
	struct vhost_vring_state s = { .index = 1 };
	struct { struct vhost_vdpa_config h; uint8_t bytes[64]; } c = { .h = { .off = 0, .len = 8 } };
	struct vhost_vring_file f = { .fd = 1 };
	uint64_t features;
	uint32_t id;
	int fd = open_node();
	char buf[72] = { 0 }, *volatile nowhere = (char *)8;

	assert_int_equal(ioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &id), 0);
	assert_int_equal(id, 2);
	assert_int_equal(ioctl(fd, VHOST_GET_FEATURES, &features), 0);
	assert_true(features & 1ull << VIRTIO_F_ACCESS_PLATFORM);
	fails(fd, VHOST_GET_FEATURES, (void *)8, EFAULT);
	fails(fd, VHOST_SET_VRING_NUM, &s, EPERM);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0, 4096, buf, 3), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ioctl(fd, VHOST_SET_OWNER), 0);
	fails(fd, VHOST_SET_OWNER, NULL, EBUSY);
	fails(fd, VHOST_SET_VRING_NUM, &s, ENOBUFS);
	fails(fd, 0xaf99, &s, ENOBUFS);
	s.index = 0;
	fails(fd, 0xaf99, &s, ENOTTY);
	fails(fd, 0xaf99, NULL, EFAULT);
	fails(fd, VHOST_SET_LOG_BASE, &s, ENOTTY);
	f.fd = 9999;
	fails(fd, VHOST_SET_VRING_KICK, &f, EBADF);
	f.fd = fd;
	fails(fd, VHOST_SET_VRING_KICK, &f, EINVAL);
	assert_int_equal(ioctl(fd, VHOST_VDPA_GET_CONFIG, &c), 0);
	memcpy(&features, c.bytes - offsetof(struct vhost_vdpa_config, buf) + 8, sizeof(features));
	assert_int_equal(features, 0x40000);	/* sectors */
	c.h.len = UINT32_MAX;
	fails(fd, VHOST_VDPA_GET_CONFIG, &c, EINVAL);
	fails(fd, VHOST_VDPA_SET_CONFIG, &c, EINVAL);
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	assert_int_equal(errno, EINVAL);
	for (size_t len = 0; len < 40; len += 13) {
		assert_int_equal(write(fd, buf, len), -1);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(write(fd, nowhere, 72), -1);
	assert_int_equal(errno, EFAULT);
	assert_ptr_equal(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(errno, 524);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	close(fd);
}

/* ---- The data path ---- */

struct disk {
	int fd, kick, call;
	uint8_t *ram;
	uint16_t next;
};

enum { RAM = 0x10000, AVAIL = 0x1000, USED = 0x2000, HEADER = 0x3000, DATA = 0x4000, STATUS = 0x8000 };

static void start(struct disk *d)
{
	struct vhost_vring_state num = { .num = 8 }, base = { 0 }, enable = { .num = 1 };
	struct vhost_vring_addr addr = { .desc_user_addr = IOVA, .avail_user_addr = IOVA + AVAIL,
					 .used_user_addr = IOVA + USED };
	uint64_t features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM;
	struct vhost_vring_file kick = { 0 }, call = { 0 };
	uint64_t backend = 1ull << VHOST_BACKEND_F_IOTLB_MSG_V2 | 1ull << VHOST_BACKEND_F_IOTLB_BATCH;
	uint8_t status;

	d->kick = kick.fd = eventfd(0, EFD_CLOEXEC);
	d->call = call.fd = eventfd(0, EFD_CLOEXEC);
	d->next = 0;
	assert_int_equal(ioctl(d->fd, VHOST_SET_OWNER), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_BACKEND_FEATURES, &backend), 0);
	status = 3;
	assert_int_equal(ioctl(d->fd, VHOST_VDPA_SET_STATUS, &status), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_FEATURES, &features), 0);
	status = 0xb;
	assert_int_equal(ioctl(d->fd, VHOST_VDPA_SET_STATUS, &status), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_VRING_NUM, &num), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_VRING_BASE, &base), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_VRING_ADDR, &addr), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_VRING_KICK, &kick), 0);
	assert_int_equal(ioctl(d->fd, VHOST_SET_VRING_CALL, &call), 0);
	assert_int_equal(ioctl(d->fd, VHOST_VDPA_SET_VRING_ENABLE, &enable), 0);
	assert_int_equal(message(d->fd, VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL, 0), 72);
	assert_int_equal(message(d->fd, VHOST_IOTLB_UPDATE, IOVA, RAM, d->ram, VHOST_ACCESS_RW), 72);
	assert_int_equal(message(d->fd, VHOST_IOTLB_BATCH_END, 0, 0, NULL, 0), 72);
	status = 0xf;
	assert_int_equal(ioctl(d->fd, VHOST_VDPA_SET_STATUS, &status), 0);
}

static uint8_t request(struct disk *d, uint32_t type, uint64_t sector, size_t len)
{
	struct vring_desc *desc = (struct vring_desc *)d->ram;
	struct vring_avail *avail = (struct vring_avail *)(d->ram + AVAIL);
	volatile struct vring_used *used = (struct vring_used *)(d->ram + USED);
	struct virtio_blk_outhdr *h = (struct virtio_blk_outhdr *)(d->ram + HEADER);
	struct pollfd p = { .fd = d->call, .events = POLLIN };
	uint64_t one = 1;

	*h = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	d->ram[STATUS] = 0xff;
	desc[0] = (struct vring_desc){ IOVA + HEADER, sizeof(*h), VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ IOVA + DATA, (uint32_t)len,
		(uint16_t)(VRING_DESC_F_NEXT | (type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0)), 2 };
	desc[2] = (struct vring_desc){ IOVA + STATUS, 1, VRING_DESC_F_WRITE, 0 };
	avail->ring[d->next % 8] = 0;
	__atomic_store_n(&avail->idx, ++d->next, __ATOMIC_RELEASE);
	assert_int_equal(write(d->kick, &one, 8), 8);
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(read(d->call, &one, 8), 8);
	assert_int_equal(used->idx, d->next);
	return d->ram[STATUS];
}

static void write_and_read(struct disk *d, char seed)
{
	start(d);
	for (unsigned i = 0; i < 20; i++) {
		memset(d->ram + DATA, seed + (char)i, 0x2000);
		assert_int_equal(request(d, VIRTIO_BLK_T_OUT, 16 * i, 0x2000), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		memset(d->ram + DATA, 0, 0x2000);
		assert_int_equal(request(d, VIRTIO_BLK_T_IN, 16 * i, 0x2000), 0);
		for (unsigned j = 0; j < 0x2000; j++)
			assert_int_equal((char)d->ram[DATA + j], (char)(seed + (char)i));
	}
	assert_int_equal(request(d, VIRTIO_BLK_T_IN, 0x40000, 512), VIRTIO_BLK_S_IOERR);
	close(d->kick);
	close(d->call);
}

static void test_private_memory(void **state)
{
	struct disk d = { .fd = open_node() };

	d.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	write_and_read(&d, 'p');
	close(d.fd);
	munmap(d.ram, RAM);
}

/* Shared memory, the file of which is closed, in three mappings that are one range. */
static void test_shared_memory(void **state)
{
	struct disk d = { .fd = open_node() };
	int memfd = memfd_create("ram", MFD_CLOEXEC), keep;

	assert_int_equal(ftruncate(memfd, 2 * RAM), 0);
	d.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, RAM);
	/* Splits the mapping: three areas in /proc/self/maps, one piece of memory. */
	assert_int_equal(madvise(d.ram + 0x3000, 0x1000, MADV_DONTFORK), 0);
	keep = fcntl(memfd, F_DUPFD_CLOEXEC, 100);
	close(memfd);
	write_and_read(&d, 's');
	close(keep);
	close(d.fd);
	munmap(d.ram, RAM);
}

static void test_ranges(void **state)
{
	int fd = open_node(), memfd = memfd_create("ro", MFD_CLOEXEC);
	uint8_t *p = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *ro;

	assert_int_equal(ftruncate(memfd, 0x1000), 0);
	ro = mmap(NULL, 0x1000, PROT_READ, MAP_SHARED, memfd, 0);
	assert_int_equal(ioctl(fd, VHOST_SET_OWNER), 0);
	assert_int_equal(munmap(p + 0x2000, 0x1000), 0);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0x1000, 0x3000, p, 3), -1);	/* a hole */
	assert_int_equal(errno, EFAULT);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0x1000, 0x1000, p + 0x2000, 3), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0x1000, 0x2000, p, 3), 72);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0x8000, 0x1000, ro, 3), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0x8000, 0x1000, ro, 1), 72);
	munmap(p, 0x4000);
	munmap(ro, 0x1000);
	close(memfd);
	close(fd);
}

/* As many mappings as there may be, each with its file, and not one more. */
static void test_limit(void **state)
{
	int fd = open_node(), memfd = memfd_create("many", MFD_CLOEXEC);
	uint8_t *p;

	assert_int_equal(ftruncate(memfd, 2049 * 4096), 0);
	p = mmap(NULL, 2049 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_int_equal(ioctl(fd, VHOST_SET_OWNER), 0);
	assert_int_equal(message(fd, VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL, 0), 72);
	for (uint64_t i = 0; i < 2048; i++)
		assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, i << 13, 4096, p + (i << 12), 3), 72);
	assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 2048 << 13, 4096, p + (2048 << 12), 3), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(message(fd, VHOST_IOTLB_BATCH_END, 0, 0, NULL, 0), 72);
	munmap(p, 2049 * 4096);
	close(memfd);
	close(fd);
}

/* ---- G.B 9: who has the descriptor ---- */

static int child_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_fork(void **state)
{
	int fd = open_node(), pipefd[2];
	uint32_t id = 0;
	pid_t child;
	char c;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	child = fork();
	if (!child) {
		/* The parent has closed its descriptor; ours is good. */
		if (read(pipefd[0], &c, 1) != 1)
			_exit(2);
		_exit(ioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &id) || id != 2);
	}
	close(fd);
	assert_int_equal(open(NODE, O_RDWR), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(write(pipefd[1], "x", 1), 1);
	assert_int_equal(child_of(child), 0);
	close(open_node());
	close(pipefd[0]);
	close(pipefd[1]);
}

/* Kept over exec by a number, in a program that never opened it. */
static void test_exec(void **state)
{
	int fd = open(NODE, O_RDWR);
	pid_t child;
	char arg[16];

	snprintf(arg, sizeof(arg), "%d", fd);
	child = fork();
	if (!child) {
		execl(self, self, "--fd", arg, NULL);
		_exit(9);
	}
	close(fd);
	assert_int_equal(child_of(child), 0);
	close(open_node());
}

static void test_passed(void **state)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct iovec iov = { (char[]){ 'x' }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int pair[2], fd;
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	child = fork();
	if (!child) {
		char arg[16];

		if (recvmsg(pair[1], &m, 0) != 1)
			_exit(8);
		memcpy(&fd, CMSG_DATA(&control.h), sizeof(fd));
		snprintf(arg, sizeof(arg), "%d", fd);
		execl(self, self, "--fd", arg, NULL);
		_exit(9);
	}
	fd = open_node();
	control.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
				      .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
	assert_int_equal(sendmsg(pair[0], &m, 0), 1);
	close(fd);
	assert_int_equal(child_of(child), 0);
	close(pair[0]);
	close(pair[1]);
	close(open_node());
}

static int with_fd(int fd)
{
	static uint8_t page[8192] __attribute__((aligned(4096)));
	uint32_t id = 0;

	if (ioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &id) || id != 2)
		return 1;
	if (ioctl(fd, VHOST_SET_OWNER))
		return 2;
	if (message(fd, VHOST_IOTLB_UPDATE, 0, sizeof(page), page, 3) != 72)
		return 3;
	if (message(fd, VHOST_IOTLB_UPDATE, 0, sizeof(page), page, 3) != -1 || errno != EFAULT)
		return 4;
	return close(fd) ? 5 : 0;
}

static void test_death_in_a_batch(void **state)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));

	for (unsigned i = 0; i < 50; i++) {
		int pipefd[2], fd;
		pid_t child;
		char c;

		assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
		child = fork();
		if (!child) {
			fd = open(NODE, O_RDWR);
			if (fd < 0 || ioctl(fd, VHOST_SET_OWNER) ||
			    message(fd, VHOST_IOTLB_BATCH_BEGIN, 0, 0, NULL, 0) != 72 ||
			    message(fd, VHOST_IOTLB_UPDATE, 0, sizeof(page), page, 3) != 72)
				_exit(1);
			if (write(pipefd[1], "x", 1) != 1)
				_exit(2);
			pause();
		}
		close(pipefd[1]);
		assert_int_equal(read(pipefd[0], &c, 1), 1);
		kill(child, SIGKILL);
		assert_int_equal(child_of(child), -1);
		close(pipefd[0]);
		fd = open_node();
		assert_int_equal(ioctl(fd, VHOST_SET_OWNER), 0);
		assert_int_equal(message(fd, VHOST_IOTLB_UPDATE, 0, sizeof(page), page, 3), 72);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		{ "G.B 9: names, second opener", test_names, NULL, NULL, NULL },
		{ "G.B 3: errors", test_errors, NULL, NULL, NULL },
		{ "private memory", test_private_memory, NULL, NULL, NULL },
		{ "shared memory", test_shared_memory, NULL, NULL, NULL },
		{ "G.B 5: ranges", test_ranges, NULL, NULL, NULL },
		{ "G.B 5: limit", test_limit, NULL, NULL, NULL },
		{ "G.B 9: fork and close", test_fork, NULL, NULL, NULL },
		{ "G.B 9: exec", test_exec, NULL, NULL, NULL },
		{ "G.B 9: passed over a socket", test_passed, NULL, NULL, NULL },
		{ "G.B 9: death in a batch", test_death_in_a_batch, NULL, NULL, NULL },
	};

	self = "/proc/self/exe";
	if (argc == 3 && !strcmp(argv[1], "--fd"))
		return with_fd(atoi(argv[2]));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
