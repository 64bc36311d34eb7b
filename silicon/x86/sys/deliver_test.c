/* SPDX-License-Identifier: MIT */
/* Event delivery in every mode: frames, error codes, double faults. */
#include "silicon/x86/sys/test_machine.h"

static void start(struct machine *m, enum test_mode mode, unsigned cpl)
{
	machine_start(m, "intel", mode, cpl);
}

static void ud_in_each_mode(void **state)
{
	static const struct { enum test_mode mode; unsigned cpl; } rows[] = {
		{ REAL, 0 }, { VM86, 3 }, { PROT16, 0 }, { PROT32, 0 }, { PROT32, 3 },
		{ COMPAT, 0 }, { COMPAT, 3 }, { LONG64, 0 }, { LONG64, 3 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct machine m;
		u64 rip, flags;
		u16 cs;

		start(&m, rows[i].mode, rows[i].cpl);
		rip = m.cpu->rip;
		flags = x86_get_rflags(m.cpu);
		cs = m.cpu->seg[X86_CS].sel;
		assert_int_equal(RUN(&m, 0x0f, 0x0b), X86_UD);
		assert_int_equal(machine_frame(&m, 0), rip);
		assert_int_equal(machine_frame(&m, 1), cs);
		/* Trap 11: RF is 1 in the image of a fault; real mode pushes 16 bits. */
		assert_int_equal(machine_frame(&m, 2), rows[i].mode == REAL ? flags : flags | RFLAGS_RF);
		assert_int_equal(m.cpu->cpl, 0);
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ud_in_each_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
