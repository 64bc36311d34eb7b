/* SPDX-License-Identifier: MIT */
/*
 * MMX. The registers are the significands of the physical x87 registers; every
 * MMX instruction but EMMS sets TOP to 0 and all tags to valid, and a write sets
 * the exponent to all ones. The arithmetic runs the 128-bit bodies on operands in
 * the low half; where that differs, a fix-up arranges the operands first.
 */
#include "silicon/x86/insn/vec.h"

static void mmx_enter(struct x86_cpu *cpu)
{
	cpu->fpu.fsw &= (u16)~FSW_TOP;
	cpu->fpu.ftw = 0xff;
}

static u64 mmx_get(const struct x86_cpu *cpu, unsigned n)
{
	return cpu->fpu.st[n & 7].mant;
}

static void mmx_set(struct x86_cpu *cpu, unsigned n, u64 v)
{
	cpu->fpu.st[n & 7].mant = v;
	cpu->fpu.st[n & 7].exp = 0xffff;
}

/* The second operand: MMX register or @osize bytes of memory. */
static u64 mmx_source(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 lin;

	if (!(op->flags & X86_OP_MEM))
		return mmx_get(cpu, op->rm);
	lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), op->osize);
	switch (op->osize) {
	case 2: return x86_load16(cpu, op->seg, lin);
	case 4: return x86_load32(cpu, op->seg, lin);
	default: return x86_load64(cpu, op->seg, lin);
	}
}

/* ---- Two operands, by the 128-bit body ---- */

enum fixup { FIX_NONE, FIX_PAIR, FIX_HIGH, FIX_SHUFFLE, FIX_ALIGN, FIX_SHIFT_IMM };

static __always_inline void binary(struct x86_cpu *cpu, const struct x86_op *op, enum fixup fix)
{
	struct x86_ymm d = { 0 }, s1 = { 0 }, s2 = { 0 };

	x86_check_mmx(cpu);
	s2.q[0] = fix == FIX_SHIFT_IMM ? mmx_get(cpu, op->reg) : mmx_source(cpu, op);
	d.q[0] = s1.q[0] = mmx_get(cpu, op->reg);
	switch (fix) {
	case FIX_NONE:
	case FIX_SHIFT_IMM:
		break;
	case FIX_PAIR:		/* packs and horizontal operations: destination, then source */
		s1.q[1] = s2.q[0];
		break;
	case FIX_HIGH:		/* PUNPCKH: the upper halves through PUNPCKL */
		s1.q[0] >>= 32;
		s2.q[0] >>= 32;
		break;
	case FIX_SHUFFLE:	/* PSHUFB: three index bits */
		s2.q[0] &= 0x8787878787878787;
		break;
	case FIX_ALIGN:		/* PALIGNR: the 16 bytes are one operand, zeros come above */
		s2.q[1] = s1.q[0];
		s1.q[0] = 0;
		break;
	}
	mmx_enter(cpu);
	x86_vec_call16((const void *)op->imm, &d, &s1, &s2, &s2, 0);
	mmx_set(cpu, op->reg, d.q[0]);
}

static void mmx_plain(struct x86_cpu *cpu, const struct x86_op *op) { binary(cpu, op, FIX_NONE); }
static void mmx_pair(struct x86_cpu *cpu, const struct x86_op *op) { binary(cpu, op, FIX_PAIR); }
static void mmx_high(struct x86_cpu *cpu, const struct x86_op *op) { binary(cpu, op, FIX_HIGH); }
static void mmx_shuffle(struct x86_cpu *cpu, const struct x86_op *op)
{
	binary(cpu, op, FIX_SHUFFLE);
}
static void mmx_align(struct x86_cpu *cpu, const struct x86_op *op) { binary(cpu, op, FIX_ALIGN); }
static void mmx_shift_imm(struct x86_cpu *cpu, const struct x86_op *op)
{
	binary(cpu, op, FIX_SHIFT_IMM);
}

x86_fn *x86_sel_mmx(const struct x86_dec *d, struct x86_op *op)
{
	bool has_imm =
		d->operands[d->insn.operand_count_visible - 1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	unsigned mnemonic = d->insn.mnemonic;
	x86_fn *fn = mmx_plain;
	const struct x86_vec_body *b;

	switch (mnemonic) {
	case ZYDIS_MNEMONIC_PUNPCKHBW: mnemonic = ZYDIS_MNEMONIC_PUNPCKLBW; fn = mmx_high; break;
	case ZYDIS_MNEMONIC_PUNPCKHWD: mnemonic = ZYDIS_MNEMONIC_PUNPCKLWD; fn = mmx_high; break;
	case ZYDIS_MNEMONIC_PUNPCKHDQ: mnemonic = ZYDIS_MNEMONIC_PUNPCKLDQ; fn = mmx_high; break;
	case ZYDIS_MNEMONIC_PACKSSWB:
	case ZYDIS_MNEMONIC_PACKSSDW:
	case ZYDIS_MNEMONIC_PACKUSWB:
	case ZYDIS_MNEMONIC_PHADDD:
	case ZYDIS_MNEMONIC_PHADDW:
	case ZYDIS_MNEMONIC_PHADDSW:
	case ZYDIS_MNEMONIC_PHSUBD:
	case ZYDIS_MNEMONIC_PHSUBW:
	case ZYDIS_MNEMONIC_PHSUBSW: fn = mmx_pair; break;
	case ZYDIS_MNEMONIC_PSHUFB: fn = mmx_shuffle; break;
	case ZYDIS_MNEMONIC_PALIGNR: fn = mmx_align; break;
	}
	if (has_imm && d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
		op->reg = op->rm;
		fn = mmx_shift_imm;
	}
	b = x86_vec_body(mnemonic, has_imm);
	if (!b)
		return x86_op_ud;
	op->osize = (u8)x86_vec_memsize(d);
	op->imm = (u64)x86_vec_imm(b->x, b, op->imm);
	return fn;
}

static void op_pshufw(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 s, v = 0;

	x86_check_mmx(cpu);
	s = mmx_source(cpu, op);
	for (unsigned i = 0; i < 4; i++)
		v |= (s >> (op->imm >> 2 * i & 3) * 16 & 0xffff) << 16 * i;
	mmx_enter(cpu);
	mmx_set(cpu, op->reg, v);
}

x86_fn *x86_sel_mmx_pshufw(const struct x86_dec *d, struct x86_op *op)
{
	op->osize = 8;
	return op_pshufw;
}

/* ---- Moves ---- */

static void op_load(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v;

	x86_check_mmx(cpu);
	v = mmx_source(cpu, op);
	mmx_enter(cpu);
	mmx_set(cpu, op->reg, v);
}

static void op_from_gpr(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	mmx_set(cpu, op->reg, op->osize == 8 ? cpu->gpr[op->rm] : (u32)cpu->gpr[op->rm]);
}

static void op_to_gpr(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	cpu->gpr[op->rm] = op->osize == 8 ? mmx_get(cpu, op->reg) : (u32)mmx_get(cpu, op->reg);
}

/* A store that faults has already cleared TOP, but not set the tags (observed). */
static void op_store(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 lin;

	x86_check_mmx(cpu);
	cpu->fpu.fsw &= (u16)~FSW_TOP;
	lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), op->osize);
	if (op->osize == 8)
		x86_store64(cpu, op->seg, lin, mmx_get(cpu, op->reg));
	else
		x86_store32(cpu, op->seg, lin, (u32)mmx_get(cpu, op->reg));
	mmx_enter(cpu);
}

/* MOVD and MOVQ between MMX registers, general registers and memory. */
x86_fn *x86_sel_mmx_movd(const struct x86_dec *d, struct x86_op *op)
{
	bool to_rm = d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
	const ZydisDecodedOperand *rm = &d->operands[to_rm ? 0 : 1];
	u8 reg = op->reg;

	op->osize = d->insn.mnemonic == ZYDIS_MNEMONIC_MOVQ ? 8 : 4;
	if (op->flags & X86_OP_MEM)
		return to_rm ? op_store : op_load;
	if (ZydisRegisterGetClass(rm->reg.value) != ZYDIS_REGCLASS_MMX)
		return to_rm ? op_to_gpr : op_from_gpr;
	if (to_rm) {
		op->reg = op->rm;
		op->rm = reg;
	}
	return op_load;
}

x86_fn *x86_sel_mmx_movntq(const struct x86_dec *d, struct x86_op *op)
{
	op->osize = 8;
	return op_store;
}

static void op_movq2dq(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_sse(cpu);
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	cpu->fpu.ymm[op->reg].q[0] = mmx_get(cpu, op->rm);
	cpu->fpu.ymm[op->reg].q[1] = 0;
}

static void op_movdq2q(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_sse(cpu);
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	mmx_set(cpu, op->reg, cpu->fpu.ymm[op->rm].q[0]);
}

static void op_pmovmskb(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 v;

	x86_check_mmx(cpu);
	mmx_enter(cpu);
	v = mmx_get(cpu, op->rm) & 0x8080808080808080;
	/* Gather the eight sign bits in the top byte. */
	cpu->gpr[op->reg] = (v >> 7) * 0x0102040810204080 >> 56;
}

static void op_pextrw(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	cpu->gpr[op->reg] = mmx_get(cpu, op->rm) >> (op->imm & 3) * 16 & 0xffff;
}

static void op_pinsrw(struct x86_cpu *cpu, const struct x86_op *op)
{
	unsigned shift = (op->imm & 3) * 16;
	u64 v;

	x86_check_mmx(cpu);
	v = op->flags & X86_OP_MEM ? mmx_source(cpu, op) : cpu->gpr[op->rm];
	mmx_enter(cpu);
	mmx_set(cpu, op->reg,
		(mmx_get(cpu, op->reg) & ~(0xffffull << shift)) | (v & 0xffff) << shift);
}

/* As MASKMOVDQU, on 8 bytes. */
static void op_maskmovq(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 lin, ea = cpu->gpr[X86_RDI], v, mask;

	x86_check_mmx(cpu);
	v = mmx_get(cpu, op->reg);
	mask = mmx_get(cpu, op->rm);
	mmx_enter(cpu);
	ea &= op->asize == 8 ? ~0ull : op->asize == 4 ? 0xffffffff : 0xffff;
	lin = x86_lin_write(cpu, op->seg, ea, 8);
	x86_probe_write(cpu, op->seg, lin, 8);
	for (unsigned i = 0; i < 8; i++)
		if (mask >> (8 * i + 7) & 1)
			x86_store8(cpu, op->seg, lin + i, (u8)(v >> 8 * i));
}

static void op_emms(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_mmx(cpu);
	mmx_enter(cpu);
	cpu->fpu.ftw = 0;
}

#define SELECT(name, size) \
	x86_fn *x86_sel_mmx_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		op->osize = size; \
		return op_##name; \
	}
SELECT(movq2dq, 8)
SELECT(movdq2q, 8)
SELECT(pmovmskb, 8)
SELECT(pextrw, 2)
SELECT(pinsrw, 2)
SELECT(maskmovq, 8)
SELECT(emms, 0)

/* ---- Conversions between MMX integers and XMM floating point ---- */

/*
 * With a memory operand CVTPI2PS and CVTPI2PD leave the x87 state alone (observed
 * for PS, where the manual says otherwise). Elements above the operand are zero,
 * which converts without an exception.
 */
static void convert_from(struct x86_cpu *cpu, const struct x86_op *op, bool to_double)
{
	struct x86_ymm s = { 0 };
	struct x86_vec_fp a = { .body = (const void *)op->imm, .dst = &s, .s1 = &s, .s2 = &s };
	bool mem = op->flags & X86_OP_MEM;

	x86_check_sse(cpu);
	if (!mem)
		x86_check_mmx(cpu);
	s.q[0] = mmx_source(cpu, op);
	if (!mem)
		mmx_enter(cpu);
	x86_vec_fp_run(cpu, op, &a);
	cpu->fpu.ymm[op->reg].q[0] = a.out.q[0];
	if (to_double)
		cpu->fpu.ymm[op->reg].q[1] = a.out.q[1];
}

static void op_cvtpi2ps(struct x86_cpu *cpu, const struct x86_op *op)
{
	convert_from(cpu, op, false);
}
static void op_cvtpi2pd(struct x86_cpu *cpu, const struct x86_op *op)
{
	convert_from(cpu, op, true);
}

x86_fn *x86_sel_mmx_cvt_from(const struct x86_dec *d, struct x86_op *op)
{
	bool to_double = d->insn.mnemonic == ZYDIS_MNEMONIC_CVTPI2PD;
	const struct x86_vec_body *b =
		x86_vec_body(to_double ? ZYDIS_MNEMONIC_CVTDQ2PD : ZYDIS_MNEMONIC_CVTDQ2PS, false);

	if (!b)
		return x86_op_ud;
	op->osize = 8;
	op->imm = (u64)b->x;
	return to_double ? op_cvtpi2pd : op_cvtpi2ps;
}

static void op_cvt_to(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_ymm s = { 0 };
	struct x86_vec_fp a = { .body = (const void *)op->imm, .dst = &s, .s1 = &s, .s2 = &s };

	x86_check_sse(cpu);
	x86_check_mmx(cpu);
	if (!(op->flags & X86_OP_MEM)) {
		s.q[0] = cpu->fpu.ymm[op->rm].q[0];
		if (op->osize == 16)
			s.q[1] = cpu->fpu.ymm[op->rm].q[1];
	} else if (op->osize == 16) {
		x86_vec_load_aligned(cpu, op, &s, 16);
	} else {
		x86_vec_load(cpu, op, &s, 8);
	}
	mmx_enter(cpu);		/* even if the conversion faults (observed) */
	x86_vec_fp_run(cpu, op, &a);
	mmx_set(cpu, op->reg, a.out.q[0]);
}

x86_fn *x86_sel_mmx_cvt_to(const struct x86_dec *d, struct x86_op *op)
{
	const struct x86_vec_body *b;
	unsigned body;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_CVTPS2PI: body = ZYDIS_MNEMONIC_CVTPS2DQ; op->osize = 8; break;
	case ZYDIS_MNEMONIC_CVTTPS2PI: body = ZYDIS_MNEMONIC_CVTTPS2DQ; op->osize = 8; break;
	case ZYDIS_MNEMONIC_CVTPD2PI: body = ZYDIS_MNEMONIC_CVTPD2DQ; op->osize = 16; break;
	default: body = ZYDIS_MNEMONIC_CVTTPD2DQ; op->osize = 16; break;
	}
	b = x86_vec_body(body, false);
	if (!b)
		return x86_op_ud;
	op->imm = (u64)b->x;
	return op_cvt_to;
}
