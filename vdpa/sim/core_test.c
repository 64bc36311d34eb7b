// SPDX-License-Identifier: MIT
/*
 * What the simulators share: provisioning, address spaces, kicks, suspension,
 * reset, turns. Acceptance tests G.D 3, 5, 7. (Races: tests/stress/vdpa_race.c.)
 */
#include "vdpa/sim/test.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/sim/core.h"
#include "vdpa/sim/testdrv.h"

#define MEM (1u << 20)
#define NUM 128
#define HDR (TD_IOVA + 0x10000)
#define STATUS (TD_IOVA + 0x20000)	/* of request n: + n */
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM))

struct dev {
	struct vdpa_device *d;
	struct td_mem m;
	struct td_ring q;
	struct vdpa_iotlb *table;
};

/* A block device as far as DRIVER_OK. */
static void begin(struct dev *v, u16 position)
{
	struct vdpa_map map = td_map(&v->m, 0, MEM, VDPA_RW);

	assert_int_equal(td_negotiate(v->d, FEATURES), 0);
	vdpa_iotlb_del(v->table, 0, UINT64_MAX);
	assert_int_equal(td_dma_map(v->d, 0, v->table, &map), 0);
	td_queue(v->d, 0, &v->q, position, -1);
	td_driver_ok(v->d);
}

static void open_dev(struct dev *v, const char *name, bool batch)
{
	struct vdpasim_params p = { .batch_mapping = batch, .max_iotlb_entries = 8 };
	struct vdpa_dev_attrs a = { 0 };
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_FLUSH };

	assert_int_equal(vdpasim_create(NULL, &vdpasim_blk_type, &p, name, &a), 0);
	v->d = vdpa_find(name);
	assert_non_null(v->d);
	td_mem_open(&v->m, MEM);
	td_ring_init(&v->q, &v->m, 0, NUM);
	v->table = vdpa_iotlb_new(0);
	memcpy(td_ptr(&v->m, HDR), &hdr, sizeof(hdr));
}

static void close_dev(struct dev *v)
{
	vdpa_unregister(v->d);
	vdpa_put(v->d);
	vdpa_iotlb_free(v->table);
	td_mem_close(&v->m);
}

static void add_flush(struct dev *v, unsigned n)
{
	while (n--)
		td_add(&v->q, (struct td_buf[]){ { HDR, 16 }, { STATUS + v->q.avail_idx % NUM, 1 } }, 1, 1);
}

static void kick(struct dev *v)
{
	v->d->ops->kick_vq(v->d, 0);
}

static unsigned collect(struct dev *v, unsigned n, unsigned ms)
{
	unsigned got = 0;
	u32 id, len;

	while (got < n && td_wait_used(&v->q, &id, &len, ms))
		got++;
	return got;
}

static u64 runs(struct dev *v)
{
	struct vdpasim *s = to_sim(v->d);
	u64 n;

	vdpasim_lock(s);
	n = s->runs;
	vdpasim_unlock(s);
	return n;
}

/* ---- Creation ---- */

static void test_creation(void **state)
{
	static const struct {
		unsigned entries;
		u64 mask, features;
		int err;
	} row[] = {
		{ 2048, 0, 0, 0 }, { 2, 0, 0, 0 }, { 1, 0, 0, -EINVAL }, { 0, 0, 0, -EINVAL },
		{ 2048, VDPA_ATTR_FEATURES, BIT(33) | BIT(32) | BIT(5), 0 },
		{ 2048, VDPA_ATTR_FEATURES, 0, 0 },
		{ 2048, VDPA_ATTR_FEATURES, BIT(33) | BIT(28), -EINVAL },
		{ 2048, 0, BIT(28), 0 },	/* not given */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct vdpasim_params p = { true, row[i].entries };
		struct vdpa_dev_attrs a = { .mask = row[i].mask, .features = row[i].features };
		struct vdpa_device *d;

		assert_int_equal(vdpasim_create(NULL, &vdpasim_net_type, &p, "x", &a), row[i].err);
		d = vdpa_find("x");
		assert_true(!d == !!row[i].err);
		if (!d)
			continue;
		if (row[i].mask)
			assert_true(d->ops->get_device_features(d) == row[i].features);
		assert_int_equal(vdpasim_create(NULL, &vdpasim_net_type, &p, "x", &a), -EEXIST);
		vdpa_unregister(d);
		vdpa_put(d);
	}
}

static void test_parents(void **state)
{
	struct vdpasim_params p = VDPASIM_PARAMS_DEFAULT;
	struct vdpa_dev_attrs a = { .mask = VDPA_ATTR_MAC | VDPA_ATTR_MTU, .mac = { 2, 0, 0, 0, 0, 9 }, .mtu = 9000 };
	struct vdpa_mgmtdev *net, *blk;
	struct vdpa_device *d;
	u8 mac[6];
	u16 mtu;

	assert_int_equal(vdpasim_register(&p), 0);
	assert_int_equal(vdpasim_register(&p), -EEXIST);
	net = vdpa_mgmtdev_find(NULL, "vdpasim_net");
	blk = vdpa_mgmtdev_find(NULL, "vdpasim_blk");
	assert_true(net && net->classes == BIT(1) && net->max_vqs == 3 &&
		    net->attr_mask == (VDPA_ATTR_MAC | VDPA_ATTR_MTU | VDPA_ATTR_FEATURES));
	assert_true(blk && blk->classes == BIT(2) && blk->max_vqs == 0 && !blk->attr_mask && !blk->features);
	assert_int_equal(net->dev_add(net, "n", &a), 0);
	d = vdpa_find("n");
	vdpa_get_config(d, 0, mac, 6);
	assert_memory_equal(mac, a.mac, 6);
	vdpa_get_config(d, 10, &mtu, 2);
	assert_int_equal(mtu, 9000);
	vdpa_put(d);
	assert_int_equal(blk->dev_add(blk, "b", &(struct vdpa_dev_attrs){ 0 }), 0);
	assert_int_equal(vdpa_delete("b"), 0);
	vdpasim_exit();
	assert_null(vdpa_find("n"));

	setenv("VDPASIM_MAX_IOTLB_ENTRIES", "1", 1);
	setenv("VDPASIM_BATCH_MAPPING", "0", 1);
	assert_int_equal(vdpasim_init(), 0);
	net = vdpa_mgmtdev_find(NULL, "vdpasim_net");
	assert_int_equal(net->dev_add(net, "n", &a), -EINVAL);
	vdpasim_exit();
	setenv("VDPASIM_MAX_IOTLB_ENTRIES", "16x", 1);
	assert_int_equal(vdpasim_init(), -EINVAL);
	setenv("VDPASIM_MAX_IOTLB_ENTRIES", "16", 1);
	setenv("VDPASIM_BATCH_MAPPING", "2", 1);
	assert_int_equal(vdpasim_init(), -EINVAL);
	unsetenv("VDPASIM_MAX_IOTLB_ENTRIES");
	unsetenv("VDPASIM_BATCH_MAPPING");
}

static void test_features(void **state)
{
	struct dev v;

	open_dev(&v, "f", true);
	assert_int_equal(td_negotiate(v.d, 0), -EINVAL);
	assert_int_equal(td_negotiate(v.d, BIT(VIRTIO_F_VERSION_1)), -EINVAL);
	assert_int_equal(td_negotiate(v.d, FEATURES | BIT(28) | BIT(29)), 0);
	assert_true(v.d->ops->get_driver_features(v.d) == FEATURES);
	assert_int_equal(vdpa_reset(v.d), 0);
	assert_true(v.d->ops->get_driver_features(v.d) == 0);
	assert_int_equal(v.d->ops->get_status(v.d), 0);
	close_dev(&v);
}

/* ---- Memory ---- */

static void address_spaces(bool batch)
{
	struct vdpa_map map, whole = { .start = 0, .last = UINT64_MAX, .perm = VDPA_RW };
	struct dev v;

	open_dev(&v, "m", batch);
	assert_true(!v.d->ops->set_map == !batch && !v.d->ops->dma_map == batch && !v.d->ops->dma_unmap == batch);
	/* The whole space costs two of the 8 entries. */
	assert_int_equal(td_dma_map(v.d, 0, v.table, &whole), 0);
	assert_int_equal(td_dma_unmap(v.d, 0, v.table, 0, UINT64_MAX), 0);
	for (unsigned i = 0; i < 8; i++) {
		map = td_map(&v.m, i * 0x2000, 0x1000, VDPA_RW);
		assert_int_equal(td_dma_map(v.d, 0, v.table, &map), 0);
	}
	map = td_map(&v.m, 0x40000, 0x1000, VDPA_RW);
	assert_int_equal(td_dma_map(v.d, 0, v.table, &map), -ENOSPC);
	if (!batch) {
		assert_int_equal(v.d->ops->dma_map(v.d, 1, &map), -EINVAL);
		assert_int_equal(v.d->ops->dma_unmap(v.d, 1, 0, 1), -EINVAL);
		map = td_map(&v.m, 0x0, 0x2000, VDPA_RW);
		assert_int_equal(td_dma_map(v.d, 0, v.table, &map), -EEXIST);
	}
	/* Reset empties it. */
	assert_int_equal(vdpa_reset(v.d), 0);
	assert_int_equal(vdpa_iotlb_count(to_sim(v.d)->as[0]), 0);
	close_dev(&v);
}

static void test_address_spaces(void **state)
{
	address_spaces(true);
	address_spaces(false);
}

/* G.D 3: the same page twice; both work, and one goes without the other. */
static void test_mapped_twice(void **state)
{
	u8 *disk_data;
	struct dev v;

	for (int batch = 0; batch < 2; batch++) {
		struct virtio_blk_outhdr id = { .type = VIRTIO_BLK_T_GET_ID };
		struct vdpa_map again;

		open_dev(&v, "t", batch);
		begin(&v, 0);
		memcpy(td_ptr(&v.m, HDR), &id, sizeof(id));
		disk_data = td_ptr(&v.m, TD_IOVA + 0x30000);
		again = td_map(&v.m, 0x30000, 0x1000, VDPA_RW);
		again.start += 1ull << 40;
		again.last += 1ull << 40;
		assert_int_equal(td_dma_map(v.d, 0, v.table, &again), 0);
		for (unsigned round = 0; round < 3; round++) {
			u8 *status = td_ptr(&v.m, STATUS);

			memset(disk_data, 0, 20);
			td_add(&v.q, (struct td_buf[]){ { HDR, 16 },
			       { round == 1 ? TD_IOVA + 0x30000 : again.start, 20 }, { STATUS, 1 } }, 1, 2);
			kick(&v);
			assert_int_equal(collect(&v, 1, 5000), 1);
			assert_int_equal(*status, round == 2 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
			assert_int_equal(!memcmp(disk_data, "vdpa_blk_sim", 12), round != 2);
			if (round == 1)
				assert_int_equal(td_dma_unmap(v.d, 0, v.table, again.start, again.last), 0);
		}
		close_dev(&v);
	}
}

/* ---- Kicks, suspension, reset ---- */

static void test_kicks(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(1, EFD_NONBLOCK);
	struct dev v;

	open_dev(&v, "k", true);
	add_flush(&v, 1);
	/* Before the queue is ready: ignored. */
	kick(&v);
	begin(&v, 0);
	assert_int_equal(collect(&v, 1, 20), 0);
	kick(&v);
	assert_int_equal(collect(&v, 1, 5000), 1);

	assert_int_equal(v.d->ops->set_vq_kickfd(v.d, 0, fd), 0);
	for (unsigned i = 0; i < 5; i++) {
		add_flush(&v, 1);
		assert_int_equal(collect(&v, 1, i ? 0 : 20), 0);
		eventfd_write(fd, 1);
		assert_int_equal(collect(&v, 1, 5000), 1);
	}
	/* A new one that is readable already kicks at once; the old one does no more. */
	add_flush(&v, 1);
	assert_int_equal(v.d->ops->set_vq_kickfd(v.d, 0, other), 0);
	assert_int_equal(collect(&v, 1, 5000), 1);
	add_flush(&v, 1);
	eventfd_write(fd, 1);
	assert_int_equal(collect(&v, 1, 20), 0);
	assert_int_equal(v.d->ops->set_vq_kickfd(v.d, 0, -1), 0);
	eventfd_write(other, 1);
	assert_int_equal(collect(&v, 1, 20), 0);
	assert_int_equal(v.d->ops->set_vq_kickfd(v.d, 0, 9999), -EBADF);
	kick(&v);
	assert_int_equal(collect(&v, 1, 5000), 1);
	/* Ready but not DRIVER_OK: kept until then. */
	assert_int_equal(vdpa_reset(v.d), 0);
	td_ring_reset(&v.q, 0);
	begin(&v, 0);
	v.d->ops->set_status(v.d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_flush(&v, 1);
	kick(&v);
	assert_int_equal(collect(&v, 1, 20), 0);
	td_driver_ok(v.d);
	assert_int_equal(collect(&v, 1, 5000), 1);
	close_dev(&v);
	close(fd);
	close(other);
}

static void test_bad_ring(void **state)
{
	static const struct { u32 num; u64 desc, driver, device; } row[] = {
		{ 0, 0, 0, 0 }, { 3, 0, 0, 0 }, { 65536, 0, 0, 0 }, { 8, 4, 0, 0 }, { 8, 0, 1, 0 }, { 8, 0, 0, 2 },
	};
	struct dev v;

	open_dev(&v, "r", true);
	begin(&v, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct vdpa_vq_addr a = { row[i].desc, row[i].driver, row[i].device };
		struct vdpa_vq_state s = { .split.avail = 77 };

		v.d->ops->set_vq_ready(v.d, 0, false);
		assert_int_equal(v.d->ops->set_vq_state(v.d, 0, &s), 0);
		v.d->ops->set_vq_address(v.d, 0, &a);
		v.d->ops->set_vq_num(v.d, 0, row[i].num);
		v.d->ops->set_vq_ready(v.d, 0, true);
		assert_false(v.d->ops->get_vq_ready(v.d, 0));
		kick(&v);
		assert_int_equal(td_vq_position(v.d, 0), 77);
	}
	close_dev(&v);
}

/* G.D 7: suspended and reset in the middle of traffic, a hundred times; each request is answered once. */
static void test_suspend(void **state)
{
	unsigned done = 0, todo = 0;
	struct dev v;

	open_dev(&v, "s", true);
	begin(&v, 0);
	for (unsigned round = 0; round < 100; round++) {
		unsigned room = NUM / 2 - (todo - done), n = min(room, 30u);
		u16 frozen;

		add_flush(&v, n);
		todo += n;
		kick(&v);
		if (round & 1)
			usleep(round * 3);
		assert_int_equal(v.d->ops->suspend(v.d), 0);
		frozen = td_used_idx(&v.q);
		assert_int_equal(td_vq_position(v.d, 0), frozen);
		/* Neither kicks nor status nor enabling wake it. */
		kick(&v);
		td_driver_ok(v.d);
		v.d->ops->set_vq_ready(v.d, 0, true);
		usleep(500);
		assert_int_equal(td_used_idx(&v.q), frozen);
		if (round % 3 == 0) {
			/* Another device, as it were, goes on from the position. */
			u16 at = td_vq_position(v.d, 0);

			assert_int_equal(vdpa_reset(v.d), 0);
			assert_int_equal(td_vq_position(v.d, 0), 0);
			begin(&v, at);
			kick(&v);
		} else {
			assert_int_equal(v.d->ops->resume(v.d), 0);
		}
		done += collect(&v, round % 5 ? todo - done : 0, 2000);
	}
	done += collect(&v, todo - done, 5000);
	assert_int_equal(done, todo);
	assert_int_equal(td_used_idx(&v.q), (u16)todo);
	close_dev(&v);
}

static void test_generation(void **state)
{
	struct dev v;
	u32 g;

	open_dev(&v, "g", true);
	g = v.d->ops->get_generation(v.d);
	assert_int_equal(vdpa_reset(v.d), 0);
	assert_int_equal(v.d->ops->get_generation(v.d), g + 1);
	close_dev(&v);
}

/* G.D 7: a turn ends after five requests, on each of two devices. */
static void test_fairness(void **state)
{
	struct dev v[2];

	open_dev(&v[0], "a", true);
	open_dev(&v[1], "b", true);
	for (unsigned i = 0; i < 2; i++) {
		begin(&v[i], 0);
		add_flush(&v[i], 60);
	}
	kick(&v[0]);
	kick(&v[1]);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(collect(&v[i], 60, 5000), 60);
		assert_in_range(runs(&v[i]), 12, 13);
		close_dev(&v[i]);
	}
}

/* A callback that is taken away is not running any more. */
static void slow(void *arg)
{
	int *p = arg;

	__atomic_store_n(p, 1, __ATOMIC_SEQ_CST);
	usleep(20000);
	__atomic_store_n(p, 2, __ATOMIC_SEQ_CST);
}

static void test_callback_gone(void **state)
{
	struct vdpa_callback none = VDPA_NO_CALLBACK;
	struct dev v;

	open_dev(&v, "c", true);
	for (unsigned round = 0; round < 2; round++) {
		int step = 0;
		struct vdpa_callback cb = { .fn = slow, .arg = &step, .eventfd = -1 };

		begin(&v, td_used_idx(&v.q));
		v.d->ops->set_vq_cb(v.d, 0, &cb);
		add_flush(&v, 1);
		kick(&v);
		while (!__atomic_load_n(&step, __ATOMIC_SEQ_CST))
			usleep(100);
		if (round)
			assert_int_equal(vdpa_reset(v.d), 0);
		else
			v.d->ops->set_vq_cb(v.d, 0, &none);
		assert_int_equal(__atomic_load_n(&step, __ATOMIC_SEQ_CST), 2);
		assert_int_equal(collect(&v, 1, 0), 1);
		vdpa_reset(v.d);
	}
	close_dev(&v);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define T(name, t) { name, t, NULL, NULL, NULL }
		T("creation and provisioning", test_creation), T("management devices", test_parents),
		T("G.B 4: features without ACCESS_PLATFORM", test_features),
		T("address spaces, by table and by range", test_address_spaces),
		T("G.D 3: a page mapped twice", test_mapped_twice), T("kicks", test_kicks),
		T("rings that cannot be", test_bad_ring),
		T("G.D 7: suspend and reset in traffic", test_suspend), T("generation", test_generation),
		T("G.D 7: turns of five requests", test_fairness), T("callbacks end", test_callback_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
