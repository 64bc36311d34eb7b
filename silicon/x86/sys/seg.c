/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and segment registers. Code segments are loaded by far.c.
 * SDM vol. 3A "Segment Descriptors", "Protection"; vol. 2B "MOV".
 */
#include "silicon/x86/sys/sys_priv.h"

u32 desc_limit(const struct desc *d)
{
	u32 limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	return d->hi >> 23 & 1 ? limit << 12 | 0xfff : limit;
}

u64 desc_base(const struct desc *d)
{
	return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000) |
	       (u64)d->base_hi << 32;
}

struct x86_segment desc_segment(const struct desc *d, u16 sel)
{
	return (struct x86_segment){
		.base = desc_base(d), .limit = desc_limit(d), .sel = sel,
		.ar = d->hi >> 8 & 0xf0ff,	/* type to P, then AVL L D/B G */
	};
}

/* Descriptor tables lie in 32-bit linear addresses outside long mode. */
static u64 table_lin(const struct x86_cpu *cpu, u64 lin)
{
	return x86_lma(cpu) ? lin : (u32)lin;
}

static bool read_bytes(struct x86_cpu *cpu, u16 sel, unsigned len, struct desc *d)
{
	u32 off = sel & 0xfff8, limit;
	u64 base, v;

	if (sel & 4) {
		const struct x86_segment *ldt = &cpu->seg[X86_LDTR];

		if (ldt->ar & X86_AR_UNUSABLE)
			return false;
		base = ldt->base;
		limit = ldt->limit;
	} else {
		base = cpu->gdtr.base;
		limit = cpu->gdtr.limit;
	}
	if (off + len - 1 > limit)
		return false;
	d->sel = sel;
	d->lin = table_lin(cpu, base + off);
	v = x86_sys_load64(cpu, d->lin);
	d->lo = (u32)v;
	d->hi = (u32)(v >> 32);
	d->base_hi = d->upper = 0;
	if (len == 16) {
		v = x86_sys_load64(cpu, table_lin(cpu, d->lin + 8));
		d->base_hi = (u32)v;
		d->upper = (u32)(v >> 32);
	}
	return true;
}

bool desc_read(struct x86_cpu *cpu, u16 sel, struct desc *d)
{
	return read_bytes(cpu, sel, 8, d);
}

bool desc_read_system(struct x86_cpu *cpu, u16 sel, struct desc *d)
{
	return read_bytes(cpu, sel, x86_lma(cpu) ? 16 : 8, d);
}

static void change_type(struct x86_cpu *cpu, struct desc *d, u32 set, u32 clear)
{
	u64 old = d->hi;

	while (!x86_sys_cmpxchg(cpu, table_lin(cpu, d->lin + 4), &old, (old | set) & ~(u64)clear, 4))
		;
	d->hi = (d->hi | set) & ~clear;
}

void desc_set_accessed(struct x86_cpu *cpu, struct desc *d)
{
	if (!(d->hi & AR_ACCESSED << 8))
		change_type(cpu, d, AR_ACCESSED << 8, 0);
}

void desc_set_busy(struct x86_cpu *cpu, struct desc *d, bool busy)
{
	change_type(cpu, d, busy ? 2u << 8 : 0, busy ? 0 : 2u << 8);
}

/* ---- Loads without a descriptor ---- */

void seg_load_null(struct x86_cpu *cpu, unsigned seg, u16 sel)
{
	/* DPL of an unusable SS is the CPL; of others it says nothing. */
	cpu->seg[seg] = (struct x86_segment){
		.sel = sel,
		.ar = X86_AR_UNUSABLE | (seg == X86_SS ? (u32)cpu->cpl << X86_AR_DPL_SHIFT : 0),
	};
}

void seg_load_null_ss(struct x86_cpu *cpu, unsigned cpl)
{
	cpu->seg[X86_SS] = (struct x86_segment){
		.sel = (u16)cpl, .ar = X86_AR_UNUSABLE | cpl << X86_AR_DPL_SHIFT,
	};
}

/* Limit and D/B survive: software uses "big real mode". */
void seg_load_real(struct x86_cpu *cpu, unsigned seg, u16 sel)
{
	struct x86_segment *s = &cpu->seg[seg];

	s->sel = sel;
	s->base = (u64)sel << 4;
	if (s->ar & X86_AR_UNUSABLE)
		s->limit = 0xffff;
	s->ar = (s->ar & (X86_AR_DB | X86_AR_G)) | 0x93;
}

void seg_load_vm86(struct x86_cpu *cpu, unsigned seg, u16 sel)
{
	cpu->seg[seg] = (struct x86_segment){
		.sel = sel, .base = (u64)sel << 4, .limit = 0xffff, .ar = 0xf3,
	};
}

void seg_load_flat(struct x86_cpu *cpu, unsigned seg, u16 sel, unsigned type, unsigned dpl, bool l)
{
	cpu->seg[seg] = (struct x86_segment){
		.sel = sel, .limit = 0xffffffff,
		.ar = type | X86_AR_S | dpl << X86_AR_DPL_SHIFT | X86_AR_P | X86_AR_G |
		      (l ? X86_AR_L : X86_AR_DB),
	};
}

/* ---- MOV, POP, LxS ---- */

void seg_check_ss(struct x86_cpu *cpu, u16 sel, unsigned cpl, enum x86_vector bad, unsigned ext,
		  struct desc *d)
{
	u32 code = (sel & 0xfffcu) | ext;

	if (!desc_read(cpu, sel, d))
		x86_fault_code(cpu, bad, code);
	if (sel_rpl(sel) != cpl || !desc_is_writable_data(d) || desc_dpl(d) != cpl)
		x86_fault_code(cpu, bad, code);
	if (!desc_present(d))
		x86_fault_code(cpu, X86_SS_FAULT, code);
}

static void load_ss(struct x86_cpu *cpu, u16 sel)
{
	struct desc d;

	if (sel_null(sel)) {
		if (!x86_in_64(cpu) || cpu->cpl == 3 || sel_rpl(sel) != cpu->cpl)
			x86_gp0(cpu);
		seg_load_null_ss(cpu, cpu->cpl);
		cpu->seg[X86_SS].sel = sel;
		return;
	}
	seg_check_ss(cpu, sel, cpu->cpl, X86_GP, 0, &d);
	desc_set_accessed(cpu, &d);
	cpu->seg[X86_SS] = desc_segment(&d, sel);
}

static void load_data(struct x86_cpu *cpu, unsigned seg, u16 sel)
{
	u32 code = sel & 0xfffcu;
	struct desc d;

	if (sel_null(sel)) {
		seg_load_null(cpu, seg, sel);
		return;
	}
	if (!desc_read(cpu, sel, &d) || !desc_is_readable(&d))
		x86_fault_code(cpu, X86_GP, code);
	if (!(desc_is_code(&d) && desc_is_conforming(&d)) &&
	    (desc_dpl(&d) < cpu->cpl || desc_dpl(&d) < sel_rpl(sel)))
		x86_fault_code(cpu, X86_GP, code);
	if (!desc_present(&d))
		x86_fault_code(cpu, X86_NP, code);
	desc_set_accessed(cpu, &d);
	cpu->seg[seg] = desc_segment(&d, sel);
}

void x86_load_sreg(struct x86_cpu *cpu, unsigned seg, u16 sel)
{
	if (cpu->mode == X86_MODE_REAL)
		seg_load_real(cpu, seg, sel);
	else if (cpu->mode == X86_MODE_VM86)
		seg_load_vm86(cpu, seg, sel);
	else if (seg == X86_SS)
		load_ss(cpu, sel);
	else
		load_data(cpu, seg, sel);
	x86_update_mode(cpu);
}

void seg_drop_privileged(struct x86_cpu *cpu)
{
	static const u8 segs[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned i = 0; i < ARRAY_SIZE(segs); i++) {
		const struct x86_segment *s = &cpu->seg[segs[i]];

		if (s->ar & X86_AR_UNUSABLE)
			continue;
		if ((s->ar & (AR_CODE | AR_CONFORMING)) == (AR_CODE | AR_CONFORMING))
			continue;
		if (X86_AR_DPL(s->ar) < cpu->cpl)
			seg_load_null(cpu, segs[i], 0);
	}
}
