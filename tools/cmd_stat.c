// SPDX-License-Identifier: MIT
/*
 * `userkvm stat`: exits of guests by reason, of a command or of programs that
 * run already. The vCPUs count (kvm/exit_stat.h); here are the ways to their
 * areas: descriptors of processes of the same user, or files that a recorded
 * command leaves in a folder of ours.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/exit_report.h"

#define RECORD_FILE "userkvm.stat"
#define MEMFD_LINK "/memfd:kvm-vcpu"

struct stat_opts {
	struct exit_report report;
	const char *file;
	int pid;
	double every;
	bool once, json;
};

static int fail(const char *what, int err)
{
	fprintf(stderr, "userkvm stat: %s: %s\n", what, strerror(-err));
	return EXIT_ERROR;
}

static void show(struct stat_opts *o, const char *whose, FILE *f)
{
	(o->json ? exit_report_json : exit_report_print)(&o->report, whose, f);
}

/* ---- Areas of running processes ---- */

struct live_vcpu {
	struct hv_exit_area *area;
	dev_t dev;
	ino_t ino;
	struct live_vcpu *next;
};

static bool known(const struct live_vcpu *l, const struct stat *st)
{
	for (; l; l = l->next) {
		if (l->dev == st->st_dev && l->ino == st->st_ino)
			return true;
	}
	return false;
}

static void attach(struct live_vcpu **list, const char *path)
{
	struct hv_exit_area *a;
	struct live_vcpu *l;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	/* A vCPU has several descriptors; and anybody may have a memfd of this name. */
	if (fstat(fd, &st) < 0 || known(*list, &st) ||
	    st.st_size < (off_t)(HV_EXIT_STAT_PAGE * PAGE_SIZE + HV_EXIT_STAT_BYTES)) {
		close(fd);
		return;
	}
	a = mmap(NULL, HV_EXIT_STAT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 (off_t)(HV_EXIT_STAT_PAGE * PAGE_SIZE));
	close(fd);
	if (a == MAP_FAILED)
		return;
	l = a->magic == HV_EXIT_STAT_MAGIC ? malloc(sizeof(*l)) : NULL;
	if (!l) {
		munmap(a, HV_EXIT_STAT_BYTES);
		return;
	}
	*l = (struct live_vcpu){ .area = a, .dev = st.st_dev, .ino = st.st_ino, .next = *list };
	*list = l;
}

static void attach_process(struct live_vcpu **list, int pid)
{
	char folder[64], path[sizeof(folder) + 300], to[64];
	struct dirent *e;
	DIR *d;

	snprintf(folder, sizeof(folder), "/proc/%d/fd", pid);
	d = opendir(folder);
	while (d && (e = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n >= (ssize_t)strlen(MEMFD_LINK) && !memcmp(to, MEMFD_LINK, strlen(MEMFD_LINK)))
			attach(list, path);
	}
	if (d)
		closedir(d);
}

static void attach_all(struct live_vcpu **list, int pid)
{
	DIR *d = pid ? NULL : opendir("/proc");
	struct dirent *e;

	if (pid)
		attach_process(list, pid);
	while (d && (e = readdir(d))) {
		if (atoi(e->d_name) > 0 && atoi(e->d_name) != getpid())
			attach_process(list, atoi(e->d_name));
	}
	if (d)
		closedir(d);
}

static void detach_all(struct live_vcpu *l)
{
	struct live_vcpu *next;

	for (; l; l = next) {
		next = l->next;
		atomic_store(&l->area->wanted, 0);
		munmap(l->area, HV_EXIT_STAT_BYTES);
		free(l);
	}
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = 1;
}

static int live(struct stat_opts *o)
{
	struct timespec t = { (time_t)o->every, (long)((o->every - (double)(time_t)o->every) * 1e9) };
	struct sigaction sa = { .sa_handler = on_interrupt };
	struct live_vcpu *list = NULL;
	u32 span = (u32)getpid() << 8;	/* not what another reader left */
	char whose[32] = "all VMs";
	int ret = 0;

	if (o->pid)
		snprintf(whose, sizeof(whose), "pid(s) %d", o->pid);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	while (!interrupted && !ret) {
		/* VMs come and go. */
		attach_all(&list, o->pid);
		if (!list) {
			fprintf(stderr, "userkvm stat: no vCPU of userkvm in %s\n",
				o->pid ? whose : "any process of this user");
			return EXIT_ERROR;
		}
		span++;
		for (struct live_vcpu *l = list; l; l = l->next)
			atomic_store(&l->area->wanted, span);
		nanosleep(&t, NULL);
		exit_report_clear(&o->report);
		for (struct live_vcpu *l = list; l && !ret; l = l->next) {
			if (atomic_load(&l->area->counting) == span)
				ret = exit_report_add(&o->report, l->area);
		}
		if (!o->once && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		show(o, whose, stdout);
		fflush(stdout);
		detach_all(list);
		list = NULL;
		if (o->once || ferror(stdout))
			break;
		if (o->pid && kill(o->pid, 0) < 0)
			break;
	}
	detach_all(list);
	return ret ? fail("report", ret) : 0;
}

/* ---- A command ---- */

/* Run it as `userkvm run` would, its vCPUs counting in @folder. Returns its exit status. */
static int run_in(const char *folder, char **argv, int argc)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old_int, old_quit;
	char **args = calloc((size_t)argc + 4, sizeof(*args));
	int status = 0;
	pid_t pid;

	if (!args)
		return fail("run", -ENOMEM);
	args[0] = (char *)"userkvm";
	args[1] = (char *)"run";
	args[2] = (char *)"--";
	memcpy(args + 3, argv, (size_t)argc * sizeof(*args));
	/* The terminal's signals are for the command; what it counted is shown all the same. */
	sigaction(SIGINT, &ignore, &old_int);
	sigaction(SIGQUIT, &ignore, &old_quit);
	pid = fork();
	if (pid == 0) {
		sigaction(SIGINT, &old_int, NULL);
		sigaction(SIGQUIT, &old_quit, NULL);
		setenv("USERKVM_STAT", folder, 1);
		execv("/proc/self/exe", args);
		_exit(EXIT_ERROR);
	}
	free(args);
	if (pid < 0)
		return fail("fork", -errno);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGQUIT, &old_quit, NULL);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Adds the areas in the open file @fd to the report, or to the file @out if there is one. */
static int take_areas(struct stat_opts *o, int fd, FILE *out)
{
	static union {
		struct hv_exit_area area;
		u8 bytes[HV_EXIT_STAT_BYTES];	/* whole pages, in folders and in recorded files */
	} a;
	ssize_t n = -1;
	int ret = 0;

	while (!ret && (n = read(fd, &a, sizeof(a))) == (ssize_t)sizeof(a)) {
		if (a.area.magic != HV_EXIT_STAT_MAGIC)
			return -EINVAL;
		if (out)
			ret = fwrite(&a, sizeof(a), 1, out) == 1 ? 0 : -EIO;
		else
			ret = exit_report_add(&o->report, &a.area);
	}
	return ret ? ret : n < 0 ? -errno : n ? -EINVAL : 0;
}

static int take_file(struct stat_opts *o, const char *path, FILE *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = take_areas(o, fd, out);
	close(fd);
	return ret;
}

/* Take all files of @folder, and remove it. */
static int take_folder(struct stat_opts *o, const char *folder, FILE *out)
{
	char path[PATH_MAX + 300];
	DIR *d = opendir(folder);
	struct dirent *e;
	int ret = d ? 0 : -errno;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		if (!ret)
			ret = take_file(o, path, out);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(folder);
	return ret;
}

static int run_command(const struct cmd *cmd, struct stat_opts *o, bool record, int argc, char **argv)
{
	const char *place = getenv("XDG_RUNTIME_DIR");
	char folder[PATH_MAX];
	int status, ret = 0;
	FILE *out = stderr;

	if (argc == 0)
		return cmd_usage(cmd, "no program given");
	if (record || o->file) {
		out = fopen(o->file ? o->file : RECORD_FILE, "we");
		if (!out)
			return fail(o->file ? o->file : RECORD_FILE, -errno);
	}
	snprintf(folder, sizeof(folder), "%s/userkvm-stat-XXXXXX", place && *place ? place : "/tmp");
	if (!mkdtemp(folder))
		return fail(folder, -errno);
	status = run_in(folder, argv, argc);
	ret = take_folder(o, folder, record ? out : NULL);
	if (!record && !ret)
		show(o, "all VMs", out);
	if (out != stderr && fclose(out))
		ret = -errno;
	return ret ? fail("result", ret) : status;
}

/* ---- Command line ---- */

static int parse(const struct cmd *cmd, int argc, char **argv, struct stat_opts *o)
{
	static const struct option options[] = {
		{ "event", required_argument, NULL, 'e' },
		{ "vcpu", required_argument, NULL, 'V' },
		{ "key", required_argument, NULL, 'k' },
		{ "pid", required_argument, NULL, 'p' },
		{ "display", required_argument, NULL, 'd' },
		{ "once", no_argument, NULL, '1' },
		{ "json", no_argument, NULL, 'j' },
		{ "input", required_argument, NULL, 'i' },
		{ "output", required_argument, NULL, 'o' },
		{ 0 },
	};
	char *end;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "+:e:k:p:d:1ji:o:", options, NULL)) != -1) {
		end = (char *)"";
		switch (c) {
		case 'e':
			if (!exit_event_find(optarg, &o->report.event))
				return cmd_usage(cmd, "--event is vmexit, mmio or ioport, not '%s'", optarg);
			break;
		case 'V':
			o->report.vcpu = (int)strtol(optarg, &end, 10);
			break;
		case 'k':
			if (strcmp(optarg, "sample") && strcmp(optarg, "time"))
				return cmd_usage(cmd, "--key is sample or time, not '%s'", optarg);
			o->report.by_time = !strcmp(optarg, "time");
			break;
		case 'p':
			o->pid = (int)strtol(optarg, &end, 10);
			if (o->pid <= 0)
				end = optarg;
			break;
		case 'd':
			o->every = strtod(optarg, &end);
			if (!(o->every >= 0.01 && o->every < 1e6))
				end = optarg;
			break;
		case '1':
			o->once = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'i':
		case 'o':
			o->file = optarg;
			break;
		case ':':
			return cmd_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		}
		if (*end)
			return cmd_usage(cmd, "not a number that can be used: '%s'", optarg);
	}
	return 0;
}

static int cmd_stat_run(const struct cmd *cmd, int argc, char **argv)
{
	static const char *const verbs[] = { "live", "record", "report" };
	struct stat_opts o = { .report = { .vcpu = -1 }, .every = 1 };
	const char *verb = "";
	int ret;

	for (unsigned i = 0; i < ARRAY_SIZE(verbs) && argc > 1; i++) {
		if (!strcmp(argv[1], verbs[i]))
			verb = verbs[i];
	}
	if (*verb) {
		argc--;
		argv++;
	}
	ret = parse(cmd, argc, argv, &o);
	if (ret)
		return ret;
	if (strcmp(verb, "live") && strcmp(verb, "report"))
		return run_command(cmd, &o, *verb, argc - optind, argv + optind);
	if (optind < argc)
		return cmd_usage(cmd, "'%s' takes no arguments", verb);
	if (!strcmp(verb, "live")) {
		ret = live(&o);
	} else {
		ret = take_file(&o, o.file ? o.file : RECORD_FILE, NULL);
		if (ret)
			return fail(o.file ? o.file : RECORD_FILE, ret);
		show(&o, "all VMs", stdout);
	}
	exit_report_clear(&o.report);
	return ret;
}

const struct cmd cmd_stat = {
	.name = "stat",
	.summary = "Count the exits of guests, and their time",
	.help =
"usage: userkvm stat [OPTION...] [--] PROGRAM [ARG...]     run it, then report on stderr\n"
"       userkvm stat record [-o FILE] [--] PROGRAM [ARG...]\n"
"       userkvm stat report [-i FILE] [OPTION...]\n"
"       userkvm stat live [-p PID] [-d SECONDS] [OPTION...]\n"
"\n"
"Count why guests left their processor, and how long until they were back, in the\n"
"layout of 'perf kvm stat'. PROGRAM is run as by 'userkvm run'. 'live' looks at programs\n"
"of the same user that run under 'userkvm run' already, and shows each span by itself.\n"
"\n"
"  -e, --event WHAT     vmexit (default), mmio or ioport\n"
"      --vcpu N         only vCPUs of this number\n"
"  -k, --key KEY        the first row has the most of: sample (default), time\n"
"  -p, --pid PID        only this process\n"
"  -d, --display S      seconds between two reports (1)\n"
"  -1, --once           one report of one such span\n"
"  -j, --json           each report as one line of JSON\n"
"  -o, --output FILE    where to write (record: " RECORD_FILE ")\n"
"  -i, --input FILE     what to report (" RECORD_FILE ")\n"
"\n"
"Exit status: that of PROGRAM; 2 bad usage; 125 userkvm failed.\n",
	.run = cmd_stat_run,
};
