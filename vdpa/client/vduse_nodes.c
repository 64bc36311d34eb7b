// SPDX-License-Identifier: MIT
/* VDUSE's nodes of the preload object. */
#include <string.h>

#include "base/log.h"
#include "vdpa/client/nodes.h"
#include "vfs/vfs.h"

static void register_nodes(void)
{
	int ret = vduse_register_nodes();

	if (ret)
		log_error("vduse: %s", strerror(-ret));
}
VFS_NODES(register_nodes);
