/* SPDX-License-Identifier: MIT */
/*
 * Mistakes that real VT-x implementations in software have made, one test each. Those
 * that are rows of the entry matrix (5 to 10, 12) are in entry_test.c.
 */
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/testkit.h"

static u64 flags(struct tk *t)
{
	struct x86_state s;

	x86_get_state(t->cpu, &s);
	return s.rflags & RFLAGS_ARITH;
}

static u64 guest_reg(struct tk *t, unsigned r)
{
	return x86_gprs(t->cpu)[r];
}

static bool root_nmi_blocked(struct tk *t)
{
	struct x86_state s;

	x86_get_state(t->cpu, &s);
	return s.interruptibility & 8;
}

/* Exit by an exception: interruption information and qualification. */
#define expect_exception(t, info) do { \
		tk_expect(t, VMX_EXIT_EXCEPTION_NMI); \
		assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), INTR_VALID | (info)); \
	} while (0)
#define HARD(vector) (INTR_HARD << 8 | (vector))

static void trap_01_cpl_order(void **state)
{
	static const struct { u8 code[8]; u32 reason; } rows[] = {
		{ { 0x0f, 0x01, 0xc1 }, VMX_EXIT_VMCALL },
		{ { 0x0f, 0x78, 0xd3 }, VMX_EXIT_VMREAD },
		{ { 0x66, 0x0f, 0x38, 0x80, 0x11 }, VMX_EXIT_INVEPT },
		{ { 0x0f, 0x01, 0xc2 }, VMX_EXIT_VMLAUNCH },
		{ { 0x0f, 0x01, 0xd1 }, VMX_EXIT_EXCEPTION_NMI },		/* XSETBV */
		{ { 0x66, 0x0f, 0x38, 0x82, 0x11 }, VMX_EXIT_EXCEPTION_NMI },	/* INVPCID */
		{ { 0x0f, 0x09 }, VMX_EXIT_EXCEPTION_NMI },			/* WBINVD */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tk *t = tk_new();

		tk_user(t);
		tk_or(t, VMCS_GUEST_CR4, CR4_OSXSAVE);
		tk_or(t, VMCS_PROC_BASED_CTLS, PROC_INVLPG_EXITING);
		tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_WBINVD_EXITING);
		tk_set(t, VMCS_EXCEPTION_BITMAP, ~0u);
		tk_code(t, rows[i].code, sizeof(rows[i].code));
		tk_enter(t);
		tk_expect(t, rows[i].reason);
		if (rows[i].reason == VMX_EXIT_EXCEPTION_NMI)
			expect_exception(t, HARD(X86_GP) | INTR_ERROR);
		tk_free(t);
	}
}

static void trap_02_ud_by_control_before_cpl(void **state)
{
	static const u8 codes[][8] = {
		{ 0x0f, 0xc7, 0x29 },			/* XSAVES [RCX] */
		{ 0x0f, 0xc7, 0x19 },			/* XRSTORS [RCX] */
		{ 0x66, 0x0f, 0x38, 0x82, 0x11 },	/* INVPCID */
		{ 0x0f, 0x01, 0xf9 },			/* RDTSCP, with TSD */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		struct tk *t = tk_new();

		tk_user(t);
		tk_or(t, VMCS_GUEST_CR4, CR4_OSXSAVE | CR4_TSD);
		tk_clear(t, VMCS_PROC_BASED_CTLS2, PROC2_XSAVES | PROC2_INVPCID | PROC2_RDTSCP);
		tk_set(t, VMCS_EXCEPTION_BITMAP, ~0u);
		tk_code(t, codes[i], sizeof(codes[i]));
		tk_enter(t);
		expect_exception(t, HARD(X86_UD));
		tk_free(t);
	}
}

static void trap_03_invept_type_before_memory(void **state)
{
	struct tk *t = tk_new();
	u64 *r = x86_gprs(t->cpu);

	r[X86_RCX] = 0x7000000000;	/* not mapped */
	r[X86_RDX] = 5;
	tk_root(t, "\x66\x0f\x38\x80\x11", 1);
	assert_int_equal(flags(t), RFLAGS_ZF);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 28);
	/* All 64 bits of the type count. */
	r[X86_RDX] = 0xffffffff00000001;
	tk_root(t, "\x66\x0f\x38\x80\x11", 1);
	assert_int_equal(flags(t), RFLAGS_ZF);
	r[X86_RDX] = 2;
	r[X86_RCX] = TK_DATA;
	tk_root(t, "\x66\x0f\x38\x81\x11", 1);		/* INVVPID, all */
	assert_int_equal(flags(t), 0);
	r[X86_RDX] = 0;
	tk_root(t, "\x66\x0f\x38\x81\x11", 1);		/* INVVPID, VPID 0 */
	assert_int_equal(flags(t), RFLAGS_ZF);
	tk_free(t);
}

static void trap_04_launch_of_shadow_vmcs(void **state)
{
	struct tk *t = tk_new();
	u32 rev;

	memcpy(&rev, t->vmcs, 4);
	rev |= VMCS_SHADOW;
	memcpy(t->scratch, &rev, 4);
	assert_int_equal(x86_vmclear(t->cpu, SPA((u64)t->scratch)), VMX_OK);
	assert_int_equal(x86_vmptrld(t->cpu, SPA((u64)t->scratch)), VMX_OK);
	tk_set(t, VMCS_INSN_ERROR, 77);
	assert_int_equal(tk_try(t), VMX_FAIL_INVALID);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 77);
	tk_free(t);
}

static void trap_11_entry_failure_writes_two_fields(void **state)
{
	struct tk *t = tk_new();
	struct vmcs before, *v = (struct vmcs *)t->vmcs;

	tk_inject(t, INTR_HARD, X86_UD, false, 0);
	tk_set(t, VMCS_GUEST_RFLAGS, 0);
	tk_set(t, VMCS_EXIT_INTR_INFO, 0x11111111);
	tk_set(t, VMCS_IDT_VECTORING_INFO, 0x22222222);
	tk_set(t, VMCS_EXIT_INSN_LEN, 0x33);
	before = *v;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_INVALID_STATE | VMX_EXIT_ENTRY_FAILURE);
	for (unsigned i = 0; i < VMCS_NR_SLOTS; i++)
		if (i != VS_EXIT_REASON && i != VS_EXIT_QUALIFICATION)
			assert_int_equal(before.f[i], v->f[i]);
	/* Not launched. */
	tk_set(t, VMCS_GUEST_RFLAGS, 2);
	spa_t bad;
	assert_int_equal(x86_vmenter(t->cpu, false, &bad), 5);
	tk_free(t);
}

static void trap_13_exit_from_ia32e_to_32bit_host(void **state)
{
	struct tk *t = tk_new();
	struct x86_state s;
	static const u8 code[] = {
		0x66, 0xb8, 0x20, 0x20, 0, 0, 0x0f, 0x22, 0xe0,		/* CR4 := PAE | VMXE */
		0x66, 0xb8, 0x00, 0x10, 0, 0, 0x0f, 0x22, 0xd8,		/* CR3 := TK_PML4 */
		0x66, 0xb9, 0x80, 0, 0, 0xc0, 0x66, 0xb8, 0, 1, 0, 0,	/* EFER := LME */
		0x66, 0x31, 0xd2, 0x0f, 0x30,
		0x66, 0xb8, 0x21, 0, 0, 0x80, 0x0f, 0x22, 0xc0,		/* CR0 := PG | NE | PE */
		0xf4,		/* compatibility mode now */
	};

	x86_get_state(t->cpu, &s);
	s.efer = 0;
	s.cr4 = CR4_VMXE;
	s.seg[X86_CS].ar = TK_AR_CODE32;
	x86_set_state(t->cpu, &s);
	tk_set(t, VMCS_HOST_CR4, CR4_VMXE);
	tk_set(t, VMCS_EXIT_CTLS, vmx_cap_exit.must);
	tk_set(t, VMCS_GUEST_CR4, CR4_VMXE);
	tk_real(t);
	tk_clear(t, VMCS_ENTRY_CTLS, ENTRY_LOAD_EFER);
	tk_code(t, code, sizeof(code));
	assert_int_equal(tk_try(t), VMX_ABORT);
	assert_int_equal(((struct vmcs *)t->vmcs)->abort, 6);
	tk_free(t);
}

static void trap_14_nmi_blocking_across_exits(void **state)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_NMI_EXITING);
	tk_code(t, "\xf4", 1);
	x86_raise_nmi(t->cpu);
	tk_enter(t);
	expect_exception(t, INTR_NMI << 8 | X86_NMI);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 0);
	assert_true(root_nmi_blocked(t));
	/* Without virtual NMIs the entry takes blocking from the field. */
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 8);
	x86_raise_nmi(t->cpu);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_true(root_nmi_blocked(t));
	/* With them physical NMIs are open, whatever the field says. */
	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_VIRTUAL_NMIS);
	tk_again(t);
	expect_exception(t, INTR_NMI << 8 | X86_NMI);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 8);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_false(root_nmi_blocked(t));
	tk_free(t);
}

static void trap_15_faulting_iret_has_unblocked(void **state)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 8);
	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_GP);
	tk_code(t, "\x48\xcf", 2);	/* IRETQ to a null CS */
	tk_enter(t);
	expect_exception(t, HARD(X86_GP) | INTR_ERROR | INTR_NMI_UNBLOCK);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 0);
	/* The second time nothing was blocked. */
	tk_again(t);
	expect_exception(t, HARD(X86_GP) | INTR_ERROR);
	tk_free(t);
}

static void trap_16_own_vector_before_double_fault(void **state)
{
	static const struct { u32 bitmap, reason, info, vectoring; } rows[] = {
		{ 1u << X86_NP, VMX_EXIT_EXCEPTION_NMI, INTR_VALID | INTR_ERROR | HARD(X86_NP),
		  INTR_VALID | INTR_ERROR | HARD(X86_GP) },
		{ 1u << X86_DF, VMX_EXIT_EXCEPTION_NMI, INTR_VALID | INTR_ERROR | HARD(X86_DF), 0 },
		{ 0, VMX_EXIT_TRIPLE_FAULT, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tk *t = tk_new();

		t->mem[TK_IDT + 16 * X86_GP + 5] = 0x0e;	/* gates not present */
		t->mem[TK_IDT + 16 * X86_DF + 5] = 0x0e;
		t->mem[TK_IDT + 16 * X86_NP + 5] = 0x0e;
		tk_set(t, VMCS_EXCEPTION_BITMAP, rows[i].bitmap);
		tk_inject(t, INTR_HARD, X86_GP, true, 0x28);
		tk_enter(t);
		tk_expect(t, rows[i].reason);
		assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), rows[i].info);
		assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO), rows[i].vectoring);
		if (rows[i].vectoring)
			assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_ERROR), 0x28);
		assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
		assert_int_equal(tk_get(t, VMCS_ENTRY_INTR_INFO) & INTR_VALID, 0);
		tk_free(t);
	}
}

static void trap_17_db_exit_leaves_dr6(void **state)
{
	struct tk *t = tk_new();

	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_DB);
	x86_set_dr(t->cpu, 6, 0xffff0ff1);	/* stale B0 */
	tk_set(t, VMCS_GUEST_RFLAGS, 0x102);
	tk_code(t, "\x90\xf4", 2);
	tk_enter(t);
	expect_exception(t, HARD(X86_DB));
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), BIT(14));
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	assert_int_equal(x86_get_dr(t->cpu, 6), 0xffff0ff1);

	/* An injected #DB writes no DR6. */
	tk_set(t, VMCS_GUEST_RFLAGS, 2);
	tk_inject(t, INTR_HARD, X86_DB, false, 0);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_DB));
	assert_int_equal(x86_get_dr(t->cpu, 6), 0xffff0ff1);

	/* MOV SS from a watched word, then NOP: the #DB comes behind the NOP. */
	x86_set_dr(t->cpu, 1, TK_DATA);
	tk_set(t, VMCS_GUEST_DR7, 0x400 | 1 << 2 | 3 << 20 | 1 << 22);
	t->mem[TK_DATA] = TK_SS;
	x86_gprs(t->cpu)[X86_RCX] = TK_DATA;
	tk_code(t, "\x8e\x11\x90\xf4", 4);
	tk_again(t);
	expect_exception(t, HARD(X86_DB));
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), BIT(1));
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 3);
	tk_free(t);
}

static void trap_18_pf_exit_leaves_cr2(void **state)
{
	struct tk *t = tk_new();

	x86_set_cr2(t->cpu, 0x1234);
	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_PF);
	x86_gprs(t->cpu)[X86_RCX] = 0x7000000000;
	tk_code(t, "\x89\x01\xf4", 3);
	tk_enter(t);
	expect_exception(t, HARD(X86_PF) | INTR_ERROR);
	assert_int_equal(tk_get(t, VMCS_EXIT_INTR_ERROR), 2);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x7000000000);
	assert_int_equal(tk_get(t, VMCS_GUEST_RFLAGS) & RFLAGS_RF, RFLAGS_RF);
	assert_int_equal(x86_get_cr2(t->cpu), 0x1234);
	/* Mask and match: only reads exit. */
	tk_set(t, VMCS_PF_ERROR_MASK, 2);
	tk_set(t, VMCS_PF_ERROR_MATCH, 0);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_PF));
	assert_int_equal(x86_get_cr2(t->cpu), 0x7000000000);
	/* Bit 14 clear turns the comparison round. */
	tk_set(t, VMCS_EXCEPTION_BITMAP, 0);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	tk_free(t);

	/* Real mode has no error codes: a #GP by limit. */
	t = tk_new();
	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_GP);
	tk_real(t);
	tk_code(t, "\x67\xa1\0\0\1\0", 6);	/* MOV AX, [10000h] */
	tk_enter(t);
	expect_exception(t, HARD(X86_GP));
	tk_free(t);
}

static void trap_19_ept_ad_makes_walks_writes(void **state)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_EPT_POINTER, BIT(6));
	*tk_epte(t, TK_PD) &= ~2ull;
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION) & 0x1bf, 3 | 5 << 3 | BIT(7));
	assert_int_equal(tk_get(t, VMCS_GUEST_PHYSICAL_ADDRESS), TK_PD);
	assert_int_equal(tk_get(t, VMCS_GUEST_LINEAR_ADDRESS), TK_CODE);
	tk_free(t);
}

/* Five levels: bits 56:48 select the first. */
static void ept_five_levels(void **state)
{
	struct tk *t = tk_new();
	u64 *pml5 = (u64 *)t->scratch;

	pml5[0] = (u64)t->ept | 7;
	tk_set(t, VMCS_EPT_POINTER, (u64)pml5 | 4 << 3 | 6);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	pml5[0] = 0;
	tk_code(t, "\xf4", 1);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EPT_VIOLATION);
	tk_free(t);
}

/* Mode-based execute control: bit 2 for supervisor-mode linear addresses, bit 10 for user-mode ones. */
static void ept_mode_based_execute(void **state)
{
	struct tk *t = tk_new();
	u64 code = *tk_epte(t, TK_CODE);

	/* The kit maps everything user-accessible: make it supervisor. */
	t->mem[TK_PD] &= ~4;
	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_MODE_BASED_EXEC);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	*tk_epte(t, TK_CODE) = (code & ~4ull) | BIT(10);
	tk_code(t, "\xf4", 1);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION) & 0x7f, 4 | 3 << 3);
	t->mem[TK_PD] |= 4;
	for (unsigned i = 0; i < 5; i++)	/* upper levels allow both */
		t->ept[i < 3 ? 512 * i : 1022 + i] |= BIT(10);
	tk_code(t, "\xf4", 1);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	tk_free(t);
}

/* The virtual-APIC page is gone: the entry itself ends in a bus error. */
static void entry_bus_error(void **state)
{
	struct tk *t = tk_new();
	spa_t bad = SPA(0);

	x86_install_fault_handler();
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_TPR_SHADOW);
	tk_set(t, VMCS_VIRT_APIC_ADDR, 0x30000);
	assert_int_equal(x86_vmenter(t->cpu, true, &bad), VMX_BUS_ERROR);
	assert_int_equal(bad.v & PAGE_MASK, 0x30000);
	assert_false(t->cpu->vmx.non_root);
	tk_set(t, VMCS_VIRT_APIC_ADDR, (u64)t->vapic);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	tk_free(t);
}

static void trap_20_pml(void **state)
{
	struct tk *t = tk_new();
	u64 *log = (u64 *)t->scratch;

	tk_or(t, VMCS_EPT_POINTER, BIT(6));
	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_PML);
	tk_set(t, VMCS_PML_ADDR, (u64)log);
	tk_set(t, VMCS_PML_INDEX, 511);
	x86_gprs(t->cpu)[X86_RCX] = TK_DATA + 8;
	tk_code(t, "\x89\x01\x8b\x01\xf4", 5);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	/* PML4, PDPT, PD of the walk, then the page written; reads and A flags log nothing. */
	assert_int_equal(tk_get(t, VMCS_PML_INDEX), 511 - 4);
	assert_int_equal(log[511 - 3], TK_DATA);
	/* Nothing new: the index is not even looked at. */
	tk_set(t, VMCS_PML_INDEX, 0xffff);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	/* An accessed flag alone tests it. */
	x86_gprs(t->cpu)[X86_RCX] = TK_DATA + 0x1000;
	tk_code(t, "\x8b\x01\xf4", 3);
	tk_again(t);
	tk_expect(t, VMX_EXIT_PML_FULL);
	assert_int_equal(*tk_epte(t, TK_DATA + 0x1000) & BIT(8), 0);
	tk_free(t);
}

static void trap_21_mtf(void **state)
{
	struct tk *t = tk_new();

	tk_code(t, "\x90\x90\xf4", 3);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_MONITOR_TRAP_FLAG);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	/* Behind an injected event: before its handler's first instruction. */
	tk_inject(t, INTR_HARD, X86_UD, false, 0);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_UD));
	/* INT 40h: after delivery; a fault: likewise. */
	tk_code(t, "\xcd\x40", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x40));
	tk_code(t, "\x0f\x0b", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_UD));
	/* One iteration of REP STOSB. */
	x86_gprs(t->cpu)[X86_RCX] = 3;
	x86_gprs(t->cpu)[X86_RDI] = TK_DATA;
	tk_code(t, "\xf3\xaa\xf4", 3);
	tk_again(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	assert_int_equal(guest_reg(t, X86_RCX), 2);
	/* With TF the step joins the pending debug exceptions. */
	tk_set(t, VMCS_GUEST_RFLAGS, 0x102);
	tk_code(t, "\x90\xf4", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_PENDING_DEBUG), BIT(14));
	/* Injected as type 7 without the control: no instruction executes. */
	tk_clear(t, VMCS_PROC_BASED_CTLS, PROC_MONITOR_TRAP_FLAG);
	tk_set(t, VMCS_GUEST_RFLAGS, 2);
	tk_set(t, VMCS_GUEST_PENDING_DEBUG, 0);
	tk_inject(t, INTR_OTHER, 0, false, 0);
	tk_again(t);
	tk_expect(t, VMX_EXIT_MONITOR_TRAP_FLAG);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	tk_free(t);
}

static void trap_22_timer_zero(void **state)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_PREEMPTION_TIMER);
	tk_or(t, VMCS_EXIT_CTLS, EXITC_SAVE_TIMER);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	assert_int_equal(tk_get(t, VMCS_PREEMPTION_TIMER_VALUE), 0);
	/* Behind the injection; shadows do not block it. */
	tk_inject(t, INTR_HARD, X86_UD, false, 0);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_UD));
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 2);
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 0);
	/* From HLT; and it ends an endless loop. */
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_HLT);
	tk_set(t, VMCS_PREEMPTION_TIMER_VALUE, 100);
	tk_again(t);
	tk_expect(t, VMX_EXIT_PREEMPTION_TIMER);
	assert_int_equal(tk_get(t, VMCS_GUEST_ACTIVITY), X86_ACT_HLT);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_ACTIVE);
	tk_set(t, VMCS_PREEMPTION_TIMER_VALUE, 5000);
	tk_code(t, "\xeb\xfe", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_PREEMPTION_TIMER);
	/* Time is left when something else exits. */
	tk_set(t, VMCS_PREEMPTION_TIMER_VALUE, 0x7fffffff);
	tk_code(t, "\xf4", 1);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_in_range(tk_get(t, VMCS_PREEMPTION_TIMER_VALUE), 0x7000000, 0x7fffffff);
	tk_free(t);
}

static void trap_24_efer_and_absent_fields(void **state)
{
	struct tk *t = tk_new();
	u64 v;

	/* LME of the host leaks into an unpaged guest when EFER is not loaded. */
	tk_protected(t);
	tk_clear(t, VMCS_ENTRY_CTLS, ENTRY_LOAD_EFER);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_EFER) & (EFER_LME | EFER_LMA), EFER_LME);
	/* Fields of controls that are not offered: error 12, for both halves. */
	assert_int_equal(x86_vmread(t->cpu, 0x2034, &v), 12);	/* tertiary controls */
	assert_int_equal(x86_vmread(t->cpu, 0x2035, &v), 12);
	assert_int_equal(x86_vmwrite(t->cpu, 0x6828, 0), 12);	/* S_CET */
	assert_int_equal(x86_vmread(t->cpu, 0x202a, &v), 12);	/* #VE */
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 12);
	tk_free(t);
}

static void trap_25_flags_and_error_numbers(void **state)
{
	struct tk *t = tk_new();
	u64 *r = x86_gprs(t->cpu), ptr = 0x123;
	spa_t cur;

	/* STC; VMREAD RBX, RDX of a field that exists: all six flags are 0. */
	r[X86_RDX] = VMCS_HOST_RIP;
	tk_root(t, "\xf9\x0f\x78\xd3", 2);
	assert_int_equal(flags(t), 0);
	assert_int_equal(guest_reg(t, X86_RBX), TK_HOST_RIP);
	/* One that does not. */
	r[X86_RDX] = 0x6828;
	tk_root(t, "\xf9\x0f\x78\xd3", 2);
	assert_int_equal(flags(t), RFLAGS_ZF);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 12);
	/* Success leaves the number; upper bits of the selector count. */
	r[X86_RDX] = VMCS_HOST_RIP;
	tk_root(t, "\x0f\x78\xd3", 1);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 12);
	r[X86_RDX] = VMCS_HOST_RIP | 1ull << 32;
	tk_root(t, "\x0f\x78\xd3", 1);
	assert_int_equal(flags(t), RFLAGS_ZF);
	/* VMWRITE RDX, RAX. */
	r[X86_RDX] = VMCS_GUEST_RIP;
	r[X86_RAX] = 0x4242;
	tk_root(t, "\x0f\x79\xd0", 1);
	assert_int_equal(flags(t), 0);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), 0x4242);
	/* A failed VMPTRLD keeps the old VMCS, which gets the number. */
	memcpy(t->mem + TK_DATA, &ptr, 8);
	r[X86_RCX] = TK_DATA;
	tk_root(t, "\x0f\xc7\x31", 1);
	assert_int_equal(flags(t), RFLAGS_ZF);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 9);
	assert_int_equal(x86_vmptrst(t->cpu, &cur), VMX_OK);
	assert_int_equal(cur.v, (u64)t->vmcs);
	assert_int_equal(x86_vmptrld(t->cpu, SPA((u64)t->vmxon)), 10);
	assert_int_equal(x86_vmptrld(t->cpu, SPA((u64)t->mem)), 11);
	assert_int_equal(x86_vmclear(t->cpu, SPA((u64)t->vmxon)), 3);
	assert_int_equal(x86_vmclear(t->cpu, SPA(1)), 2);
	assert_int_equal(x86_vmxon(t->cpu, SPA((u64)t->vmxon)), 15);
	/* VMCALL in root; then no current VMCS. */
	tk_root(t, "\x0f\x01\xc1", 1);
	assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 1);
	assert_int_equal(x86_vmclear(t->cpu, SPA((u64)t->vmcs)), VMX_OK);
	tk_root(t, "\x0f\x01\xc1", 1);
	assert_int_equal(flags(t), RFLAGS_CF);
	tk_root(t, "\xf9\x0f\x78\xd3", 2);
	assert_int_equal(flags(t), RFLAGS_CF);
	tk_root(t, "\x0f\x01\xc2", 1);
	assert_int_equal(flags(t), RFLAGS_CF);
	tk_free(t);
}

/* TSC scaling without offsetting has no effect; the product has 128 bits. */
static void trap_25_tsc_scaling(void **state)
{
	struct tk *t = tk_new();
	u64 now, seen;

	tk_code(t, "\x0f\x31\xf4", 3);
	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_TSC_SCALING);
	tk_set(t, VMCS_TSC_MULTIPLIER, 3ull << 48);
	now = x86_rdtsc(t->cpu);
	tk_enter(t);
	seen = guest_reg(t, X86_RDX) << 32 | guest_reg(t, X86_RAX);
	assert_true(seen - now < 1ull << 32);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_TSC_OFFSETTING);
	tk_set(t, VMCS_TSC_OFFSET, 1000);
	now = x86_rdtsc(t->cpu);
	tk_again(t);
	seen = guest_reg(t, X86_RDX) << 32 | guest_reg(t, X86_RAX);
	assert_true(seen - 3 * now - 1000 < 1ull << 34);
	tk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap_01_cpl_order),
		cmocka_unit_test(trap_02_ud_by_control_before_cpl),
		cmocka_unit_test(trap_03_invept_type_before_memory),
		cmocka_unit_test(trap_04_launch_of_shadow_vmcs),
		cmocka_unit_test(trap_11_entry_failure_writes_two_fields),
		cmocka_unit_test(trap_13_exit_from_ia32e_to_32bit_host),
		cmocka_unit_test(trap_14_nmi_blocking_across_exits),
		cmocka_unit_test(trap_15_faulting_iret_has_unblocked),
		cmocka_unit_test(trap_16_own_vector_before_double_fault),
		cmocka_unit_test(trap_17_db_exit_leaves_dr6),
		cmocka_unit_test(trap_18_pf_exit_leaves_cr2),
		cmocka_unit_test(trap_19_ept_ad_makes_walks_writes),
		cmocka_unit_test(ept_five_levels),
		cmocka_unit_test(ept_mode_based_execute),
		cmocka_unit_test(entry_bus_error),
		cmocka_unit_test(trap_20_pml),
		cmocka_unit_test(trap_21_mtf),
		cmocka_unit_test(trap_22_timer_zero),
		cmocka_unit_test(trap_24_efer_and_absent_fields),
		cmocka_unit_test(trap_25_flags_and_error_numbers),
		cmocka_unit_test(trap_25_tsc_scaling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
