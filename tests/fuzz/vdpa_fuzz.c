// SPDX-License-Identifier: MIT
/*
 * vdpa_fuzz: a hostile driver's rings on the simulators and the simulated cards.
 * Each round has random chains, random mappings and a random number of kicks.
 * Afterwards, against a naive model: chains were answered in the order offered,
 * none behind one that cannot be fetched, none with more bytes than it has room
 * for; and nothing was written where the device may not write.
 */
#include <linux/virtio_config.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vdpa/ifcvf/host.h"
#include "vdpa/ifcvf/ifcvf.h"
#include "vdpa/sim/sim.h"
#include "vdpa/sim/testdrv.h"

#define NUM 16u
#define RINGS 3
#define RING(n) (0x2000u * (n))
#define TABLES 0x8000u			/* indirect ones, 16 of 16 descriptors */
#define DATA 0x10000u			/* 16 pages: mapped for both, one, the other direction, or not */
#define DATA_PAGES 16u
#define SECRET (DATA + DATA_PAGES * 0x1000u)
#define MEM (SECRET + 0x4000u)
#define PATTERN 0x5a

enum dir { BOTH, READABLE, WRITABLE };

static struct target {
	struct vdpa_device *d;
	u64 features;			/* beside the ones that all have */
	unsigned rings;
	enum dir dir[RINGS];
} targets[] = {
	{ .rings = 1, .dir = { BOTH } },
	{ .features = BIT(17) | BIT(23), .rings = 3, .dir = { WRITABLE, READABLE, BOTH } },
	{ .features = BIT(28) | BIT(29), .rings = 2, .dir = { BOTH, BOTH } },
	{ .features = BIT(28) | BIT(29), .rings = 2, .dir = { WRITABLE, READABLE } },
};

static struct td_mem mem;
static u8 perm[DATA_PAGES];
static u64 round_nr;

static void fail(const char *what)
{
	printf("not ok 1 - round %llu: %s\n", (unsigned long long)round_nr, what);
	exit(1);
}

/* ---- Random rings ---- */

static u64 random_addr(void)
{
	switch (below(16)) {
	case 0: return rnd();
	case 1: return TD_IOVA + SECRET + below(0x1000);
	case 2: return UINT64_MAX - below(32);
	default: return TD_IOVA + DATA + below(DATA_PAGES * 0x1000);
	}
}

static struct vring_desc random_desc(bool table, bool last)
{
	static const u32 lens[] = { 0, 1, 2, 12, 16, 17, 64, 512, 513, 4096 };
	struct vring_desc d = {
		.addr = random_addr(), .len = below(8) ? lens[below(ARRAY_SIZE(lens))] : (u32)rnd(),
		.flags = (below(2) ? VRING_DESC_F_WRITE : 0) | (below(3) && !last ? VRING_DESC_F_NEXT : 0),
		.next = below(NUM + (below(16) == 0)),
	};

	if (below(table ? 32 : 8) == 0) {
		d.flags |= VRING_DESC_F_INDIRECT;
		d.addr = TD_IOVA + TABLES + 0x100 * below(16);
		d.len = 16 * below(17) + (below(16) == 0);
	}
	return d;
}

/* Commands that the devices know, so that some get through. */
static void random_data(void)
{
	for (unsigned i = 0; i < DATA_PAGES * 0x1000; i += 8) {
		u64 v = below(4) ? below(16) : rnd();

		memcpy(mem.p + DATA + i, &v, 8);
	}
}

static void fill(struct td_ring *q)
{
	for (unsigned i = 0; i < NUM; i++) {
		struct vring_desc d = random_desc(false, i == NUM - 1);

		td_desc(q, i, d.addr, d.len, d.flags, d.next);
	}
	for (unsigned n = below(NUM + 1); n; n--)
		td_offer(q, below(64) ? below(NUM) : below(0x10000));
}

/* ---- The model ---- */

/* Can the device fetch it? @room: writable bytes. */
static bool fetchable(const struct td_ring *q, u16 head, bool indirect_ok, enum dir dir, u64 *room)
{
	const u8 *table = td_ptr(&mem, q->desc);
	unsigned size = NUM, i = head, count = 0;
	bool in_table = false, written = false;

	*room = 0;
	for (;;) {
		struct vring_desc d;

		if (i >= size)
			return false;
		memcpy(&d, table + 16 * i, 16);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!indirect_ok || in_table || (d.flags & VRING_DESC_F_NEXT) || !d.len || d.len % 16)
				return false;
			table = td_ptr(&mem, d.addr);
			size = d.len / 16;
			i = 0;
			in_table = true;
			continue;
		}
		if (++count > NUM)
			return false;
		if (d.flags & VRING_DESC_F_WRITE) {
			if (dir == READABLE)
				return false;
			written = true;
			*room += d.len;
		} else if (written || dir == WRITABLE) {
			return false;
		}
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		i = d.next;
	}
}

static void check(struct td_ring *q, const struct target *t, unsigned nr, bool indirect_ok)
{
	const u16 *avail = td_ptr(&mem, q->avail);
	u32 id, len;

	if (td_used_idx(q) > q->avail_idx)
		fail("more answers than chains");
	for (unsigned k = 0; td_used(q, &id, &len); k++) {
		u16 head = avail[2 + k];
		u64 room;

		if (id != head)
			fail("answers in another order");
		if (!fetchable(q, head, indirect_ok, t->dir[nr], &room))
			fail("an answer to a chain that cannot be fetched");
		if (len > room)
			fail("more bytes written than there is room for");
	}
}

/* ---- A round ---- */

static void map(struct vdpa_device *d, struct vdpa_iotlb *table)
{
	struct vdpa_map m = td_map(&mem, 0, DATA, VDPA_RW);

	BUG_ON(td_dma_map(d, 0, table, &m));
	for (unsigned i = 0; i < DATA_PAGES; i++) {
		perm[i] = below(6) ? VDPA_RW : below(4);
		if (!perm[i])
			continue;
		m = td_map(&mem, DATA + i * 0x1000, 0x1000, perm[i]);
		BUG_ON(td_dma_map(d, 0, table, &m));
	}
}

static void one_round(u64 nr, bool verbose)
{
	struct target *t = &targets[below(ARRAY_SIZE(targets))];
	u64 features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) |
		       (t->features & (below(2) ? ~0ull : BIT(17)));
	struct vdpa_iotlb *table = vdpa_iotlb_new(0);
	static u8 before[DATA_PAGES * 0x1000];
	struct td_ring q[RINGS];

	round_nr = nr;
	memset(mem.p, 0, DATA);
	memset(mem.p + SECRET, PATTERN, MEM - SECRET);
	random_data();
	for (unsigned i = 0; i < 256; i++) {
		struct vring_desc d = random_desc(true, i % 16 == 15);

		memcpy(mem.p + TABLES + 16 * i, &d, 16);
	}
	for (unsigned i = 0; i < t->rings; i++) {
		td_ring_init(&q[i], &mem, RING(i), NUM);
		fill(&q[i]);
		td_set_used_event(&q[i], below(4));
	}
	memcpy(before, mem.p + DATA, sizeof(before));

	BUG_ON(vdpa_reset(t->d) || td_negotiate(t->d, features));
	map(t->d, table);
	for (unsigned i = 0; i < t->rings; i++)
		td_queue(t->d, i, &q[i], 0, -1);
	td_driver_ok(t->d);
	for (unsigned n = below(8) + 1; n; n--) {
		t->d->ops->kick_vq(t->d, below(t->rings));
		usleep(below(4) * 20);
	}
	BUG_ON(vdpa_reset(t->d));
	td_dma_unmap(t->d, 0, table, 0, UINT64_MAX);
	vdpa_iotlb_free(table);

	for (unsigned i = 0; i < t->rings; i++)
		check(&q[i], t, i, features & BIT(28));
	for (unsigned i = SECRET; i < MEM; i++)
		if (mem.p[i] != PATTERN)
			fail("memory written that was never mapped");
	for (unsigned i = 0; i < DATA_PAGES; i++)
		if (!(perm[i] & VDPA_WO) && memcmp(before + i * 0x1000, mem.p + DATA + i * 0x1000, 0x1000))
			fail("memory written that was not mapped for writing");
}

static void card(struct target *t, struct vfunc_config c, const char *address)
{
	struct ifcvf *f;
	struct host *h;

	c.queues = 2;
	c.vectors = 3;
	h = host_new(&c);
	BUG_ON(!h || ifcvf_attach(h, address, &f));
	BUG_ON(vdpa_mgmtdev_find("pci", address)->dev_add(vdpa_mgmtdev_find("pci", address), address,
							  &(struct vdpa_dev_attrs){ 0 }));
	t->d = vdpa_find(address);
}

static void simulator(struct target *t, const char *parent)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(NULL, parent);

	BUG_ON(m->dev_add(m, parent, &(struct vdpa_dev_attrs){ 0 }));
	t->d = vdpa_find(parent);
}

int main(int argc, char **argv)
{
	struct fuzz f = { .name = "vdpa_fuzz", .what = "hostile rings", .default_rounds = 2000, .round = one_round };
	struct vdpasim_params params = VDPASIM_PARAMS_DEFAULT;

	if (!fuzz_options(&f, argc, argv))
		return 2;
	td_mem_open(&mem, MEM);
	BUG_ON(vdpasim_register(&params));
	simulator(&targets[0], "vdpasim_blk");
	simulator(&targets[1], "vdpasim_net");
	card(&targets[2], (struct vfunc_config){ .model = VFUNC_C5000X_BLK, .sectors = 64 }, "0000:01:00.0");
	card(&targets[3], (struct vfunc_config){ .model = VFUNC_N3000_NET }, "0000:01:00.1");
	fuzz_rounds(&f);
	return 0;
}
