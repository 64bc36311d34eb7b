/* SPDX-License-Identifier: MIT */
/*
 * VEX instructions that are more than one native body: masked and gathered
 * memory, 128-bit lanes of 256-bit registers, VZEROALL, VCVTPS2PH.
 */
#include "silicon/x86/insn/vec.h"

#define YMM(n) (&cpu->fpu.ymm[n])

/* ---- Lanes ---- */

static void op_broadcast128(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_ymm v;

	x86_check_avx(cpu);
	x86_vec_load(cpu, op, &v, 16);
	v.q[2] = v.q[0];
	v.q[3] = v.q[1];
	*YMM(op->reg) = v;
}

x86_fn *x86_sel_avx_broadcast128(const struct x86_dec *d, struct x86_op *op)
{
	return op_broadcast128;
}

static void op_extract128_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_avx(cpu);
	x86_copy16(YMM(op->rm), &YMM(op->reg)->q[2 * (op->imm & 1)]);
	x86_vec_zero_upper(YMM(op->rm));
}

static void op_extract128_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_avx(cpu);
	x86_vec_store(cpu, op, &YMM(op->reg)->q[2 * (op->imm & 1)], 16);
}

x86_fn *x86_sel_avx_extract128(const struct x86_dec *d, struct x86_op *op)
{
	return op->flags & X86_OP_MEM ? op_extract128_m : op_extract128_r;
}

/* ---- VZEROUPPER, VZEROALL ---- */

static unsigned nr_regs(const struct x86_cpu *cpu)
{
	return x86_in_64(cpu) ? 16 : 8;
}

static void op_zeroupper(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_avx(cpu);
	for (unsigned i = 0; i < nr_regs(cpu); i++)
		x86_vec_zero_upper(YMM(i));
}

static void op_zeroall(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_avx(cpu);
	for (unsigned i = 0; i < nr_regs(cpu); i++)
		*YMM(i) = (struct x86_ymm){ 0 };
}

x86_fn *x86_sel_avx_zeroupper(const struct x86_dec *d, struct x86_op *op)
{
	return op_zeroupper;
}

x86_fn *x86_sel_avx_zeroall(const struct x86_dec *d, struct x86_op *op)
{
	return op_zeroall;
}

/* ---- VCVTPS2PH: the destination is ModRM.rm ---- */

static struct x86_ymm to_half(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_vec_fp a = {
		.body = (const void *)op->imm,
		.dst = YMM(op->reg),
		.s1 = YMM(op->reg),
		.s2 = YMM(op->reg),
	};

	x86_check_avx(cpu);
	x86_vec_fp_run(cpu, op, &a);
	return a.out;
}

static void op_cvtps2ph_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	*YMM(op->rm) = to_half(cpu, op);
}

/* The flags are set even if the store faults (observed). */
static void op_cvtps2ph_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_ymm v = to_half(cpu, op);

	x86_vec_store(cpu, op, &v, op->osize);
}

x86_fn *x86_sel_avx_cvtps2ph(const struct x86_dec *d, struct x86_op *op)
{
	const struct x86_vec_body *b = x86_vec_body(d->insn.mnemonic, true);

	if (!b)
		return x86_op_ud;
	op->imm = (u64)x86_vec_imm(op->vl == 32 ? b->y : b->x, b, op->imm);
	op->osize = op->vl / 2;
	return op->flags & X86_OP_MEM ? op_cvtps2ph_m : op_cvtps2ph_r;
}

/* ---- VMASKMOVPS, VPMASKMOVD and the 64-bit forms ---- */

/*
 * Elements whose mask sign is clear are not accessed, so that nothing about
 * their addresses can fault. op->osize: element size.
 */
static bool masked_in(const struct x86_ymm *mask, unsigned i, unsigned size)
{
	return size == 8 ? mask->q[i] >> 63 : mask->d[i] >> 31;
}

static u64 element_lin(struct x86_cpu *cpu, const struct x86_op *op, u64 ea, bool write)
{
	ea &= op->asize == 8 ? ~0ull : op->asize == 4 ? 0xffffffff : 0xffff;
	return write ? x86_lin_write(cpu, op->seg, ea, op->osize)
		     : x86_lin_read(cpu, op->seg, ea, op->osize);
}

static void op_maskmov_load(struct x86_cpu *cpu, const struct x86_op *op)
{
	const struct x86_ymm *mask = YMM(op->vvvv);
	struct x86_ymm v = { 0 };
	u64 ea = x86_ea(cpu, op);

	x86_check_avx(cpu);
	for (unsigned i = 0; i < op->vl / op->osize; i++) {
		u64 lin;

		if (!masked_in(mask, i, op->osize))
			continue;
		lin = element_lin(cpu, op, ea + i * op->osize, false);
		x86_load_bytes(cpu, op->seg, lin, &v.b[i * op->osize], op->osize);
	}
	*YMM(op->reg) = v;
}

static void op_maskmov_store(struct x86_cpu *cpu, const struct x86_op *op)
{
	const struct x86_ymm *mask = YMM(op->vvvv), *v = YMM(op->reg);
	u64 lin[8], ea = x86_ea(cpu, op);
	unsigned n = op->vl / op->osize;

	x86_check_avx(cpu);
	for (unsigned i = 0; i < n; i++) {
		if (!masked_in(mask, i, op->osize))
			continue;
		lin[i] = element_lin(cpu, op, ea + i * op->osize, true);
		x86_probe_write(cpu, op->seg, lin[i], op->osize);
	}
	for (unsigned i = 0; i < n; i++)
		if (masked_in(mask, i, op->osize))
			x86_store_bytes(cpu, op->seg, lin[i], &v->b[i * op->osize], op->osize);
}

x86_fn *x86_sel_avx_maskmov(const struct x86_dec *d, struct x86_op *op)
{
	bool quad = d->insn.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD ||
		    d->insn.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ;

	op->osize = quad ? 8 : 4;
	return d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? op_maskmov_store
								: op_maskmov_load;
}

/* ---- Gathers ---- */

/*
 * An element's mask is cleared as soon as it is loaded, so that the instruction
 * restarts after a fault where it stopped. op->osize: element size; op->imm:
 * index size. The number of elements is what fits of both.
 */
static void op_gather(struct x86_cpu *cpu, const struct x86_op *op)
{
	struct x86_ymm *dst = YMM(op->reg), *mask = YMM(op->vvvv);
	const struct x86_ymm index = *YMM(op->index);
	unsigned size = op->osize, n;

	x86_check_avx(cpu);
	n = op->vl / (op->imm > size ? op->imm : size);
	for (unsigned i = 0; i < n; i++) {
		s64 idx = op->imm == 8 ? (s64)index.q[i] : (s32)index.d[i];
		u64 ea = cpu->gpr[op->base] + ((u64)idx << op->scale) + (u64)(s64)op->disp;

		if (!masked_in(mask, i, size))
			continue;
		x86_load_bytes(cpu, op->seg, element_lin(cpu, op, ea, false), &dst->b[i * size],
			       size);
		if (size == 8)
			mask->q[i] = 0;
		else
			mask->d[i] = 0;
	}
	/* Bytes above the gathered elements: zero, in the mask as well. */
	for (unsigned i = n * size; i < 32; i++)
		dst->b[i] = 0;
	*mask = (struct x86_ymm){ 0 };
}

x86_fn *x86_sel_avx_gather(const struct x86_dec *d, struct x86_op *op)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VPGATHERDD:
		op->imm = 4;
		op->osize = 4;
		break;
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
		op->imm = 4;
		op->osize = 8;
		break;
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPGATHERQD:
		op->imm = 8;
		op->osize = 4;
		break;
	default: op->imm = 8; op->osize = 8; break;
	}
	if (op->reg == op->index || op->reg == op->vvvv || op->index == op->vvvv || op->asize == 2)
		return x86_op_ud;
	return op_gather;
}
