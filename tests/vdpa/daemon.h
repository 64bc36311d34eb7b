/* SPDX-License-Identifier: MIT */
/*
 * What live tests and the benchmark share: the hub in a thread of this program,
 * qemu-storage-daemon as a process with the preload object, a folder for all files.
 */
#ifndef TESTS_VDPA_DAEMON_H
#define TESTS_VDPA_DAEMON_H

#include <sys/types.h>

#include "base/types.h"

struct live {
	const char *userkvm, *shim, *daemon;	/* programs and the preload object */
	const char *dir;
};
extern struct live live;

/* Start the hub. False: it cannot. */
bool live_begin(const char *userkvm, const char *shim, const char *daemon);
/* Remove the folder. */
void live_end(void);
/* A name in the folder; one of the last eight results is valid. */
const char *path(const char *name);

u64 now_ms(void);

/* @preload: NULL for none. */
pid_t spawn(const char *preload, const char *const *argv);
/* Exit status of @pid within @ms, or -1. */
int reap(pid_t pid, u64 ms);
/* The arguments end with NULL. True if it exits with 0 within @ms. */
bool run_for(u64 ms, const char *a0, ...);

struct qsd {
	pid_t pid;
	char blockdev[256], export[256], sock[160];
};

/* The well-known command line, 16 queues of 128 entries, with @blockdev below it. */
void qsd_start(struct qsd *q, const char *name, const char *blockdev, bool writable);
/* By SIGTERM. True if it exits with 0. */
bool qsd_stop(struct qsd *q);
/* `vdpa dev add name NAME mgmtdev vduse`, once the daemon has set its queues up. 0 or -errno. */
int attach(const char *name);

#endif
