// SPDX-License-Identifier: MIT
/*
 * One global epoch, one slot per thread: 0 = in no section, else the epoch at
 * which its section began. A retired object is tagged with the epoch of its
 * retirement, which is thereby over; it is free when every slot is 0 or
 * greater than the tag.
 *
 * Why that suffices: the writer unlinks, then looks at the slots; a reader
 * stores its slot, then loads the pointer. All four are sequentially
 * consistent, so a reader whose store the writer missed loads after the unlink.
 * A reader seen with an epoch above the tag began after the unlink as well.
 */
#include "base/epoch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

struct slot {
	_Alignas(64) _Atomic u64 epoch;
	_Atomic bool taken;
	unsigned nest;		/* owner only */
	struct slot *next;
};

static _Atomic u64 global_epoch = 1;
static struct slot *_Atomic slots;		/* only grows; slots of ended threads are taken again */
static struct epoch_node *_Atomic retired;	/* pushed by any thread */
static _Atomic unsigned nr_retired;

/* Whoever holds it frees. */
static pthread_mutex_t reclaim_lock = PTHREAD_MUTEX_INITIALIZER;
static struct epoch_node *waiting;		/* taken off retired, not yet free */
static u64 oldest_waiting = ~0ull;		/* lowest tag among them */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;
static _Thread_local struct slot *self;

/* Look at the retired objects every so many of them. */
#define RECLAIM_BATCH 32

static void thread_exits(void *arg)
{
	struct slot *s = arg;

	BUG_ON(s->nest);
	self = NULL;
	atomic_store(&s->taken, false);
}

/* The child has one thread: sections of the others ended with them. */
static void forked_child(void)
{
	for (struct slot *s = atomic_load(&slots); s; s = s->next) {
		if (s == self)
			continue;
		s->nest = 0;
		atomic_store(&s->epoch, 0);
		atomic_store(&s->taken, false);
	}
}

static void before_fork(void) { pthread_mutex_lock(&reclaim_lock); }
static void after_fork(void) { pthread_mutex_unlock(&reclaim_lock); }
static void after_fork_child(void)
{
	pthread_mutex_unlock(&reclaim_lock);
	forked_child();
}

static void init(void)
{
	BUG_ON(pthread_key_create(&exit_key, thread_exits));
	BUG_ON(pthread_atfork(before_fork, after_fork, after_fork_child));
}

static struct slot *take_slot(void)
{
	struct slot *s;

	pthread_once(&once, init);
	for (s = atomic_load(&slots); s; s = s->next) {
		bool free_slot = false;

		if (atomic_compare_exchange_strong(&s->taken, &free_slot, true))
			goto found;
	}
	s = aligned_alloc(64, sizeof(*s));
	/* A section cannot fail, and there is nothing smaller to fall back to. */
	BUG_ON(!s);
	atomic_init(&s->epoch, 0);
	atomic_init(&s->taken, true);
	s->nest = 0;
	s->next = atomic_load(&slots);
	while (!atomic_compare_exchange_weak(&slots, &s->next, s))
		;
found:
	BUG_ON(pthread_setspecific(exit_key, s));
	return self = s;
}

void epoch_enter(void)
{
	struct slot *s = self;

	if (unlikely(!s))
		s = take_slot();
	if (s->nest++ == 0)
		atomic_store(&s->epoch, atomic_load(&global_epoch));
}

void epoch_exit(void)
{
	struct slot *s = self;

	BUG_ON(!s || !s->nest);
	if (--s->nest == 0)
		atomic_store_explicit(&s->epoch, 0, memory_order_release);
}

bool epoch_held(void)
{
	return self && self->nest;
}

/* Oldest epoch that a section is in, or ~0. */
static u64 oldest(void)
{
	u64 min_epoch = ~0ull;

	for (struct slot *s = atomic_load(&slots); s; s = s->next) {
		u64 e = atomic_load(&s->epoch);

		if (e && e < min_epoch)
			min_epoch = e;
	}
	return min_epoch;
}

/* reclaim_lock held: free what can be, keep the rest. */
static void reclaim(void)
{
	struct epoch_node *n = atomic_exchange(&retired, NULL), *next, **p;
	u64 limit;

	for (; n; n = next) {
		next = n->next;
		n->next = waiting;
		waiting = n;
		oldest_waiting = min(oldest_waiting, n->epoch);
	}
	/* After the exchange: whatever we took was retired before this look. */
	limit = oldest();
	/* A long section that retires much must not have the list walked each time. */
	if (oldest_waiting >= limit)
		return;
	oldest_waiting = ~0ull;
	for (p = &waiting; (n = *p);) {
		if (n->epoch >= limit) {
			oldest_waiting = min(oldest_waiting, n->epoch);
			p = &n->next;
			continue;
		}
		*p = n->next;
		atomic_fetch_sub(&nr_retired, 1);
		n->free(n);
	}
}

void epoch_defer(struct epoch_node *n, void (*fn)(struct epoch_node *n))
{
	n->free = fn;
	n->epoch = atomic_fetch_add(&global_epoch, 1);
	n->next = atomic_load(&retired);
	while (!atomic_compare_exchange_weak(&retired, &n->next, n))
		;
	if (atomic_fetch_add(&nr_retired, 1) % RECLAIM_BATCH == RECLAIM_BATCH - 1 &&
	    pthread_mutex_trylock(&reclaim_lock) == 0) {
		reclaim();
		pthread_mutex_unlock(&reclaim_lock);
	}
}

void epoch_synchronize(void)
{
	u64 tag;

	BUG_ON(epoch_held());
	tag = atomic_fetch_add(&global_epoch, 1);
	/* Sections are short: mostly one look is enough, then a few yields. */
	for (unsigned i = 0; oldest() <= tag; i++) {
		struct timespec ts = { .tv_nsec = 50000 };

		if (i < 16)
			sched_yield();
		else
			nanosleep(&ts, NULL);
	}
}

void epoch_barrier(void)
{
	epoch_synchronize();
	pthread_mutex_lock(&reclaim_lock);
	reclaim();
	pthread_mutex_unlock(&reclaim_lock);
}
