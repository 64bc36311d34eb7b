// SPDX-License-Identifier: MIT
/* Address-space notifiers: who must hear of a client's munmap before it happens. */
#include <pthread.h>

#include "vfs/vfs.h"

/*
 * Callbacks run under the read side, so that unregistering waits for them; a
 * callback therefore never registers or unregisters.
 */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct vfs_mm_notifier *_Atomic head;

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

void vfs_mm_register(struct vfs_mm_notifier *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	pthread_rwlock_wrlock(&lock);
	n->next = head;
	head = n;
	pthread_rwlock_unlock(&lock);
}

void vfs_mm_unregister(struct vfs_mm_notifier *n)
{
	struct vfs_mm_notifier *p;

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
	for (struct vfs_mm_notifier *n = head; n; n = n->next)
		n->invalidate(n, start, end);
	pthread_rwlock_unlock(&lock);
}
