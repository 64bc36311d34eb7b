// SPDX-License-Identifier: MIT
/*
 * vdpasim_blk: a ramdisk of 128 MiB, zero at the start.
 *
 * Answers follow Linux' simulator: IOERR for unknown requests, where VIRTIO
 * says UNSUPP.
 * Source: VIRTIO 1.1 "Block Device".
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "vdpa/sim/core.h"

#define SECTOR 512u
#define CAPACITY 0x40000ull		/* sectors */
#define SIZE_MAX_BYTES 0x1000u
#define SEG_MAX 32u
#define MAX_TRANSFER (SIZE_MAX_BYTES * SEG_MAX)	/* sectors, as Linux' simulator counts */
#define MAX_RANGE UINT32_MAX		/* sectors to discard or zero */
/* What is copied under one hold of the IOTLB's lock. */
#define CHUNK (256u << 10)

static const char disk_id[VIRTIO_BLK_ID_BYTES] = "vdpa_blk_sim";

static u32 vq_group(u16 vq)
{
	return 0;
}

static bool in_range(u64 sector, u64 count, u64 max)
{
	return sector < CAPACITY && count <= max && count <= CAPACITY - sector;
}

/* A request between its header and its status. */
struct request {
	struct vdpasim_vq *vq;
	u8 *disk;
	u64 sector;
	u64 in_len;		/* room for data */
	u64 written;		/* of it */
};

static u8 read_disk(struct request *r)
{
	if (r->in_len % SECTOR || !in_range(r->sector, r->in_len / SECTOR, MAX_TRANSFER))
		return VIRTIO_BLK_S_IOERR;
	while (r->written < r->in_len) {
		u64 n = min(r->in_len - r->written, (u64)CHUNK);

		if (vringh_push(&r->vq->vring, &r->vq->in, r->disk + r->sector * SECTOR + r->written, n) != (ssize_t)n)
			return VIRTIO_BLK_S_IOERR;
		r->written += n;
	}
	return VIRTIO_BLK_S_OK;
}

static u8 write_disk(struct request *r)
{
	u64 len = dring_iov_length(&r->vq->out), done = 0;

	if (len % SECTOR || !in_range(r->sector, len / SECTOR, MAX_TRANSFER))
		return VIRTIO_BLK_S_IOERR;
	while (done < len) {
		u64 n = min(len - done, (u64)CHUNK);

		if (vringh_pull(&r->vq->vring, &r->vq->out, r->disk + r->sector * SECTOR + done, n) != (ssize_t)n)
			return VIRTIO_BLK_S_IOERR;
		done += n;
	}
	return VIRTIO_BLK_S_OK;
}

static u8 get_id(struct request *r)
{
	u64 n = min(r->in_len, (u64)sizeof(disk_id));

	if (vringh_push(&r->vq->vring, &r->vq->in, disk_id, n) != (ssize_t)n)
		return VIRTIO_BLK_S_IOERR;
	r->written = n;
	return VIRTIO_BLK_S_OK;
}

/* Whole pages are given back, which makes them zero. */
static void zero_disk(u8 *from, u64 len)
{
	u8 *first = (u8 *)round_up((u64)from, PAGE_SIZE), *last = (u8 *)round_down((u64)from + len, PAGE_SIZE);

	if (last > first && !madvise(first, last - first, MADV_DONTNEED)) {
		memset(from, 0, first - from);
		memset(last, 0, from + len - last);
	} else {
		memset(from, 0, len);
	}
}

static u8 range_request(struct request *r, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes range;
	u64 len = dring_iov_length(&r->vq->out);

	if (len != sizeof(range) ||
	    vringh_pull(&r->vq->vring, &r->vq->out, &range, sizeof(range)) != sizeof(range))
		return VIRTIO_BLK_S_IOERR;
	if (range.flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (!in_range(range.sector, range.num_sectors, MAX_RANGE))
		return VIRTIO_BLK_S_IOERR;
	if (zeroes)
		zero_disk(r->disk + range.sector * SECTOR, (u64)range.num_sectors * SECTOR);
	return VIRTIO_BLK_S_OK;
}

static u8 execute(struct request *r, u32 type)
{
	if (type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_OUT && r->sector)
		return VIRTIO_BLK_S_IOERR;
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return read_disk(r);
	case VIRTIO_BLK_T_OUT:
		return write_disk(r);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		return get_id(r);
	case VIRTIO_BLK_T_DISCARD:
		return range_request(r, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return range_request(r, true);
	default:
		return VIRTIO_BLK_S_IOERR;
	}
}

/* Serve one chain. The driver gets its status in the last writable byte, wherever the data ended. */
static bool serve(struct vdpasim_vq *vq, u16 head, u8 *disk)
{
	struct request r = { .vq = vq, .disk = disk };
	struct virtio_blk_outhdr hdr;
	u8 status;

	if (!vq->out.used || !vq->in.used || !vq->in.seg[vq->in.used - 1].len ||
	    vringh_pull(&vq->vring, &vq->out, &hdr, sizeof(hdr)) != sizeof(hdr))
		return false;
	r.sector = hdr.sector;
	r.in_len = dring_iov_length(&vq->in) - 1;
	status = execute(&r, hdr.type);
	if (status != VIRTIO_BLK_S_OK)
		r.written = 0;
	dring_iov_rewind(&vq->in);
	dring_iov_advance(&vq->in, r.in_len);
	if (vringh_push(&vq->vring, &vq->in, &status, 1) != 1)
		return false;
	return vdpasim_complete(vq, head, r.written + 1);
}

static bool work(struct vdpasim *s)
{
	struct vdpasim_vq *vq = &s->vq[0];
	u16 head;

	if (!vq->ready)
		return false;
	for (unsigned n = 0; n < VDPASIM_BUDGET; n++) {
		if (vringh_getdesc(&vq->vring, &vq->out, &vq->in, &head) != 1)
			return false;
		if (!serve(vq, head, s->priv)) {
			/* No place for a status, so no answer: given back in silence, and the run ends. */
			(void)!vringh_complete(&vq->vring, head, 0);
			return false;
		}
	}
	return true;
}

static int init(struct vdpasim *s, const struct vdpa_dev_attrs *a)
{
	const struct virtio_blk_config config = {
		.capacity = CAPACITY, .size_max = SIZE_MAX_BYTES, .seg_max = SEG_MAX, .blk_size = SECTOR,
		.num_queues = 1, .min_io_size = 1, .opt_io_size = 1, .discard_sector_alignment = SECTOR,
		.max_discard_sectors = MAX_RANGE, .max_discard_seg = 1,
		.max_write_zeroes_sectors = MAX_RANGE, .max_write_zeroes_seg = 1,
	};

	memcpy(s->config, &config, sizeof(config));
	s->priv = mmap(NULL, CAPACITY * SECTOR, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->priv == MAP_FAILED) {
		s->priv = NULL;
		return -ENOMEM;
	}
	return 0;
}

static void exit_blk(struct vdpasim *s)
{
	if (s->priv)
		munmap(s->priv, CAPACITY * SECTOR);
}

_Static_assert(sizeof(struct virtio_blk_config) <= VDPASIM_MAX_CONFIG, "configuration fits");

const struct vdpasim_type vdpasim_blk_type = {
	.device_id = VIRTIO_ID_BLOCK,
	.nvqs = 1, .ngroups = 1, .nas = 1,
	.features = BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) |
		    BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
		    BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_FLUSH) |
		    BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES),
	.config_size = sizeof(struct virtio_blk_config),
	.vq_group = vq_group, .work = work, .init = init, .exit = exit_blk,
};
