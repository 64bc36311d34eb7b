// SPDX-License-Identifier: MIT
/* VDUSE: numbers, refusals, lifecycle, kicks, memory; not messages. Names carry the numbers of the acceptance list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/vduse/test_attached.h"

/* ---- G.A 1 ---- */

#define ROW(nr, value, name, size) { nr, value, _IOC_SIZE(nr), size, name }

static void numbers(void **state)
{
	static const struct {
		unsigned long nr, value;
		size_t coded, size;
		const char *name;
	} rows[] = {
		ROW(VDUSE_GET_API_VERSION, 0x80088100, "GET_API_VERSION", 8),
		ROW(VDUSE_SET_API_VERSION, 0x40088101, "SET_API_VERSION", 8),
		ROW(VDUSE_CREATE_DEV, 0x41508102, "CREATE_DEV", 336),
		ROW(VDUSE_DESTROY_DEV, 0x41008103, "DESTROY_DEV", 256),
		ROW(VDUSE_IOTLB_GET_FD, 0xc0208110, "IOTLB_GET_FD", 32),
		ROW(VDUSE_DEV_GET_FEATURES, 0x80088111, "DEV_GET_FEATURES", 8),
		ROW(VDUSE_DEV_SET_CONFIG, 0x40088112, "DEV_SET_CONFIG", 8),
		ROW(VDUSE_DEV_INJECT_CONFIG_IRQ, 0x8113, "DEV_INJECT_CONFIG_IRQ", 0),
		ROW(VDUSE_VQ_SETUP, 0x40208114, "VQ_SETUP", 32),
		ROW(VDUSE_VQ_GET_INFO, 0xc0308115, "VQ_GET_INFO", 48),
		ROW(VDUSE_VQ_SETUP_KICKFD, 0x40088116, "VQ_SETUP_KICKFD", 8),
		ROW(VDUSE_VQ_INJECT_IRQ, 0x40048117, "VQ_INJECT_IRQ", 4),
		ROW(VDUSE_IOTLB_REG_UMEM, 0x40308118, "IOTLB_REG_UMEM", 48),
		ROW(VDUSE_IOTLB_DEREG_UMEM, 0x40308119, "IOTLB_DEREG_UMEM", 48),
		ROW(VDUSE_IOTLB_GET_INFO, 0xc030811a, "IOTLB_GET_INFO", 48),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].nr != rows[i].value || rows[i].coded != rows[i].size)
			fail_msg("%s", rows[i].name);
	assert_int_equal(sizeof(struct vduse_dev_request), 152);
	assert_int_equal(sizeof(struct vduse_dev_response), 152);
	assert_int_equal(offsetof(struct vduse_dev_config, config_size), 332);
	assert_int_equal(offsetof(struct vduse_vq_info, split), 32);
	assert_int_equal(offsetof(struct vduse_vq_info, ready), 40);
}

/* ---- G.A 4, 19 ---- */

static struct vduse_dev_config good(void)
{
	return (struct vduse_dev_config){.name = "x", .device_id = 2, .features = BIT(33), .vq_num = 1, .vq_align = 4096};
}

static long create(const struct vduse_dev_config *c, size_t len)
{
	struct vduse_control ctl = { 0 };
	u8 arg[sizeof(*c) + 4096] = { 0 };

	memcpy(arg, c, sizeof(*c));
	return vduse_control_ioctl(&ctl, VDUSE_CREATE_DEV, arg, len);
}

static long destroy(const char *name)
{
	struct vduse_control ctl = { 0 };
	char arg[VDUSE_NAME_MAX] = "";

	strncpy(arg, name, sizeof(arg));
	return vduse_control_ioctl(&ctl, VDUSE_DESTROY_DEV, arg, sizeof(arg));
}

static void refusals(void **state)
{
	struct vduse_dev_config c;
	char name[VDUSE_NAME_MAX];

#define REFUSED(change, len, err) \
	do { \
		c = good(); \
		change; \
		assert_int_equal(create(&c, len), err); \
		assert_int_equal(vduse_count(), 0); \
	} while (0)
	for (unsigned i = 0; i < ARRAY_SIZE(c.reserved); i++)
		REFUSED(c.reserved[i] = 1, sizeof(c), -EINVAL);
	REFUSED(c.vq_align = 4097, sizeof(c), -EINVAL);
	REFUSED(c.config_size = 4097, sizeof(c) + 4096, -EINVAL);
	REFUSED(c.vq_num = 65536, sizeof(c), -EINVAL);
	REFUSED(c.name[0] = 0, sizeof(c), -EINVAL);
	REFUSED(c.device_id = 3, sizeof(c), -EINVAL);
	REFUSED(c.device_id = 1; c.features |= BIT(17) | BIT(32), sizeof(c), -EINVAL);
	REFUSED(c.device_id = 1, sizeof(c), -EINVAL);
	REFUSED(c.device_id = 26; c.features |= BIT(32), sizeof(c), -EINVAL);
	REFUSED(c.features = 0, sizeof(c), -EINVAL);
	REFUSED(c.features |= BIT(11), sizeof(c), -EINVAL);
	REFUSED(, sizeof(c) - 1, -EFAULT);
	/* The tail cannot be read: after the refusals of the struct, before the name is looked at. */
	REFUSED(c.config_size = 60, sizeof(c) + 59, -EFAULT);
	REFUSED(c.config_size = 60; c.vq_align = 4097, sizeof(c), -EINVAL);

	/* A name of 256 bytes is cut to 255. */
	c = good();
	memset(c.name, 'n', sizeof(c.name));
	assert_int_equal(create(&c, sizeof(c)), 0);
	assert_int_equal(create(&c, sizeof(c)), -EEXIST);
	memset(name, 'n', sizeof(name));
	assert_int_equal(destroy(name), 0);
	assert_int_equal(destroy(name), -EINVAL);
	assert_int_equal(vduse_count(), 0);

	/* The limits themselves are fine. */
	c = good();
	c.vq_num = 65535;
	c.config_size = 4096;
	assert_int_equal(create(&c, sizeof(c) + 4096), 0);
	assert_int_equal(destroy("x"), 0);
}

static void versions(void **state)
{
	struct vduse_control ctl = { 0 };
	u64 v = 7;

	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_GET_API_VERSION, &v, sizeof(v)), 0);
	assert_int_equal(v, 0);
	v = 2;
	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_SET_API_VERSION, &v, sizeof(v)), -EINVAL);
	assert_int_equal(ctl.api_version, 0);
	v = 1;
	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_SET_API_VERSION, &v, sizeof(v)), 0);
	v = 7;
	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_GET_API_VERSION, &v, sizeof(v)), 0);
	assert_int_equal(v, 1);
	v = 0;
	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_SET_API_VERSION, &v, sizeof(v)), 0);
	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_SET_API_VERSION, &v, 7), -EFAULT);
	assert_int_equal(vduse_control_ioctl(&ctl, 0x8199, &v, sizeof(v)), -EINVAL);
}

/* ---- G.A 3 ---- */

static void lifecycle(void **state)
{
	struct vduse_dev_config c = good();
	struct vduse_vq_config q = { 0 };
	struct vduse_dev *d, *other;
	int sock, fd;
	u32 seq;

	c.vq_num = 2;
	assert_int_equal(vduse_open("x", &d, &sock), -ENODEV);
	assert_int_equal(td_attach("x"), -EINVAL);
	assert_int_equal(create(&c, sizeof(c)), 0);
	assert_int_equal(create(&c, sizeof(c)), -EEXIST);
	assert_int_equal(vduse_open("x", &d, &sock), 0);
	assert_int_equal(vduse_open("x", &other, &fd), -EBUSY);
	assert_int_equal(destroy("x"), -EBUSY);
	assert_int_equal(td_attach("x"), -EINVAL);
	q.max_size = 64;
	assert_int_equal(vduse_ioctl(d, VDUSE_VQ_SETUP, &q, sizeof(q), -1, &fd, &seq), 0);
	assert_int_equal(td_attach("x"), -EINVAL);
	q.index = 2;
	assert_int_equal(vduse_ioctl(d, VDUSE_VQ_SETUP, &q, sizeof(q), -1, &fd, &seq), -EINVAL);
	q.index = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(q.reserved); i++) {
		q.reserved[i] = 1;
		assert_int_equal(vduse_ioctl(d, VDUSE_VQ_SETUP, &q, sizeof(q), -1, &fd, &seq), -EINVAL);
		q.reserved[i] = 0;
	}
	q.max_size = 256;
	assert_int_equal(vduse_ioctl(d, VDUSE_VQ_SETUP, &q, sizeof(q), -1, &fd, &seq), 0);
	assert_int_equal(td_attach("x"), 0);
	assert_int_equal(td_attach("x"), -EEXIST);
	dev = vdpa_find("x");
	/* The bus sees the largest of the queues. */
	assert_int_equal(dev->ops->get_vq_num_max(dev), 256);
	vdpa_put(dev);
	vduse_close(d);
	close(sock);
	assert_int_equal(destroy("x"), -EBUSY);
	td_detach("x");
	assert_int_equal(destroy("x"), 0);
}

/* ---- G.A 13 ---- */

static void refused_driver_ok(void **state)
{
	up(1);
	atomic_store(&td.refuse_driver_ok, true);
	vdpa_set_status(dev, 11);
	assert_int_equal(ops->get_status(dev), 11);
	vdpa_set_status(dev, 15);
	assert_int_equal(ops->get_status(dev), 11);
	down();
}

/* ---- G.A 14 ---- */

static _Atomic unsigned calls;

static void count_call(void *arg)
{
	atomic_fetch_add(&calls, 1);
}

static void interrupts(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), out;
	u32 q = 0, seq;
	u64 n;

	up(1);
	assert_int_equal(td_ioctl(&td, VDUSE_VQ_INJECT_IRQ, &q, 4), -EINVAL);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_INJECT_CONFIG_IRQ, NULL, 0), -EINVAL);
	ops->set_vq_cb(dev, 0, &(struct vdpa_callback){count_call, NULL, -1});
	ops->set_config_cb(dev, &(struct vdpa_callback){count_call, NULL, -1});
	vdpa_set_status(dev, 15);
	atomic_store(&calls, 0);
	/* Not ready: accepted, and nothing comes. */
	assert_int_equal(td_ioctl(&td, VDUSE_VQ_INJECT_IRQ, &q, 4), 0);
	assert_int_equal(atomic_load(&calls), 0);
	ops->set_vq_ready(dev, 0, true);
	assert_int_equal(td_ioctl(&td, VDUSE_VQ_INJECT_IRQ, &q, 4), 0);
	assert_int_equal(atomic_load(&calls), 1);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_INJECT_CONFIG_IRQ, NULL, 0), 0);
	assert_int_equal(atomic_load(&calls), 2);
	q = 1;
	assert_int_equal(td_ioctl(&td, VDUSE_VQ_INJECT_IRQ, &q, 4), -EINVAL);
	q = 0;

	/* An eventfd is signalled itself; a storm is one event with a count. */
	ops->set_vq_cb(dev, 0, &(struct vdpa_callback){count_call, NULL, fd});
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(td_ioctl(&td, VDUSE_VQ_INJECT_IRQ, &q, 4), 0);
	assert_int_equal(atomic_load(&calls), 2);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 100000);
	/* Filled to the brim by the daemon: the hub does not wait. */
	n = 0xfffffffffffffffe;
	assert_int_equal(write(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_INJECT_IRQ, &q, 4, -1, &out, &seq), 0);
	assert_true(out >= 0);
	close(out);
	down();
	close(fd);
}

/* ---- G.A 16 ---- */

static void kicks(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), fd2 = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), out;
	struct vduse_vq_eventfd e = {.index = 0, .fd = fd};
	u32 seq, seq2;
	u64 n;

	up(1);
	/* Not ready: dropped. */
	ops->kick_vq(dev, 0);
	ops->set_vq_ready(dev, 0, true);
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), fd, &out, &seq), 0);
	assert_int_equal(read(fd, &n, sizeof(n)), -1);
	ops->kick_vq(dev, 0);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	/* Taken away, kicked, replaced: replayed at once. */
	e.fd = -1;
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), -1, &out, &seq), 0);
	assert_int_equal(ops->get_kickfd(dev, 0, &seq), -ENOENT);
	ops->kick_vq(dev, 0);
	e.fd = fd2;
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), fd2, &out, &seq2), 0);
	assert_int_equal(read(fd2, &n, sizeof(n)), sizeof(n));
	assert_int_equal(read(fd, &n, sizeof(n)), -1);
	assert_true(ops->get_kickfd(dev, 0, &seq2) >= 0);
	assert_int_not_equal(seq, seq2);

	e.index = 1;
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), fd2, &out, &seq), -EINVAL);
	e = (struct vduse_vq_eventfd){.fd = -2};
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), -1, &out, &seq), 0);
	e.fd = 1000;
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), -1, &out, &seq), -EBADF);
	assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), td.sock, &out, &seq), -EINVAL);
	down();
	close(fd);
	close(fd2);
}

#define KICKS 20000

static void *kick(void *arg)
{
	for (unsigned i = 0; i < KICKS; i++)
		ops->kick_vq(dev, 0);
	return NULL;
}

/* Replaced while it is kicked: each kick reaches one of the eventfds. */
static void kicks_meanwhile(void **state)
{
	int fd[2] = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}, out;
	u64 sum = 0, n;
	pthread_t t;
	u32 seq;

	up(1);
	ops->set_vq_ready(dev, 0, true);
	for (unsigned i = 0; i < 1000; i++) {
		struct vduse_vq_eventfd e = {.fd = fd[i & 1]};

		assert_int_equal(vduse_ioctl(td.d, VDUSE_VQ_SETUP_KICKFD, &e, sizeof(e), fd[i & 1], &out, &seq), 0);
		if (!i)
			pthread_create(&t, NULL, kick, NULL);
	}
	pthread_join(t, NULL);
	for (unsigned i = 0; i < 2; i++)
		if (read(fd[i], &n, sizeof(n)) == sizeof(n))
			sum += n;
	assert_int_equal(sum, KICKS);
	down();
	close(fd[0]);
	close(fd[1]);
}

/* ---- A.5: the rest ---- */

static void config_space(void **state)
{
	struct {
		struct vduse_config_data d;
		u8 bytes[64];
	} a = {.d = {.offset = 0, .length = 8}, .bytes = {1, 2, 3, 4, 5, 6, 7, 8}};
	u32 size;
	u8 got[32];

	up(1);
	size = (u32)ops->get_config_size(dev);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a)), 0);
	vdpa_get_config(dev, 0, got, 8);
	assert_memory_equal(got, a.bytes, 8);
	/* Only the daemon writes. */
	vdpa_set_config(dev, 0, "xxxx", 4);
	vdpa_get_config(dev, 0, got, 8);
	assert_memory_equal(got, a.bytes, 8);
	memset(got, 0xaa, sizeof(got));
	vdpa_get_config(dev, size - 4, got, sizeof(got));
	for (unsigned i = 4; i < sizeof(got); i++)
		assert_int_equal(got[i], 0);
	a.d.length = 0;
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a)), -EINVAL);
	a.d = (struct vduse_config_data){.offset = size, .length = 1};
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a)), -EINVAL);
	a.d = (struct vduse_config_data){.offset = size + 1, .length = 0};
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a)), -EINVAL);
	a.d = (struct vduse_config_data){.offset = 4, .length = ~0u};
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a)), -EINVAL);
	a.d = (struct vduse_config_data){.offset = 0, .length = 60};
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, &a, sizeof(a.d) + 59), -EFAULT);
	assert_int_equal(td_ioctl(&td, 0x8155, &a, sizeof(a)), -ENOTTY);
	down();
}

static void iotlb(void **state)
{
	struct vduse_iotlb_entry e = {.start = 0, .last = ~0ull};
	struct vduse_iova_info i = {.last = ~0ull};
	struct stat st;
	u64 iova;
	int fd;
	u32 seq;

	up(1);
	assert_int_equal(vduse_ioctl(td.d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq), -EINVAL);
	assert_int_equal(ops->dma->alloc(dev, 5000, &iova), 0);
	assert_int_equal(vduse_ioctl(td.d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq), 0);
	assert_int_equal(e.start, iova);
	assert_int_equal(e.last, iova + 8191);
	assert_int_equal(e.offset, iova);
	assert_int_equal(e.perm, VDUSE_ACCESS_RW);
	/* G.A 15: the size of the domain is nobody's to change. */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	close(fd);
	e = (struct vduse_iotlb_entry){.start = 2, .last = 1};
	assert_int_equal(vduse_ioctl(td.d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq), -EINVAL);
	assert_int_equal(ops->dma->bounce(dev), 0);
	assert_int_equal(td_ioctl(&td, VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), 0);
	assert_int_equal(i.start, 0);
	assert_int_equal(i.last, (64 << 20) - 1);
	assert_int_equal(i.capability, VDUSE_IOVA_CAP_UMEM);
	i = (struct vduse_iova_info){.start = iova, .last = iova};
	assert_int_equal(td_ioctl(&td, VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), 0);
	assert_int_equal(i.capability, 0);
	i.reserved[2] = 1;
	assert_int_equal(td_ioctl(&td, VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), -EINVAL);
	/* A reset ends the bounce region, not the coherent ones. */
	assert_int_equal(vdpa_reset(dev), 0);
	e = (struct vduse_iotlb_entry){.start = 0, .last = (64 << 20) - 1};
	assert_int_equal(vduse_ioctl(td.d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq), -EINVAL);
	assert_int_equal(ops->dma->free(dev, iova, 4096), -EINVAL);
	assert_int_equal(ops->dma->free(dev, iova, 5000), 0);
	assert_int_equal(ops->dma->free(dev, iova, 5000), -EINVAL);
	down();
}

/* ---- G.A 17 ---- */

static void umem(void **state)
{
	static u8 mem[2 * 4096] __attribute__((aligned(4096)));
	struct vduse_iova_umem u = {.uaddr = (u64)(uintptr_t)mem, .size = 64 << 20};

#define UMEM(nr, err) assert_int_equal(td_ioctl(&td, nr, &u, sizeof(u)), err)
	up(1);
	UMEM(VDUSE_IOTLB_REG_UMEM, -EINVAL);	/* no bounce region yet */
	UMEM(VDUSE_IOTLB_DEREG_UMEM, -ENOENT);
	assert_int_equal(ops->dma->bounce(dev), 0);
	u.iova = 4096;
	UMEM(VDUSE_IOTLB_REG_UMEM, -EINVAL);
	u.iova = 0;
	u.size -= 4096;
	UMEM(VDUSE_IOTLB_REG_UMEM, -EINVAL);
	u.size += 4096;
	u.uaddr++;
	UMEM(VDUSE_IOTLB_REG_UMEM, -EINVAL);
	u.uaddr--;
	u.reserved[0] = 1;
	UMEM(VDUSE_IOTLB_REG_UMEM, -EINVAL);
	u.reserved[0] = 0;
	UMEM(VDUSE_IOTLB_REG_UMEM, 0);
	UMEM(VDUSE_IOTLB_REG_UMEM, -EEXIST);
	u.size -= 4096;
	UMEM(VDUSE_IOTLB_DEREG_UMEM, -EINVAL);
	u.size += 4096;
	u.iova = 4096;
	UMEM(VDUSE_IOTLB_DEREG_UMEM, -EINVAL);
	u.iova = 0;
	UMEM(VDUSE_IOTLB_DEREG_UMEM, 0);
	UMEM(VDUSE_IOTLB_DEREG_UMEM, -ENOENT);
	UMEM(VDUSE_IOTLB_REG_UMEM, 0);
	td_kill(&td);
	td_start(&td);
	UMEM(VDUSE_IOTLB_DEREG_UMEM, -ENOENT);
	assert_true(vduse_domain_fd(td.d) >= 0);
	down();
}

/* ---- G.A 9, 10: tables of vhost-vdpa ---- */

static int map_file(struct vdpa_iotlb *t, u64 iova, int fd, u64 off, u64 len)
{
	struct vdpa_mem *m = vdpa_mem_shared(fd, off, len, true);
	int ret = vdpa_iotlb_add(t, &(struct vdpa_map){.start = iova, .last = iova + len - 1, .perm = VDPA_RW, .mem = m});

	vdpa_mem_put(m);
	return ret;
}

static ino_t file_at(u64 iova, u64 *offset)
{
	struct vduse_iotlb_entry e = {.start = iova, .last = iova};
	struct stat st;
	u32 seq;
	int fd;

	if (vduse_ioctl(td.d, VDUSE_IOTLB_GET_FD, &e, sizeof(e), -1, &fd, &seq))
		return 0;
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	*offset = e.offset;
	return st.st_ino;
}

static void vhost_tables(void **state)
{
	struct vdpa_iotlb *t = vdpa_iotlb_new(0);
	static u8 private[8192] __attribute__((aligned(4096)));
	struct vdpa_mem *foreign = vdpa_mem_foreign(getpid(), (u64)(uintptr_t)private, sizeof(private), true);
	int file = memfd_create("ram", MFD_CLOEXEC);
	struct stat st;
	u64 off;

	up(1);
	assert_int_equal(ftruncate(file, 1 << 20), 0);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(map_file(t, 0x100000, file, 8192, 65536), 0);
	assert_int_equal(vdpa_iotlb_add(t, &(struct vdpa_map){.start = 0x200000, .last = 0x201fff, .perm = VDPA_RW,
							      .mem = foreign}), 0);
	assert_int_equal(ops->set_map(dev, 0, t), 0);
	assert_int_equal(atomic_load(&td.updates), 1);
	/* The very file, at its offset; private memory is not there, and that is no error. */
	assert_int_equal(file_at(0x101000, &off), st.st_ino);
	assert_int_equal(off, 8192);
	assert_int_equal(file_at(0x200000, &off), 0);
	/* A daemon that does not take the new table keeps the old one. */
	assert_int_equal(vduse_set_msg_timeout("disk", 1), 0);
	td_mute(&td);
	vdpa_iotlb_del(t, 0, ~0ull);
	assert_int_equal(ops->set_map(dev, 0, t), -EIO);
	atomic_store(&td.mute, false);
	down();
	vdpa_mem_put(foreign);
	vdpa_iotlb_free(t);
	close(file);
}

static _Atomic int current;	/* 2n: the n-th table is in force; odd while it changes; -1 the end */
static ino_t inodes[2];

static void *look(void *arg)
{
	unsigned *stale = arg;

	int now;

	while ((now = atomic_load(&current)) != -1) {
		u64 off;
		ino_t ino = file_at(0x100000, &off);

		if (!(now & 1) && now == atomic_load(&current) && ino != inodes[now / 2 & 1])
			++*stale;
	}
	return NULL;
}

static void changing_tables(void **state)
{
	struct vdpa_iotlb *t[2];
	unsigned stale = 0;
	struct stat st;
	pthread_t thread;
	int file[2];

	up(1);
	for (unsigned i = 0; i < 2; i++) {
		file[i] = memfd_create("ram", MFD_CLOEXEC);
		assert_int_equal(ftruncate(file[i], 65536), 0);
		assert_int_equal(fstat(file[i], &st), 0);
		inodes[i] = st.st_ino;
		t[i] = vdpa_iotlb_new(0);
		assert_int_equal(map_file(t[i], 0x100000, file[i], 0, 65536), 0);
	}
	assert_int_equal(ops->set_map(dev, 0, t[0]), 0);
	atomic_store(&current, 0);
	pthread_create(&thread, NULL, look, &stale);
	for (int i = 1; i <= 10000; i++) {
		atomic_store(&current, 2 * i - 1);
		assert_int_equal(ops->set_map(dev, 0, t[i & 1]), 0);
		atomic_store(&current, 2 * i);
	}
	atomic_store(&current, -1);
	pthread_join(thread, NULL);
	assert_int_equal(stale, 0);
	assert_int_equal(atomic_load(&td.updates), 10001);
	for (unsigned i = 0; i < 2; i++) {
		vdpa_iotlb_free(t[i]);
		close(file[i]);
	}
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "G.A 1: numbers and sizes", numbers, NULL, NULL, NULL },
		{ "G.A 3: attach, destroy, open in wrong states", lifecycle, NULL, NULL, NULL },
		{ "G.A 4: refusals of CREATE_DEV", refusals, NULL, NULL, NULL },
		{ "G.A 9: files of a vhost-vdpa client, private memory", vhost_tables, NULL, NULL, NULL },
		{ "G.A 10: tables that change 10^4 times", changing_tables, NULL, NULL, NULL },
		{ "G.A 13: DRIVER_OK refused", refused_driver_ok, NULL, NULL, NULL },
		{ "G.A 14: interrupts", interrupts, NULL, NULL, NULL },
		{ "G.A 16: kicks", kicks, NULL, NULL, NULL },
		{ "G.A 16: eventfds replaced under kicks", kicks_meanwhile, NULL, NULL, NULL },
		{ "configuration space", config_space, NULL, NULL, NULL },
		{ "IOTLB of the domain", iotlb, NULL, NULL, NULL },
		{ "G.A 17: umem", umem, NULL, NULL, NULL },
		{ "G.A 19: versions", versions, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, attached_set_up, attached_tear_down);
}
