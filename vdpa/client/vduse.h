/* SPDX-License-Identifier: MIT */
/*
 * VDUSE over the hub's socket: operations beside the ioctls, and what
 * management says of VDUSE devices. A file of kind VDPA_FILE_VDUSE is opened
 * with its name as data; the reply carries the message socket and the page.
 */
#ifndef VDPA_CLIENT_VDUSE_H
#define VDPA_CLIENT_VDUSE_H

#include "abi/vduse.h"
#include "vdpa/client/rpc.h"

enum {
	/* VDPA_FILE_VDUSE_CONTROL; data: struct vduse_name_arg */
	VDUSE_OP_GET_TIMEOUT = VDPA_OP_FIRST,	/* value: seconds */
	VDUSE_OP_SET_TIMEOUT,
	VDUSE_OP_SET_BOUNCE,
	/* VDPA_FILE_VDUSE: fds[0]: the bounce domain, while umem may be registered; -EINVAL */
	VDUSE_OP_DOMAIN,
	/* The socket was read from: its readiness changes. */
	VDUSE_OP_LOOK,
};

struct vduse_name_arg {
	char name[VDUSE_NAME_MAX];
	u64 value;
};

#endif
