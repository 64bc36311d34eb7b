/* SPDX-License-Identifier: MIT */
/*
 * Single bits and bit counts: BT BTS BTR BTC, BSF BSR, POPCNT LZCNT TZCNT, BMI1
 * and BMI2 (MULX is in int_muldiv.c), CRC32. Undefined flags as on Intel.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

/* ---- BT BTS BTR BTC ---- */

enum bit_op { BT, BTS, BTR, BTC };

static __inline_all u64 bit_result(enum bit_op f, u64 a, unsigned n)
{
	switch (f) {
	case BTS: return a | BIT(n);
	case BTR: return a & ~BIT(n);
	case BTC: return a ^ BIT(n);
	default: return a;
	}
}

/* A register offset reaches beyond the operand: signed, in units of the operand size. */
static __inline_all u64 bit_ea(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 ea = x86_ea(cpu, op);
	s64 off;

	if (op->imm2)
		return ea;
	off = sign_extend(get_reg(cpu, op->reg, size), size * 8);
	ea += (u64)((off >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * (s64)size);
	return trunc_to(ea, op->asize);
}

static __inline_all void bit_test(struct x86_cpu *cpu, const struct x86_op *op, enum bit_op f, unsigned size)
{
	unsigned n = (unsigned)(op->imm2 ? op->imm : cpu->gpr[op->reg]) & (size * 8 - 1);
	struct x86_rmw m;
	u64 ea, a;

	if (!(op->flags & X86_OP_MEM)) {
		a = get_reg(cpu, op->rm, size);
		if (f != BT)
			set_reg(cpu, op->rm, bit_result(f, a, n), size);
		x86_set_cf(cpu, a >> n & 1);
		return;
	}
	ea = bit_ea(cpu, op, size);
	if (f == BT) {
		a = load_lin(cpu, op->seg, x86_lin_read(cpu, op->seg, ea, size), size);
	} else {
		x86_rmw(cpu, &m, op->seg, x86_lin_write(cpu, op->seg, ea, size), size);
		if (op->flags & X86_OP_LOCK)
			while (!x86_rmw_cmpxchg(cpu, &m, bit_result(f, m.old, n)))
				;
		else
			x86_rmw_write(cpu, &m, bit_result(f, m.old, n));
		a = m.old;
	}
	x86_set_cf(cpu, a >> n & 1);
}

#define SEL_BIT(f, F) \
	static void f##_2(struct x86_cpu *cpu, const struct x86_op *op) { bit_test(cpu, op, F, 2); } \
	static void f##_4(struct x86_cpu *cpu, const struct x86_op *op) { bit_test(cpu, op, F, 4); } \
	static void f##_8(struct x86_cpu *cpu, const struct x86_op *op) { bit_test(cpu, op, F, 8); } \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		op->imm2 = d->operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; \
		return op->osize == 8 ? f##_8 : op->osize == 4 ? f##_4 : f##_2; \
	}
SEL_BIT(bt, BT)
SEL_BIT(bts, BTS)
SEL_BIT(btr, BTR)
SEL_BIT(btc, BTC)

/* ---- Scans and counts: destination reg, source rm ---- */

#define ODD 1u		/* as cc_s: PF = 0, SF = 0 */

static __inline_all void bit_scan(struct x86_cpu *cpu, const struct x86_op *op, bool reverse, unsigned size)
{
	u64 a = get_rm(cpu, op, size), n = 0;

	/* No bit: the destination keeps all 64 bits, whatever the operand size. */
	if (a) {
		n = (u64)(reverse ? 63 - __builtin_clzll(a) : __builtin_ctzll(a));
		set_reg(cpu, op->reg, n, size);
	}
	cpu->cc_z = a != 0;
	cpu->cc_s = n;
	cpu->cc_c = 0;
}

/* LZCNT TZCNT: CF = no bit was set, ZF = the count is 0. */
static __inline_all void zero_count(struct x86_cpu *cpu, const struct x86_op *op, bool leading, unsigned size)
{
	u64 a = get_rm(cpu, op, size), n = size * 8;

	if (a)
		n = (u64)(leading ? __builtin_clzll(a) - (int)(64 - size * 8) : __builtin_ctzll(a));
	set_reg(cpu, op->reg, n, size);
	cpu->cc_z = n;
	cpu->cc_s = ODD;
	cpu->cc_c = x86_carry_word(!a, false, false);
}

static __inline_all void popcnt(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 n = (u64)__builtin_popcountll(get_rm(cpu, op, size));

	set_reg(cpu, op->reg, n, size);
	cpu->cc_z = n;
	cpu->cc_s = ODD;
	cpu->cc_c = 0;
}

static __inline_all void bsf(struct x86_cpu *cpu, const struct x86_op *op, unsigned n) { bit_scan(cpu, op, false, n); }
static __inline_all void bsr(struct x86_cpu *cpu, const struct x86_op *op, unsigned n) { bit_scan(cpu, op, true, n); }
static __inline_all void tzcnt(struct x86_cpu *cpu, const struct x86_op *op, unsigned n) { zero_count(cpu, op, false, n); }
static __inline_all void lzcnt(struct x86_cpu *cpu, const struct x86_op *op, unsigned n) { zero_count(cpu, op, true, n); }

#define SEL_248(f) \
	static void f##_2(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 2); } \
	static void f##_4(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 4); } \
	static void f##_8(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 8); } \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		return op->osize == 8 ? f##_8 : op->osize == 4 ? f##_4 : f##_2; \
	}
SEL_248(bsf)
SEL_248(bsr)
SEL_248(tzcnt)
SEL_248(lzcnt)
SEL_248(popcnt)

/* ---- BMI1: SF and ZF by the result, PF = 0 ---- */

static __inline_all void bmi_flags(struct x86_cpu *cpu, u64 r, bool cf, unsigned size)
{
	cpu->cc_z = r;
	cpu->cc_s = (u64)msb(r, size) << 63 | ODD;
	cpu->cc_c = x86_carry_word(cf, false, false);
}

static __inline_all void andn(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 r = trunc_to(~cpu->gpr[op->vvvv], size) & get_rm(cpu, op, size);

	set_reg(cpu, op->reg, r, size);
	bmi_flags(cpu, r, false, size);
}

static __inline_all void blsi(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_rm(cpu, op, size), r = a & -a;

	set_reg(cpu, op->vvvv, r, size);
	bmi_flags(cpu, r, a != 0, size);
}

static __inline_all void blsr(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_rm(cpu, op, size), r = a & (a - 1);

	set_reg(cpu, op->vvvv, r, size);
	bmi_flags(cpu, r, a == 0, size);
}

static __inline_all void blsmsk(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 a = get_rm(cpu, op, size), r = trunc_to(a ^ (a - 1), size);

	set_reg(cpu, op->vvvv, r, size);
	bmi_flags(cpu, r, a == 0, size);
}

static __inline_all void bextr(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	unsigned start = (u8)cpu->gpr[op->vvvv], len = (u8)(cpu->gpr[op->vvvv] >> 8);
	u64 r = get_rm(cpu, op, size);

	r = start < 64 ? r >> start : 0;
	if (len < 64)
		r &= BIT(len) - 1;
	set_reg(cpu, op->reg, r, size);
	cpu->cc_z = r;
	cpu->cc_s = ODD;
	cpu->cc_c = 0;
}

/* ---- BMI2 ---- */

static __inline_all void bzhi(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	unsigned n = (u8)cpu->gpr[op->vvvv];
	u64 r = get_rm(cpu, op, size);

	if (n < size * 8)
		r &= BIT(n) - 1;
	set_reg(cpu, op->reg, r, size);
	bmi_flags(cpu, r, n >= size * 8, size);
}

static __inline_all void pdep(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 from = get_reg(cpu, op->vvvv, size), r = 0;

	for (u64 mask = get_rm(cpu, op, size); mask; mask &= mask - 1, from >>= 1)
		if (from & 1)
			r |= mask & -mask;
	set_reg(cpu, op->reg, r, size);
}

static __inline_all void pext(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 from = get_reg(cpu, op->vvvv, size), r = 0, bit = 1;

	for (u64 mask = get_rm(cpu, op, size); mask; mask &= mask - 1, bit <<= 1)
		if (from & mask & -mask)
			r |= bit;
	set_reg(cpu, op->reg, r, size);
}

static __inline_all void rorx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	unsigned n = (unsigned)op->imm & (size * 8 - 1);
	u64 a = get_rm(cpu, op, size);

	set_reg(cpu, op->reg, n ? a >> n | a << (size * 8 - n) : a, size);
}

static __inline_all unsigned vvvv_count(const struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	return (unsigned)cpu->gpr[op->vvvv] & (size * 8 - 1);
}

static __inline_all void sarx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	s64 a = sign_extend(get_rm(cpu, op, size), size * 8);

	set_reg(cpu, op->reg, (u64)(a >> vvvv_count(cpu, op, size)), size);
}

static __inline_all void shlx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	set_reg(cpu, op->reg, get_rm(cpu, op, size) << vvvv_count(cpu, op, size), size);
}

static __inline_all void shrx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	set_reg(cpu, op->reg, get_rm(cpu, op, size) >> vvvv_count(cpu, op, size), size);
}

#define SEL_48(f) \
	static void f##_4(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 4); } \
	static void f##_8(struct x86_cpu *cpu, const struct x86_op *op) { f(cpu, op, 8); } \
	x86_fn *x86_sel_##f(const struct x86_dec *d, struct x86_op *op) \
	{ \
		return op->osize == 8 ? f##_8 : f##_4; \
	}
SEL_48(andn)
SEL_48(blsi)
SEL_48(blsr)
SEL_48(blsmsk)
SEL_48(bextr)
SEL_48(bzhi)
SEL_48(pdep)
SEL_48(pext)
SEL_48(rorx)
SEL_48(sarx)
SEL_48(shlx)
SEL_48(shrx)

/* ---- ADX: additions that touch one flag only ---- */

static __inline_all u64 add_carry(u64 a, u64 b, bool *carry, unsigned size)
{
	u128 sum = (u128)a + b + *carry;

	*carry = (u64)(sum >> size * 8) & 1;
	return (u64)sum;
}

static __inline_all void adcx(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	bool carry = x86_cf(cpu);
	u64 r = add_carry(get_reg(cpu, op->reg, size), get_rm(cpu, op, size), &carry, size);

	set_reg(cpu, op->reg, r, size);
	x86_set_cf(cpu, carry);
}

static __inline_all void adox(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	bool carry = x86_of(cpu);
	u64 r = add_carry(get_reg(cpu, op->reg, size), get_rm(cpu, op, size), &carry, size);

	set_reg(cpu, op->reg, r, size);
	cpu->cc_c = x86_carry_word(x86_cf(cpu), carry, x86_af(cpu));
}
SEL_48(adcx)
SEL_48(adox)

/* ---- CRC32 (Castagnoli), four bits at a time ---- */

static u32 crc32_byte(u32 crc, u8 byte)
{
	static const u32 nibble[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362,
		0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab,
		0xe330a81a, 0xf36e6f75,
	};

	crc ^= byte;
	crc = crc >> 4 ^ nibble[crc & 15];
	return crc >> 4 ^ nibble[crc & 15];
}

/* The source width is that of the operand; the destination is always zero-extended. */
static __inline_all void crc32(struct x86_cpu *cpu, const struct x86_op *op, unsigned size)
{
	u64 v = get_rm(cpu, op, size);
	u32 crc = (u32)cpu->gpr[op->reg];

	for (unsigned i = 0; i < size; i++, v >>= 8)
		crc = crc32_byte(crc, (u8)v);
	cpu->gpr[op->reg] = crc;
}
static void crc32_1(struct x86_cpu *cpu, const struct x86_op *op) { crc32(cpu, op, 1); }
static void crc32_2(struct x86_cpu *cpu, const struct x86_op *op) { crc32(cpu, op, 2); }
static void crc32_4(struct x86_cpu *cpu, const struct x86_op *op) { crc32(cpu, op, 4); }
static void crc32_8(struct x86_cpu *cpu, const struct x86_op *op) { crc32(cpu, op, 8); }

x86_fn *x86_sel_crc32(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[4] = HANDLERS(crc32);

	return by_size(fn, d->operands[1].size / 8);
}
