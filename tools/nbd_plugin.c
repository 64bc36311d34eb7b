// SPDX-License-Identifier: MIT
/*
 * nbdkit plugin: a vDPA block device as an NBD export. nbdkit speaks the
 * protocol; each of its requests is a request of our driver, on a queue by
 * thread. Loaded by `userkvm vdpa nbd`.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vdpa/blk.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *device;
static bool readonly;
static struct vblk *blk;

static int plugin_config(const char *key, const char *value)
{
	if (!strcmp(key, "device")) {
		free(device);
		device = strdup(value);
		return device ? 0 : -1;
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

/* Threads begin in the process that stays. */
static int plugin_after_fork(void)
{
	/* What a client of NBD gives us is split over bounce memory anyway; sleepers are nbdkit's threads. */
	const struct vblk_cfg cfg = { 0 };
	struct vblk_info i;
	char err[256];

	log_set_level(LOG_ERROR);
	blk = vblk_open_device(device, &cfg, err);
	if (!blk) {
		nbdkit_error("%s", err);
		return -1;
	}
	vblk_info(blk, &i);
	readonly = i.readonly;
	return 0;
}

static void plugin_unload(void)
{
	if (blk)
		vblk_close(blk);
	free(device);
}

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
	.config_help = "device=NAME (required) name of the vDPA device",
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
