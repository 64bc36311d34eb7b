/* SPDX-License-Identifier: MIT */
/* Options of `userkvm boot`: parsing only. */
#ifndef TOOLS_BOOT_OPTS_H
#define TOOLS_BOOT_OPTS_H

#include "tools/cmd.h"
#include "vmm/vmm.h"

struct boot_opts {
	const char *kernel, *initrd, *params, *run, *cpu, *trace, *trace_points;
	unsigned cpus, timeout;
	u64 mem;
	struct vmm_disk disks[VMM_MAX_DISKS];
	unsigned nr_disks;
	bool no_net, virtio_console, host_kvm, verbose;
	const struct vmm_net_ops *net_ops;	/* NULL: the user-mode network */
	const char *net_name;
	struct vmm_hostfwd hostfwds[VMM_MAX_HOSTFWDS];
	unsigned nr_hostfwds;
};

/*
 * Returns 0, or EXIT_USAGE after printing one line that names what is wrong. Changes @argv's
 * strings.
 */
int boot_opts_parse(const struct cmd *cmd, int argc, char **argv, struct boot_opts *o);

#endif
