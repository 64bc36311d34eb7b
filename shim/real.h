/* SPDX-License-Identifier: MIT */
/* The functions that the preload object stands in front of, and how to define its own. */
#ifndef SHIM_REAL_H
#define SHIM_REAL_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/types.h"

#pragma GCC visibility push(hidden)
#define CALL(name, result, params) extern result (*shim_real_##name) params;
#include "shim/calls.def"
#undef CALL

/*
 * Find them. Each exported function calls it first, since other objects'
 * constructors may run before ours; after the first time it is one test.
 */
void shim_resolve_all(void);
extern bool shim_resolved;
#pragma GCC visibility pop

static inline void shim_resolve(void)
{
	if (unlikely(!__atomic_load_n(&shim_resolved, __ATOMIC_ACQUIRE)))
		shim_resolve_all();
}

/*
 * Declares a function of ours as the libc name @name. An assembler name,
 * because headers redirect and wrap some of the names themselves.
 */
#define SHIM_EXPORT(name) __asm__(#name) __attribute__((visibility("default")))

/* A result of vfs/ as libc returns it. */
static inline int shim_ret(long r)
{
	if (r >= 0)
		return (int)r;
	errno = (int)-r;
	return -1;
}

/* The same for counts. */
static inline ssize_t shim_ret_size(ssize_t r)
{
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : r;
}

#endif
