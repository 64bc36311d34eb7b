/* SPDX-License-Identifier: MIT */
/*
 * Hostile VMCSs: random guest state, controls and events, entered again and
 * again over random code. Whatever they are, the answer is a VMfail, an exit or
 * a bus error; the processor survives, and a good VMCS still enters afterwards.
 */
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/testkit.h"

static u64 seed = 0x9e3779b97f4a7c15;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}

/* Values at which rules change. */
static u64 interesting(void)
{
	static const u64 v[] = {
		0, 1, 2, 3, 8, 0xffff, 0x10000, 0xffffffff, 0x100000000, ~0ull, 0x7fffffffffff, 0x800000000000,
		TK_CODE, TK_STACK, TK_GDT, TK_IDT, 0x202, 0x20202, 0x102, 0x30002, TK_AR_CODE64, TK_AR_CODE32,
		TK_AR_DATA, 0x10000, 0xf3, 0x93, 0x9b, 0x8b, 0x80000031, 0x31, 0x30, 0x2020, 0x20a0, 0xd01, 0x500,
		INTR_VALID | 0x302, INTR_VALID | 0x80e, INTR_VALID | 0xb0e, INTR_VALID | 0x480, INTR_VALID | 0x202,
	};

	return rnd() % 4 ? v[rnd() % ARRAY_SIZE(v)] : rnd() & rnd();
}

/* Fields that hold no address of this process. */
static const u32 fields[] = {
#define VMCS(enc, name, width, type, needs) enc,
#include "spec/x86/vmcs.def"
#undef VMCS
};

static bool may_change(u32 enc)
{
	switch (enc) {
	case VMCS_PROC_BASED_CTLS2:		/* without EPT the guest would have our memory */
	case VMCS_PROC_BASED_CTLS:
	case VMCS_PIN_BASED_CTLS:
	case VMCS_EXIT_CTLS:
	case VMCS_EXIT_MSR_STORE_COUNT:
	case VMCS_EXIT_MSR_LOAD_COUNT:
	case VMCS_ENTRY_MSR_LOAD_COUNT:
	case VMCS_LINK_POINTER:
		return false;
	default:
		if (vmcs_type(enc) == VMCS_TYPE_HOST)
			return false;
		/* 64-bit controls are addresses and bitmaps. */
		return vmcs_type(enc) != VMCS_TYPE_CTL || vmcs_width(enc) != VMCS_WIDTH_64;
	}
}

static void random_controls(struct tk *t)
{
	u32 proc = (u32)rnd() & vmx_cap_proc.may & ~(u32)PROC_ACTIVATE_TERTIARY;
	u32 proc2 = (u32)rnd() & vmx_cap_proc2.may & ~(u32)(PROC2_VMFUNC | PROC2_VMCS_SHADOWING | PROC2_PML);
	u32 pin = (u32)rnd() & vmx_cap_pin.may & ~(u32)PIN_POSTED_INTR;

	tk_set(t, VMCS_PROC_BASED_CTLS, proc | vmx_cap_proc.must | PROC_ACTIVATE_SECONDARY);
	tk_set(t, VMCS_PROC_BASED_CTLS2, proc2 | PROC2_EPT | (rnd() % 4 ? PROC2_UNRESTRICTED_GUEST : 0));
	tk_set(t, VMCS_PIN_BASED_CTLS, pin | vmx_cap_pin.must | PIN_PREEMPTION_TIMER);
}

static void hostile_vmcs(void **state)
{
	unsigned entered = 0, failed = 0, refused = 0;

	for (unsigned round = 0; round < 60; round++) {
		struct tk *t = tk_new();
		struct vmcs good = *(struct vmcs *)t->vmcs;
		spa_t bad;

		for (unsigned i = 0; i < 120; i++) {
			int r;

			for (unsigned n = rnd() % 4; n--;) {
				u32 enc = fields[rnd() % ARRAY_SIZE(fields)];

				if (may_change(enc))
					tk_set(t, (enum vmcs_field)enc, interesting());
			}
			if (rnd() % 8 == 0)
				random_controls(t);
			for (unsigned n = 0; n < 16; n++)
				t->mem[TK_CODE + n] = (u8)rnd();
			for (unsigned n = 0; n < X86_NR_GPRS; n++)
				x86_gprs(t->cpu)[n] = interesting();
			if (rnd() % 8 == 0)
				x86_raise_nmi(t->cpu);
			if (rnd() % 8 == 0)
				x86_raise_intr(t->cpu, (u8)(rnd() | 16));
			atomic_fetch_or(&t->cpu->events, X86_EV_SIPI);
			/* The timer ends whatever runs; SIPI ends the wait for it. */
			tk_or(t, VMCS_PIN_BASED_CTLS, PIN_PREEMPTION_TIMER);
			tk_set(t, VMCS_PREEMPTION_TIMER_VALUE, 60);
			assert_int_equal(x86_invept(t->cpu, 2, (u64[2]){ 0 }), VMX_OK);
			r = x86_vmenter(t->cpu, ((struct vmcs *)t->vmcs)->launch == VMCS_CLEAR, &bad);
			assert_true(r == VMX_OK || r == 7 || r == 8 || r == VMX_BUS_ERROR || r == VMX_ABORT);
			assert_false(t->cpu->vmx.non_root);
			if (r == VMX_ABORT)
				break;
			if (r != VMX_OK)
				refused++;
			else if (tk_get(t, VMCS_EXIT_REASON) & VMX_EXIT_ENTRY_FAILURE)
				failed++;
			else
				entered++;
			/* Start over from good state now and then, or nothing would ever enter. */
			if (rnd() % 4 == 0 || r != VMX_OK) {
				memcpy(((struct vmcs *)t->vmcs)->f, good.f, sizeof(good.f));
				((struct vmcs *)t->vmcs)->dirty = VMCS_DIRTY_ALL;
			}
		}
		tk_free(t);
	}
	/* The mix must reach all three outcomes. */
	assert_true(entered > 500 && failed > 100 && refused > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_vmcs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
