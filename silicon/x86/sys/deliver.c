/* SPDX-License-Identifier: MIT */
/*
 * Delivery of interrupts and exceptions, double and triple faults.
 *
 * cpu->delivering and cpu->idt_vectoring describe an event from the moment that
 * its delivery starts until the handler's first instruction is next. A fault met
 * meanwhile unwinds to the run loop as any other and comes back through
 * x86_deliver_fault(), which then finds the first event there and merges the two.
 *
 * SDM vol. 3A "Interrupt and Exception Handling", "Interrupt 8 - Double Fault
 * Exception (#DF)"; vol. 2A "INT n/INTO/INT3/INT1".
 */
#include "silicon/x86/sys/sys_priv.h"

/* Types of VMCS interruption information that matter here; 0 and 2 are external and NMI. */
enum { TYPE_HW = 3, TYPE_SOFT_INT = 4, TYPE_INT1 = 5, TYPE_SOFT_EXC = 6 };

enum { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

static unsigned event_class(u8 vector, u8 type)
{
	if (type != TYPE_HW)
		return CLASS_BENIGN;
	switch (vector) {
	case X86_DE: case X86_TS: case X86_NP: case X86_SS_FAULT: case X86_GP: case X86_CP:
		return CLASS_CONTRIBUTORY;
	case X86_PF: case X86_VE:
		return CLASS_PAGE_FAULT;
	case X86_DF:
		return CLASS_DOUBLE_FAULT;
	default:
		return CLASS_BENIGN;
	}
}

struct event {
	u8 vector;
	bool soft;		/* INT n, INT3, INTO: the gate's DPL counts */
	unsigned ext;		/* EXT bit of error codes met on the way */
	bool has_error;
	u32 error;
	u64 rip;
};

/* Error code that names the IDT entry. */
static u32 idt_code(const struct event *e)
{
	return e->vector * 8u + 2 + e->ext;
}

static _Noreturn void gp_idt(struct x86_cpu *cpu, const struct event *e)
{
	x86_fault_code(cpu, X86_GP, idt_code(e));
}

/* Flags that every handler starts without; interrupt gates clear IF too. */
static void handler_flags(struct x86_cpu *cpu, u64 clear)
{
	x86_set_rflags(cpu, x86_get_rflags(cpu) & ~clear);
	x86_update_mode(cpu);
}

/* ---- Real mode ---- */

static void deliver_real(struct x86_cpu *cpu, const struct event *e)
{
	struct stk s = stk_current(cpu, 0);
	u64 entry;

	if (e->vector * 4u + 3 > cpu->idtr.limit)
		gp_idt(cpu, e);
	entry = x86_sys_load(cpu, (u32)(cpu->idtr.base + e->vector * 4u), 4);
	stk_push(cpu, &s, x86_get_rflags(cpu), 2);
	stk_push(cpu, &s, cpu->seg[X86_CS].sel, 2);
	stk_push(cpu, &s, e->rip, 2);

	stk_commit(cpu, &s);
	seg_load_real(cpu, X86_CS, (u16)(entry >> 16));
	handler_flags(cpu, RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
	cpu->rip = entry & 0xffff;
}

/* ---- Protected mode: what is common to 32 and 64 bits ---- */

struct gate {
	u16 sel;
	u64 off;
	unsigned type, ist;
};

static void check_gate(struct x86_cpu *cpu, const struct event *e, u32 hi)
{
	if (e->soft && (hi >> 13 & 3) < cpu->cpl)
		gp_idt(cpu, e);
	if (!(hi >> 15 & 1))
		x86_fault_code(cpu, X86_NP, idt_code(e));
}

/* The handler's code segment; its privilege level. */
static unsigned check_handler_cs(struct x86_cpu *cpu, const struct event *e, u16 sel, struct desc *cs)
{
	u32 code = (sel & 0xfffcu) | e->ext;
	unsigned cpl;

	if (sel_null(sel))
		x86_fault_code(cpu, X86_GP, e->ext);
	if (!desc_read(cpu, sel, cs) || !desc_is_code(cs) || desc_dpl(cs) > cpu->cpl)
		x86_fault_code(cpu, X86_GP, code);
	if (x86_lma(cpu) && (cs->hi >> 21 & 3) != 1)
		x86_fault_code(cpu, X86_GP, code);
	if (!desc_present(cs))
		x86_fault_code(cpu, X86_NP, code);
	cpl = desc_is_conforming(cs) ? cpu->cpl : desc_dpl(cs);
	if (cpu->mode == X86_MODE_VM86 && cpl != 0)
		x86_fault_code(cpu, X86_GP, code);
	return cpl;
}

static void deliver_long(struct x86_cpu *cpu, const struct event *e)
{
	u64 lo, hi, rip;
	struct desc cs;
	struct stk s;
	unsigned cpl, type;
	u16 sel;

	if (e->vector * 16u + 15 > cpu->idtr.limit)
		gp_idt(cpu, e);
	lo = x86_sys_load64(cpu, cpu->idtr.base + e->vector * 16u);
	hi = x86_sys_load64(cpu, cpu->idtr.base + e->vector * 16u + 8);
	type = lo >> 40 & 0x1f;
	if ((type != TYPE_INT && type != TYPE_TRAP) || (hi >> 40 & 0x1f))
		gp_idt(cpu, e);
	check_gate(cpu, e, (u32)(lo >> 32));
	sel = (u16)(lo >> 16);
	cpl = check_handler_cs(cpu, e, sel, &cs);

	if (lo >> 32 & 7)
		s = stk_new64(tss_stack64(cpu, 28 + 8 * (lo >> 32 & 7), e->ext), cpl, e->ext);
	else if (cpl != cpu->cpl)
		s = stk_new64(tss_stack64(cpu, 4 + 8 * cpl, e->ext), cpl, e->ext);
	else
		s = stk_new64(cpu->gpr[X86_RSP], cpl, e->ext);
	s.sp &= ~15ull;
	desc_set_accessed(cpu, &cs);
	stk_push(cpu, &s, cpu->seg[X86_SS].sel, 8);
	stk_push(cpu, &s, cpu->gpr[X86_RSP], 8);
	stk_push(cpu, &s, x86_get_rflags(cpu), 8);
	stk_push(cpu, &s, cpu->seg[X86_CS].sel, 8);
	stk_push(cpu, &s, e->rip, 8);
	if (e->has_error)
		stk_push(cpu, &s, e->error, 8);
	rip = (lo & 0xffff) | (lo >> 32 & 0xffff0000) | hi << 32;
	rip = far_check_offset(cpu, &cs, rip, e->ext);

	if (cpl != cpu->cpl)
		seg_load_null_ss(cpu, cpl);
	far_load_cs(cpu, &cs, sel, cpl);
	stk_commit(cpu, &s);
	handler_flags(cpu, RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM |
		      (type == TYPE_INT ? RFLAGS_IF : 0));
	cpu->rip = rip;
}

/* ---- Legacy gates ---- */

static void push_vm86_data(struct x86_cpu *cpu, struct stk *s, unsigned size)
{
	static const u8 order[] = { X86_GS, X86_FS, X86_DS, X86_ES };

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		stk_push(cpu, s, cpu->seg[order[i]].sel, size);
}

static void drop_vm86_data(struct x86_cpu *cpu)
{
	seg_load_null(cpu, X86_GS, 0);
	seg_load_null(cpu, X86_FS, 0);
	seg_load_null(cpu, X86_DS, 0);
	seg_load_null(cpu, X86_ES, 0);
}

static void deliver_interrupt_gate(struct x86_cpu *cpu, const struct event *e, u32 lo, u32 hi)
{
	unsigned type = hi >> 8 & 15, size = type & 8 ? 4 : 2, cpl;
	bool vm86 = cpu->mode == X86_MODE_VM86, inner;
	u16 sel = (u16)(lo >> 16), ss_sel = 0;
	struct x86_segment ss;
	struct desc cs, ssd;
	struct stk s;
	u64 rip, sp;

	cpl = check_handler_cs(cpu, e, sel, &cs);
	inner = cpl != cpu->cpl;
	if (inner) {
		tss_inner_stack(cpu, cpl, e->ext, &ss_sel, &sp);
		if (sel_null(ss_sel))
			x86_fault_code(cpu, X86_TS, e->ext);
		seg_check_ss(cpu, ss_sel, cpl, X86_TS, e->ext, &ssd);
		desc_set_accessed(cpu, &ssd);
		ss = desc_segment(&ssd, ss_sel);
		s = stk_new(&ss, sp, cpl, (ss_sel & 0xfffcu) | e->ext);
	} else {
		s = stk_current(cpu, e->ext);
	}
	desc_set_accessed(cpu, &cs);
	if (inner) {
		if (vm86)
			push_vm86_data(cpu, &s, size);
		stk_push(cpu, &s, cpu->seg[X86_SS].sel, size);
		stk_push(cpu, &s, cpu->gpr[X86_RSP], size);
	}
	stk_push(cpu, &s, x86_get_rflags(cpu), size);
	stk_push(cpu, &s, cpu->seg[X86_CS].sel, size);
	stk_push(cpu, &s, e->rip, size);
	if (e->has_error)
		stk_push(cpu, &s, e->error, size);
	rip = (lo & 0xffff) | (size == 4 ? hi & 0xffff0000 : 0);
	rip = far_check_offset(cpu, &cs, rip, e->ext);

	if (vm86)
		drop_vm86_data(cpu);
	far_load_cs(cpu, &cs, sel, cpl);
	if (inner)
		cpu->seg[X86_SS] = ss;
	stk_commit(cpu, &s);
	handler_flags(cpu, RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM |
		      ((type & 7) == TYPE_INT16 ? RFLAGS_IF : 0));
	cpu->rip = rip;
}

static void deliver_protected(struct x86_cpu *cpu, const struct event *e)
{
	u32 lo, hi;
	u64 v;

	if (e->vector * 8u + 7 > cpu->idtr.limit)
		gp_idt(cpu, e);
	v = x86_sys_load64(cpu, (u32)(cpu->idtr.base + e->vector * 8u));
	lo = (u32)v;
	hi = (u32)(v >> 32);
	switch (hi >> 8 & 0x1f) {
	case TYPE_TASK_GATE:
		check_gate(cpu, e, hi);
		task_switch(cpu, (u16)(lo >> 16), X86_TASK_GATE, e->has_error, e->error, e->rip, e->ext);
		cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
		break;
	case TYPE_INT16:
	case TYPE_TRAP16:
	case TYPE_INT:
	case TYPE_TRAP:
		check_gate(cpu, e, hi);
		deliver_interrupt_gate(cpu, e, lo, hi);
		break;
	default:
		gp_idt(cpu, e);
	}
}

/* ---- Virtual-8086 mode extensions ---- */

/*
 * VM86 with VME: is the bit of INT @vector in the redirection map clear? The interrupt
 * then goes through the task's own interrupt vector table, as in real mode.
 */
static bool vme_redirects(struct x86_cpu *cpu, u8 vector)
{
	const struct x86_segment *tr = &cpu->seg[X86_TR];
	unsigned map;

	if (cpu->mode != X86_MODE_VM86 || !(cpu->cr4 & CR4_VME))
		return false;
	if (tr->limit < 103)
		x86_gp0(cpu);
	map = (unsigned)x86_sys_load(cpu, (u32)(tr->base + 102), 2);
	if (map < 32 || map - 32 + vector / 8 > tr->limit)
		x86_gp0(cpu);
	return !(x86_sys_load(cpu, (u32)(tr->base + map - 32 + vector / 8), 1) >> vector % 8 & 1);
}

static void deliver_redirected(struct x86_cpu *cpu, const struct event *e)
{
	bool own_if = (cpu->rflags & RFLAGS_IOPL) == RFLAGS_IOPL;
	u64 entry = x86_load32(cpu, X86_ES, e->vector * 4u);
	u64 flags = x86_get_rflags(cpu);
	struct stk s = stk_current(cpu, 0);

	if (!own_if)
		flags = (flags & ~RFLAGS_IF) | RFLAGS_IOPL | (flags & RFLAGS_VIF ? RFLAGS_IF : 0);
	stk_push(cpu, &s, flags, 2);
	stk_push(cpu, &s, cpu->seg[X86_CS].sel, 2);
	stk_push(cpu, &s, e->rip, 2);

	stk_commit(cpu, &s);
	seg_load_vm86(cpu, X86_CS, (u16)(entry >> 16));
	handler_flags(cpu, RFLAGS_TF | RFLAGS_NT | (own_if ? RFLAGS_IF : RFLAGS_VIF));
	cpu->rip = entry & 0xffff;
}

/* ---- Any mode ---- */

/* Nothing of the interrupted instruction stream holds in the handler. */
static void delivered(struct x86_cpu *cpu)
{
	cpu->delivering = 0;
	cpu->idt_vectoring = 0;
	cpu->idt_vectoring_error = 0;
	cpu->slow &= ~(u32)(X86_SLOW_SHADOW_STI | X86_SLOW_SHADOW_SS | X86_SLOW_START |
			    X86_SLOW_HALTED);
	cpu->activity = X86_ACT_ACTIVE;
	cpu->gpr[X86_REG_NEXT_RIP] = cpu->rip;
}

void x86_deliver(struct x86_cpu *cpu, u8 vector, u8 type, bool has_error, u32 error, u64 rip)
{
	const struct event e = {
		.vector = vector, .soft = type == TYPE_SOFT_INT || type == TYPE_SOFT_EXC,
		.ext = type != TYPE_SOFT_INT && type != TYPE_SOFT_EXC,
		.has_error = has_error, .error = error, .rip = rip,
	};

	cpu->delivering = (u8)(1 + event_class(vector, type));
	cpu->idt_vectoring = vector | (u32)type << 8 | (u32)has_error << 11 | 1u << 31;
	cpu->idt_vectoring_error = error;
	if (cpu->mode == X86_MODE_REAL)
		deliver_real(cpu, &e);
	else if (x86_lma(cpu))
		deliver_long(cpu, &e);
	else if (type == TYPE_SOFT_INT && vme_redirects(cpu, vector))
		deliver_redirected(cpu, &e);
	else
		deliver_protected(cpu, &e);
	delivered(cpu);
}

static void shut_down(struct x86_cpu *cpu)
{
	cpu->delivering = 0;
	cpu->idt_vectoring = 0;
	x86_icpt_triple_fault(cpu);
	cpu->activity = X86_ACT_SHUTDOWN;
	cpu->slow |= X86_SLOW_HALTED;
}

void x86_deliver_fault(struct x86_cpu *cpu)
{
	u8 vector = cpu->fault.vector, type = cpu->fault.type;
	bool has_error = cpu->fault.has_error;
	u32 error = cpu->fault.error;
	u64 payload = cpu->fault.payload;
	bool code_breakpoint = vector == X86_DB && !(payload & (DR6_BD | DR6_BS | DR6_BT));
	unsigned first, second;

	/* What the instruction had hit so far does not count: it will run again. */
	cpu->pending_db = 0;
	cpu->slow &= ~(u32)(X86_SLOW_DB_PENDING | X86_SLOW_START);
	if (!code_breakpoint) {
		cpu->rflags |= RFLAGS_RF;
		cpu->slow |= X86_SLOW_RF;
	}

	/* Its own intercept comes first, then the merge with what was being delivered. */
	x86_icpt_exception(cpu, vector, type, has_error, error, payload);
	if (vector == X86_PF)
		cpu->cr2 = payload;
	else if (vector == X86_DB)
		debug_enter(cpu, payload);

	if (cpu->delivering) {
		first = cpu->delivering - 1;
		second = event_class(vector, type);
		if (first == CLASS_DOUBLE_FAULT && second != CLASS_BENIGN) {
			shut_down(cpu);
			return;
		}
		if ((first == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY) ||
		    (first == CLASS_PAGE_FAULT && second != CLASS_BENIGN)) {
			vector = X86_DF;
			type = TYPE_HW;
			has_error = true;
			error = 0;
			cpu->delivering = 0;
			cpu->idt_vectoring = 0;
			x86_icpt_exception(cpu, X86_DF, TYPE_HW, true, 0, 0);
		}
	}
	/* Real mode has no error codes. */
	if (cpu->mode == X86_MODE_REAL)
		has_error = false;
	x86_deliver(cpu, vector, type, has_error, error, cpu->rip);
}

void x86_soft_int(struct x86_cpu *cpu, const struct x86_op *op, u8 vector, u8 type)
{
	u64 rip = (cpu->rip + op->len) & cpu->ip_mask;

	/* RF is spent by the instruction: what it pushes is that of a trap. */
	cpu->rflags &= ~RFLAGS_RF;
	cpu->slow &= ~(u32)X86_SLOW_RF;
	/* INT n itself is never intercepted; the others are exceptions of their kind. */
	if (type != TYPE_SOFT_INT)
		x86_icpt_exception(cpu, vector, type, false, 0, 0);
	if (type == TYPE_SOFT_INT && cpu->mode == X86_MODE_VM86 &&
	    (cpu->rflags & RFLAGS_IOPL) != RFLAGS_IOPL && !vme_redirects(cpu, vector))
		x86_gp0(cpu);
	if (type == TYPE_INT1)
		debug_enter(cpu, 0);
	x86_deliver(cpu, vector, type, false, 0, rip);
}
