/* SPDX-License-Identifier: MIT */
/*
 * Trace points by the names that Linux' KVM gives them (arch/x86/kvm: kvm_exit,
 * kvm_pio, ...). A point that is off costs one load and a predicted branch. One
 * that is on makes a line of text, in the columns of `trace-cmd report`, and hands it
 * to the sink (standard error by default).
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdatomic.h>

#include "base/types.h"

enum trace_point {
#define TRACE_POINT(name) TRACE_##name,
#include "base/trace.def"
#undef TRACE_POINT
	TRACE_NR_POINTS
};

extern _Atomic u64 trace_mask;

static inline bool trace_on(enum trace_point p)
{
	return unlikely(atomic_load_explicit(&trace_mask, memory_order_relaxed) >> p & 1);
}

#define trace(point, ...) \
	do { \
		if (trace_on(TRACE_##point)) \
			trace_emit(TRACE_##point, __VA_ARGS__); \
	} while (0)

void trace_emit(enum trace_point p, const char *fmt, ...) __printf(2, 3);

/*
 * Switch points on: @names separated by commas or spaces; "kvm" or "all" means
 * every point; NULL or "" switches all off. -ENOENT for an unknown name (the
 * others are switched all the same).
 */
int trace_enable(const char *names);
const char *trace_name(enum trace_point p);

/* @line has no newline. NULL: standard error. Called on the emitting thread. */
void trace_set_sink(void (*sink)(void *ctx, enum trace_point p, const char *line), void *ctx);
/*
 * Append lines to the file @path, a write each, so that several processes may
 * share it. 0 or -errno. The descriptor stays open until the process ends.
 */
int trace_to_file(const char *path);

#endif
