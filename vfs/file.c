// SPDX-License-Identifier: MIT
/*
 * The table of user-space files, node registry and the client's calls.
 *
 * A file is found through its descriptor number. The table is an array of
 * pointers indexed by descriptor, in chunks that are never freed, so a lookup
 * takes no lock: load the pointer, take a reference if it is not zero, check
 * that the slot still holds the same file.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

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
	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	if (f->ops && f->ops->release)
		f->ops->release(f);
	file_recycle(f);
}

/* @f has one reference, the table's. */
static int install(struct vfs_file *f, int backing)
{
	struct slot *s = slot_of(backing, true);

	if (!s || fcntl(backing, F_SETFD, FD_CLOEXEC) < 0) {
		int err = s ? -errno : -EMFILE;

		close(backing);
		return err;
	}
	f->fd = backing;
	atomic_store(&f->refs, 1);
	atomic_store(&s->file, f);
	return backing;
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

static const struct vfs_node *find_node(const char *path)
{
	const struct vfs_node *n;

	for (unsigned i = 0; i < MAX_NODES && (n = atomic_load(&nodes[i])); i++)
		if (!strcmp(n->path, path))
			return n;
	return NULL;
}

bool vfs_is_node(const char *path)
{
	return find_node(path) != NULL;
}

/* ---- Whose process is this ---- */

/* getpid() is a system call, and this is asked for every ioctl. 0 = not known yet. */
static _Atomic pid_t self;

static void forget_self(void)
{
	atomic_store(&self, 0);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forget_self);
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

/* ---- The client's calls ---- */

int vfs_open(const char *path, int flags)
{
	const struct vfs_node *node = find_node(path);
	struct vfs_file *f;
	int fd;

	if (!node) {
		fd = open(path, flags, 0666);
		return fd < 0 ? -errno : fd;
	}
	f = file_alloc();
	if (!f)
		return -ENOMEM;
	fd = node->open(node, f, flags);
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

long vfs_ioctl(int fd, unsigned long req, unsigned long arg)
{
	struct vfs_file *f = vfs_file_get(fd, NULL);
	long ret;

	if (!f)
		return -ENOTTY;
	/* Clients that keep the request in an int sign-extend it: only 32 bits count. */
	ret = f->owner == my_pid() ? f->ops->ioctl(f, (u32)req, arg) : -EIO;
	vfs_file_put(f);
	return ret;
}

void *vfs_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	struct vfs_file *f = flags & MAP_ANONYMOUS ? NULL : vfs_file_get(fd, NULL);
	void *p;

	if (f && f->ops->mmap) {
		int err = f->ops->mmap(f, len, prot, flags, off);

		if (err) {
			vfs_file_put(f);
			errno = -err;
			return MAP_FAILED;
		}
	}
	if (flags & MAP_FIXED)
		vfs_mm_invalidate((u64)addr, (u64)addr + len);
	p = mmap(addr, len, prot, flags, fd, off);
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

int vfs_close(int fd)
{
	struct slot *s = slot_of(fd, false);
	struct vfs_file *f = s ? atomic_exchange(&s->file, NULL) : NULL;
	int ret;

	/*
	 * The slot is empty before the number can be given out again, and the
	 * object lives on until calls under way have put their references.
	 */
	ret = close(fd) < 0 ? -errno : 0;
	if (f)
		vfs_file_put(f);
	return ret;
}
