// SPDX-License-Identifier: MIT
/*
 * Block device: reads, writes, flush, discard and zeroing on a disk.
 * Requests are served in the device's thread, one after the other; each is
 * complete when its status is written. Source: VIRTIO 1.1 "Block Device".
 */
#include "vmm/virtio_blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define SECTOR 512u
#define QUEUE_SIZE 256
/* Header and status take two of the descriptors. */
#define SEG_MAX (QUEUE_SIZE - 2)
#define MAX_DISCARD_SECTORS (1u << 22)
#define MAX_DISCARD_SEGS 16u

static struct virtio_blk *of_dev(struct virtio_dev *d)
{
	return container_of(d, struct virtio_blk, vdev);
}

static void blk_config_read(struct virtio_dev *d, u8 *config)
{
	const struct virtio_blk *b = of_dev(d);
	const struct virtio_blk_config c = {
		.capacity = b->sectors,
		.seg_max = SEG_MAX,
		.blk_size = SECTOR,
		.max_discard_sectors = MAX_DISCARD_SECTORS,
		.max_discard_seg = MAX_DISCARD_SEGS,
		.discard_sector_alignment = PAGE_SIZE / SECTOR,
		.max_write_zeroes_sectors = MAX_DISCARD_SECTORS,
		.max_write_zeroes_seg = MAX_DISCARD_SEGS,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(config, &c, sizeof(c));
}

/* The data part of a chain: iovecs without the header's @skip and the status byte's @tail bytes. */
static unsigned data_iov(struct iovec *iov, unsigned nr, u64 skip, u64 tail)
{
	unsigned first = 0;

	while (first < nr && skip >= iov[first].iov_len)
		skip -= iov[first++].iov_len;
	if (first < nr) {
		iov[first].iov_base = (u8 *)iov[first].iov_base + skip;
		iov[first].iov_len -= skip;
	}
	while (nr > first && tail >= iov[nr - 1].iov_len)
		tail -= iov[--nr].iov_len;
	if (nr > first)
		iov[nr - 1].iov_len -= tail;
	memmove(iov, iov + first, (nr - first) * sizeof(*iov));
	return nr - first;
}

static u8 blk_rw(struct virtio_blk *b, struct virtq_chain *c, u64 sector, bool is_write)
{
	u64 len = is_write ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len - 1;
	struct iovec *iov = is_write ? c->iov : c->iov + c->nr_out;
	unsigned nr;
	int ret;

	if (len % SECTOR || sector > b->sectors || len / SECTOR > b->sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	if (is_write && b->readonly)
		return VIRTIO_BLK_S_IOERR;
	nr = is_write ? data_iov(iov, c->nr_out, sizeof(struct virtio_blk_outhdr), 0) :
			data_iov(iov, c->nr_in, 0, 1);
	ret = b->ops->rw(b->disk, iov, nr, sector * SECTOR, is_write);
	if (ret)
		log_warn("disk %s: %s at sector %llu: %s", b->path, is_write ? "write" : "read",
			 (unsigned long long)sector, strerror(-ret));
	return ret ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static u8 blk_discard(struct virtio_blk *b, const struct virtq_chain *c, bool zero)
{
	struct virtio_blk_discard_write_zeroes seg;
	u64 len = c->out_len - sizeof(struct virtio_blk_outhdr);

	if (b->readonly || !len || len % sizeof(seg) || len / sizeof(seg) > MAX_DISCARD_SEGS)
		return VIRTIO_BLK_S_IOERR;
	for (u64 at = 0; at < len; at += sizeof(seg)) {
		u64 off, bytes;
		bool unmap;

		virtq_read(c, sizeof(struct virtio_blk_outhdr) + at, &seg, sizeof(seg));
		unmap = seg.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		/* "A device MUST set status to UNSUPP if the unmap flag is set in a discard". */
		if ((seg.flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) || (!zero && unmap))
			return VIRTIO_BLK_S_UNSUPP;
		if (seg.num_sectors > MAX_DISCARD_SECTORS || seg.sector > b->sectors ||
		    seg.num_sectors > b->sectors - seg.sector)
			return VIRTIO_BLK_S_IOERR;
		off = seg.sector * SECTOR;
		bytes = (u64)seg.num_sectors * SECTOR;
		if (!bytes)
			continue;
		/* A discard is a hint; zeroes are not. */
		if (!zero)
			(void)b->ops->discard(b->disk, off, bytes);
		else if (b->ops->zero(b->disk, off, bytes, unmap))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

static u8 blk_get_id(struct virtio_blk *b, const struct virtq_chain *c)
{
	char id[VIRTIO_BLK_ID_BYTES] = { 0 };

	if (c->in_len < 1 + sizeof(id))
		return VIRTIO_BLK_S_IOERR;
	snprintf(id, sizeof(id), "userkvm-disk%u", b->index);
	virtq_write(c, 0, id, sizeof(id));
	return VIRTIO_BLK_S_OK;
}

static u8 blk_request(struct virtio_blk *b, struct virtq_chain *c)
{
	struct virtio_blk_outhdr h;

	virtq_read(c, 0, &h, sizeof(h));
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
		return blk_rw(b, c, h.sector, false);
	case VIRTIO_BLK_T_OUT:
		return blk_rw(b, c, h.sector, true);
	case VIRTIO_BLK_T_FLUSH:
		return b->ops->flush(b->disk) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		return blk_get_id(b, c);
	case VIRTIO_BLK_T_DISCARD:
		return blk_discard(b, c, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk_discard(b, c, true);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void blk_notify(struct virtio_dev *d, unsigned q)
{
	struct virtio_blk *b = of_dev(d);
	struct virtq_chain c;

	while (virtio_pop(d, q, &c)) {
		struct iovec last;
		u32 written;
		u8 status;

		if (c.out_len < sizeof(struct virtio_blk_outhdr) || !c.in_len ||
		    c.in_len > UINT32_MAX) {
			virtio_broken(d, "request without a header or a status byte");
			return;
		}
		/* The status is the last writable byte; find it before the data is taken apart. */
		for (unsigned i = c.nr_out + c.nr_in; ; i--) {
			last = c.iov[i - 1];
			if (last.iov_len)
				break;
		}
		written = (u32)c.in_len;
		status = blk_request(b, &c);
		((u8 *)last.iov_base)[last.iov_len - 1] = status;
		virtio_push(d, q, &c, written);
		virtio_flush(d, q);
	}
}

/* The disk's size changes in the midst of things; the driver hears of it. */
static unsigned blk_poll_fill(struct virtio_dev *d, struct pollfd *fds, unsigned max, int *timeout_ms)
{
	struct virtio_blk *b = of_dev(d);

	if (b->change_fd < 0)
		return 0;
	fds[0] = (struct pollfd){.fd = b->change_fd, .events = POLLIN};
	return 1;
}

static void blk_poll_done(struct virtio_dev *d, const struct pollfd *fds, unsigned n, bool error)
{
	struct virtio_blk *b = of_dev(d);
	u64 size;
	int ret;

	if (!n || error || !(fds[0].revents & POLLIN))
		return;
	ret = b->ops->changed(b->disk, &size);
	if (ret) {
		log_warn("disk %s: %s", b->path, strerror(-ret));
		b->change_fd = -1;
		return;
	}
	b->sectors = size / SECTOR;
	if (virtio_running(d))
		d->raise(d, -1);
}

static void blk_abandon(struct virtio_dev *d)
{
	struct virtio_blk *b = of_dev(d);

	if (!b->ops->abandon)
		return;
	log_warn("disk %s: no answer; what it was asked last is given up", b->path);
	b->ops->abandon(b->disk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = 0x010000 << 8,
	.nr_queues = 1,
	.queue_size = QUEUE_SIZE,
	.config_len = sizeof(struct virtio_blk_config),
	.config_read = blk_config_read,
	.notify = blk_notify,
	.poll_fill = blk_poll_fill,
	.poll_done = blk_poll_done,
	.abandon = blk_abandon,
};

int virtio_blk_init(struct virtio_blk *b, const struct vmm_mem *mem, const struct vmm_disk *disk,
		    unsigned index, int cancel_fd, char err[256])
{
	struct vmm_disk_info info;
	int ret;

	memset(b, 0, sizeof(*b));
	b->path = disk->path;
	b->index = index;
	b->ops = disk->ops ? disk->ops : &vmm_disk_file;
	b->disk = b->ops->open(disk->path, disk->readonly, cancel_fd, &info, err);
	if (!b->disk)
		return -errno;
	b->readonly = disk->readonly || info.readonly;
	b->change_fd = info.change_fd;
	b->sectors = info.size / SECTOR;
	if (!b->sectors || info.size % SECTOR) {
		snprintf(err, 256, "disk %s: %llu bytes are no whole number of 512-byte sectors",
			 disk->path, (unsigned long long)info.size);
		ret = -EINVAL;
		goto fail;
	}
	b->vdev.ops = &blk_ops;
	b->vdev.mem = mem;
	b->vdev.features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE);
	if (info.flush)
		b->vdev.features |= BIT(VIRTIO_BLK_F_FLUSH);
	if (b->readonly)
		b->vdev.features |= BIT(VIRTIO_BLK_F_RO);
	else if (info.discard)
		b->vdev.features |= BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	ret = virtio_init(&b->vdev);
	if (ret) {
		snprintf(err, 256, "disk %s: %s", disk->path, strerror(-ret));
		goto fail;
	}
	return 0;
fail:
	b->ops->close(b->disk);
	b->disk = NULL;
	return ret;
}

void virtio_blk_exit(struct virtio_blk *b)
{
	virtio_exit(&b->vdev);
	b->ops->close(b->disk);
	b->disk = NULL;
}
