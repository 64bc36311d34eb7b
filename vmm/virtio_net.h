/* SPDX-License-Identifier: MIT */
/* Virtio network device: a card whose cable ends in struct vmm_net_ops. */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/virtio.h"
#include "vmm/vmm.h"

#define VIRTIO_NET_FRAME_MAX 65553	/* 65535 bytes behind the longest header, with a VLAN tag */

struct virtio_net {
	struct virtio_dev vdev;
	const struct vmm_net_ops *ops;
	void *net;
	struct vmm_net_info info;
	/* A frame for the guest that found no buffer, one of the guest's that found no room; 0 bytes: none. */
	size_t rx_len, tx_len;
	u8 rx_frame[VIRTIO_NET_FRAME_MAX], tx_frame[VIRTIO_NET_FRAME_MAX];
};

/* On failure @err gets one line that names the cause. Returns 0 or -errno. */
int virtio_net_init(struct virtio_net *n, const struct vmm_mem *mem, const struct vmm_config *cfg, int cancel_fd,
		    char err[256]);
void virtio_net_exit(struct virtio_net *n);

#endif
