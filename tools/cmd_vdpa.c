// SPDX-License-Identifier: MIT
/* `userkvm vdpa`: the hub, and management with the words of iproute2's vdpa(8). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/cmd_vdpa.h"
#include "tools/vdpa_mgmt.h"
#include "vdpa/hub.h"
#include "vdpa/mgmt.h"

#define HUB_IDLE_S 5

static int run_hub(const struct cmd *cmd, int argc, char **argv)
{
	struct vdpa_hub_opts o = { .idle_s = HUB_IDLE_S };

	for (int i = 1; i < argc; i++) {
		char *end;

		if (!strcmp(argv[i], "--daemon")) {
			o.daemon = true;
		} else if (!strcmp(argv[i], "--idle")) {
			if (++i == argc)
				return cmd_usage(cmd, "--idle wants a number of seconds");
			o.idle_s = (unsigned)strtoul(argv[i], &end, 10);
			if (*end || *argv[i] < '0' || *argv[i] > '9')
				return cmd_usage(cmd, "--idle is a number of seconds, not '%s'", argv[i]);
		} else {
			return cmd_usage(cmd, "vdpa hub has no '%s'", argv[i]);
		}
	}
	return vdpa_hub_main(&o) ? EXIT_ERROR : 0;
}

/* Which node a device has: in sysfs elsewhere, which nobody has here. */
static int run_node(const struct cmd *cmd, int argc, char **argv)
{
	struct vdpa_mgmt_client *c;
	int n;

	if (argc != 2)
		return cmd_usage(cmd, "vdpa node wants the name of a device");
	n = vdpa_mgmt_connect(&c);
	if (!n) {
		n = vdpa_mgmt_node(c, argv[1]);
		vdpa_mgmt_disconnect(c);
	}
	if (n == -ENOENT)
		fprintf(stderr, "%s has no node: another driver has it\n", argv[1]);
	else if (n < 0)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-n));
	else
		printf("/dev/vhost-vdpa-%d\n", n);
	return n < 0;
}

static int cmd_vdpa_run(const struct cmd *cmd, int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "hub"))
		return run_hub(cmd, argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "node"))
		return run_node(cmd, argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "vduse"))
		return vdpa_vduse(cmd, argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "nbd"))
		return vdpa_nbd(cmd, argc - 1, argv + 1);
	return vdpa_mgmt_main(argc, argv);
}

const struct cmd cmd_vdpa = {
	.name = "vdpa",
	.summary = "Manage vDPA devices: simulators, and VDUSE devices of programs",
	.help =
"usage: userkvm vdpa [OPTION...] mgmtdev show [DEV]\n"
"       userkvm vdpa [OPTION...] dev show [DEV]\n"
"       userkvm vdpa dev add name NAME mgmtdev [BUS/]DEV [mac MAC] [mtu MTU] [max_vqp N]\n"
"                [device_features BITS]\n"
"       userkvm vdpa dev del DEV\n"
"       userkvm vdpa [OPTION...] dev config show [DEV]\n"
"       userkvm vdpa [OPTION...] dev vstats show DEV [qidx N]\n"
"       userkvm vdpa node DEV\n"
"       userkvm vdpa vduse DEV [msg_timeout SECONDS] [bounce_size BYTES]\n"
"       userkvm vdpa nbd DEV --socket FILE [--readonly] [--threads N]\n"
"       userkvm vdpa hub [--idle SECONDS]\n"
"\n"
"Manage vDPA devices as vdpa(8) of iproute2 does; words may be shortened. Devices\n"
"live in a hub, one process for each user, which is started when something needs\n"
"it and exits when it has no device and no client. Programs under 'userkvm run'\n"
"find a device at the /dev/vhost-vdpa-N that 'node' prints; so does iproute2's own\n"
"vdpa find the hub.\n"
"\n"
"  -j, --json     print JSON\n"
"  -p, --pretty   in lines\n"
"  -n             accepted, without effect\n"
"  -V, --Version  print the version\n"
"\n"
"vduse sets how long a VDUSE daemon may take to answer (30; 0: for ever), and the size of\n"
"the bounce memory before the device is attached.\n"
"\n"
"nbd exports a block device as an NBD server on the Unix socket FILE, by nbdkit,\n"
"until a signal ends it; 'userkvm boot -d vdpa:DEV' makes it a machine's disk, and\n"
"'userkvm boot -n vdpa:DEV' a network device its network.\n"
"\n"
"Exit status: 0, or 1 after a line on standard error, 2 if node, vduse, nbd or hub do not\n"
"understand their arguments; of a hub that cannot start 125.\n",
	.run = cmd_vdpa_run,
};
