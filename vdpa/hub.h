/* SPDX-License-Identifier: MIT */
/* The hub as a program: `userkvm vdpa hub`. */
#ifndef VDPA_HUB_H
#define VDPA_HUB_H

#include "base/types.h"

struct vdpa_hub_opts {
	bool daemon;		/* listen, then go on in the background: returns 0 in the foreground */
	unsigned idle_s;	/* exit after so many seconds with nothing to do; 0 = never */
};

/*
 * Serve until idle. 0 also when another hub of this user has the lock. -errno if it cannot start;
 * a line on standard error says why.
 */
int vdpa_hub_main(const struct vdpa_hub_opts *o);

#endif
