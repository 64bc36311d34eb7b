/* SPDX-License-Identifier: MIT */
/* Tables of VMCS fields, exit reasons and controls: order, completeness, agreement with the MSRs. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/vmcs.h"
#include "silicon/x86/vmx/vmx_cap.h"

struct field_row {
	u32 enc;
	const char *name;
	enum vmcs_width width;
	enum vmcs_type type;
	const char *needs;
};
static const struct field_row fields[] = {
#define VMCS(enc, name, width, type, needs) { enc, #name, VMCS_WIDTH_##width, VMCS_TYPE_##type, #needs },
#include "spec/x86/vmcs.def"
#undef VMCS
};

struct ctl_row {
	const char *group, *name, *id;
	unsigned bit, offer;
};
static const struct ctl_row ctls[] = {
#define VMX_CTL(group, bit, name, offer) { #group, #name, #group "_" #name, bit, offer },
#include "spec/x86/vmx_ctl.def"
#undef VMX_CTL
};

static const struct { unsigned nr; const char *name, *text; } exits[] = {
#define VMX_EXIT(nr, name, text) { nr, #name, text },
#include "spec/x86/vmx_exit.def"
#undef VMX_EXIT
};

static void field_table(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field_row *f = &fields[i];

		if (i)
			assert_true(fields[i - 1].enc < f->enc);
		assert_int_equal(vmcs_width(f->enc), f->width);
		assert_int_equal(vmcs_type(f->enc), f->type);
		assert_int_equal(f->enc & ~0x6ffeu, 0);
		assert_true(vmcs_has(f->enc));
		assert_int_equal(vmcs_has(f->enc | 1), f->width == VMCS_WIDTH_64);
		assert_false(vmcs_has(f->enc | 0x1000));
		assert_false(vmcs_has(f->enc | 0x8000));
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(fields[j].name, f->name);
	}
}

/* A field exists iff the control that it needs can be set. */
static void fields_match_controls(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		bool found = !strcmp(fields[i].needs, "ALWAYS");

		for (unsigned j = 0; j < ARRAY_SIZE(ctls); j++)
			if (!strcmp(ctls[j].id, fields[i].needs)) {
				found = true;
				assert_int_equal(ctls[j].offer, 1);
			}
		assert_true(found);
	}
	/* Offered controls have their fields. */
	static const struct { const char *ctl; u32 enc; } wants[] = {
		{ "PIN_POSTED_INTR", VMCS_POSTED_INTR_VECTOR }, { "PIN_POSTED_INTR", VMCS_POSTED_INTR_DESC_ADDR },
		{ "PIN_PREEMPTION_TIMER", VMCS_PREEMPTION_TIMER_VALUE }, { "PROC_TPR_SHADOW", VMCS_TPR_THRESHOLD },
		{ "PROC_ACTIVATE_TERTIARY", 0x2034 }, { "PROC2_ENCLS_EXITING", 0x202e }, { "PROC2_SPP", 0x2030 },
		{ "PROC2_EPT_VE", 0x202a }, { "PROC2_EPT_VE", 0x0004 }, { "PROC2_PCONFIG", 0x203e },
		{ "PROC2_TSC_SCALING", VMCS_TSC_MULTIPLIER }, { "PROC2_PML", VMCS_PML_INDEX },
		{ "PROC3_IPI_VIRT", 0x2042 }, { "EXITC_ACTIVATE_SECONDARY", 0x2044 }, { "EXITC_LOAD_PERF_GLOBAL", 0x2c04 },
		{ "EXITC_LOAD_CET", 0x6c18 }, { "EXITC_LOAD_PKRS", 0x2c06 }, { "ENTRY_LOAD_PERF_GLOBAL", 0x2808 },
		{ "ENTRY_LOAD_CET", 0x6828 }, { "ENTRY_LOAD_PKRS", 0x2818 }, { "ENTRY_LOAD_BNDCFGS", 0x2812 },
		{ "ENTRY_LOAD_RTIT", 0x2814 }, { "ENTRY_LOAD_LBR", 0x2816 }, { "PROC2_INSN_TIMEOUT", 0x4024 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(wants); i++)
		for (unsigned j = 0; j < ARRAY_SIZE(ctls); j++)
			if (!strcmp(ctls[j].id, wants[i].ctl))
				assert_int_equal(vmcs_has(wants[i].enc), ctls[j].offer);
}

static void control_table(void **state)
{
	for (unsigned i = 1; i < ARRAY_SIZE(ctls); i++)
		if (!strcmp(ctls[i - 1].group, ctls[i].group))
			assert_true(ctls[i - 1].bit < ctls[i].bit);
}

static void exit_table(void **state)
{
	for (unsigned i = 1; i < ARRAY_SIZE(exits); i++)
		assert_true(exits[i - 1].nr < exits[i].nr);
}

/* The values that the set of implemented features gives, worked out by hand from appendix A. */
static void capability_msrs(void **state)
{
	static struct x86_cpu cpu;
	static const struct { u32 msr; bool exists; u64 val; } rows[] = {
		{ 0x47f, false, 0 },
		{ 0x480, true, 0x00d8100000756b01 },
		{ 0x481, true, 0x000000ff00000016 }, { 0x48d, true, 0x000000ff00000016 },
		{ 0x482, true, 0xfff9fffe0401e172 }, { 0x48e, true, 0xfff9fffe04006172 },
		{ 0x483, true, 0x407fffff00036dff }, { 0x48f, true, 0x407fffff00036dfb },
		{ 0x484, true, 0x0000f3ff000011ff }, { 0x490, true, 0x0000f3ff000011fb },
		{ 0x485, true, 0x600401e5 },
		{ 0x486, true, 0x80000021 }, { 0x487, true, 0xffffffff }, { 0x488, true, 0x2000 },
		{ 0x48a, true, 0x32 },
		{ 0x48b, true, 0x02537fff00000000 },
		{ 0x48c, true, 0x00000f01067341c1 },
		{ 0x491, true, 1 }, { 0x492, false, 0 }, { 0x493, false, 0 },
	};

	cpu.feat[X86_FEAT_VMX / 32] = 1u << X86_FEAT_VMX % 32;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 v = 0;

		assert_int_equal(x86_vmx_cap_msr(&cpu, rows[i].msr, &v), rows[i].exists);
		assert_int_equal(v, rows[i].val);
	}
	cpu.feat[X86_FEAT_VMX / 32] = 0;
	u64 v;
	assert_false(x86_vmx_cap_msr(&cpu, 0x480, &v));
}

static void field_access(void **state)
{
	static struct vmcs v;
	u64 x;

	/* Narrow fields drop upper bits, 64-bit ones have halves. */
	assert_true(vmcs_write(&v, VMCS_VPID, 0x12345678));
	assert_true(vmcs_read(&v, VMCS_VPID, &x));
	assert_int_equal(x, 0x5678);
	assert_true(vmcs_write(&v, VMCS_GUEST_CS_LIMIT, 0x1ffffffffull));
	assert_true(vmcs_read(&v, VMCS_GUEST_CS_LIMIT, &x));
	assert_int_equal(x, 0xffffffff);
	assert_true(vmcs_write(&v, VMCS_EPT_POINTER, 0x1111111122222222));
	assert_true(vmcs_write(&v, VMCS_EPT_POINTER | 1, 0xffffffff33333333));
	assert_true(vmcs_read(&v, VMCS_EPT_POINTER, &x));
	assert_int_equal(x, 0x3333333322222222);
	assert_true(vmcs_read(&v, VMCS_EPT_POINTER | 1, &x));
	assert_int_equal(x, 0x33333333);
	assert_false(vmcs_read(&v, VMCS_GUEST_RIP | 1, &x));
	assert_false(vmcs_read(&v, 0x7fffffff, &x));
	assert_false(vmcs_write(&v, 0x2080, 0));	/* index 64 */

	v.dirty = 0;
	vmcs_write(&v, VMCS_GUEST_RIP, 5);
	assert_int_equal(v.dirty, 0);
	vmcs_write(&v, VMCS_HOST_RIP, 5);
	assert_int_equal(v.dirty, VMCS_DIRTY_HOST);
	vmcs_write(&v, VMCS_GUEST_CS_AR, 5);
	vmcs_write(&v, VMCS_EXIT_REASON, 5);
	assert_int_equal(v.dirty, VMCS_DIRTY_HOST | VMCS_DIRTY_GUEST);
	vmcs_write(&v, VMCS_PIN_BASED_CTLS, 5);
	assert_int_equal(v.dirty, VMCS_DIRTY_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(field_table),
		cmocka_unit_test(fields_match_controls),
		cmocka_unit_test(control_table),
		cmocka_unit_test(exit_table),
		cmocka_unit_test(capability_msrs),
		cmocka_unit_test(field_access),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The tables are tested alone: CR4_FIXED1 is not among the rows. */
u64 x86_cr4_allowed(const struct x86_cpu *cpu)
{
	return 0;
}
