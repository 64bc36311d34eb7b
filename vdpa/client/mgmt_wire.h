/* SPDX-License-Identifier: MIT */
/* Calls of a management session: netlink datagrams there and back. */
#ifndef VDPA_CLIENT_MGMT_WIRE_H
#define VDPA_CLIENT_MGMT_WIRE_H

#include "vdpa/client/rpc.h"

enum {
	MGMT_OP_SEND = VDPA_OP_FIRST,	/* data: requests; returns when they have been carried out */
	MGMT_OP_RECEIVE,		/* the next datagram of replies, or -EAGAIN */
	MGMT_OP_NODE,			/* data: a device's name; value: the N of its /dev/vhost-vdpa-N */
};

#endif
