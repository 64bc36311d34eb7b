/* SPDX-License-Identifier: MIT */
/*
 * For tests: a network device behind a session, with a control queue that
 * writes down what it is asked. It works in the caller of a kick, so a test
 * needs no thread and no time. Frames come back on the pair that sent them.
 */
#ifndef VDPA_VIRTIO_FAKE_NET_H
#define VDPA_VIRTIO_FAKE_NET_H

#include <linux/virtio_net.h>

#include "vdpa/virtio/session.h"

#define FAKE_NET_VQS 16
#define FAKE_NET_CTRL 8300

struct fake_net_vq {
	bool ready;
	u16 num, last_avail, used;
	u64 desc, driver, device;
	int call;
};

struct fake_net {
	struct vdpa_session s;
	/* Set before vnet_open(), or while it is open. */
	u64 features;
	u32 nvqs, ctrl_vq;
	struct virtio_net_config config;
	int answer;		/* of the control queue; -1: none */
	bool gone;		/* every call says so */
	bool tearing;		/* a generation is never the same twice */
	/* To be looked at. */
	u64 driver_features;
	u8 status;
	u8 ctrl[FAKE_NET_CTRL];	/* last request without the answer's byte */
	u32 ctrl_len;
	unsigned requests, frames[FAKE_NET_VQS];
	bool closed;
	/* Its own. */
	int fd, config_fd;
	u8 *mem;
	u64 next;
	u32 generation;
	struct fake_net_vq q[FAKE_NET_VQS];
};

void fake_net_init(struct fake_net *f, u64 features, u16 pairs);
void fake_net_exit(struct fake_net *f);
/* The configuration has changed. */
void fake_net_changed(struct fake_net *f);

#endif
