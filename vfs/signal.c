// SPDX-License-Identifier: MIT
/*
 * Client signal handlers behind ours: a caught signal first tells the vCPU that
 * runs on this thread, then the client's handler runs as it expects.
 *
 * What the kernel knows is our handler with the client's flags and mask. A
 * guarded signal is the exception: the kernel's action belongs to somebody who
 * needs the signal himself and passes the rest to us, so flags and mask of the
 * client's action are played here.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "vfs/vfs.h"

/*
 * The client's action of each signal. A handler may read it while another thread
 * replaces it: a sequence count makes the reader retry, as a lock could not.
 */
struct action {
	_Atomic unsigned seq;
	struct sigaction act;
	bool guarded;
	_Atomic bool spent;	/* guarded, and SA_RESETHAND has had its effect */
};
static struct action actions[NSIG];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool (*_Atomic fault_filter)(int sig, siginfo_t *info, void *context);

/*
 * A thread that has had a hook. While another thread calls the hook, BUSY stands in
 * its place: the owner may not go on before that is over, since the hook is its own
 * memory.
 */
struct kicked_thread {
	struct list link;
	pthread_t thread;
	pid_t tid;
	const struct vfs_kick *_Atomic kick;
	_Atomic bool missed;	/* its own handler found BUSY */
	bool listed;
};
static const struct vfs_kick busy;
#define BUSY (&busy)
static _Thread_local struct kicked_thread this_thread;
static struct list threads = LIST_INIT(threads);
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t unlist_key;

static void unlist(void *arg)
{
	struct kicked_thread *t = arg;

	pthread_mutex_lock(&threads_lock);
	list_del(&t->link);
	t->listed = false;
	pthread_mutex_unlock(&threads_lock);
}

static void threads_before_fork(void) { pthread_mutex_lock(&threads_lock); }
static void threads_in_parent(void) { pthread_mutex_unlock(&threads_lock); }

/* Of the threads only this one exists in the child. */
static void threads_in_child(void)
{
	list_init(&threads);
	if (this_thread.listed)
		list_add_tail(&this_thread.link, &threads);
	pthread_mutex_unlock(&threads_lock);
}

static void threads_init(void)
{
	pthread_key_create(&unlist_key, unlist);
	pthread_atfork(threads_before_fork, threads_in_parent, threads_in_child);
}

static void list_this_thread(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, threads_init);
	this_thread.thread = pthread_self();
	this_thread.tid = gettid();
	pthread_mutex_lock(&threads_lock);
	list_add_tail(&this_thread.link, &threads);
	this_thread.listed = true;
	pthread_mutex_unlock(&threads_lock);
	pthread_setspecific(unlist_key, &this_thread);
}

const struct vfs_kick *vfs_set_kick(const struct vfs_kick *k)
{
	const struct vfs_kick *old = atomic_load(&this_thread.kick);

	if (unlikely(!this_thread.listed))
		list_this_thread();
	while (old == BUSY || !atomic_compare_exchange_weak(&this_thread.kick, &old, k)) {
		sched_yield();
		old = atomic_load(&this_thread.kick);
	}
	return old;
}

/*
 * Lock held. Calls the hook's function on behalf of its owner. A signal that the
 * owner catches meanwhile finds BUSY and leaves word, which is acted on before
 * the hook is given back; or it sees the hook given back. See on_signal().
 */
static void call_hook(struct kicked_thread *t, bool poke)
{
	const struct vfs_kick *k;

	do {
		k = atomic_exchange(&t->kick, BUSY);
		if (atomic_exchange(&t->missed, false))
			poke = false;
		if (k && !poke)
			k->fn(k->arg);
		else if (k && k->poke)
			k->poke(k->arg);
		atomic_store(&t->kick, k);
	} while (atomic_load(&t->missed));
}

void vfs_poke_thread(const pthread_t *thread, pid_t tid)
{
	struct list *p;

	if (list_empty(&threads) || pthread_mutex_trylock(&threads_lock))
		return;
	list_for_each(p, &threads) {
		struct kicked_thread *t = list_entry(p, struct kicked_thread, link);

		if (t != &this_thread && (!thread || pthread_equal(t->thread, *thread)) &&
		    (!tid || t->tid == tid))
			call_hook(t, true);
	}
	pthread_mutex_unlock(&threads_lock);
}

void vfs_kick_thread(pthread_t thread)
{
	struct list *p;

	pthread_mutex_lock(&threads_lock);
	list_for_each(p, &threads) {
		struct kicked_thread *t = list_entry(p, struct kicked_thread, link);

		if (pthread_equal(t->thread, thread))
			call_hook(t, false);
	}
	pthread_mutex_unlock(&threads_lock);
}

void vfs_set_fault_filter(bool (*fn)(int sig, siginfo_t *info, void *context))
{
	atomic_store(&fault_filter, fn);
}

static bool is_handler(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) ||
	       (a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN);
}

static void call(const struct sigaction *act, int sig, siginfo_t *info, void *uc)
{
	if (act->sa_flags & SA_SIGINFO)
		act->sa_sigaction(sig, info, uc);
	else
		act->sa_handler(sig);
}

static void call_guarded(struct action *a, const struct sigaction *act, int sig, siginfo_t *info,
			 void *uc)
{
	static const struct sigaction dfl = { .sa_handler = SIG_DFL };
	bool raised_by_kernel = info->si_code > 0;
	sigset_t block, before;

	if (atomic_load(&a->spent) || !is_handler(act)) {
		/* A fault cannot be ignored: the kernel ends the program at its instruction. */
		if (act->sa_handler == SIG_IGN && !atomic_load(&a->spent) && !raised_by_kernel)
			return;
		sigaction(sig, &dfl, NULL);
		if (!raised_by_kernel)
			raise(sig);
		return;
	}
	block = act->sa_mask;
	if (!(act->sa_flags & SA_NODEFER))
		sigaddset(&block, sig);
	if (act->sa_flags & SA_RESETHAND)
		atomic_store(&a->spent, true);
	pthread_sigmask(SIG_BLOCK, &block, &before);
	call(act, sig, info, uc);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	bool (*filter)(int sig, siginfo_t *info, void *context) = atomic_load(&fault_filter);
	const struct vfs_kick *k = atomic_load(&this_thread.kick);
	struct action *a = &actions[sig];
	struct sigaction act;
	int saved_errno = errno;
	unsigned seq;

	if (a->guarded && filter && filter(sig, info, uc))
		return;
	if (unlikely(k == BUSY)) {
		atomic_store(&this_thread.missed, true);
		k = atomic_load(&this_thread.kick);
		if (k != BUSY)
			atomic_store(&this_thread.missed, false);
	}
	if (k && k != BUSY)
		k->fn(k->arg);
	do {
		seq = atomic_load(&a->seq);
		act = a->act;
	} while ((seq & 1) || atomic_load(&a->seq) != seq);
	errno = saved_errno;
	if (a->guarded)
		call_guarded(a, &act, sig, info, uc);
	else
		call(&act, sig, info, uc);
}

static bool is_ours(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == on_signal;
}

/* Lock held. */
static void set_action(struct action *a, const struct sigaction *act)
{
	atomic_fetch_add(&a->seq, 1);
	a->act = *act;
	atomic_fetch_add(&a->seq, 1);
	atomic_store(&a->spent, false);
}

static struct sigaction guarded_action(const struct action *a)
{
	struct sigaction act = a->act;

	if (atomic_load(&a->spent)) {
		act.sa_handler = SIG_DFL;
		act.sa_flags &= ~SA_SIGINFO;
	}
	return act;
}

/* Lock held. */
static int change(struct action *a, int sig, const struct sigaction *act, struct sigaction *prev)
{
	struct sigaction client = a->act, ours = *act;

	if (a->guarded) {
		*prev = guarded_action(a);
		set_action(a, act);
		return 0;
	}
	if (is_handler(act)) {
		ours.sa_sigaction = on_signal;
		ours.sa_flags |= SA_SIGINFO;
		/* Faults stay open in handlers too; see the client's mask calls. */
		sigdelset(&ours.sa_mask, SIGSEGV);
		sigdelset(&ours.sa_mask, SIGBUS);
		/* In place before the kernel can call on_signal() for it. */
		set_action(a, act);
	}
	if (sigaction(sig, &ours, prev) < 0) {
		int err = -errno;

		set_action(a, &client);
		return err;
	}
	/*
	 * Without a handler our record stays: one that is about to run may still
	 * look at it.
	 */
	if (is_ours(prev))
		*prev = client;
	return 0;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
static void watch_forks(void) { pthread_atfork(before_fork, after_fork, after_fork); }

int vfs_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sigaction prev;
	struct action *a;
	sigset_t all, mask;
	int ret = 0;

	if (sig < 1 || sig >= NSIG)
		return -EINVAL;
	pthread_once(&once, watch_forks);
	a = &actions[sig];
	/* sigaction() may be called by a handler: none may interrupt us with the lock held. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	pthread_mutex_lock(&lock);
	if (act) {
		ret = change(a, sig, act, &prev);
	} else if (a->guarded) {
		prev = guarded_action(a);
	} else if (sigaction(sig, NULL, &prev) < 0) {
		ret = -errno;
	} else if (is_ours(&prev)) {
		prev = a->act;
	}
	pthread_mutex_unlock(&lock);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (!ret && old)
		*old = prev;
	return ret;
}

int vfs_guard_signal(int sig)
{
	struct sigaction prev, ours = {
		.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	struct action *a = &actions[sig];
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (!a->guarded) {
		if (!sigaction(sig, NULL, &prev) && !is_ours(&prev))
			set_action(a, &prev);
		a->guarded = true;
		if (sigaction(sig, &ours, NULL) < 0) {
			a->guarded = false;
			ret = -errno;
		}
	}
	pthread_mutex_unlock(&lock);
	return ret;
}
