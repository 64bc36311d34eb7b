// SPDX-License-Identifier: MIT
/*
 * The block simulator, driven by rings written by hand. Acceptance tests G.D 1, 2.
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

#define MEM (192ull << 20)
#define HDR (TD_IOVA + 0x10000)
#define STATUS (TD_IOVA + 0x10800)
#define DATA (TD_IOVA + 0x20000)
#define CAP 0x40000ull
#define SILENT 0x100		/* no status: used.len 0, no notification, the run ends */
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM))

struct fix {
	struct td_mem m;
	struct td_ring q;
	struct vdpa_device *d;
	struct vdpa_iotlb *table;
	int cb;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vdpasim_params p = VDPASIM_PARAMS_DEFAULT;
	struct vdpa_dev_attrs a = { 0 };
	struct vdpa_map map;

	td_mem_open(&f->m, MEM);
	td_ring_init(&f->q, &f->m, 0x1000, 64);
	f->table = vdpa_iotlb_new(0);
	f->cb = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(vdpasim_create(NULL, &vdpasim_blk_type, &p, "blk0", &a), 0);
	f->d = vdpa_find("blk0");
	assert_non_null(f->d);
	assert_int_equal(td_negotiate(f->d, FEATURES), 0);
	map = td_map(&f->m, 0, MEM, VDPA_RW);
	assert_int_equal(td_dma_map(f->d, 0, f->table, &map), 0);
	td_queue(f->d, 0, &f->q, 0, f->cb);
	td_driver_ok(f->d);
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
	close(f->cb);
	free(f);
	return 0;
}

static void put_header(struct fix *f, u32 type, u64 sector)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };

	memcpy(td_ptr(&f->m, HDR), &hdr, sizeof(hdr));
	*(u8 *)td_ptr(&f->m, STATUS) = 0xaa;
}

static void kick(struct fix *f)
{
	f->d->ops->kick_vq(f->d, 0);
}

/* Wait for @head. Returns used.len. */
static u32 finish(struct fix *f, u16 head)
{
	u32 id, len;

	kick(f);
	assert_true(td_wait_used(&f->q, &id, &len, 5000));
	assert_int_equal(id, head);
	return len;
}

static u8 status_of(struct fix *f)
{
	return *(u8 *)td_ptr(&f->m, STATUS);
}

/* Header, @out bytes of data, @in bytes of data, status. Returns the status. */
static u8 request(struct fix *f, u32 type, u64 sector, u32 out, u32 in, u32 *len)
{
	struct td_buf buf[4] = { { HDR, 16 } };
	unsigned nr = 1, nw = 0;

	if (out)
		buf[nr++] = (struct td_buf){ DATA, out };
	if (in)
		buf[nr + nw++] = (struct td_buf){ DATA, in };
	buf[nr + nw++] = (struct td_buf){ STATUS, 1 };
	put_header(f, type, sector);
	*len = finish(f, td_add(&f->q, buf, nr, nw));
	return status_of(f);
}

static void fill(void *p, size_t len, unsigned seed)
{
	u32 *w = p;

	for (size_t i = 0; i < len / 4; i++)
		w[i] = (u32)(i * 2654435761u) ^ seed;
}

static void test_identity(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_config c;
	u8 beyond[4] = { 1, 2, 3, 4 };

	assert_int_equal(f->d->ops->get_device_id(f->d), 2);
	assert_int_equal(f->d->ops->get_vendor_id(f->d), 0);
	assert_int_equal(f->d->nvqs, 1);
	assert_int_equal(f->d->nas, 1);
	assert_int_equal(f->d->ngroups, 1);
	assert_int_equal(f->d->ops->get_vq_num_max(f->d), 256);
	assert_int_equal(f->d->ops->get_vq_align(f->d), 4096);
	assert_true(f->d->ops->get_device_features(f->d) == (BIT(1) | BIT(2) | BIT(6) | BIT(9) | BIT(10) | BIT(12) |
		    BIT(13) | BIT(14) | BIT(27) | BIT(32) | BIT(33)));
	vdpa_get_config(f->d, 0, &c, sizeof(c));
	assert_int_equal(c.capacity, CAP);
	assert_int_equal(c.size_max, 0x1000);
	assert_int_equal(c.seg_max, 32);
	assert_int_equal(c.blk_size, 512);
	assert_int_equal(c.num_queues, 1);
	assert_int_equal(c.min_io_size, 1);
	assert_int_equal(c.opt_io_size, 1);
	assert_int_equal(c.discard_sector_alignment, 512);
	assert_int_equal(c.max_discard_sectors, UINT32_MAX);
	assert_int_equal(c.max_discard_seg, 1);
	assert_int_equal(c.max_write_zeroes_sectors, UINT32_MAX);
	assert_int_equal(c.max_write_zeroes_seg, 1);
	/* Beyond the end nothing happens; writes have no effect. */
	vdpa_get_config(f->d, sizeof(c), beyond, 4);
	vdpa_get_config(f->d, UINT32_MAX, beyond, 4);
	assert_memory_equal(beyond, "\1\2\3\4", 4);
	vdpa_set_config(f->d, 0, beyond, 4);
	vdpa_get_config(f->d, 0, &c, sizeof(c));
	assert_int_equal(c.capacity, CAP);
}

static void test_rows(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *what;
		u32 type;
		u64 sector;
		u32 out, in;
		u8 status;
		u32 len;
	} row[] = {
		{ "read", 0, 0, 0, 512, 0, 513 },
		{ "read of 64 MiB", 0, 0, 0, 64 << 20, 0, (64 << 20) + 1 },
		{ "read of more than 64 MiB", 0, 0, 0, (64 << 20) + 512, 1, 1 },
		{ "read of nothing", 0, 5, 0, 0, 0, 1 },
		{ "read of nothing at the end", 0, CAP, 0, 0, 1, 1 },
		{ "read of one byte", 0, 0, 0, 1, 1, 1 },
		{ "read of 513 bytes", 0, 0, 0, 513, 1, 1 },
		{ "read of the last sector", 0, CAP - 1, 0, 512, 0, 513 },
		{ "read over the end", 0, CAP - 1, 0, 1024, 1, 1 },
		{ "read at the end", 0, CAP, 0, 512, 1, 1 },
		{ "read behind the end", 0, CAP + 1, 0, 512, 1, 1 },
		{ "read whose byte offset wraps to 0", 0, 1ull << 55, 0, 512, 1, 1 },
		{ "read at the last of all sectors", 0, UINT64_MAX, 0, 512, 1, 1 },
		{ "read at the last but one, over the wrap", 0, UINT64_MAX - 1, 0, 2048, 1, 1 },
		{ "write", 1, 0, 512, 0, 0, 1 },
		{ "write of nothing", 1, 0, 0, 0, 0, 1 },
		{ "write of one byte", 1, 0, 1, 0, 1, 1 },
		{ "write of 511 bytes in the last sector", 1, CAP - 1, 511, 0, 1, 1 },
		{ "write of the last sector", 1, CAP - 1, 512, 0, 0, 1 },
		{ "write at the end", 1, CAP, 512, 0, 1, 1 },
		{ "write over the end", 1, CAP - 1, 1024, 0, 1, 1 },
		{ "write with room for data", 1, 0, 512, 32, 0, 1 },
		{ "flush", 4, 0, 0, 0, 0, 1 },
		{ "flush of a sector", 4, 1, 0, 0, 1, 1 },
		{ "id", 8, 0, 0, 20, 0, 21 },
		{ "id, little room", 8, 0, 0, 5, 0, 6 },
		{ "id, much room", 8, 0, 0, 100, 0, 21 },
		{ "id of a sector", 8, 7, 0, 20, 1, 1 },
		{ "SCSI", 2, 0, 0, 0, 1, 1 },
		{ "get lifetime", 10, 0, 0, 0, 1, 1 },
		{ "unknown", 0xffffffff, 0, 512, 512, 1, 1 },
		{ "secure erase", 14, 0, 16, 0, 1, 1 },
		{ "discard with a sector in the header", 11, 1, 16, 0, 1, 1 },
		{ "discard of 15 bytes", 11, 0, 15, 0, 1, 1 },
		{ "discard of 17 bytes", 11, 0, 17, 0, 1, 1 },
		{ "discard of two ranges", 11, 0, 32, 0, 1, 1 },
		{ "discard of none", 11, 0, 0, 0, 1, 1 },
		{ "zeroes of two ranges", 13, 0, 32, 0, 1, 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		u32 len;
		u8 status;

		memset(td_ptr(&f->m, DATA), 0, 64);
		status = request(f, row[i].type, row[i].sector, row[i].out, row[i].in, &len);
		if (status != row[i].status || len != row[i].len)
			fail_msg("%s: status %u, length %u", row[i].what, status, len);
	}
}

static void test_ranges(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *what;
		u32 type;
		struct virtio_blk_discard_write_zeroes r;
		u8 status;
	} row[] = {
		{ "discard", 11, { 0, 8, 0 }, 0 },
		{ "discard all", 11, { 0, CAP, 0 }, 0 },
		{ "discard over the end", 11, { 1, CAP, 0 }, 1 },
		{ "discard at the end", 11, { CAP, 0, 0 }, 1 },
		{ "discard with flags", 11, { 0, 8, 1 }, 2 },
		{ "flags are looked at first", 11, { CAP, 8, 1 }, 2 },
		{ "zeroes", 13, { 0, 8, 0 }, 0 },
		{ "zeroes, may unmap", 13, { 0, 8, 1 }, 0 },
		{ "zeroes with unknown flags", 13, { 0, 8, 2 }, 2 },
		{ "zeroes of the most there can be", 13, { 0, UINT32_MAX, 0 }, 1 },
		{ "zeroes at a sector that wraps", 13, { UINT64_MAX, 2, 0 }, 1 },
		{ "zeroes at an offset that wraps", 13, { 1ull << 55, 1, 0 }, 1 },
	};
	u32 len;

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		memcpy(td_ptr(&f->m, DATA), &row[i].r, 16);
		if (request(f, row[i].type, 0, 16, 0, &len) != row[i].status || len != 1)
			fail_msg("%s: status %u", row[i].what, status_of(f));
	}
}

static void test_data(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_discard_write_zeroes range = { .sector = 3, .num_sectors = 20 };
	size_t n = 64 << 10;
	u8 *data = td_ptr(&f->m, DATA), *want = malloc(n);
	u32 len;

	/* Zero at the start. */
	memset(data, 0x55, 512);
	assert_int_equal(request(f, 0, 1000, 0, 512, &len), 0);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(data[i], 0);
	fill(want, n, 7);
	memcpy(data, want, n);
	assert_int_equal(request(f, 1, 1, n, 0, &len), 0);
	memset(data, 0, n);
	assert_int_equal(request(f, 0, 1, 0, n, &len), 0);
	assert_memory_equal(data, want, n);
	/* Discarded data stays; zeroed data is zero, to the byte. */
	memcpy(data, &range, 16);
	assert_int_equal(request(f, 11, 0, 16, 0, &len), 0);
	assert_int_equal(request(f, 0, 1, 0, n, &len), 0);
	assert_memory_equal(data, want, n);
	memcpy(data, &range, 16);
	assert_int_equal(request(f, 13, 0, 16, 0, &len), 0);
	memset(want + 2 * 512, 0, 20 * 512);
	assert_int_equal(request(f, 0, 1, 0, n, &len), 0);
	assert_memory_equal(data, want, n);

	memset(data, 0x55, 32);
	assert_int_equal(request(f, 8, 0, 0, 32, &len), 0);
	assert_memory_equal(data, "vdpa_blk_sim\0\0\0\0\0\0\0\0\x55\x55", 22);
	free(want);
}

/* G.D 1: header, data and status cut into buffers in every way. */
static void test_layouts(void **state)
{
	struct fix *f = *state;
	u8 *data = td_ptr(&f->m, DATA);

	for (unsigned cut = 1; cut < 16; cut++) {
		struct td_buf buf[6] = {
			{ HDR, cut }, { HDR + cut, 16 - cut },
			{ DATA, 100 + cut }, { DATA + 100 + cut, 0 }, { DATA + 100 + cut, 412 - cut },
			{ STATUS, 1 },
		};

		fill(data, 512, cut);
		put_header(f, VIRTIO_BLK_T_OUT, cut);
		assert_int_equal(finish(f, td_add(&f->q, buf, 5, 1)), 1);
		assert_int_equal(status_of(f), 0);
		memset(data, 0, 512);
		put_header(f, VIRTIO_BLK_T_IN, cut);
		assert_int_equal(finish(f, td_add(&f->q, buf, 2, 4)), 513);
		assert_int_equal(status_of(f), 0);
		assert_int_equal(*(u32 *)(data + 4), 2654435761u ^ cut);
		assert_int_equal(*(u32 *)(data + 508), (127 * 2654435761u) ^ cut);
	}
	/* The header shares a buffer with the data. */
	put_header(f, VIRTIO_BLK_T_OUT, 9);
	assert_int_equal(finish(f, td_add(&f->q, (struct td_buf[]){ { HDR, 16 + 512 }, { STATUS, 1 } }, 1, 1)), 1);
	assert_int_equal(status_of(f), 0);
	/* So does the status. */
	put_header(f, VIRTIO_BLK_T_IN, 9);
	data[512] = 0xaa;
	assert_int_equal(finish(f, td_add(&f->q, (struct td_buf[]){ { HDR, 16 }, { DATA, 513 } }, 1, 1)), 513);
	assert_int_equal(data[512], 0);
	/* G.D 2: and it is the very last byte when there was no data to give. */
	memset(data, 0xaa, 2000);
	put_header(f, VIRTIO_BLK_T_IN, CAP);
	assert_int_equal(finish(f, td_add(&f->q, (struct td_buf[]){ { HDR, 16 }, { DATA, 513 }, { DATA + 1024, 512 } },
					  1, 2)), 1);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(data[i], i == 1024 + 511 ? 1 : 0xaa);
}

/* Chains without a place for the answer: given back in silence, and the next waits for a kick. */
static void test_silent(void **state)
{
	struct fix *f = *state;
	struct td_buf buf[] = { { HDR, 16 }, { STATUS, 1 }, { STATUS, 0 }, { HDR, 15 }, { 0x10, 16 }, { 0x10, 1 } };
	struct { struct td_buf b[2]; unsigned r, w; } row[] = {
		{ { buf[0] }, 1, 0 },			/* nothing writable */
		{ { buf[1] }, 0, 1 },			/* nothing readable */
		{ { buf[0], buf[2] }, 1, 1 },		/* no room */
		{ { buf[3], buf[1] }, 1, 1 },		/* header cut short */
		{ { buf[4], buf[1] }, 1, 1 },		/* header not mapped */
		{ { buf[0], buf[5] }, 1, 1 },		/* status not mapped */
	};
	eventfd_t v;
	u32 id, len;

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		u16 bad, good;

		put_header(f, VIRTIO_BLK_T_FLUSH, 0);
		eventfd_read(f->cb, &v);
		bad = td_add(&f->q, row[i].b, row[i].r, row[i].w);
		good = td_add(&f->q, buf, 1, 1);
		assert_int_equal(finish(f, bad), 0);
		usleep(2000);
		assert_int_equal(eventfd_read(f->cb, &v), -1);
		assert_false(td_used(&f->q, &id, &len));
		assert_int_equal(status_of(f), 0xaa);
		assert_int_equal(finish(f, good), 1);
		assert_int_equal(status_of(f), 0);
	}
}

/* Copy faults end as IOERR, with no byte moved that the driver may not see. */
static void test_unmapped_data(void **state)
{
	struct fix *f = *state;
	struct vdpa_map ring = td_map(&f->m, 0, 0x20000, VDPA_RW);
	struct vdpa_map ro = td_map(&f->m, 0x20000, 0x1000, VDPA_RO);
	struct vdpa_map wo = td_map(&f->m, 0x21000, 0x1000, VDPA_WO);
	u32 len;

	assert_int_equal(td_dma_unmap(f->d, 0, f->table, 0, UINT64_MAX), 0);
	assert_int_equal(td_dma_map(f->d, 0, f->table, &ring), 0);
	assert_int_equal(request(f, 0, 0, 0, 512, &len), 1);
	assert_int_equal(len, 1);
	assert_int_equal(request(f, 1, 0, 512, 0, &len), 1);
	assert_int_equal(request(f, 8, 0, 0, 20, &len), 1);
	assert_int_equal(request(f, 13, 0, 16, 0, &len), 1);
	assert_int_equal(td_dma_map(f->d, 0, f->table, &ro), 0);
	assert_int_equal(td_dma_map(f->d, 0, f->table, &wo), 0);
	assert_int_equal(request(f, 0, 0, 0, 512, &len), 1);
	assert_int_equal(request(f, 1, 0, 512, 0, &len), 0);
	/* Half of it is mapped for writing. */
	put_header(f, VIRTIO_BLK_T_IN, 0);
	assert_int_equal(finish(f, td_add(&f->q, (struct td_buf[]){ { HDR, 16 }, { DATA + 0x1e00, 1024 }, { STATUS, 1 } },
					  1, 2)), 1);
	assert_int_equal(status_of(f), 1);
}

/* An unfetchable chain stops the queue; it goes on when the driver has mended it. */
static void test_stopped_queue(void **state)
{
	struct fix *f = *state;
	u32 id, len;
	u16 head;

	put_header(f, VIRTIO_BLK_T_FLUSH, 0);
	head = td_add(&f->q, (struct td_buf[]){ { HDR, 16 }, { STATUS, 1 } }, 1, 1);
	td_desc(&f->q, head, HDR, 16, VRING_DESC_F_NEXT, 4000);
	kick(f);
	assert_false(td_wait_used(&f->q, &id, &len, 20));
	assert_int_equal(td_vq_position(f->d, 0), 0);
	td_desc(&f->q, head, HDR, 16, VRING_DESC_F_NEXT, head + 1);
	assert_int_equal(finish(f, head), 1);
	assert_int_equal(td_vq_position(f->d, 0), 1);
}

static void test_callback(void **state)
{
	struct fix *f = *state;
	u16 *avail = td_ptr(&f->m, f->q.avail);
	eventfd_t v;
	u32 len;

	assert_int_equal(request(f, 4, 0, 0, 0, &len), 0);
	for (unsigned i = 0; i < 1000 && eventfd_read(f->cb, &v); i++)
		usleep(1000);
	assert_int_equal(v, 1);
	avail[0] = VRING_AVAIL_F_NO_INTERRUPT;
	assert_int_equal(request(f, 4, 0, 0, 0, &len), 0);
	usleep(2000);
	assert_int_equal(eventfd_read(f->cb, &v), -1);
}

int main(void)
{
#define T(name, t) { name, t, setup, teardown, NULL }
	static const struct CMUnitTest tests[] = {
		T("identity and configuration", test_identity),
		T("G.D 1: requests by rows", test_rows),
		T("G.D 1: ranges by rows", test_ranges),
		T("G.D 1: data", test_data),
		T("G.D 1, 2: buffers cut in every way, status last", test_layouts),
		T("G.D 1: no place for an answer", test_silent),
		T("G.D 4: unmapped data is an I/O error", test_unmapped_data),
		T("unfetchable chain stops the queue", test_stopped_queue),
		T("interrupts only if wanted", test_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
