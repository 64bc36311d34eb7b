// SPDX-License-Identifier: MIT
/* The network driver on the simulator, a simulated card, a VDUSE daemon, and a device that shows what it is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/ifcvf/ifcvf.h"
#include "vdpa/net.h"
#include "vdpa/sim/sim.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/virtio/fake_net.h"

static const u8 own[6] = { 2, 4, 6, 8, 10, 12 }, other[6] = { 2, 4, 6, 8, 10, 14 },
		everyone[6] = { 255, 255, 255, 255, 255, 255 };

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void add_device(const char *bus, const char *parent, const char *name, const struct vdpa_dev_attrs *a)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(bus, parent);

	assert_non_null(m);
	assert_int_equal(m->dev_add(m, name, a), 0);
}

static struct vnet *open_net(const char *name, const struct vnet_cfg *cfg)
{
	char err[256] = "";
	struct vnet *n = vnet_open(vdpa_session_local(), name, cfg, err);

	if (!n)
		fail_msg("%s", err);
	return n;
}

/* A frame of @len bytes to @dest, told apart by @seq. */
static void make_frame(u8 *p, const u8 *dest, u32 seq, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (u8)(seq + i * 7);
	memcpy(p, dest, 6);
	memcpy(p + 6, &seq, sizeof(seq));
}

static int send_frame(struct vnet *n, u16 pair, const u8 *p, size_t len)
{
	/* In pieces, the first shorter than a header. */
	const struct iovec iov[] = {{(void *)p, 5}, {(void *)(p + 5), 0}, {(void *)(p + 5), len - 5}};
	int ret;

	for (u64 until = now_ms() + 10000; (ret = vnet_send(n, pair, iov, ARRAY_SIZE(iov))) == -EAGAIN;) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		usleep(200);
	}
	return ret;
}

/* The frame comes back as it was sent, within @ms. */
static bool returns(struct vnet *n, u16 pair, const u8 *p, size_t len, int ms)
{
	static u8 buf[VNET_FRAME_MAX];
	u64 until = now_ms() + (u64)ms;
	ssize_t got;

	while ((got = vnet_receive(n, pair, buf, sizeof(buf))) == -EAGAIN) {
		if (now_ms() >= until)
			return false;
		assert_true(vnet_wait(n, pair, 20) >= 0);
	}
	return got == (ssize_t)len && !memcmp(buf, p, len);
}

static void exchange(struct vnet *n, u16 pair, unsigned frames, size_t most)
{
	static u8 p[VNET_FRAME_MAX];

	for (unsigned i = 0; i < frames; i++) {
		size_t len = 14 + (i * 131u) % (most - 13);

		make_frame(p, i & 1 ? own : everyone, i, len);
		assert_int_equal(send_frame(n, pair, p, len), 0);
		if (!returns(n, pair, p, len, 10000))
			fail_msg("frame %u of %zu bytes", i, len);
	}
}

/* ---- The simulator ---- */

static void simulator(void **state)
{
	static const struct vnet_cfg rows[] = {
		{ 0 }, { .depth = 4 }, { .no_event_idx = true, .no_indirect = true }, { .pairs = 4 },
	};
	struct vdpa_dev_attrs a = { .mask = VDPA_ATTR_MAC | VDPA_ATTR_MTU, .mtu = 1600 };
	static u8 p[2000];
	struct vnet_info info;
	struct vnet *n;

	memcpy(a.mac, own, 6);
	add_device(NULL, "vdpasim_net", "net", &a);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		n = open_net("net", &rows[i]);
		vnet_info(n, &info);
		assert_memory_equal(info.mac, own, 6);
		assert_int_equal(info.mtu, 1600);
		assert_int_equal(info.max_frame, 1618);
		assert_int_equal(info.pairs, 1);
		assert_true(info.link_up && info.set_mac && !info.rx_modes && !info.mergeable);
		exchange(n, 0, 300, info.max_frame);
		make_frame(p, other, 1, 100);
		assert_int_equal(send_frame(n, 0, p, 100), 0);
		assert_false(returns(n, 0, p, 100, 30));
		assert_int_equal(vnet_rx_errors(n, 0), 0);
		vnet_close(n);
	}
	/* Over the control queue the card gets another address, and nothing else. */
	n = open_net("net", &rows[0]);
	assert_int_equal(vnet_set_mac(n, other), 0);
	vnet_info(n, &info);
	assert_memory_equal(info.mac, other, 6);
	make_frame(p, other, 2, 100);
	assert_int_equal(send_frame(n, 0, p, 100), 0);
	assert_true(returns(n, 0, p, 100, 5000));
	assert_int_equal(vnet_set_mac(n, everyone), -EINVAL);
	assert_int_equal(vnet_set_rx_mode(n, VNET_PROMISC, true), -EOPNOTSUPP);
	assert_int_equal(vnet_set_pairs(n, 1), -EOPNOTSUPP);
	assert_int_equal(vnet_set_pairs(n, 2), -EINVAL);
	assert_int_equal(send_frame(n, 0, p, 13), -EMSGSIZE);
	assert_int_equal(send_frame(n, 0, p, 1619), -EMSGSIZE);
	vnet_close(n);
	assert_int_equal(vdpa_delete("net"), 0);
}

/* Many at once: the ring gets full, receive buffers run out, nothing comes twice or wrong. */
static void flood(void **state)
{
	static u8 p[600], buf[VNET_FRAME_MAX];
	struct vdpa_dev_attrs a = { .mask = VDPA_ATTR_MAC };
	unsigned sent = 0, received = 0, full = 0;
	u64 until = now_ms() + 60000;
	struct vnet *n;
	u32 last = 0;

	memcpy(a.mac, own, 6);
	add_device(NULL, "vdpasim_net", "net", &a);
	n = open_net("net", &(struct vnet_cfg){ .depth = 8 });
	while (sent < 3000 || received <= 100) {
		const struct iovec iov = {p, 60 + sent % 500};
		ssize_t got;
		u32 seq;

		make_frame(p, own, sent + 1, iov.iov_len);
		if (!vnet_send(n, 0, &iov, 1)) {
			sent++;
		} else {
			assert_true(now_ms() < until);
			full++;
			sched_yield();
		}
		while (full % 3 == 0 && (got = vnet_receive(n, 0, buf, sizeof(buf))) > 0) {
			memcpy(&seq, buf + 6, sizeof(seq));
			assert_true(seq > last && seq <= sent);
			assert_int_equal(got, 60 + (seq - 1) % 500);
			make_frame(p, own, seq, (size_t)got);
			assert_memory_equal(buf, p, got);
			last = seq;
			received++;
		}
	}
	vnet_close(n);
	assert_int_equal(vdpa_delete("net"), 0);
}

/* ---- A card ---- */

static void card(void **state)
{
	struct vnet_info info;
	static u8 p[1600];
	struct vnet *n;

	setenv("USERKVM_IFCVF", "n3000-net", 1);
	assert_int_equal(ifcvf_init(), 0);
	add_device("pci", "0000:01:00.0", "nic", &(struct vdpa_dev_attrs){ 0 });
	for (unsigned i = 0; i < 2; i++) {
		n = open_net("nic", &(struct vnet_cfg){ .depth = 64 });
		vnet_info(n, &info);
		assert_true(info.link_up && !info.set_mac);
		for (unsigned k = 0; k < 200; k++) {
			make_frame(p, k & 1 ? info.mac : everyone, k, 60 + k * 7);
			assert_int_equal(send_frame(n, 0, p, 60 + k * 7), 0);
			assert_true(returns(n, 0, p, 60 + k * 7, 10000));
		}
		vnet_close(n);
	}
	assert_int_equal(vdpa_delete("nic"), 0);
	ifcvf_exit();
	unsetenv("USERKVM_IFCVF");
}

/* ---- A VDUSE daemon ---- */

#define NET_FEATURES (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS))

static struct test_daemon td;
static struct vnet *net;

static struct virtio_net_config config(u16 mtu)
{
	struct virtio_net_config c = { .status = VIRTIO_NET_S_LINK_UP, .mtu = mtu, .max_virtqueue_pairs = 1 };

	memcpy(c.mac, own, 6);
	return c;
}

static void up(u16 depth, u64 features, u16 mtu)
{
	const struct virtio_net_config c = config(mtu);

	td_create_net(&td, "vnet", 1, depth, NET_FEATURES | features, &c);
	atomic_store(&td.mergeable, !!(features & BIT(VIRTIO_NET_F_MRG_RXBUF)));
	td_start(&td);
	assert_int_equal(td_attach("vnet"), 0);
	net = open_net("vnet", &(struct vnet_cfg){ 0 });
}

static void down(void)
{
	vnet_close(net);
	td_detach("vnet");
	td_destroy(&td);
}

static void daemon_frames(void **state)
{
	static const struct { u64 features; u16 mtu, depth; size_t most; } rows[] = {
		{ 0, 1500, 128, 1518 }, { 0, 9000, 16, 9018 }, { 0, 65535, 256, 65553 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), 1500, 2, 1518 }, { BIT(VIRTIO_NET_F_MRG_RXBUF), 9000, 64, 9018 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), 65535, 128, 65553 },
		/* A control queue that is not there takes what stands on it along. */
		{ BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_RX), 1500, 128, 1518 },
	};
	struct vnet_info info;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		up(rows[i].depth, rows[i].features, rows[i].mtu);
		vnet_info(net, &info);
		assert_int_equal(info.max_frame, rows[i].most);
		assert_int_equal(info.mergeable, atomic_load(&td.mergeable));
		assert_int_equal(info.max_pairs, 1);
		exchange(net, 0, 100, rows[i].most);
		assert_int_equal(vnet_rx_errors(net, 0), 0);
		down();
	}
}

static void set_config(u32 off, const void *buf, u32 len)
{
	u8 arg[64];

	memcpy(arg, &(struct vduse_config_data){ .offset = off, .length = len }, sizeof(struct vduse_config_data));
	memcpy(arg + sizeof(struct vduse_config_data), buf, len);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_SET_CONFIG, arg, sizeof(struct vduse_config_data) + len), 0);
}

/* Link and MTU change under the driver, announced by one interrupt. */
static void link_status(void **state)
{
	struct pollfd p;
	struct vnet_info info;
	u16 status = 0, mtu = 9000;

	up(64, 0, 1500);
	p = (struct pollfd){ .fd = vnet_config_fd(net), .events = POLLIN };
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(vnet_update(net), 0);
	set_config(offsetof(struct virtio_net_config, status), &status, sizeof(status));
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(td_ioctl(&td, VDUSE_DEV_INJECT_CONFIG_IRQ, NULL, 0), 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(vnet_update(net), VNET_CHANGED);
	assert_int_equal(poll(&p, 1, 0), 0);
	vnet_info(net, &info);
	assert_false(info.link_up);
	status = VIRTIO_NET_S_LINK_UP;
	set_config(offsetof(struct virtio_net_config, status), &status, sizeof(status));
	assert_int_equal(vnet_update(net), VNET_CHANGED);
	/* A larger MTU does not fit the buffers that are posted; nonsense is none. */
	set_config(offsetof(struct virtio_net_config, mtu), &mtu, sizeof(mtu));
	assert_int_equal(vnet_update(net), 0);
	mtu = 1000;
	set_config(offsetof(struct virtio_net_config, mtu), &mtu, sizeof(mtu));
	assert_int_equal(vnet_update(net), VNET_CHANGED);
	vnet_info(net, &info);
	assert_int_equal(info.max_frame, 1018);
	mtu = 67;
	set_config(offsetof(struct virtio_net_config, mtu), &mtu, sizeof(mtu));
	assert_int_equal(vnet_update(net), VNET_CHANGED);
	vnet_info(net, &info);
	assert_int_equal(info.mtu, 1500);
	down();
}

/* The daemon dies and comes back: what was sent meanwhile arrives, what was received before stays. */
static void daemon_restarts(void **state)
{
	static u8 p[20][200];

	up(64, 0, 1500);
	exchange(net, 0, 10, 200);
	for (unsigned round = 0; round < 5; round++) {
		td_kill(&td);
		for (unsigned i = 0; i < 20; i++) {
			make_frame(p[i], own, round * 100 + i, 60 + i);
			assert_int_equal(send_frame(net, 0, p[i], 60 + i), 0);
		}
		td_start(&td);
		for (unsigned i = 0; i < 20; i++)
			assert_true(returns(net, 0, p[i], 60 + i, 10000));
	}
	down();
}

/* Whatever a daemon says of its frames. */
static void daemon_lies(void **state)
{
	/* Ring lies end the queue; the wrong number or length of buffers costs the frame. */
	static const struct { u64 features; int lie, buffers, frame; int result; u64 errors; } rows[] = {
		{ 0, TD_LEN, -1, -1, -EIO, 0 }, { 0, TD_ID_RANGE, -1, -1, -EIO, 0 }, { 0, TD_ID_IDLE, -1, -1, 0, 0 },
		/* The slot was posted again meanwhile: the second time is as good as the first. */
		{ 0, TD_REPEAT, -1, -1, 0, 0 }, { 0, TD_JUMP, -1, -1, -EIO, 0 }, { 0, TD_SCRIBBLE, -1, -1, 0, 0 },
		{ 0, TD_HONEST, 0, -1, 0, 0 }, { 0, TD_HONEST, 77, -1, 0, 0 },
		{ 0, TD_HONEST, -1, 0, 0, 1 }, { 0, TD_HONEST, -1, 11, 0, 1 }, { 0, TD_HONEST, -1, 12, 0, 1 },
		{ 0, TD_HONEST, -1, 25, 0, 1 }, { 0, TD_HONEST, -1, 1531, -EIO, 0 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), TD_HONEST, 0, -1, 0, 1 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), TD_HONEST, 65535, -1, 0, 1 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), TD_HONEST, 20, 4096, 0, 1 },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), TD_HONEST, 3, 0, 0, 1 },
	};
	static u8 p[1000], buf[VNET_FRAME_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		ssize_t ret = -EAGAIN;

		up(64, rows[i].features, 1500);
		atomic_store(&td.lie, rows[i].lie);
		atomic_store(&td.lie_buffers, rows[i].buffers);
		atomic_store(&td.lie_frame, rows[i].frame);
		/* At least as many as the longest row takes for one frame; those with errors go on until there is one. */
		for (unsigned k = 0; k < (rows[i].errors ? 500 : 20) && (ret == -EAGAIN || ret > 0); k++) {
			make_frame(p, own, k, sizeof(p));
			if (vnet_send(net, 0, &(struct iovec){p, sizeof(p)}, 1))
				break;
			for (u64 until = now_ms() + 20; now_ms() < until && ret != -EIO;) {
				ret = vnet_receive(net, 0, buf, sizeof(buf));
				if (ret == -EAGAIN)
					usleep(500);
			}
			if (vnet_rx_errors(net, 0) && rows[i].errors)
				break;
		}
		if (rows[i].result && ret != rows[i].result)
			fail_msg("row %u: %zd", i, ret);
		if (rows[i].errors && vnet_rx_errors(net, 0) < rows[i].errors)
			fail_msg("row %u: no error", i);
		down();
	}
}

/* The device is taken away under the driver. */
static void deleted(void **state)
{
	static u8 p[100], buf[200];
	struct pollfd pfd;
	ssize_t ret;

	up(64, 0, 1500);
	exchange(net, 0, 5, 100);
	pfd = (struct pollfd){ .fd = vnet_config_fd(net), .events = POLLIN };
	td_detach("vnet");
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_int_equal(vnet_update(net), -ENODEV);
	make_frame(p, own, 1, sizeof(p));
	for (ret = 0; ret >= 0;) {
		ret = vnet_wait(net, 0, 1);
		if (ret == 1)
			(void)!vnet_receive(net, 0, buf, sizeof(buf));
	}
	assert_int_equal(ret, -ENODEV);
	vnet_close(net);
	td_destroy(&td);
}

/* ---- Control queue and offers ---- */

#define ALL_CTRL (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | \
		  BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | \
		  BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_MQ))

static struct fake_net fake;

static void fake_up(u64 features, u16 pairs, u16 wanted)
{
	char err[256] = "";

	fake_net_init(&fake, features, pairs);
	memcpy(fake.config.mac, own, 6);
	net = vnet_open(&fake.s, "fake", &(struct vnet_cfg){ .pairs = wanted }, err);
	if (!net)
		fail_msg("%s", err);
	assert_int_equal(fake.status, 15);
}

static void fake_down(void)
{
	vnet_close(net);
	assert_true(fake.closed);
	fake_net_exit(&fake);
}

static void asked(const void *bytes, u32 len)
{
	assert_int_equal(fake.ctrl_len, len);
	assert_memory_equal(fake.ctrl, bytes, len);
}

static void control_requests(void **state)
{
	static const u8 macs[3][6] = { { 2, 1 }, { 2, 2 }, { 1, 0, 0x5e, 0, 0, 1 } };
	static u8 many[1500][6];
	u8 want[64] = { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 2, 0, 0, 0 };

	fake_up(ALL_CTRL, 1, 1);
	for (u8 mode = VNET_PROMISC; mode <= VNET_NOBCAST; mode++) {
		assert_int_equal(vnet_set_rx_mode(net, mode, mode & 1), 0);
		asked((u8[]){ VIRTIO_NET_CTRL_RX, mode, mode & 1 }, 3);
	}
	assert_int_equal(vnet_set_rx_mode(net, VNET_NOBCAST + 1, true), -EINVAL);
	assert_int_equal(vnet_set_mac(net, macs[0]), 0);
	asked((u8[]){ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 0, 0, 0, 0 }, 8);
	assert_int_equal(vnet_set_vlan(net, 0x123, true), 0);
	asked((u8[]){ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 0x23, 1 }, 4);
	assert_int_equal(vnet_set_vlan(net, 4095, false), 0);
	asked((u8[]){ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, 0xff, 0xf }, 4);
	assert_int_equal(vnet_set_vlan(net, 4096, false), -EINVAL);
	memcpy(want + 6, macs, 12);
	want[18] = 1;
	memcpy(want + 22, macs[2], 6);
	assert_int_equal(vnet_set_mac_table(net, macs, 2, 1), 0);
	asked(want, 28);
	assert_int_equal(vnet_set_mac_table(net, NULL, 0, 0), 0);
	asked((u8[]){ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0, 0, 0, 0, 0, 0 }, 10);
	assert_int_equal(vnet_set_mac_table(net, many, 1000, 300), 0);
	assert_int_equal(fake.ctrl_len, 2 + 8 + 1300 * 6);
	assert_int_equal(vnet_set_mac_table(net, many, 1000, 500), -EINVAL);
	assert_int_equal(vnet_set_mac_table(net, many, 0xffffffff, 1), -EINVAL);

	/* A refusal is told and leaves the queue as it was. */
	fake.answer = VIRTIO_NET_ERR;
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -EIO);
	fake.answer = 0x7f;
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -EIO);
	fake.answer = VIRTIO_NET_OK;
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), 0);
	/* A device that goes while a request waits. */
	fake.gone = true;
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -ENODEV);
	fake.gone = false;
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -ENODEV);
	fake_down();
}

static void silent_control(void **state)
{
	u64 begin;

	fake_up(ALL_CTRL, 1, 1);
	fake.answer = -1;
	begin = now_ms();
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -ETIMEDOUT);
	assert_true(now_ms() - begin >= 4900);
	begin = now_ms();
	assert_int_equal(vnet_set_rx_mode(net, VNET_PROMISC, true), -ETIMEDOUT);
	assert_true(now_ms() - begin < 1000);
	fake_down();
}

static void queue_pairs(void **state)
{
	static u8 p[200];
	struct vnet_info info;

	fake_up(ALL_CTRL, 4, 3);
	asked((u8[]){ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0 }, 4);
	vnet_info(net, &info);
	assert_int_equal(info.pairs, 3);
	assert_int_equal(info.max_pairs, 4);
	for (u16 pair = 0; pair < 3; pair++) {
		make_frame(p, own, pair, 100);
		assert_int_equal(send_frame(net, pair, p, 100), 0);
		assert_true(returns(net, pair, p, 100, 0));
		assert_int_equal(fake.frames[2 * pair + 1], 1);
	}
	assert_int_equal(vnet_set_pairs(net, 0), -EINVAL);
	assert_int_equal(vnet_set_pairs(net, 5), -EINVAL);
	fake.answer = VIRTIO_NET_ERR;
	assert_int_equal(vnet_set_pairs(net, 4), -EIO);
	vnet_info(net, &info);
	assert_int_equal(info.pairs, 3);
	fake.answer = VIRTIO_NET_OK;
	assert_int_equal(vnet_set_pairs(net, 4), 0);
	make_frame(p, own, 9, 100);
	assert_int_equal(send_frame(net, 3, p, 100), 0);
	assert_true(returns(net, 3, p, 100, 0));
	fake_down();
	/* One pair is wanted: more are not asked for, and the control queue is the third. */
	fake_net_init(&fake, ALL_CTRL, 4);
	fake.ctrl_vq = 2;
	net = vnet_open(&fake.s, "fake", &(struct vnet_cfg){ 0 }, (char[256]){ 0 });
	assert_non_null(net);
	assert_false(fake.driver_features & BIT(VIRTIO_NET_F_MQ));
	assert_int_equal(vnet_set_rx_mode(net, VNET_ALLMULTI, true), 0);
	fake_down();
}

static void announce(void **state)
{
	fake_up(ALL_CTRL, 1, 1);
	fake.config.status |= VIRTIO_NET_S_ANNOUNCE;
	fake_net_changed(&fake);
	assert_int_equal(vnet_update(net), VNET_ANNOUNCE);
	asked((u8[]){ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK }, 2);
	fake.config.status = 0;
	fake_net_changed(&fake);
	assert_int_equal(vnet_update(net), VNET_CHANGED);
	assert_int_equal(vnet_update(net), 0);
	fake_down();
}

/* What is offered decides; wrong offers are refused or bounded. G.A 15: the configuration changes all the time. */
static void offers(void **state)
{
	struct vnet_info info;
	char err[256];

	fake_up(0, 1, 1);
	vnet_info(net, &info);
	assert_int_equal(info.mac[0] & 3, 2);
	assert_int_equal(info.mtu, 1500);
	assert_true(info.link_up);
	assert_int_equal(vnet_set_mac(net, own), -EOPNOTSUPP);
	assert_int_equal(vnet_set_vlan(net, 1, true), -EOPNOTSUPP);
	assert_int_equal(vnet_set_mac_table(net, NULL, 0, 0), -EOPNOTSUPP);
	fake.tearing = true;
	assert_int_equal(vnet_update(net), -EAGAIN);
	fake_down();

	fake_net_init(&fake, ALL_CTRL, 4);
	fake.config.max_virtqueue_pairs = 5;	/* for which there are no queues */
	assert_null(vnet_open(&fake.s, "fake", &(struct vnet_cfg){ .pairs = 4 }, err));
	assert_int_equal(errno, EPROTO);
	assert_non_null(strstr(err, "refuses"));
	assert_true(fake.closed);
	fake_net_exit(&fake);
	fake_net_init(&fake, ALL_CTRL, 4);
	fake.config.max_virtqueue_pairs = 0;
	fake.ctrl_vq = 2;
	net = vnet_open(&fake.s, "fake", &(struct vnet_cfg){ .pairs = 4 }, err);
	assert_non_null(net);
	vnet_info(net, &info);
	assert_int_equal(info.pairs, 1);
	fake_down();
	fake_net_init(&fake, ALL_CTRL, 1);
	fake.gone = true;
	assert_null(vnet_open(&fake.s, "fake", &(struct vnet_cfg){ 0 }, err));
	assert_int_equal(errno, ENODEV);
	fake_net_exit(&fake);
	/* Not a network device. */
	add_device(NULL, "vdpasim_blk", "disk", &(struct vdpa_dev_attrs){ 0 });
	assert_null(vnet_open(vdpa_session_local(), "disk", &(struct vnet_cfg){ 0 }, err));
	assert_non_null(strstr(err, "another class"));
	assert_int_equal(vdpa_delete("disk"), 0);
}

static int set_up(void **state)
{
	log_set_level(LOG_ERROR);
	return vdpa_mem_init() || vdpa_virtio_init() || vduse_init() || vdpasim_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "simulator: frames of all sizes, filter, address", simulator, NULL, NULL, NULL },
		{ "simulator: full rings", flood, NULL, NULL, NULL },
		{ "simulated card: frames", card, NULL, NULL, NULL },
		{ "VDUSE daemon: frames, MTU, mergeable buffers", daemon_frames, NULL, NULL, NULL },
		{ "VDUSE daemon: link status, MTU, configuration interrupt", link_status, NULL, NULL, NULL },
		{ "G.A 11: VDUSE network daemon dies and returns", daemon_restarts, NULL, NULL, NULL },
		{ "G.A 15: VDUSE network daemon lies", daemon_lies, NULL, NULL, NULL },
		{ "device taken away", deleted, NULL, NULL, NULL },
		{ "control queue: each request, refusals", control_requests, NULL, NULL, NULL },
		{ "control queue that does not answer", silent_control, NULL, NULL, NULL },
		{ "control queue: queue pairs", queue_pairs, NULL, NULL, NULL },
		{ "announcement", announce, NULL, NULL, NULL },
		{ "G.A 15: offers and configurations that are wrong", offers, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
