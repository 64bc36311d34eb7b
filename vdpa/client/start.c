// SPDX-License-Identifier: MIT
/*
 * Reaching the hub: connect, or start it and connect.
 *
 * This runs inside any program, so a hub is started without traces there: the
 * child is not the program's to wait for (no exit signal, found by __WCLONE
 * only), and it keeps none of the program's descriptors, handlers or preload
 * objects.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/client/rpc.h"

/* A hub that starts, or one that is about to exit, needs a moment. */
#define TRIES 100
#define PAUSE_US 20000
#define STACK_SIZE (64 * 1024)

/* The userkvm program: as the environment says, or beside the object that this code is in. */
static int find_exe(char exe[PATH_MAX])
{
	static const char *const places[] = { "userkvm", "../bin/userkvm", "../../bin/userkvm" };
	const char *env = getenv("USERKVM_EXE");
	char base[PATH_MAX];
	Dl_info info;
	ssize_t n;

	if (env && *env) {
		snprintf(exe, PATH_MAX, "%s", env);
		return access(exe, X_OK) ? -errno : 0;
	}
	n = readlink("/proc/self/exe", base, sizeof(base) - 1);
	base[n < 0 ? 0 : n] = 0;
	for (unsigned from = 0; from < 2; from++) {
		/* First the program itself, then the preload object. */
		if (from && (!dladdr((void *)find_exe, &info) || !realpath(info.dli_fname, base)))
			break;
		if (!strrchr(base, '/'))
			continue;
		*(strrchr(base, '/') + 1) = 0;
		for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
			if ((size_t)snprintf(exe, PATH_MAX, "%s%s", base, places[i]) < PATH_MAX &&
			    !access(exe, X_OK))
				return 0;
		}
	}
	return -ENOENT;
}

struct child {
	const char *exe;
	char **env;
};

/* Shares our memory until it executes: system calls only, all signals blocked. */
static int run_child(void *arg)
{
	const struct child *c = arg;
	char *argv[] = { (char *)(uintptr_t)"userkvm", (char *)(uintptr_t)"vdpa",
			 (char *)(uintptr_t)"hub", (char *)(uintptr_t)"--daemon", NULL };

	syscall(SYS_setsid);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	syscall(SYS_execve, c->exe, argv, c->env);
	syscall(SYS_exit, 127);
	return 127;
}

/* The environment without what made us part of the program. */
static char **clean_env(void)
{
	unsigned n = 0, kept = 0;
	char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (unsigned i = 0; env && i < n; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11))
			env[kept++] = environ[i];
	return env;
}

/* Returns when the new hub listens, or has found that another one does. */
static int start_hub(void)
{
	char exe[PATH_MAX], *stack;
	struct child c = { .exe = exe };
	sigset_t all, before;
	int status = 0, pid, err = find_exe(exe);

	if (err) {
		log_error("vdpa: no userkvm program beside this one and in USERKVM_EXE: no hub");
		return err;
	}
	c.env = clean_env();
	stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (!c.env || stack == MAP_FAILED) {
		err = -ENOMEM;
		goto out;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid = clone(run_child, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK, &c);
	err = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while (pid > 0 && waitpid(pid, &status, __WCLONE) < 0 && errno == EINTR)
		;
	if (pid > 0 && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		log_error("vdpa: %s vdpa hub did not start", exe);
		err = -ENOENT;
	}
out:
	if (stack != MAP_FAILED)
		munmap(stack, STACK_SIZE);
	free(c.env);
	return err;
}

static int try_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int err = vdpa_hub_path(addr.sun_path, sizeof(addr.sun_path), false), sock;

	if (err)
		return err;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err = -errno;
	else if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid != geteuid())
		err = -EACCES;
	if (err) {
		close(sock);
		return err;
	}
	return sock;
}

static int open_file(struct vdpa_msg *m, bool may_start)
{
	struct vdpa_msg rep;
	bool started = false;
	int err, sock;

	for (unsigned i = 0; i < TRIES; i++) {
		sock = try_connect();
		if (sock < 0 && (!may_start || (sock != -ENOENT && sock != -ECONNREFUSED)))
			return sock == -ECONNREFUSED ? -ENOENT : sock;
		if (sock < 0) {
			/* Once, and again now and then: the one that held the lock may have been leaving. */
			if (!started || i % 10 == 0) {
				err = start_hub();
				if (err)
					return err;
				started = true;
			} else {
				usleep(PAUSE_US);
			}
			continue;
		}
		m->head.op = VDPA_OP_OPEN;
		err = vdpa_msg_send(sock, m);
		if (!err)
			err = vdpa_msg_recv(sock, &rep);
		if (err != -EPIPE)
			break;
		/* It was leaving, or we are not its user. */
		close(sock);
		usleep(PAUSE_US);
	}
	if (sock < 0 || err == -EPIPE)
		return sock < 0 ? -ENOENT : -EACCES;
	if (!err) {
		*m = rep;
		err = (int)min(rep.head.value, (s64)0);
	}
	if (err) {
		close(sock);
		vdpa_msg_close_fds(m);
		return err;
	}
	return sock;
}

int vdpa_hub_open(struct vdpa_msg *m)
{
	return open_file(m, true);
}

int vdpa_hub_open_running(struct vdpa_msg *m)
{
	return open_file(m, false);
}

bool vdpa_hub_owns(int fd)
{
	struct sockaddr_un peer, ours;
	socklen_t len = sizeof(peer);

	memset(&peer, 0, sizeof(peer));
	return !getpeername(fd, (struct sockaddr *)&peer, &len) && peer.sun_family == AF_UNIX &&
	       !vdpa_hub_path(ours.sun_path, sizeof(ours.sun_path), false) &&
	       !strncmp(peer.sun_path, ours.sun_path, sizeof(peer.sun_path));
}
