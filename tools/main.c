// SPDX-License-Identifier: MIT
/* `userkvm`: picks the command. Options belong to the commands. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "tools/cmd.h"

static const struct cmd *const cmds[] = {
	&cmd_boot,
	&cmd_doctor,
	&cmd_initrd,
	&cmd_run,
	&cmd_stat,
	&cmd_trace,
	&cmd_vdpa,
};

int cmd_usage(const struct cmd *cmd, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "userkvm %s: ", cmd->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'userkvm help %s'.\n", cmd->name);
	return EXIT_USAGE;
}

static const struct cmd *cmd_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cmds); i++)
		if (!strcmp(cmds[i]->name, name))
			return cmds[i];
	return NULL;
}

static void print_help(FILE *f)
{
	fprintf(f, "usage: userkvm COMMAND [OPTION...]\n\n"
		   "The Linux virtualization stack in user space: KVM on simulated processors.\n\n"
		   "Commands:\n");
	for (unsigned i = 0; i < ARRAY_SIZE(cmds); i++)
		fprintf(f, "  %-10s %s\n", cmds[i]->name, cmds[i]->summary);
	fprintf(f, "  %-10s %s\n\n'userkvm help COMMAND' tells more.\n", "help", "Print help");
}

static int print_cmd_help(const struct cmd *cmd)
{
	fputs(cmd->help, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	const struct cmd *cmd;
	bool help;

	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		printf("userkvm %s\n", USERKVM_VERSION);
		return 0;
	}
	help = !strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h");
	if (help && argc == 2) {
		print_help(stdout);
		return 0;
	}
	cmd = cmd_find(argv[help ? 2 : 1]);
	if (!cmd) {
		fprintf(stderr, "userkvm: no command '%s'\nTry 'userkvm help'.\n",
			argv[help ? 2 : 1]);
		return EXIT_USAGE;
	}
	if (help || (argc > 2 && !strcmp(argv[2], "--help")))
		return print_cmd_help(cmd);
	return cmd->run(cmd, argc - 1, argv + 1);
}
