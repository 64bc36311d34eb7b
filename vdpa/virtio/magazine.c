// SPDX-License-Identifier: MIT
/*
 * Free blocks kept by thread.
 *
 * Owner and drainer exclude each other as in Dekker's algorithm: the owner says
 * that it is inside, then looks whether somebody drains; the drainer says that
 * it drains, then looks whether the owner is inside. Both need a full barrier
 * between the two. The owner's is left out, since it is on the path of every
 * mapping: the drainer makes one on all processors that run this process,
 * membarrier(2), and pays for both. An owner that sees it drain does without.
 *
 * Lock order: the allocator's lock, then registry_lock (which magazines there
 * are, and that an allocator is still there).
 */
#include "vdpa/virtio/magazine.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool usable;
_Thread_local struct magazine *magazine_last;
static _Thread_local struct magazine *mine;

#define get(p) atomic_load_explicit(p, memory_order_relaxed)
#define set(p, v) atomic_store_explicit(p, v, memory_order_relaxed)

/* All blocks of @m go back. Nobody is inside. */
static void empty(struct magazine *m, struct magazines *g)
{
	for (unsigned o = 0; o < MAGAZINE_ORDERS; o++) {
		for (u32 i = 0; i < get(&m->nr[o]); i++)
			g->back(g, o, get(&m->block[o][i]));
		set(&m->nr[o], 0);
	}
}

/* Registry lock held. */
static void forget(struct magazine *m)
{
	if (m->g)
		empty(m, m->g);
	list_del(&m->node);
	free(m);
}

static void thread_exit(void *arg)
{
	pthread_mutex_lock(&registry_lock);
	while (mine) {
		struct magazine *m = mine;

		mine = m->next;
		forget(m);
	}
	magazine_last = NULL;
	pthread_mutex_unlock(&registry_lock);
}

static void start(void)
{
	usable = !pthread_key_create(&key, thread_exit) &&
		 !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void magazines_init(struct magazines *g, void (*back)(struct magazines *g, unsigned order, u32 page))
{
	static _Atomic u64 ids;

	pthread_once(&once, start);
	*g = (struct magazines){.id = atomic_fetch_add(&ids, 1) + 1, .on = usable, .back = back};
	list_init(&g->all);
}

void magazines_exit(struct magazines *g)
{
	pthread_mutex_lock(&registry_lock);
	while (!list_empty(&g->all)) {
		struct magazine *m = list_entry(g->all.next, struct magazine, node);

		m->g = NULL;
		list_del(&m->node);
	}
	pthread_mutex_unlock(&registry_lock);
}

/* Throw away what this thread has of allocators that have gone. Registry lock held. */
static void prune(void)
{
	struct magazine **p = &mine, *m;

	while ((m = *p)) {
		if (m->g) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		if (magazine_last == m)
			magazine_last = NULL;
		forget(m);
	}
}

static struct magazine *new_magazine(struct magazines *g)
{
	struct magazine *m = calloc(1, sizeof(*m));

	if (!m || pthread_setspecific(key, m)) {
		free(m);
		return NULL;
	}
	m->id = g->id;
	m->g = g;
	pthread_mutex_lock(&registry_lock);
	prune();
	list_add_tail(&m->node, &g->all);
	pthread_mutex_unlock(&registry_lock);
	m->next = mine;
	mine = m;
	return m;
}

__attribute__((noinline)) struct magazine *magazine_find(struct magazines *g)
{
	struct magazine *m = mine;

	if (!g->on)
		return NULL;
	while (m && m->id != g->id)
		m = m->next;
	if (!m)
		m = new_magazine(g);
	magazine_last = m;
	return m;
}

void magazines_drain(struct magazines *g)
{
	struct list *p;

	if (!g->on)
		return;
	atomic_store(&g->draining, true);
	/* It was accepted in start(). */
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	pthread_mutex_lock(&registry_lock);
	list_for_each(p, &g->all) {
		struct magazine *m = list_entry(p, struct magazine, node);

		while (atomic_load_explicit(&m->inside, memory_order_acquire))
			sched_yield();
		empty(m, g);
	}
	pthread_mutex_unlock(&registry_lock);
	atomic_store_explicit(&g->draining, false, memory_order_release);
}

u64 magazines_pages(struct magazines *g)
{
	struct list *p;
	u64 n = 0;

	pthread_mutex_lock(&registry_lock);
	list_for_each(p, &g->all)
		for (unsigned o = 0; o < MAGAZINE_ORDERS; o++)
			n += (u64)get(&list_entry(p, struct magazine, node)->nr[o]) << o;
	pthread_mutex_unlock(&registry_lock);
	return n;
}
