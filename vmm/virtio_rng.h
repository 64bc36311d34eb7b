/* SPDX-License-Identifier: MIT */
/* Virtio entropy device, fed by the host's. */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "vmm/virtio.h"

struct virtio_rng {
	struct virtio_dev vdev;
};

int virtio_rng_init(struct virtio_rng *r, const struct vmm_mem *mem);
void virtio_rng_exit(struct virtio_rng *r);

#endif
