/* SPDX-License-Identifier: MIT */
/* Performance counters across VM entries and exits. */
#include "silicon/x86/vmx/testkit.h"

#define FIXED0 0x309
#define FIXED1 0x30a
#define FIXED_CTRL 0x38d
#define STATUS 0x38e
#define GLOBAL_CTRL 0x38f
#define FIXED0_ON BIT(32)

static u64 get(struct tk *t, u32 msr)
{
	u64 v = 0;

	assert_int_equal(x86_rdmsr(t->cpu, msr, &v), 0);
	return v;
}

static void set(struct tk *t, u32 msr, u64 v)
{
	assert_int_equal(x86_wrmsr(t->cpu, msr, v), 0);
}

/* Counts in the guest, and only there. */
static struct tk *start(u64 guest_ctrl)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_ENTRY_CTLS, ENTRY_LOAD_PERF_GLOBAL);
	tk_or(t, VMCS_EXIT_CTLS, EXITC_LOAD_PERF_GLOBAL | EXITC_SAVE_PERF_GLOBAL);
	tk_set(t, VMCS_GUEST_PERF_GLOBAL_CTRL, guest_ctrl);
	tk_set(t, VMCS_HOST_PERF_GLOBAL_CTRL, 0);
	set(t, GLOBAL_CTRL, 0);
	set(t, FIXED_CTRL, 0x333);
	return t;
}

static void guest_mode_is_counted(void **state)
{
	struct tk *t = start(FIXED0_ON | BIT(33));
	u64 cycles;

	/* The HLT that exits does not retire. */
	TK_RUN_CODE(t, 0x90, 0x90, 0x90, 0xf4);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(get(t, GLOBAL_CTRL), 0);
	assert_int_equal(tk_get(t, VMCS_GUEST_PERF_GLOBAL_CTRL), FIXED0_ON | BIT(33));
	assert_int_equal(get(t, FIXED0), 3);
	cycles = get(t, FIXED1);
	assert_true(cycles > 0);
	assert_int_equal(get(t, FIXED1), cycles);
	tk_again(t);
	tk_again(t);
	assert_int_equal(get(t, FIXED0), 9);
	assert_true(get(t, FIXED1) > cycles);
	tk_free(t);
}

static void exit_saves_what_the_guest_wrote(void **state)
{
	struct tk *t = start(0);

	/* mov ecx, 38fh; xor eax, eax; mov edx, 1; wrmsr; nop; cpuid */
	TK_RUN_CODE(t, 0xb9, 0x8f, 3, 0, 0, 0x31, 0xc0, 0xba, 1, 0, 0, 0, 0x0f, 0x30, 0x90, 0x0f, 0xa2);
	tk_expect(t, VMX_EXIT_CPUID);
	assert_int_equal(tk_get(t, VMCS_GUEST_PERF_GLOBAL_CTRL), FIXED0_ON);
	assert_int_equal(get(t, FIXED0), 1);
	tk_clear(t, VMCS_EXIT_CTLS, EXITC_SAVE_PERF_GLOBAL);
	tk_set(t, VMCS_GUEST_PERF_GLOBAL_CTRL, 0);
	tk_again(t);
	assert_int_equal(tk_get(t, VMCS_GUEST_PERF_GLOBAL_CTRL), 0);
	tk_free(t);
}

/* Without the controls nothing changes hands. */
static void without_controls(void **state)
{
	struct tk *t = tk_new();

	set(t, FIXED_CTRL, 3);
	set(t, GLOBAL_CTRL, FIXED0_ON);
	TK_RUN_CODE(t, 0x90, 0xf4);
	assert_int_equal(get(t, GLOBAL_CTRL), FIXED0_ON);
	assert_int_equal(get(t, FIXED0), 1);
	tk_free(t);
}

static void user_of_the_guest(void **state)
{
	struct tk *t = start(FIXED0_ON);

	set(t, FIXED_CTRL, 2);
	tk_user(t);
	/* nop; int3, which faults: the gate is not for users; HLT exits */
	TK_RUN_CODE(t, 0x90, 0xcc);
	assert_int_equal(get(t, FIXED0), 1);
	tk_set(t, VMCS_GUEST_PERF_GLOBAL_CTRL, 0);
	tk_free(t);
}

/* The interrupt of an overflow exits behind the instruction that made it. */
static void overflow_exits(void **state)
{
	for (unsigned nmi = 0; nmi < 2; nmi++) {
		struct tk *t = start(FIXED0_ON);

		tk_or(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING | PIN_NMI_EXITING);
		set(t, FIXED_CTRL, 0xb);
		set(t, FIXED0, BIT(48) - 101);
		x86_set_lvtpc(t->cpu, nmi ? 0x400 : 0x66);
		/* 1: nop; jmp 1b */
		TK_RUN_CODE(t, 0x90, 0xeb, 0xfd);
		tk_expect(t, nmi ? VMX_EXIT_EXCEPTION_NMI : VMX_EXIT_EXTERNAL_INTERRUPT);
		assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), nmi ? 0x80000202 : 0x80000066);
		assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
		assert_int_equal(get(t, STATUS), FIXED0_ON);
		assert_int_equal(get(t, FIXED0), 0);
		tk_free(t);
	}
}

static void cycles_overflow_in_the_guest(void **state)
{
	struct tk *t = start(BIT(33));

	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING);
	set(t, FIXED_CTRL, 0xb0);
	set(t, FIXED1, BIT(48) - 300000);
	x86_set_lvtpc(t->cpu, 0x66);
	TK_RUN_CODE(t, 0xeb, 0xfe);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(get(t, STATUS), BIT(33));
	tk_free(t);
}

static void rdpmc_control(void **state)
{
	struct tk *t = start(FIXED0_ON);
	static const u8 code[] = { 0x90, 0xb9, 0, 0, 0, 0x40, 0x0f, 0x33, 0xf4 };

	tk_code(t, code, sizeof(code));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(x86_gprs(t->cpu)[X86_RAX], 2);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_RDPMC_EXITING);
	tk_again(t);
	tk_expect(t, VMX_EXIT_RDPMC);
	tk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_mode_is_counted),
		cmocka_unit_test(exit_saves_what_the_guest_wrote),
		cmocka_unit_test(without_controls),
		cmocka_unit_test(user_of_the_guest),
		cmocka_unit_test(overflow_exits),
		cmocka_unit_test(cycles_overflow_in_the_guest),
		cmocka_unit_test(rdpmc_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
