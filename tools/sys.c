// SPDX-License-Identifier: MIT
/* struct vmm_sys over vfs/ and over libc. */
#include "tools/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfs/vfs.h"

static int own_open(const char *path, int flags)
{
	return vfs_is_node(path) ? vfs_open(path, flags) : -ENODEV;
}

const struct vmm_sys sys_userkvm = {
	.open = own_open,
	.ioctl = vfs_ioctl,
	.mmap = vfs_mmap,
	.munmap = vfs_munmap,
	.close = vfs_close,
	.sigaction = vfs_sigaction,
};

static int host_open(const char *path, int flags)
{
	int ret = open(path, flags);

	return ret < 0 ? -errno : ret;
}

static long host_ioctl(int fd, unsigned long req, unsigned long arg)
{
	int ret = ioctl(fd, req, arg);

	return ret < 0 ? -errno : ret;
}

static int host_munmap(void *addr, size_t len)
{
	return munmap(addr, len) < 0 ? -errno : 0;
}

static int host_close(int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static int host_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old) < 0 ? -errno : 0;
}

const struct vmm_sys sys_host = {
	.open = host_open,
	.ioctl = host_ioctl,
	.mmap = mmap,
	.munmap = host_munmap,
	.close = host_close,
	.sigaction = host_sigaction,
};
