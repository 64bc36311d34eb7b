/* SPDX-License-Identifier: MIT */
/*
 * vhost-vdpa: the bus driver that makes a node, /dev/vhost-vdpa-N, of each
 * device, and what the node answers. Plain functions with decoded arguments;
 * who calls them, and from where, is the hub's business.
 *
 * All functions are thread-safe. Calls to one node are serial, but for kicks
 * and interrupts, which travel by eventfds.
 */
#ifndef VDPA_VHOST_VHOST_H
#define VDPA_VHOST_VHOST_H

#include <sys/types.h>

#include "base/types.h"

struct vhost_vdpa;

/* Register the bus driver. 0 or -errno. */
int __must_check vhost_vdpa_init(void);
void vhost_vdpa_exit(void);

/*
 * Open node @n, exclusively; resets the device. NULL and errno: ENOENT no such node, EBUSY it is open,
 * the parent's refusal to reset.
 */
struct vhost_vdpa *vhost_vdpa_open(unsigned n);
/* Reset, unmap everything, drop all eventfds, let others open. No other call may be running. */
void vhost_vdpa_release(struct vhost_vdpa *v);

/* A call's arguments as bytes. */
struct vhost_call {
	u32 req;
	pid_t pid;		/* of the caller: SET_OWNER is by process */
	const void *in;
	u32 in_len;
	int fd;			/* descriptor that the argument names, -1 none; stays the caller's */
	u8 out[4096];
	u32 out_len;
};
/* >= 0 or -errno. -EFAULT also if the argument is short. */
long vhost_vdpa_ioctl(struct vhost_vdpa *v, struct vhost_call *c);

/* What is behind a part of an address range of the caller, in order of addresses. */
struct vhost_piece {
	u64 len;
	u64 off;		/* of @fd */
	u64 uaddr;
	int fd;			/* MAP_SHARED file; -1: private memory */
	bool writable;
};
/*
 * An IOTLB message. @pieces: of the range of an UPDATE, as far as it is mapped; @n 0 means that nobody
 * has looked: private memory all over. Returns 72 or -errno.
 */
long vhost_vdpa_write(struct vhost_vdpa *v, pid_t pid, const void *msg, size_t len,
		      const struct vhost_piece *pieces, unsigned n);

/*
 * Doorbell of queue @vq: a descriptor that is the caller's and the offset to map. -EINVAL; -524
 * (the kernel leaks that code): the parent has no doorbells.
 */
int vhost_vdpa_doorbell(struct vhost_vdpa *v, u64 vq, size_t len, int prot, int flags, u64 *off);

/* Nodes that exist: their numbers, ascending, at most @room. Returns how many there are. */
unsigned vhost_vdpa_nodes(unsigned *n, unsigned room);
/* The node of that device, or -ENOENT. */
int vhost_vdpa_node_of(const char *name);

#endif
