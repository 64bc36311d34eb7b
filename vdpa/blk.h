/* SPDX-License-Identifier: MIT */
/*
 * virtio block driver. Source: VIRTIO 1.1 "Block Device".
 *
 * Any number of threads; each request names its queue. Whoever waits on a
 * queue reaps it: one waiter sleeps on the interrupt and wakes the others, so
 * a request of a single thread costs no change of thread here. A request whose
 * daemon dies stays in the ring for the next daemon; it fails only when the
 * device goes or breaks the rules of the ring.
 */
#ifndef VDPA_BLK_H
#define VDPA_BLK_H

#include <sys/uio.h>

#include "base/types.h"

struct vblk;
struct vdpa_session;

struct vblk_cfg {
	u16 queues;		/* 0 = as many as the device has */
	u16 depth;		/* ring size, 0 = the device's */
	bool no_indirect, no_event_idx;
	u32 spin_us;		/* look at the ring that long before sleeping; 0 = VBLK_SPIN_US while that pays */
	bool no_spin;		/* sleep at once */
	int cancel_fd;		/* readable: vblk_open_device() gives up, -EINTR; 0 = none */
};

#define VBLK_SPIN_US 50

struct vblk_info {
	u64 size;		/* bytes */
	u32 block_size;		/* logical, bytes */
	u16 queues, depth;
	u32 max_request;	/* bytes of data in one request */
	bool readonly, flush, discard, write_zeroes;
};

enum vblk_op { VBLK_READ, VBLK_WRITE, VBLK_FLUSH, VBLK_DISCARD, VBLK_WRITE_ZEROES, VBLK_GET_ID };

#define VBLK_ID_LEN 20
#define VBLK_UNMAP 1u	/* write zeroes: the device may free the blocks */

struct vblk_req {
	enum vblk_op op;
	u32 flags;
	u64 off, len;			/* bytes; multiples of 512. GET_ID: VBLK_ID_LEN of data */
	const struct iovec *iov;	/* data: pieces of together @len bytes */
	unsigned nr_iov;
	/*
	 * Optional: called once the request is finished, from a thread that reaps or abandons, no lock held; it
	 * may submit. Without it vblk_wait() tells.
	 */
	void (*done)(struct vblk_req *r);
	void *arg;
	int result;			/* 0, -EIO, -EOPNOTSUPP, -ENODEV */
	/* The driver's. */
	bool finished;
	u64 iova;
	u16 slot;
};

/* The session becomes the driver's, in failure too. NULL, errno and a line in @err. */
struct vblk *vblk_open(struct vdpa_session *s, const char *name, const struct vblk_cfg *cfg, char err[256]);
/* The device of that name, over the hub's socket. NULL, errno and a line in @err. */
struct vblk *vblk_open_device(const char *name, const struct vblk_cfg *cfg, char err[256]);
/* Requests in flight end with -ENODEV. A daemon that does not answer is left to the hub after VBLK_CLOSE_MS. */
void vblk_close(struct vblk *b);
#define VBLK_CLOSE_MS 2000
/*
 * Give up, from any thread: requests in flight end with -ENODEV, whatever the device does, and so do all
 * later ones. The device itself is let go by the hub, in its own time. Before vblk_close().
 */
void vblk_abandon(struct vblk *b);
void vblk_info(struct vblk *b, struct vblk_info *i);
/* Becomes readable when the capacity may have changed; vblk_update() then reads it again: 1 changed, 0, -ENODEV. */
int vblk_config_fd(const struct vblk *b);
int vblk_update(struct vblk *b);

/*
 * 0; -EAGAIN: ring or bounce memory is full, reap and try again; -EINVAL: range or alignment; -EROFS;
 * -EOPNOTSUPP; -ENODEV, -EIO: the device has gone, or is broken.
 */
int vblk_submit(struct vblk *b, u16 queue, struct vblk_req *r);
/* Post without kicking; vblk_kick() then tells the device of all of them. */
int vblk_post(struct vblk *b, u16 queue, struct vblk_req *r);
void vblk_kick(struct vblk *b, u16 queue);
/* Finish what the device has finished; @wait: sleep until there is one. Number, or -errno as above. */
int vblk_reap(struct vblk *b, u16 queue, bool wait);
/* Until @r is finished. Its result. */
int vblk_wait(struct vblk *b, u16 queue, struct vblk_req *r);
/* Submit, again and again while there is no room, and wait. */
int vblk_do(struct vblk *b, u16 queue, struct vblk_req *r);
/* The same for one buffer of any length: split as the device needs it. */
int vblk_io(struct vblk *b, u16 queue, enum vblk_op op, void *buf, u64 off, u64 len, u32 flags);

#endif
