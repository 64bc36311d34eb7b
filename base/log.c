// SPDX-License-Identifier: MIT
/* Log sink, the list of unimplemented behaviours that were met, BUG. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic int level_max = LOG_WARN;
static void (*sink_fn)(void *ctx, enum log_level level, const char *line);
static void *sink_ctx;
static struct unimpl *_Atomic unimpl_head;

void log_set_level(enum log_level level)
{
	atomic_store(&level_max, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&level_max);
}

void log_set_sink(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx)
{
	sink_ctx = ctx;
	sink_fn = sink;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
	char line[1024];
	int n, m;
	va_list ap;

	if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed))
		return;
	n = snprintf(line, sizeof(line), "userkvm: %s", prefix[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = min(n + max(m, 0), (int)sizeof(line) - 2);
	if (sink_fn) {
		sink_fn(sink_ctx, level, line);
		return;
	}
	line[n] = '\n';
	if (write(STDERR_FILENO, line, n + 1) < 0) {
		/* Standard error is gone: nobody is left to tell. */
	}
}

void unimpl_hit(struct unimpl *u)
{
	if (atomic_fetch_add(&u->count, 1) != 0)
		return;
	log_warn("not implemented: %s", u->what);
	u->next = atomic_load(&unimpl_head);
	while (!atomic_compare_exchange_weak(&unimpl_head, &u->next, u))
		;
}

void unimpl_for_each(void (*fn)(void *ctx, const char *what, u64 count), void *ctx)
{
	for (struct unimpl *u = atomic_load(&unimpl_head); u; u = u->next)
		fn(ctx, u->what, atomic_load(&u->count));
}

void bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "userkvm: BUG at %s:%d: %s\n", file, line, what);
	abort();
}
