// SPDX-License-Identifier: MIT
/*
 * Acceptance test G.D 4: one thread maps and unmaps while the block simulator's
 * worker reads and writes there. A request ends in success with the bytes of
 * one mapping, or in IOERR; what was never mapped is neither read nor written.
 *
 * Usage: vdpa_race OPERATIONS. Meant for ThreadSanitizer.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vdpa/sim/core.h"
#include "vdpa/sim/testdrv.h"

/* Offsets in the memory; only the pages called source and target are ever mapped at the two addresses below. */
#define RING 0x0u
#define HDR 0x10000u
#define STATUS 0x10800u
#define BACK 0x11000u		/* where data is read back to */
#define SOURCE(n) (0x20000u + 0x2000u * (n))
#define TARGET(n) (0x30000u + 0x2000u * (n))
#define MEM 0x40000u
#define FLIP_SOURCE (TD_IOVA + (1ull << 32))
#define FLIP_TARGET (TD_IOVA + (2ull << 32))
#define FOREIGN 0x33

struct race {
	struct vdpa_device *d;
	struct td_mem m;
	struct td_ring q;
	struct vdpa_iotlb *table;
	u64 ops, requests;
	bool stop;
};

/* Operations for one request, at most: else the mapper would be done before the first. */
#define OPS_PER_REQUEST 20

static struct vdpa_map page(struct race *r, u64 off, u64 iova)
{
	return (struct vdpa_map){
		.start = iova, .last = iova + PAGE_SIZE - 1, .perm = VDPA_RW, .mem = r->m.mem, .off = off,
	};
}

static void let_requests_pass(struct race *r, u64 ops)
{
	while (ops > OPS_PER_REQUEST * (__atomic_load_n(&r->requests, __ATOMIC_RELAXED) + 1))
		sched_yield();
}

static void *mapper(void *arg)
{
	struct race *r = arg;

	for (u64 i = 0; i < r->ops; i += 4) {
		unsigned n = i / 4 & 1;
		struct vdpa_map s = page(r, SOURCE(n), FLIP_SOURCE), t = page(r, TARGET(n), FLIP_TARGET);

		BUG_ON(td_dma_map(r->d, 0, r->table, &s));
		BUG_ON(td_dma_map(r->d, 0, r->table, &t));
		if (i & 8)
			let_requests_pass(r, i);
		BUG_ON(td_dma_unmap(r->d, 0, r->table, s.start, s.last));
		BUG_ON(td_dma_unmap(r->d, 0, r->table, t.start, t.last));
		if (!(i & 8))
			let_requests_pass(r, i);
	}
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	return NULL;
}

/* One page in or out. Returns the status. */
static u8 request(struct race *r, u32 type, u64 sector, u64 iova)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };
	struct td_buf buf[] = { { TD_IOVA + HDR, 16 }, { iova, PAGE_SIZE }, { TD_IOVA + STATUS, 1 } };
	u8 *status = td_ptr(&r->m, TD_IOVA + STATUS);
	u32 id, len;

	memcpy(td_ptr(&r->m, TD_IOVA + HDR), &hdr, sizeof(hdr));
	*status = 0xaa;
	td_add(&r->q, buf, type == VIRTIO_BLK_T_OUT ? 2 : 1, type == VIRTIO_BLK_T_OUT ? 1 : 2);
	r->d->ops->kick_vq(r->d, 0);
	while (!td_used(&r->q, &id, &len))
		sched_yield();
	__atomic_fetch_add(&r->requests, 1, __ATOMIC_RELAXED);
	return *status;
}

static bool all(const u8 *p, u8 v)
{
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		if (p[i] != v)
			return false;
	return true;
}

static const char *check_all(struct race *r, u64 *ok, u64 *failed)
{
	u8 *p = r->m.p, *back = p + BACK, status, disk;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		status = request(r, VIRTIO_BLK_T_OUT, 0, FLIP_SOURCE);
		++*(status ? failed : ok);
		if (status != VIRTIO_BLK_S_OK && status != VIRTIO_BLK_S_IOERR)
			return "unknown status of a write";
		if (request(r, VIRTIO_BLK_T_IN, 0, TD_IOVA + BACK))
			return "reading back failed";
		disk = back[0];
		if (disk && disk != 0x10 && disk != 0x11)
			return "foreign data on the disk";
		if (!all(back, disk))
			return "data of two mappings on the disk";
		status = request(r, VIRTIO_BLK_T_IN, 8, FLIP_TARGET);
		if (status != VIRTIO_BLK_S_OK && status != VIRTIO_BLK_S_IOERR)
			return "unknown status of a read";
		++*(status ? failed : ok);
		for (unsigned n = 0; n < 2; n++) {
			if (!all(p + SOURCE(n) + PAGE_SIZE, FOREIGN) || !all(p + TARGET(n) + PAGE_SIZE, FOREIGN))
				return "foreign memory written";
			if (!all(p + SOURCE(n), 0x10 + n))
				return "the source written";
		}
	}
	return NULL;
}

static const char *run(u64 ops, bool batch, u64 *ok, u64 *failed)
{
	struct race r = { .ops = ops };
	struct vdpasim_params params = { .batch_mapping = batch, .max_iotlb_entries = 16 };
	struct vdpa_dev_attrs a = { 0 };
	struct vdpa_map fixed;
	const char *wrong;
	pthread_t t;

	td_mem_open(&r.m, MEM);
	memset(r.m.p + SOURCE(0), FOREIGN, MEM - SOURCE(0));
	memset(r.m.p + SOURCE(0), 0x10, PAGE_SIZE);
	memset(r.m.p + SOURCE(1), 0x11, PAGE_SIZE);
	td_ring_init(&r.q, &r.m, RING, 16);
	r.table = vdpa_iotlb_new(0);
	BUG_ON(vdpasim_create(NULL, &vdpasim_blk_type, &params, "race", &a));
	r.d = vdpa_find("race");
	BUG_ON(td_negotiate(r.d, BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM)));
	fixed = td_map(&r.m, 0, SOURCE(0), VDPA_RW);
	BUG_ON(td_dma_map(r.d, 0, r.table, &fixed));
	td_queue(r.d, 0, &r.q, 0, -1);
	td_driver_ok(r.d);

	BUG_ON(pthread_create(&t, NULL, mapper, &r));
	wrong = check_all(&r, ok, failed);
	pthread_join(t, NULL);
	vdpa_unregister(r.d);
	vdpa_put(r.d);
	vdpa_iotlb_free(r.table);
	td_mem_close(&r.m);
	return wrong;
}

int main(int argc, char **argv)
{
	u64 ops = argc > 1 ? strtoull(argv[1], NULL, 0) : 10000;

	printf("1..2\n");
	for (unsigned batch = 0; batch < 2; batch++) {
		u64 ok = 0, failed = 0;
		const char *wrong = run(ops / 2, batch, &ok, &failed);

		printf("%s %u - G.D 4: %s against the worker%s%s\n", wrong ? "not ok" : "ok", batch + 1,
		       batch ? "set_map" : "dma_map and dma_unmap", wrong ? " # " : "", wrong ? wrong : "");
		printf("# %llu operations, %llu requests done, %llu refused\n", (unsigned long long)(ops / 2),
		       (unsigned long long)ok, (unsigned long long)failed);
		if (wrong)
			return 1;
	}
	return 0;
}
