/* SPDX-License-Identifier: MIT */
/*
 * User-space file objects and device nodes.
 *
 * A node is a path such as "/dev/kvm" with an open function. A file is what a
 * descriptor refers to; every file is backed by a real descriptor (memfd,
 * eventfd or socketpair), so that poll, dup, fork and close behave. How calls
 * arrive (in process, preload object, trap handler) is not known here.
 *
 * Descriptor arguments are the real numbers. Calls on descriptors that are no
 * vfs files return -ENOTTY from vfs_ioctl() and are passed on to the kernel by
 * the others. All functions are thread-safe; none may be called from a signal
 * handler unless it says so. Results are values or negative errno.
 */
#ifndef VFS_VFS_H
#define VFS_VFS_H

#include <signal.h>
#include <sys/types.h>

#include "base/types.h"

struct vfs_file;

struct vfs_file_ops {
	/* Request already truncated to 32 bits. Returns a value >= 0 or -errno. */
	long (*ioctl)(struct vfs_file *f, u32 req, unsigned long arg);
	/*
	 * Optional: veto or adjust a mapping. Return 0 to map the backing
	 * descriptor with these arguments, or -errno.
	 */
	int (*mmap)(struct vfs_file *f, size_t len, int prot, int flags, off_t off);
	/* Optional: the mapping is in place at @addr; parts may be replaced with MAP_FIXED. 0 or -errno. */
	int (*mapped)(struct vfs_file *f, void *addr, size_t len, int prot, int flags, off_t off);
	/* The last descriptor is closed; no other call is running. */
	void (*release)(struct vfs_file *f);
};

struct vfs_file {
	const struct vfs_file_ops *ops;
	void *priv;
	/* vfs/ only */
	_Atomic int refs;
	int fd;
	pid_t owner;		/* ioctls of another process get -EIO, as after fork */
};

/* Open function of a node: fill *@f's ops and priv. Returns a backing descriptor or -errno. */
struct vfs_node {
	const char *path;
	int (*open)(const struct vfs_node *node, struct vfs_file *f, int flags);
};

/* @node must live as long as the process. -EEXIST if the path is taken. */
int vfs_register_node(const struct vfs_node *node);
/* True if @path names a node (exactly). */
bool vfs_is_node(const char *path);

/*
 * Make a file of its own for @backing (a descriptor that becomes the file's;
 * FD_CLOEXEC is set). Returns @backing, or -errno with @backing closed.
 */
int vfs_file_new(const struct vfs_file_ops *ops, void *priv, int backing);

/* Take and give back a reference; NULL if @fd is not a vfs file with @ops (NULL = any). */
struct vfs_file *vfs_file_get(int fd, const struct vfs_file_ops *ops);
void vfs_file_put(struct vfs_file *f);

/* The calls of a client. */
int vfs_open(const char *path, int flags);
long vfs_ioctl(int fd, unsigned long req, unsigned long arg);
void *vfs_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);	/* MAP_FAILED, errno */
int vfs_munmap(void *addr, size_t len);
int vfs_close(int fd);

/*
 * Address-space notifier: called before a client's mapping of [start, end) is
 * changed or removed (munmap, mremap, mprotect, MAP_FIXED). Registering is rare;
 * callbacks run on the calling thread and may block.
 */
struct vfs_mm_notifier {
	void (*invalidate)(struct vfs_mm_notifier *n, u64 start, u64 end);
	struct vfs_mm_notifier *next;	/* vfs/ only */
};
void vfs_mm_register(struct vfs_mm_notifier *n);
void vfs_mm_unregister(struct vfs_mm_notifier *n);
void vfs_mm_invalidate(u64 start, u64 end);

/*
 * Signals and KVM_RUN. A client's caught signal must end KVM_RUN although no
 * system call is interrupted. vfs_sigaction() installs the client's handler
 * behind one of ours, which first calls the hook that the running vCPU has set
 * for its thread. The hook must be async-signal-safe.
 */
int vfs_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
struct vfs_kick {
	void (*fn)(void *arg);
	void *arg;
};
/* Set (or with NULL clear) this thread's hook; returns the previous one. */
const struct vfs_kick *vfs_set_kick(const struct vfs_kick *k);

#endif
