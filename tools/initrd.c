// SPDX-License-Identifier: MIT
/* The default root archive. */
#include "tools/initrd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/cpio.h"
#include "tools/guest_files.h"
#include "tools/modinfo.h"

/* The two scripts, as bytes made by the build. */
static const u8 guest_init[] = {
#include "tools/guest_init.inc.h"
};
static const u8 guest_dhcp[] = {
#include "tools/guest_dhcp.inc.h"
};

/* Dependencies follow from the modules themselves. */
static const char *const wanted_modules[] = {
	"virtio_pci",
	"virtio_mmio",
	"virtio_blk",
	"virtio_net",
	"virtio_console",
	"virtio_rng",
	"pvpanic_pci",
	"9pnet_virtio",		/* Debian's general kernel has them, its cloud kernel does not */
	"9p",
};

static const char *const dirs[] = {
	"bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin",
	"userkvm",
};

static int add_modules(struct cpio *c, const char *dir)
{
	struct modset set = { 0 };
	char list[4096];
	size_t n = 0;
	int ret = 0;

	list[0] = 0;
	if (dir)
		ret = modset_scan(&set, dir);
	if (ret) {
		log_error("%s: %s", dir, strerror(-ret));
		return ret;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(wanted_modules) && dir; i++) {
		if (!modset_has(&set, wanted_modules[i]))
			continue;
		ret = modset_resolve(&set, wanted_modules[i]);
		if (ret)
			goto out;
	}
	for (size_t i = 0; i < set.nr_order; i++) {
		const struct module *m = set.order[i];
		char path[128];

		if ((size_t)snprintf(path, sizeof(path), "userkvm/%s.ko", m->name) >=
			    sizeof(path) ||
		    n + strlen(path) + 3 > sizeof(list)) {
			log_error("%s: too many or too long module names", dir);
			ret = -ENAMETOOLONG;
			goto out;
		}
		cpio_file(c, path, 0644, m->data, m->len);
		n += (size_t)snprintf(list + n, sizeof(list) - n, "/%s\n", path);
	}
	cpio_file(c, "userkvm/modules", 0644, list, n);
out:
	modset_free(&set);
	return ret;
}

int initrd_build(const struct initrd_params *p, struct initrd *out)
{
	struct cpio c = { 0 };
	u8 *busybox;
	size_t len;
	int ret;

	ret = file_read(p->busybox, &busybox, &len);
	if (ret) {
		log_error("%s: %s", p->busybox, strerror(-ret));
		return ret;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++)
		cpio_dir(&c, dirs[i], 0755);
	/* The kernel opens it before /init runs. */
	cpio_chardev(&c, "dev/console", 0600, 5, 1);
	cpio_file(&c, "bin/busybox", 0755, busybox, len);
	free(busybox);
	cpio_link(&c, "bin/sh", "busybox");
	cpio_link(&c, "usr/bin/env", "../../bin/busybox");
	cpio_file(&c, "etc/passwd", 0644, "root::0:0:root:/root:/bin/sh\n", 29);
	cpio_file(&c, "etc/group", 0644, "root:x:0:\n", 10);
	cpio_file(&c, "init", 0755, guest_init, sizeof(guest_init));
	cpio_file(&c, "userkvm/dhcp", 0755, guest_dhcp, sizeof(guest_dhcp));
	if (p->command)
		cpio_file(&c, "userkvm/run", 0644, p->command, strlen(p->command));
	ret = add_modules(&c, p->modules);
	if (!ret)
		ret = cpio_end(&c);
	if (ret) {
		free(c.data);
		return ret;
	}
	out->data = c.data;
	out->len = c.len;
	return 0;
}

void initrd_free(struct initrd *i)
{
	free(i->data);
	i->data = NULL;
	i->len = 0;
}
