/* SPDX-License-Identifier: MIT */
/*
 * IRET and the flag rules that it shares with POPF.
 * SDM vol. 2A "IRET/IRETD/IRETQ", vol. 2B "POPF/POPFD/POPFQ"; vol. 3B "Virtual-8086
 * Mode Extensions".
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

#define POPF_ALWAYS (RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID)

/* Replace the flags of @mask, no more than the operand size reaches. */
static void replace_flags(struct x86_cpu *cpu, u64 val, u64 mask, unsigned osize)
{
	u64 old = x86_get_rflags(cpu);
	u64 now;

	if (osize == 2)
		mask &= 0xffff;
	now = (old & ~mask) | (val & mask);
	x86_set_rflags(cpu, now);
	if ((old ^ now) & (RFLAGS_AC | RFLAGS_VM))
		x86_update_mode(cpu);
}

/* What POPF and IRET may change at the present CPL and IOPL, both of which may be about to change. */
static u64 writable_flags(const struct x86_cpu *cpu)
{
	return POPF_ALWAYS | (cpu->cpl <= flags_iopl(cpu) ? RFLAGS_IF : 0) |
	       (cpu->cpl == 0 ? RFLAGS_IOPL : 0);
}

/* VM86 with IOPL < 3 and VME: VIF stands for IF. Raises what does not fit. */
static void write_eflags_vme(struct x86_cpu *cpu, u64 val)
{
	if ((val & RFLAGS_TF) || ((val & RFLAGS_IF) && (cpu->rflags & RFLAGS_VIP)))
		x86_gp0(cpu);
	replace_flags(cpu, val, POPF_ALWAYS, 2);
	cpu->rflags = (cpu->rflags & ~RFLAGS_VIF) | (val & RFLAGS_IF ? RFLAGS_VIF : 0);
}

static bool vm86_restricted(const struct x86_cpu *cpu)
{
	return cpu->mode == X86_MODE_VM86 && flags_iopl(cpu) < 3;
}

void x86_write_eflags(struct x86_cpu *cpu, u64 val, unsigned osize)
{
	if (vm86_restricted(cpu)) {
		if (osize != 2 || !(cpu->cr4 & CR4_VME))
			x86_gp0(cpu);
		write_eflags_vme(cpu, val);
		return;
	}
	replace_flags(cpu, val, writable_flags(cpu), osize);
}

u64 x86_pushf_image(struct x86_cpu *cpu, unsigned osize)
{
	u64 v = x86_get_rflags(cpu) & ~(RFLAGS_RF | RFLAGS_VM);

	if (!vm86_restricted(cpu))
		return v;
	if (osize != 2 || !(cpu->cr4 & CR4_VME))
		x86_gp0(cpu);
	return (v & ~RFLAGS_IF) | RFLAGS_IOPL | (cpu->rflags & RFLAGS_VIF ? RFLAGS_IF : 0);
}

/* RF as loaded rules the next instruction: it does not end with this one. */
static void iret_flags(struct x86_cpu *cpu, u64 val, u64 mask, unsigned osize)
{
	replace_flags(cpu, val, mask | RFLAGS_RF, osize);
	cpu->slow &= ~((u32)X86_SLOW_RF << X86_SLOW_START_SHIFT);
}

static void iret_real(struct x86_cpu *cpu, unsigned size)
{
	u64 rip = stk_peek(cpu, 0, size);
	u16 sel = (u16)stk_peek(cpu, size, size);
	u64 flags = stk_peek(cpu, 2 * size, size);

	if (rip > cpu->seg[X86_CS].limit)
		x86_gp0(cpu);
	if (cpu->mode == X86_MODE_REAL) {
		seg_load_real(cpu, X86_CS, sel);
		stk_release(cpu, 3 * size);
		iret_flags(cpu, flags, POPF_ALWAYS | RFLAGS_IF | RFLAGS_IOPL, size);
	} else if (flags_iopl(cpu) == 3) {
		seg_load_vm86(cpu, X86_CS, sel);
		stk_release(cpu, 3 * size);
		iret_flags(cpu, flags, POPF_ALWAYS | RFLAGS_IF, size);
	} else {
		if (size != 2 || !(cpu->cr4 & CR4_VME))
			x86_gp0(cpu);
		write_eflags_vme(cpu, flags);
		seg_load_vm86(cpu, X86_CS, sel);
		stk_release(cpu, 3 * size);
	}
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

/* Nine doublewords: EIP CS EFLAGS ESP SS ES DS FS GS. */
static void iret_to_vm86(struct x86_cpu *cpu, u64 rip, u16 cs, u64 flags)
{
	static const u8 order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	u32 esp = (u32)stk_peek(cpu, 12, 4);
	u16 ss = (u16)stk_peek(cpu, 16, 4);
	u16 data[ARRAY_SIZE(order)];

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		data[i] = (u16)stk_peek(cpu, 20 + 4 * i, 4);
	/* The limit of a virtual-8086 code segment is 64 KiB. */
	if (rip > 0xffff)
		x86_gp0(cpu);
	iret_flags(cpu, flags, POPF_ALWAYS | RFLAGS_IF | RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF |
		   RFLAGS_VIP, 4);
	seg_load_vm86(cpu, X86_CS, cs);
	seg_load_vm86(cpu, X86_SS, ss);
	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		seg_load_vm86(cpu, order[i], data[i]);
	cpu->gpr[X86_RSP] = esp;
	cpu->cpl = 3;
	x86_update_mode(cpu);
	far_goto(cpu, rip);
}

static void iret_task(struct x86_cpu *cpu)
{
	const struct x86_segment *tr = &cpu->seg[X86_TR];
	u16 link;

	if (tr->limit < 1)
		x86_fault_code(cpu, X86_TS, tr->sel & 0xfffcu);
	link = (u16)x86_sys_load(cpu, (u32)tr->base, 2);
	task_switch(cpu, link, X86_TASK_IRET, false, 0,
		    cpu->gpr[X86_REG_NEXT_RIP] & cpu->ip_mask, 0);
}

static void op_iret(struct x86_cpu *cpu, const struct x86_op *op)
{
	unsigned size = op->osize, rpl;
	struct desc cs, ss = { 0 };
	u64 rip, flags, mask, sp;
	u16 sel, ss_sel;

	/* NMIs are unblocked even if the instruction faults. */
	x86_vmx_iret_unblock(cpu);
	if (!x86_prot(cpu)) {
		iret_real(cpu, size);
		return;
	}
	if (cpu->rflags & RFLAGS_NT) {
		if (x86_lma(cpu))
			x86_gp0(cpu);
		iret_task(cpu);
		return;
	}
	rip = stk_peek(cpu, 0, size);
	sel = (u16)stk_peek(cpu, size, size);
	flags = stk_peek(cpu, 2 * size, size);
	if (!x86_lma(cpu) && size == 4 && cpu->cpl == 0 && (flags & RFLAGS_VM)) {
		iret_to_vm86(cpu, rip, sel, flags);
		return;
	}

	rpl = sel_rpl(sel);
	if (sel_null(sel))
		x86_gp0(cpu);
	if (!desc_read(cpu, sel, &cs) || rpl < cpu->cpl)
		x86_fault_code(cpu, X86_GP, sel & 0xfffcu);
	far_check_cs(cpu, sel, true, &cs);
	mask = writable_flags(cpu) | (cpu->cpl == 0 ? RFLAGS_VIF | RFLAGS_VIP : 0);

	if (rpl == cpu->cpl && !x86_in_64(cpu)) {
		rip = far_check_offset(cpu, &cs, rip, 0);
		desc_set_accessed(cpu, &cs);
		stk_release(cpu, 3 * size);
		far_load_cs(cpu, &cs, sel, rpl);
		x86_update_mode(cpu);
	} else {
		sp = stk_peek(cpu, 3 * size, size);
		ss_sel = (u16)stk_peek(cpu, 4 * size, size);
		far_check_outer_ss(cpu, &cs, ss_sel, rpl, &ss);
		rip = far_check_offset(cpu, &cs, rip, 0);
		far_return_outer(cpu, &cs, sel, &ss, ss_sel, sp);
	}
	iret_flags(cpu, flags, mask, size);
	far_goto(cpu, rip);
}

x86_fn *x86_sel_iret(const struct x86_dec *d, struct x86_op *op)
{
	op->flags |= X86_OP_END;
	op->osize = (u8)(d->insn.operand_width / 8);
	return op_iret;
}
