// SPDX-License-Identifier: MIT
/*
 * VDUSE's API version 1: groups of queues, address spaces, who knows which
 * version. And network devices, which Linux has since 6.9.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/vduse/vduse.h"
#include "vdpa/virtio/session.h"

#define BLOCK 2
#define NET 1
#define CTRL_VQ BIT(17)
#define COMMON (BIT(32) | BIT(33))

/* A daemon that answers every message and remembers the last ones. */
static struct {
	struct vduse_dev *d;
	int sock, stop;
	pthread_t thread;
	_Atomic bool refuse;
	struct vduse_dev_request got[8];
	_Atomic unsigned nr;
} peer;

static struct vdpa_device *dev;

static void *answer(void *arg)
{
	struct pollfd p[2] = {{.fd = peer.sock, .events = POLLIN}, {.fd = peer.stop, .events = POLLIN}};

	while (poll(p, 2, -1) > 0 && !p[1].revents) {
		struct vduse_dev_response r = {.result = atomic_load(&peer.refuse)};
		struct vduse_dev_request q;

		if (read(peer.sock, &q, sizeof(q)) != sizeof(q))
			break;
		peer.got[atomic_load(&peer.nr) % ARRAY_SIZE(peer.got)] = q;
		atomic_fetch_add(&peer.nr, 1);
		r.request_id = q.request_id;
		assert_int_equal(vduse_write(peer.d, &r, sizeof(r)), sizeof(r));
	}
	return NULL;
}

static struct vduse_dev_config_api1 device(u32 id, u32 vqs, u32 ngroups, u32 nas)
{
	return (struct vduse_dev_config_api1){.name = "x", .device_id = id, .features = COMMON, .vq_num = vqs,
					      .vq_align = 4096, .ngroups = ngroups, .nas = nas};
}

static long create_as(const struct vduse_control *c, const struct vduse_dev_config_api1 *config)
{
	struct vduse_control ctl = *c;
	struct vduse_dev_config_api1 arg = *config;

	return vduse_control_ioctl(&ctl, VDUSE_CREATE_DEV, &arg, sizeof(arg));
}

static long create(u64 version, const struct vduse_dev_config_api1 *config)
{
	return create_as(&(struct vduse_control){.api_version = version}, config);
}

static void destroy(void)
{
	struct vduse_control ctl = { 0 };
	char name[VDUSE_NAME_MAX] = "x";

	assert_int_equal(vduse_control_ioctl(&ctl, VDUSE_DESTROY_DEV, name, sizeof(name)), 0);
	assert_int_equal(vduse_count(), 0);
}

static long call(u32 nr, void *arg, size_t len)
{
	int fd;
	u32 seq;
	long ret = vduse_ioctl(peer.d, nr, arg, len, -1, &fd, &seq);

	if (fd >= 0)
		close(fd);
	return ret;
}

static long setup(u32 index, u32 group)
{
	struct vduse_vq_config_api1 c = {.index = index, .max_size = 64, .group = group};

	return call(VDUSE_VQ_SETUP, &c, sizeof(c));
}

static void start(void)
{
	assert_int_equal(vduse_open("x", &peer.d, &peer.sock), 0);
	atomic_store(&peer.nr, 0);
	atomic_store(&peer.refuse, false);
	peer.stop = eventfd(0, EFD_CLOEXEC);
	pthread_create(&peer.thread, NULL, answer, NULL);
}

/* Three queues: the third in a group of its own. */
static void up(void)
{
	const struct vduse_dev_config_api1 c = device(BLOCK, 3, 2, 3);

	assert_int_equal(create(1, &c), 0);
	start();
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(setup(i, i == 2), 0);
	assert_int_equal(td_attach("x"), 0);
	dev = vdpa_find("x");
}

static void stop(void)
{
	eventfd_write(peer.stop, 1);
	pthread_join(peer.thread, NULL);
	close(peer.stop);
	vduse_close(peer.d);
	close(peer.sock);
	destroy();
}

static void down(void)
{
	vdpa_put(dev);
	td_detach("x");
	stop();
}

static struct vduse_dev_request last(void)
{
	return peer.got[(atomic_load(&peer.nr) - 1) % ARRAY_SIZE(peer.got)];
}

/* ---- Creation ---- */

static void creation(void **state)
{
	static const struct { u64 version; u32 ngroups, nas; long result; } rows[] = {
		{0, 0, 0, 0}, {0, 1, 0, -EINVAL}, {0, 0, 1, -EINVAL}, {0, 1, 1, -EINVAL},
		{1, 1, 1, 0}, {1, 0, 1, -EINVAL}, {1, 1, 0, -EINVAL}, {1, 0, 0, -EINVAL},
		{1, 65535, 1, 0}, {1, 65536, 1, -EINVAL}, {1, 1, 65535, 0}, {1, 1, 65536, -EINVAL},
	};
	struct vduse_dev_config_api1 c;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		c = device(BLOCK, 1, rows[i].ngroups, rows[i].nas);
		if (create(rows[i].version, &c) != rows[i].result)
			fail_msg("row %u", i);
		if (!rows[i].result)
			destroy();
	}
	for (unsigned i = 0; i < ARRAY_SIZE(c.reserved); i++) {
		c = device(BLOCK, 1, 1, 1);
		c.reserved[i] = 1;
		assert_int_equal(create(1, &c), -EINVAL);
	}
}

static void queue_groups(void **state)
{
	struct vduse_vq_config_api1 c = {.max_size = 64};
	struct vduse_dev_config_api1 old = device(BLOCK, 1, 0, 0);

	up();
	assert_int_equal(dev->ngroups, 2);
	assert_int_equal(dev->nas, 3);
	for (u16 i = 0; i < 3; i++)
		assert_int_equal(dev->ops->get_vq_group(dev, i), i == 2);
	assert_int_equal(setup(0, 2), -EINVAL);
	c.reserved1 = 1;
	assert_int_equal(call(VDUSE_VQ_SETUP, &c, sizeof(c)), -EINVAL);
	c.reserved1 = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(c.reserved2); i++) {
		c.reserved2[i] = 1;
		assert_int_equal(call(VDUSE_VQ_SETUP, &c, sizeof(c)), -EINVAL);
		c.reserved2[i] = 0;
	}
	vdpa_set_status(dev, 4);
	assert_int_equal(setup(0, 0), -EINVAL);
	assert_int_equal(vdpa_reset(dev), 0);
	assert_int_equal(setup(0, 1), 0);
	assert_int_equal(dev->ops->get_vq_group(dev, 0), 1);
	down();

	/* Version 0: the word is reserved, and DRIVER_OK is no obstacle. */
	assert_int_equal(create(0, &old), 0);
	start();
	assert_int_equal(setup(0, 1), -EINVAL);
	assert_int_equal(setup(0, 0), 0);
	assert_int_equal(td_attach("x"), 0);
	dev = vdpa_find("x");
	assert_int_equal(dev->ngroups, 1);
	assert_int_equal(dev->nas, 1);
	assert_int_equal(dev->ops->get_vq_group(dev, 0), 0);
	assert_int_equal(dev->ops->set_group_asid(dev, 0, 0), -EINVAL);
	vdpa_set_status(dev, 4);
	assert_int_equal(setup(0, 0), 0);
	down();
}

/* ---- Address spaces ---- */

static int map_file(u32 asid, int fd)
{
	struct vdpa_mem *m = vdpa_mem_shared(fd, 0, 65536, true);
	struct vdpa_iotlb *t = vdpa_iotlb_new(0);
	int ret = vdpa_iotlb_add(t, &(struct vdpa_map){.start = 0x100000, .last = 0x10ffff, .perm = VDPA_RW, .mem = m});

	vdpa_mem_put(m);
	if (!ret)
		ret = dev->ops->set_map(dev, asid, t);
	vdpa_iotlb_free(t);
	return ret;
}

/* The file that an address leads to in @asid: by GET_FD2, or by GET_FD if @old. */
static ino_t file_at(u32 asid, bool old)
{
	struct vduse_iotlb_entry_v2 e = {.v1 = {.start = 0x100000, .last = 0x100000}, .asid = asid};
	struct stat st;
	u32 seq;
	int fd;
	long ret = old ? vduse_ioctl(peer.d, VDUSE_IOTLB_GET_FD, &e.v1, sizeof(e.v1), -1, &fd, &seq) :
			 vduse_ioctl(peer.d, VDUSE_IOTLB_GET_FD2, &e, sizeof(e), -1, &fd, &seq);

	if (ret) {
		assert_int_equal(ret, -EINVAL);
		return 0;
	}
	assert_int_equal(e.v1.last, 0x10ffff);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	return st.st_ino;
}

static void spaces(void **state)
{
	struct vduse_iotlb_entry_v2 e = {.v1 = {.last = ~0ull}};
	struct vduse_iova_info_api1 i = {.last = ~0ull, .asid = 2};
	struct vduse_iova_umem_api1 u = {.size = 64 << 20, .asid = 1};
	struct vduse_iova_range_v2 r;
	struct stat st[2];
	int file[2];

	assert_int_equal(sizeof(e), 88);
	assert_int_equal(offsetof(struct vduse_iotlb_entry_v2, asid), 32);
	up();
	for (unsigned n = 0; n < 2; n++) {
		file[n] = memfd_create("ram", MFD_CLOEXEC);
		assert_int_equal(ftruncate(file[n], 65536), 0);
		assert_int_equal(fstat(file[n], &st[n]), 0);
	}
	assert_int_equal(file_at(0, false), 0);
	assert_int_equal(map_file(0, file[0]), 0);
	assert_int_equal(last().type, VDUSE_UPDATE_IOTLB);
	assert_int_equal(map_file(2, file[1]), 0);
	memcpy(&r, last().padding, sizeof(r));
	assert_int_equal(last().type, VDUSE_UPDATE_IOTLB);
	assert_int_equal(r.asid, 2);
	assert_int_equal(r.start, 0);
	assert_int_equal(r.last, ~0ull);
	assert_int_equal(file_at(0, false), st[0].st_ino);
	assert_int_equal(file_at(0, true), st[0].st_ino);
	assert_int_equal(file_at(1, false), 0);
	assert_int_equal(file_at(2, false), st[1].st_ino);
	assert_int_equal(file_at(3, false), 0);
	for (unsigned n = 0; n < ARRAY_SIZE(e.reserved); n++) {
		e.reserved[n] = 1;
		assert_int_equal(call(VDUSE_IOTLB_GET_FD2, &e, sizeof(e)), -EINVAL);
		e.reserved[n] = 0;
	}
	assert_int_equal(call(VDUSE_IOTLB_GET_FD2, &e, sizeof(e) - 1), -EFAULT);

	assert_int_equal(call(VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), 0);
	assert_int_equal(i.start, 0x100000);
	i = (struct vduse_iova_info_api1){.last = ~0ull, .asid = 1};
	assert_int_equal(call(VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), -EINVAL);
	i.asid = 3;
	assert_int_equal(call(VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), -EINVAL);
	i = (struct vduse_iova_info_api1){.last = ~0ull, .reserved = {1}};
	assert_int_equal(call(VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), -EINVAL);
	/* Bounce memory, which umem replaces, is in the first space only. */
	assert_int_equal(call(VDUSE_IOTLB_REG_UMEM, &u, sizeof(u)), -EINVAL);
	assert_int_equal(call(VDUSE_IOTLB_DEREG_UMEM, &u, sizeof(u)), -ENOENT);
	u.asid = 3;
	assert_int_equal(call(VDUSE_IOTLB_DEREG_UMEM, &u, sizeof(u)), -EINVAL);

	/* A refused update leaves the space as it was, an empty one too. */
	atomic_store(&peer.refuse, true);
	assert_int_equal(map_file(1, file[0]), -EIO);
	assert_int_equal(map_file(2, file[0]), -EIO);
	atomic_store(&peer.refuse, false);
	assert_int_equal(file_at(1, false), 0);
	assert_int_equal(file_at(2, false), st[1].st_ino);
	down();
	close(file[0]);
	close(file[1]);
}

static void group_spaces(void **state)
{
	struct vdpa_virtio_req q = {.op = VDPA_VIRTIO_OPEN, .data = "x"};
	struct vdpa_virtio_rep rep;
	struct vdpa_session *s;
	struct vduse_vq_group_asid a;

	up();
	assert_int_equal(dev->ops->set_group_asid(dev, 1, 2), 0);
	memcpy(&a, last().padding, sizeof(a));
	assert_int_equal(last().type, VDUSE_SET_VQ_GROUP_ASID);
	assert_int_equal(a.group, 1);
	assert_int_equal(a.asid, 2);
	atomic_store(&peer.refuse, true);
	assert_int_equal(dev->ops->set_group_asid(dev, 0, 1), -EIO);
	atomic_store(&peer.refuse, false);
	vdpa_set_status(dev, 4);
	assert_int_equal(dev->ops->set_group_asid(dev, 0, 1), -EBUSY);
	assert_int_equal(vdpa_reset(dev), 0);

	/* An in-process driver finds all queues in the first space again. */
	s = vdpa_session_local();
	assert_int_equal(s->call(s, &q, -1, &rep), 0);
	memcpy(&a, last().padding, sizeof(a));
	assert_int_equal(last().type, VDUSE_SET_VQ_GROUP_ASID);
	assert_int_equal(a.group, 1);
	assert_int_equal(a.asid, 0);
	for (unsigned i = 0; i < 2; i++)
		close(rep.fds[i]);
	s->close(s);
	down();
}

/* What version 1 brings is not there for a device of version 0. */
static void old_device(void **state)
{
	const struct vduse_dev_config_api1 c = device(BLOCK, 1, 0, 0);
	struct vduse_iotlb_entry_v2 e = {.v1 = {.last = ~0ull}};
	struct vduse_iova_info_api1 i = {.last = ~0ull, .asid = 1};
	struct vduse_iova_umem_api1 u = {.size = 64 << 20, .asid = 1};

	assert_int_equal(create(0, &c), 0);
	start();
	assert_int_equal(call(VDUSE_IOTLB_GET_FD2, &e, sizeof(e)), -ENOTTY);
	assert_int_equal(call(VDUSE_IOTLB_GET_INFO, &i, sizeof(i)), -EINVAL);
	assert_int_equal(call(VDUSE_IOTLB_DEREG_UMEM, &u, sizeof(u)), -EINVAL);
	stop();
}

/* ---- Network devices ---- */

static void network(void **state)
{
	const struct vduse_control user = {.no_net_admin = true};
	struct vduse_dev_config_api1 c = device(NET, 2, 0, 0);

	assert_int_equal(create_as(&user, &c), -EPERM);
	assert_int_equal(vduse_count(), 0);
	/* What is wrong anyway is told first; a disk needs no privilege. */
	c.features |= CTRL_VQ;
	assert_int_equal(create_as(&user, &c), -EINVAL);
	c = device(NET, 2, 0, 0);
	c.features &= ~BIT(32);
	assert_int_equal(create(0, &c), -EINVAL);
	c = device(BLOCK, 1, 0, 0);
	assert_int_equal(create_as(&user, &c), 0);
	c = device(NET, 2, 0, 0);
	assert_int_equal(create_as(&user, &c), -EPERM);
	assert_int_equal(create(0, &c), -EEXIST);
	destroy();
	/* A control queue would be the bit's; others of a disk's mean something else here. */
	c.features |= BIT(11);
	assert_int_equal(create(0, &c), 0);
	destroy();

	c = device(NET, 2, 2, 2);
	assert_int_equal(create(1, &c), 0);
	start();
	assert_int_equal(setup(0, 0), 0);
	assert_int_equal(setup(1, 1), 0);
	assert_int_equal(td_attach("x"), 0);
	dev = vdpa_find("x");
	assert_int_equal(dev->ops->get_device_id(dev), NET);
	down();
}

static int set_up(void **state)
{
	log_set_level(LOG_ERROR);
	return vdpa_mem_init() || vdpa_virtio_init() || vduse_init();
}

static int tear_down(void **state)
{
	vduse_exit();
	vdpa_virtio_exit();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "G.A 19: groups and spaces at creation, by version", creation, NULL, NULL, NULL },
		{ "G.A 19: groups of queues", queue_groups, NULL, NULL, NULL },
		{ "G.A 19: address spaces: tables, descriptors, umem", spaces, NULL, NULL, NULL },
		{ "G.A 19: a group's address space", group_spaces, NULL, NULL, NULL },
		{ "G.A 19: a device of version 0", old_device, NULL, NULL, NULL },
		{ "G.A 4: network devices", network, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
