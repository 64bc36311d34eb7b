/* SPDX-License-Identifier: MIT */
/* A virtio session over a vhost-user socket: the peer of the benchmark. */
#ifndef TESTS_VDPA_VHOST_USER_H
#define TESTS_VDPA_VHOST_USER_H

#include "base/types.h"

struct vdpa_session;

/* NULL and errno. */
struct vdpa_session *vhost_user_session(const char *path, u16 queues, u16 depth);

#endif
