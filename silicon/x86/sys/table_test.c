/* SPDX-License-Identifier: MIT */
/* The tables of this folder and of model/: sorted, no overlaps, nothing reserved writable. */
#include "silicon/x86/sys/test_machine.h"

enum { BOTH = 3, INTEL = 1, AMD = 2 };

static void msr_rows_are_sorted(void **state)
{
	static const struct { u32 first, last; unsigned vendor; } rows[] = {
#define MSR(first, last, name, vendor, gate, reset, storage, writable, get, set) { first, last, vendor },
#include "spec/x86/msr.def"
#undef MSR
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(rows[i].first <= rows[i].last);
		if (!i)
			continue;
		/* An index has one row, or one per vendor. */
		if (rows[i].first == rows[i - 1].first)
			assert_int_equal(rows[i].vendor & rows[i - 1].vendor, 0);
		else
			assert_true(rows[i].first > rows[i - 1].last);
	}
}

static void feature_rows_are_sorted(void **state)
{
	static const struct { unsigned word, bit; } rows[] = {
#define FEAT(name, word, bit, intel, amd) { X86_W_##word, bit },
#include "spec/x86/feature.def"
#undef FEAT
	};
	u32 seen[X86_NR_FEAT_WORDS] = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_in_range(rows[i].bit, 0, 31);
		assert_false(seen[rows[i].word] >> rows[i].bit & 1);
		assert_true(i == 0 || rows[i].word != rows[i - 1].word || rows[i].bit > rows[i - 1].bit);
		seen[rows[i].word] |= 1u << rows[i].bit;
	}
}

#define ANY 0

static void check_cpuid_rows(const u32 (*row)[2], unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		assert_true(row[i][0] > row[i - 1][0] ||
			    (row[i][0] == row[i - 1][0] && row[i][1] > row[i - 1][1]));
}

static void cpuid_rows_are_sorted(void **state)
{
#define CPUID(leaf, subleaf, a, b, c, d) { leaf, subleaf },
	static const u32 intel[][2] = {
#include "spec/x86/cpuid_intel.def"
	};
	static const u32 amd[][2] = {
#include "spec/x86/cpuid_amd.def"
	};
#undef CPUID

	check_cpuid_rows(intel, ARRAY_SIZE(intel));
	check_cpuid_rows(amd, ARRAY_SIZE(amd));
}

/* Every readable MSR takes back the value that it has after reset, if it can be written. */
static void reset_values_are_writable(void **state)
{
	static const struct { u32 first, last; } rows[] = {
#define MSR(first, last, name, vendor, gate, reset, storage, writable, get, set) { first, last },
#include "spec/x86/msr.def"
#undef MSR
	};
	/* Locked by firmware. */
	static const u32 except[] = { 0x3a };

	for (unsigned amd = 0; amd < 2; amd++) {
		struct machine m;

		machine_start(&m, amd ? "amd" : "intel", PROT32, 0);
		for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
			for (u32 msr = rows[i].first; msr <= rows[i].last; msr++) {
				u64 before, after;
				bool skip = false;

				for (unsigned j = 0; j < ARRAY_SIZE(except); j++)
					skip |= except[j] == msr;
				if (skip || msr == 0x10 || x86_rdmsr(m.cpu, msr, &before))
					continue;
				/* Read-only ones refuse everything, the others take it back. */
				if (x86_wrmsr(m.cpu, msr, before))
					assert_int_equal(x86_wrmsr(m.cpu, msr, 0), -1);
				assert_int_equal(x86_rdmsr(m.cpu, msr, &after), 0);
				assert_int_equal(after, before);
			}
		}
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(msr_rows_are_sorted),
		cmocka_unit_test(feature_rows_are_sorted),
		cmocka_unit_test(cpuid_rows_are_sorted),
		cmocka_unit_test(reset_values_are_writable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
