// SPDX-License-Identifier: MIT
/* `userkvm run`: a program that finds /dev/kvm, by way of the preload object. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/elf_check.h"
#include "base/trace.h"
#include "base/types.h"
#include "silicon/x86.h"
#include "tools/cmd.h"
#include "tools/installed.h"
#include "tools/kvm_node.h"

#define LIB "libuserkvm.so"

/* env(1)'s codes for a program that is not there, or cannot be run. */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

struct run_opts {
	const char *cpu, *cpuid, *engine, *trace, *trace_points;
	bool verbose;
};

static int parse(const struct cmd *cmd, int argc, char **argv, struct run_opts *o)
{
	static const struct option options[] = {
		{ "cpu", required_argument, NULL, 'C' },
		{ "cpuid", required_argument, NULL, 'I' },
		{ "engine", required_argument, NULL, 'E' },
		{ "trace", required_argument, NULL, 'T' },
		{ "trace-points", required_argument, NULL, 'P' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	enum x86_engine engine;
	int c;

	/* "+": options end at PROGRAM. ":": messages are ours. */
	optind = 1;
	while ((c = getopt_long(argc, argv, "+:v", options, NULL)) != -1) {
		switch (c) {
		case 'C':
			o->cpu = optarg;
			break;
		case 'I':
			o->cpuid = optarg;
			break;
		case 'E':
			o->engine = optarg;
			break;
		case 'T':
			o->trace = optarg;
			break;
		case 'P':
			o->trace_points = optarg;
			break;
		case 'v':
			o->verbose = true;
			break;
		case ':':
			return cmd_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (optind == argc)
		return cmd_usage(cmd, "no program given");
	if (o->cpu && !kvm_node_can_use(o->cpu))
		return cmd_usage(cmd, "no KVM on a processor model '%s', see 'userkvm doctor'", o->cpu);
	if (o->cpuid && strcmp(o->cpuid, "open") && strcmp(o->cpuid, "start") && strcmp(o->cpuid, "host"))
		return cmd_usage(cmd, "--cpuid is open, start or host, not '%s'", o->cpuid);
	if (o->engine && !x86_engine_find(o->engine, &engine))
		return cmd_usage(cmd, "no engine '%s', see 'userkvm doctor'", o->engine);
	if (o->trace_points && !o->trace)
		return cmd_usage(cmd, "--trace-points needs --trace FILE");
	if (o->trace_points && trace_enable(o->trace_points))
		return cmd_usage(cmd, "--trace-points: unknown name in '%s'", o->trace_points);
	return 0;
}

/* A new file, as KVM's tracers begin it; programs append to it, wherever they have gone. */
static int start_trace(const char *path, char full[PATH_MAX])
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	fprintf(f, "cpus=%ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	if (fclose(f))
		return -errno;
	return realpath(path, full) ? 0 : -errno;
}

/* As execvp() searches. */
static int find_program(const char *name, char out[PATH_MAX])
{
	const char *p = getenv("PATH"), *end;
	int ret = -ENOENT;
	struct stat st;

	if (strchr(name, '/') || !*name) {
		snprintf(out, PATH_MAX, "%s", name);
		if (stat(out, &st) < 0)
			return -errno;
		return S_ISDIR(st.st_mode) || access(out, X_OK) ? -EACCES : 0;
	}
	for (p = p ? p : "/bin:/usr/bin"; p; p = *end ? end + 1 : NULL) {
		end = strchrnul(p, ':');
		snprintf(out, PATH_MAX, "%.*s%s%s", (int)(end - p), p, end == p ? "" : "/", name);
		if (stat(out, &st) < 0 || S_ISDIR(st.st_mode))
			continue;
		if (!access(out, X_OK))
			return 0;
		ret = -EACCES;
	}
	return ret;
}

static int set_environment(const struct run_opts *o, const char *lib, const char *trace)
{
	const char *before = getenv("LD_PRELOAD");
	char *list;
	int bad;

	if (asprintf(&list, "%s%s%s", lib, before && *before ? ":" : "", before ? before : "") < 0)
		return -ENOMEM;
	bad = setenv("LD_PRELOAD", list, 1);
	free(list);
	if (o->cpu)
		bad |= setenv("USERKVM_CPU", o->cpu, 1);
	if (o->cpuid)
		bad |= setenv("USERKVM_CPUID", o->cpuid, 1);
	if (o->verbose)
		bad |= setenv("USERKVM_LOG", "info", 1);
	if (o->engine)
		bad |= setenv("USERKVM_ENGINE", o->engine, 1);
	if (o->trace)
		bad |= setenv("USERKVM_TRACE", trace, 1);
	if (o->trace_points)
		bad |= setenv("USERKVM_TRACE_POINTS", o->trace_points, 1);
	return bad ? -ENOMEM : 0;
}

static int cmd_run_run(const struct cmd *cmd, int argc, char **argv)
{
	char lib[PATH_MAX], program[PATH_MAX], trace[PATH_MAX], why[512];
	struct run_opts o = { 0 };
	int ret = parse(cmd, argc, argv, &o);

	if (ret)
		return ret;
	argv += optind;
	if (installed_find(LIB, lib)) {
		fprintf(stderr, "userkvm run: no " LIB " in %s and in ../" USERKVM_LIBDIR " from there\n", lib);
		return EXIT_ERROR;
	}
	if (strpbrk(lib, " :")) {
		fprintf(stderr, "userkvm run: %s: LD_PRELOAD cannot name a path with a space or colon\n", lib);
		return EXIT_ERROR;
	}
	ret = find_program(argv[0], program);
	if (!ret)
		ret = elf_check_preload(program, why, sizeof(why));
	if (ret == -ENOEXEC) {
		fprintf(stderr, "userkvm run: cannot give %s a /dev/kvm: %s\n", program, why);
		return EXIT_CANNOT_RUN;
	}
	if (!ret && o.verbose && elf_has_syscalls(program))
		fprintf(stderr, "userkvm run: %s makes system calls of its own: those it does not make "
			"through libc do not reach userkvm\n", program);
	if (!ret && o.trace && (ret = start_trace(o.trace, trace))) {
		fprintf(stderr, "userkvm run: --trace %s: %s\n", o.trace, strerror(-ret));
		return EXIT_ERROR;
	}
	if (!ret)
		ret = set_environment(&o, lib, trace);
	if (!ret) {
		execv(program, argv);
		ret = -errno;
	}
	fprintf(stderr, "userkvm run: %s: %s\n", argv[0], strerror(-ret));
	return ret == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

const struct cmd cmd_run = {
	.name = "run",
	.summary = "Run a program that uses /dev/kvm, on simulated processors",
	.help =
"usage: userkvm run [OPTION...] [--] PROGRAM [ARG...]\n"
"\n"
"Run PROGRAM with a /dev/kvm of its own: for example\n"
"  userkvm run -- qemu-system-x86_64 -accel kvm -cpu max -m 256 ...\n"
"PROGRAM and what it starts must be dynamically linked with glibc for x86-64.\n"
"\n"
"      --cpu MODEL   processor model, see 'userkvm doctor'\n"
"      --cpuid WHEN  where the host has CPUID faulting, CPUID in PROGRAM tells of the\n"
"                    model: from its first 'open' of /dev/kvm on (default), from its\n"
"                    'start' on, or never: 'host'\n"
"      --engine NAME how instructions are executed, see 'userkvm doctor'\n"
"      --trace FILE  write KVM's trace points to FILE, as 'trace-cmd report' prints them\n"
"      --trace-points LIST  only those of the list, such as kvm_exit,kvm_pio (all)\n"
"  -v, --verbose     say more on standard error\n"
"\n"
"Exit status: that of PROGRAM; 2 bad usage; 125 userkvm failed; 126 PROGRAM cannot\n"
"be run, or not with a /dev/kvm; 127 PROGRAM was not found.\n",
	.run = cmd_run_run,
};
