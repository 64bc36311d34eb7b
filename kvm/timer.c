// SPDX-License-Identifier: MIT
/*
 * The timer thread: a binary heap of armed timers under one lock, which is
 * innermost of all (functions run without it).
 *
 * The thread sleeps on a condition variable until the first deadline, or until
 * an earlier one is armed. A child made by fork() has no thread and none of the
 * parent's timers; it starts afresh.
 */
#include "kvm/timer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/log.h"
#include "kvm/host_time.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;	/* the thread: the first deadline has changed */
	pthread_cond_t idle;	/* stoppers: a function has returned */
	struct hv_timer **heap;
	unsigned nr, room;
	struct hv_timer *running;
	pthread_t thread;
	bool started, hooked;
} tm = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void place(unsigned i, struct hv_timer *t)
{
	tm.heap[i] = t;
	t->slot = i + 1;
}

static void sift_up(unsigned i)
{
	struct hv_timer *t = tm.heap[i];

	while (i > 0 && tm.heap[(i - 1) / 2]->expires > t->expires) {
		place(i, tm.heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(i, t);
}

static void sift_down(unsigned i)
{
	struct hv_timer *t = tm.heap[i];

	for (;;) {
		unsigned c = 2 * i + 1;

		if (c >= tm.nr)
			break;
		if (c + 1 < tm.nr && tm.heap[c + 1]->expires < tm.heap[c]->expires)
			c++;
		if (tm.heap[c]->expires >= t->expires)
			break;
		place(i, tm.heap[c]);
		i = c;
	}
	place(i, t);
}

static void heap_remove(struct hv_timer *t)
{
	unsigned i = t->slot - 1;
	struct hv_timer *last;

	if (!t->slot)
		return;
	t->slot = 0;
	last = tm.heap[--tm.nr];
	if (last == t)
		return;
	place(i, last);
	sift_up(i);
	sift_down(last->slot - 1);
}

static void *timer_main(void *arg)
{
	struct hv_timer *t;
	struct timespec ts;

	/* The default slack of 50 us would be the largest part of our latency. */
	prctl(PR_SET_TIMERSLACK, 1);
	prctl(PR_SET_NAME, "userkvm-timer");
	pthread_mutex_lock(&tm.lock);
	for (;;) {
		if (!tm.nr) {
			pthread_cond_wait(&tm.wake, &tm.lock);
			continue;
		}
		t = tm.heap[0];
		if (t->expires > hv_host_ns()) {
			ts.tv_sec = t->expires / NSEC_PER_SEC;
			ts.tv_nsec = t->expires % NSEC_PER_SEC;
			pthread_cond_timedwait(&tm.wake, &tm.lock, &ts);
			continue;
		}
		heap_remove(t);
		tm.running = t;
		pthread_mutex_unlock(&tm.lock);
		t->fn(t);
		pthread_mutex_lock(&tm.lock);
		tm.running = NULL;
		pthread_cond_broadcast(&tm.idle);
	}
	return NULL;
}

static void after_fork(void)
{
	pthread_mutex_init(&tm.lock, NULL);
	tm.nr = 0;
	tm.running = NULL;
	tm.started = false;
}

/* Called with the lock held. */
static int start_thread(void)
{
	pthread_condattr_t attr;
	sigset_t all, old;
	int err;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&tm.wake, &attr);
	pthread_cond_init(&tm.idle, NULL);
	pthread_condattr_destroy(&attr);
	if (!tm.hooked && pthread_atfork(NULL, NULL, after_fork))
		return -ENOMEM;
	tm.hooked = true;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&tm.thread, NULL, timer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	pthread_detach(tm.thread);
	tm.started = true;
	return 0;
}

void hv_timer_init(struct hv_timer *t, void (*fn)(struct hv_timer *t))
{
	*t = (struct hv_timer){ .fn = fn };
}

int hv_timer_arm(struct hv_timer *t, u64 ns)
{
	struct hv_timer **heap;
	int err = 0;

	pthread_mutex_lock(&tm.lock);
	if (t->stopping)
		err = -ECANCELED;
	else if (!tm.started)
		err = start_thread();
	if (err)
		goto out;
	heap_remove(t);
	if (tm.nr == tm.room) {
		heap = realloc(tm.heap, (tm.room * 2 + 16) * sizeof(*heap));
		if (!heap) {
			err = -ENOMEM;
			goto out;
		}
		tm.heap = heap;
		tm.room = tm.room * 2 + 16;
	}
	t->expires = ns;
	place(tm.nr++, t);
	sift_up(tm.nr - 1);
	if (tm.heap[0] == t)
		pthread_cond_signal(&tm.wake);
out:
	pthread_mutex_unlock(&tm.lock);
	return err;
}

void hv_timer_disarm(struct hv_timer *t)
{
	pthread_mutex_lock(&tm.lock);
	heap_remove(t);
	pthread_mutex_unlock(&tm.lock);
}

void hv_timer_stop(struct hv_timer *t)
{
	pthread_mutex_lock(&tm.lock);
	heap_remove(t);
	BUG_ON(tm.running == t && pthread_equal(tm.thread, pthread_self()));
	/* A function that re-arms its own timer must not do so any more. */
	t->stopping = true;
	while (tm.running == t)
		pthread_cond_wait(&tm.idle, &tm.lock);
	t->stopping = false;
	pthread_mutex_unlock(&tm.lock);
}
