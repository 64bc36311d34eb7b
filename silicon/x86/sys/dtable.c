/* SPDX-License-Identifier: MIT */
/*
 * Instructions about descriptor tables and descriptors: LGDT LIDT SGDT SIDT, LLDT
 * LTR SLDT STR, LAR LSL VERR VERW ARPL.
 * SDM vol. 2A, 2B under their names; vol. 3A "Pointer Validation".
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/sys/sys_priv.h"

enum { GDT, IDT };
/* Numbers of x86_icpt_dtable(). */
enum { ICPT_STORE = 0, ICPT_LOAD = 2 };

static void check_umip(struct x86_cpu *cpu)
{
	if (cpu->cpl && (cpu->cr4 & CR4_UMIP))
		x86_gp0(cpu);
}

static void load_table(struct x86_cpu *cpu, const struct x86_op *op, unsigned which)
{
	unsigned len = x86_in_64(cpu) ? 10 : 6;
	struct x86_dtable t = { 0 };
	u8 buf[10];

	need_cpl0(cpu);
	x86_icpt_dtable(cpu, op, ICPT_LOAD + which, false);
	x86_load_bytes(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), len), buf, len);
	memcpy(&t.limit, buf, 2);
	memcpy(&t.base, buf + 2, len - 2);
	if (op->osize == 2 && len == 6)
		t.base &= 0xffffff;
	if (!x86_canonical_max(cpu, t.base))
		x86_gp0(cpu);
	*(which == GDT ? &cpu->gdtr : &cpu->idtr) = t;
}

static void store_table(struct x86_cpu *cpu, const struct x86_op *op, unsigned which)
{
	const struct x86_dtable *t = which == GDT ? &cpu->gdtr : &cpu->idtr;
	unsigned len = x86_in_64(cpu) ? 10 : 6;
	u8 buf[10];

	check_umip(cpu);
	x86_icpt_dtable(cpu, op, ICPT_STORE + which, false);
	memcpy(buf, &t->limit, 2);
	memcpy(buf + 2, &t->base, 8);
	x86_store_bytes(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), len), buf, len);
}

static void op_lgdt(struct x86_cpu *cpu, const struct x86_op *op) { load_table(cpu, op, GDT); }
static void op_lidt(struct x86_cpu *cpu, const struct x86_op *op) { load_table(cpu, op, IDT); }
static void op_sgdt(struct x86_cpu *cpu, const struct x86_op *op) { store_table(cpu, op, GDT); }
static void op_sidt(struct x86_cpu *cpu, const struct x86_op *op) { store_table(cpu, op, IDT); }

x86_fn *x86_sel_lgdt(const struct x86_dec *d, struct x86_op *op) { return op_lgdt; }
x86_fn *x86_sel_lidt(const struct x86_dec *d, struct x86_op *op) { return op_lidt; }
x86_fn *x86_sel_sgdt(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_sgdt); }
x86_fn *x86_sel_sidt(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_sidt); }

/* ---- LDTR and TR ---- */

static _Noreturn void bad_sel(struct x86_cpu *cpu, enum x86_vector v, u16 sel)
{
	x86_fault_code(cpu, v, sel & 0xfffcu);
}

/* A system descriptor of the GDT with a base that can be loaded. */
static void read_system(struct x86_cpu *cpu, u16 sel, struct desc *d)
{
	if ((sel & 4) || !desc_read_system(cpu, sel, d) || desc_s(d))
		bad_sel(cpu, X86_GP, sel);
}

static void check_loadable(struct x86_cpu *cpu, u16 sel, const struct desc *d)
{
	/* In long mode the type field of the upper half is zero. */
	if (x86_lma(cpu) && (d->upper & 0x1f00))
		bad_sel(cpu, X86_GP, sel);
	if (!desc_present(d))
		bad_sel(cpu, X86_NP, sel);
	if (!x86_canonical_max(cpu, desc_base(d)))
		bad_sel(cpu, X86_GP, sel);
}

static void op_lldt(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct desc d;
	u16 sel;

	need_cpl0(cpu);
	x86_icpt_dtable(cpu, op, 2, true);
	sel = get_rm16(cpu, op);
	if (sel_null(sel)) {
		cpu->seg[X86_LDTR] = (struct x86_segment){ .sel = sel, .ar = X86_AR_UNUSABLE };
		return;
	}
	read_system(cpu, sel, &d);
	if (desc_type(&d) != TYPE_LDT)
		bad_sel(cpu, X86_GP, sel);
	check_loadable(cpu, sel, &d);
	cpu->seg[X86_LDTR] = desc_segment(&d, sel);
}

static void op_ltr(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct desc d;
	u16 sel;

	need_cpl0(cpu);
	x86_icpt_dtable(cpu, op, 3, true);
	sel = get_rm16(cpu, op);
	if (sel_null(sel))
		x86_gp0(cpu);
	read_system(cpu, sel, &d);
	if (desc_type(&d) != TYPE_TSS_AVAIL && (x86_lma(cpu) || desc_type(&d) != TYPE_TSS16_AVAIL))
		bad_sel(cpu, X86_GP, sel);
	check_loadable(cpu, sel, &d);
	desc_set_busy(cpu, &d, true);
	cpu->seg[X86_TR] = desc_segment(&d, sel);
}

static void op_sldt(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_umip(cpu);
	x86_icpt_dtable(cpu, op, 0, true);
	set_rm16(cpu, op, cpu->seg[X86_LDTR].sel);
}

static void op_str(struct x86_cpu *cpu, const struct x86_op *op)
{
	check_umip(cpu);
	x86_icpt_dtable(cpu, op, 1, true);
	set_rm16(cpu, op, cpu->seg[X86_TR].sel);
}

x86_fn *x86_sel_lldt(const struct x86_dec *d, struct x86_op *op) { return op_lldt; }
x86_fn *x86_sel_ltr(const struct x86_dec *d, struct x86_op *op) { return op_ltr; }
x86_fn *x86_sel_sldt(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_sldt); }
x86_fn *x86_sel_str(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_str); }

/* ---- Questions about a selector: the answer is ZF, never a fault ---- */

/* Is it readable at all and inside its privilege? */
static bool visible(struct x86_cpu *cpu, u16 sel, struct desc *d)
{
	if (sel_null(sel) || !desc_read(cpu, sel, d))
		return false;
	if (desc_is_code(d) && desc_is_conforming(d))
		return true;
	return desc_dpl(d) >= cpu->cpl && desc_dpl(d) >= sel_rpl(sel);
}

/* System types that LSL (those with a limit) and LAR know; in long mode fewer are defined. */
#define LSL_LONG (BIT(TYPE_LDT) | BIT(TYPE_TSS_AVAIL) | BIT(TYPE_TSS_BUSY))
#define LSL_LEGACY (LSL_LONG | BIT(TYPE_TSS16_AVAIL) | BIT(TYPE_TSS16_BUSY))
#define LAR_LONG (LSL_LONG | BIT(TYPE_CALL))
#define LAR_LEGACY (LSL_LEGACY | BIT(TYPE_CALL) | BIT(TYPE_CALL16) | BIT(TYPE_TASK_GATE))

static bool type_in(const struct desc *d, u64 set)
{
	return desc_s(d) || (set >> desc_type(d) & 1);
}

static void op_lar(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 set = x86_lma(cpu) ? LAR_LONG : LAR_LEGACY;
	u16 sel = get_rm16(cpu, op);
	struct desc d;
	bool ok = visible(cpu, sel, &d) && type_in(&d, set);

	if (ok)
		set_gpr(cpu, op->reg, d.hi & 0x00ffff00, op->osize);
	flags_set_zf(cpu, ok);
}

static void op_lsl(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 set = x86_lma(cpu) ? LSL_LONG : LSL_LEGACY;
	u16 sel = get_rm16(cpu, op);
	struct desc d;
	bool ok = visible(cpu, sel, &d) && type_in(&d, set);

	if (ok)
		set_gpr(cpu, op->reg, desc_limit(&d), op->osize);
	flags_set_zf(cpu, ok);
}

static void op_verr(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct desc d;

	flags_set_zf(cpu, visible(cpu, get_rm16(cpu, op), &d) && desc_is_readable(&d));
}

static void op_verw(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct desc d;

	flags_set_zf(cpu, visible(cpu, get_rm16(cpu, op), &d) && desc_is_writable_data(&d));
}

static void op_arpl(struct x86_cpu *cpu, const struct x86_op *op)
{
	unsigned rpl = cpu->gpr[op->reg] & 3;
	struct x86_rmw m;
	u16 dest;

	if (op->flags & X86_OP_MEM)
		dest = (u16)x86_rmw(cpu, &m, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 2), 2);
	else
		dest = (u16)cpu->gpr[op->rm];
	if (sel_rpl(dest) < rpl) {
		dest = (u16)((dest & ~3u) | rpl);
		if (op->flags & X86_OP_MEM)
			x86_rmw_write(cpu, &m, dest);
		else
			set_gpr(cpu, op->rm, dest, 2);
		flags_set_zf(cpu, true);
		return;
	}
	if (op->flags & X86_OP_MEM)
		x86_rmw_write(cpu, &m, dest);
	flags_set_zf(cpu, false);
}

x86_fn *x86_sel_lar(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_lar); }
x86_fn *x86_sel_lsl(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_lsl); }
x86_fn *x86_sel_verr(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_verr); }
x86_fn *x86_sel_verw(const struct x86_dec *d, struct x86_op *op) { return mid_block(op, op_verw); }
x86_fn *x86_sel_arpl(const struct x86_dec *d, struct x86_op *op) { return op_arpl; }
