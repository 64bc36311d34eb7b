/* SPDX-License-Identifier: MIT */
/*
 * Log and the three kinds of trouble: the caller's (an errno), the guest's
 * (an architectural event, never logged as an error), and ours (BUG_ON).
 *
 * Lines go to standard error, or to the sink that log_set_sink() names, one
 * write a line, so that lines of several threads never mix.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above @level are dropped. Default LOG_WARN; any thread, any time. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Send lines to @sink instead of standard error; NULL restores it. */
void log_set_sink(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx);

void log_at(enum log_level level, const char *fmt, ...) __printf(2, 3);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/*
 * Behaviour that is not implemented: say so once, by name, and count it.
 * A place that calls this must still end in an architectural answer.
 */
struct unimpl {
	const char *what;
	_Atomic u64 count;
	struct unimpl *next;
};
void unimpl_hit(struct unimpl *u);
/* Walk all that were hit at least once. */
void unimpl_for_each(void (*fn)(void *ctx, const char *what, u64 count), void *ctx);

#define UNIMPL(what_) \
	do { \
		static struct unimpl u_ = { .what = (what_) }; \
		unimpl_hit(&u_); \
	} while (0)

/* We are wrong. Never reachable by guest, ioctl or file input. */
_Noreturn void bug(const char *file, int line, const char *what);
#define BUG_ON(c) do { if (unlikely(c)) bug(__FILE__, __LINE__, #c); } while (0)
#define BUG() bug(__FILE__, __LINE__, "unreachable")

#endif
