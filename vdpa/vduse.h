/* SPDX-License-Identifier: MIT */
/* What management sets of a VDUSE device, over the hub's socket: files of sysfs in Linux. */
#ifndef VDPA_VDUSE_H
#define VDPA_VDUSE_H

#include "base/types.h"

/* Each: 0 or -errno; -ENODEV no such device, -ENOENT no hub. */

/* msg_timeout: seconds that a message waits for the daemon's answer, 0 = for ever. */
int vduse_client_set_timeout(const char *name, u32 seconds);
int vduse_client_get_timeout(const char *name, u32 *seconds);
/* bounce_size: bytes, 1 MiB .. 1 GiB, else -EINVAL; -EPERM once the device has been attached. */
int vduse_client_set_bounce(const char *name, u64 bytes);

#endif
