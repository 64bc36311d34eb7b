// SPDX-License-Identifier: MIT
/* Trace points: names, the mask of those that are on, text lines. */
#include "base/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Atomic u64 trace_mask;

static const char *const names[] = {
#define TRACE_POINT(name) #name,
#include "base/trace.def"
#undef TRACE_POINT
};
_Static_assert(ARRAY_SIZE(names) <= 64, "one mask word");

static void (*sink_fn)(void *ctx, enum trace_point p, const char *line);
static void *sink_ctx;

const char *trace_name(enum trace_point p)
{
	return names[p];
}

void trace_set_sink(void (*sink)(void *ctx, enum trace_point p, const char *line), void *ctx)
{
	sink_ctx = ctx;
	sink_fn = sink;
}

static u64 mask_of(const char *name, size_t len)
{
	if ((len == 3 && !memcmp(name, "all", 3)) || (len == 3 && !memcmp(name, "kvm", 3)))
		return ~0ull >> (64 - ARRAY_SIZE(names));
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i]) == len && !memcmp(names[i], name, len))
			return 1ull << i;
	}
	return 0;
}

int trace_enable(const char *list)
{
	u64 mask = 0;
	int err = 0;

	while (list && *list) {
		size_t len = strcspn(list, ", ");
		u64 m = mask_of(list, len);

		if (len && !m)
			err = -ENOENT;
		mask |= m;
		list += len;
		list += strspn(list, ", ");
	}
	atomic_store(&trace_mask, mask);
	return err;
}

void trace_emit(enum trace_point p, const char *fmt, ...)
{
	struct timespec ts;
	char line[512];
	int n;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	n = snprintf(line, sizeof(line), "%16d [000] %5lld.%06ld: %s: ", (int)syscall(SYS_gettid),
		     (long long)ts.tv_sec, ts.tv_nsec / 1000, names[p]);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (sink_fn) {
		sink_fn(sink_ctx, p, line);
		return;
	}
	n = min(n, (int)sizeof(line) - 2);
	line[n] = '\n';
	if (write(STDERR_FILENO, line, n + 1) < 0) {
		/* Standard error is gone: nobody is left to tell. */
	}
}
