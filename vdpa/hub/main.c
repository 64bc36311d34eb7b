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
#include <sys/resource.h>
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

/* What is left of the terminal and the starter: nothing but the log. */
static void leave_terminal(const char *sock_path)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int logfile = open_beside(sock_path, ".log", O_WRONLY | O_TRUNC | O_APPEND);

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
}

/*
 * Go on in a child, which must listen itself: whoever listens is what clients see as the
 * socket's owner. In the parent 1 when the child serves, or what it has failed with; in the
 * child 0, and *@ready is where it says so.
 */
static int go_background(const char *sock_path, int *ready)
{
	int ends[2], result = -EIO;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (!pid) {
		close(ends[0]);
		*ready = ends[1];
		leave_terminal(sock_path);
		return 0;
	}
	close(ends[1]);
	if (pid < 0)
		result = -errno;
	else if (read(ends[0], &result, sizeof(result)) != sizeof(result))
		result = -EIO;
	close(ends[0]);
	return result ? result : 1;
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

/* Files that clients map are descriptors here: as many as there may be. */
static void raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		log_warn("vdpa hub: RLIMIT_NOFILE: %s", strerror(errno));
}

/* With the lock: listen, and serve until idle. @ready, if it is not -1, hears when that begins. */
static int run(const struct sockaddr_un *addr, unsigned idle_s, int ready)
{
	int sock = listen_at(addr), err = sock < 0 ? sock : vdpa_mem_init();

	if (!err)
		err = hub_init_parts();
	if (err)
		log_error("vdpa hub: %s: %s", addr->sun_path, strerror(-err));
	if (ready >= 0 && write(ready, &err, sizeof(err)) != sizeof(err))
		log_warn("vdpa hub: nobody waits for its start");
	if (ready >= 0)
		close(ready);
	if (!err)
		serve(sock, idle_s);
	if (sock >= 0) {
		unlink(addr->sun_path);
		/* Closed before the lock goes with the process: who is still in the queue tries again. */
		close(sock);
	}
	return err;
}

int vdpa_hub_main(const struct vdpa_hub_opts *o)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int lock, ready = -1, err = vdpa_hub_path(addr.sun_path, sizeof(addr.sun_path), true);
	sigset_t none;

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
	/* Threads begin in the process that stays. */
	err = o->daemon ? go_background(addr.sun_path, &ready) : 0;
	if (err)
		return min(err, 0);
	sign_lock(lock);
	raise_limit();
	return run(&addr, o->idle_s, ready);
}
