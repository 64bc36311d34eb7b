// SPDX-License-Identifier: MIT
/* The hub and daemons of a live test; see daemon.h. */
#include "tests/vdpa/daemon.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/hub.h"
#include "vdpa/vdpa.h"

struct live live;

u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

const char *path(const char *name)
{
	static char bufs[8][128];
	static unsigned n;
	char *b = bufs[n++ % 8];

	snprintf(b, sizeof(bufs[0]), "%s/%s", live.dir, name);
	return b;
}

/* ---- Processes ---- */

#define ARGS_MAX 24

pid_t spawn(const char *preload, const char *const *argv)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* Nothing outlives a test that fails or is killed, be it stopped or not. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (preload)
		setenv("LD_PRELOAD", preload, 1);
	/* Standard output is for results. */
	dup2(STDERR_FILENO, STDOUT_FILENO);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* Exit status of @pid within @ms, or -1. */
int reap(pid_t pid, u64 ms)
{
	u64 end = now_ms() + ms;
	int status;

	while (now_ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(5000);
	}
	return -1;
}

/* The arguments end with NULL. True if it exits with 0 within @ms. */
bool run_for(u64 ms, const char *a0, ...)
{
	const char *argv[ARGS_MAX] = {a0};
	va_list ap;

	va_start(ap, a0);
	for (unsigned i = 1; i < ARGS_MAX - 1 && argv[i - 1]; i++)
		argv[i] = va_arg(ap, const char *);
	va_end(ap);
	return reap(spawn(NULL, argv), ms) == 0;
}

/* The well-known command line: 16 queues of 128 entries. */
void qsd_start(struct qsd *q, const char *name, const char *blockdev, bool writable)
{
	const char *argv[ARGS_MAX];
	unsigned n = 0;

	snprintf(q->blockdev, sizeof(q->blockdev), "%s,node-name=disk0", blockdev);
	snprintf(q->export, sizeof(q->export),
		 "type=vduse-blk,id=%s,node-name=disk0,name=%s,num-queues=16,queue-size=128,writable=%s", name, name,
		 writable ? "on" : "off");
	snprintf(q->sock, sizeof(q->sock), "socket,id=qmp,path=%s/%s.qmp,server=on,wait=off", live.dir, name);
	argv[n++] = live.daemon;
	argv[n++] = "--chardev";
	argv[n++] = q->sock;
	argv[n++] = "--monitor";
	argv[n++] = "chardev=qmp";
	argv[n++] = "--blockdev";
	argv[n++] = q->blockdev;
	argv[n++] = "--export";
	argv[n++] = q->export;
	argv[n] = NULL;
	q->pid = spawn(live.shim, argv);
}

bool qsd_stop(struct qsd *q)
{
	u64 end = now_ms() + 20000;
	int status = -1;

	/*
	 * The daemon's handler sets a flag, which its loop reads before it sleeps: a signal between the two is seen
	 * with the next event only, so send another one.
	 */
	while (status < 0 && now_ms() < end) {
		kill(q->pid, SIGTERM);
		status = reap(q->pid, 500);
	}
	if (status < 0) {
		kill(q->pid, SIGKILL);
		reap(q->pid, 1000);
	}
	return status == 0;
}

int attach(const char *name)
{
	struct vdpa_mgmtdev *m = vdpa_mgmtdev_find(NULL, "vduse");
	const struct vdpa_dev_attrs none = { 0 };
	u64 end = now_ms() + 10000;
	int ret;

	/* Once the daemon has set its queues up. */
	do {
		ret = m->dev_add(m, name, &none);
		if (ret == -EINVAL)
			usleep(10000);
	} while (ret == -EINVAL && now_ms() < end);
	return ret;
}

static void *hub_thread(void *arg)
{
	const struct vdpa_hub_opts o = { 0 };

	if (vdpa_hub_main(&o))
		exit(1);
	return NULL;
}

bool live_begin(const char *userkvm, const char *shim, const char *daemon)
{
	static char dir[] = "/tmp/vdpa-live-XXXXXX";
	pthread_t hub;

	live = (struct live){realpath(userkvm, NULL), realpath(shim, NULL), daemon, mkdtemp(dir)};
	if (!live.userkvm || !live.shim || !live.dir)
		return false;
	setenv("XDG_RUNTIME_DIR", live.dir, 1);
	setenv("TMPDIR", live.dir, 1);
	log_set_level(LOG_ERROR);
	if (pthread_create(&hub, NULL, hub_thread, NULL))
		return false;
	while (!vdpa_mgmtdev_find(NULL, "vduse"))
		usleep(1000);
	return true;
}

void live_end(void)
{
	run_for(30000, "rm", "-rf", live.dir, NULL);
}
