// SPDX-License-Identifier: MIT
/* `userkvm vdpa nbd`: export a vDPA block device as an NBD server, which is nbdkit with our plugin. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/types.h"
#include "tools/cmd.h"
#include "tools/cmd_vdpa.h"
#include "tools/installed.h"

#define PLUGIN "nbdkit-userkvm-plugin.so"

/*
 * A socket whose server was killed is in nobody's use, but in the way. The probe is of another kind than a
 * server's socket, so one that lives does not hear of it: it gets EPROTOTYPE.
 */
static void remove_stale(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	int s;

	if (strlen(path) >= sizeof(a.sun_path) || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	strcpy(a.sun_path, path);
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	if (connect(s, (const struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED)
		unlink(path);
	close(s);
}

int vdpa_nbd(const struct cmd *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "readonly", no_argument, NULL, 'r' },
		{ "threads", required_argument, NULL, 't' },
		{ 0 },
	};
	const char *path = NULL, *threads = "16", *nbdkit[20];
	char plugin[PATH_MAX], device[300], end[PATH_MAX];
	bool readonly = false;
	unsigned n = 0;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, ":s:rt:", options, NULL)) != -1) {
		switch (c) {
		case 's':
			path = optarg;
			break;
		case 'r':
			readonly = true;
			break;
		case 't':
			threads = optarg;
			break;
		case ':':
			return cmd_usage(cmd, "nbd: option '%s' wants a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "nbd: unknown option '%s'", argv[optind - 1]);
		}
	}
	if (argc - optind != 1)
		return cmd_usage(cmd, "nbd: one device name is needed");
	if (!path)
		return cmd_usage(cmd, "nbd: --socket FILE is missing");
	if (installed_find(PLUGIN, plugin)) {
		fprintf(stderr, "userkvm vdpa nbd: no %s: build with nbdkit-plugin-dev installed\n", PLUGIN);
		return EXIT_ERROR;
	}
	remove_stale(path);
	snprintf(device, sizeof(device), "device=%s", argv[optind]);
	snprintf(end, sizeof(end), "remove=%s", path);
	nbdkit[n++] = "nbdkit";
	nbdkit[n++] = "-f";
	nbdkit[n++] = "-U";
	nbdkit[n++] = path;
	nbdkit[n++] = "-t";
	nbdkit[n++] = threads;
	if (readonly)
		nbdkit[n++] = "-r";
	/* Requests that are no whole sectors are read, changed and written. */
	nbdkit[n++] = "--filter=blocksize";
	nbdkit[n++] = plugin;
	nbdkit[n++] = device;
	nbdkit[n++] = end;
	nbdkit[n] = NULL;
	execvp(nbdkit[0], (char *const *)(uintptr_t)nbdkit);
	fprintf(stderr, "userkvm vdpa nbd: nbdkit: %s%s\n", strerror(errno),
		errno == ENOENT ? " (Debian package nbdkit)" : "");
	return EXIT_ERROR;
}
