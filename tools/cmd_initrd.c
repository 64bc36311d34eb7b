// SPDX-License-Identifier: MIT
/* `userkvm initrd`: write the default root archive to a file, for other machines. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tools/cmd.h"
#include "tools/guest_files.h"
#include "tools/initrd.h"

static int write_file(const char *path, const u8 *data, size_t len)
{
	FILE *f = fopen(path, "we");
	int ret = 0;

	if (!f)
		return -errno;
	if (fwrite(data, 1, len, f) != len)
		ret = -errno;
	if (fclose(f) && !ret)
		ret = -errno;
	return ret;
}

static int cmd_initrd_run(const struct cmd *cmd, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "guest", required_argument, NULL, 'g' },
		{ "run", required_argument, NULL, 'r' },
		{ 0 },
	};
	const char *output = NULL, *command = NULL, *guest = NULL;
	struct guest_files files;
	struct initrd initrd;
	int c, ret;

	optind = 1;
	while ((c = getopt_long(argc, argv, "+:g:o:", opts, NULL)) != -1) {
		switch (c) {
		case 'o':
			output = optarg;
			break;
		case 'g':
			guest = optarg;
			break;
		case 'r':
			command = optarg;
			break;
		case ':':
			return cmd_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument '%s'", argv[optind]);
	if (!output)
		return cmd_usage(cmd, "-o FILE is missing");

	ret = guest_files_find(&files, guest);
	if (ret) {
		log_error("no guest in %s: run scripts/fetch-guest",
			  files.dir ? files.dir : "?");
		goto out;
	}
	ret = initrd_build(&(struct initrd_params){
		.busybox = files.busybox,
		.modules = files.modules,
		.command = command,
	}, &initrd);
	if (ret)
		goto out;
	ret = write_file(output, initrd.data, initrd.len);
	if (ret)
		log_error("%s: %s", output, strerror(-ret));
	initrd_free(&initrd);
out:
	guest_files_free(&files);
	return ret ? EXIT_ERROR : 0;
}

const struct cmd cmd_initrd = {
	.name = "initrd",
	.summary = "Write the default guest's root archive to a file",
	.help =
"usage: userkvm initrd -o FILE [-g DIR] [--run CMD]\n"
"\n"
"Write the initial RAM disk that 'userkvm boot' builds for its default guest.\n"
"\n"
"  -o, --output FILE   where to write\n"
"  -g, --guest DIR     another guest that scripts/fetch-guest fetched, not the default\n"
"      --run CMD       run CMD (a line of shell) and power off, no shell\n",
	.run = cmd_initrd_run,
};
