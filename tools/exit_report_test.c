// SPDX-License-Identifier: MIT
/* Exits counted by a vCPU's side, summed and printed by the tool's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/exit_report.h"

static void new_vcpu(struct hv_exit_stat *s, u32 vcpu)
{
	int fd = memfd_create("kvm-vcpu", MFD_CLOEXEC);

	memset(s, 0, sizeof(*s));
	assert_int_equal(ftruncate(fd, 64 * PAGE_SIZE), 0);
	assert_int_equal(hv_exit_stat_new(s, fd, vcpu), 0);
	close(fd);
}

static void exits(struct hv_exit_stat *s, u32 reason, unsigned n)
{
	while (n--) {
		hv_exit_stat_begin(s, HV_EVENT_VMEXIT, reason);
		hv_exit_stat_entry(s);
	}
}

static char *print(struct exit_report *r, const struct hv_exit_stat *s, unsigned n)
{
	size_t size;
	char *text;
	FILE *f = open_memstream(&text, &size);

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(exit_report_add(r, s[i].area), 0);
	exit_report_print(r, "all VMs", f);
	fclose(f);
	exit_report_clear(r);
	return text;
}

static void counts_while_wanted(void **state)
{
	struct exit_report r = { .vcpu = -1 };
	struct hv_exit_stat s[2];
	char *text;

	new_vcpu(&s[0], 0);
	new_vcpu(&s[1], 1);
	assert_false(hv_exit_stat_wanted(&s[0]));
	for (unsigned i = 0; i < 2; i++) {
		s[i].area->wanted = 7;
		assert_true(hv_exit_stat_wanted(&s[i]));
		exits(&s[i], 12, 3);
		exits(&s[i], 30, 1);
		assert_int_equal(s[i].area->counting, 7);
	}
	exits(&s[1], 10, 12);
	text = print(&r, s, 2);
	assert_non_null(strstr(text, "Analyze events for all VMs, all VCPUs:\n\n"));
	assert_non_null(strstr(text, "             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time"
				     "         Avg time \n\n               CPUID         12    60.00% "));
	assert_non_null(strstr(text, "\n                 HLT          6    30.00% "));
	assert_non_null(strstr(text, "\n      IO_INSTRUCTION          2    10.00% "));
	assert_non_null(strstr(text, "\nTotal Samples:20, Total events handled time:"));
	free(text);
	r.vcpu = 0;
	text = print(&r, s, 2);
	assert_non_null(strstr(text, "Analyze events for all VMs, VCPU 0:"));
	assert_non_null(strstr(text, "\nTotal Samples:4, "));
	free(text);
	/* Another span begins with the first exit in it. */
	s[0].area->wanted = 8;
	exits(&s[0], 12, 1);
	text = print(&r, s, 1);
	assert_non_null(strstr(text, "\nTotal Samples:1, "));
	free(text);
	for (unsigned i = 0; i < 2; i++)
		hv_exit_stat_free(&s[i]);
}

static void order_and_figures(void **state)
{
	struct exit_report r = { .vcpu = -1 };
	struct hv_exit_area *a = calloc(1, sizeof(*a));
	struct hv_exit_stat s = { .area = a };
	char *text;

	/* 1000 and 3000 ns: mean 2000, deviation of the mean 1000. */
	a->vmexit[12] = (struct hv_exit_row){ 12, 2, 4000, 10000000, 0, 1000, 3000 };
	a->vmexit[10] = (struct hv_exit_row){ 10, 3, 600, 120000, 0, 200, 200 };
	text = print(&r, &s, 1);
	assert_true(strstr(text, "CPUID") < strstr(text, "HLT"));
	assert_non_null(strstr(text, "                 HLT          2    40.00%    86.96%      1.00us      3.00us"
				     "      2.00us ( +-  50.00% ) \n"));
	assert_non_null(strstr(text, "      0.20us      0.20us      0.20us ( +-   0.00% ) \n"));
	assert_non_null(strstr(text, "Total Samples:5, Total events handled time:4.60us.\n"));
	free(text);
	r.by_time = true;
	text = print(&r, &s, 1);
	assert_true(strstr(text, "CPUID") > strstr(text, "HLT"));
	free(text);
	free(a);
}

static void ports_and_addresses(void **state)
{
	struct exit_report r = { .vcpu = -1, .event = HV_EVENT_IOPORT };
	struct hv_exit_stat s;
	char *text;

	new_vcpu(&s, 0);
	s.area->wanted = 1;
	for (unsigned i = 0; i < 3; i++) {
		hv_exit_stat_begin(&s, HV_EVENT_VMEXIT, 30);
		hv_exit_stat_begin(&s, HV_EVENT_IOPORT, HV_EXIT_KEY(0x3f8, true));
		hv_exit_stat_entry(&s);
	}
	hv_exit_stat_begin(&s, HV_EVENT_VMEXIT, 49);
	hv_exit_stat_mmio_read(&s, 0xfee00020);
	hv_exit_stat_entry(&s);
	text = print(&r, &s, 1);
	assert_non_null(strstr(text, "          0x3f8:POUT          3   100.00% "));
	free(text);
	r.event = HV_EVENT_MMIO;
	text = print(&r, &s, 1);
	assert_non_null(strstr(text, "        0xfee00020:R          1   100.00% "));
	free(text);
	/* More addresses than rows are lost, and said to be. */
	for (unsigned i = 0; i < HV_EXIT_STAT_KEYS + 9; i++) {
		hv_exit_stat_begin(&s, HV_EVENT_MMIO, HV_EXIT_KEY(0xb8000 + i, true));
		hv_exit_stat_entry(&s);
	}
	text = print(&r, &s, 1);
	assert_non_null(strstr(text, "\nLost events: 10\n"));
	free(text);
	hv_exit_stat_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_while_wanted),
		cmocka_unit_test(order_and_figures),
		cmocka_unit_test(ports_and_addresses),
	};

	return cmocka_run_group_tests_name("exit_report", tests, NULL, NULL);
}
