/* SPDX-License-Identifier: MIT */
/* Decimal adjustment and SALC; none exists in 64-bit mode. Undefined flags as on Intel. */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

static u8 al(const struct x86_cpu *cpu) { return (u8)cpu->gpr[X86_RAX]; }
static u16 ax(const struct x86_cpu *cpu) { return (u16)cpu->gpr[X86_RAX]; }
static void set_al(struct x86_cpu *cpu, unsigned v) { set_reg(cpu, X86_RAX, v, 1); }
static void set_ax(struct x86_cpu *cpu, unsigned v) { set_reg(cpu, X86_RAX, v, 2); }

static bool digit_carry(const struct x86_cpu *cpu)
{
	return (al(cpu) & 15) > 9 || x86_af(cpu);
}

/* AAA and AAS adjust AX as a whole, so AL can carry into AH a second time. */
static void ascii_adjust(struct x86_cpu *cpu, int delta)
{
	bool adjust = digit_carry(cpu);

	if (adjust)
		set_ax(cpu, (unsigned)(ax(cpu) + delta));
	set_al(cpu, al(cpu) & 15);
	x86_flags_result(cpu, al(cpu), 1);
	cpu->cc_c = x86_carry_word(adjust, false, adjust);
}

static void aaa(struct x86_cpu *cpu, const struct x86_op *op) { ascii_adjust(cpu, 0x106); }
static void aas(struct x86_cpu *cpu, const struct x86_op *op) { ascii_adjust(cpu, -0x106); }

static void daa(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 old = al(cpu), v = old;
	bool low = digit_carry(cpu), high = old > 0x99 || x86_cf(cpu);

	v = (u8)(v + (low ? 6 : 0) + (high ? 0x60 : 0));
	set_al(cpu, v);
	x86_flags_result(cpu, v, 1);
	cpu->cc_c = x86_carry_word(high, false, low);
}

/* A borrow out of the low digit's adjustment counts as carry. */
static void das(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 old = al(cpu), v = old;
	bool low = digit_carry(cpu), high = old > 0x99 || x86_cf(cpu);
	bool cf = high || (low && old < 6);

	v = (u8)(v - (low ? 6 : 0) - (high ? 0x60 : 0));
	set_al(cpu, v);
	x86_flags_result(cpu, v, 1);
	cpu->cc_c = x86_carry_word(cf, false, low);
}

static void aam(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 base = (u8)op->imm, v = al(cpu);

	if (!base)
		x86_fault(cpu, X86_DE);
	set_ax(cpu, (unsigned)(v / base) << 8 | v % base);
	x86_flags_logic(cpu, al(cpu), 1);
}

/* All flags as of the byte addition. */
static void aad(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 a = al(cpu), b = (u8)((ax(cpu) >> 8) * (u8)op->imm);

	set_ax(cpu, (u8)(a + b));
	x86_flags_add(cpu, a, b, (u64)a + b, 1);
}

static void salc(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_al(cpu, x86_cf(cpu) ? 0xff : 0);
}

#define SEL(f) x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) { return f; }
SEL(aaa)
SEL(aas)
SEL(daa)
SEL(das)
SEL(aam)
SEL(aad)
SEL(salc)
