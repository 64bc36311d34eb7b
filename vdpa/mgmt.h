/* SPDX-License-Identifier: MIT */
/*
 * Management from within a program: netlink datagrams of the family "vdpa" by
 * remote call, without a netlink socket.
 */
#ifndef VDPA_MGMT_H
#define VDPA_MGMT_H

#include <sys/types.h>

#include "base/types.h"

#define VDPA_MGMT_FAMILY_ID 0x1d	/* what the controller names as the family's message type */

struct vdpa_mgmt_client;

/* A hub is started if there is none. 0 or -errno. */
int vdpa_mgmt_connect(struct vdpa_mgmt_client **c);
void vdpa_mgmt_disconnect(struct vdpa_mgmt_client *c);
/* Returns when the requests have been carried out. 0 or -errno; refusals are replies. */
int vdpa_mgmt_send(struct vdpa_mgmt_client *c, const void *data, size_t len);
/* The next datagram of replies; -EAGAIN: no more. */
ssize_t vdpa_mgmt_receive(struct vdpa_mgmt_client *c, void *buf, size_t room);

/*
 * What sysfs tells elsewhere: the N of /dev/vhost-vdpa-N of a device. -ENODEV: no such device;
 * -ENOENT: it has no node, since another driver has it.
 */
int vdpa_mgmt_node(struct vdpa_mgmt_client *c, const char *name);

#endif
