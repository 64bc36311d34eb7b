/* SPDX-License-Identifier: MIT */
/*
 * Memory for generated code: one memfd mapped twice, writable here and executable
 * there, so that no mapping is ever both. Pages are touched as they are used.
 */
#ifndef SILICON_JIT_CODE_H
#define SILICON_JIT_CODE_H

#include <stddef.h>

#include "base/types.h"

struct jit_code {
	u8 *rw, *rx;
	size_t size;
};

/* @size: bytes, rounded up to pages. Returns 0 or a negative errno. */
int __must_check jit_code_new(struct jit_code *c, size_t size);
/* @c may be all zero. */
void jit_code_free(struct jit_code *c);

#endif
