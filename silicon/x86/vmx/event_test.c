/* SPDX-License-Identifier: MIT */
/*
 * Events of non-root operation: interrupts, windows, injection, deliveries that exit, task
 * switches, INIT and SIPI, MSR lists, VM functions, VMCS shadowing.
 */
#include <pthread.h>

#include "silicon/x86/vmx/testkit.h"

static u64 *gprs(struct tk *t)
{
	return x86_gprs(t->cpu);
}

/* ---- External interrupts and windows ---- */

static void external_interrupt(void **state)
{
	struct tk *t = tk_new();

	tk_code(t, "\x90\xf4", 2);
	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING);
	x86_raise_intr(t->cpu, 0x55);
	tk_enter(t);	/* IF = 0 does not matter */
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), INTR_VALID | 0x55);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);

	/* Not acknowledged: it stays pending. */
	tk_clear(t, VMCS_EXIT_CTLS, EXITC_ACK_INTR);
	x86_raise_intr(t->cpu, 0x56);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO) & INTR_VALID, 0);
	assert_int_equal(x86_ack_intr(t->cpu), 0x56);

	/* From HLT; blocked by the MOV SS shadow for one instruction. */
	x86_raise_intr(t->cpu, 0x57);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_HLT);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(tk_get(t, VMCS_GUEST_ACTIVITY), X86_ACT_HLT);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_ACTIVE);
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 0);
	assert_int_equal(x86_ack_intr(t->cpu), 0x57);

	/* Without the control it is the guest's: through its IDT. */
	tk_clear(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING);
	tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
	x86_raise_intr(t->cpu, 0x58);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x58));
	tk_free(t);
}

/* Another thread's interrupt ends an endless loop. */
static void *raise_later(void *cpu)
{
	x86_raise_intr(cpu, 0x99);
	return NULL;
}

static void interrupt_from_another_thread(void **state)
{
	struct tk *t = tk_new();
	pthread_t thread;

	tk_code(t, "\xeb\xfe", 2);
	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_EXT_INTR_EXITING);
	assert_int_equal(pthread_create(&thread, NULL, raise_later, t->cpu), 0);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_EXTERNAL_INTERRUPT);
	pthread_join(thread, NULL);
	tk_free(t);
}

static void windows(void **state)
{
	struct tk *t = tk_new();

	/* NOP; STI; NOP; HLT: open behind the instruction that follows STI. */
	tk_code(t, "\x90\xfb\x90\xf4", 4);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_INTR_WINDOW_EXITING);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 3);
	/* IF = 1 from the start; a POPF opens it, too. */
	tk_again(t);
	tk_expect(t, VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	tk_set(t, VMCS_GUEST_RFLAGS, 2);
	tk_code(t, "\x68\x02\x02\0\0\x9d\x90\xf4", 8);
	tk_again(t);
	tk_expect(t, VMX_EXIT_INTERRUPT_WINDOW);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 6);
	/* Wakes HLT. */
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_HLT);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_INTERRUPT_WINDOW);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_ACTIVE);
	tk_clear(t, VMCS_PROC_BASED_CTLS, PROC_INTR_WINDOW_EXITING);

	/* The NMI window opens with IRET. */
	tk_or(t, VMCS_PIN_BASED_CTLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
	tk_or(t, VMCS_PROC_BASED_CTLS, PROC_NMI_WINDOW_EXITING);
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 8);
	tk_set(t, VMCS_GUEST_RFLAGS, 2);
	u64 frame[5] = { TK_CODE + 2, TK_CS, 2, TK_STACK, TK_SS };
	memcpy(t->mem + TK_STACK - 0x100, frame, sizeof(frame));
	tk_set(t, VMCS_GUEST_RSP, TK_STACK - 0x100);
	tk_code(t, "\x48\xcf\x90\xf4", 4);
	tk_again(t);
	tk_expect(t, VMX_EXIT_NMI_WINDOW);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 2);
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 0);
	/* Open from the start, even in shutdown. */
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_SHUTDOWN);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_NMI_WINDOW);
	tk_free(t);
}

static void init_and_sipi(void **state)
{
	struct tk *t = tk_new();

	tk_code(t, "\xf4", 1);
	atomic_fetch_or(&t->cpu->events, X86_EV_SIPI);	/* not waited for: dropped */
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	atomic_fetch_or(&t->cpu->events, X86_EV_INIT);
	tk_again(t);
	tk_expect(t, VMX_EXIT_INIT_SIGNAL);
	tk_set(t, VMCS_GUEST_ACTIVITY, X86_ACT_WAIT_SIPI);
	atomic_store(&t->cpu->vmx.sipi_vector, 0x9a);
	atomic_fetch_or(&t->cpu->events, X86_EV_SIPI | X86_EV_INIT);
	tk_again(t);
	tk_expect(t, VMX_EXIT_SIPI_SIGNAL);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x9a);
	assert_int_equal(tk_get(t, VMCS_GUEST_ACTIVITY), X86_ACT_WAIT_SIPI);
	tk_free(t);
}

/* ---- Injection ---- */

static u64 stack_word(struct tk *t, unsigned n)
{
	u64 v;

	memcpy(&v, t->mem + tk_get(t, VMCS_GUEST_RSP) + 8 * n, 8);
	return v;
}

static void injection(void **state)
{
	static const struct { u8 type, vector; bool error; u8 len; u64 rip; } rows[] = {
		{ INTR_EXT, 0x40, false, 0, TK_CODE }, { INTR_NMI, 2, false, 0, TK_CODE },
		{ INTR_HARD, X86_GP, true, 0, TK_CODE }, { INTR_HARD, X86_UD, false, 7, TK_CODE },
		{ INTR_SOFT_INT, 0x80, false, 2, TK_CODE + 2 }, { INTR_INT1, 1, false, 1, TK_CODE + 1 },
		{ INTR_SOFT_EXC, 3, false, 1, TK_CODE + 1 }, { INTR_SOFT_INT, 0x21, false, 0, TK_CODE },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tk *t = tk_new();
		bool err = rows[i].error;

		tk_set(t, VMCS_EXCEPTION_BITMAP, ~0u);	/* the event itself is not looked up */
		tk_set(t, VMCS_GUEST_RFLAGS, 0x202);
		tk_set(t, VMCS_ENTRY_INSN_LEN, rows[i].len);
		tk_inject(t, rows[i].type, rows[i].vector, err, 0x38);
		tk_enter(t);
		tk_expect(t, VMX_EXIT_HLT);
		assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(rows[i].vector));
		if (err)
			assert_int_equal(stack_word(t, 0), 0x38);
		assert_int_equal(stack_word(t, err), rows[i].rip);
		assert_int_equal(stack_word(t, err + 2), 0x202);
		assert_int_equal(tk_get(t, VMCS_ENTRY_INTR_INFO) & INTR_VALID, 0);
		assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), rows[i].type == INTR_NMI ? 8 : 0);
		tk_free(t);
	}
}

/* INT n may not use a gate with DPL below CPL; INT1 and hardware events may. */
static void injection_gate_dpl(void **state)
{
	static const struct { u8 type, vector; u32 info; } rows[] = {
		{ INTR_SOFT_INT, 0x80, INTR_HARD << 8 | INTR_ERROR | X86_GP },
		{ INTR_SOFT_EXC, 3, INTR_HARD << 8 | INTR_ERROR | X86_GP },
		{ INTR_INT1, 1, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tk *t = tk_new();

		tk_user(t);
		tk_set(t, VMCS_EXCEPTION_BITMAP, ~0u);
		tk_set(t, VMCS_ENTRY_INSN_LEN, 2);
		tk_inject(t, rows[i].type, rows[i].vector, false, 0);
		tk_enter(t);
		if (!rows[i].info) {
			tk_expect(t, VMX_EXIT_HLT);
		} else {
			tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
			assert_int_equal(tk_get(t, VMCS_EXIT_INTR_INFO), INTR_VALID | rows[i].info);
			assert_int_equal(tk_get(t, VMCS_EXIT_INTR_ERROR), rows[i].vector * 8u + 2);
			assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO),
					 INTR_VALID | (u32)rows[i].type << 8 | rows[i].vector);
			assert_int_equal(tk_get(t, VMCS_EXIT_INSN_LEN), 2);
			assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
		}
		tk_free(t);
	}
}

/* A delivery that hits an EPT violation: RIP, IDT-vectoring, instruction length; then injected again. */
static void delivery_exits(void **state)
{
	struct tk *t = tk_new();
	u64 epte = *tk_epte(t, 0x8000);

	*tk_epte(t, 0x8000) = 0;	/* the stack */
	tk_code(t, "\x90\xcd\x44", 3);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_EPT_VIOLATION);
	assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO), INTR_VALID | INTR_SOFT_INT << 8 | 0x44);
	assert_int_equal(tk_get(t, VMCS_EXIT_INSN_LEN), 2);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	assert_int_equal(tk_get(t, VMCS_GUEST_RSP), TK_STACK);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION) & 0x1ff, 2 | BIT(7) | BIT(8));
	/* As a hypervisor does it. */
	*tk_epte(t, 0x8000) = epte;
	tk_set(t, VMCS_ENTRY_INTR_INFO, tk_get(t, VMCS_IDT_VECTORING_INFO));
	tk_set(t, VMCS_ENTRY_INSN_LEN, tk_get(t, VMCS_EXIT_INSN_LEN));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(0x44));
	assert_int_equal(stack_word(t, 0), TK_CODE + 3);
	assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO) & INTR_VALID, 0);
	tk_free(t);
}

static void pending_debug(void **state)
{
	struct tk *t = tk_new();

	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_DB);
	tk_code(t, "\x90\x90\xf4", 3);
	tk_set(t, VMCS_GUEST_PENDING_DEBUG, BIT(14));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), BIT(14));
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	assert_int_equal(tk_get(t, VMCS_GUEST_PENDING_DEBUG), 0);
	/* Held by the MOV SS shadow until the next instruction ends. */
	tk_set(t, VMCS_GUEST_PENDING_DEBUG, BIT(12) | BIT(2));
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), BIT(2));
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	/* Kept across an exit under the shadow. */
	tk_set(t, VMCS_GUEST_PENDING_DEBUG, BIT(12) | BIT(2));
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 2);
	tk_code(t, "\x0f\xa2", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_CPUID);
	assert_int_equal(tk_get(t, VMCS_GUEST_PENDING_DEBUG), BIT(12) | BIT(2));
	assert_int_equal(tk_get(t, VMCS_GUEST_INTERRUPTIBILITY), 2);
	/* Dropped when an exception is injected. */
	tk_set(t, VMCS_GUEST_INTERRUPTIBILITY, 0);
	tk_inject(t, INTR_HARD, X86_UD, false, 0);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_HANDLER(X86_UD));
	tk_free(t);
}

/* ---- Task switches ---- */

static void task_switch(void **state)
{
	struct tk *t = tk_new();
	const u64 tss = 0x0000890070000067;
	/* jmp far 0x38:0 */
	static const u8 jump[] = { 0xea, 0, 0, 0, 0, 0x38, 0 };

	memcpy(t->mem + TK_GDT + 0x38, &tss, 8);
	tk_set(t, VMCS_GUEST_GDTR_LIMIT, 0x3f);
	tk_protected(t);
	tk_code(t, jump, sizeof(jump));
	tk_enter(t);
	tk_expect(t, VMX_EXIT_TASK_SWITCH);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x38 | 2u << 30);
	assert_int_equal(tk_get(t, VMCS_EXIT_INSN_LEN), 7);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	assert_int_equal(t->mem[TK_GDT + 0x3d], 0x89);	/* not busy */
	/* Through a task gate, by an exception. */
	const u64 gate = 0x0000850000380000;
	memcpy(t->mem + TK_IDT + 8 * X86_UD, &gate, 8);
	tk_code(t, "\x0f\x0b", 2);
	tk_again(t);
	tk_expect(t, VMX_EXIT_TASK_SWITCH);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 0x38 | 3u << 30);
	assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO), INTR_VALID | INTR_HARD << 8 | X86_UD);
	tk_free(t);
}

static void triple_fault(void **state)
{
	struct tk *t = tk_new();

	tk_set(t, VMCS_GUEST_IDTR_LIMIT, 0);
	tk_code(t, "\x90\x0f\x0b", 3);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_TRIPLE_FAULT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE + 1);
	assert_int_equal(tk_get(t, VMCS_IDT_VECTORING_INFO) & INTR_VALID, 0);
	assert_int_equal(tk_get(t, VMCS_GUEST_ACTIVITY), 0);
	tk_free(t);
}

/* ---- MSR lists ---- */

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082

struct msr_entry { u64 index, val; };

static void msr_lists(void **state)
{
	struct tk *t = tk_new();
	struct msr_entry *e = (struct msr_entry *)t->scratch;
	u64 v;

	e[0] = (struct msr_entry){ MSR_STAR, 0x1111 };		/* entry load */
	e[1] = (struct msr_entry){ MSR_LSTAR, 0x2222 };
	e[2] = (struct msr_entry){ MSR_STAR, 0 };		/* exit store */
	e[3] = (struct msr_entry){ MSR_STAR, 0x3333 };		/* exit load */
	tk_set(t, VMCS_ENTRY_MSR_LOAD_ADDR, (u64)&e[0]);
	tk_set(t, VMCS_ENTRY_MSR_LOAD_COUNT, 2);
	tk_set(t, VMCS_EXIT_MSR_STORE_ADDR, (u64)&e[2]);
	tk_set(t, VMCS_EXIT_MSR_STORE_COUNT, 1);
	tk_set(t, VMCS_EXIT_MSR_LOAD_ADDR, (u64)&e[3]);
	tk_set(t, VMCS_EXIT_MSR_LOAD_COUNT, 1);
	tk_code(t, "\xf4", 1);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(e[2].val, 0x1111);
	assert_int_equal(x86_rdmsr(t->cpu, MSR_STAR, &v), 0);
	assert_int_equal(v, 0x3333);
	assert_int_equal(x86_rdmsr(t->cpu, MSR_LSTAR, &v), 0);
	assert_int_equal(v, 0x2222);

	/* Refusals on entry: failure 34 with the entry's number; the exit list is loaded. */
	static const u64 bad[] = { 0xc0000100, 0xc0000101, 0x808, 0x9b, 0x79, MSR_LSTAR | 1ull << 32, 0x40000000 };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		e[1].index = bad[i];
		e[3].val = 0x4000 + i;
		tk_again(t);
		tk_expect(t, VMX_EXIT_MSR_LOAD_FAIL | VMX_EXIT_ENTRY_FAILURE);
		assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 2);
		assert_int_equal(x86_rdmsr(t->cpu, MSR_STAR, &v), 0);
		assert_int_equal(v, 0x4000 + i);
	}
	/* A store or a load that fails at the exit is an abort. */
	e[1] = (struct msr_entry){ MSR_LSTAR, 0x5555 };
	e[2].index = 0x800;
	spa_t where;
	assert_int_equal(x86_vmenter(t->cpu, false, &where), VMX_ABORT);
	assert_int_equal(((struct vmcs *)t->vmcs)->abort, 1);
	tk_free(t);
}

/* ---- VM functions and VMCS shadowing ---- */

static void eptp_switching(void **state)
{
	struct tk *t = tk_new();
	u64 *list = (u64 *)t->scratch;

	list[3] = tk_get(t, VMCS_EPT_POINTER) | BIT(6);
	list[4] = 1;
	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_VMFUNC);
	tk_set(t, VMCS_VMFUNC_CTLS, 1);
	tk_set(t, VMCS_EPTP_LIST_ADDR, (u64)list);
	tk_code(t, "\x0f\x01\xd4\xf4", 4);
	gprs(t)[X86_RAX] = 0;
	gprs(t)[X86_RCX] = 3;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_EPT_POINTER), list[3]);
	gprs(t)[X86_RCX] = 4;
	tk_again(t);
	tk_expect(t, VMX_EXIT_VMFUNC);
	assert_int_equal(tk_get(t, VMCS_EXIT_INSN_LEN), 3);
	gprs(t)[X86_RCX] = 512;
	tk_again(t);
	tk_expect(t, VMX_EXIT_VMFUNC);
	gprs(t)[X86_RAX] = 1;
	tk_again(t);
	tk_expect(t, VMX_EXIT_VMFUNC);
	tk_set(t, VMCS_EXCEPTION_BITMAP, 1u << X86_UD);
	gprs(t)[X86_RAX] = 64;
	tk_again(t);
	tk_expect(t, VMX_EXIT_EXCEPTION_NMI);
	tk_free(t);
}

static void vmcs_shadowing(void **state)
{
	struct tk *t = tk_new();
	struct vmcs *shadow = (struct vmcs *)t->scratch;

	shadow->revision = VMCS_REVISION | VMCS_SHADOW;
	V(shadow, GUEST_RIP) = 0x777;
	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_VMCS_SHADOWING);
	tk_set(t, VMCS_VMREAD_BITMAP, (u64)t->io_a);
	tk_set(t, VMCS_VMWRITE_BITMAP, (u64)t->io_b);
	t->io_b[VMCS_GUEST_RSP / 8] = 1 << (VMCS_GUEST_RSP & 7);
	tk_set(t, VMCS_LINK_POINTER, (u64)shadow);
	/* VMREAD RBX, RDX; VMWRITE RDX, RAX; HLT */
	tk_code(t, "\x0f\x78\xd3\x0f\x79\xd0\xf4", 7);
	gprs(t)[X86_RDX] = VMCS_GUEST_RIP;
	gprs(t)[X86_RAX] = 0x888;
	tk_enter(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(gprs(t)[X86_RBX], 0x777);
	assert_int_equal(V(shadow, GUEST_RIP), 0x888);
	gprs(t)[X86_RDX] = VMCS_GUEST_RSP;	/* bit set: exits */
	tk_again(t);
	tk_expect(t, VMX_EXIT_VMWRITE);
	gprs(t)[X86_RDX] = 0x8000;		/* beyond the bitmap */
	tk_again(t);
	tk_expect(t, VMX_EXIT_VMREAD);
	gprs(t)[X86_RDX] = 0x6828;		/* no such field: the shadow VMCS gets error 12 */
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(V(shadow, INSN_ERROR), 12);
	assert_int_equal(tk_get(t, VMCS_GUEST_RFLAGS) & RFLAGS_ZF, RFLAGS_ZF);
	tk_set(t, VMCS_LINK_POINTER, ~0ull);
	tk_again(t);
	tk_expect(t, VMX_EXIT_HLT);
	assert_int_equal(tk_get(t, VMCS_GUEST_RFLAGS) & RFLAGS_ARITH, RFLAGS_CF);
	/* The link pointer is checked against the control. */
	tk_set(t, VMCS_LINK_POINTER, (u64)shadow);
	tk_clear(t, VMCS_PROC_BASED_CTLS2, PROC2_VMCS_SHADOWING);
	tk_again(t);
	tk_expect(t, VMX_EXIT_INVALID_STATE | VMX_EXIT_ENTRY_FAILURE);
	assert_int_equal(tk_get(t, VMCS_EXIT_QUALIFICATION), 4);
	tk_free(t);
}

/* PAUSE loops: short gaps for longer than the window. */
static void pause_loop(void **state)
{
	struct tk *t = tk_new();

	tk_or(t, VMCS_PROC_BASED_CTLS2, PROC2_PAUSE_LOOP_EXITING);
	tk_set(t, VMCS_PLE_GAP, 1u << 30);
	tk_set(t, VMCS_PLE_WINDOW, 20000);
	tk_code(t, "\xf3\x90\xeb\xfc", 4);
	tk_enter(t);
	tk_expect(t, VMX_EXIT_PAUSE_INSTRUCTION);
	assert_int_equal(tk_get(t, VMCS_GUEST_RIP), TK_CODE);
	tk_free(t);
}

/* A whole hypervisor in simulated code: VMXON state, VMLAUNCH, the guest's CPUID, host at HOST_RIP. */
static void launch_from_root_code(void **state)
{
	struct tk *t = tk_new();
	struct x86_state s;

	/* Guest and host code share the page: the host's part is at TK_CODE + 0x100. */
	memcpy(t->mem + TK_CODE + 0x80, "\x0f\xa2", 2);
	memcpy(t->mem + TK_CODE + 0x100, "\x48\xff\xc3\xf4", 4);	/* INC RBX; HLT */
	tk_set(t, VMCS_GUEST_RIP, TK_CODE + 0x80);
	tk_set(t, VMCS_HOST_RIP, TK_CODE + 0x100);
	tk_set(t, VMCS_HOST_RSP, TK_STACK);
	tk_root(t, "\x90", 1);		/* builds the page tables */
	tk_set(t, VMCS_HOST_CR3, (u64)t->root);
	gprs(t)[X86_RBX] = 5;
	tk_root(t, "\x0f\x01\xc2\x0f\x0b", 20);
	tk_expect(t, VMX_EXIT_CPUID);
	x86_get_state(t->cpu, &s);
	assert_int_equal(s.gpr[X86_RBX], 6);
	assert_int_equal(s.rip, TK_CODE + 0x104);
	assert_false(t->cpu->vmx.non_root);
	tk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(external_interrupt),
		cmocka_unit_test(interrupt_from_another_thread),
		cmocka_unit_test(windows),
		cmocka_unit_test(init_and_sipi),
		cmocka_unit_test(injection),
		cmocka_unit_test(injection_gate_dpl),
		cmocka_unit_test(delivery_exits),
		cmocka_unit_test(pending_debug),
		cmocka_unit_test(task_switch),
		cmocka_unit_test(triple_fault),
		cmocka_unit_test(msr_lists),
		cmocka_unit_test(eptp_switching),
		cmocka_unit_test(vmcs_shadowing),
		cmocka_unit_test(pause_loop),
		cmocka_unit_test(launch_from_root_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
