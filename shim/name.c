// SPDX-License-Identifier: MIT
/*
 * Calls that take a path: open, fopen, access and stat families. Only the exact
 * absolute paths of nodes are ours; a directory descriptor does not matter then.
 */
#include "shim/real.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vfs/vfs.h"

/* Cheap for nearly all paths: nodes are /proc/devices or below /dev and /sys. */
static bool ours(const char *path)
{
	shim_resolve();
	return path && path[0] == '/' && (path[1] == 'd' || path[1] == 's' || path[1] == 'p') && vfs_is_node(path);
}

/* ---- Opening ---- */

/* The optional argument, which must not be read if the caller gave none. */
#define MODE_ARG(flags) \
	({ \
		mode_t mode_ = 0; \
		if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
			va_list ap_; \
			va_start(ap_, flags); \
			mode_ = va_arg(ap_, mode_t); \
			va_end(ap_); \
		} \
		mode_; \
	})

#define OPEN(name) \
	int shim_##name(const char *path, int flags, ...) SHIM_EXPORT(name); \
	int shim_##name(const char *path, int flags, ...) \
	{ \
		mode_t mode = MODE_ARG(flags); \
		return ours(path) ? shim_ret(vfs_open(path, flags)) : shim_real_##name(path, flags, mode); \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
	int shim_##name(int dir, const char *path, int flags, ...) SHIM_EXPORT(name); \
	int shim_##name(int dir, const char *path, int flags, ...) \
	{ \
		mode_t mode = MODE_ARG(flags); \
		return ours(path) ? shim_ret(vfs_open(path, flags)) : \
				    shim_real_##name(dir, path, flags, mode); \
	}
OPENAT(openat)
OPENAT(openat64)

/* What the fortified headers call when there is no mode argument. */
#define OPEN_2(name) \
	int shim##name(const char *path, int flags) SHIM_EXPORT(name); \
	int shim##name(const char *path, int flags) \
	{ \
		return ours(path) ? shim_ret(vfs_open(path, flags)) : shim_real_##name(path, flags); \
	}
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name) \
	int shim##name(int dir, const char *path, int flags) SHIM_EXPORT(name); \
	int shim##name(int dir, const char *path, int flags) \
	{ \
		return ours(path) ? shim_ret(vfs_open(path, flags)) : shim_real_##name(dir, path, flags); \
	}
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

#define CREAT(name) \
	int shim_##name(const char *path, mode_t mode) SHIM_EXPORT(name); \
	int shim_##name(const char *path, mode_t mode) \
	{ \
		return ours(path) ? shim_ret(vfs_open(path, O_CREAT | O_WRONLY | O_TRUNC)) : \
				    shim_real_##name(path, mode); \
	}
CREAT(creat)
CREAT(creat64)

static FILE *open_stream(const char *path, const char *mode)
{
	int flags = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
	int fd = shim_ret(vfs_open(path, flags | (strchr(mode, 'e') ? O_CLOEXEC : 0)));
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (fd >= 0 && !f)
		vfs_close(fd);
	return f;
}

#define FOPEN(name) \
	FILE *shim_##name(const char *path, const char *mode) SHIM_EXPORT(name); \
	FILE *shim_##name(const char *path, const char *mode) \
	{ \
		return ours(path) ? open_stream(path, mode) : shim_real_##name(path, mode); \
	}
FOPEN(fopen)
FOPEN(fopen64)

/* ---- Looking ---- */

#define ACCESS(name) \
	int shim_##name(const char *path, int mode) SHIM_EXPORT(name); \
	int shim_##name(const char *path, int mode) \
	{ \
		return ours(path) ? shim_ret(vfs_access(path, mode)) : shim_real_##name(path, mode); \
	}
ACCESS(access)
ACCESS(eaccess)
ACCESS(euidaccess)

int shim_faccessat(int dir, const char *path, int mode, int flags) SHIM_EXPORT(faccessat);
int shim_faccessat(int dir, const char *path, int mode, int flags)
{
	return ours(path) ? shim_ret(vfs_access(path, mode)) : shim_real_faccessat(dir, path, mode, flags);
}

/* struct stat and struct stat64 are the same on x86-64. */
#define STAT(name) \
	int shim_##name(const char *path, struct stat *st) SHIM_EXPORT(name); \
	int shim_##name(const char *path, struct stat *st) \
	{ \
		return ours(path) ? shim_ret(vfs_stat(path, st)) : shim_real_##name(path, st); \
	}
STAT(stat)
STAT(stat64)
STAT(lstat)
STAT(lstat64)

#define FSTATAT(name) \
	int shim_##name(int dir, const char *path, struct stat *st, int flags) SHIM_EXPORT(name); \
	int shim_##name(int dir, const char *path, struct stat *st, int flags) \
	{ \
		return ours(path) ? shim_ret(vfs_stat(path, st)) : shim_real_##name(dir, path, st, flags); \
	}
FSTATAT(fstatat)
FSTATAT(fstatat64)

/* Names that programs built before glibc 2.33 use; the first argument is a version. */
#define XSTAT(name) \
	int shim##name(int ver, const char *path, struct stat *st) SHIM_EXPORT(name); \
	int shim##name(int ver, const char *path, struct stat *st) \
	{ \
		return ours(path) ? shim_ret(vfs_stat(path, st)) : shim_real_##name(ver, path, st); \
	}
XSTAT(__xstat)
XSTAT(__xstat64)
XSTAT(__lxstat)
XSTAT(__lxstat64)

#define FXSTATAT(name) \
	int shim##name(int ver, int dir, const char *path, struct stat *st, int flags) SHIM_EXPORT(name); \
	int shim##name(int ver, int dir, const char *path, struct stat *st, int flags) \
	{ \
		return ours(path) ? shim_ret(vfs_stat(path, st)) : \
				    shim_real_##name(ver, dir, path, st, flags); \
	}
FXSTATAT(__fxstatat)
FXSTATAT(__fxstatat64)

int shim_statx(int dir, const char *path, int flags, unsigned mask, struct statx *sx)
	SHIM_EXPORT(statx);
int shim_statx(int dir, const char *path, int flags, unsigned mask, struct statx *sx)
{
	struct stat st;

	if (!ours(path))
		return shim_real_statx(dir, path, flags, mask, sx);
	if (vfs_stat(path, &st) < 0)
		return shim_ret(-ENOENT);
	*sx = (struct statx){
		.stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_SIZE,
		.stx_blksize = (u32)st.st_blksize,
		.stx_nlink = (u32)st.st_nlink,
		.stx_mode = (u16)st.st_mode,
		.stx_size = (u64)st.st_size,
		.stx_rdev_major = major(st.st_rdev),
		.stx_rdev_minor = minor(st.st_rdev),
	};
	return 0;
}
