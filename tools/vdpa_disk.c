// SPDX-License-Identifier: MIT
/* A machine's disk on a vDPA block device: the machine's requests become the driver's, one after the other. */
#include "tools/vdpa_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vdpa/blk.h"

static void *disk_open(const char *name, bool readonly, int cancel_fd, struct vmm_disk_info *info, char err[256])
{
	const struct vblk_cfg cfg = {.queues = 1, .cancel_fd = cancel_fd};
	struct vblk *b = vblk_open_device(name, &cfg, err);
	struct vblk_info i;

	if (!b)
		return NULL;
	vblk_info(b, &i);
	*info = (struct vmm_disk_info){
		.size = i.size,
		.readonly = i.readonly || readonly,
		.flush = i.flush,
		.discard = i.discard && i.write_zeroes,
		.change_fd = vblk_config_fd(b),
	};
	return b;
}

static void disk_close(void *disk)
{
	vblk_close(disk);
}

static void disk_abandon(void *disk)
{
	vblk_abandon(disk);
}

static int disk_rw(void *disk, const struct iovec *iov, unsigned nr, u64 off, bool is_write)
{
	for (unsigned i = 0; i < nr; i++) {
		int ret = vblk_io(disk, 0, is_write ? VBLK_WRITE : VBLK_READ, iov[i].iov_base, off, iov[i].iov_len, 0);

		if (ret)
			return ret;
		off += iov[i].iov_len;
	}
	return 0;
}

static int disk_flush(void *disk)
{
	return vblk_io(disk, 0, VBLK_FLUSH, NULL, 0, 0, 0);
}

static int disk_discard(void *disk, u64 off, u64 len)
{
	return vblk_io(disk, 0, VBLK_DISCARD, NULL, off, len, 0);
}

static int disk_zero(void *disk, u64 off, u64 len, bool unmap)
{
	return vblk_io(disk, 0, VBLK_WRITE_ZEROES, NULL, off, len, unmap ? VBLK_UNMAP : 0);
}

/* The bytes that there are now. */
static int disk_changed(void *disk, u64 *size)
{
	struct vblk_info i;
	int ret = vblk_update(disk);

	if (ret < 0)
		return ret;
	vblk_info(disk, &i);
	*size = i.size;
	return 0;
}

const struct vmm_disk_ops vdpa_disk_ops = {
	.open = disk_open,
	.close = disk_close,
	.rw = disk_rw,
	.flush = disk_flush,
	.discard = disk_discard,
	.zero = disk_zero,
	.changed = disk_changed,
	.abandon = disk_abandon,
};
