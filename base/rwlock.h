/* SPDX-License-Identifier: MIT */
/*
 * A reader-writer lock for long walks under it: writers go first, so that a
 * stream of readers cannot hold them off; readers that wait while a writer has
 * the lock get their turn before the next writer; and the holder can ask
 * whether somebody waits, to give way. Not recursive.
 */
#ifndef BASE_RWLOCK_H
#define BASE_RWLOCK_H

#include <pthread.h>

#include "base/types.h"

struct rwlock {
	_Atomic u32 state;		/* number of readers, or RWLOCK_WRITER */
	_Atomic u32 writers_waiting;
	_Atomic u32 sleepers;		/* threads in the slow path */
	pthread_mutex_t m;		/* slow path only */
	pthread_cond_t cv;
	u32 readers_waiting;		/* under m */
	u32 grant;			/* under m: readers to let in before the next writer */
	u32 rank;
};

/*
 * @rank 1..31: lock order; a thread may take a lock only of a higher rank than
 * all that it holds, else BUG. 0 = unchecked.
 */
void rwlock_init(struct rwlock *l, u32 rank);
void rwlock_destroy(struct rwlock *l);

void rwlock_read(struct rwlock *l);
void rwlock_read_unlock(struct rwlock *l);
void rwlock_write(struct rwlock *l);
void rwlock_write_unlock(struct rwlock *l);

/* Holder of either kind: does anybody wait who could go on if we let go? */
bool rwlock_contended(struct rwlock *l);
/* For assertions: held by some writer; held by anybody. */
bool rwlock_write_held(struct rwlock *l);
bool rwlock_held(struct rwlock *l);

#endif
