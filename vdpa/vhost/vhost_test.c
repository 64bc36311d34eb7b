// SPDX-License-Identifier: MIT
/*
 * The node's calls over a fake device: the error tables row by row, IOTLB
 * messages and batches, eventfds, exclusive opening, random calls at once.
 * Names carry the acceptance test that they automate.
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
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "vdpa/fake.h"
#include "vdpa/vhost/vhost_priv.h"

#define OWNER 1234	/* a process id; nobody looks for the process */
#define F33 (1ull << VIRTIO_F_ACCESS_PLATFORM)

static void dev_del(struct vdpa_mgmtdev *m, struct vdpa_device *d)
{
	vdpa_unregister(d);
	vdpa_put(d);
}

static struct vdpa_mgmtdev mgmt = { .name = "fake", .dev_del = dev_del };
static struct fake *f;
static struct vhost_vdpa *v;
static struct vhost_call call;

static long ioctl_as(pid_t pid, u32 req, const void *in, u32 len, int fd)
{
	call = (struct vhost_call){ .req = req, .pid = pid, .in = in, .in_len = len, .fd = fd };
	return vhost_vdpa_ioctl(v, &call);
}

#define CALL(req, arg) ioctl_as(OWNER, (req), &(arg), sizeof(arg), -1)

static u64 answer(void)
{
	u64 value = 0;

	memcpy(&value, call.out, min(call.out_len, 8u));
	return value;
}

static long state(u32 req, u32 index, u32 num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return CALL(req, s);
}

static long file(u32 req, u32 index, int fd)
{
	struct vhost_vring_file file_arg = { .index = index, .fd = fd };

	return ioctl_as(OWNER, req, &file_arg, sizeof(file_arg), fd);
}

static long message(u32 outer, u32 asid, u8 type, u64 iova, u64 size, const struct vhost_piece *p)
{
	struct vhost_msg_v2 m = { .type = outer, .asid = asid };

	m.iotlb = (struct vhost_iotlb_msg){ .iova = iova, .size = size, .perm = VHOST_ACCESS_RW, .type = type };
	return vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, p ? 1 : 0);
}

static long update(u32 asid, u64 iova, u64 size)
{
	return message(VHOST_IOTLB_MSG_V2, asid, VHOST_IOTLB_UPDATE, iova, size, NULL);
}

static long other(u32 asid, u8 type)
{
	return message(VHOST_IOTLB_MSG_V2, asid, type, 0, 0, NULL);
}

static long invalidate(u32 asid, u64 iova, u64 size)
{
	return message(VHOST_IOTLB_MSG_V2, asid, VHOST_IOTLB_INVALIDATE, iova, size, NULL);
}

static unsigned seen(unsigned as)
{
	return vdpa_iotlb_count(f->seen[as]);
}

static void own(void)
{
	u64 backend = 1ull << VHOST_BACKEND_F_IOTLB_MSG_V2 | 1ull << VHOST_BACKEND_F_IOTLB_BATCH |
		      1ull << VHOST_BACKEND_F_IOTLB_ASID;

	assert_int_equal(ioctl_as(OWNER, VHOST_SET_OWNER, NULL, 0, -1), 0);
	assert_int_equal(CALL(VHOST_SET_BACKEND_FEATURES, backend), 0);
}

static void start(void (*change)(struct fake *d))
{
	f = fake_new(&mgmt, "dev");
	if (change)
		change(f);
	assert_int_equal(vdpa_register(&f->dev), 0);
	v = vhost_vdpa_open((unsigned)vhost_vdpa_node_of("dev"));
	assert_non_null(v);
}

static int set_up(void **state_)
{
	start(NULL);
	return 0;
}

static int set_up_dma(void **state_)
{
	start(fake_use_dma_map);
	return 0;
}

static int tear_down(void **state_)
{
	vhost_vdpa_release(v);
	return vdpa_delete("dev");
}

/* ---- Nodes ---- */

static void test_nodes(void **state_)
{
	struct fake *a = fake_new(&mgmt, "a"), *b = fake_new(&mgmt, "b"), *c = fake_new(&mgmt, "c");
	unsigned n[8], resets;

	assert_int_equal(vdpa_register(&a->dev), 0);
	assert_int_equal(vdpa_register(&b->dev), 0);
	assert_int_equal(vhost_vdpa_node_of("a"), 0);
	assert_int_equal(vhost_vdpa_node_of("b"), 1);
	assert_int_equal(vdpa_delete("a"), 0);
	assert_int_equal(vhost_vdpa_node_of("a"), -ENOENT);
	assert_int_equal(vdpa_register(&c->dev), 0);
	assert_int_equal(vhost_vdpa_node_of("c"), 0);	/* the lowest free one */
	assert_int_equal(vhost_vdpa_nodes(n, 8), 2);
	assert_int_equal(n[1], 1);

	assert_null(vhost_vdpa_open(7));
	assert_int_equal(errno, ENOENT);
	resets = b->resets;
	v = vhost_vdpa_open(1);
	assert_non_null(v);
	assert_int_equal(b->resets, resets + 1);
	assert_null(vhost_vdpa_open(1));	/* G.B 9 */
	assert_int_equal(errno, EBUSY);
	vhost_vdpa_release(v);
	assert_int_equal(b->resets, resets + 2);
	b->reset_err = -EIO;
	assert_null(vhost_vdpa_open(1));
	assert_int_equal(errno, EIO);
	b->reset_err = 0;
	v = vhost_vdpa_open(1);
	assert_non_null(v);
	vhost_vdpa_release(v);
	assert_int_equal(vdpa_delete("b"), 0);
	assert_int_equal(vdpa_delete("c"), 0);
}

static void *delete_dev(void *arg)
{
	return (void *)(long)vdpa_delete("dev");
}

/* Deleting an open device waits for its closing, and new opens find nothing. */
static void test_delete_waits(void **state_)
{
	unsigned n;
	pthread_t t;
	void *ret;

	start(NULL);
	n = v->n;
	assert_int_equal(pthread_create(&t, NULL, delete_dev, NULL), 0);
	while (!vhost_vdpa_open(n) && errno == EBUSY)
		sched_yield();
	assert_int_equal(errno, ENOENT);
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_OWNER, NULL, 0, -1), 0);	/* who is in may go on */
	vhost_vdpa_release(v);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_int_equal((long)ret, 0);
}

/* ---- G.B 3: the error table ---- */

static void test_owner(void **state_)
{
	static const u32 owners_only[] = {
		VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE,
		VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
		VHOST_SET_VRING_BUSYLOOP_TIMEOUT, VHOST_VDPA_SET_VRING_ENABLE, VHOST_VDPA_GET_VRING_GROUP,
		VHOST_VDPA_SET_GROUP_ASID, VHOST_VDPA_GET_VRING_SIZE, VHOST_RESET_OWNER, 0xaf99,
	};
	u8 arg[64] = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(owners_only); i++)
		assert_int_equal(ioctl_as(OWNER, owners_only[i], arg, sizeof(arg), -1), -EPERM);
	assert_int_equal(update(0, 0, 0x1000), -EFAULT);
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_OWNER, NULL, 0, -1), 0);
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_OWNER, NULL, 0, -1), -EBUSY);
	assert_int_equal(ioctl_as(OWNER + 1, VHOST_SET_VRING_NUM, arg, sizeof(arg), -1), -EPERM);
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_MEM_TABLE, arg, sizeof(arg), -1), 0);
	arg[4] = 1;
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_MEM_TABLE, arg, sizeof(arg), -1), -EOPNOTSUPP);
	arg[4] = 0;
	arg[0] = 65;
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_MEM_TABLE, arg, sizeof(arg), -1), -E2BIG);
	assert_int_equal(CALL(VHOST_SET_LOG_BASE, arg), -ENOTTY);
	assert_int_equal(CALL(VHOST_SET_LOG_FD, arg), -ENOTTY);
}

static void test_values(void **state_)
{
	const struct { u32 req; u32 len; u64 value; } rows[] = {
		{ VHOST_VDPA_GET_DEVICE_ID, 4, 1 },
		{ VHOST_VDPA_GET_STATUS, 1, 0 },
		{ VHOST_GET_FEATURES, 8, F33 | 1ull << 32 | 1ull << 34 | 1ull << 5 },
		{ VHOST_GET_BACKEND_FEATURES, 8, 0x3e },
		{ VHOST_VDPA_GET_VRING_NUM, 2, 256 },
		{ VHOST_VDPA_GET_GROUP_NUM, 4, 2 },
		{ VHOST_VDPA_GET_AS_NUM, 4, 2 },
		{ VHOST_VDPA_GET_VQS_COUNT, 4, 3 },
		{ VHOST_VDPA_GET_CONFIG_SIZE, 4, FAKE_CONFIG },
	};
	struct vhost_vdpa_iova_range range;

	/* Nobody owns it yet: these answer all the same. */
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(ioctl_as(OWNER, rows[i].req, NULL, 0, -1), 0);
		assert_int_equal(call.out_len, rows[i].len);
		assert_int_equal(answer(), rows[i].value);
	}
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_GET_IOVA_RANGE, NULL, 0, -1), 0);
	memcpy(&range, call.out, sizeof(range));
	assert_int_equal(range.first, 0);
	assert_int_equal(range.last, UINT64_MAX);
}

static void test_status(void **state_)
{
	const struct { u8 status; long ret; u8 then; } rows[] = {
		{ 1, 0, 1 }, { 3, 0, 3 }, { 2, -EINVAL, 3 }, { 0xb, 0, 0xb }, { 0xf, 0, 0xf },
		{ 0x8, -EINVAL, 0xf }, { 0x8f, 0, 0x8f }, { 0xf, -EINVAL, 0x8f }, { 0, 0, 0 }, { 4, 0, 4 },
	};
	u8 zero = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(CALL(VHOST_VDPA_SET_STATUS, rows[i].status), rows[i].ret);
		assert_int_equal(f->status, rows[i].then);
	}
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_STATUS, NULL, 0, -1), -EFAULT);
	f->reset_err = -EIO;
	assert_int_equal(CALL(VHOST_VDPA_SET_STATUS, zero), -EIO);
	f->reset_err = 0;
}

static void test_features(void **state_)
{
	u64 without = 1ull << 32, with = F33 | 1ull << 32 | 1, unknown = 1ull << 7;
	u8 ok = VIRTIO_CONFIG_S_FEATURES_OK;

	assert_int_equal(CALL(VHOST_SET_FEATURES, without), -EINVAL);	/* G.B 4 */
	assert_int_equal(CALL(VHOST_SET_FEATURES, with), 0);
	assert_int_equal(f->features, F33 | 1ull << 32);
	assert_int_equal(CALL(VHOST_VDPA_SET_STATUS, ok), 0);
	assert_int_equal(CALL(VHOST_SET_FEATURES, with), -EBUSY);

	assert_int_equal(CALL(VHOST_SET_BACKEND_FEATURES, unknown), -EOPNOTSUPP);
	unknown = 1;
	assert_int_equal(CALL(VHOST_SET_BACKEND_FEATURES, unknown), -EOPNOTSUPP);
	f->ops.suspend = f->ops.resume = NULL;
	unknown = 1ull << VHOST_BACKEND_F_SUSPEND;
	assert_int_equal(CALL(VHOST_SET_BACKEND_FEATURES, unknown), -EOPNOTSUPP);
	assert_int_equal(ioctl_as(OWNER, VHOST_GET_BACKEND_FEATURES, NULL, 0, -1), 0);
	assert_int_equal(answer(), 0xe);
}

static void test_config(void **state_)
{
	const struct { u32 off, len; long ret; } rows[] = {
		{ 0, 0, -EINVAL }, { 0, FAKE_CONFIG, 0 }, { 0, FAKE_CONFIG + 1, -EINVAL }, { FAKE_CONFIG, 1, -EINVAL },
		{ FAKE_CONFIG + 1, 1, -EINVAL }, { FAKE_CONFIG - 1, 1, 0 }, { 4, UINT32_MAX, -EINVAL },
		{ UINT32_MAX, 2, -EINVAL }, { 4, 4, 0 },
	};
	struct { u32 off, len; u8 bytes[FAKE_CONFIG]; } arg = { 0 };

	for (unsigned i = 0; i < FAKE_CONFIG; i++)
		f->config[i] = (u8)i;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		arg.off = rows[i].off;
		arg.len = rows[i].len;
		assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_GET_CONFIG, &arg, 8, -1), rows[i].ret);
		if (!rows[i].ret) {
			assert_int_equal(call.out_len, arg.len);
			assert_memory_equal(call.out, f->config + arg.off, arg.len);
			memcpy(arg.bytes, f->config + arg.off, arg.len);
		}
		assert_int_equal(CALL(VHOST_VDPA_SET_CONFIG, arg), rows[i].ret);
	}
	arg.bytes[0] = 0xaa;
	assert_int_equal(CALL(VHOST_VDPA_SET_CONFIG, arg), 0);
	assert_int_equal(f->config[4], 0xaa);
	arg.len = 8;
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG, &arg, 8 + 7, -1), -EFAULT);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_GET_CONFIG, &arg, 7, -1), -EFAULT);
}

static void test_queue_rows(void **state_)
{
	const struct { u32 req, index, num; long ret; } rows[] = {
		{ VHOST_SET_VRING_NUM, 0, 0, -EINVAL }, { VHOST_SET_VRING_NUM, 0, 3, -EINVAL },
		{ VHOST_SET_VRING_NUM, 0, 65536, -EINVAL }, { VHOST_SET_VRING_NUM, 0, 32768, 0 },
		{ VHOST_SET_VRING_NUM, 2, 256, 0 }, { VHOST_SET_VRING_NUM, 3, 256, -ENOBUFS },
		{ VHOST_SET_VRING_NUM, UINT32_MAX, 256, -ENOBUFS },
		{ VHOST_SET_VRING_BASE, 1, 65535, 0 }, { VHOST_SET_VRING_BASE, 1, 65536, -EINVAL },
		{ VHOST_SET_VRING_BASE, 3, 0, -ENOBUFS }, { VHOST_GET_VRING_BASE, 3, 0, -ENOBUFS },
		{ VHOST_VDPA_SET_VRING_ENABLE, 0, 1, 0 }, { VHOST_VDPA_SET_VRING_ENABLE, 3, 1, -ENOBUFS },
		{ VHOST_SET_VRING_BUSYLOOP_TIMEOUT, 0, 50, 0 }, { VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 3, 0, -ENOBUFS },
		{ VHOST_VDPA_GET_VRING_GROUP, 3, 0, -ENOBUFS }, { VHOST_VDPA_GET_VRING_GROUP, 2, 0, 0 },
		{ VHOST_VDPA_SET_GROUP_ASID, 3, 0, -ENOBUFS }, { VHOST_VDPA_SET_GROUP_ASID, 2, 0, -EINVAL },
		{ VHOST_VDPA_SET_GROUP_ASID, 1, 2, -EINVAL }, { VHOST_VDPA_SET_GROUP_ASID, 1, 1, 0 },
		{ VHOST_VDPA_GET_VRING_DESC_GROUP, 0, 0, -EOPNOTSUPP },
		{ VHOST_SET_VRING_ENDIAN, 0, 0, -ENOTTY }, { VHOST_GET_VRING_ENDIAN, 0, 0, -ENOTTY },
		{ VHOST_RESET_OWNER, 0, 0, -ENOTTY }, { VHOST_RESET_OWNER, 3, 0, -ENOBUFS },
		{ 0xaf08, 0, 0, -ENOTTY }, { 0xaf08, 3, 0, -ENOBUFS }, { 0x1234, 0, 0, -ENOTTY },
	};

	own();
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(state(rows[i].req, rows[i].index, rows[i].num), rows[i].ret);
	assert_int_equal(ioctl_as(OWNER, VHOST_SET_VRING_NUM, NULL, 0, -1), -EFAULT);
	assert_int_equal(ioctl_as(OWNER, 0xaf08, NULL, 0, -1), -EFAULT);
	assert_int_equal(f->vq[0].num, 32768);
	assert_int_equal(f->vq[1].state.split.avail, 65535);
	assert_true(f->vq[0].ready);
	assert_int_equal(state(VHOST_VDPA_SET_VRING_ENABLE, 0, 0), 0);
	assert_false(f->vq[0].ready);
	assert_int_equal(f->asid_of[1], 1);
	assert_int_equal(state(VHOST_VDPA_GET_VRING_GROUP, 2, 0), 0);
	assert_int_equal(answer(), 2 | 1ull << 32);
	assert_int_equal(state(VHOST_VDPA_GET_VRING_SIZE, 2, 0), 0);
	assert_int_equal(answer(), 2 | 256ull << 32);
	assert_int_equal(state(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 0, 0), 0);
	assert_int_equal(answer(), 50ull << 32);
	f->group_of[0] = 2;
	assert_int_equal(state(VHOST_VDPA_GET_VRING_GROUP, 0, 0), -EIO);
	f->ops.get_vq_group = NULL;
	f->ops.set_group_asid = NULL;
	assert_int_equal(state(VHOST_VDPA_GET_VRING_GROUP, 0, 0), -EOPNOTSUPP);
	assert_int_equal(state(VHOST_VDPA_SET_GROUP_ASID, 0, 0), -EOPNOTSUPP);
}

static void test_addresses(void **state_)
{
	const struct { u32 flags; u64 used, avail, log; long ret; } rows[] = {
		{ 0, 4, 2, 0, 0 }, { 1, 4, 2, 4, 0 }, { 2, 4, 2, 0, -EOPNOTSUPP }, { 0, 2, 2, 0, -EINVAL },
		{ 0, 4, 1, 0, -EINVAL }, { 0, 4, 2, 2, -EINVAL }, { 0, ~3ull, ~1ull, 0, 0 },
	};
	struct vhost_vring_addr a = { .index = 3 };

	own();
	assert_int_equal(CALL(VHOST_SET_VRING_ADDR, a), -ENOBUFS);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		a = (struct vhost_vring_addr){ .index = 1, .flags = rows[i].flags, .desc_user_addr = 7,
			.used_user_addr = rows[i].used, .avail_user_addr = rows[i].avail,
			.log_guest_addr = rows[i].log };
		assert_int_equal(CALL(VHOST_SET_VRING_ADDR, a), rows[i].ret);
	}
	assert_int_equal(f->vq[1].addr.desc, 7);
	assert_int_equal(f->vq[1].addr.device, ~3ull);
	assert_int_equal(f->vq[1].addr.driver, ~1ull);
}

/* G.B 7: the position is readable while suspended and after, and set again. */
static void test_suspend_and_bases(void **state_)
{
	u64 packed = F33 | 1ull << 34;

	own();
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SUSPEND, NULL, 0, -1), 0);
	assert_true(f->suspended);
	f->vq[0].state.split.avail = 77;
	assert_int_equal(state(VHOST_GET_VRING_BASE, 0, 0), 0);
	assert_int_equal(answer(), 77ull << 32);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_RESUME, NULL, 0, -1), 0);
	assert_false(f->suspended);
	f->ops.suspend = f->ops.resume = NULL;
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SUSPEND, NULL, 0, -1), -EOPNOTSUPP);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_RESUME, NULL, 0, -1), -EOPNOTSUPP);

	assert_int_equal(CALL(VHOST_SET_FEATURES, packed), 0);
	assert_int_equal(state(VHOST_SET_VRING_BASE, 1, 0x8005u | 0x7u << 16), 0);
	assert_int_equal(f->vq[1].state.packed.avail_idx, 5);
	assert_int_equal(f->vq[1].state.packed.avail_wrap, 1);
	assert_int_equal(f->vq[1].state.packed.used_idx, 7);
	assert_int_equal(f->vq[1].state.packed.used_wrap, 0);
	f->vq[1].state.packed.used_wrap = 1;
	assert_int_equal(state(VHOST_GET_VRING_BASE, 1, 0), 0);
	assert_int_equal(answer(), 1 | (0x8005ull | 0x8007ull << 16) << 32);
}

/* ---- Eventfds ---- */

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void wait_kicks(unsigned vq, unsigned least)
{
	while (atomic_load(&f->vq[vq].kicks) < least)
		sched_yield();
}

static void test_eventfd_errors(void **state_)
{
	static const u32 reqs[] = { VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR };
	int memfd = memfd_create("x", MFD_CLOEXEC), efd = eventfd(0, EFD_CLOEXEC), none = -1, odd = -2;

	own();
	for (unsigned i = 0; i < ARRAY_SIZE(reqs); i++) {
		assert_int_equal(file(reqs[i], 3, efd), -ENOBUFS);
		assert_int_equal(file(reqs[i], 0, memfd), -EINVAL);
		assert_int_equal(file(reqs[i], 0, 999), -EBADF);
		assert_int_equal(file(reqs[i], 0, -2), -EBADF);
		assert_int_equal(file(reqs[i], 0, efd), 0);
		assert_int_equal(file(reqs[i], 0, efd), 0);
		assert_int_equal(file(reqs[i], 0, -1), 0);
		assert_int_equal(file(reqs[i], 0, -1), 0);
	}
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &memfd, 4, memfd), -EINVAL);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &odd, 4, -1), -EBADF);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &none, 4, -1), 0);
	close(memfd);
	close(efd);
}

static void test_kicks(void **state_)
{
	int a = eventfd(0, EFD_CLOEXEC), b = eventfd(0, EFD_CLOEXEC);

	own();
	eventfd_write(a, 1);
	assert_int_equal(file(VHOST_SET_VRING_KICK, 1, a), 0);	/* readable already */
	wait_kicks(1, 1);
	eventfd_write(a, 1);					/* nobody reads it, yet it counts */
	wait_kicks(1, 2);
	assert_int_equal(file(VHOST_SET_VRING_KICK, 1, b), 0);
	eventfd_write(a, 1);
	eventfd_write(b, 1);
	wait_kicks(1, 3);
	assert_int_equal(file(VHOST_SET_VRING_KICK, 2, a), 0);	/* one descriptor, another queue */
	wait_kicks(2, 1);
	assert_int_equal(file(VHOST_SET_VRING_KICK, 1, -1), 0);
	close(a);
	close(b);
}

/* G.B 8 for both kinds of call: fires, -1 removes, the old one is closed. */
static void test_calls(void **state_)
{
	int a = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), b = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), none = -1;

	own();
	assert_int_equal(file(VHOST_SET_VRING_CALL, 0, a), 0);
	fake_vq_interrupt(f, 0);
	assert_true(readable(a));
	assert_int_equal(file(VHOST_SET_VRING_CALL, 0, b), 0);
	fake_vq_interrupt(f, 0);
	assert_true(readable(b));
	assert_int_equal(file(VHOST_SET_VRING_CALL, 0, -1), 0);
	assert_null(f->vq[0].cb.fn);
	fake_vq_interrupt(f, 0);

	a = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &a, 4, a), 0);
	fake_config_interrupt(f);
	assert_true(readable(a));
	/* A full counter: the interrupt is there already, and nobody may wait for room. */
	eventfd_write(a, UINT64_MAX - 2);
	fake_config_interrupt(f);
	assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &none, 4, -1), 0);
	assert_null(f->config_cb.fn);
	close(a);
	close(b);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_release_closes(void **state_)
{
	int efd = eventfd(0, EFD_CLOEXEC), memfd = memfd_create("x", MFD_CLOEXEC);
	const struct vhost_piece piece = { .len = 0x1000, .fd = memfd, .writable = true };
	unsigned before, n;

	assert_int_equal(ftruncate(memfd, 0x1000), 0);
	start(NULL);
	n = v->n;
	before = open_fds();
	for (unsigned i = 0; i < 2; i++) {
		own();
		for (u32 q = 0; q < 3; q++) {
			assert_int_equal(file(VHOST_SET_VRING_KICK, q, efd), 0);
			assert_int_equal(file(VHOST_SET_VRING_CALL, q, efd), 0);
			assert_int_equal(file(VHOST_SET_VRING_ERR, q, efd), 0);
		}
		assert_int_equal(ioctl_as(OWNER, VHOST_VDPA_SET_CONFIG_CALL, &efd, 4, efd), 0);
		assert_int_equal(message(VHOST_IOTLB_MSG, 0, VHOST_IOTLB_UPDATE, 0, 0x1000, &piece), 72);
		assert_int_equal(other(0, VHOST_IOTLB_BATCH_BEGIN), 72);	/* dies in a batch */
		assert_int_equal(update(0, 0x10000, 0x1000), 72);
		vhost_vdpa_release(v);
		assert_int_equal(seen(0), 0);
		assert_int_equal(open_fds(), before);
		v = vhost_vdpa_open(n);
		assert_non_null(v);
	}
	vhost_vdpa_release(v);
	assert_int_equal(vdpa_delete("dev"), 0);
	close(efd);
	close(memfd);
}

/* ---- G.B 5 and 6: IOTLB messages ---- */

static void test_message_forms(void **state_)
{
	u8 m[72] = { 0 };
	u32 type = 3;

	own();
	for (size_t len = 0; len < 40; len++)
		assert_int_equal(vhost_vdpa_write(v, OWNER, m, len, NULL, 0), -EINVAL);
	assert_int_equal(vhost_vdpa_write(v, OWNER, m, 40, NULL, 0), -EINVAL);	/* outer type 0 */
	memcpy(m, &type, 4);
	assert_int_equal(vhost_vdpa_write(v, OWNER, m, 72, NULL, 0), -EINVAL);
	assert_int_equal(message(VHOST_IOTLB_MSG, 0, VHOST_IOTLB_UPDATE, 0x1000, 0, NULL), -EINVAL);
	assert_int_equal(message(VHOST_IOTLB_MSG, 0, VHOST_IOTLB_INVALIDATE, 0x1000, 0, NULL), -EINVAL);
	assert_int_equal(message(VHOST_IOTLB_MSG, 9, VHOST_IOTLB_UPDATE, 0x1000, 0x1000, NULL), 72);
	assert_int_equal(message(VHOST_IOTLB_MSG_V2, 9, VHOST_IOTLB_UPDATE, 0x3000, 0x1000, NULL), -EFAULT);
	assert_int_equal(seen(0), 1);
	for (unsigned t = 0; t < 256; t++)
		if (t < VHOST_IOTLB_UPDATE || t == VHOST_IOTLB_ACCESS_FAIL || t > VHOST_IOTLB_BATCH_END)
			assert_int_equal(other(0, (u8)t), -EFAULT);
}

static void test_update_rules(void **state_)
{
	own();
	f->iova_first = 0x1000;		/* read at open: see below */
	v->first = 0x1000;
	v->last = 0xffffffff;
	assert_int_equal(invalidate(0, 0, 0x1000), -EFAULT);	/* no such space yet */
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), -EFAULT);
	assert_int_equal(update(0, 0, 0x1000), -EFAULT);
	assert_int_equal(update(0, 0xfffff000, 0x1001), -EFAULT);
	assert_int_equal(update(0, 0x2000, UINT64_MAX), -EFAULT);
	assert_int_equal(update(0, 0x1000, 0xffffffff), -EFAULT);
	assert_int_equal(update(0, 0x2000, 0x2000), 72);
	assert_int_equal(update(0, 0x3000, 0x1000), -EFAULT);
	assert_int_equal(update(0, 0x1000, 0x1001), -EFAULT);
	assert_int_equal(seen(0), 1);
	assert_int_equal(vdpa_iotlb_find(f->seen[0], 0, UINT64_MAX)->last, 0x3fff);
	assert_int_equal(invalidate(0, 0x2fff, 1), 72);		/* whole entries */
	assert_int_equal(seen(0), 0);
	assert_int_equal(invalidate(0, 0, UINT64_MAX), 72);
	assert_int_equal(update(2, 0x1000, 0x1000), -EFAULT);
	assert_int_equal(invalidate(2, 0x1000, 0x1000), -EFAULT);
	f->map_err = -ENOMEM;
	assert_int_equal(update(0, 0x1000, 0x1000), -EFAULT);
	f->map_err = 0;
	assert_int_equal(update(0, 0x1000, 0x1000), 72);	/* nothing stayed behind */
}

static void test_batch(void **state_)
{
	unsigned maps;

	own();
	assert_int_equal(update(0, 0x1000, 0x1000), 72);
	maps = f->maps;
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_BEGIN), 72);
	assert_int_equal(update(0, 0x3000, 0x1000), 72);
	assert_int_equal(invalidate(0, 0x1000, 0x1000), 72);
	assert_int_equal(update(1, 0x3000, 0x1000), -EFAULT);		/* another space */
	assert_int_equal(other(1, VHOST_IOTLB_BATCH_END), -EFAULT);
	assert_int_equal(f->maps, maps);
	assert_int_equal(seen(0), 1);
	assert_int_equal(vdpa_iotlb_find(f->seen[0], 0, UINT64_MAX)->start, 0x1000);
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), 72);
	assert_int_equal(f->maps, maps + 1);
	assert_int_equal(seen(0), 1);
	assert_int_equal(vdpa_iotlb_find(f->seen[0], 0, UINT64_MAX)->start, 0x3000);
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), 72);		/* one too many does nothing */
	assert_int_equal(f->maps, maps + 1);
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_BEGIN), 72);
	assert_int_equal(update(0, 0x5000, 0x1000), 72);
	f->map_err = -EIO;
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), -EFAULT);
	f->map_err = 0;
	assert_int_equal(update(1, 0x1000, 0x1000), 72);		/* the batch is over all the same */
}

/* Without set_map each message reaches the parent at once, batch or not. */
static void test_dma_map(void **state_)
{
	own();
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_BEGIN), 72);
	assert_int_equal(update(0, 0x1000, 0x1000), 72);
	assert_int_equal(update(0, 0x2000, 0x1000), 72);
	assert_int_equal(seen(0), 2);
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), 72);
	assert_int_equal(f->maps, 2);
	assert_int_equal(invalidate(0, 0x1800, 0x1000), 72);
	assert_int_equal(f->unmaps, 2);
	assert_int_equal(seen(0), 0);
	f->map_err = -EIO;
	assert_int_equal(update(0, 0x1000, 0x1000), -EFAULT);
	f->map_err = 0;
	assert_int_equal(update(0, 0x1000, 0x1000), 72);
}

static void test_limit(void **state_)
{
	struct vhost_piece p[3] = {
		{ .len = 0x1000, .uaddr = 0x10000, .fd = -1, .writable = true },
		{ .len = 0x1000, .uaddr = 0x20000, .fd = -1, .writable = true },
		{ .len = 0x1000, .uaddr = 0x30000, .fd = -1, .writable = true },
	};
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };

	own();
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_BEGIN), 72);
	for (u64 i = 0; i < 2046; i++)
		assert_int_equal(update(0, i * 0x2000, 0x1000), 72);
	/* Three pieces where two fit: none of them stays. */
	m.iotlb = (struct vhost_iotlb_msg){ .iova = 1ull << 40, .size = 0x3000, .perm = 3,
		.type = VHOST_IOTLB_UPDATE };
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 3), -EFAULT);
	m.iotlb.size = 0x2000;
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 2), 72);
	assert_int_equal(update(0, 1ull << 41, 0x1000), -EFAULT);
	assert_int_equal(other(0, VHOST_IOTLB_BATCH_END), 72);
	assert_int_equal(seen(0), 2048);
	/* Pieces that end before the range does: an address with nothing behind it. */
	assert_int_equal(invalidate(0, 0, UINT64_MAX), 72);
	m.iotlb.size = 0x4000;
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 3), -EFAULT);
	assert_int_equal(seen(0), 0);
	p[1].writable = false;
	m.iotlb.size = 0x3000;
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 3), -EFAULT);
	assert_int_equal(seen(0), 0);
	m.iotlb.perm = VHOST_ACCESS_RO;
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 3), 72);
	assert_int_equal(seen(0), 3);
}

/* The whole space in one message: two entries. */
static void test_whole_space(void **state_)
{
	own();
	assert_int_equal(update(0, 1, UINT64_MAX), 72);
	assert_int_equal(seen(0), 1);
	assert_int_equal(invalidate(0, 5, 1), 72);
	assert_int_equal(update(0, 0, UINT64_MAX), 72);
	assert_int_equal(update(0, UINT64_MAX, 1), 72);
	assert_int_equal(seen(0), 2);
}

static void test_memory(void **state_)
{
	int memfd = memfd_create("x", MFD_CLOEXEC);
	const struct vhost_piece shared = { .len = 0x2000, .off = 0x1000, .fd = memfd, .writable = true };
	char buf[6] = { 0 }, mine[0x1000] = "mine";
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };

	assert_int_equal(ftruncate(memfd, 0x3000), 0);
	own();
	assert_int_equal(message(VHOST_IOTLB_MSG_V2, 0, VHOST_IOTLB_UPDATE, 0x10000, 0x2000, &shared), 72);
	assert_int_equal(vdpa_iotlb_write(f->seen[0], 0x11234, "hello", 5), 0);
	assert_int_equal(pread(memfd, buf, 5, 0x2234), 5);
	assert_string_equal(buf, "hello");
	/* G.B 6: another address space has none of it. */
	assert_int_equal(vdpa_iotlb_read(f->seen[1], 0x11234, buf, 5), -EINVAL);
	/* Private memory of the owner: this very process. */
	v->owner = getpid();
	m.iotlb = (struct vhost_iotlb_msg){ .iova = 0x20000, .size = sizeof(mine), .uaddr = (u64)mine,
		.perm = VHOST_ACCESS_RW, .type = VHOST_IOTLB_UPDATE };
	assert_int_equal(vhost_vdpa_write(v, getpid(), &m, sizeof(m), NULL, 0), 72);
	assert_int_equal(vdpa_iotlb_read(f->seen[0], 0x20000, buf, 5), 0);
	assert_string_equal(buf, "mine");
	assert_int_equal(vdpa_iotlb_write(f->seen[0], 0x20000, "MINE", 5), 0);
	assert_string_equal(mine, "MINE");
	close(memfd);
}

/* A parent that hands files on: private memory is left out without error. */
static void test_use_va(void **state_)
{
	int memfd = memfd_create("x", MFD_CLOEXEC);
	const struct vhost_piece p[] = {
		{ .len = 0x1000, .uaddr = 0x10000, .fd = -1, .writable = true },
		{ .len = 0x1000, .off = 0x2000, .fd = memfd, .writable = true },
	};
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };
	u64 off;

	assert_int_equal(ftruncate(memfd, 0x3000), 0);
	f->dev.use_va = true;
	own();
	m.iotlb = (struct vhost_iotlb_msg){ .iova = 0x8000, .size = 0x2000, .perm = 3, .type = VHOST_IOTLB_UPDATE };
	assert_int_equal(vhost_vdpa_write(v, OWNER, &m, sizeof(m), p, 2), 72);
	assert_int_equal(seen(0), 1);
	assert_int_equal(vdpa_iotlb_find(f->seen[0], 0, UINT64_MAX)->start, 0x9000);
	assert_true(vdpa_mem_file(vdpa_iotlb_find(f->seen[0], 0, UINT64_MAX)->mem, 0, &off) >= 0);
	assert_int_equal(off, 0x2000);
	close(memfd);
}

static int unaligned_doorbell(struct vdpa_device *d, u16 vq, int *fd, u64 *off)
{
	*fd = -1;
	*off = 4;
	return 0;
}

static void test_doorbell(void **state_)
{
	u64 off;

	assert_int_equal(vhost_vdpa_doorbell(v, 0, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -524);
	assert_int_equal(vhost_vdpa_doorbell(v, 0, 2 * PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -EINVAL);
	assert_int_equal(vhost_vdpa_doorbell(v, 0, PAGE_SIZE, PROT_WRITE | PROT_READ, MAP_SHARED, &off), -EINVAL);
	assert_int_equal(vhost_vdpa_doorbell(v, 0, PAGE_SIZE, PROT_WRITE, MAP_PRIVATE, &off), -EINVAL);
	/* Without doorbells nobody asks whether there is such a queue. */
	assert_int_equal(vhost_vdpa_doorbell(v, 3, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -524);
	assert_int_equal(vhost_vdpa_doorbell(v, 65536, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -EINVAL);
	f->ops.get_doorbell = unaligned_doorbell;
	assert_int_equal(vhost_vdpa_doorbell(v, 3, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -EINVAL);
	assert_int_equal(vhost_vdpa_doorbell(v, 2, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off), -EINVAL);
}

/* ---- G.B 10 ---- */

#define THREADS 16
static _Atomic bool stop;

static void *random_calls(void *arg)
{
	static const u32 reqs[] = {
		VHOST_SET_OWNER, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR,
		VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL,
		VHOST_SET_VRING_ERR, VHOST_VDPA_GET_DEVICE_ID, VHOST_VDPA_GET_STATUS, VHOST_VDPA_SET_STATUS,
		VHOST_VDPA_GET_CONFIG, VHOST_VDPA_SET_CONFIG, VHOST_VDPA_SET_VRING_ENABLE,
		VHOST_VDPA_GET_VRING_NUM, VHOST_VDPA_SET_CONFIG_CALL, VHOST_VDPA_GET_IOVA_RANGE,
		VHOST_VDPA_GET_VRING_GROUP, VHOST_VDPA_SET_GROUP_ASID, VHOST_VDPA_SUSPEND, VHOST_VDPA_RESUME,
		VHOST_SET_FEATURES, VHOST_GET_FEATURES, VHOST_SET_BACKEND_FEATURES,
	};
	unsigned seed = (unsigned)(long)arg;
	int efd = eventfd(0, EFD_CLOEXEC);

	while (!atomic_load(&stop)) {
		struct vhost_call c = { .req = reqs[(unsigned)rand_r(&seed) % ARRAY_SIZE(reqs)], .pid = OWNER };
		u32 words[18];

		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = (u32)rand_r(&seed) % (i ? 0x4000 : 4);
		c.in = words;
		c.in_len = (u32)rand_r(&seed) % (sizeof(words) + 1);
		c.fd = rand_r(&seed) % 3 ? efd : -1;
		vhost_vdpa_ioctl(v, &c);
		if (rand_r(&seed) % 4 == 0) {
			struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2, .asid = (u32)rand_r(&seed) % 3 };

			m.iotlb = (struct vhost_iotlb_msg){ .iova = (u64)(rand_r(&seed) % 64) << 12,
				.size = (u64)(rand_r(&seed) % 8) << 12, .perm = 3,
				.type = (u8)(1 + rand_r(&seed) % 6) };
			vhost_vdpa_write(v, OWNER, &m, sizeof(m), NULL, 0);
		}
		if (rand_r(&seed) % 8 == 0) {
			eventfd_write(efd, 1);
			fake_vq_interrupt(f, (u16)((unsigned)rand_r(&seed) % FAKE_VQS));
			fake_config_interrupt(f);
		}
	}
	close(efd);
	return NULL;
}

/* tests/stress/vhost_stress goes on for longer, with real parents. */
static void test_stress(void **state_)
{
	pthread_t t[THREADS];

	atomic_store(&stop, false);
	for (long i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, random_calls, (void *)(i + 1)), 0);
	usleep(300 * 1000);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

static int group_set_up(void **state_)
{
	return vhost_vdpa_init();
}

#define NODE(name, fn) { "G.B " name, fn, set_up, tear_down, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_delete_waits),
		NODE("3: owner", test_owner),
		NODE("3: values", test_values),
		NODE("3: status", test_status),
		NODE("3, 4: features", test_features),
		NODE("3: configuration", test_config),
		NODE("3: queues", test_queue_rows),
		NODE("3: addresses", test_addresses),
		NODE("3: eventfds", test_eventfd_errors),
		NODE("3: doorbell", test_doorbell),
		NODE("5: message forms", test_message_forms),
		NODE("5: updates", test_update_rules),
		NODE("5: batch", test_batch),
		NODE("5: limit", test_limit),
		NODE("5: whole space", test_whole_space),
		{ "G.B 5: dma_map", test_dma_map, set_up_dma, tear_down, NULL },
		NODE("6: memory", test_memory),
		NODE("6: files for use_va", test_use_va),
		NODE("7: suspend, bases", test_suspend_and_bases),
		NODE("8: kicks", test_kicks),
		NODE("8: calls", test_calls),
		cmocka_unit_test(test_release_closes),
		NODE("10: stress", test_stress),
	};

	return cmocka_run_group_tests(tests, group_set_up, NULL);
}
