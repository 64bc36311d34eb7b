// SPDX-License-Identifier: MIT
/* Options of `userkvm boot`. Short ones as kvmtool's `lkvm run` has them. */
#include "tools/boot_opts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "silicon/x86.h"
#include "tools/vdpa_disk.h"
#include "tools/vdpa_net.h"

#define DEFAULT_CPUS 1
#define DEFAULT_MEM (512ull << 20)

/* A whole decimal number up to @max. */
static bool parse_num(const char *s, u64 max, u64 *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoull(s, &end, 10);
	return !errno && !*end && *v <= max;
}

/* Mebibytes, or with a suffix what it says. */
static bool parse_mem(const char *s, u64 *mem)
{
	unsigned shift = 20;
	char *end;
	u64 v;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno)
		return false;
	switch (*end) {
	case 'K': case 'k':
		shift = 10;
		end++;
		break;
	case 'M': case 'm':
		end++;
		break;
	case 'G': case 'g':
		shift = 30;
		end++;
		break;
	}
	if (*end || v > VMM_MAX_MEM >> shift)
		return false;
	*mem = (v << shift) & PAGE_MASK;
	return *mem >= VMM_MIN_MEM;
}

/* [vdpa:]DISK[,ro] */
static int parse_disk(const struct cmd *cmd, char *s, struct boot_opts *o)
{
	struct vmm_disk *d = &o->disks[o->nr_disks];
	char *comma = strrchr(s, ',');

	if (o->nr_disks == VMM_MAX_DISKS)
		return cmd_usage(cmd, "more than %d disks", VMM_MAX_DISKS);
	if (comma && !strcmp(comma, ",ro")) {
		d->readonly = true;
		*comma = 0;
	}
	if (!*s)
		return cmd_usage(cmd, "-d without a file name");
	if (!strncmp(s, "vdpa:", 5)) {
		d->ops = &vdpa_disk_ops;
		s += 5;
	}
	d->path = s;
	o->nr_disks++;
	return 0;
}

/* [ADDRESS]:PORT */
static bool parse_endpoint(char *s, u32 *addr, u16 *port)
{
	char *colon = strrchr(s, ':');
	struct in_addr a = { 0 };
	u64 v;

	if (!colon)
		return false;
	*colon = 0;
	if (*s && inet_pton(AF_INET, s, &a) != 1)
		return false;
	if (!parse_num(colon + 1, 65535, &v) || !v)
		return false;
	*addr = a.s_addr;
	*port = (u16)v;
	return true;
}

/* {tcp|udp}:[ADDRESS]:PORT-[ADDRESS]:PORT */
static bool parse_hostfwd(char *s, struct vmm_hostfwd *f)
{
	char *dash = strchr(s, '-');

	if (!strncmp(s, "udp:", 4))
		f->udp = true;
	else if (strncmp(s, "tcp:", 4))
		return false;
	if (!dash)
		return false;
	*dash = 0;
	return parse_endpoint(s + 4, &f->host_addr, &f->host_port) &&
	       parse_endpoint(dash + 1, &f->guest_addr, &f->guest_port);
}

/* none, vdpa:DEV, or user[,hostfwd=...]... */
static int parse_net(const struct cmd *cmd, char *s, struct boot_opts *o)
{
	char *save, *part;

	o->net_ops = NULL;
	if (!strncmp(s, "vdpa:", 5)) {
		if (!s[5])
			return cmd_usage(cmd, "-n vdpa: without a device's name");
		o->no_net = false;
		o->net_ops = &vdpa_net_ops;
		o->net_name = s + 5;
		return 0;
	}
	part = strtok_r(s, ",", &save);
	if (part && !strcmp(part, "none") && !strtok_r(NULL, ",", &save)) {
		o->no_net = true;
		return 0;
	}
	if (!part || strcmp(part, "user"))
		return cmd_usage(cmd,
				 "-n %s: modes are 'none', 'vdpa:DEV' and "
				 "'user[,hostfwd=tcp:[ADDR]:PORT-[ADDR]:PORT]...'",
				 part ? part : "");
	o->no_net = false;
	while ((part = strtok_r(NULL, ",", &save))) {
		if (o->nr_hostfwds == VMM_MAX_HOSTFWDS)
			return cmd_usage(cmd, "more than %d port forwards", VMM_MAX_HOSTFWDS);
		if (strncmp(part, "hostfwd=", 8) ||
		    !parse_hostfwd(part + 8, &o->hostfwds[o->nr_hostfwds]))
			return cmd_usage(
				cmd,
				"-n user: wanted is hostfwd=tcp:[ADDR]:PORT-[ADDR]:PORT (or udp)");
		o->nr_hostfwds++;
	}
	return 0;
}

int boot_opts_parse(const struct cmd *cmd, int argc, char **argv, struct boot_opts *o)
{
	enum { OPT_CPU = 256, OPT_ENGINE, OPT_RUN, OPT_TIMEOUT, OPT_HOST_KVM, OPT_CONSOLE,
	       OPT_TRACE, OPT_TRACE_POINTS };
	static const struct option longs[] = {
		{ "kernel", required_argument, NULL, 'k' },
		{ "initrd", required_argument, NULL, 'i' },
		{ "params", required_argument, NULL, 'p' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "mem", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "network", required_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "cpu", required_argument, NULL, OPT_CPU },
		{ "engine", required_argument, NULL, OPT_ENGINE },
		{ "run", required_argument, NULL, OPT_RUN },
		{ "timeout", required_argument, NULL, OPT_TIMEOUT },
		{ "host-kvm", no_argument, NULL, OPT_HOST_KVM },
		{ "console", required_argument, NULL, OPT_CONSOLE },
		{ "trace", required_argument, NULL, OPT_TRACE },
		{ "trace-points", required_argument, NULL, OPT_TRACE_POINTS },
		{ 0 },
	};
	int c, ret = 0;
	enum x86_engine engine;
	u64 v;

	memset(o, 0, sizeof(*o));
	o->cpus = DEFAULT_CPUS;
	o->mem = DEFAULT_MEM;
	optind = 1;
	while (!ret && (c = getopt_long(argc, argv, "+:k:i:p:c:m:d:n:v", longs, NULL)) != -1) {
		switch (c) {
		case 'k':
			o->kernel = optarg;
			break;
		case 'i':
			o->initrd = optarg;
			break;
		case 'p':
			o->params = optarg;
			break;
		case 'c':
			if (!parse_num(optarg, VMM_MAX_CPUS, &v) || !v)
				return cmd_usage(cmd, "-c %s: possible are 1 to %d CPUs", optarg,
						 VMM_MAX_CPUS);
			o->cpus = (unsigned)v;
			break;
		case 'm':
			if (!parse_mem(optarg, &o->mem))
				return cmd_usage(cmd,
						 "-m %s: wanted is a size in MiB (or with K, M, "
						 "G), at least %llu MiB",
						 optarg, VMM_MIN_MEM >> 20);
			break;
		case 'd':
			ret = parse_disk(cmd, optarg, o);
			break;
		case 'n':
			ret = parse_net(cmd, optarg, o);
			break;
		case 'v':
			o->verbose = true;
			break;
		case OPT_CPU:
			o->cpu = optarg;
			break;
		case OPT_ENGINE:
			if (!x86_engine_find(optarg, &engine))
				return cmd_usage(cmd, "--engine %s: not interp, jit or lockstep", optarg);
			setenv("USERKVM_ENGINE", optarg, 1);
			break;
		case OPT_TRACE:
			o->trace = optarg;
			break;
		case OPT_TRACE_POINTS:
			o->trace_points = optarg;
			break;
		case OPT_RUN:
			o->run = optarg;
			break;
		case OPT_TIMEOUT:
			if (!parse_num(optarg, 1000000, &v) || !v)
				return cmd_usage(cmd, "--timeout %s: wanted is a number of seconds",
						 optarg);
			o->timeout = (unsigned)v;
			break;
		case OPT_HOST_KVM:
			o->host_kvm = true;
			break;
		case OPT_CONSOLE:
			if (strcmp(optarg, "serial") && strcmp(optarg, "virtio"))
				return cmd_usage(cmd,
						 "--console %s: there are 'serial' and 'virtio'",
						 optarg);
			o->virtio_console = !strcmp(optarg, "virtio");
			break;
		case ':':
			return cmd_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
		default:
			return cmd_usage(cmd, "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (!ret && optind < argc)
		return cmd_usage(cmd, "unexpected argument '%s'", argv[optind]);
	return ret;
}
