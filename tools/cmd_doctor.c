// SPDX-License-Identifier: MIT
/* `userkvm doctor`: what there is, what userkvm will use, and why. */
#include <cpuid.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/types.h"
#include "silicon/x86.h"
#include "tools/cmd.h"
#include "tools/guest_files.h"
#include "tools/kvm_node.h"

static void __printf(2, 3) row(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("%-14s ", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static void show_processor(void)
{
	char brand[49] = "";
	u32 r[12];

	if (__get_cpuid_max(0x80000000, NULL) >= 0x80000004) {
		for (u32 i = 0; i < 3; i++)
			__get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2],
				    &r[4 * i + 3]);
		memcpy(brand, r, 48);
	}
	row("processor", "%s, %ld online", brand[0] ? brand + strspn(brand, " ") : "unnamed x86-64",
	    sysconf(_SC_NPROCESSORS_ONLN));
}

static void show_virtualization(void)
{
	u32 a, b, c, d;
	bool vmx = false, svm = false;

	if (__get_cpuid(1, &a, &b, &c, &d))
		vmx = c & (1u << 5);
	if (__get_cpuid(0x80000001, &a, &b, &c, &d))
		svm = c & (1u << 2);
	row("virtualization", "%s", vmx ? "VT-x" : svm ? "SVM" : "none in the processor");
}

/* Looks at the node without opening it: opening may load modules or be logged. */
static bool show_kvm(void)
{
	struct stat st;

	if (stat("/dev/kvm", &st)) {
		row("/dev/kvm", "no (%s)", strerror(errno));
		return false;
	}
	if (!S_ISCHR(st.st_mode)) {
		row("/dev/kvm", "no (not a device)");
		return false;
	}
	if (access("/dev/kvm", R_OK | W_OK)) {
		row("/dev/kvm", "yes, but not for this user (%s)", strerror(errno));
		return false;
	}
	row("/dev/kvm", "yes, device %u:%u", major(st.st_rdev), minor(st.st_rdev));
	return true;
}

static void show_guest(void)
{
	struct guest_files g;
	int ret = guest_files_find(&g, NULL);
	char *version = NULL;
	u8 *data = NULL;
	size_t len = 0;

	if (ret) {
		row("default guest", "none in %s: run scripts/fetch-guest",
		    g.dir ? g.dir : "the cache");
	} else {
		if (asprintf(&version, "%s/VERSION", g.dir) < 0)
			version = NULL;
		if (version && !file_read(version, &data, &len) && len && data[len - 1] == '\n')
			len--;
		row("default guest", "%.*s in %s", (int)len, data ? (char *)data : "", g.dir);
	}
	free(data);
	free(version);
	guest_files_free(&g);
}

static int cmd_doctor_run(const struct cmd *cmd, int argc, char **argv)
{
	const char *lacks = x86_host_lacks();
	struct utsname u;
	bool host_kvm;

	if (argc > 1)
		return cmd_usage(cmd, "unexpected argument '%s'", argv[1]);
	row("userkvm", "%s", USERKVM_VERSION);
	show_processor();
	show_virtualization();
	if (!uname(&u))
		row("kernel", "%s %s", u.sysname, u.release);
	host_kvm = show_kvm();
	printf("%-14s", "models");
	for (unsigned i = 0; x86_model_name(i); i++)
		if (kvm_node_can_use(x86_model_name(i)))
			printf(" %s", x86_model_name(i));
	printf("\n");
	row("engine", "jit: translated code; --engine interp for the interpreter, lockstep to compare them");
	show_guest();
	if (lacks) {
		row("will use", "%s: the processor lacks %s, and simulated ones need x86-64-v3",
		    host_kvm ? "/dev/kvm, with --host-kvm" : "nothing", lacks);
		return 1;
	}
	row("will use", "simulated processors, model %s: %s", kvm_node_default_model(),
	    host_kvm ? "they are the default; --host-kvm uses /dev/kvm instead" :
		       "they need no /dev/kvm, no privileges and no kernel module");
	return 0;
}

const struct cmd cmd_doctor = {
	.name = "doctor",
	.summary = "Say what was found on this host and what will be used",
	.help =
"usage: userkvm doctor\n"
"\n"
"Say what was found (processor, kernel, /dev/kvm, default guest), what userkvm\n"
"will use, and why. Exit status: 0, or 1 where simulated processors cannot run.\n",
	.run = cmd_doctor_run,
};
