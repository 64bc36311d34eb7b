/* SPDX-License-Identifier: MIT */
/* Virtio network device on a user-mode network (libslirp): DHCP, NAT, port forwards. */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/virtio.h"
#include "vmm/vmm.h"

struct Slirp;
struct net_packet;
struct net_timer;

struct virtio_net {
	struct virtio_dev vdev;
	u8 mac[6];
	struct Slirp *slirp;
	/* Frames for the guest that found no buffer, oldest first. */
	struct net_packet *rx_head, **rx_tail;
	unsigned rx_count;
	struct net_timer *timers;
	/* Between poll_fill and poll_done. */
	struct pollfd *fds;
	unsigned nr_fds, max_fds;
	const struct pollfd *results;
};

/* On failure @err gets one line that names the cause. Returns 0 or -errno. */
int virtio_net_init(struct virtio_net *n, const struct vmm_mem *mem, const struct vmm_hostfwd *fwd,
		    unsigned nr_fwd, char err[256]);
void virtio_net_exit(struct virtio_net *n);

#endif
