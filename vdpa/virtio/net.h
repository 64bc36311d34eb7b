/* SPDX-License-Identifier: MIT */
/* The network driver, inside: net.c has the frames, net_ctrl.c control queue and configuration. */
#ifndef VDPA_VIRTIO_NET_H
#define VDPA_VIRTIO_NET_H

#include "vdpa/net.h"
#include "vdpa/virtio/dev.h"

struct vnet_buf {
	struct vnet_buf *next;
	u64 iova;
	u32 len;
};

/* One direction of a pair. */
struct vnet_queue {
	struct vdev_vq *vq;
	u16 depth;
	struct vnet_buf *bufs, *idle;
	int dead;		/* -errno: nothing will come any more */
	/* Receiving. */
	u8 *frame;		/* of several buffers, while it is incomplete */
	u32 frame_len;
	u16 missing;		/* buffers of it */
	bool drop;
	u64 errors;
};

struct vnet {
	struct vdev *v;
	struct vnet_cfg cfg;
	pthread_mutex_t lock;	/* of info */
	struct vnet_info info;
	u32 rx_size;		/* bytes of a receive buffer */
	u16 mtu_max;		/* what those hold */
	u16 nr_pairs;		/* queues that are set up */
	struct vnet_queue *rx, *tx;
	/* Control queue: one request at a time. */
	pthread_mutex_t ctrl_lock;
	struct vdev_vq *ctrl;	/* NULL: none */
	u8 *ctrl_mem;
	u64 ctrl_iova;
	int ctrl_dead;
};

extern const u64 vnet_features;

/* Read link, MTU, address and pairs, bounding each. 0 or -errno. */
int vnet_read_config(struct vnet *n, struct vnet_info *i);
/* The control queue, if there is one: number @index. 0 or -errno. */
int vnet_ctrl_init(struct vnet *n, u16 index);
void vnet_ctrl_exit(struct vnet *n);
/* Fill the receive queues of the pairs in use. */
void vnet_fill(struct vnet *n);

#endif
