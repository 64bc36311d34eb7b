/* SPDX-License-Identifier: MIT */
/*
 * Epoch-based deferred reclamation: readers run without locks, a writer's
 * retired object is freed when no reader section that could have seen it is
 * left. Sequentially consistent atomics only, so ThreadSanitizer understands it.
 *
 * A thread registers itself on its first section. Sections nest. A section may
 * be entered while holding any lock; epoch_synchronize() must not be called
 * inside one (BUG). Sections must be short: never across a blocking wait.
 */
#ifndef BASE_EPOCH_H
#define BASE_EPOCH_H

#include "base/types.h"

struct epoch_node {
	struct epoch_node *next;
	void (*free)(struct epoch_node *n);
	u64 epoch;
};

void epoch_enter(void);
void epoch_exit(void);
/* Is the calling thread inside a section? For assertions. */
bool epoch_held(void);

/*
 * Free @n with @free after a grace period. Never blocks; any thread. @free runs
 * on whatever thread calls in here next, maybe under its locks: it may defer
 * more, but must not take a lock that anybody holds while deferring.
 */
void epoch_defer(struct epoch_node *n, void (*free)(struct epoch_node *n));
/* Wait for one grace period. */
void epoch_synchronize(void);
/* Wait until everything deferred so far has been freed. */
void epoch_barrier(void);

#endif
