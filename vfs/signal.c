// SPDX-License-Identifier: MIT
/*
 * Client signal handlers behind ours: a caught signal first tells the vCPU that
 * runs on this thread, then the client's handler runs as it expects.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "vfs/vfs.h"

/*
 * The client's action of each signal. A handler may read it while another thread
 * replaces it: a sequence count makes the reader retry, as a lock could not.
 */
struct action {
	_Atomic unsigned seq;
	struct sigaction act;
	bool wrapped;
};
static struct action actions[NSIG];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local const struct vfs_kick *_Atomic thread_kick;

const struct vfs_kick *vfs_set_kick(const struct vfs_kick *k)
{
	return atomic_exchange(&thread_kick, k);
}

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	const struct vfs_kick *k = atomic_load(&thread_kick);
	struct action *a = &actions[sig];
	struct sigaction act;
	int saved_errno = errno;
	unsigned seq;

	if (k)
		k->fn(k->arg);
	do {
		seq = atomic_load(&a->seq);
		act = a->act;
	} while ((seq & 1) || atomic_load(&a->seq) != seq);
	errno = saved_errno;
	if (act.sa_flags & SA_SIGINFO)
		act.sa_sigaction(sig, info, uc);
	else
		act.sa_handler(sig);
}

static bool is_handler(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) ||
	       (a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN);
}

int vfs_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction ours, prev;
	struct action *a;
	bool wrap;
	int ret = 0;

	if (sig < 1 || sig >= NSIG)
		return -EINVAL;
	a = &actions[sig];
	pthread_mutex_lock(&lock);
	if (act) {
		struct sigaction client = a->act;
		bool was_wrapped = a->wrapped;

		ours = *act;
		wrap = is_handler(act);
		if (wrap) {
			ours.sa_sigaction = on_signal;
			ours.sa_flags |= SA_SIGINFO;
		}
		/* The new action is in place before the kernel can call on_signal() for it. */
		atomic_fetch_add(&a->seq, 1);
		a->act = *act;
		atomic_fetch_add(&a->seq, 1);
		if (sigaction(sig, &ours, &prev) < 0) {
			ret = -errno;
			atomic_fetch_add(&a->seq, 1);
			a->act = client;
			atomic_fetch_add(&a->seq, 1);
		} else {
			a->wrapped = wrap;
			if (old)
				*old = was_wrapped ? client : prev;
		}
	} else if (sigaction(sig, NULL, &prev) < 0) {
		ret = -errno;
	} else if (old) {
		*old = a->wrapped ? a->act : prev;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}
