// SPDX-License-Identifier: MIT
/*
 * Start of the preload object in a program: logging, and the nodes of whoever
 * is linked in. Most programs that inherit LD_PRELOAD never open a node, so
 * nothing is made here that costs: no thread, no descriptor, no handler.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "shim/real.h"
#include "vfs/vfs.h"

/* Before constructors of programs, some of which open /dev/kvm already. */
static void __attribute__((constructor(101))) start(void)
{
	const char *level = getenv("USERKVM_LOG");

	shim_resolve();
	if (level && !strcmp(level, "debug"))
		log_set_level(LOG_DEBUG);
	else if (level && !strcmp(level, "info"))
		log_set_level(LOG_INFO);
	vfs_register_all();
}
