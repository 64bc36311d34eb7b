// SPDX-License-Identifier: MIT
/*
 * ifcvf on simulated functions, right and wrong ones. Acceptance tests G.E 1 to 7.
 */
#include "vdpa/sim/test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/ifcvf/hw.h"
#include "vdpa/ifcvf/ifcvf.h"
#include "vdpa/sim/testdrv.h"

#define MEM (1u << 20)
#define NUM 64
#define HDR (TD_IOVA + 0x10000)
#define STATUS (TD_IOVA + 0x20000)	/* of request n: + n */
#define DATA (TD_IOVA + 0x30000)
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM))

static const struct vfunc_config net = {
	.model = VFUNC_C5000X_NET, .queues = 2, .vectors = 3, .notify_multiplier = PAGE_SIZE,
	.mac = { 2, 0, 0, 0, 0, 1 },
};
static const struct vfunc_config blk = {
	.model = VFUNC_C5000X_BLK, .queues = 2, .vectors = 3, .notify_multiplier = PAGE_SIZE, .sectors = 1024,
};

/* A function, its driver and its vDPA device. */
struct card {
	struct host *h;
	struct ifcvf *f;
	struct vdpa_device *d;
};

static void plug(struct card *c, const struct vfunc_config *config, const char *address)
{
	struct vdpa_mgmtdev *m;

	c->h = host_new(config);
	assert_non_null(c->h);
	assert_int_equal(ifcvf_attach(c->h, address, &c->f), 0);
	m = vdpa_mgmtdev_find("pci", address);
	assert_non_null(m);
	assert_int_equal(m->dev_add(m, address, &(struct vdpa_dev_attrs){ 0 }), 0);
	c->d = vdpa_find(address);
	assert_non_null(c->d);
}

static void unplug(struct card *c)
{
	assert_int_equal(vdpa_delete(c->d->name), 0);
	vdpa_put(c->d);
	ifcvf_detach(c->f);
	host_free(c->h);
}

static void map_all(struct card *c, const struct td_mem *m)
{
	struct vdpa_map map = td_map(m, 0, m->size, VDPA_RW);

	assert_int_equal(c->d->ops->dma_map(c->d, 0, &map), 0);
}

static u8 status(struct card *c)
{
	return c->d->ops->get_status(c->d);
}

/* ---- Probe ---- */

static void test_enumeration(void **state)
{
	static const struct {
		enum vfunc_model model;
		u16 id[4];
		u32 type;
	} row[] = {
		{ VFUNC_N3000_NET, { 0x1af4, 0x1041, 0x8086, 0x001a }, 1 },
		{ VFUNC_C5000X_NET, { 0x1af4, 0x1000, 0x8086, 0x0001 }, 1 },
		{ VFUNC_C5000X_BLK, { 0x1af4, 0x1001, 0x8086, 0x0002 }, 2 },
	};
	static const u16 at[] = { PCI_VENDOR_ID, PCI_DEVICE_ID, PCI_SUBSYSTEM_VENDOR_ID, PCI_SUBSYSTEM_ID };

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct vfunc_config config = blk;
		struct vdpa_mgmtdev *m;
		struct card c;

		config.model = row[i].model;
		c.h = host_new(&config);
		for (unsigned k = 0; k < 4; k++) {
			struct ifcvf *f;

			assert_int_equal(host_config_read(c.h, at[k], 2), row[i].id[k]);
			/* Each of the four must match. */
			vfunc_poke_config(host_func(c.h), at[k], 0x55);
			assert_int_equal(ifcvf_attach(c.h, "0000:01:00.0", &f), -ENODEV);
			vfunc_poke_config(host_func(c.h), at[k], row[i].id[k] & 0xff);
		}
		host_free(c.h);
		plug(&c, &config, "0000:01:00.0");
		m = vdpa_mgmtdev_find("pci", "0000:01:00.0");
		assert_true(m->classes == BIT(row[i].type) && m->max_vqs == 2 && !m->attr_mask &&
			    m->features == c.d->ops->get_device_features(c.d));
		assert_int_equal(c.d->ops->get_device_id(c.d), row[i].type);
		assert_int_equal(c.d->ops->get_vendor_id(c.d), 32902);
		assert_int_equal(c.d->ops->get_vq_num_max(c.d), 32768);
		assert_int_equal(c.d->ops->get_vq_align(c.d), 4096);
		/* One device for a function. */
		assert_int_equal(m->dev_add(m, "second", &(struct vdpa_dev_attrs){ 0 }), -EOPNOTSUPP);
		unplug(&c);
	}
}

/* The capability of virtio type @type. */
static u16 find_cap(struct host *h, u8 id, u8 type)
{
	u16 at = host_config_read(h, PCI_CAPABILITY_LIST, 1);

	while (host_config_read(h, at, 1) != id ||
	       (id == PCI_CAP_ID_VNDR && host_config_read(h, at + VIRTIO_PCI_CAP_CFG_TYPE, 1) != type)) {
		at = host_config_read(h, at + PCI_CAP_LIST_NEXT, 1);
		assert_true(at);
	}
	return at;
}

static void test_wrong_caps(void **state)
{
	static const struct { u8 at, val; } poke[] = {
		{ 0, 0x55 },				/* no vendor capability */
		{ VIRTIO_PCI_CAP_CFG_TYPE, 5 },		/* of the type that is ignored */
		{ VIRTIO_PCI_CAP_BAR, 6 }, { VIRTIO_PCI_CAP_BAR, 255 },
		{ VIRTIO_PCI_CAP_BAR, 1 },		/* no such window */
		{ VIRTIO_PCI_CAP_OFFSET + 3, 0x80 },	/* far behind the window */
		{ VIRTIO_PCI_CAP_LENGTH + 3, 0xff },
		{ VIRTIO_PCI_CAP_LENGTH + 2, 0x10 },	/* ends behind it */
	};
	struct ifcvf_hw hw;
	struct host *h = host_new(&net);
	u16 at;

	for (u8 type = VIRTIO_PCI_CAP_COMMON_CFG; type <= VIRTIO_PCI_CAP_DEVICE_CFG; type++) {
		at = find_cap(h, PCI_CAP_ID_VNDR, type);
		for (unsigned i = 0; i < ARRAY_SIZE(poke); i++) {
			u8 was = host_config_read(h, at + poke[i].at, 1);

			vfunc_poke_config(host_func(h), at + poke[i].at, poke[i].val);
			if (ifcvf_probe(&hw, h) != -EIO)
				fail_msg("type %u, row %u", type, i);
			vfunc_poke_config(host_func(h), at + poke[i].at, was);
		}
	}
	assert_int_equal(ifcvf_probe(&hw, h), 0);
	/* A list that bites its tail ends all the same. */
	at = find_cap(h, PCI_CAP_ID_MSIX, 0);
	vfunc_poke_config(host_func(h), at + PCI_CAP_LIST_NEXT, at);
	assert_int_equal(ifcvf_probe(&hw, h), 0);
	vfunc_poke_config(host_func(h), at, 0x55);
	assert_int_equal(ifcvf_probe(&hw, h), -EIO);
	host_free(h);

	h = host_new(&net);
	vfunc_poke_config(host_func(h), PCI_DEVICE_ID, 0x43);
	vfunc_poke_config(host_func(h), PCI_DEVICE_ID + 1, 0x10);
	assert_int_equal(ifcvf_probe(&hw, h), -EOPNOTSUPP);
	host_free(h);
}

static void test_queue_counts(void **state)
{
	static const struct { unsigned queues; int err; } row[] = { { 1, 0 }, { 17, 0 }, { 18, -EINVAL }, { 32, -EINVAL } };

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct vfunc_config config = blk;
		struct ifcvf_hw hw;
		struct host *h;

		config.queues = row[i].queues;
		h = host_new(&config);
		assert_int_equal(ifcvf_probe(&hw, h), row[i].err);
		host_free(h);
	}
}

/* ---- Block requests, as load ---- */

struct load {
	struct td_mem m;
	struct td_ring q;
	unsigned todo, done;
	u8 *answered;			/* per request: how often */
	u32 of_head[NUM];
};

static void load_open(struct load *l, unsigned total)
{
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_FLUSH };

	memset(l, 0, sizeof(*l));
	td_mem_open(&l->m, MEM);
	td_ring_init(&l->q, &l->m, 0, NUM);
	memcpy(td_ptr(&l->m, HDR), &hdr, sizeof(hdr));
	l->answered = calloc(1, total);
}

static void load_close(struct load *l)
{
	td_mem_close(&l->m);
	free(l->answered);
}

static void load_add(struct load *l, unsigned n)
{
	for (; n-- && l->todo - l->done < NUM / 2; l->todo++) {
		u64 st = STATUS + l->todo % NUM;

		*(u8 *)td_ptr(&l->m, st) = 0xaa;
		l->of_head[td_add(&l->q, (struct td_buf[]){ { HDR, 16 }, { st, 1 } }, 1, 1)] = l->todo;
	}
}

static void load_collect(struct load *l, unsigned n, unsigned ms)
{
	u32 id, len;

	while (n-- && l->done < l->todo && td_wait_used(&l->q, &id, &len, ms)) {
		u32 nr = l->of_head[id];

		assert_int_equal(len, 1);
		assert_int_equal(*(u8 *)td_ptr(&l->m, STATUS + nr % NUM), VIRTIO_BLK_S_OK);
		l->answered[nr]++;
		l->done++;
	}
}

static void start(struct card *c, const struct td_ring *q, u64 features, u16 position, int cb)
{
	assert_int_equal(td_negotiate(c->d, features), 0);
	td_queue(c->d, 0, q, position, cb);
	td_driver_ok(c->d);
}

/* ---- Features, configuration ---- */

static void test_features(void **state)
{
	struct load l;
	struct card c;

	plug(&c, &blk, "0000:01:00.0");
	load_open(&l, 8);
	map_all(&c, &l.m);
	assert_int_equal(c.d->ops->set_driver_features(c.d, BIT(VIRTIO_F_VERSION_1)), -EINVAL);
	assert_int_equal(c.d->ops->set_driver_features(c.d, 0), 0);
	assert_int_equal(c.d->ops->set_driver_features(c.d, FEATURES), 0);
	assert_true(c.d->ops->get_driver_features(c.d) == FEATURES);

	start(&c, &l.q, FEATURES, 0, -1);
	assert_int_equal(status(&c), 15);
	load_add(&l, 1);
	c.d->ops->kick_vq(c.d, 0);
	load_collect(&l, 1, 5000);
	assert_int_equal(l.done, 1);
	/* The device takes a feature back: it refuses, the status says FAILED, and nothing moves. */
	assert_int_equal(vdpa_reset(c.d), 0);
	vfunc_change_features(host_func(c.h), BIT(VIRTIO_F_ACCESS_PLATFORM));
	start(&c, &l.q, FEATURES, 1, -1);
	assert_int_equal(status(&c) & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_DRIVER_OK), VIRTIO_CONFIG_S_FAILED);
	load_add(&l, 1);
	c.d->ops->kick_vq(c.d, 0);
	load_collect(&l, 1, 20);
	assert_int_equal(l.done, 1);
	assert_int_equal(vdpa_reset(c.d), 0);
	assert_int_equal(status(&c), 0);
	unplug(&c);
	load_close(&l);
}

struct changer {
	struct vfunc *v;
	bool stop;
};

static void *change(void *arg)
{
	struct changer *c = arg;
	u8 mac[6];

	for (unsigned i = 0; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); i++) {
		memset(mac, i, sizeof(mac));
		vfunc_change_config(c->v, 0, mac, sizeof(mac));
		/* Long enough for a read to get through, short enough for many to be hit. */
		for (volatile unsigned k = 0; k < 1000 + i % 4000; k++)
			;
	}
	return NULL;
}

static void test_config(void **state)
{
	struct virtio_net_config conf;
	struct changer ch = { 0 };
	struct ifcvf_hw hw;
	unsigned changes = 0, torn = 0;
	struct card c;
	pthread_t t;
	u8 last = 0;
	u16 at;

	plug(&c, &net, "0000:01:00.0");
	assert_int_equal(c.d->ops->get_config_size(c.d), sizeof(conf));
	vdpa_get_config(c.d, 0, &conf, sizeof(conf));
	assert_memory_equal(conf.mac, net.mac, 6);
	assert_int_equal(conf.status, VIRTIO_NET_S_LINK_UP);
	vdpa_set_config(c.d, 0, "\5\5\5\5\5\5", 6);
	vdpa_get_config(c.d, 0, &conf, sizeof(conf));
	assert_memory_equal(conf.mac, net.mac, 6);

	/* Many generations pass; each read is of one. */
	ch.v = host_func(c.h);
	pthread_create(&t, NULL, change, &ch);
	for (unsigned i = 0; i < 200000 && changes < 2000; i++) {
		vdpa_get_config(c.d, 0, conf.mac, 6);
		for (unsigned k = 1; k < 6 && memcmp(conf.mac, net.mac, 6); k++)
			torn += conf.mac[k] != conf.mac[0];
		changes += conf.mac[0] != last;
		last = conf.mac[0];
	}
	__atomic_store_n(&ch.stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	assert_int_equal(torn, 0);
	assert_true(changes > 10);
	unplug(&c);

	/* The shorter of capability and structure. */
	c.h = host_new(&net);
	at = find_cap(c.h, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_DEVICE_CFG);
	vfunc_poke_config(host_func(c.h), at + VIRTIO_PCI_CAP_LENGTH, 10);
	assert_int_equal(ifcvf_probe(&hw, c.h), 0);
	assert_int_equal(hw.config_size, 10);
	vfunc_poke_config(host_func(c.h), at + VIRTIO_PCI_CAP_LENGTH, 200);
	assert_int_equal(ifcvf_probe(&hw, c.h), 0);
	assert_int_equal(hw.config_size, sizeof(conf));
	host_free(c.h);
}

/* ---- Traffic ---- */

/* G.E 5: from one card to the other and back, a hundred times, with requests on their way. */
static void test_migration(void **state)
{
	static const u64 ring_features[] = { 0, BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) };
	enum { TOTAL = 100 * 24 };
	struct card c[2];
	struct load l;
	u16 position = 0;

	load_open(&l, TOTAL);
	plug(&c[0], &blk, "0000:01:00.0");
	plug(&c[1], &blk, "0000:01:00.1");
	map_all(&c[0], &l.m);
	map_all(&c[1], &l.m);
	for (unsigned round = 0; round < 100; round++) {
		struct vdpa_device *d = c[round & 1].d;

		start(&c[round & 1], &l.q, FEATURES | ring_features[round / 2 & 1], position, -1);
		assert_int_equal(status(&c[round & 1]), 15);
		load_add(&l, 12);
		d->ops->kick_vq(d, 0);
		load_collect(&l, round % 13, 1000);
		load_add(&l, 12);
		d->ops->kick_vq(d, 0);
		if (round & 2)
			usleep(round * 2);
		/* Readable while it runs, and after the stop. */
		assert_true((u16)(td_vq_position(d, 0) - position) <= NUM);
		assert_int_equal(vdpa_reset(d), 0);
		position = td_vq_position(d, 0);
		assert_int_equal(td_used_idx(&l.q), position);
	}
	start(&c[0], &l.q, FEATURES, position, -1);
	c[0].d->ops->kick_vq(c[0].d, 0);
	load_collect(&l, TOTAL, 2000);
	assert_int_equal(l.done, l.todo);
	assert_true(l.todo > 500);
	for (unsigned i = 0; i < l.todo; i++)
		assert_int_equal(l.answered[i], 1);
	unplug(&c[0]);
	unplug(&c[1]);
	load_close(&l);
}

static bool signalled(int fd, unsigned ms)
{
	eventfd_t v;

	for (unsigned n = 0; n <= ms; n++) {
		if (!eventfd_read(fd, &v))
			return true;
		usleep(1000);
	}
	return false;
}

/* G.E 6: 1, 2, n and n + 1 vectors for n queues. */
static void test_vectors(void **state)
{
	static const enum ifcvf_irqs mode[] = { IFCVF_IRQ_ONE, IFCVF_IRQ_TWO, IFCVF_IRQ_TWO, IFCVF_IRQ_EACH, IFCVF_IRQ_EACH };

	for (unsigned vectors = 1; vectors <= 5; vectors++) {
		struct vfunc_config config = blk;
		struct vdpa_callback cb = { .eventfd = eventfd(0, EFD_NONBLOCK) };
		struct td_ring other;
		struct ifcvf_hw hw;
		struct card c;
		struct load l;
		int fd[2] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };
		bool shared;

		config.queues = 3;
		config.vectors = vectors;
		plug(&c, &config, "0000:01:00.0");
		assert_int_equal(ifcvf_probe(&hw, c.h), 0);
		assert_int_equal(ifcvf_irq_mode(&hw), mode[vectors - 1]);
		shared = mode[vectors - 1] != IFCVF_IRQ_EACH;
		load_open(&l, 16);
		map_all(&c, &l.m);
		td_ring_init(&other, &l.m, 0x8000, NUM);
		c.d->ops->set_config_cb(c.d, &cb);
		assert_int_equal(td_negotiate(c.d, FEATURES), 0);
		td_queue(c.d, 0, &l.q, 0, fd[0]);
		td_queue(c.d, 1, &other, 0, fd[1]);
		td_driver_ok(c.d);
		assert_int_equal(status(&c), 15);

		load_add(&l, 1);
		c.d->ops->kick_vq(c.d, 0);
		assert_true(signalled(fd[0], 2000));
		assert_int_equal(signalled(fd[1], 5), shared);
		assert_false(signalled(cb.eventfd, 2));
		load_collect(&l, 1, 100);
		td_add(&other, (struct td_buf[]){ { HDR, 16 }, { STATUS + 50, 1 } }, 1, 1);
		c.d->ops->kick_vq(c.d, 1);
		assert_true(signalled(fd[1], 2000));
		assert_int_equal(signalled(fd[0], 5), shared);
		/* The configuration: alone, except where one vector serves for all. */
		vfunc_change_config(host_func(c.h), 0, &(u64){ 2048 }, 8);
		assert_true(signalled(cb.eventfd, 2000));
		assert_int_equal(signalled(fd[0], 2), vectors == 1);
		/* No interrupts after a reset. */
		assert_int_equal(vdpa_reset(c.d), 0);
		signalled(fd[0], 0);
		vfunc_change_config(host_func(c.h), 0, &(u64){ 1024 }, 8);
		assert_false(signalled(cb.eventfd, 5));
		unplug(&c);
		load_close(&l);
		close(fd[0]);
		close(fd[1]);
		close(cb.eventfd);
	}
}

/* A card that promises more vectors than it has. */
static void test_vector_refused(void **state)
{
	struct vfunc_config config = blk;
	struct vdpa_mgmtdev *m;
	struct card c;
	struct load l;

	config.vectors = 2;
	c.h = host_new(&config);
	vfunc_poke_config(host_func(c.h), find_cap(c.h, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, 2);
	assert_int_equal(ifcvf_attach(c.h, "0000:01:00.0", &c.f), 0);
	m = vdpa_mgmtdev_find("pci", "0000:01:00.0");
	assert_int_equal(m->dev_add(m, "x", &(struct vdpa_dev_attrs){ 0 }), 0);
	c.d = vdpa_find("x");
	load_open(&l, 1);
	map_all(&c, &l.m);
	start(&c, &l.q, FEATURES, 0, -1);
	assert_int_equal(status(&c) & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_DRIVER_OK), VIRTIO_CONFIG_S_FAILED);
	unplug(&c);
	load_close(&l);
}

/* G.E 6: a store through the mapped doorbell is a kick. */
static void test_doorbell(void **state)
{
	static const struct { u32 multiplier; u64 off; int err; } row[] = {
		{ PAGE_SIZE, PAGE_SIZE, 0 }, { 2 * PAGE_SIZE, 0, -EOPNOTSUPP }, { 0, 0, 0 }, { 4, 0, -EOPNOTSUPP },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct vfunc_config config = blk;
		struct card c;
		struct load l;
		u64 off = 1;
		int fd = -1;
		u16 *bell;

		config.notify_multiplier = row[i].multiplier;
		plug(&c, &config, "0000:01:00.0");
		load_open(&l, 16);
		map_all(&c, &l.m);
		assert_int_equal(td_negotiate(c.d, FEATURES), 0);
		td_queue(c.d, 0, &l.q, 0, -1);
		assert_int_equal(c.d->ops->get_doorbell(c.d, 1, &fd, &off), row[i].err);
		td_driver_ok(c.d);
		if (!row[i].err) {
			assert_true(off == row[i].off);
			bell = mmap(NULL, PAGE_SIZE, PROT_WRITE, MAP_SHARED, fd, off);
			assert_true(bell != MAP_FAILED);
			for (unsigned n = 0; n < 5; n++) {
				load_add(&l, 1);
				__atomic_store_n(bell, 1, __ATOMIC_RELEASE);
				load_collect(&l, 1, 5000);
				assert_int_equal(l.done, n + 1);
			}
			munmap(bell, PAGE_SIZE);
		}
		unplug(&c);
		load_close(&l);
	}
}

/* The network kind: what it sends to itself it receives. */
static void test_loopback(void **state)
{
	struct td_ring rx, tx;
	struct td_mem m;
	struct card c;
	u32 id, len;
	u8 *p;

	plug(&c, &net, "0000:01:00.0");
	td_mem_open(&m, MEM);
	td_ring_init(&rx, &m, 0, NUM);
	td_ring_init(&tx, &m, 0x8000, NUM);
	map_all(&c, &m);
	assert_int_equal(td_negotiate(c.d, FEATURES | BIT(VIRTIO_NET_F_MAC)), 0);
	td_queue(c.d, 0, &rx, 0, -1);
	td_queue(c.d, 1, &tx, 0, -1);
	td_driver_ok(c.d);
	for (unsigned i = 0; i < 200; i++) {
		td_add(&rx, &(struct td_buf){ DATA + 0x1000, 2048 }, 0, 1);
		p = td_ptr(&m, DATA);
		memset(p, i, 1500);
		memcpy(p + 12, i & 1 ? net.mac : (const u8[]){ 255, 255, 255, 255, 255, 255 }, 6);
		td_add(&tx, &(struct td_buf){ DATA, 60 + i }, 1, 0);
		c.d->ops->kick_vq(c.d, 1);
		assert_true(td_wait_used(&tx, &id, &len, 2000) && len == 0);
		assert_true(td_wait_used(&rx, &id, &len, 2000) && len == 60 + i);
		assert_memory_equal(td_ptr(&m, DATA + 0x1000 + 12), p + 12, 48 + i);
	}
	/* Another's frame. */
	memset(p + 12, 4, 6);
	td_add(&rx, &(struct td_buf){ DATA + 0x1000, 2048 }, 0, 1);
	td_add(&tx, &(struct td_buf){ DATA, 60 }, 1, 0);
	c.d->ops->kick_vq(c.d, 1);
	assert_true(td_wait_used(&tx, &id, &len, 2000));
	assert_false(td_used(&rx, &id, &len));
	unplug(&c);
	td_mem_close(&m);
}

/* What the domain does not map stops the device, which then wants a reset. */
static void test_dma_fault(void **state)
{
	struct vdpa_callback cb = { .eventfd = eventfd(0, EFD_NONBLOCK) };
	struct card c;
	struct load l;

	plug(&c, &blk, "0000:01:00.0");
	load_open(&l, 4);
	c.d->ops->set_config_cb(c.d, &cb);
	start(&c, &l.q, FEATURES, 0, -1);
	load_add(&l, 1);
	c.d->ops->kick_vq(c.d, 0);
	assert_true(signalled(cb.eventfd, 2000));
	assert_int_equal(status(&c) & VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(vdpa_reset(c.d), 0);
	map_all(&c, &l.m);
	start(&c, &l.q, FEATURES, 0, -1);
	c.d->ops->kick_vq(c.d, 0);
	load_collect(&l, 1, 2000);
	assert_int_equal(l.done, 1);
	unplug(&c);
	load_close(&l);
	close(cb.eventfd);
}

/* G.E 7 */
static void test_register_fuzz(void **state)
{
	struct card c;
	struct load l;
	unsigned seed = 7;
	u64 window[3], size[3];

	plug(&c, &blk, "0000:01:00.0");
	load_open(&l, 4);
	map_all(&c, &l.m);
	for (unsigned i = 0; i < 3; i++)
		window[i] = host_window(c.h, 2 * i, &size[i]);
	for (unsigned i = 0; i < 1000000; i++) {
		unsigned r = rand_r(&seed), width = 1u << rand_r(&seed) % 4, w = r % 8 < 6 ? 0 : r % 8 - 5;
		/* Mostly the common registers, and mostly aligned. */
		u64 off = w || r & 0x100 ? (u64)rand_r(&seed) % (size[w] + 64) : (unsigned)rand_r(&seed) % 64;
		u64 val = r & 0x200 ? (unsigned)rand_r(&seed) % 32 : (u64)rand_r(&seed) << 32 | (unsigned)rand_r(&seed);

		if (r & 0x400)
			off &= ~(u64)(width - 1);
		if (r & 0x800)
			val = TD_IOVA + (val & 0x1fff0);
		if ((r & 0xf000) == 0)
			host_config_write(c.h, off, width, val);
		else if ((r & 0xf000) == 0x1000)
			host_config_read(c.h, off, width);
		else if (r & 0x10000)
			host_read(c.h, window[w] + off, width);
		else
			host_write(c.h, window[w] + off, width, val);
		/* Now and then its windows come back, else nothing would be reached. */
		if (i % 1000 == 0)
			host_reset(c.h);
		if (i % 1000 == 1)
			host_config_write(c.h, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	}
	host_reset(c.h);
	host_config_write(c.h, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(vdpa_reset(c.d), 0);
	td_ring_reset(&l.q, 0);
	memset(td_ptr(&l.m, HDR), 0, 16);
	*(u32 *)td_ptr(&l.m, HDR) = VIRTIO_BLK_T_FLUSH;
	start(&c, &l.q, FEATURES, 0, -1);
	assert_int_equal(status(&c), 15);
	load_add(&l, 1);
	c.d->ops->kick_vq(c.d, 0);
	load_collect(&l, 1, 2000);
	assert_int_equal(l.done, 1);
	unplug(&c);
	load_close(&l);
}

/* The functions that the environment asks for. */
static void test_cards(void **state)
{
	setenv("USERKVM_IFCVF", "n3000-net,no-such-model,c5000x-blk", 1);
	assert_int_equal(ifcvf_init(), 0);
	assert_true(vdpa_mgmtdev_find("pci", "0000:01:00.0")->classes == BIT(1));
	assert_true(vdpa_mgmtdev_find("pci", "0000:01:00.1")->classes == BIT(2));
	ifcvf_exit();
	assert_null(vdpa_mgmtdev_find("pci", "0000:01:00.0"));
	setenv("USERKVM_IFCVF", "", 1);
	assert_int_equal(ifcvf_init(), 0);
	assert_null(vdpa_mgmtdev_find("pci", "0000:01:00.0"));
	ifcvf_exit();
}

int main(void)
{
#define T(name, t) { name, t, NULL, NULL, NULL }
	static const struct CMUnitTest tests[] = {
		T("G.E 1: three sets of ids", test_enumeration),
		T("G.E 2: capabilities missing or outside", test_wrong_caps),
		T("queue counts", test_queue_counts),
		T("G.E 3: features", test_features),
		T("G.E 4: configuration of one generation, and its size", test_config),
		T("G.E 5: 100 migrations under load", test_migration),
		T("G.E 6: vectors", test_vectors),
		T("G.E 6: vector refused", test_vector_refused),
		T("G.E 6: mapped doorbell", test_doorbell),
		T("loopback", test_loopback),
		T("DMA fault", test_dma_fault),
		T("G.E 7: register fuzz", test_register_fuzz),
		T("cards by environment", test_cards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
