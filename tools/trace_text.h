/* SPDX-License-Identifier: MIT */
/* Lines that `userkvm run --trace` writes, taken apart. */
#ifndef TOOLS_TRACE_TEXT_H
#define TOOLS_TRACE_TEXT_H

#include <stddef.h>

#include "base/trace.h"

struct trace_line {
	const char *task, *text;	/* not terminated */
	size_t task_len, text_len;
	int pid;
	unsigned cpu;
	u64 ns;
	enum trace_point point;
};

struct trace_text {
	char *data;
	struct trace_line *line;
	size_t nr, skipped;		/* skipped: lines that are none of ours, as one that was cut off */
	unsigned cpus;
};

/* Returns 0 or negative errno; -EINVAL if the file holds no line of a trace. */
int trace_text_read(struct trace_text *t, const char *path);
void trace_text_free(struct trace_text *t);

#endif
