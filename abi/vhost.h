/* SPDX-License-Identifier: MIT */
/*
 * The vhost API's numbers and structs, in Linux spelling: the system's own
 * header, and what is newer than the oldest header that we build with
 * (Debian 12: Linux 6.1).
 */
#ifndef ABI_VHOST_H
#define ABI_VHOST_H

#include <linux/vhost.h>

#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME _IO(VHOST_VIRTIO, 0x7E)
#endif
#ifndef VHOST_VDPA_GET_VRING_DESC_GROUP
#define VHOST_VDPA_GET_VRING_DESC_GROUP _IOWR(VHOST_VIRTIO, 0x7F, struct vhost_vring_state)
#endif
#ifndef VHOST_VDPA_GET_VRING_SIZE
#define VHOST_VDPA_GET_VRING_SIZE _IOWR(VHOST_VIRTIO, 0x82, struct vhost_vring_state)
#endif
#ifndef VHOST_BACKEND_F_RESUME
#define VHOST_BACKEND_F_RESUME 0x5
#endif

#endif
