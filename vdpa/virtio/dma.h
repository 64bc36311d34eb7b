/* SPDX-License-Identifier: MIT */
/*
 * The driver's side of a domain (vdpa/vduse/domain.h): the file is mapped here,
 * bounce buffers are handed out by this process, coherent memory by the hub.
 *
 * A streaming mapping copies: what the device must read goes in when it is
 * made, what the device wrote comes out when it ends. The device never sees
 * memory of this process. Bounce memory is given out in blocks of 2^n pages at
 * multiples of their size, so a request of any length is contiguous; page 0 is
 * never given out. Thread-safe.
 */
#ifndef VDPA_VIRTIO_DMA_H
#define VDPA_VIRTIO_DMA_H

#include <sys/uio.h>

#include "base/types.h"

struct vdpa_session;
struct vdma;

enum vdma_dir { VDMA_TO_DEVICE, VDMA_FROM_DEVICE, VDMA_BOTH };

/* @fd: the domain's file, duplicated in effect by its mapping. NULL and errno. @s outlives it. */
struct vdma *vdma_new(struct vdpa_session *s, int fd);
void vdma_free(struct vdma *m);

/*
 * Map @nr pieces, together @len > 0 bytes, as one range: its IOVA, a multiple
 * of 4 KiB, or 0: no room now, or more than fits at all (vdma_max()).
 */
u64 vdma_map(struct vdma *m, const struct iovec *iov, unsigned nr, size_t len, enum vdma_dir dir);
void vdma_unmap(struct vdma *m, u64 iova, const struct iovec *iov, unsigned nr, size_t len, enum vdma_dir dir);
/* Tell the hub that streaming mappings follow, once after each reset. 0 or -errno. */
int vdma_start(struct vdma *m);
/* Longest single mapping. */
size_t vdma_max(const struct vdma *m);
/* Bytes of blocks given out now. For tests: nothing is mapped or unmapped meanwhile. */
u64 vdma_in_use(struct vdma *m);

/* Coherent memory, zeroed; its address here, or NULL and errno. */
void *vdma_alloc(struct vdma *m, size_t size, u64 *iova);
void vdma_release(struct vdma *m, u64 iova, size_t size);

#endif
