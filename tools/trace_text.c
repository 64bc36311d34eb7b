// SPDX-License-Identifier: MIT
/* Reads what base/trace.c wrote: "TASK-PID [CPU] SECONDS.MICROS: POINT: TEXT". */
#include "tools/trace_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/guest_files.h"

#define MAX_CPUS 4096u

static bool find_point(const char *name, size_t len, enum trace_point *p)
{
	for (int i = 0; i < TRACE_NR_POINTS; i++) {
		if (strlen(trace_name((enum trace_point)i)) == len &&
		    !memcmp(trace_name((enum trace_point)i), name, len)) {
			*p = (enum trace_point)i;
			return true;
		}
	}
	return false;
}

/* @s is one line, terminated. A task's name may hold anything but " [" with a number behind it. */
static bool parse(char *s, struct trace_line *l)
{
	char *bracket = strstr(s, " ["), *dash, *colon;
	unsigned long long sec;
	unsigned usec;
	int used = 0;

	while (bracket && (sscanf(bracket, " [%u] %llu.%6u: %n", &l->cpu, &sec, &usec, &used) < 3 || !used))
		bracket = strstr(bracket + 2, " [");
	if (!bracket || l->cpu >= MAX_CPUS || sec > ~0ull / 1000000000 - 1)
		return false;
	*bracket = 0;
	dash = strrchr(s, '-');
	if (!dash || sscanf(dash, "-%d", &l->pid) != 1)
		return false;
	while (*s == ' ' && s < dash)
		s++;
	l->task = s;
	l->task_len = (size_t)(dash - s);
	l->ns = sec * 1000000000 + usec * 1000ull;
	s = bracket + used;
	colon = strchr(s, ':');
	if (!colon || !find_point(s, (size_t)(colon - s), &l->point))
		return false;
	l->text = colon + 1 + strspn(colon + 1, " ");
	l->text_len = strlen(l->text);
	return true;
}

int trace_text_read(struct trace_text *t, const char *path)
{
	size_t len, cap = 0;
	u8 *data;
	int ret;

	memset(t, 0, sizeof(*t));
	ret = file_read(path, &data, &len);
	if (ret)
		return ret;
	t->data = realloc(data, len + 1);
	if (!t->data) {
		free(data);
		return -ENOMEM;
	}
	t->data[len] = 0;
	for (char *s = t->data, *end; s < t->data + len; s = end + 1) {
		struct trace_line l = { 0 };
		unsigned cpus;

		end = memchr(s, '\n', (size_t)(t->data + len - s));
		if (!end)
			end = t->data + len;
		*end = 0;
		if (sscanf(s, "cpus=%u", &cpus) == 1) {
			t->cpus = max(t->cpus, min(cpus, MAX_CPUS));
			continue;
		}
		if (!parse(s, &l)) {
			t->skipped++;
			continue;
		}
		if (t->nr == cap) {
			struct trace_line *more;

			cap = cap ? cap * 2 : 1024;
			more = realloc(t->line, cap * sizeof(*more));
			if (!more) {
				trace_text_free(t);
				return -ENOMEM;
			}
			t->line = more;
		}
		t->line[t->nr++] = l;
		t->cpus = max(t->cpus, l.cpu + 1);
	}
	if (!t->nr) {
		trace_text_free(t);
		return -EINVAL;
	}
	return 0;
}

void trace_text_free(struct trace_text *t)
{
	free(t->data);
	free(t->line);
	memset(t, 0, sizeof(*t));
}
