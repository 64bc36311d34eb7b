// SPDX-License-Identifier: MIT
/* `userkvm boot`: a kernel in a machine, to a shell or for one command. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "tools/boot_opts.h"
#include "tools/cmd.h"
#include "tools/guest_files.h"
#include "tools/initrd.h"
#include "tools/kvm_node.h"
#include "tools/sys.h"
#include "vmm/load.h"
#include "vmm/vmm.h"

struct boot {
	struct boot_opts o;
	struct guest_files files;
	bool fetched;
	u8 *kernel, *initrd;
	size_t kernel_len, initrd_len;
	const char *kernel_name, *initrd_name;
	char *cmdline;
};

static int fail_file(const char *what, const char *path, int ret)
{
	fprintf(stderr, "userkvm boot: %s %s: %s\n", what, path, strerror(-ret));
	return EXIT_ERROR;
}

static int need_fetched(const struct boot *b, const char *why)
{
	if (b->fetched)
		return 0;
	fprintf(stderr,
		"userkvm boot: %s, and no default guest is in %s: run scripts/fetch-guest\n", why,
		b->files.dir ? b->files.dir : "the cache");
	return EXIT_ERROR;
}

static int load_kernel_file(struct boot *b)
{
	int ret;

	if (!b->o.kernel && need_fetched(b, "no kernel given (-k)"))
		return EXIT_ERROR;
	b->kernel_name = b->o.kernel ? b->o.kernel : b->files.kernel;
	ret = file_read(b->kernel_name, &b->kernel, &b->kernel_len);
	return ret ? fail_file("kernel", b->kernel_name, ret) : 0;
}

/* The fetched modules fit the fetched kernel and any other file of the same version. */
static bool modules_fit(const struct boot *b)
{
	u8 *fetched = NULL;
	size_t len, n1, n2;
	const char *v1, *v2;
	bool same;

	if (!b->o.kernel)
		return true;
	v1 = load_bzimage_version(b->kernel, b->kernel_len, &n1);
	if (!v1 || file_read(b->files.kernel, &fetched, &len))
		return false;
	v2 = load_bzimage_version(fetched, len, &n2);
	same = v2 && n1 == n2 && !memcmp(v1, v2, n1);
	free(fetched);
	return same;
}

static int load_initrd_file(struct boot *b)
{
	struct initrd out;
	int ret;

	if (b->o.initrd && !strcmp(b->o.initrd, "none"))
		return 0;
	if (b->o.initrd) {
		b->initrd_name = b->o.initrd;
		ret = file_read(b->o.initrd, &b->initrd, &b->initrd_len);
		if (ret)
			return fail_file("initrd", b->o.initrd, ret);
		if (b->initrd_len)
			return 0;
		fprintf(stderr, "userkvm boot: initrd %s is empty\n", b->o.initrd);
		return EXIT_ERROR;
	}
	if (need_fetched(b, "no initrd given (-i)"))
		return EXIT_ERROR;
	ret = initrd_build(&(struct initrd_params){
		.busybox = b->files.busybox,
		.modules = modules_fit(b) ? b->files.modules : NULL,
		.command = b->o.run,
	}, &out);
	if (ret)
		return EXIT_ERROR;
	b->initrd_name = "(default)";
	b->initrd = out.data;
	b->initrd_len = out.len;
	return 0;
}

static int make_cmdline(struct boot *b)
{
	/*
	 * A panic resets at once, which ends the machine. The self-tests of the kernel's ciphers
	 * are more than half of the instructions of a boot. The caller's words come last and win.
	 */
	int n = asprintf(&b->cmdline, "console=%s panic=-1 cryptomgr.notests%s%s%s",
			 b->o.virtio_console ? "ttyS0 console=hvc0" : "ttyS0",
			 b->o.run && !b->o.verbose ? " quiet" : "", b->o.params ? " " : "",
			 b->o.params ? b->o.params : "");

	if (n >= 0)
		return 0;
	b->cmdline = NULL;
	fprintf(stderr, "userkvm boot: no memory\n");
	return EXIT_ERROR;
}

/* Exit code, and one line for what is no ordinary end. */
static int report(const struct boot *b, const struct vmm_result *r)
{
	switch (r->end) {
	case VMM_END_POWEROFF:
	case VMM_END_REBOOT:
		if (!b->o.run)
			return 0;
		fprintf(stderr, "userkvm boot: the guest ended (%s) before the command did\n",
			r->text);
		return EXIT_ERROR;
	case VMM_END_EXIT:
		return r->status;
	case VMM_END_QUIT:
		fprintf(stderr, "\nuserkvm boot: %s\n", r->text);
		return 0;
	case VMM_END_SIGNAL:
		fprintf(stderr, "userkvm boot: ended by signal: %s\n", r->text);
		return 128 + r->status;
	case VMM_END_TIMEOUT:
		fprintf(stderr, "userkvm boot: timeout: %s\n", r->text);
		return EXIT_TIMEOUT;
	case VMM_END_PANIC:
		fprintf(stderr, "userkvm boot: guest kernel panic: %s\n", r->text);
		return EXIT_ERROR;
	case VMM_END_HALTED:
		fprintf(stderr, "userkvm boot: the guest is dead: %s\n", r->text);
		return EXIT_ERROR;
	case VMM_END_TRIPLE_FAULT:
	case VMM_END_ERROR:
		fprintf(stderr, "userkvm boot: %s\n", r->text);
		return EXIT_ERROR;
	}
	BUG();
}

/* The images are a large part of our memory: a reboot reads them again. */
static void images_loaded(void *ctx)
{
	struct boot *b = ctx;

	free(b->kernel);
	free(b->initrd);
	b->kernel = b->initrd = NULL;
}

static int load_images(struct boot *b)
{
	int ret = load_kernel_file(b);

	return ret ? ret : load_initrd_file(b);
}

static int boot_machine(struct boot *b)
{
	struct vmm_config cfg = {
		.sys = b->o.host_kvm ? &sys_host : &sys_userkvm,
		.kvm_path = "/dev/kvm",
		.loaded = images_loaded,
		.loaded_ctx = b,
		.cmdline = b->cmdline,
		.cpus = b->o.cpus,
		.mem = b->o.mem,
		.nr_disks = b->o.nr_disks,
		.net = !b->o.no_net,
		.net_ops = b->o.net_ops,
		.net_name = b->o.net_name,
		.nr_hostfwds = b->o.nr_hostfwds,
		.virtio_console = b->o.virtio_console,
		.in_fd = b->o.run ? -1 : STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.command = b->o.run != NULL,
		.log_fd = b->o.verbose ? STDERR_FILENO : -1,
		.timeout = b->o.timeout,
	};
	struct vmm_result r;
	int ret;

	memcpy(cfg.disks, b->o.disks, sizeof(cfg.disks));
	memcpy(cfg.hostfwds, b->o.hostfwds, sizeof(cfg.hostfwds));
	do {
		ret = load_images(b);
		if (ret)
			return ret;
		cfg.kernel = (struct vmm_blob){ b->kernel_name, b->kernel, b->kernel_len };
		cfg.initrd = (struct vmm_blob){ b->initrd_name, b->initrd, b->initrd_len };
		vmm_run(&cfg, &r);
		ret = report(b, &r);
		/* Nothing may be taken apart under a thread that still runs. */
		if (r.stuck)
			_exit(ret ? ret : EXIT_ERROR);
	} while (r.end == VMM_END_REBOOT && !b->o.run);
	return ret;
}

static void trace_line(void *ctx, enum trace_point p, const char *line)
{
	fprintf(ctx, "%s\n", line);
}

/* @file is open until the end: the last lines come from threads that are being stopped. */
static int trace_to(const char *path, const char *points)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return fail_file("trace", path, -errno);
	trace_set_sink(trace_line, file);
	if (trace_enable(points ? points : "kvm")) {
		fprintf(stderr, "userkvm boot: --trace-points %s: unknown name; known are:", points);
		for (unsigned p = 0; p < TRACE_NR_POINTS; p++)
			fprintf(stderr, " %s", trace_name((enum trace_point)p));
		fputc('\n', stderr);
		return EXIT_USAGE;
	}
	return 0;
}

static int cmd_boot_run(const struct cmd *cmd, int argc, char **argv)
{
	struct boot b = { 0 };
	int ret = boot_opts_parse(cmd, argc, argv, &b.o);

	if (ret)
		return ret;
	if (b.o.run && b.o.initrd)
		return cmd_usage(cmd, "--run needs the default initrd, so it does not go with -i");
	if (b.o.verbose)
		log_set_level(LOG_INFO);
	if (b.o.trace) {
		ret = trace_to(b.o.trace, b.o.trace_points);
		if (ret)
			return ret;
	}
	if (!b.o.host_kvm) {
		ret = kvm_node_register(b.o.cpu);
		if (ret)
			return ret;
	}
	b.fetched = guest_files_find(&b.files, NULL) == 0;
	ret = make_cmdline(&b);
	if (!ret)
		ret = boot_machine(&b);
	free(b.kernel);
	free(b.initrd);
	free(b.cmdline);
	guest_files_free(&b.files);
	return ret;
}

const struct cmd cmd_boot = {
	.name = "boot",
	.summary = "Boot a kernel in a virtual machine",
	.help =
"usage: userkvm boot [OPTION...]\n"
"\n"
"Boot a Linux kernel on simulated processors, to a shell on this console or for\n"
"one command. Without -k and -i: Debian's cloud kernel and a BusyBox root, as\n"
"scripts/fetch-guest left them. Ctrl-A x leaves the console, Ctrl-A h helps.\n"
"\n"
"  -k, --kernel FILE    bzImage, or ELF kernel (PVH note, or Linux protocol)\n"
"  -i, --initrd FILE    initial RAM disk; 'none' for none\n"
"  -p, --params TEXT    more kernel parameters\n"
"  -c, --cpus N         processors (1)\n"
"  -m, --mem SIZE       memory in MiB, or with suffix K, M, G (512)\n"
"  -d, --disk FILE[,ro] raw disk image, vda onwards; may be repeated. vdpa:NAME[,ro]: a vDPA\n"
"                       block device, see 'userkvm help vdpa'\n"
"  -n, --network MODE   none, vdpa:DEV (a vDPA network device of this user), or\n"
"                       user[,hostfwd=tcp:[ADDR]:PORT-[ADDR]:PORT]... (user)\n"
"      --console KIND   serial or virtio (serial)\n"
"      --cpu MODEL      processor model, see 'userkvm doctor'\n"
"      --engine NAME    how instructions are executed: interp, jit, or lockstep, which\n"
"                       compares the two and exits with 125 where they differ (with -c 1)\n"
"      --run CMD        run CMD (a line of shell), print its output, power off\n"
"      --timeout S      end the machine after S seconds\n"
"      --host-kvm       use the host's own /dev/kvm\n"
"      --trace FILE     write KVM's trace points to FILE, one line each\n"
"      --trace-points L only those of the list L, such as kvm_exit,kvm_pio (all)\n"
"  -v, --verbose        with --run, show the kernel's messages on standard error\n"
"\n"
"Exit status: 0 after power-off; with --run that of CMD; 2 bad usage; 124 timeout;\n"
"125 userkvm failed, or the guest's kernel did; 128 + N ended by signal N.\n",
	.run = cmd_boot_run,
};
