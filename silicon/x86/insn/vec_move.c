/* SPDX-License-Identifier: MIT */
/*
 * Moves between vector registers, memory and general registers, legacy and VEX:
 * no arithmetic, no exception flags. A VEX write clears the register above its
 * operand, a legacy write keeps the upper lane.
 */
#include "silicon/x86/flags.h"
#include "silicon/x86/insn/vec.h"

#define YMM(n) (&cpu->fpu.ymm[n])

static __always_inline void check(struct x86_cpu *cpu, bool vex)
{
	if (vex)
		x86_check_avx(cpu);
	else
		x86_check_sse(cpu);
}

#define VARIANTS(name, body, ...)                                                                  \
	static void name##_sse(struct x86_cpu *cpu, const struct x86_op *op)                       \
	{                                                                                          \
		body(cpu, op, false, ##__VA_ARGS__);                                               \
	}                                                                                          \
	static void name##_avx(struct x86_cpu *cpu, const struct x86_op *op)                       \
	{                                                                                          \
		body(cpu, op, true, ##__VA_ARGS__);                                                \
	}                                                                                          \
	static x86_fn *const name##_fns[2] = {name##_sse, name##_avx};

/* ---- Whole registers: MOVAPS, MOVDQU, MOVNTPS, LDDQU ... ---- */

static __always_inline void move_reg(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				     bool wide)
{
	check(cpu, vex);
	if (wide) {
		*YMM(op->reg) = *YMM(op->rm);
	} else {
		x86_copy16(YMM(op->reg), YMM(op->rm));
		if (vex)
			x86_vec_zero_upper(YMM(op->reg));
	}
}

static __always_inline void move_load(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				      bool wide, bool aligned)
{
	struct x86_ymm v;

	check(cpu, vex);
	if (aligned)
		x86_vec_load_aligned(cpu, op, &v, wide ? 32 : 16);
	else
		x86_vec_load(cpu, op, &v, wide ? 32 : 16);
	if (vex)
		*YMM(op->reg) = v;
	else
		x86_copy16(YMM(op->reg), &v);
}

static __always_inline void move_store(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				       bool wide, bool aligned)
{
	check(cpu, vex);
	if (aligned)
		x86_vec_store_aligned(cpu, op, YMM(op->reg), wide ? 32 : 16);
	else
		x86_vec_store(cpu, op, YMM(op->reg), wide ? 32 : 16);
}

VARIANTS(reg16, move_reg, false)
VARIANTS(reg32, move_reg, true)
VARIANTS(load16, move_load, false, false)
VARIANTS(load32, move_load, true, false)
VARIANTS(load16a, move_load, false, true)
VARIANTS(load32a, move_load, true, true)
VARIANTS(store16, move_store, false, false)
VARIANTS(store32, move_store, true, false)
VARIANTS(store16a, move_store, false, true)
VARIANTS(store32a, move_store, true, true)

/* Does operand 0 live in ModRM.rm: a store, or the store form between registers? */
static bool to_rm(const struct x86_dec *d)
{
	return d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
}

static void swap_if_to_rm(const struct x86_dec *d, struct x86_op *op)
{
	u8 rm = op->rm;

	if (!to_rm(d))
		return;
	op->rm = op->reg;
	op->reg = rm;
}

static x86_fn *select_move(const struct x86_dec *d, struct x86_op *op, bool aligned)
{
	bool vex = op->flags & X86_OP_VEX, wide = op->vl == 32;

	if (d->insn.meta.isa_set == ZYDIS_ISA_SET_AVX2 && !x86_has(d->cpu, X86_FEAT_AVX2))
		return x86_op_ud;
	if (!(op->flags & X86_OP_MEM)) {
		swap_if_to_rm(d, op);
		return wide ? reg32_fns[vex] : reg16_fns[vex];
	}
	if (to_rm(d)) {
		if (aligned)
			return wide ? store32a_fns[vex] : store16a_fns[vex];
		return wide ? store32_fns[vex] : store16_fns[vex];
	}
	if (aligned)
		return wide ? load32a_fns[vex] : load16a_fns[vex];
	return wide ? load32_fns[vex] : load16_fns[vex];
}

x86_fn *x86_sel_vec_mova(const struct x86_dec *d, struct x86_op *op)
{
	return select_move(d, op, true);
}

x86_fn *x86_sel_vec_movu(const struct x86_dec *d, struct x86_op *op)
{
	return select_move(d, op, false);
}

/* ---- MOVSS, MOVSD ---- */

/* Loads clear bits 127 up to the element, whatever the encoding. */
static __always_inline void scalar_load(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	struct x86_ymm v;

	check(cpu, vex);
	x86_vec_load(cpu, op, &v, op->osize);
	if (vex)
		*YMM(op->reg) = v;
	else
		x86_copy16(YMM(op->reg), &v);
}

static __always_inline void scalar_store(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	check(cpu, vex);
	x86_vec_store(cpu, op, YMM(op->reg), op->osize);
}

/* Between registers the rest comes from the first source (legacy: the destination). */
static __always_inline void scalar_merge(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
					 bool dbl)
{
	struct x86_ymm v = *YMM(op->vvvv);

	check(cpu, vex);
	if (dbl)
		v.q[0] = YMM(op->rm)->q[0];
	else
		v.d[0] = YMM(op->rm)->d[0];
	if (vex)
		x86_vec_zero_upper(&v);
	*YMM(op->reg) = v;
}

VARIANTS(scalar_load, scalar_load)
VARIANTS(scalar_store, scalar_store)
VARIANTS(merge_ss, scalar_merge, false)
VARIANTS(merge_sd, scalar_merge, true)

x86_fn *x86_sel_vec_movs(const struct x86_dec *d, struct x86_op *op)
{
	bool vex = op->flags & X86_OP_VEX;
	bool dbl = d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSD ||
		   d->insn.mnemonic == ZYDIS_MNEMONIC_VMOVSD;

	if (op->flags & X86_OP_MEM) {
		op->osize = dbl ? 8 : 4;
		return to_rm(d) ? scalar_store_fns[vex] : scalar_load_fns[vex];
	}
	swap_if_to_rm(d, op);
	if (!vex)
		op->vvvv = op->reg;
	return dbl ? merge_sd_fns[vex] : merge_ss_fns[vex];
}

/* ---- Halves: MOVHPS, MOVLPS, MOVHLPS, MOVLHPS and the PD forms ---- */

/* dst.q[to] = 64-bit operand (register half @from, or memory), the other half from VEX.vvvv. */
static __always_inline void half(struct x86_cpu *cpu, const struct x86_op *op, bool vex, bool mem,
				 unsigned to, unsigned from)
{
	struct x86_ymm m, v;

	check(cpu, vex);
	v = *YMM(op->vvvv);
	if (mem) {
		x86_vec_load(cpu, op, &m, 8);
		v.q[to] = m.q[0];
	} else {
		v.q[to] = YMM(op->rm)->q[from];
	}
	if (vex)
		x86_vec_zero_upper(&v);
	*YMM(op->reg) = v;
}

static __always_inline void half_store(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				       unsigned from)
{
	check(cpu, vex);
	x86_vec_store(cpu, op, &YMM(op->reg)->q[from], 8);
}

VARIANTS(load_low, half, true, 0, 0)
VARIANTS(load_high, half, true, 1, 0)
VARIANTS(high_to_low, half, false, 0, 1)
VARIANTS(low_to_high, half, false, 1, 0)
VARIANTS(store_low, half_store, 0)
VARIANTS(store_high, half_store, 1)

x86_fn *x86_sel_vec_movhl(const struct x86_dec *d, struct x86_op *op)
{
	bool vex = op->flags & X86_OP_VEX;

	if (!vex)
		op->vvvv = op->reg;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOVHLPS:
	case ZYDIS_MNEMONIC_VMOVHLPS:
		return high_to_low_fns[vex];
	case ZYDIS_MNEMONIC_MOVLHPS:
	case ZYDIS_MNEMONIC_VMOVLHPS:
		return low_to_high_fns[vex];
	case ZYDIS_MNEMONIC_MOVLPS:
	case ZYDIS_MNEMONIC_VMOVLPS:
	case ZYDIS_MNEMONIC_MOVLPD:
	case ZYDIS_MNEMONIC_VMOVLPD:
		return to_rm(d) ? store_low_fns[vex] : load_low_fns[vex];
	default:
		return to_rm(d) ? store_high_fns[vex] : load_high_fns[vex];
	}
}

/* ---- MOVD, MOVQ ---- */

static __always_inline void gpr_to_vec(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	struct x86_ymm v = { .q = { op->osize == 8 ? cpu->gpr[op->rm] : (u32)cpu->gpr[op->rm] } };

	check(cpu, vex);
	if (vex)
		*YMM(op->reg) = v;
	else
		x86_copy16(YMM(op->reg), &v);
}

static __always_inline void vec_to_gpr(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	check(cpu, vex);
	cpu->gpr[op->rm] = op->osize == 8 ? YMM(op->reg)->q[0] : YMM(op->reg)->d[0];
}

/* MOVQ xmm, xmm */
static __always_inline void low_quad(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	struct x86_ymm v = { .q = { YMM(op->rm)->q[0] } };

	check(cpu, vex);
	if (vex)
		*YMM(op->reg) = v;
	else
		x86_copy16(YMM(op->reg), &v);
}

VARIANTS(gpr_to_vec, gpr_to_vec)
VARIANTS(vec_to_gpr, vec_to_gpr)
VARIANTS(low_quad, low_quad)

static bool has_gpr(const struct x86_dec *d)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		ZydisRegisterClass c = d->operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER ?
			ZydisRegisterGetClass(d->operands[i].reg.value) : ZYDIS_REGCLASS_INVALID;

		if (c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64)
			return true;
	}
	return false;
}

x86_fn *x86_sel_vec_movd(const struct x86_dec *d, struct x86_op *op)
{
	bool vex = op->flags & X86_OP_VEX;
	bool quad =
		d->insn.mnemonic == ZYDIS_MNEMONIC_MOVQ || d->insn.mnemonic == ZYDIS_MNEMONIC_VMOVQ;

	op->osize = quad ? 8 : 4;
	if (op->flags & X86_OP_MEM)
		return to_rm(d) ? scalar_store_fns[vex] : scalar_load_fns[vex];
	if (has_gpr(d))
		return to_rm(d) ? vec_to_gpr_fns[vex] : gpr_to_vec_fns[vex];
	swap_if_to_rm(d, op);
	return low_quad_fns[vex];
}

/* ---- PEXTRx, EXTRACTPS, PINSRx ---- */

static __always_inline u64 element(const struct x86_ymm *v, unsigned size, u64 n)
{
	switch (size) {
	case 1: return v->b[n & 15];
	case 2: return v->w[n & 7];
	case 4: return v->d[n & 3];
	default: return v->q[n & 1];
	}
}

static __always_inline void extract_reg(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	check(cpu, vex);
	cpu->gpr[op->rm] = element(YMM(op->reg), op->osize, op->imm);
}

static __always_inline void extract_mem(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	u64 v;

	check(cpu, vex);
	v = element(YMM(op->reg), op->osize, op->imm);
	x86_vec_store(cpu, op, &v, op->osize);
}

static __always_inline void insert(struct x86_cpu *cpu, const struct x86_op *op, bool vex, bool mem)
{
	struct x86_ymm m, v;
	u64 e;

	check(cpu, vex);
	v = *YMM(op->vvvv);
	if (mem)
		x86_vec_load(cpu, op, &m, op->osize);
	e = mem ? m.q[0] : cpu->gpr[op->rm];
	switch (op->osize) {
	case 1: v.b[op->imm & 15] = (u8)e; break;
	case 2: v.w[op->imm & 7] = (u16)e; break;
	case 4: v.d[op->imm & 3] = (u32)e; break;
	default: v.q[op->imm & 1] = e; break;
	}
	if (vex)
		x86_vec_zero_upper(&v);
	*YMM(op->reg) = v;
}

VARIANTS(extract_reg, extract_reg)
VARIANTS(extract_mem, extract_mem)
VARIANTS(insert_reg, insert, false)
VARIANTS(insert_mem, insert, true)

static u8 element_size(const struct x86_dec *d)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PEXTRB: case ZYDIS_MNEMONIC_VPEXTRB:
	case ZYDIS_MNEMONIC_PINSRB: case ZYDIS_MNEMONIC_VPINSRB:
		return 1;
	case ZYDIS_MNEMONIC_PEXTRW: case ZYDIS_MNEMONIC_VPEXTRW:
	case ZYDIS_MNEMONIC_PINSRW: case ZYDIS_MNEMONIC_VPINSRW:
		return 2;
	case ZYDIS_MNEMONIC_PEXTRQ: case ZYDIS_MNEMONIC_VPEXTRQ:
	case ZYDIS_MNEMONIC_PINSRQ: case ZYDIS_MNEMONIC_VPINSRQ:
		return 8;
	default:	/* PEXTRD, PINSRD, EXTRACTPS */
		return 4;
	}
}

x86_fn *x86_sel_vec_pextr(const struct x86_dec *d, struct x86_op *op)
{
	bool vex = op->flags & X86_OP_VEX;
	u8 rm = op->rm;

	op->osize = element_size(d);
	if (op->flags & X86_OP_MEM)
		return extract_mem_fns[vex];
	/* The older PEXTRW has its destination in ModRM.reg. */
	if (!to_rm(d)) {
		op->rm = op->reg;
		op->reg = rm;
	}
	return extract_reg_fns[vex];
}

x86_fn *x86_sel_vec_pinsr(const struct x86_dec *d, struct x86_op *op)
{
	bool vex = op->flags & X86_OP_VEX;

	if (!vex)
		op->vvvv = op->reg;
	op->osize = element_size(d);
	return op->flags & X86_OP_MEM ? insert_mem_fns[vex] : insert_reg_fns[vex];
}

/* ---- MXCSR ---- */

static __always_inline void ldmxcsr(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	u32 v;

	check(cpu, vex);
	v = x86_load32(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 4));
	if (v & ~MXCSR_VALID)
		x86_gp0(cpu);
	cpu->fpu.mxcsr = v;
}

static __always_inline void stmxcsr(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	check(cpu, vex);
	x86_store32(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 4), cpu->fpu.mxcsr);
}

VARIANTS(ldmxcsr, ldmxcsr)
VARIANTS(stmxcsr, stmxcsr)

x86_fn *x86_sel_vec_ldmxcsr(const struct x86_dec *d, struct x86_op *op)
{
	return ldmxcsr_fns[!!(op->flags & X86_OP_VEX)];
}

x86_fn *x86_sel_vec_stmxcsr(const struct x86_dec *d, struct x86_op *op)
{
	return stmxcsr_fns[!!(op->flags & X86_OP_VEX)];
}

/* ---- MASKMOVDQU ---- */

/*
 * Stores the bytes whose mask has bit 7 set at DS:rDI. All of them are checked
 * before the first is written; the operand needs no alignment.
 */
static __always_inline void maskmovdqu(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	u64 lin, ea = cpu->gpr[X86_RDI];
	const struct x86_ymm *v = YMM(op->reg), *mask = YMM(op->rm);

	check(cpu, vex);
	ea &= op->asize == 8 ? ~0ull : op->asize == 4 ? 0xffffffff : 0xffff;
	lin = x86_lin_write(cpu, op->seg, ea, 16);
	x86_probe_write(cpu, op->seg, lin, 16);
	for (unsigned i = 0; i < 16; i++)
		if (mask->b[i] & 0x80)
			x86_store8(cpu, op->seg, lin + i, v->b[i]);
}

VARIANTS(maskmovdqu, maskmovdqu)

x86_fn *x86_sel_vec_maskmovdqu(const struct x86_dec *d, struct x86_op *op)
{
	return maskmovdqu_fns[!!(op->flags & X86_OP_VEX)];
}
