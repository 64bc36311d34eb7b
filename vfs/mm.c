// SPDX-License-Identifier: MIT
/* Address-space notifiers: who must hear of a client's munmap before it happens. */
#include <pthread.h>

#include "vfs/vfs.h"

/*
 * Callbacks run under the read side, so that unregistering waits for them; a
 * callback therefore never registers or unregisters.
 */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct vfs_mm_notifier *head;

void vfs_mm_register(struct vfs_mm_notifier *n)
{
	pthread_rwlock_wrlock(&lock);
	n->next = head;
	head = n;
	pthread_rwlock_unlock(&lock);
}

void vfs_mm_unregister(struct vfs_mm_notifier *n)
{
	struct vfs_mm_notifier **p;

	pthread_rwlock_wrlock(&lock);
	for (p = &head; *p; p = &(*p)->next) {
		if (*p == n) {
			*p = n->next;
			break;
		}
	}
	pthread_rwlock_unlock(&lock);
}

void vfs_mm_invalidate(u64 start, u64 end)
{
	pthread_rwlock_rdlock(&lock);
	for (struct vfs_mm_notifier *n = head; n; n = n->next)
		n->invalidate(n, start, end);
	pthread_rwlock_unlock(&lock);
}
