/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switch. Everything that can fault in the old task comes first;
 * after the commit a fault belongs to the new task, whose CS:EIP is pushed.
 * SDM vol. 3A "Task Switching".
 */
#include "silicon/x86/sys/sys_priv.h"

/* Where a TSS keeps what: 32-bit and 16-bit format. */
struct tss_layout {
	u8 size;		/* of EIP, EFLAGS and GPRs */
	u8 eip, eflags, gprs;
	u8 sregs, sreg_step, nr_sregs;
	u8 ldt;
	u8 min_limit;
	u8 save_end;		/* behind the last byte that the processor writes */
};
static const struct tss_layout tss32 = { 4, 32, 36, 40, 72, 4, 6, 96, 0x67, 96 };
static const struct tss_layout tss16 = { 2, 14, 16, 18, 34, 2, 4, 42, 0x2b, 42 };

struct task {
	u32 eip, eflags, gpr[8];
	u16 sreg[6];
	u16 ldt;
	u64 cr3;
	bool trap;
};

static const struct tss_layout *layout(unsigned type)
{
	return type & 8 ? &tss32 : &tss16;
}

/* Check the descriptor of the new TSS. */
static void check_tss(struct x86_cpu *cpu, u16 sel, unsigned reason, unsigned ext, struct desc *d)
{
	bool iret = reason == X86_TASK_IRET;
	enum x86_vector bad = iret ? X86_TS : X86_GP;
	u32 code = (sel & 0xfffcu) | ext;
	unsigned type;

	if (sel_null(sel) || (sel & 4) || !desc_read(cpu, sel, d) || desc_s(d))
		x86_fault_code(cpu, bad, code);
	type = desc_type(d);
	if (iret ? type != TYPE_TSS16_BUSY && type != TYPE_TSS_BUSY :
		   type != TYPE_TSS16_AVAIL && type != TYPE_TSS_AVAIL)
		x86_fault_code(cpu, bad, code);
	if (!desc_present(d))
		x86_fault_code(cpu, X86_NP, code);
	if (desc_limit(d) < layout(type)->min_limit)
		x86_fault_code(cpu, X86_TS, code);
}

static u32 tss_get(struct x86_cpu *cpu, u64 base, unsigned off, unsigned size)
{
	return (u32)x86_sys_load(cpu, (u32)(base + off), size);
}

static void tss_put(struct x86_cpu *cpu, u64 base, unsigned off, u32 v, unsigned size)
{
	x86_sys_store(cpu, (u32)(base + off), v, size);
}

/* Raise the fault that a store would, by storing what is there. */
static void probe(struct x86_cpu *cpu, u64 base, unsigned off)
{
	u64 old = tss_get(cpu, base, off, 2);

	x86_sys_cmpxchg(cpu, (u32)(base + off), &old, old, 2);
}

static void read_task(struct x86_cpu *cpu, u64 base, const struct tss_layout *l, struct task *t)
{
	bool is32 = l == &tss32;

	t->eip = tss_get(cpu, base, l->eip, l->size);
	t->eflags = tss_get(cpu, base, l->eflags, l->size);
	for (unsigned i = 0; i < 8; i++)
		t->gpr[i] = tss_get(cpu, base, l->gprs + i * l->size, l->size) |
			    (is32 ? 0 : 0xffff0000);
	for (unsigned i = 0; i < 6; i++)
		t->sreg[i] = i < l->nr_sregs ?
			     (u16)tss_get(cpu, base, l->sregs + i * l->sreg_step, 2) : 0;
	t->ldt = (u16)tss_get(cpu, base, l->ldt, 2);
	t->cr3 = is32 ? tss_get(cpu, base, 28, 4) : 0;
	t->trap = is32 && (tss_get(cpu, base, 100, 2) & 1);
}

static void save_task(struct x86_cpu *cpu, u64 base, const struct tss_layout *l, u64 rip, u64 eflags)
{
	tss_put(cpu, base, l->eip, (u32)rip, l->size);
	tss_put(cpu, base, l->eflags, (u32)eflags, l->size);
	for (unsigned i = 0; i < 8; i++)
		tss_put(cpu, base, l->gprs + i * l->size, (u32)cpu->gpr[i], l->size);
	for (unsigned i = 0; i < l->nr_sregs; i++)
		tss_put(cpu, base, l->sregs + i * l->sreg_step, cpu->seg[i].sel, 2);
}

/* ---- Loading the new task's segments: faults are its own ---- */

static void load_ldt(struct x86_cpu *cpu, u16 sel, unsigned ext)
{
	u32 code = (sel & 0xfffcu) | ext;
	struct desc d;

	cpu->seg[X86_LDTR] = (struct x86_segment){ .sel = sel, .ar = X86_AR_UNUSABLE };
	if (sel_null(sel))
		return;
	if ((sel & 4) || !desc_read(cpu, sel, &d) || desc_s(&d) || desc_type(&d) != TYPE_LDT ||
	    !desc_present(&d))
		x86_fault_code(cpu, X86_TS, code);
	cpu->seg[X86_LDTR] = desc_segment(&d, sel);
}

static void load_task_ss(struct x86_cpu *cpu, u16 sel, unsigned ext)
{
	struct desc d;

	if (sel_null(sel))
		x86_fault_code(cpu, X86_TS, ext);
	seg_check_ss(cpu, sel, cpu->cpl, X86_TS, ext, &d);
	desc_set_accessed(cpu, &d);
	cpu->seg[X86_SS] = desc_segment(&d, sel);
}

static void load_task_cs(struct x86_cpu *cpu, u16 sel, unsigned ext)
{
	u32 code = (sel & 0xfffcu) | ext;
	struct desc d;

	if (sel_null(sel) || !desc_read(cpu, sel, &d) || !desc_is_code(&d))
		x86_fault_code(cpu, X86_TS, code);
	if (desc_is_conforming(&d) ? desc_dpl(&d) > sel_rpl(sel) : desc_dpl(&d) != sel_rpl(sel))
		x86_fault_code(cpu, X86_TS, code);
	if (!desc_present(&d))
		x86_fault_code(cpu, X86_NP, code);
	desc_set_accessed(cpu, &d);
	far_load_cs(cpu, &d, sel, sel_rpl(sel));
}

static void load_task_data(struct x86_cpu *cpu, unsigned seg, u16 sel, unsigned ext)
{
	u32 code = (sel & 0xfffcu) | ext;
	struct desc d;

	if (sel_null(sel))
		return;
	if (!desc_read(cpu, sel, &d) || !desc_is_readable(&d))
		x86_fault_code(cpu, X86_TS, code);
	if (!(desc_is_code(&d) && desc_is_conforming(&d)) &&
	    (desc_dpl(&d) < cpu->cpl || desc_dpl(&d) < sel_rpl(sel)))
		x86_fault_code(cpu, X86_TS, code);
	if (!desc_present(&d))
		x86_fault_code(cpu, X86_NP, code);
	desc_set_accessed(cpu, &d);
	cpu->seg[seg] = desc_segment(&d, sel);
}

static void load_segments(struct x86_cpu *cpu, const struct task *t, unsigned ext)
{
	static const u8 data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	load_ldt(cpu, t->ldt, ext);
	if (t->eflags & RFLAGS_VM) {
		for (unsigned i = 0; i < X86_NR_SREGS; i++)
			seg_load_vm86(cpu, i, t->sreg[i]);
		x86_update_mode(cpu);
		return;
	}
	load_task_ss(cpu, t->sreg[X86_SS], ext);
	x86_update_mode(cpu);
	for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
		load_task_data(cpu, data[i], t->sreg[data[i]], ext);
	load_task_cs(cpu, t->sreg[X86_CS], ext);
	x86_update_mode(cpu);
}

/* Registers and selectors of the new task; the hidden parts are invalid until loaded. */
static void commit(struct x86_cpu *cpu, const struct task *t, u64 eflags)
{
	for (unsigned i = 0; i < 8; i++)
		cpu->gpr[i] = t->gpr[i];
	cpu->rip = t->eip;
	cpu->gpr[X86_REG_NEXT_RIP] = t->eip;
	x86_set_rflags(cpu, eflags & RFLAGS_DEFINED);
	cpu->cpl = eflags & RFLAGS_VM ? 3 : (u8)sel_rpl(t->sreg[X86_CS]);
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		cpu->seg[i] = (struct x86_segment){ .sel = t->sreg[i], .ar = X86_AR_UNUSABLE };
	cpu->seg[X86_SS].ar |= (u32)cpu->cpl << X86_AR_DPL_SHIFT;
	cpu->cr0 |= CR0_TS;
	cpu->dr7 &= ~0x155ull;		/* L0-L3, LE */
	x86_debug_update(cpu);
	x86_update_mode(cpu);
}

void task_switch(struct x86_cpu *cpu, u16 sel, unsigned reason, bool has_error, u32 error,
		 u64 rip, unsigned ext)
{
	struct x86_segment *tr = &cpu->seg[X86_TR];
	const struct tss_layout *ol = layout(tr->ar & X86_AR_TYPE), *nl;
	bool nested = reason == X86_TASK_CALL || reason == X86_TASK_GATE;
	u64 old_flags = x86_get_rflags(cpu), new_flags, base;
	u16 old_sel = tr->sel;
	struct desc d, od;
	struct task t;

	check_tss(cpu, sel, reason, ext, &d);
	if (!cpu->bus)
		x86_icpt_task_switch(cpu, sel, reason);
	nl = layout(desc_type(&d));
	base = desc_base(&d);
	if (tr->limit < ol->min_limit)
		x86_fault_code(cpu, X86_TS, (old_sel & 0xfffcu) | ext);

	/* All pages of both, while the old task can still take the fault. */
	read_task(cpu, base, nl, &t);
	probe(cpu, tr->base, ol->eip);
	probe(cpu, tr->base, ol->save_end - 2u);
	if (nested)
		probe(cpu, base, 0);
	if (!nested && desc_read(cpu, old_sel, &od))
		desc_set_busy(cpu, &od, false);
	if (reason == X86_TASK_IRET)
		old_flags &= ~RFLAGS_NT;
	save_task(cpu, tr->base, ol, rip, old_flags);
	if (nested)
		tss_put(cpu, base, 0, old_sel, 2);
	if (reason != X86_TASK_IRET)
		desc_set_busy(cpu, &d, true);

	*tr = desc_segment(&d, sel);
	tr->ar |= 2;
	new_flags = t.eflags | RFLAGS_1 | (nested ? RFLAGS_NT : 0);
	commit(cpu, &t, new_flags);
	/* The trap flag of the new task acts after its first instruction. */
	cpu->slow &= ~(u32)X86_SLOW_START;
	if (nl == &tss32 && x86_paging(cpu) && !x86_write_cr3(cpu, t.cr3))
		x86_fault_code(cpu, X86_TS, (sel & 0xfffcu) | ext);
	load_segments(cpu, &t, ext);
	if (has_error) {
		struct stk s = stk_current(cpu, ext);

		stk_push(cpu, &s, error, nl->size);
		stk_commit(cpu, &s);
	}
	if (t.eip > cpu->seg[X86_CS].limit)
		x86_fault_code(cpu, X86_GP, ext);
	if (t.trap) {
		cpu->pending_db |= DR6_BT;
		cpu->slow |= X86_SLOW_DB_PENDING;
	}
}

void x86_task_switch(struct x86_cpu *cpu, u16 tss_sel, unsigned reason, bool has_error,
		     u32 error, u64 rip)
{
	task_switch(cpu, tss_sel, reason, has_error, error, rip, has_error);
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
}
