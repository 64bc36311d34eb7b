// SPDX-License-Identifier: MIT
/* Calls that take a descriptor: those of ours go to vfs/, the rest to libc. */
#include "shim/real.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#include "vfs/vfs.h"

/* The one optional argument. Where the caller gave none it is some register, and nobody looks. */
#define ARG(last) \
	({ \
		va_list ap_; \
		void *arg_; \
		va_start(ap_, last); \
		arg_ = va_arg(ap_, void *); \
		va_end(ap_); \
		arg_; \
	})

int shim_ioctl(int fd, unsigned long req, ...) SHIM_EXPORT(ioctl);
int shim_ioctl(int fd, unsigned long req, ...)
{
	void *arg = ARG(req);
	int type, state, ret;

	shim_resolve();
	if (!vfs_is_file(fd) && !vfs_adopt(fd, req))
		return shim_real_ioctl(fd, req, arg);
	/*
	 * A thread that is cancelled asynchronously would leave locks of ours behind: as
	 * in a system call, cancellation waits until the call returns. By way of the
	 * deferred kind, since glibc 2.36 forgets the thread's result when enabling or
	 * turning to the asynchronous one finds a request.
	 */
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	ret = shim_ret(vfs_ioctl(fd, req, (unsigned long)arg));
	pthread_setcancelstate(state, NULL);
	if (unlikely(type == PTHREAD_CANCEL_ASYNCHRONOUS)) {
		pthread_testcancel();
		pthread_setcanceltype(type, NULL);
	}
	return ret;
}

int shim_close(int fd) SHIM_EXPORT(close);
int shim_close(int fd)
{
	shim_resolve();
	/* A cancellation point, which vfs_close() is not: only what matters goes there. */
	return vfs_is_file(fd) || vfs_is_watched(fd) ? shim_ret(vfs_close(fd)) : shim_real_close(fd);
}

int shim_close_range(unsigned first, unsigned last, int flags) SHIM_EXPORT(close_range);
int shim_close_range(unsigned first, unsigned last, int flags)
{
	shim_resolve();
	return shim_ret(vfs_close_range(first, last, flags));
}

void shim_closefrom(int first) SHIM_EXPORT(closefrom);
void shim_closefrom(int first)
{
	shim_resolve();
	if (vfs_close_range((unsigned)(first < 0 ? 0 : first), UINT_MAX, 0) < 0)
		shim_real_closefrom(first);
}

int shim_dup(int fd) SHIM_EXPORT(dup);
int shim_dup(int fd)
{
	shim_resolve();
	return vfs_is_file(fd) ? shim_ret(vfs_dup(fd, 0, false)) : shim_real_dup(fd);
}

int shim_dup2(int fd, int to) SHIM_EXPORT(dup2);
int shim_dup2(int fd, int to)
{
	shim_resolve();
	return vfs_is_file(fd) || vfs_is_file(to) || vfs_is_watched(to) ?
		       shim_ret(vfs_dup_to(fd, to, 0)) : shim_real_dup2(fd, to);
}

int shim_dup3(int fd, int to, int flags) SHIM_EXPORT(dup3);
int shim_dup3(int fd, int to, int flags)
{
	shim_resolve();
	return fd != to && (vfs_is_file(fd) || vfs_is_file(to) || vfs_is_watched(to)) ?
		       shim_ret(vfs_dup_to(fd, to, flags)) : shim_real_dup3(fd, to, flags);
}

#define FCNTL(name) \
	int shim_##name(int fd, int cmd, ...) SHIM_EXPORT(name); \
	int shim_##name(int fd, int cmd, ...) \
	{ \
		void *arg = ARG(cmd); \
		shim_resolve(); \
		if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && vfs_is_file(fd)) \
			return shim_ret(vfs_dup(fd, (int)(long)arg, cmd == F_DUPFD_CLOEXEC)); \
		return shim_real_##name(fd, cmd, arg); \
	}
FCNTL(fcntl)
FCNTL(fcntl64)
