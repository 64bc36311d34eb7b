/* SPDX-License-Identifier: MIT */
/* Call a driver back. */
#ifndef VDPA_CALLBACK_H
#define VDPA_CALLBACK_H

#include <poll.h>
#include <sys/eventfd.h>

#include "vdpa/vdpa.h"

#define VDPA_NO_CALLBACK ((struct vdpa_callback){ .eventfd = -1 })

static inline bool vdpa_callback_set(const struct vdpa_callback *cb)
{
	return cb->fn || cb->eventfd >= 0;
}

/*
 * By the eventfd if there is one. It belongs to a client, so it may be a
 * blocking one whose counter is full: then its reader has been told already.
 */
static inline void vdpa_callback_run(const struct vdpa_callback *cb)
{
	struct pollfd p = { .fd = cb->eventfd, .events = POLLOUT };

	if (cb->eventfd < 0) {
		if (cb->fn)
			cb->fn(cb->arg);
	} else if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT)) {
		eventfd_write(cb->eventfd, 1);
	}
}

#endif
