/* SPDX-License-Identifier: MIT */
/*
 * A VDUSE daemon in a thread of a test: a block device on plain memory, or a
 * network device that returns every frame, and on demand one that lies. It uses VDUSE as a daemon does: messages on its socket,
 * ioctls, regions mapped from descriptors.
 */
#ifndef VDPA_VDUSE_TEST_DAEMON_H
#define VDPA_VDUSE_TEST_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>

#include "vdpa/vduse/vduse.h"

#define TD_QUEUES 16
#define TD_REGIONS 64

enum td_lie {
	TD_HONEST,
	TD_LEN,		/* used.len beyond what was posted */
	TD_ID_RANGE,	/* used.id out of range */
	TD_ID_IDLE,	/* used.id of what is not in flight */
	TD_REPEAT,	/* the same request finished twice */
	TD_JUMP,	/* used index far ahead */
	TD_SCRIBBLE,	/* descriptors and available ring overwritten */
	TD_LIES
};

struct td_region { u64 start, last; u8 *p; size_t len; };

struct td_queue {
	bool on;
	int kick;
	u16 num, last_avail, used;
	u8 *desc, *avail, *used_ring;
};

struct test_daemon {
	char name[64];
	struct vduse_control ctl;
	struct vduse_dev *d;
	int sock, stop_fd;
	pthread_t thread;
	pthread_mutex_t disk_lock;	/* a queue orders its two sides, but no race detector sees that */
	u8 *disk;
	u64 size;
	unsigned queues;
	u16 depth;
	bool net;
	_Atomic bool mergeable;		/* the driver knows of several buffers a frame */
	/* Behaviour; set any time. */
	_Atomic bool mute;		/* reads no message */
	_Atomic bool refuse_driver_ok;
	_Atomic bool hold;		/* takes no request */
	_Atomic int lie;		/* enum td_lie */
	_Atomic int lie_buffers;	/* net: number of buffers that a frame is said to have; -1 the truth */
	_Atomic int lie_frame;		/* net: bytes that a buffer is said to have; -1 the truth */
	/* Counted. */
	_Atomic unsigned updates, kicks, status_msgs;
	_Atomic unsigned turns;		/* of its loop */
	_Atomic u8 status;
	struct td_region regions[TD_REGIONS];
	unsigned nr_regions;
	struct td_queue q[TD_QUEUES];
};

/* Create the device and set its queues up, without attaching it. @size of the disk in bytes. */
void td_create(struct test_daemon *t, const char *name, unsigned queues, u16 depth, u64 size, u64 less_features);
/* The same of a network device: pairs of queues, @features beside the ring's, its configuration. */
struct virtio_net_config;
void td_create_net(struct test_daemon *t, const char *name, unsigned pairs, u16 depth, u64 features,
		   const struct virtio_net_config *c);
/* Open it and serve in a thread. A second start after td_kill() continues where the rings stand. */
void td_start(struct test_daemon *t);
/* From now on it reads no message: those that come are the caller's to read. Until mute is reset. */
void td_mute(struct test_daemon *t);
/* From now on it takes no request, until hold is reset. */
void td_hold(struct test_daemon *t);
/* Stop without a word, as by SIGKILL. */
void td_kill(struct test_daemon *t);
/* Kill and destroy; the device is not on the bus any more. */
void td_destroy(struct test_daemon *t);

/* Look at the disk, fill a part of it. */
void td_peek(struct test_daemon *t, u64 off, void *buf, size_t len);
void td_fill(struct test_daemon *t, u64 off, u8 byte, size_t len);

/* An ioctl with a struct argument, no descriptors. */
long td_ioctl(struct test_daemon *t, u32 nr, void *arg, size_t len);
/* `vdpa dev add name NAME mgmtdev vduse`, `vdpa dev del NAME`. */
int td_attach(const char *name);
void td_detach(const char *name);

#endif
