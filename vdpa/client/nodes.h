/* SPDX-License-Identifier: MIT */
/* Device nodes that stand on the hub, for who opens them in its own process. */
#ifndef VDPA_CLIENT_NODES_H
#define VDPA_CLIENT_NODES_H

/* /dev/vduse/control and /dev/vduse/NAME. 0 or -errno, -EEXIST: done before. */
int vduse_register_nodes(void);

#endif
