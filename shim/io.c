// SPDX-License-Identifier: MIT
/*
 * Reading and writing. Nearly every call is about a descriptor that is not ours,
 * which costs one look into a table; it stays the cancellation point that it was.
 */
#include "shim/real.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/vfs.h"

ssize_t shim_read(int fd, void *buf, size_t len) SHIM_EXPORT(read);
ssize_t shim_read(int fd, void *buf, size_t len)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret_size(vfs_read(fd, buf, len)) : shim_real_read(fd, buf, len);
}

/* What the fortified header calls where it knows the buffer's size. */
ssize_t shim___read_chk(int fd, void *buf, size_t len, size_t room) SHIM_EXPORT(__read_chk);
ssize_t shim___read_chk(int fd, void *buf, size_t len, size_t room)
{
	shim_resolve();
	return vfs_is_file(fd) && len <= room ? shim_ret_size(vfs_read(fd, buf, len)) :
						shim_real___read_chk(fd, buf, len, room);
}

ssize_t shim_write(int fd, const void *buf, size_t len) SHIM_EXPORT(write);
ssize_t shim_write(int fd, const void *buf, size_t len)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret_size(vfs_write(fd, buf, len)) : shim_real_write(fd, buf, len);
}

/* Our files take whole messages: pieces go through one buffer. */
#define MESSAGE_MAX 65536

static ssize_t pieces(int fd, const struct iovec *iov, int n, bool write)
{
	size_t len = 0, at = 0;
	ssize_t ret;
	char *buf;

	if (n < 0 || n > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len > MESSAGE_MAX - len)
			return -EINVAL;
		len += iov[i].iov_len;
	}
	buf = malloc(len + 1);
	if (!buf)
		return -ENOMEM;
	for (int i = 0; write && i < n; at += iov[i++].iov_len)
		memcpy(buf + at, iov[i].iov_base, iov[i].iov_len);
	ret = write ? vfs_write(fd, buf, len) : vfs_read(fd, buf, len);
	for (int i = 0; !write && ret > 0 && at < (size_t)ret; i++) {
		size_t part = min(iov[i].iov_len, (size_t)ret - at);

		memcpy(iov[i].iov_base, buf + at, part);
		at += part;
	}
	free(buf);
	return ret;
}

ssize_t shim_readv(int fd, const struct iovec *iov, int n) SHIM_EXPORT(readv);
ssize_t shim_readv(int fd, const struct iovec *iov, int n)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret_size(pieces(fd, iov, n, false)) : shim_real_readv(fd, iov, n);
}

ssize_t shim_writev(int fd, const struct iovec *iov, int n) SHIM_EXPORT(writev);
ssize_t shim_writev(int fd, const struct iovec *iov, int n)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret_size(pieces(fd, iov, n, true)) : shim_real_writev(fd, iov, n);
}

ssize_t shim_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t tolen)
	SHIM_EXPORT(sendto);
ssize_t shim_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t tolen)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr m = { .msg_name = (void *)(uintptr_t)to, .msg_namelen = tolen, .msg_iov = &iov,
			    .msg_iovlen = 1 };

	shim_resolve();
	return vfs_is_file(fd) || (to && vfs_adopt_message(fd, &m)) ?
		       shim_ret_size(vfs_sendmsg(fd, &m, flags)) :
		       shim_real_sendto(fd, buf, len, flags, to, tolen);
}

ssize_t shim_sendmsg(int fd, const struct msghdr *m, int flags) SHIM_EXPORT(sendmsg);
ssize_t shim_sendmsg(int fd, const struct msghdr *m, int flags)
{
	shim_resolve();
	return vfs_is_file(fd) || (m->msg_name && vfs_adopt_message(fd, m)) ?
		       shim_ret_size(vfs_sendmsg(fd, m, flags)) :
		       shim_real_sendmsg(fd, m, flags);
}

ssize_t shim_recvmsg(int fd, struct msghdr *m, int flags) SHIM_EXPORT(recvmsg);
ssize_t shim_recvmsg(int fd, struct msghdr *m, int flags)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret_size(vfs_recvmsg(fd, m, flags)) : shim_real_recvmsg(fd, m, flags);
}
