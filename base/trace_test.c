// SPDX-License-Identifier: MIT
/* Trace points: switching by name, what a line looks like, silence when off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/trace.h"

static char last[512];
static unsigned lines;

static void sink(void *ctx, enum trace_point p, const char *line)
{
	strncpy(last, line, sizeof(last) - 1);
	lines++;
}

static void points_by_name(void **state)
{
	trace_set_sink(sink, NULL);
	trace(kvm_exit, "%d", 1);
	assert_int_equal(lines, 0);
	assert_int_equal(trace_enable("kvm_exit,kvm_pio"), 0);
	trace(kvm_exit, "vcpu %u", 3);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last, "kvm_exit:             vcpu 3"));
	trace(kvm_mmio, "%d", 1);
	assert_int_equal(lines, 1);
	assert_int_equal(trace_enable("kvm_mmio no_such"), -ENOENT);
	assert_true(trace_on(TRACE_kvm_mmio));
	assert_false(trace_on(TRACE_kvm_exit));
	assert_int_equal(trace_enable("all"), 0);
	assert_true(trace_on(TRACE_kvm_entry));
	assert_int_equal(trace_enable(NULL), 0);
	assert_false(trace_on(TRACE_kvm_mmio));
	assert_string_equal(trace_name(TRACE_kvm_entry), "kvm_entry");
}

/* task-pid [cpu] seconds.microseconds: name: text, in trace-cmd's columns. */
static void columns_of_a_line(void **state)
{
	char task[64], name[32], text[32];
	unsigned cpu;
	long s, us;
	int pid;

	trace_set_sink(sink, NULL);
	prctl(PR_SET_NAME, "a-task name");
	trace_enable("kvm_pio");
	trace(kvm_pio, "pio_read");
	trace_enable(NULL);
	assert_memory_equal(last, "     a-task name-", 17);
	assert_int_equal(sscanf(last, " %63[^-]-task name-%d [%3u] %ld.%6ld: %31[^:]: %31s", task, &pid, &cpu, &s, &us,
				name, text), 7);
	assert_int_equal(pid, gettid());
	assert_string_equal(name, "kvm_pio");
	assert_string_equal(strstr(last, "kvm_pio"), "kvm_pio:              pio_read");
}

static void lines_in_a_file(void **state)
{
	char path[] = "/tmp/trace-test-XXXXXX", text[512] = "";
	int fd = mkstemp(path);

	assert_int_equal(trace_to_file(path), 0);
	trace_enable("kvm_pio");
	trace(kvm_pio, "one");
	trace(kvm_pio, "two");
	trace_enable(NULL);
	trace_set_sink(sink, NULL);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "kvm_pio:              one\n"));
	assert_string_equal(text + strlen(text) - 4, "two\n");
	close(fd);
	unlink(path);
	assert_int_equal(trace_to_file("/nonexistent/x"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_by_name),
		cmocka_unit_test(columns_of_a_line),
		cmocka_unit_test(lines_in_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
