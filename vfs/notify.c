// SPDX-License-Identifier: MIT
/*
 * Notifiers: who must hear of a client's munmap before it happens, and of its
 * close after it did. Which descriptors are watched, and which are our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "vfs/vfs.h"

/*
 * Callbacks run under the read side, so that unregistering waits for them; a
 * callback therefore never registers or unregisters.
 */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct vfs_notifier *_Atomic head;

/* By descriptor; 2^20 is the kernel's default hard limit, and what is above is not watched. */
#define MAX_FDS (1u << 20)
struct fd_set_bits {
	_Atomic u64 word[MAX_FDS / 64];
};
static struct fd_set_bits watched, kept;

static bool fd_test(const struct fd_set_bits *s, int fd)
{
	return (unsigned)fd < MAX_FDS &&
	       (atomic_load_explicit(&s->word[fd / 64], memory_order_relaxed) >> fd % 64 & 1);
}

static void fd_mark(struct fd_set_bits *s, int fd)
{
	if ((unsigned)fd < MAX_FDS)
		atomic_fetch_or(&s->word[fd / 64], 1ull << fd % 64);
}

static bool fd_unmark(struct fd_set_bits *s, int fd)
{
	return (unsigned)fd < MAX_FDS &&
	       (atomic_fetch_and(&s->word[fd / 64], ~(1ull << fd % 64)) >> fd % 64 & 1);
}

/*
 * A forked child has none of the VMs that asked to hear: their threads, which a
 * callback may wait for, are the parent's.
 */
static void before_fork(void)
{
	pthread_rwlock_wrlock(&lock);
}

static void after_fork(void)
{
	pthread_rwlock_unlock(&lock);
}

static void after_fork_child(void)
{
	head = NULL;
	pthread_rwlock_init(&lock, NULL);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_child);
}

void vfs_notifier_register(struct vfs_notifier *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	pthread_rwlock_wrlock(&lock);
	n->next = head;
	head = n;
	pthread_rwlock_unlock(&lock);
}

void vfs_notifier_unregister(struct vfs_notifier *n)
{
	struct vfs_notifier *p;

	pthread_rwlock_wrlock(&lock);
	p = head;
	if (p == n)
		head = n->next;
	for (; p; p = p->next)
		if (p->next == n)
			p->next = n->next;
	pthread_rwlock_unlock(&lock);
}

void vfs_mm_invalidate(u64 start, u64 end)
{
	/* Most processes never have a VM; one that is being made has no memory yet. */
	if (!head)
		return;
	pthread_rwlock_rdlock(&lock);
	for (struct vfs_notifier *n = head; n; n = n->next)
		if (n->invalidate)
			n->invalidate(n, start, end);
	pthread_rwlock_unlock(&lock);
}

/* ---- Descriptors ---- */

void vfs_watch(int fd)
{
	fd_mark(&watched, fd);
}

bool vfs_is_watched(int fd)
{
	return fd_test(&watched, fd);
}

bool vfs_unwatch(int fd)
{
	return fd_unmark(&watched, fd);
}

void vfs_tell_closed(int fd)
{
	if (!head)
		return;
	pthread_rwlock_rdlock(&lock);
	for (struct vfs_notifier *n = head; n; n = n->next)
		if (n->closed)
			n->closed(n, fd);
	pthread_rwlock_unlock(&lock);
}

void vfs_tell_closed_range(unsigned first, unsigned last)
{
	if (!head)
		return;
	last = min(last, MAX_FDS - 1);
	for (unsigned w = first / 64; first <= last && w <= last / 64; w++) {
		if (!atomic_load_explicit(&watched.word[w], memory_order_relaxed))
			continue;
		for (unsigned fd = max(first, w * 64); fd <= min(last, w * 64 + 63); fd++)
			if (vfs_unwatch((int)fd))
				vfs_tell_closed((int)fd);
	}
}

int vfs_keep(int fd)
{
	int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (mine < 0)
		return -errno;
	fd_mark(&kept, mine);
	return mine;
}

bool vfs_is_kept(int fd)
{
	return fd_test(&kept, fd);
}

void vfs_drop(int fd)
{
	fd_unmark(&kept, fd);
	close(fd);
}
