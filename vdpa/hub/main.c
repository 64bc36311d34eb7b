// SPDX-License-Identifier: MIT
/*
 * The hub's start, its listening socket and its end.
 *
 * A lock file decides who is the hub of this user, for as long as the process
 * lives; only its holder touches the socket's name. So a hub that was killed
 * leaves nothing that could stop the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/hub.h"
#include "vdpa/hub/hub_priv.h"
#include "vdpa/mem.h"
#include "vdpa/vdpa.h"

#define BACKLOG 64

/* Beside the socket. */
static int open_beside(const char *sock_path, const char *suffix, int flags)
{
	char path[sizeof(struct sockaddr_un) + 8];
	int fd;

	snprintf(path, sizeof(path), "%s%s", sock_path, suffix);
	fd = open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

/* The lock's descriptor, which stays open for good; -EWOULDBLOCK: there is a hub. */
static int take_lock(const char *sock_path)
{
	int fd = open_beside(sock_path, ".lock", O_RDWR);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* Who has the lock, for people; nothing depends on it. */
static void sign_lock(int lock)
{
	if (ftruncate(lock, 0) < 0 || dprintf(lock, "%d\n", (int)getpid()) < 0)
		log_warn("vdpa hub: lock file: %s", strerror(errno));
}

static int listen_at(const struct sockaddr_un *addr)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int err = 0;

	if (sock < 0)
		return -errno;
	unlink(addr->sun_path);
	mask = umask(0177);
	if (bind(sock, (const struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(sock, BACKLOG) < 0)
		err = -errno;
	umask(mask);
	if (err) {
		close(sock);
		return err;
	}
	return sock;
}

/* 1 in the parent, 0 in the child, which has nothing of the terminal's, -errno. */
static int go_background(const char *sock_path)
{
	int null, logfile;
	pid_t pid = fork();

	if (pid)
		return pid < 0 ? -errno : 1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	logfile = open_beside(sock_path, ".log", O_WRONLY | O_TRUNC | O_APPEND);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(logfile >= 0 ? logfile : null, 2);
		close(null);
	}
	if (logfile >= 0)
		close(logfile);
	if (chdir("/") < 0)
		log_warn("vdpa hub: /: %s", strerror(errno));
	return 0;
}

static int is_there(void *arg, struct vdpa_device *d)
{
	return 1;
}

static bool busy(void)
{
	return hub_has_files() || vdpa_for_each(is_there, NULL);
}

static void serve(int listener, unsigned idle_s)
{
	unsigned idle = 0;

	while (!idle_s || idle < idle_s) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		int n = poll(&p, 1, 1000), sock;

		while (n > 0 && (sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			hub_new_client(sock);
		if (n > 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			usleep(10000);	/* out of descriptors: some will be closed */
		idle = n > 0 || busy() ? 0 : idle + 1;
	}
}

int vdpa_hub_main(const struct vdpa_hub_opts *o)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	sigset_t none;
	int lock, sock, err = vdpa_hub_path(addr.sun_path, sizeof(addr.sun_path), true);

	if (err) {
		log_error("vdpa hub: no folder of our own for the socket: %s", strerror(-err));
		return err;
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	lock = take_lock(addr.sun_path);
	if (lock == -EWOULDBLOCK)
		return 0;
	if (lock < 0) {
		log_error("vdpa hub: %s.lock: %s", addr.sun_path, strerror(-lock));
		return lock;
	}
	sock = listen_at(&addr);
	if (sock < 0) {
		log_error("vdpa hub: %s: %s", addr.sun_path, strerror(-sock));
		return sock;
	}
	/* Threads begin in the process that stays. */
	err = o->daemon ? go_background(addr.sun_path) : 0;
	if (!err) {
		sign_lock(lock);
		err = vdpa_mem_init();
	}
	if (!err)
		err = hub_init_parts();
	if (!err)
		serve(sock, o->idle_s);
	if (err <= 0)
		unlink(addr.sun_path);
	/* Closed before the lock goes with the process: who is still in the queue tries again. */
	close(sock);
	return min(err, 0);
}
