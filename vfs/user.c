// SPDX-License-Identifier: MIT
/*
 * A client's memory. The kernel does the copying, so that an address that is not
 * mapped ends in EFAULT; where a sandbox forbids that system call, plain copies
 * have to do.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vfs/user.h"

static _Atomic bool forbidden;

static int copy(void *ours, unsigned long user, size_t len, bool write)
{
	struct iovec local = { ours, len }, remote = { (void *)user, len };
	ssize_t n;

	if (!atomic_load_explicit(&forbidden, memory_order_relaxed)) {
		n = write ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0) :
			    process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
		if (n == (ssize_t)len)
			return 0;
		if (n >= 0 || (errno != EPERM && errno != ENOSYS))
			return -EFAULT;
		atomic_store(&forbidden, true);
	}
	if (!user)
		return -EFAULT;
	if (write)
		memcpy((void *)user, ours, len);
	else
		memcpy(ours, (void *)user, len);
	return 0;
}

int vfs_user_read(void *dst, unsigned long user, size_t len)
{
	return len ? copy(dst, user, len, false) : 0;
}

int vfs_user_write(unsigned long user, const void *src, size_t len)
{
	return len ? copy((void *)(uintptr_t)src, user, len, true) : 0;
}
