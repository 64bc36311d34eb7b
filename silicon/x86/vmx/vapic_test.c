/* SPDX-License-Identifier: MIT */
/* APIC virtualization: accesses, MSRs, TPR shadow, virtual and posted interrupts. */
#include "silicon/x86/vmx/testkit.h"

#define APIC_GPA 0x50000	/* guest page backed by the APIC-access page */

static u64 *gprs(struct tk *t)
{
	return x86_gprs(t->cpu);
}

static u32 vreg(struct tk *t, u32 off)
{
	u32 v;

	memcpy(&v, t->vapic + off, 4);
	return v;
}

static void set_vreg(struct tk *t, u32 off, u32 val)
{
	memcpy(t->vapic + off, &val, 4);
}

static struct tk *new_vapic(u32 proc2)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_TPR_SHADOW);
	tk_or(t, VMCS_PROC_BASED_CTLS2, proc2);
	if (proc2 & PROC2_VIRT_INTR_DELIVERY)
		tk_or(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING);
	*tk_epte(t, APIC_GPA) = (u64)t->apic_access | 6 << 3 | 7;
	return t;
}

/* ---- The APIC-access page ---- */

#define READ 0x8b	/* MOV EAX, [RCX] */
#define WRITE 0x89	/* MOV [RCX], EAX */
#define WRITE8 0x88
#define READ64 0x100

#define AREG PROC2_APIC_REGISTER_VIRT
#define VID PROC2_VIRT_INTR_DELIVERY
#define PAGE PROC2_VIRT_APIC_ACCESSES
/* Outcomes. */
#define SERVED 0
#define EXIT44(type) (0x44 | (type) << 8)
#define EXIT56 0x56
#define EXIT45 0x45

static const struct { u32 proc2, op, off; int expect; } accesses[] = {
	{ PAGE, READ, 0x80, SERVED }, { PAGE, WRITE, 0x80, SERVED },
	{ PAGE, READ, 0x20, EXIT44(0) }, { PAGE, WRITE, 0xb0, EXIT44(1) },
	{ PAGE | VID, READ, 0xb0, EXIT44(0) }, { PAGE | VID, WRITE, 0xb0, SERVED },
	{ PAGE | VID, WRITE, 0x300, EXIT56 }, { PAGE | VID, WRITE, 0x310, EXIT44(1) },
	{ PAGE | AREG, READ, 0x20, SERVED }, { PAGE | AREG, READ, 0x30, SERVED },
	{ PAGE | AREG, READ, 0xa0, EXIT44(0) }, { PAGE | AREG, READ, 0x90, EXIT44(0) },
	{ PAGE | AREG, READ, 0x170, SERVED }, { PAGE | AREG, READ, 0x1f0, SERVED },
	{ PAGE | AREG, READ, 0x270, SERVED }, { PAGE | AREG, READ, 0x2f0, EXIT44(0) },
	{ PAGE | AREG, READ, 0x390, EXIT44(0) }, { PAGE | AREG, READ, 0x3e0, SERVED },
	{ PAGE | AREG, READ, 0x400, EXIT44(0) }, { PAGE | AREG, READ, 0x84, EXIT44(0) },
	{ PAGE | AREG, READ, 0x82, EXIT44(0) }, { PAGE | AREG, READ64, 0x80, EXIT44(0) },
	{ PAGE | AREG, WRITE, 0xb0, EXIT56 }, { PAGE | AREG, WRITE, 0x30, EXIT44(1) },
	{ PAGE | AREG, WRITE, 0x320, EXIT56 }, { PAGE | AREG, WRITE, 0x310, SERVED },
	{ PAGE | AREG, WRITE8, 0xf1, EXIT56 }, { PAGE | AREG, WRITE, 0x100, EXIT44(1) },
};

static void access_page(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++) {
		struct tk *t = new_vapic(accesses[i].proc2);
		u32 op = accesses[i].op, off = accesses[i].off, reason;
		const u8 code[] = { op == READ64 ? 0x48 : 0x90, op == READ64 ? READ : (u8)op, 0x01, 0xf4 };
		int got;

		tk_set(t, VMCS_APIC_ACCESS_ADDR, (u64)t->apic_access);
		set_vreg(t, off & 0xffc, 0x12345678);
		if (off == 0x80)
			set_vreg(t, 0x80, 0x20);
		gprs(t)[X86_RCX] = APIC_GPA + off;
		gprs(t)[X86_RAX] = 0xff000030;
		tk_code(t, code, sizeof(code));
		tk_enter(t);
		reason = (u32)tk_get(t, VMCS_EXIT_REASON);
		got = reason == VMX_EXIT_HLT ? SERVED :
		      reason == VMX_EXIT_APIC_WRITE ? EXIT56 :
		      reason == VMX_EXIT_APIC_ACCESS ?
		      EXIT44((int)(tk_get(t, VMCS_EXIT_QUALIFICATION) >> 12)) : -1;
		if (got != accesses[i].expect)
			fail_msg("row %u (offset %#x): got %#x, reason %u, want %#x", i, off, got, reason,
				 accesses[i].expect);
		if (got != SERVED) {
			assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION) & 0xfff, off);
			assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + (got == EXIT56 ? 3 : op == READ64 ? 0 : 1));
		} else if (op == READ) {
			assert_int_equal(gprs(t)[X86_RAX], off == 0x80 ? 0x20 : 0x12345678);
		}
		if (op == WRITE && off == 0x80)
			assert_int_equal(vreg(t, 0x80), 0x30);
		if (op == WRITE && off == 0x310 && got == SERVED)
			assert_int_equal(vreg(t, 0x310), 0xff000000);
		if (op == WRITE && off == 0xb0 && got == SERVED)
			assert_int_equal(vreg(t, 0xb0), 0);
		tk_free(t);
	}
}

/* ---- TPR shadow ---- */

static void tpr_shadow(void **state)
{
	struct tk *t = new_vapic(0);

	set_vreg(t, 0x80, 0x50);
	tk_set(t, VMCS_TPR_THRESHOLD, 4);
	/* MOV RBX, CR8; MOV CR8, RAX; HLT */
	tk_code(t, "\x44\x0f\x20\xc3\x44\x0f\x22\xc0\xf4", 9);
	gprs(t)[X86_RAX] = 4;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(gprs(t)[X86_RBX], 5);
	assert_int_equal(vreg(t, 0x80), 0x40);
	/* Below the threshold: a trap behind the instruction. */
	gprs(t)[X86_RAX] = 3;
	tk_again(t);
	tk_expect(t, VMX_EXIT_TPR_BELOW_THRESHOLD);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 8);
	assert_int_equal(vreg(t, 0x80), 0x30);
	/* Now an entry is refused; with APIC accesses it is an exit at once. */
	assert_int_equal(tk_try(t), 7);
	tk_or(t, VMCS_PROC_BASED_CTLS2, PAGE);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_TPR_BELOW_THRESHOLD);
	tk_set(t, VMCS_TPR_THRESHOLD, 0);
	/* A value above 15 is #GP; the processor's own TPR is not touched. */
	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_GP);
	gprs(t)[X86_RAX] = 16;
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(x86_get_cr8(t->cpu), 0);
	tk_free(t);
}

/* ---- Virtual interrupts ---- */

static void virtual_interrupts(void **state)
{
	struct tk *t = new_vapic(PAGE | AREG | VID);
	static const u8 eoi[] = { 0x67, 0xc7, 0x04, 0x25, 0xb0, 0, 5, 0, 0, 0, 0, 0, 0xf4 };

	/* IF = 0: recognised, not delivered; STI and one more instruction deliver it. */
	tk_set(t, VMCS_GUEST_INTR_STATUS, 0x61);
	set_vreg(t, 0x200 + 0x30, 1 << 1 | 1 << 0);
	tk_code(t, "\x90\x90\xfb\x90\xf4", 5);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x61));
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x6160);
	assert_int_equal(vreg(t, 0x130), 1 << 1);
	assert_int_equal(vreg(t, 0x230), 1 << 0);
	assert_int_equal(vreg(t, 0xa0), 0x60);

	/* EOI in the handler: 60h is next, but not before IF. */
	tk_code(t, eoi, sizeof(eoi));
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 12);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x0060);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x60));
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x6000);

	/* EOI exit. */
	tk_set(t, VMCS_EOI_EXIT_BITMAP1, 1ull << 0x20);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EOI_INDUCED);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x60);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 12);
	tk_free(t);
}

static void trap_23_evaluation_points(void **state)
{
	struct tk *t = new_vapic(PAGE | AREG | VID);

	/* Interrupt-window exiting blocks recognition; the window itself exits. */
	tk_set(t, VMCS_GUEST_INTR_STATUS, 0x61);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_INTR_WINDOW_EXITING);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x61);
	tk_clear(t, VMCS_PROC_BASED_CTLS, PROC_INTR_WINDOW_EXITING);

	/* TPR blocks; lowering it by CR8 evaluates. */
	set_vreg(t, 0x80, 0x60);
	tk_code(t, "\x90\x44\x0f\x22\xc0\x90\xf4", 7);
	gprs(t)[X86_RAX] = 0;
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x61));
	u64 pushed;
	memcpy(&pushed, t->mem + tk_get(t, VMCS_GUEST_RSP), 8);
	assert_int_equal(pushed, TK_CODE + 5);

	/* Self-IPI by ICR. */
	tk_set(t, VMCS_GUEST_INTR_STATUS, 0);
	memset(t->vapic, 0, 4096);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	tk_code(t, "\x89\x01\x90\xf4", 4);
	gprs(t)[X86_RCX] = APIC_GPA + 0x300;
	gprs(t)[X86_RAX] = 1 << 18 | 0x77;
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x77));
	/* Wakes HLT without an exit. */
	tk_set(t, VMCS_GUEST_INTR_STATUS, 0x88);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_HLT);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x88));
	tk_free(t);
}

struct pi_desc { u64 pir[4]; u64 control; u64 rsvd[3]; };

static void posted_interrupts(void **state)
{
	struct tk *t = new_vapic(PAGE | AREG | VID);
	struct pi_desc *pi = (struct pi_desc *)t->scratch;

	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_POSTED_INTR);
	tk_set(t, VMCS_POSTED_INTR_VECTOR, 0xf2);
	tk_set(t, VMCS_POSTED_INTR_DESC_ADDR, (u64)pi);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	pi->pir[1] = 1ull << 0x30;	/* vector 70h */
	pi->pir[0] = 1ull << 0x31;
	pi->control = 1;		/* ON */
	x86_raise_intr(t->cpu, 0xf2);
	tk_code(t, "\x90\xf4", 2);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x70));
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x7031);
	assert_int_equal(pi->pir[0] | pi->pir[1] | pi->control, 0);
	assert_int_equal(vreg(t, 0x210), 1 << 0x11);
	/* Any other vector exits. */
	x86_raise_intr(t->cpu, 0xf3);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), INTR_VALID | 0xf3);
	tk_free(t);
}

/* ---- x2APIC ---- */

static void x2apic(void **state)
{
	struct tk *t = new_vapic(PROC2_VIRT_X2APIC | AREG | VID);

	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_GP);
	/* RDMSR; HLT */
	set_vreg(t, 0x280, 0x99);
	gprs(t)[X86_RCX] = 0x828;
	tk_code(t, "\x0f\x32\xf4", 3);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(gprs(t)[X86_RAX], 0x99);
	/* WRMSR 808h: TPR; too wide: #GP. */
	gprs(t)[X86_RCX] = 0x808;
	gprs(t)[X86_RAX] = 0x70;
	gprs(t)[X86_RDX] = 0;
	tk_code(t, "\x0f\x30\xf4", 3);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(vreg(t, 0x80), 0x70);
	gprs(t)[X86_RAX] = 0x170;
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	/* EOI: only 0. */
	gprs(t)[X86_RCX] = 0x80b;
	gprs(t)[X86_RAX] = 1;
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	/* Self IPI: vector below 16 exits behind the instruction. */
	gprs(t)[X86_RCX] = 0x83f;
	gprs(t)[X86_RAX] = 5;
	tk_again(t);
	tk_expect(t, VMX_EXIT_APIC_WRITE);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x3f0);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 2);
	gprs(t)[X86_RAX] = 0x85;
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTR_STATUS), 0x85);
	/* The bitmap comes first. */
	t->msr_bitmap[0x800 + 0x83f / 8] = 1 << 7;
	tk_again(t);
	tk_expect(t, VMX_EXIT_MSR_WRITE);
	tk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(access_page),
		cmocka_unit_test(tpr_shadow),
		cmocka_unit_test(virtual_interrupts),
		cmocka_unit_test(trap_23_evaluation_points),
		cmocka_unit_test(posted_interrupts),
		cmocka_unit_test(x2apic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
