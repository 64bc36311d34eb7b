/* SPDX-License-Identifier: MIT */
/* Virtio block device on a raw file, a block device or what vmm_disk_ops say. */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include "vmm/virtio.h"
#include "vmm/vmm.h"

struct virtio_blk {
	struct virtio_dev vdev;
	const char *path;
	const struct vmm_disk_ops *ops;
	void *disk;
	int change_fd;
	bool readonly;
	u64 sectors;
	unsigned index;
};

/*
 * Open the disk. On failure @err gets one line that names the file and the
 * cause. Returns 0 or -errno.
 */
int virtio_blk_init(struct virtio_blk *b, const struct vmm_mem *mem, const struct vmm_disk *disk,
		    unsigned index, int cancel_fd, char err[256]);
void virtio_blk_exit(struct virtio_blk *b);

/* Raw files and block devices of the host (vmm/disk_file.c). */
extern const struct vmm_disk_ops vmm_disk_file;

#endif
