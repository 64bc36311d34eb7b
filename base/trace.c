// SPDX-License-Identifier: MIT
/* Trace points: names, the mask of those that are on, text lines. */
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
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

static void to_descriptor(int fd, char *line, size_t len)
{
	line[len] = '\n';
	if (write(fd, line, len + 1) < 0) {
		/* The file's place is full or gone: nobody is left to tell. */
	}
}

static int file = -1;

static void to_file(void *ctx, enum trace_point p, const char *line)
{
	/* trace_emit()'s buffer, which has room for the newline. */
	to_descriptor(file, (char *)line, strlen(line));
}

int trace_to_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666), high;

	if (fd < 0)
		return -errno;
	/* Away from the numbers that a client expects to get next, or closes in rows. */
	high = fcntl(fd, F_DUPFD_CLOEXEC, 512);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	if (file >= 0)
		close(file);
	file = fd;
	trace_set_sink(to_file, NULL);
	return 0;
}

void trace_emit(enum trace_point p, const char *fmt, ...)
{
	char line[512], task[17] = "";
	struct timespec ts;
	unsigned cpu = 0;
	va_list ap;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	prctl(PR_GET_NAME, task);
	getcpu(&cpu, NULL);
	n = snprintf(line, sizeof(line), "%16s-%-5d [%03u] %5lld.%06ld: %s: %*s", task, (int)gettid(), cpu,
		     (long long)ts.tv_sec, ts.tv_nsec / 1000, names[p],
		     max(20 - (int)strlen(names[p]), 0), "");
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n = min(n, (int)sizeof(line) - 2);
	if (sink_fn)
		sink_fn(sink_ctx, p, line);
	else
		to_descriptor(STDERR_FILENO, line, (size_t)n);
}
