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

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/types.h"

struct vfs_file;

struct vfs_file_ops {
	/* Request already truncated to 32 bits. Returns a value >= 0 or -errno. */
	long (*ioctl)(struct vfs_file *f, u32 req, unsigned long arg);
	/* Optional, else the backing descriptor is read and written. A count or -errno. */
	ssize_t (*read)(struct vfs_file *f, void *buf, size_t len);
	ssize_t (*write)(struct vfs_file *f, const void *buf, size_t len);
	/* Optional, likewise: messages with addresses, as netlink has. */
	ssize_t (*sendmsg)(struct vfs_file *f, const struct msghdr *m, int flags);
	ssize_t (*recvmsg)(struct vfs_file *f, struct msghdr *m, int flags);
	/*
	 * Optional: what to map instead of the backing descriptor. Returns a descriptor, which
	 * is closed after mapping, or -errno. *@off may be changed.
	 */
	int (*map_fd)(struct vfs_file *f, size_t len, int prot, int flags, off_t *off);
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
	/* Set by a node's open: keeps no state of the process, so that a forked child may use it. */
	bool any_process;
};

/* Device node: open fills *@f's ops and priv and returns a backing descriptor or -errno. */
struct vfs_node {
	const char *path;
	int (*open)(const struct vfs_node *node, struct vfs_file *f, int flags);
	dev_t rdev;		/* what stat() says */
	/* Not NULL: no device but a read-only file of this text; open is not used. */
	const char *text;
	/* Optional, beside @text, which is its failure's: make the text, when it is opened. free()d. */
	char *(*make_text)(void);
	/*
	 * Not NULL: the path is a prefix ("/dev/vduse/"), and this opens what goes on with @rest, which is
	 * not empty and has no slash. Whole paths come first.
	 */
	int (*open_at)(const struct vfs_node *node, const char *rest, struct vfs_file *f, int flags);
	/*
	 * Optional: is there such a node now? Without it, always. @rest is NULL for a whole path, which
	 * is then nobody's: the host's is not opened.
	 */
	bool (*has)(const struct vfs_node *node, const char *rest);
};

/* @node must live as long as the process. -EEXIST if the path is taken. */
int vfs_register_node(const struct vfs_node *node);

/*
 * Whoever has nodes for the preload object names a function that registers
 * them, VFS_NODES(fn), in a source file that only that object links.
 * vfs_register_all() calls every one; it is inline, since the list is of the
 * object that calls.
 */
typedef void (*vfs_nodes_fn)(void);
#define VFS_NODES(fn) \
	static const vfs_nodes_fn vfs_nodes_##fn __attribute__((section("vfs_nodes"), used, retain)) = (fn)
extern const vfs_nodes_fn __start_vfs_nodes[] __attribute__((weak, visibility("hidden")));
extern const vfs_nodes_fn __stop_vfs_nodes[] __attribute__((weak, visibility("hidden")));
static inline void vfs_register_all(void)
{
	for (const vfs_nodes_fn *fn = __start_vfs_nodes; fn < __stop_vfs_nodes; fn++)
		(*fn)();
}

/* True if @path names a node, whole or by its prefix; whether the latter is there now is not asked. */
bool vfs_is_node(const char *path);
/* stat() of a node. 0, or -ENOENT if @path names none. */
int vfs_stat(const char *path, struct stat *st);
/* access() of a node: 0, -ENOENT if @path names none, -EACCES. */
int vfs_access(const char *path, int mode);

/*
 * Make a file of its own for @backing (a descriptor that becomes the file's;
 * FD_CLOEXEC is set). Returns @backing, or -errno with @backing closed.
 */
int vfs_file_new(const struct vfs_file_ops *ops, void *priv, int backing);

/*
 * The same for a descriptor that the program has already, and keeps: close-on-exec stays as it
 * is, and on failure it is not closed. The file may be used by any process.
 */
int vfs_file_adopt(const struct vfs_file_ops *ops, void *priv, int fd);
/*
 * Descriptors that came over exec or a socket are known to nobody here. @fn is asked about those
 * that get an ioctl of @type, and adopts what is its own: 0, else -errno. One for each type, for good.
 */
void vfs_set_adopter(u8 type, int (*fn)(int fd));
/*
 * Likewise for sockets that send to an address of @family: @fn looks at the message. It may put
 * another open file in the descriptor's place.
 */
void vfs_set_message_adopter(sa_family_t family, int (*fn)(int fd, const struct msghdr *m));
bool vfs_adopt_message(int fd, const struct msghdr *m);
/* True if @fd is a file of ours now. */
bool vfs_adopt(int fd, unsigned long req);

/* Take and give back a reference; NULL if @fd is not a vfs file with @ops (NULL = any). */
struct vfs_file *vfs_file_get(int fd, const struct vfs_file_ops *ops);
void vfs_file_put(struct vfs_file *f);

/* The calls of a client. */
int vfs_open(const char *path, int flags);
long vfs_ioctl(int fd, unsigned long req, unsigned long arg);
/* As the system calls: a count, or -errno. */
ssize_t vfs_read(int fd, void *buf, size_t len);
ssize_t vfs_write(int fd, const void *buf, size_t len);
ssize_t vfs_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t vfs_recvmsg(int fd, struct msghdr *m, int flags);
void *vfs_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);	/* MAP_FAILED, errno */
int vfs_munmap(void *addr, size_t len);
int vfs_mprotect(void *addr, size_t len, int prot);
int vfs_madvise(void *addr, size_t len, int advice);
/* MAP_FAILED and errno, as vfs_mmap(). */
void *vfs_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *new_addr);
int vfs_close(int fd);
/* As close_range(2); F_DUPFD or F_DUPFD_CLOEXEC; dup3() that takes equal numbers as dup2() does. */
int vfs_close_range(unsigned first, unsigned last, int flags);
int vfs_dup(int fd, int min, bool cloexec);
int vfs_dup_to(int fd, int to, int flags);
/* True if @fd is a file of ours. No system call, no reference. */
bool vfs_is_file(int fd);

/*
 * Notifiers. Registering is rare; callbacks run on the calling thread and may block, but not
 * register. Both are optional.
 */
struct vfs_notifier {
	/*
	 * Before a client's mapping of [start, end) is changed or removed (munmap, mremap,
	 * mprotect, madvise, MAP_FIXED).
	 */
	void (*invalidate)(struct vfs_notifier *n, u64 start, u64 end);
	/* After a watched descriptor was closed or got another file; the number may be in use again. */
	void (*closed)(struct vfs_notifier *n, int fd);
	struct vfs_notifier *next;	/* vfs/ only */
};
void vfs_notifier_register(struct vfs_notifier *n);
void vfs_notifier_unregister(struct vfs_notifier *n);
void vfs_mm_invalidate(u64 start, u64 end);

/*
 * A descriptor of the client is watched until it is closed once, which is told. Seen is what
 * comes through the calls above: not what libc closes for itself (fclose()), nor other processes.
 */
void vfs_watch(int fd);
/* True if closing @fd has to come here. No system call. */
bool vfs_is_watched(int fd);
/* vfs/ only: no longer; true if it was. */
bool vfs_unwatch(int fd);
void vfs_tell_closed(int fd);
void vfs_tell_closed_range(unsigned first, unsigned last);

/*
 * Duplicates that are ours and not the client's, close-on-exec; a descriptor or -errno. Who looks for
 * descriptors of the client leaves them out.
 */
int vfs_keep(int fd);
bool vfs_is_kept(int fd);
void vfs_drop(int fd);

/*
 * Signals and KVM_RUN. A client's caught signal must end KVM_RUN although no
 * system call is interrupted. vfs_sigaction() installs the client's handler
 * behind one of ours, which first calls the hook that the running vCPU has set
 * for its thread. The hook must be async-signal-safe.
 */
int vfs_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
/*
 * From now on the kernel's action of @sig is not the client's to change:
 * whoever installs a handler after this call keeps it, and passes what is not
 * his to the action that was there, which is the client's. For SIGSEGV and
 * SIGBUS. 0 or -errno.
 */
int vfs_guard_signal(int sig);
/*
 * Ask @fn about guarded signals before the client's handler: it returns true if
 * the signal was its own. Async-signal-safe; NULL for none.
 */
void vfs_set_fault_filter(bool (*fn)(int sig, siginfo_t *info, void *context));
struct vfs_kick {
	void (*fn)(void *arg);
	void *arg;
	/* Optional: somebody sends this thread a signal, which it may have blocked. Look whether it counts. */
	void (*poke)(void *arg);
};
/* Set (or with NULL clear) this thread's hook; returns the previous one. */
const struct vfs_kick *vfs_set_kick(const struct vfs_kick *k);
/*
 * Call @thread's hook, as a signal that it catches would; nothing if it has none. For requests that
 * reach a thread through a signal of libc's own, as pthread_cancel() does. Not from signal handlers.
 */
void vfs_kick_thread(pthread_t thread);
/*
 * After sending a signal: let the threads that asked for it look. @thread or @tid is the
 * receiver; NULL and 0: any thread of the process. Also from signal handlers: then it
 * may do nothing, so whoever asks to be poked must look by himself now and then.
 */
void vfs_poke_thread(const pthread_t *thread, pid_t tid);

#endif
