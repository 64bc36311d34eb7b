// SPDX-License-Identifier: MIT
/* Trace points: switching by name, what a line looks like, silence when off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

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
	assert_non_null(strstr(last, "kvm_exit: vcpu 3"));
	trace(kvm_mmio, "%d", 1);
	assert_int_equal(lines, 1);
	assert_int_equal(trace_enable("kvm_mmio no_such"), -ENOENT);
	assert_true(trace_on(TRACE_kvm_mmio));
	assert_false(trace_on(TRACE_kvm_exit));
	assert_int_equal(trace_enable("all"), 0);
	assert_true(trace_on(TRACE_kvm_ioctl));
	assert_int_equal(trace_enable(NULL), 0);
	assert_false(trace_on(TRACE_kvm_mmio));
	assert_string_equal(trace_name(TRACE_kvm_entry), "kvm_entry");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(points_by_name) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
