// SPDX-License-Identifier: MIT
/*
 * nbdkit plugin: a vDPA block device as an NBD export. nbdkit speaks the
 * protocol; each of its requests is a request of our driver, on a queue by
 * thread. Loaded by `userkvm vdpa nbd`.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vdpa/blk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *device, *own_socket;
static bool readonly;
static struct vblk *_Atomic blk;

static int plugin_config(const char *key, const char *value)
{
	if (!strcmp(key, "device")) {
		free(device);
		device = strdup(value);
		return device ? 0 : -1;
	}
	if (!strcmp(key, "remove")) {
		free(own_socket);
		own_socket = nbdkit_absolute_path(value);
		return own_socket ? 0 : -1;
	}
	nbdkit_error("unknown parameter '%s'", key);
	return -1;
}

static int plugin_complete(void)
{
	if (device)
		return 0;
	nbdkit_error("device=NAME is missing");
	return -1;
}

/* ---- The end ---- */

/*
 * nbdkit ends when the requests that it has given us have returned, and tells nobody that it waits for that. A
 * daemon that does not answer must not keep it: our handlers stand before its own, and a thread gives up what is
 * not answered some time after the signal.
 */
static const int end_signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
static struct sigaction nbdkit_action[ARRAY_SIZE(end_signals)];
static int quit_fd = -1, unload_fd = -1;
static pthread_t watcher;
static bool watching;

static void on_end_signal(int sig, siginfo_t *info, void *context)
{
	int err = errno;

	eventfd_write(quit_fd, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(end_signals); i++) {
		const struct sigaction *a = &nbdkit_action[i];

		if (end_signals[i] != sig)
			continue;
		if (a->sa_flags & SA_SIGINFO)
			a->sa_sigaction(sig, info, context);
		else if (a->sa_handler != SIG_IGN && a->sa_handler != SIG_DFL)
			a->sa_handler(sig);
	}
	errno = err;
}

static void *watch(void *arg)
{
	struct pollfd quit = {.fd = quit_fd, .events = POLLIN}, unload = {.fd = unload_fd, .events = POLLIN};
	struct vblk *b;

	while (poll(&quit, 1, -1) < 0 && errno == EINTR)
		;
	if (poll(&unload, 1, VBLK_CLOSE_MS))
		return NULL;
	b = atomic_load(&blk);
	if (b)
		vblk_abandon(b);
	return NULL;
}

static int watch_start(void)
{
	sigset_t all, old;
	int ret;

	quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	unload_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (quit_fd < 0 || unload_fd < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = -pthread_create(&watcher, NULL, watch, NULL);
	watching = !ret;
	for (unsigned i = 0; i < ARRAY_SIZE(end_signals) && !ret; i++) {
		struct sigaction a;

		/* What ends the process, or is ignored, stays so. */
		sigaction(end_signals[i], NULL, &nbdkit_action[i]);
		a = nbdkit_action[i];
		if (!(a.sa_flags & SA_SIGINFO) && (a.sa_handler == SIG_DFL || a.sa_handler == SIG_IGN))
			continue;
		a.sa_flags |= SA_SIGINFO;
		a.sa_sigaction = on_end_signal;
		sigaction(end_signals[i], &a, NULL);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

/* The code goes, so nbdkit's handlers are its own again. */
static void watch_stop(void)
{
	if (!watching)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(end_signals); i++)
		sigaction(end_signals[i], &nbdkit_action[i], NULL);
	eventfd_write(quit_fd, 1);
	eventfd_write(unload_fd, 1);
	pthread_join(watcher, NULL);
	close(quit_fd);
	close(unload_fd);
}

/* nbdkit leaves the socket that it made; its next server would find it in use. */
static void remove_socket(void)
{
	if (own_socket)
		unlink(own_socket);
}

static int open_device(void)
{
	/* What a client of NBD gives us is split over bounce memory anyway; sleepers are nbdkit's threads. */
	struct vblk_cfg cfg = { 0 };
	struct vblk_info i;
	struct vblk *b;
	char err[256];
	int ret = watch_start();

	if (ret) {
		nbdkit_error("%s", strerror(-ret));
		return -1;
	}
	log_set_level(LOG_ERROR);
	cfg.cancel_fd = quit_fd;
	b = vblk_open_device(device, &cfg, err);
	if (!b) {
		nbdkit_error("%s", err);
		return -1;
	}
	vblk_info(b, &i);
	readonly = i.readonly;
	atomic_store(&blk, b);
	return 0;
}

/* Threads begin in the process that stays. Its socket is there already. */
static int plugin_after_fork(void)
{
	int ret = open_device();

	if (ret)
		remove_socket();
	return ret;
}

static void plugin_unload(void)
{
	watch_stop();
	if (blk) {
		remove_socket();
		vblk_close(blk);
	}
	free(own_socket);
	free(device);
}

/* ---- Requests ---- */

/* The device is one; a connection needs nothing of its own. */
static void *plugin_open(int ro)
{
	return &blk;
}

static struct vblk_info info_now(void)
{
	struct vblk_info i;

	vblk_info(blk, &i);
	return i;
}

static int64_t plugin_get_size(void *h)
{
	/* As it is now: NBD has no way to tell a client of a later change. */
	if (vblk_update(blk) < 0) {
		nbdkit_error("device %s has gone", device);
		return -1;
	}
	return (int64_t)info_now().size;
}

static int plugin_block_size(void *h, uint32_t *least, uint32_t *preferred, uint32_t *most)
{
	*least = 512;
	*preferred = max(info_now().block_size, 4096u);
	*most = 32u << 20;
	return 0;
}

static int plugin_can_write(void *h)
{
	return !readonly;
}

static int plugin_can_flush(void *h)
{
	return info_now().flush;
}

static int plugin_can_trim(void *h)
{
	return info_now().discard;
}

static int plugin_can_zero(void *h)
{
	return info_now().write_zeroes;
}

static int plugin_yes(void *h)
{
	return 1;
}

static int io(enum vblk_op op, void *buf, u64 off, u64 len, u32 flags)
{
	static _Atomic unsigned next;
	static _Thread_local unsigned mine;
	struct vblk_info i = info_now();
	int ret;

	/* A thread keeps its queue: they are nbdkit's, as many as it likes. */
	if (!mine)
		mine = atomic_fetch_add(&next, 1) + 1;
	ret = vblk_io(blk, (u16)(mine % i.queues), op, buf, off, len, flags);
	if (!ret)
		return 0;
	nbdkit_error("device %s: %s", device, strerror(-ret));
	nbdkit_set_error(ret == -ENODEV ? ESHUTDOWN : -ret);
	return -1;
}

static int plugin_pread(void *h, void *buf, uint32_t count, uint64_t off, uint32_t flags)
{
	return io(VBLK_READ, buf, off, count, 0);
}

static int plugin_pwrite(void *h, const void *buf, uint32_t count, uint64_t off, uint32_t flags)
{
	return io(VBLK_WRITE, (void *)(uintptr_t)buf, off, count, 0);
}

static int plugin_flush(void *h, uint32_t flags)
{
	return io(VBLK_FLUSH, NULL, 0, 0, 0);
}

static int plugin_trim(void *h, uint32_t count, uint64_t off, uint32_t flags)
{
	return io(VBLK_DISCARD, NULL, off, count, 0);
}

static int plugin_zero(void *h, uint32_t count, uint64_t off, uint32_t flags)
{
	return io(VBLK_WRITE_ZEROES, NULL, off, count, flags & NBDKIT_FLAG_MAY_TRIM ? VBLK_UNMAP : 0);
}

static struct nbdkit_plugin plugin = {
	.name = "userkvm",
	.longname = "vDPA block device of userkvm",
	.config = plugin_config,
	.config_complete = plugin_complete,
	.config_help = "device=NAME (required) name of the vDPA device\n"
		       "remove=FILE the server's socket, to be removed at the end",
	.magic_config_key = "device",
	.after_fork = plugin_after_fork,
	.unload = plugin_unload,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_flush,
	.can_trim = plugin_can_trim,
	.can_zero = plugin_can_zero,
	.can_multi_conn = plugin_yes,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.flush = plugin_flush,
	.trim = plugin_trim,
	.zero = plugin_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
