/* SPDX-License-Identifier: MIT */
/* What travels for a vhost-vdpa node besides ioctls. */
#ifndef VDPA_CLIENT_VHOST_WIRE_H
#define VDPA_CLIENT_VHOST_WIRE_H

#include "vdpa/client/rpc.h"

/* A part of a range of addresses, as far as it is mapped, in order; see struct vhost_piece. */
struct vhost_wire_piece {
	u64 len, off, uaddr;
	s32 fd;			/* which of the message's descriptors; -1: private memory */
	u32 writable;
};

#define VHOST_WIRE_MSG 72

/* VDPA_OP_WRITE: what was written, cut at 72 bytes, and for an UPDATE the pieces of its range. */
struct vhost_wire_write {
	u32 len, npieces;
	u8 msg[VHOST_WIRE_MSG];
	struct vhost_wire_piece pieces[];
};
#define VHOST_WIRE_PIECES \
	((VDPA_MSG_DATA - sizeof(struct vhost_wire_write)) / sizeof(struct vhost_wire_piece))

/* VHOST_OP_DOORBELL: the reply has the descriptor, and the offset in its data (u64). */
enum { VHOST_OP_DOORBELL = VDPA_OP_FIRST };
struct vhost_wire_doorbell {
	u64 vq, len;
	s32 prot, flags;
};

#endif
