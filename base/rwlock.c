// SPDX-License-Identifier: MIT
/*
 * The uncontended paths are one compare-and-exchange on the state word. A
 * thread that must wait counts itself in sleepers, then looks at the state
 * again under the mutex; a thread that changes the state looks at sleepers
 * afterwards. Both orders are sequentially consistent, so no wake-up is lost.
 */
#include "base/rwlock.h"

#include <stdatomic.h>

#include "base/log.h"

#define RWLOCK_WRITER (1u << 31)

static _Thread_local u32 held_ranks;

static void order_acquire(const struct rwlock *l)
{
	if (!l->rank)
		return;
	BUG_ON(held_ranks >> l->rank);
	held_ranks |= 1u << l->rank;
}

static void order_release(const struct rwlock *l)
{
	if (l->rank)
		held_ranks &= ~(1u << l->rank);
}

void rwlock_init(struct rwlock *l, u32 rank)
{
	*l = (struct rwlock){ .rank = rank };
	BUG_ON(rank > 31);
	pthread_mutex_init(&l->m, NULL);
	pthread_cond_init(&l->cv, NULL);
}

void rwlock_destroy(struct rwlock *l)
{
	BUG_ON(atomic_load(&l->state));
	pthread_mutex_destroy(&l->m);
	pthread_cond_destroy(&l->cv);
}

static bool try_read(struct rwlock *l)
{
	u32 s = atomic_load(&l->state);

	while (!(s & RWLOCK_WRITER))
		if (atomic_compare_exchange_weak(&l->state, &s, s + 1))
			return true;
	return false;
}

static bool try_write(struct rwlock *l)
{
	u32 s = 0;

	return atomic_compare_exchange_strong(&l->state, &s, RWLOCK_WRITER);
}

static void wake(struct rwlock *l)
{
	if (!atomic_load(&l->sleepers))
		return;
	pthread_mutex_lock(&l->m);
	pthread_cond_broadcast(&l->cv);
	pthread_mutex_unlock(&l->m);
}

void rwlock_read(struct rwlock *l)
{
	order_acquire(l);
	if (!atomic_load(&l->writers_waiting) && try_read(l))
		return;
	pthread_mutex_lock(&l->m);
	atomic_fetch_add(&l->sleepers, 1);
	l->readers_waiting++;
	for (;;) {
		if ((l->grant || !atomic_load(&l->writers_waiting)) && try_read(l))
			break;
		pthread_cond_wait(&l->cv, &l->m);
	}
	l->readers_waiting--;
	if (l->grant && --l->grant == 0)
		pthread_cond_broadcast(&l->cv);
	atomic_fetch_sub(&l->sleepers, 1);
	pthread_mutex_unlock(&l->m);
}

void rwlock_read_unlock(struct rwlock *l)
{
	order_release(l);
	if (atomic_fetch_sub(&l->state, 1) == 1)
		wake(l);
}

void rwlock_write(struct rwlock *l)
{
	order_acquire(l);
	if (try_write(l))
		return;
	atomic_fetch_add(&l->writers_waiting, 1);
	pthread_mutex_lock(&l->m);
	atomic_fetch_add(&l->sleepers, 1);
	while (l->grant || !try_write(l))
		pthread_cond_wait(&l->cv, &l->m);
	atomic_fetch_sub(&l->sleepers, 1);
	/* Readers that came meanwhile sleep, and look at this count under the mutex. */
	atomic_fetch_sub(&l->writers_waiting, 1);
	pthread_mutex_unlock(&l->m);
}

void rwlock_write_unlock(struct rwlock *l)
{
	order_release(l);
	atomic_store(&l->state, 0);
	if (!atomic_load(&l->sleepers))
		return;
	pthread_mutex_lock(&l->m);
	if (atomic_load(&l->writers_waiting))
		l->grant = l->readers_waiting;
	pthread_cond_broadcast(&l->cv);
	pthread_mutex_unlock(&l->m);
}

bool rwlock_contended(struct rwlock *l)
{
	return atomic_load(&l->writers_waiting) || atomic_load(&l->sleepers);
}

bool rwlock_write_held(struct rwlock *l)
{
	return atomic_load(&l->state) & RWLOCK_WRITER;
}

bool rwlock_held(struct rwlock *l)
{
	return atomic_load(&l->state);
}
