// SPDX-License-Identifier: MIT
/*
 * The network simulator, driven by rings written by hand. Acceptance test G.D 6.
 */
#include "vdpa/sim/test.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/sim/core.h"
#include "vdpa/sim/testdrv.h"

enum { RX, TX, CTRL };

#define NUM 64
#define MEM (1u << 20)
#define TXBUF (TD_IOVA + 0x20000)
#define RXBUF (TD_IOVA + 0x40000)	/* 2 KiB each */
#define CTRLBUF (TD_IOVA + 0x80000)
#define HDR 12
#define OK_FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_NET_F_MAC) | \
		     BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR))

static const u8 own[6] = { 0x52, 0x54, 0, 1, 2, 3 };

struct fix {
	struct td_mem m;
	struct td_ring q[3];
	struct vdpa_device *d;
	struct vdpa_iotlb *table;
};

static void start(struct fix *f, u64 features)
{
	struct vdpa_map map = td_map(&f->m, 0, MEM, VDPA_RW);

	assert_int_equal(vdpa_reset(f->d), 0);
	vdpa_iotlb_del(f->table, 0, UINT64_MAX);
	assert_int_equal(td_negotiate(f->d, features), 0);
	assert_int_equal(td_dma_map(f->d, 0, f->table, &map), 0);
	for (u16 i = 0; i < 3; i++) {
		td_ring_init(&f->q[i], &f->m, 0x4000u * i, NUM);
		td_queue(f->d, i, &f->q[i], 0, -1);
	}
	td_driver_ok(f->d);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vdpasim_params p = VDPASIM_PARAMS_DEFAULT;
	struct vdpa_dev_attrs a = { .mask = VDPA_ATTR_MAC };

	memcpy(a.mac, own, 6);
	td_mem_open(&f->m, MEM);
	f->table = vdpa_iotlb_new(0);
	assert_int_equal(vdpasim_create(NULL, &vdpasim_net_type, &p, "net0", &a), 0);
	f->d = vdpa_find("net0");
	assert_non_null(f->d);
	start(f, OK_FEATURES);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vdpa_unregister(f->d);
	vdpa_put(f->d);
	vdpa_iotlb_free(f->table);
	td_mem_close(&f->m);
	free(f);
	return 0;
}

/* One frame to @dest with @seq as its payload, of @len bytes with the header; not kicked. */
static u16 send(struct fix *f, const u8 *dest, u32 seq, u32 len)
{
	u64 at = TXBUF + 2048u * (f->q[TX].avail_idx % NUM);
	u8 *p = td_ptr(&f->m, at);

	memset(p, 0xee, HDR);
	memcpy(p + HDR, dest, 6);
	memcpy(p + HDR + 12, &seq, 4);
	return td_add(&f->q[TX], &(struct td_buf){ at, len }, 1, 0);
}

static void give_rx(struct fix *f, unsigned n)
{
	while (n--) {
		u64 at = RXBUF + 2048u * (f->q[RX].avail_idx % NUM);

		memset(td_ptr(&f->m, at), 0xaa, 64);
		td_add(&f->q[RX], &(struct td_buf){ at, 2048 }, 0, 1);
	}
}

static void kick(struct fix *f, u16 vq)
{
	f->d->ops->kick_vq(f->d, vq);
}

/* True if a frame came back; its bytes at *p. */
static bool received(struct fix *f, u8 **p, u32 *len)
{
	u16 slot = f->q[RX].used_seen % NUM;
	u32 id;

	if (!td_used(&f->q[RX], &id, len))
		return false;
	*p = td_ptr(&f->m, RXBUF + 2048u * slot);
	return true;
}

static void sent(struct fix *f, u16 head)
{
	u32 id, len;

	kick(f, TX);
	assert_true(td_wait_used(&f->q[TX], &id, &len, 5000));
	assert_int_equal(id, head);
	assert_int_equal(len, 0);
}

static void test_identity(void **state)
{
	struct fix *f = *state;
	struct virtio_net_config c;

	assert_int_equal(f->d->ops->get_device_id(f->d), 1);
	assert_int_equal(f->d->nvqs, 3);
	assert_int_equal(f->d->nas, 2);
	assert_int_equal(f->d->ngroups, 2);
	assert_int_equal(f->d->ops->get_vq_group(f->d, RX), 0);
	assert_int_equal(f->d->ops->get_vq_group(f->d, TX), 0);
	assert_int_equal(f->d->ops->get_vq_group(f->d, CTRL), 1);
	assert_true(f->d->ops->get_device_features(f->d) ==
		    (BIT(3) | BIT(5) | BIT(17) | BIT(23) | BIT(27) | BIT(32) | BIT(33)));
	vdpa_get_config(f->d, 0, &c, sizeof(c));
	assert_memory_equal(c.mac, own, 6);
	assert_int_equal(c.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(c.mtu, 1500);
	/* Drivers may write the address and nothing else. */
	vdpa_set_config(f->d, 2, "\1\1\1\1\1\1\1\1\1\1", 10);
	vdpa_get_config(f->d, 0, &c, sizeof(c));
	assert_memory_equal(c.mac, ((u8[]){ own[0], own[1], 1, 1, 1, 1 }), 6);
	assert_int_equal(c.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(c.mtu, 1500);
}

static void test_filter(void **state)
{
	struct fix *f = *state;
	static const struct {
		u8 dest[6];
		u32 len;
		bool back;
	} row[] = {
		{ { 255, 255, 255, 255, 255, 255 }, 64, true },
		{ { 1, 0, 0x5e, 0, 0, 1 }, 64, true },
		{ { 0x33, 0x33, 0, 0, 0, 1 }, 64, true },
		{ { 0x52, 0x54, 0, 1, 2, 3 }, 64, true },
		{ { 0x52, 0x54, 0, 1, 2, 4 }, 64, false },
		{ { 0x50, 0x54, 0, 1, 2, 3 }, 64, false },
		{ { 0 }, 64, false },
		{ { 255, 255, 255, 255, 255, 255 }, HDR + 6, true },
		{ { 255, 255, 255, 255, 255, 255 }, HDR + 5, false },
		{ { 255, 255, 255, 255, 255, 255 }, HDR, false },
		{ { 255, 255, 255, 255, 255, 255 }, 0, false },
		{ { 255, 255, 255, 255, 255, 255 }, 2048, true },
	};

	give_rx(f, ARRAY_SIZE(row));
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct virtio_net_hdr_v1 hdr = { .num_buffers = 1 };
		u32 len = 0;
		u8 *p = NULL;

		sent(f, send(f, row[i].dest, i, row[i].len));
		for (unsigned n = 0; n < 1000 && row[i].back && td_used_idx(&f->q[RX]) == f->q[RX].used_seen; n++)
			usleep(100);
		if (received(f, &p, &len) != row[i].back)
			fail_msg("row %u", i);
		if (!row[i].back)
			continue;
		assert_int_equal(len, row[i].len);
		assert_memory_equal(p, &hdr, HDR);
		assert_memory_equal(p + HDR, row[i].dest, 6);
		if (len > HDR + 16)
			assert_int_equal(*(u32 *)(p + HDR + 12), i);
	}
}

/* Without VERSION_1 the header is 10 bytes. */
static void test_legacy_header(void **state)
{
	struct fix *f = *state;
	u8 *p = td_ptr(&f->m, TXBUF);
	u32 len;

	start(f, BIT(VIRTIO_F_ACCESS_PLATFORM));
	give_rx(f, 1);
	memset(p, 0, 64);
	memcpy(p + 10, own, 6);
	sent(f, td_add(&f->q[TX], &(struct td_buf){ TXBUF, 16 }, 1, 0));
	assert_true(received(f, &p, &len));
	assert_int_equal(len, 16);
	assert_memory_equal(p + 10, own, 6);
}

static u8 control(struct fix *f, u8 class, u8 cmd, const void *data, u32 len, u32 *used)
{
	u8 *p = td_ptr(&f->m, CTRLBUF);
	u32 id;

	p[0] = class;
	p[1] = cmd;
	memcpy(p + 2, data, len);
	p[64] = 0xaa;
	td_add(&f->q[CTRL], (struct td_buf[]){ { CTRLBUF, 2 }, { CTRLBUF + 2, len }, { CTRLBUF + 64, 1 } }, 2, 1);
	kick(f, CTRL);
	assert_true(td_wait_used(&f->q[CTRL], &id, used, 5000));
	return p[64];
}

static void test_control(void **state)
{
	struct fix *f = *state;
	static const u8 mac[6] = { 2, 4, 6, 8, 10, 12 };
	u8 got[6], *p = NULL;
	u32 len, id;

	assert_int_equal(control(f, 1, 1, mac, 6, &len), VIRTIO_NET_OK);
	assert_int_equal(len, 1);
	vdpa_get_config(f->d, 0, got, 6);
	assert_memory_equal(got, mac, 6);
	give_rx(f, 2);
	sent(f, send(f, own, 1, 64));
	sent(f, send(f, mac, 2, 64));
	assert_true(received(f, &p, &len));
	assert_int_equal(*(u32 *)(p + HDR + 12), 2);
	assert_false(received(f, &p, &len));

	assert_int_equal(control(f, 1, 1, own, 5, &len), VIRTIO_NET_ERR);
	assert_int_equal(control(f, 1, 0, own, 6, &len), VIRTIO_NET_ERR);
	assert_int_equal(control(f, 0, 1, own, 6, &len), VIRTIO_NET_ERR);
	assert_int_equal(control(f, 255, 255, own, 6, &len), VIRTIO_NET_ERR);
	vdpa_get_config(f->d, 0, got, 6);
	assert_memory_equal(got, mac, 6);
	/* Half a header: given back in silence; what follows waits for a kick. */
	td_add(&f->q[CTRL], (struct td_buf[]){ { CTRLBUF, 1 }, { CTRLBUF + 64, 1 } }, 1, 1);
	kick(f, CTRL);
	assert_true(td_wait_used(&f->q[CTRL], &id, &len, 5000));
	assert_int_equal(len, 0);
	assert_int_equal(control(f, 1, 1, own, 6, &len), VIRTIO_NET_OK);
}

/* The control queue is in a group of its own, which may have its own memory. */
static void test_control_address_space(void **state)
{
	struct fix *f = *state;
	struct vdpa_iotlb *other = vdpa_iotlb_new(0);
	struct vdpa_map map = td_map(&f->m, 0, MEM, VDPA_RW);
	u32 id, len;

	assert_int_equal(f->d->ops->set_group_asid(f->d, 1, 2), -EINVAL);
	assert_int_equal(f->d->ops->set_group_asid(f->d, 2, 0), -EINVAL);
	assert_int_equal(f->d->ops->set_group_asid(f->d, 1, 1), 0);
	/* Nothing is mapped in it: the queue cannot reach the memory of the other. */
	td_add(&f->q[CTRL], (struct td_buf[]){ { CTRLBUF, 8 }, { CTRLBUF + 64, 1 } }, 1, 1);
	kick(f, CTRL);
	assert_false(td_wait_used(&f->q[CTRL], &id, &len, 20));
	assert_int_equal(td_dma_map(f->d, 1, other, &map), 0);
	memcpy(td_ptr(&f->m, CTRLBUF), "\1\1\2\2\2\2\2\2", 8);
	kick(f, CTRL);
	assert_true(td_wait_used(&f->q[CTRL], &id, &len, 5000));
	assert_int_equal(f->d->ops->set_map(f->d, 2, other), -EINVAL);
	vdpa_iotlb_free(other);
}

/* G.D 6: many packets, some of them while there is no buffer. Those are lost, none comes twice or wrong. */
static void test_starvation(void **state)
{
	struct fix *f = *state;
	static u8 seen[5000];
	unsigned total = 0, lost;
	u32 id, len, seq = 0, last = 0;
	u8 *p = NULL;

	memset(seen, 0, sizeof(seen));
	for (unsigned batch = 1; seq < 5000; batch = batch % 40 + 1) {
		unsigned n = min(batch, 5000 - seq), done = 0;

		give_rx(f, batch % 3 ? min(n, NUM - (u32)(u16)(f->q[RX].avail_idx - f->q[RX].used_seen)) : 0);
		for (unsigned i = 0; i < n; i++, seq++)
			send(f, own, seq, 64 + seq % 1900);
		for (unsigned tries = 0; done < n; tries++) {
			assert_true(tries < 10000);
			/* Starved runs stop: each kick gets the next packet out. */
			kick(f, TX);
			for (bool any = td_wait_used(&f->q[TX], &id, &len, 1); any; any = td_used(&f->q[TX], &id, &len))
				done++;
		}
		while (received(f, &p, &len)) {
			u32 s = *(u32 *)(p + HDR + 12);

			assert_true(s < 5000 && !seen[s] && (!total || s > last));
			assert_int_equal(len, 64 + s % 1900);
			seen[s] = 1;
			last = s;
			total++;
		}
	}
	lost = 5000 - total;
	assert_true(total > 1000 && lost > 100);
}

static void test_bad_buffers(void **state)
{
	struct fix *f = *state;
	u8 *p = NULL;
	u32 len, id;

	/* Frame not readable: dropped. Receive buffer not writable: frame lost, buffer back without length. */
	give_rx(f, 1);
	sent(f, td_add(&f->q[TX], &(struct td_buf){ 0x10, 64 }, 1, 0));
	assert_false(received(f, &p, &len));
	td_ring_reset(&f->q[RX], 0);
	td_add(&f->q[RX], &(struct td_buf){ 0x10, 2048 }, 0, 1);
	sent(f, send(f, own, 1, 64));
	assert_true(td_wait_used(&f->q[RX], &id, &len, 1000));
	assert_int_equal(len, 0);
	/* A small buffer gets what fits. */
	td_add(&f->q[RX], &(struct td_buf){ RXBUF, 20 }, 0, 1);
	sent(f, send(f, own, 1, 64));
	assert_true(td_wait_used(&f->q[RX], &id, &len, 1000));
	assert_int_equal(len, 20);
	/* A writable buffer on the sending side stops the queue. */
	td_add(&f->q[TX], &(struct td_buf){ TXBUF, 64 }, 0, 1);
	kick(f, TX);
	assert_false(td_wait_used(&f->q[TX], &id, &len, 20));
}

/* G.C 1: what `vdpa dev vstats show` prints. */
static void test_statistics(void **state)
{
	static const struct { u16 vq; const char *name; u64 value; } rows[] = {
		{ RX, "rx packets", 2 }, { RX, "rx bytes", 150 - 2 * HDR }, { RX, "rx drops", 2 }, { RX, "rx errors", 0 },
		{ RX, "rx overruns", 1 },
		{ TX, "tx packets", 5 }, { TX, "tx bytes", 150 + 60 + 60 - 4 * HDR }, { TX, "tx errors", 1 },
		{ CTRL, "cvq requests", 2 }, { CTRL, "cvq successes", 1 }, { CTRL, "cvq errors", 1 },
	};
	struct fix *f = *state;
	const char *name;
	u32 len, id;
	u8 *p;
	u64 v;

	give_rx(f, 2);
	sent(f, send(f, own, 1, 64));
	sent(f, send(f, own, 2, 86));
	sent(f, send(f, (u8[6]){ 2 }, 3, 60));
	sent(f, send(f, own, 4, HDR - 2));
	sent(f, send(f, own, 5, 60));
	while (received(f, &p, &len))
		;
	(void)control(f, 1, 1, own, 6, &len);
	(void)control(f, 1, 1, own, 5, &len);
	td_add(&f->q[TX], &(struct td_buf){ TXBUF, 64 }, 0, 1);
	kick(f, TX);
	assert_false(td_wait_used(&f->q[TX], &id, &len, 20));
	for (unsigned i = 0, n = 0; i < ARRAY_SIZE(rows); i++) {
		n = i && rows[i].vq == rows[i - 1].vq ? n + 1 : 0;
		assert_int_equal(f->d->ops->get_vendor_stat(f->d, rows[i].vq, n, &name, &v), 0);
		assert_string_equal(name, rows[i].name);
		if (v != rows[i].value)
			fail_msg("%s: %llu", name, (unsigned long long)v);
	}
	assert_int_equal(f->d->ops->get_vendor_stat(f->d, RX, 5, &name, &v), -ENOENT);
	/* They are the device's, not the driver's. */
	start(f, OK_FEATURES);
	assert_int_equal(f->d->ops->get_vendor_stat(f->d, TX, 0, &name, &v), 0);
	assert_int_equal(v, 5);
}

int main(void)
{
#define T(name, t) { name, t, setup, teardown, NULL }
	static const struct CMUnitTest tests[] = {
		T("identity and configuration", test_identity),
		T("G.D 6: who gets which frame", test_filter),
		T("header without VERSION_1", test_legacy_header),
		T("G.D 6: control queue", test_control),
		T("G.B 6: control queue in its own address space", test_control_address_space),
		T("G.D 6: 5000 packets and starvation", test_starvation),
		T("buffers that are not there", test_bad_buffers),
		T("G.C 1: statistics", test_statistics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
