// SPDX-License-Identifier: MIT
/* `userkvm vdpa vduse`: what sysfs has of VDUSE devices. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/cmd_vdpa.h"
#include "vdpa/vduse.h"

int vdpa_vduse(const struct cmd *cmd, int argc, char **argv)
{
	const char *name = argv[1];
	u32 seconds;
	int ret = 0;

	if (argc < 2)
		return cmd_usage(cmd, "vduse wants the name of a device, then words and their values");
	if (argc % 2)
		return cmd_usage(cmd, "vduse: '%s' wants a value", argv[argc - 1]);
	for (int i = 2; i < argc && !ret; i += 2) {
		char *end;
		u64 v = strtoull(argv[i + 1], &end, 10);

		if (*end || !*argv[i + 1] || v > UINT32_MAX)
			return cmd_usage(cmd, "vduse: '%s' is no number", argv[i + 1]);
		if (!strcmp(argv[i], "msg_timeout"))
			ret = vduse_client_set_timeout(name, (u32)v);
		else if (!strcmp(argv[i], "bounce_size"))
			ret = vduse_client_set_bounce(name, v);
		else
			return cmd_usage(cmd, "vduse: no '%s', but msg_timeout and bounce_size", argv[i]);
	}
	if (!ret && argc == 2) {
		ret = vduse_client_get_timeout(name, &seconds);
		if (!ret)
			printf("msg_timeout %u\n", seconds);
	}
	if (ret)
		fprintf(stderr, "userkvm vdpa vduse: %s: %s\n", name, strerror(-ret));
	return ret ? 1 : 0;
}
