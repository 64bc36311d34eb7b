// SPDX-License-Identifier: MIT
/* Signal calls: handlers go behind ours, and the signals of memory faults stay open. */
#include "shim/real.h"

#include <pthread.h>

#include "vfs/vfs.h"

int shim_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
	SHIM_EXPORT(sigaction);
int shim_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	shim_resolve();
	return shim_ret(vfs_sigaction(sig, act, old));
}

#define SIGNAL(name) \
	sighandler_t shim_##name(int sig, sighandler_t handler) SHIM_EXPORT(name); \
	sighandler_t shim_##name(int sig, sighandler_t handler) \
	{ \
		return set_handler(sig, handler); \
	}

/* BSD's meaning, which is glibc's: the handler stays, calls are restarted. */
static sighandler_t set_handler(int sig, sighandler_t handler)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;
	int ret;

	shim_resolve();
	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigaddset(&act.sa_mask, sig);
	ret = vfs_sigaction(sig, &act, &old);
	if (ret < 0) {
		errno = -ret;
		return SIG_ERR;
	}
	return old.sa_handler;
}
SIGNAL(signal)
SIGNAL(bsd_signal)

/*
 * A fault while its signal is blocked ends the program, and a thread that
 * blocks everything may still run a vCPU.
 */
static const sigset_t *keep_faults_open(int how, const sigset_t *set, sigset_t *copy)
{
	if (!set || how == SIG_UNBLOCK)
		return set;
	*copy = *set;
	sigdelset(copy, SIGSEGV);
	sigdelset(copy, SIGBUS);
	return copy;
}

int shim_sigprocmask(int how, const sigset_t *set, sigset_t *old) SHIM_EXPORT(sigprocmask);
int shim_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	shim_resolve();
	return shim_real_sigprocmask(how, keep_faults_open(how, set, &copy), old);
}

int shim_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) SHIM_EXPORT(pthread_sigmask);
int shim_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	shim_resolve();
	return shim_real_pthread_sigmask(how, keep_faults_open(how, set, &copy), old);
}

/* libc tells the thread by a signal of its own that nobody can catch, and KVM_RUN must end. */
int shim_pthread_cancel(pthread_t thread) SHIM_EXPORT(pthread_cancel);
int shim_pthread_cancel(pthread_t thread)
{
	int ret;

	shim_resolve();
	ret = shim_real_pthread_cancel(thread);
	if (ret == 0)
		vfs_kick_thread(thread);
	return ret;
}

/* ---- Sending: a vCPU whose signals are blocked cannot notice them by itself ---- */

/* After a call that has sent something; its result, and errno as it left it. */
static int sent(int ret, const pthread_t *thread, pid_t tid)
{
	int saved = errno;

	if (ret == 0)
		vfs_poke_thread(thread, tid);
	errno = saved;
	return ret;
}

int shim_pthread_kill(pthread_t thread, int sig) SHIM_EXPORT(pthread_kill);
int shim_pthread_kill(pthread_t thread, int sig)
{
	shim_resolve();
	return sent(shim_real_pthread_kill(thread, sig), &thread, 0);
}

int shim_pthread_sigqueue(pthread_t thread, int sig, const union sigval val) SHIM_EXPORT(pthread_sigqueue);
int shim_pthread_sigqueue(pthread_t thread, int sig, const union sigval val)
{
	shim_resolve();
	return sent(shim_real_pthread_sigqueue(thread, sig, val), &thread, 0);
}

int shim_tgkill(pid_t group, pid_t tid, int sig) SHIM_EXPORT(tgkill);
int shim_tgkill(pid_t group, pid_t tid, int sig)
{
	shim_resolve();
	return sent(shim_real_tgkill(group, tid, sig), NULL, tid);
}

/* To a process: any thread may be the one. Other processes' signals are looked for now and then. */
int shim_kill(pid_t pid, int sig) SHIM_EXPORT(kill);
int shim_kill(pid_t pid, int sig)
{
	shim_resolve();
	return sent(shim_real_kill(pid, sig), NULL, 0);
}

int shim_sigqueue(pid_t pid, int sig, const union sigval val) SHIM_EXPORT(sigqueue);
int shim_sigqueue(pid_t pid, int sig, const union sigval val)
{
	shim_resolve();
	return sent(shim_real_sigqueue(pid, sig, val), NULL, 0);
}
