// SPDX-License-Identifier: MIT
/*
 * Acceptance test G.B 10: 16 threads call every ioctl at random on the nodes of
 * three simulated devices, while IOTLB messages are written, eventfds are
 * kicked and ring memory changes. Now and then a node is closed and opened
 * again. Afterwards each device must still serve a request.
 *
 * Usage: vhost_stress SECONDS. Meant for the sanitizers.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "abi/vhost.h"
#include "base/bits.h"
#include "base/log.h"
#include "vdpa/ifcvf/host.h"
#include "vdpa/ifcvf/ifcvf.h"
#include "vdpa/sim/sim.h"
#include "vdpa/sim/testdrv.h"
#include "vdpa/vhost/vhost.h"

#define THREADS 16
#define DEVICES 3
#define MEM (1u << 20)
#define CARD "0000:01:00.0"

static const u64 reqs[] = {
	VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_SET_OWNER, VHOST_RESET_OWNER, VHOST_SET_MEM_TABLE,
	VHOST_SET_LOG_BASE, VHOST_SET_LOG_FD, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE,
	VHOST_GET_VRING_BASE, VHOST_SET_VRING_ENDIAN, VHOST_GET_VRING_ENDIAN, VHOST_SET_VRING_KICK,
	VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR, VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
	VHOST_GET_VRING_BUSYLOOP_TIMEOUT, VHOST_SET_BACKEND_FEATURES, VHOST_GET_BACKEND_FEATURES,
	VHOST_VDPA_GET_DEVICE_ID, VHOST_VDPA_GET_STATUS, VHOST_VDPA_SET_STATUS, VHOST_VDPA_GET_CONFIG,
	VHOST_VDPA_SET_CONFIG, VHOST_VDPA_SET_VRING_ENABLE, VHOST_VDPA_GET_VRING_NUM, VHOST_VDPA_SET_CONFIG_CALL,
	VHOST_VDPA_GET_IOVA_RANGE, VHOST_VDPA_GET_CONFIG_SIZE, VHOST_VDPA_GET_AS_NUM, VHOST_VDPA_GET_VRING_GROUP,
	VHOST_VDPA_SET_GROUP_ASID, VHOST_VDPA_SUSPEND, VHOST_VDPA_RESUME, VHOST_VDPA_GET_VRING_DESC_GROUP,
	VHOST_VDPA_GET_VQS_COUNT, VHOST_VDPA_GET_GROUP_NUM, VHOST_VDPA_GET_VRING_SIZE, 0, ~0ull, 0xaf7full,
};

struct node {
	struct vhost_vdpa *v;
	struct vdpa_device *d;
	unsigned n;
	pthread_rwlock_t open;		/* written while the node is closed */
};

static struct node node[DEVICES];
static struct td_mem mem;
static int fds[4];			/* two eventfds, a file that is none, -1 */
static bool stop;
static u64 calls, good;

static struct vhost_vring_addr random_addr(unsigned *seed)
{
	struct vhost_vring_addr a = {
		.index = rand_r(seed) % 4, .flags = rand_r(seed) % 16 == 0,
		.desc_user_addr = TD_IOVA + 0x10000u * (rand_r(seed) % 4),
	};

	a.avail_user_addr = a.desc_user_addr + 0x1000;
	a.used_user_addr = a.desc_user_addr + 0x2000 + rand_r(seed) % 2;
	return a;
}

/* Arguments that are mostly sensible, so that the calls reach beyond their checks. */
static void one_ioctl(struct node *nd, unsigned *seed)
{
	static const u64 features[] = { BIT(32) | BIT(33), BIT(33), 0, ~0ull };
	static const u8 statuses[] = { 0, 1, 3, 11, 15, 15, 15, 0xff };
	struct vhost_call *c = calloc(1, sizeof(*c));
	struct vhost_vring_state state = { .index = rand_r(seed) % 4, .num = 1u << rand_r(seed) % 10 };
	struct vhost_vring_addr addr = random_addr(seed);
	struct { u32 off, len; u8 bytes[64]; } config = { rand_r(seed) % 64, rand_r(seed) % 64, { 0 } };
	u64 feature = features[rand_r(seed) % 4], junk[8];
	u8 status = statuses[rand_r(seed) % 8];
	long ret;

	c->req = reqs[rand_r(seed) % ARRAY_SIZE(reqs)];
	c->pid = getpid();
	c->fd = fds[rand_r(seed) % 4];
	for (unsigned i = 0; i < ARRAY_SIZE(junk); i++)
		junk[i] = (u64)rand_r(seed) << 32 | (unsigned)rand_r(seed);
	c->in = &state;
	c->in_len = sizeof(state);
	switch (c->req) {
	case VHOST_SET_FEATURES:
	case VHOST_SET_BACKEND_FEATURES:
		c->in = &feature;
		c->in_len = sizeof(feature);
		break;
	case VHOST_SET_VRING_ADDR:
		c->in = &addr;
		c->in_len = sizeof(addr);
		break;
	case VHOST_VDPA_SET_STATUS:
		c->in = &status;
		c->in_len = 1;
		break;
	case VHOST_VDPA_GET_CONFIG:
	case VHOST_VDPA_SET_CONFIG:
		c->in = &config;
		c->in_len = sizeof(config);
		break;
	}
	if (rand_r(seed) % 32 == 0) {
		c->in = junk;
		c->in_len = rand_r(seed) % sizeof(junk);
	}
	ret = vhost_vdpa_ioctl(nd->v, c);
	free(c);
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	if (ret >= 0)
		__atomic_fetch_add(&good, 1, __ATOMIC_RELAXED);
}

static void one_message(struct node *nd, unsigned *seed)
{
	static const u8 types[] = {
		VHOST_IOTLB_UPDATE, VHOST_IOTLB_UPDATE, VHOST_IOTLB_UPDATE, VHOST_IOTLB_INVALIDATE,
		VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END, VHOST_IOTLB_BATCH_END, VHOST_IOTLB_MISS, 99,
	};
	u64 off = 0x10000ull * (rand_r(seed) % 8), size = 0x10000ull << rand_r(seed) % 3;
	struct vhost_piece piece = {
		.len = size, .off = off, .uaddr = (u64)mem.p + off, .fd = rand_r(seed) % 8 ? mem.fd : -1, .writable = true,
	};
	struct vhost_msg_v2 msg = {
		.type = rand_r(seed) % 2 + 1, .asid = rand_r(seed) % 16 == 0,
		.iotlb = { .iova = TD_IOVA + off, .size = size, .uaddr = (u64)mem.p + off,
			   .perm = rand_r(seed) % 8 ? 3 : rand_r(seed) % 4,
			   .type = types[rand_r(seed) % ARRAY_SIZE(types)] },
	};

	if (rand_r(seed) % 64 == 0)
		msg.iotlb.size = (u64)rand_r(seed) << 33;
	(void)!vhost_vdpa_write(nd->v, getpid(), &msg, sizeof(msg), &piece, 1);
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

static void reopen(struct node *nd)
{
	pthread_rwlock_wrlock(&nd->open);
	vhost_vdpa_release(nd->v);
	nd->v = vhost_vdpa_open(nd->n);
	BUG_ON(!nd->v);
	pthread_rwlock_unlock(&nd->open);
}

/* Devices read it meanwhile: as other processes' memory, of which no sanitizer knows. */
static void scribble(unsigned *seed)
{
	u16 *p = (u16 *)mem.p + rand_r(seed) % (0x40000 / 2);

	__atomic_store_n(p, rand_r(seed) % 3 ? rand_r(seed) % 64 : rand_r(seed), __ATOMIC_RELAXED);
}

static void *storm(void *arg)
{
	unsigned seed = (unsigned)(u64)arg + 1;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct node *nd = &node[rand_r(&seed) % DEVICES];
		unsigned what = rand_r(&seed) % 1024;
		u64 off;

		if (what == 0) {
			reopen(nd);
			continue;
		}
		pthread_rwlock_rdlock(&nd->open);
		if (what < 600)
			one_ioctl(nd, &seed);
		else if (what < 800)
			one_message(nd, &seed);
		else if (what < 900)
			eventfd_write(fds[rand_r(&seed) % 2], 1);
		else if (what < 1000)
			scribble(&seed);
		else {
			int fd = vhost_vdpa_doorbell(nd->v, rand_r(&seed) % 4, PAGE_SIZE, PROT_WRITE, MAP_SHARED, &off);

			if (fd >= 0)
				close(fd);
		}
		pthread_rwlock_unlock(&nd->open);
	}
	return NULL;
}

/* One flush on a block device, as a driver that begins anew. */
static bool still_serves(struct node *nd)
{
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_FLUSH };
	struct vdpa_map map = td_map(&mem, 0, MEM, VDPA_RW);
	struct vdpa_iotlb *table = vdpa_iotlb_new(0);
	struct td_ring q;
	u32 id, len;
	bool ok;

	reopen(nd);
	memset(mem.p, 0, MEM);
	td_ring_init(&q, &mem, 0, 16);
	memcpy(mem.p + 0x8000, &hdr, sizeof(hdr));
	BUG_ON(td_negotiate(nd->d, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM)));
	BUG_ON(td_dma_map(nd->d, 0, table, &map));
	td_queue(nd->d, 0, &q, 0, -1);
	td_driver_ok(nd->d);
	td_add(&q, (struct td_buf[]){ { TD_IOVA + 0x8000, 16 }, { TD_IOVA + 0x9000, 1 } }, 1, 1);
	nd->d->ops->kick_vq(nd->d, 0);
	ok = td_wait_used(&q, &id, &len, 5000);
	reopen(nd);
	vdpa_iotlb_free(table);
	return ok;
}

static void add(unsigned i, const char *bus, const char *parent, const char *name)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(bus, parent);
	int n;

	BUG_ON(!m || m->dev_add(m, name, &(struct vdpa_dev_attrs){ 0 }));
	node[i].d = vdpa_find(name);
	n = vhost_vdpa_node_of(name);
	BUG_ON(n < 0);
	node[i].n = n;
	node[i].v = vhost_vdpa_open(n);
	BUG_ON(!node[i].v);
	pthread_rwlock_init(&node[i].open, NULL);
}

int main(int argc, char **argv)
{
	const struct vfunc_config card = {
		.model = VFUNC_C5000X_BLK, .queues = 2, .vectors = 3, .notify_multiplier = PAGE_SIZE, .sectors = 1024,
	};
	struct vdpasim_params params = VDPASIM_PARAMS_DEFAULT;
	unsigned seconds = argc > 1 ? atoi(argv[1]) : 2, failed = 0;
	struct ifcvf *driver;
	pthread_t t[THREADS];
	struct host *h;

	td_mem_open(&mem, MEM);
	fds[0] = eventfd(0, EFD_NONBLOCK);
	fds[1] = eventfd(0, EFD_NONBLOCK);
	fds[2] = mem.fd;
	fds[3] = -1;
	BUG_ON(vhost_vdpa_init() || vdpasim_register(&params));
	h = host_new(&card);
	BUG_ON(!h || ifcvf_attach(h, CARD, &driver));
	add(0, NULL, "vdpasim_net", "net");
	add(1, NULL, "vdpasim_blk", "blk");
	add(2, "pci", CARD, "card");
	for (u64 i = 0; i < THREADS; i++)
		BUG_ON(pthread_create(&t[i], NULL, storm, (void *)i));
	sleep(seconds);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	printf("1..3\nok 1 - G.B 10: %u threads end\n", THREADS);
	printf("# %llu calls, %llu ioctls succeeded\n", (unsigned long long)calls, (unsigned long long)good);
	for (unsigned i = 1; i < DEVICES; i++) {
		bool ok = still_serves(&node[i]);

		printf("%s %u - G.B 10: %s serves afterwards\n", ok ? "ok" : "not ok", i + 1, node[i].d->name);
		failed += !ok;
	}
	for (unsigned i = 0; i < DEVICES; i++) {
		vhost_vdpa_release(node[i].v);
		BUG_ON(vdpa_delete(node[i].d->name));
		vdpa_put(node[i].d);
	}
	ifcvf_detach(driver);
	host_free(h);
	vdpasim_exit();
	vhost_vdpa_exit();
	td_mem_close(&mem);
	return failed != 0;
}
