/* SPDX-License-Identifier: MIT */
/*
 * virtio-vdpa: what passes between a device on the bus and a virtio driver,
 * in the same process or in another. One request struct, one answer struct and
 * descriptors beside them; the hub's side is serve.c, and a session carries a
 * request there: by a call (vdpa_session_local()) or over the hub's socket
 * (vdpa_session_remote()). Data does not come this way: rings and buffers are
 * in the domain's file, kicks and interrupts are eventfds.
 */
#ifndef VDPA_VIRTIO_SESSION_H
#define VDPA_VIRTIO_SESSION_H

#include "base/types.h"

/*
 * Request: operation, queue and arguments. Answer: values in v[] and data; the result is 0 or -errno.
 * -ENODEV from any of them: the device was taken from the driver.
 */
enum vdpa_virtio_op {
	/*
	 * data = name; v[0] = device id wanted, 0: any, else -ENXIO and the device keeps its driver. Binds; answers
	 * v = {device id, queues, queue size max, min, align, config size}; fds = {domain, page}.
	 */
	VDPA_VIRTIO_OPEN,
	VDPA_VIRTIO_RESET,
	VDPA_VIRTIO_GET_STATUS,		/* -> v[0] */
	VDPA_VIRTIO_SET_STATUS,		/* v[0] */
	VDPA_VIRTIO_GET_FEATURES,	/* -> v[0], what the device offers */
	VDPA_VIRTIO_SET_FEATURES,	/* v[0] */
	VDPA_VIRTIO_GET_CONFIG,		/* v = {offset, length} -> data */
	VDPA_VIRTIO_SET_CONFIG,		/* v = {offset, length}, data */
	VDPA_VIRTIO_GENERATION,		/* -> v[0] */
	VDPA_VIRTIO_CONFIG_FD,		/* fd, signalled when configuration changes or the device goes; none: take away */
	VDPA_VIRTIO_VQ_SETUP,		/* v = {size, desc, driver, device}; state is set to the beginning */
	VDPA_VIRTIO_VQ_CALL_FD,		/* fd */
	VDPA_VIRTIO_VQ_KICK_FD,		/* fd that the parent shall wait on; -EOPNOTSUPP if it cannot */
	VDPA_VIRTIO_VQ_READY,		/* v[0] */
	VDPA_VIRTIO_VQ_GET_READY,	/* -> v[0] */
	VDPA_VIRTIO_VQ_KICK,		/* kick; -> v[0] = counter, fds[0] = eventfd, if the driver may go on itself */
	VDPA_VIRTIO_DMA_INFO,		/* -> v = {bounce size, IOVA size} */
	VDPA_VIRTIO_DMA_BOUNCE,		/* streaming mappings are about to be made */
	VDPA_VIRTIO_DMA_ALLOC,		/* v[0] = bytes -> v[0] = IOVA */
	VDPA_VIRTIO_DMA_FREE,		/* v = {IOVA, bytes} */
	VDPA_VIRTIO_CLOSE,		/* let the device go, so that the next driver finds it free */
	VDPA_VIRTIO_OPS
};

#define VDPA_VIRTIO_DATA 256	/* bytes of data in one request or answer */

struct vdpa_virtio_req {
	u32 op, vq;
	u64 v[4];
	u8 data[VDPA_VIRTIO_DATA];
};

struct vdpa_virtio_rep {
	u64 v[6];
	int fds[2];		/* new descriptors, the receiver's; -1 none */
	u8 data[VDPA_VIRTIO_DATA];
};

struct vdpa_session {
	/* @fd: descriptor of the request, -1 none; stays the caller's. Blocks; any thread. 0 or -errno. */
	int (*call)(struct vdpa_session *s, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r);
	/*
	 * Optional: a call of more than @ms milliseconds ends the session, whose device then is let go without us.
	 * 0: end it now; what is in progress returns. Any thread, also beside calls.
	 */
	void (*hurry)(struct vdpa_session *s, unsigned ms);
	/* Optional: end the session (-EINTR) when @fd is readable; -1: no more. A caller of open() can give up so. */
	void (*cancel_by)(struct vdpa_session *s, int fd);
	/* Resets the device and lets it go. */
	void (*close)(struct vdpa_session *s);
};

/* In the process of the bus itself. NULL and errno. */
struct vdpa_session *vdpa_session_local(void);
/* Over the hub's socket; a hub is started if there is none. NULL and errno. */
struct vdpa_session *vdpa_session_remote(void);

/* ---- The hub's side ---- */

struct vdpa_virtio_conn;

/* Register the bus driver "virtio_vdpa". 0 or -errno. */
int vdpa_virtio_init(void);
void vdpa_virtio_exit(void);
struct vdpa_virtio_conn *vdpa_virtio_conn_new(void);
int vdpa_virtio_serve(struct vdpa_virtio_conn *c, const struct vdpa_virtio_req *q, int fd, struct vdpa_virtio_rep *r);
void vdpa_virtio_conn_free(struct vdpa_virtio_conn *c);

#endif
