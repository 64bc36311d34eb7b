/* SPDX-License-Identifier: MIT */
/* Commands of `userkvm`: a row each, and the exit codes that they share. */
#ifndef TOOLS_CMD_H
#define TOOLS_CMD_H

#define EXIT_USAGE 2		/* bad command line */
#define EXIT_TIMEOUT 124	/* as timeout(1) */
#define EXIT_ERROR 125		/* userkvm, its host or the guest failed */

struct cmd {
	const char *name;
	const char *summary;
	const char *help;
	/* argv[0] is the command's name. Returns the exit code. */
	int (*run)(const struct cmd *cmd, int argc, char **argv);
};

extern const struct cmd cmd_boot;
extern const struct cmd cmd_doctor;
extern const struct cmd cmd_initrd;
extern const struct cmd cmd_run;
extern const struct cmd cmd_stat;
extern const struct cmd cmd_trace;
extern const struct cmd cmd_vdpa;

/* Print one line to standard error and the way to the help text. Returns EXIT_USAGE. */
int cmd_usage(const struct cmd *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
