// SPDX-License-Identifier: MIT
/*
 * Start of the preload object in a program: logging, and the nodes of whoever
 * is linked in. Most programs that inherit LD_PRELOAD never open a node, so
 * nothing is made here that costs: no thread, no handler, and a descriptor only for a trace.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "shim/real.h"
#include "vfs/vfs.h"

static void start_trace(const char *path)
{
	const char *points = getenv("USERKVM_TRACE_POINTS");
	int err = trace_to_file(path);

	if (err)
		log_warn("USERKVM_TRACE: %s: %s", path, strerror(-err));
	else if (trace_enable(points && *points ? points : "kvm"))
		log_warn("USERKVM_TRACE_POINTS: %s: unknown name", points);
}

/* Before constructors of programs, some of which open /dev/kvm already. */
static void __attribute__((constructor(101))) start(void)
{
	const char *level = getenv("USERKVM_LOG"), *trace = getenv("USERKVM_TRACE");

	shim_resolve();
	if (level && !strcmp(level, "debug"))
		log_set_level(LOG_DEBUG);
	else if (level && !strcmp(level, "info"))
		log_set_level(LOG_INFO);
	else if (level && *level)
		log_warn("USERKVM_LOG: %s: not info or debug", level);
	vfs_register_all();
	if (trace && *trace)
		start_trace(trace);
}
