/* SPDX-License-Identifier: MIT */
/*
 * The default root of a guest, built in memory for each boot: BusyBox, the
 * virtio modules of its kernel in load order, /init, and the command of --run.
 */
#ifndef TOOLS_INITRD_H
#define TOOLS_INITRD_H

#include "base/types.h"

struct initrd_params {
	const char *busybox;		/* path of a static busybox */
	const char *modules;		/* folder of .ko files, NULL = none */
	const char *command;		/* shell text of --run, NULL = interactive shell */
};

struct initrd {
	u8 *data;
	size_t len;
};

/*
 * Build the archive. Returns 0 or negative errno after logging one line that
 * names the file concerned. A module that the folder lacks is left out: it may
 * be built into the kernel.
 */
int initrd_build(const struct initrd_params *p, struct initrd *out);
void initrd_free(struct initrd *i);

#endif
