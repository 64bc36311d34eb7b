/* SPDX-License-Identifier: MIT */
/*
 * A virtio driver's view of a vDPA device: the sequence that brings it up
 * (reset, status, features, queues, DRIVER_OK), its queues with their eventfds,
 * its configuration space. Source: VIRTIO 1.1 "Device Initialization".
 */
#ifndef VDPA_VIRTIO_DEV_H
#define VDPA_VIRTIO_DEV_H

#include <pthread.h>

#include "base/types.h"
#include "vdpa/virtio/dma.h"
#include "vdpa/virtio/session.h"
#include "vdpa/virtio/vdring.h"

struct vduse_page_vq;

struct vdev_vq {
	pthread_mutex_t lock;		/* of the ring, for the driver */
	struct vdring *ring;
	u16 index;
	int call_fd;			/* the device's interrupts */
	int own_kick;			/* the parent waits on this, or -1 */
	int kick_fd;			/* the parent's, to be used while the counter is kick_seq; or -1 */
	u32 kick_seq;
	pthread_mutex_t kick_lock;	/* of the last two */
};

struct vdev {
	struct vdpa_session *s;
	struct vdma *dma;
	u32 device_id, nvqs, align, config_size;
	u16 num_max, num_min;
	u64 features;			/* negotiated */
	int config_fd;			/* configuration changed, or the device has gone */
	const struct vduse_page_vq *page;
	struct vdev_vq *vqs;
};

/* A session over the hub's socket, which ends when @cancel_fd is readable (0: none). NULL, errno and a line in @err. */
struct vdpa_session *vdev_session(const char *name, int cancel_fd, char err[256]);
/* The device is open: nothing cancels any more. */
void vdev_opened(struct vdev *v);

/*
 * Reset and negotiate up to FEATURES_OK. The session becomes the device's, in
 * failure too. @id: device id wanted; @features: what the driver knows; the
 * ring's own features are added here unless they are in @without. On failure
 * @err gets one line. NULL and errno: -ENODEV no such device, or of another class,
 * which keeps its driver; -EBUSY it has one elsewhere; -EPROTO it refuses; -EINTR cancelled.
 */
struct vdev *vdev_open(struct vdpa_session *s, const char *name, u32 id, u64 features, u64 without, char err[256]);
/* Make queue @i ready; @num 0 = as large as possible, else rounded down to a power of two. 0 or -errno. */
int vdev_vq_init(struct vdev *v, u16 i, u16 num, u16 indirect_max);
/* DRIVER_OK. 0; -EPROTO: the device refuses. */
int vdev_start(struct vdev *v);
/* Queues not ready, reset: the device touches nothing any more. Then the driver detaches what was in flight. */
void vdev_stop(struct vdev *v);
/* Let the device go. */
void vdev_close(struct vdev *v);
/* As the session's hurry(). */
void vdev_hurry(struct vdev *v, unsigned ms);

bool vdev_has(const struct vdev *v, unsigned feature);
/* Tell the device that queue @q has something new. No lock held, any thread. */
void vdev_kick(struct vdev *v, struct vdev_vq *q);
/* As an interrupt of the queue: whoever sleeps for one looks. */
void vdev_wake(struct vdev_vq *q);
/* A consistent copy of [off, off + len) of the configuration space; zeroes beyond its end. 0 or -errno. */
int vdev_config(struct vdev *v, u32 off, void *buf, u32 len);
int vdev_get_status(struct vdev *v, u8 *status);

#endif
