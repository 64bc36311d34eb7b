// SPDX-License-Identifier: MIT
/*
 * The table of user-space files, node registry and the client's calls.
 *
 * A file is found through its descriptor number. The table is an array of
 * pointers indexed by descriptor, in chunks that are never freed, so a lookup
 * takes no lock: load the pointer, take a reference if it is not zero, check
 * that the slot still holds the same file. Duplicates are further slots that
 * hold the file, with a reference each.
 *
 * After fork() the child has a copy of the table. Files of the parent answer
 * -EIO there, and are forgotten rather than released: their threads and locks
 * are the parent's. A child that shares our memory (vfork, CLONE_VM) but not
 * our descriptors must not touch the table at all.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "vfs/user.h"

#define CHUNK_BITS 8
#define CHUNK_SIZE (1u << CHUNK_BITS)
#define MAX_CHUNKS 4096		/* 2^20 descriptors, the kernel's default hard limit */

struct slot {
	struct vfs_file *_Atomic file;
};

static struct slot *_Atomic chunks[MAX_CHUNKS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

#define MAX_NODES 32
static const struct vfs_node *_Atomic nodes[MAX_NODES];

/*
 * Files are recycled, never returned to the allocator: a lookup that lost a
 * race may still touch the reference count of a dead one.
 */
struct pooled_file {
	struct vfs_file f;
	struct pooled_file *next;
};
static struct pooled_file *pool;

static struct vfs_file *file_alloc(void)
{
	struct pooled_file *p;

	pthread_mutex_lock(&table_lock);
	p = pool;
	if (p)
		pool = p->next;
	pthread_mutex_unlock(&table_lock);
	if (!p)
		p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->f.ops = NULL;
	p->f.priv = NULL;
	p->f.fd = -1;
	p->f.owner = getpid();
	p->f.any_process = false;
	return &p->f;
}

static void file_recycle(struct vfs_file *f)
{
	struct pooled_file *p = container_of(f, struct pooled_file, f);

	pthread_mutex_lock(&table_lock);
	p->next = pool;
	pool = p;
	pthread_mutex_unlock(&table_lock);
}

static struct slot *slot_of(int fd, bool create)
{
	struct slot *c;

	if (fd < 0 || (unsigned)fd >= MAX_CHUNKS * CHUNK_SIZE)
		return NULL;
	c = atomic_load(&chunks[fd >> CHUNK_BITS]);
	if (!c && create) {
		pthread_mutex_lock(&table_lock);
		c = atomic_load(&chunks[fd >> CHUNK_BITS]);
		if (!c) {
			c = calloc(CHUNK_SIZE, sizeof(*c));
			atomic_store(&chunks[fd >> CHUNK_BITS], c);
		}
		pthread_mutex_unlock(&table_lock);
	}
	return c ? &c[fd & (CHUNK_SIZE - 1)] : NULL;
}

static bool get_unless_zero(struct vfs_file *f)
{
	int n = atomic_load(&f->refs);

	while (n > 0)
		if (atomic_compare_exchange_weak(&f->refs, &n, n + 1))
			return true;
	return false;
}

/* ---- Whose process is this ---- */

/* getpid() is a system call, and this is asked for every ioctl. 0 = not known yet. */
static _Atomic pid_t self;

static void before_fork(void)
{
	pthread_mutex_lock(&table_lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&table_lock);
}

static void after_fork_child(void)
{
	pthread_mutex_unlock(&table_lock);
	atomic_store(&self, 0);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_child);
}

static pid_t my_pid(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pid_t pid = atomic_load_explicit(&self, memory_order_relaxed);

	if (likely(pid))
		return pid;
	pthread_once(&once, watch_forks);
	pid = getpid();
	atomic_store(&self, pid);
	return pid;
}

/* Not a child of vfork() or clone() that has our memory and descriptors of its own. */
static bool table_is_mine(void)
{
	return my_pid() == getpid();
}

static bool usable(const struct vfs_file *f)
{
	return f->any_process || f->owner == my_pid();
}

struct vfs_file *vfs_file_get(int fd, const struct vfs_file_ops *ops)
{
	struct slot *s = slot_of(fd, false);
	struct vfs_file *f;

	if (!s)
		return NULL;
	while ((f = atomic_load(&s->file))) {
		if (!get_unless_zero(f))
			continue;	/* closing: the slot is about to change */
		if (atomic_load(&s->file) == f) {
			if (!ops || f->ops == ops)
				return f;
			vfs_file_put(f);
			return NULL;
		}
		vfs_file_put(f);
	}
	return NULL;
}

void vfs_file_put(struct vfs_file *f)
{
	int state;

	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	/* What is released closes descriptors and waits, where a cancelled thread would end in the middle. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (f->ops && f->ops->release && usable(f))
		f->ops->release(f);
	file_recycle(f);
	pthread_setcancelstate(state, NULL);
}

bool vfs_is_file(int fd)
{
	struct slot *s = slot_of(fd, false);

	return s && atomic_load_explicit(&s->file, memory_order_acquire);
}

/* @f has one reference, the table's. */
static int enter(struct vfs_file *f, int fd)
{
	struct slot *s = slot_of(fd, true);

	if (!s)
		return -EMFILE;
	f->fd = fd;
	atomic_store(&f->refs, 1);
	atomic_store(&s->file, f);
	return fd;
}

static int install(struct vfs_file *f, int backing)
{
	int ret = fcntl(backing, F_SETFD, FD_CLOEXEC) < 0 ? -errno : enter(f, backing);

	if (ret < 0)
		close(backing);
	return ret;
}

int vfs_file_new(const struct vfs_file_ops *ops, void *priv, int backing)
{
	struct vfs_file *f = file_alloc();
	int fd;

	if (!f) {
		close(backing);
		return -ENOMEM;
	}
	f->ops = ops;
	f->priv = priv;
	fd = install(f, backing);
	if (fd < 0)
		file_recycle(f);
	return fd;
}

int vfs_file_adopt(const struct vfs_file_ops *ops, void *priv, int fd)
{
	struct vfs_file *f = file_alloc();
	int ret;

	if (!f)
		return -ENOMEM;
	f->ops = ops;
	f->priv = priv;
	f->any_process = true;
	ret = enter(f, fd);
	if (ret < 0)
		file_recycle(f);
	return ret;
}

#define MAX_ADOPTERS 4
static struct {
	u8 type;
	int (*_Atomic fn)(int fd);
} adopters[MAX_ADOPTERS];

void vfs_set_adopter(u8 type, int (*fn)(int fd))
{
	unsigned i = 0;

	pthread_mutex_lock(&table_lock);
	while (i < MAX_ADOPTERS && atomic_load(&adopters[i].fn))
		i++;
	BUG_ON(i == MAX_ADOPTERS);
	adopters[i].type = type;
	atomic_store(&adopters[i].fn, fn);
	pthread_mutex_unlock(&table_lock);
}

bool vfs_adopt(int fd, unsigned long req)
{
	int (*fn)(int fd);

	for (unsigned i = 0; i < MAX_ADOPTERS && (fn = atomic_load(&adopters[i].fn)); i++)
		if (adopters[i].type == (u8)(req >> 8))
			return table_is_mine() && !fn(fd);
	return false;
}

static sa_family_t message_family;
static int (*_Atomic message_adopter)(int fd, const struct msghdr *m);

void vfs_set_message_adopter(sa_family_t family, int (*fn)(int fd, const struct msghdr *m))
{
	BUG_ON(atomic_load(&message_adopter));
	message_family = family;
	atomic_store(&message_adopter, fn);
}

bool vfs_adopt_message(int fd, const struct msghdr *m)
{
	int (*fn)(int fd, const struct msghdr *m) = atomic_load(&message_adopter);

	return fn && m->msg_namelen >= sizeof(sa_family_t) &&
	       ((const struct sockaddr *)m->msg_name)->sa_family == message_family && table_is_mine() &&
	       !fn(fd, m);
}

/* ---- Nodes ---- */

int vfs_register_node(const struct vfs_node *node)
{
	int ret = -ENFILE;

	pthread_mutex_lock(&table_lock);
	for (unsigned i = 0; i < MAX_NODES; i++) {
		const struct vfs_node *n = atomic_load(&nodes[i]);

		if (n && !strcmp(n->path, node->path)) {
			ret = -EEXIST;
			break;
		}
		if (!n) {
			atomic_store(&nodes[i], node);
			ret = 0;
			break;
		}
	}
	pthread_mutex_unlock(&table_lock);
	return ret;
}

/* What goes on behind the prefix of @n, or NULL. */
static const char *rest_of(const struct vfs_node *n, const char *path)
{
	size_t len = strlen(n->path);

	if (!n->open_at || strncmp(path, n->path, len) || !path[len] || strchr(path + len, '/'))
		return NULL;
	return path + len;
}

/* *@rest: for a prefix, what follows it. */
static const struct vfs_node *find_node(const char *path, const char **rest)
{
	const struct vfs_node *n, *prefix = NULL;

	*rest = NULL;
	for (unsigned i = 0; i < MAX_NODES && (n = atomic_load(&nodes[i])); i++) {
		if (!n->open_at && !strcmp(n->path, path))
			return n;
		if (!prefix && rest_of(n, path))
			prefix = n;
	}
	if (prefix)
		*rest = rest_of(prefix, path);
	return prefix;
}

/* The same, if it is there now. */
static const struct vfs_node *find_present(const char *path)
{
	const char *rest;
	const struct vfs_node *n = find_node(path, &rest);

	return n && n->has && !n->has(n, rest) ? NULL : n;
}

bool vfs_is_node(const char *path)
{
	const char *rest;

	return find_node(path, &rest) != NULL;
}

/* ---- The client's calls ---- */

static int open_text(const struct vfs_node *node, int flags)
{
	char *made, self_path[32];
	const char *text;
	size_t len;
	int fd, ro;

	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	fd = memfd_create("userkvm-text", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	made = node->make_text ? node->make_text() : NULL;
	text = made ? made : node->text;
	len = strlen(text);
	/* A second, read-only open file: writes fail, and the offset is at the start. */
	snprintf(self_path, sizeof(self_path), "/proc/self/fd/%d", fd);
	ro = write(fd, text, len) == (ssize_t)len ? open(self_path, O_RDONLY | (flags & O_CLOEXEC)) : -1;
	if (ro < 0)
		ro = -errno;
	close(fd);
	free(made);
	return ro;
}

int vfs_stat(const char *path, struct stat *st)
{
	const struct vfs_node *node = find_present(path);

	if (!node)
		return -ENOENT;
	memset(st, 0, sizeof(*st));
	st->st_mode = node->text ? S_IFREG | 0444 : S_IFCHR | 0666;
	st->st_nlink = 1;
	st->st_rdev = node->rdev;
	st->st_size = node->text ? PAGE_SIZE : 0;	/* what sysfs says of any file */
	st->st_blksize = PAGE_SIZE;
	return 0;
}

int vfs_access(const char *path, int mode)
{
	const struct vfs_node *node = find_present(path);

	if (!node)
		return -ENOENT;
	return mode & X_OK || (node->text && mode & W_OK) ? -EACCES : 0;
}

int vfs_open(const char *path, int flags)
{
	const char *rest;
	const struct vfs_node *node = find_node(path, &rest);
	struct vfs_file *f;
	int fd;

	if (!node) {
		fd = open(path, flags, 0666);
		return fd < 0 ? -errno : fd;
	}
	if (!rest && node->has && !node->has(node, NULL))
		return -ENOENT;
	if (node->text)
		return open_text(node, flags);
	f = file_alloc();
	if (!f)
		return -ENOMEM;
	fd = rest ? node->open_at(node, rest, f, flags) : node->open(node, f, flags);
	if (fd < 0) {
		file_recycle(f);
		return fd;
	}
	fd = install(f, fd);
	if (fd < 0) {
		if (f->ops && f->ops->release)
			f->ops->release(f);
		file_recycle(f);
	} else if (!(flags & O_CLOEXEC)) {
		fcntl(fd, F_SETFD, 0);
	}
	return fd;
}

/* What a kernel answers for every descriptor before it asks the file, or 1. */
static long descriptor_ioctl(int fd, u32 req, unsigned long arg)
{
	int on, flags;

	switch (req) {
	case FIOCLEX:
	case FIONCLEX:
		return fcntl(fd, F_SETFD, req == FIOCLEX ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
	case FIONBIO:
		if (vfs_user_read(&on, arg, sizeof(on)))
			return -EFAULT;
		flags = fcntl(fd, F_GETFL);
		return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 ? -errno : 0;
	default:
		return 1;
	}
}

long vfs_ioctl(int fd, unsigned long req, unsigned long arg)
{
	struct vfs_file *f = vfs_file_get(fd, NULL);
	long ret;

	if (!f)
		return -ENOTTY;
	ret = descriptor_ioctl(fd, (u32)req, arg);
	if (ret <= 0) {
		vfs_file_put(f);
		return ret;
	}
	/* Clients that keep the request in an int sign-extend it: only 32 bits count. */
	ret = usable(f) ? f->ops->ioctl(f, (u32)req, arg) : -EIO;
	vfs_file_put(f);
	return ret;
}

#define CALL(name, ...) \
	do { \
		struct vfs_file *f = vfs_file_get(fd, NULL); \
		ssize_t ret; \
		if (f && f->ops->name) { \
			ret = usable(f) ? f->ops->name(f, __VA_ARGS__) : -EIO; \
		} else { \
			ret = name(fd, __VA_ARGS__); \
			if (ret < 0) \
				ret = -errno; \
		} \
		if (f) \
			vfs_file_put(f); \
		return ret; \
	} while (0)

ssize_t vfs_read(int fd, void *buf, size_t len)
{
	CALL(read, buf, len);
}

ssize_t vfs_write(int fd, const void *buf, size_t len)
{
	CALL(write, buf, len);
}

ssize_t vfs_sendmsg(int fd, const struct msghdr *m, int flags)
{
	CALL(sendmsg, m, flags);
}

ssize_t vfs_recvmsg(int fd, struct msghdr *m, int flags)
{
	CALL(recvmsg, m, flags);
}

void *vfs_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	struct vfs_file *f = flags & MAP_ANONYMOUS ? NULL : vfs_file_get(fd, NULL);
	int instead = -1;
	void *p;

	if (f && f->ops->mmap) {
		int err = f->ops->mmap(f, len, prot, flags, off);

		if (err) {
			vfs_file_put(f);
			errno = -err;
			return MAP_FAILED;
		}
	}
	if (f && f->ops->map_fd) {
		instead = f->ops->map_fd(f, len, prot, flags, &off);
		if (instead < 0) {
			vfs_file_put(f);
			errno = -instead;
			return MAP_FAILED;
		}
	}
	if (flags & MAP_FIXED)
		vfs_mm_invalidate((u64)addr, (u64)addr + len);
	p = mmap(addr, len, prot, flags, instead >= 0 ? instead : fd, off);
	if (instead >= 0) {
		int err = errno;

		close(instead);
		errno = err;
	}
	if (f && f->ops->mapped && p != MAP_FAILED) {
		int err = f->ops->mapped(f, p, len, prot, flags, off);

		if (err) {
			munmap(p, len);
			p = MAP_FAILED;
			errno = -err;
		}
	}
	if (f)
		vfs_file_put(f);
	return p;
}

int vfs_munmap(void *addr, size_t len)
{
	vfs_mm_invalidate((u64)addr, (u64)addr + len);
	return munmap(addr, len) < 0 ? -errno : 0;
}

int vfs_mprotect(void *addr, size_t len, int prot)
{
	vfs_mm_invalidate((u64)addr, (u64)addr + len);
	return mprotect(addr, len, prot) < 0 ? -errno : 0;
}

int vfs_madvise(void *addr, size_t len, int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_PAGEOUT:
		vfs_mm_invalidate((u64)addr, (u64)addr + len);
		break;
	default:	/* hints that leave the content where it is */
		break;
	}
	return madvise(addr, len, advice) < 0 ? -errno : 0;
}

void *vfs_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *new_addr)
{
	if (old_len != new_len || flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		vfs_mm_invalidate((u64)addr, (u64)addr + old_len);
	if (flags & MREMAP_FIXED)
		vfs_mm_invalidate((u64)new_addr, (u64)new_addr + new_len);
	return mremap(addr, old_len, new_len, flags, new_addr);
}

/* The file of slot @s, which is empty from now on; the caller puts it. */
static struct vfs_file *take_from(struct slot *s)
{
	if (!s || !atomic_load(&s->file) || !table_is_mine())
		return NULL;
	return atomic_exchange(&s->file, NULL);
}

/* What a close of @fd has to tell: not in a child of vfork(), whose descriptors are others. */
static bool take_watch(int fd)
{
	return vfs_is_watched(fd) && table_is_mine() && vfs_unwatch(fd);
}

int vfs_close(int fd)
{
	/*
	 * The slot is empty before the number can be given out again, and the
	 * object lives on until calls under way have put their references.
	 */
	struct vfs_file *f = take_from(slot_of(fd, false));
	bool tell = take_watch(fd);
	int ret, state;

	/* As in vfs_file_put(). */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	ret = close(fd) < 0 ? -errno : 0;
	pthread_setcancelstate(state, NULL);
	if (tell)
		vfs_tell_closed(fd);
	if (f)
		vfs_file_put(f);
	return ret;
}

int vfs_close_range(unsigned first, unsigned last, int flags)
{
	bool closes = first <= last && !(flags & ~CLOSE_RANGE_UNSHARE) && table_is_mine();
	unsigned end = min(last, MAX_CHUNKS * CHUNK_SIZE - 1);
	int ret;

	for (unsigned fd = first; closes && fd <= end; fd++) {
		if (!slot_of((int)fd, false))
			fd |= CHUNK_SIZE - 1;	/* no chunk: on to the next */
		else if (vfs_is_file((int)fd))
			vfs_close((int)fd);
	}
	ret = close_range(first, last, flags) < 0 ? -errno : 0;
	if (closes && !ret)
		vfs_tell_closed_range(first, last);
	return ret;
}

int vfs_dup(int fd, int min_fd, bool cloexec)
{
	struct vfs_file *f = vfs_file_get(fd, NULL);
	int to = fcntl(fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, min_fd);
	struct slot *s;

	if (to < 0)
		to = -errno;
	if (!f)
		return to;
	s = to < 0 ? NULL : slot_of(to, true);
	if (to >= 0 && !s) {
		close(to);
		to = -EMFILE;
	}
	/* Our reference becomes the slot's. */
	if (s && table_is_mine())
		atomic_store(&s->file, f);
	else
		vfs_file_put(f);
	return to;
}

int vfs_dup_to(int fd, int to, int flags)
{
	struct vfs_file *f, *before, *none = NULL;
	struct slot *s;
	bool tell;
	int ret;

	if (fd == to)
		return fcntl(fd, F_GETFD) < 0 ? -errno : to;
	f = vfs_file_get(fd, NULL);
	s = slot_of(to, f != NULL);
	before = take_from(s);
	tell = take_watch(to);
	ret = dup3(fd, to, flags) < 0 ? -errno : to;
	if (tell && ret < 0)
		vfs_watch(to);
	else if (tell)
		vfs_tell_closed(to);
	if (ret < 0 && before && atomic_compare_exchange_strong(&s->file, &none, before))
		before = NULL;
	if (ret >= 0 && f && s && table_is_mine()) {
		atomic_store(&s->file, f);
		f = NULL;
	}
	if (before)
		vfs_file_put(before);
	if (f)
		vfs_file_put(f);
	return ret;
}
