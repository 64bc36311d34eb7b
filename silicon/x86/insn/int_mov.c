/* SPDX-License-Identifier: MIT */
/*
 * Data movement between registers, memory and immediates: MOV and its extending,
 * swapping and conditional relatives, LEA, XLAT, sign extension inside the
 * accumulator, flags to and from AH. Moves of segment, control and debug
 * registers are sys/'s.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/int.h"

/* ---- MOV ---- */

#define MOV_SIZE(n) \
	static void mov_rr_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_reg(cpu, op->rm, get_reg(cpu, op->reg, n), n); \
	} \
	static void mov_ri_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_reg(cpu, op->rm, op->imm, n); \
	} \
	static void mov_rm_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_reg(cpu, op->reg, load_mem(cpu, op, n), n); \
	} \
	static void mov_mr_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		store_mem(cpu, op, get_reg(cpu, op->reg, n), n); \
	} \
	static void mov_mi_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		store_mem(cpu, op, op->imm, n); \
	} \
	static void mov_from_moffs_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_reg(cpu, X86_RAX, load_lin(cpu, op->seg, x86_lin_read(cpu, op->seg, op->imm, n), n), n); \
	} \
	static void mov_to_moffs_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		store_lin(cpu, op->seg, x86_lin_write(cpu, op->seg, op->imm, n), get_reg(cpu, X86_RAX, n), n); \
	}
MOV_SIZE(1)
MOV_SIZE(2)
MOV_SIZE(4)
MOV_SIZE(8)

/* The most frequent loads and stores of 64-bit mode: flat and without an index. */
#define MOV_FAST(n) \
	static void mov_rm_base_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 lin = cpu->gpr[op->base] + (u64)(s64)op->disp; \
		set_reg(cpu, op->reg, load_lin(cpu, op->seg, lin, n), n); \
	} \
	static void mov_mr_base_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 lin = cpu->gpr[op->base] + (u64)(s64)op->disp; \
		store_lin(cpu, op->seg, lin, get_reg(cpu, op->reg, n), n); \
	}
MOV_FAST(1)
MOV_FAST(2)
MOV_FAST(4)
MOV_FAST(8)

static bool is_simple_address(const struct x86_op *op)
{
	return (op->flags & X86_OP_FLAT) && op->index == X86_REG_ZERO;
}

static x86_fn *select_moffs(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const from[4] = HANDLERS(mov_from_moffs), *const to[4] = HANDLERS(mov_to_moffs);

	return by_size(d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? to : from, op->osize);
}

static bool is_system_register(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass class;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	class = ZydisRegisterGetClass(o->reg.value);
	return class == ZYDIS_REGCLASS_SEGMENT || class == ZYDIS_REGCLASS_CONTROL ||
	       class == ZYDIS_REGCLASS_DEBUG;
}

x86_fn *x86_sel_mov(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const rr[4] = HANDLERS(mov_rr), *const ri[4] = HANDLERS(mov_ri),
		*const rm[4] = HANDLERS(mov_rm), *const mr[4] = HANDLERS(mov_mr),
		*const mi[4] = HANDLERS(mov_mi), *const rm_base[4] = HANDLERS(mov_rm_base),
		*const mr_base[4] = HANDLERS(mov_mr_base);
	bool imm = d->operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	bool to_mem = d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;

	if (is_system_register(&d->operands[0]) || is_system_register(&d->operands[1])) {
		op->flags |= X86_OP_END;
		return x86_sel_mov_sys(d, op);
	}
	if (!(d->insn.attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		if (!imm)
			return select_moffs(d, op);
		op->rm = op->reg;	/* B0..BF: the register is in the opcode */
	}
	if (op->flags & X86_OP_MEM) {
		bool simple = is_simple_address(op);

		if (imm)
			return by_size(mi, op->osize);
		if (to_mem)
			return by_size(simple ? mr_base : mr, op->osize);
		return by_size(simple ? rm_base : rm, op->osize);
	}
	if (imm)
		return by_size(ri, op->osize);
	if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
		u8 t = op->reg;

		op->reg = op->rm;
		op->rm = t;
	}
	return by_size(rr, op->osize);
}

/* ---- MOVZX MOVSX MOVSXD: source width x destination width ---- */

#define EXTEND(f, from, to, expr) \
	static void f##_r_##from##_##to(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 v = get_reg(cpu, op->rm, from); \
		set_reg(cpu, op->reg, expr, to); \
	} \
	static void f##_m_##from##_##to(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 v = load_mem(cpu, op, from); \
		set_reg(cpu, op->reg, expr, to); \
	}
#define EXTEND_ALL(f, from, expr) \
	EXTEND(f, from, 2, expr) EXTEND(f, from, 4, expr) EXTEND(f, from, 8, expr)
EXTEND_ALL(movzx, 1, v)
EXTEND_ALL(movzx, 2, v)
EXTEND_ALL(movsx, 1, (u64)(s8)v)
EXTEND_ALL(movsx, 2, (u64)(s16)v)
/* With 66 or without REX.W MOVSXD is a plain move of that width. */
EXTEND(movsx, 4, 4, v)
EXTEND(movsx, 4, 8, (u64)(s32)v)

#define EXTEND_ROW(f, from) { f##_r_##from##_2, f##_m_##from##_2, f##_r_##from##_4, f##_m_##from##_4, \
			      f##_r_##from##_8, f##_m_##from##_8 }

/* Row by source width; a register operand that is a byte register needs its special number. */
static x86_fn *select_extend(const struct x86_dec *d, const struct x86_op *op, x86_fn *const fn[2][6])
{
	unsigned to = op->osize == 2 ? 0 : op->osize == 4 ? 1 : 2;

	return fn[d->operands[1].size == 16][to * 2 + !!(op->flags & X86_OP_MEM)];
}

x86_fn *x86_sel_movzx(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[2][6] = { EXTEND_ROW(movzx, 1), EXTEND_ROW(movzx, 2) };

	return select_extend(d, op, fn);
}

x86_fn *x86_sel_movsx(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[2][6] = { EXTEND_ROW(movsx, 1), EXTEND_ROW(movsx, 2) };

	return select_extend(d, op, fn);
}

x86_fn *x86_sel_movsxd(const struct x86_dec *d, struct x86_op *op)
{
	bool mem = op->flags & X86_OP_MEM;

	if (op->osize == 2)
		return mem ? mov_rm_2 : movsx_r_2_2;
	if (op->osize == 4)
		return mem ? movsx_m_4_4 : movsx_r_4_4;
	return mem ? movsx_m_4_8 : movsx_r_4_8;
}

/* ---- LEA ---- */

static void lea_2(struct x86_cpu *cpu, const struct x86_op *op) { set_reg(cpu, op->reg, x86_ea(cpu, op), 2); }
static void lea_4(struct x86_cpu *cpu, const struct x86_op *op) { set_reg(cpu, op->reg, x86_ea(cpu, op), 4); }
static void lea_8(struct x86_cpu *cpu, const struct x86_op *op) { set_reg(cpu, op->reg, x86_ea(cpu, op), 8); }

static void lea_64_64(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->gpr[op->reg] = flat_ea(cpu, op);
}

x86_fn *x86_sel_lea(const struct x86_dec *d, struct x86_op *op)
{
	if (!(op->flags & X86_OP_MEM))
		return x86_op_ud;
	if (op->osize == 8)
		return op->asize == 8 ? lea_64_64 : lea_8;
	return op->osize == 4 ? lea_4 : lea_2;
}

/* ---- Byte order, non-temporal and direct stores ---- */

static __inline_all u64 swap(u64 v, unsigned size)
{
	switch (size) {
	case 2: return __builtin_bswap16((u16)v);
	case 4: return __builtin_bswap32((u32)v);
	default: return __builtin_bswap64(v);
	}
}

/* BSWAP of a 16-bit register is undefined: Intel processors clear the low word. */
static void bswap_2(struct x86_cpu *cpu, const struct x86_op *op) { set_reg(cpu, op->reg, 0, 2); }
static void bswap_4(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, op->reg, swap(cpu->gpr[op->reg], 4), 4);
}
static void bswap_8(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, op->reg, swap(cpu->gpr[op->reg], 8), 8);
}

x86_fn *x86_sel_bswap(const struct x86_dec *d, struct x86_op *op)
{
	return op->osize == 8 ? bswap_8 : op->osize == 4 ? bswap_4 : bswap_2;
}

#define MOVBE_SIZE(n) \
	static void movbe_rm_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		set_reg(cpu, op->reg, swap(load_mem(cpu, op, n), n), n); \
	} \
	static void movbe_mr_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		store_mem(cpu, op, swap(get_reg(cpu, op->reg, n), n), n); \
	}
MOVBE_SIZE(2)
MOVBE_SIZE(4)
MOVBE_SIZE(8)

x86_fn *x86_sel_movbe(const struct x86_dec *d, struct x86_op *op)
{
	static x86_fn *const fn[2][3] = { { movbe_rm_2, movbe_rm_4, movbe_rm_8 },
					  { movbe_mr_2, movbe_mr_4, movbe_mr_8 } };

	return fn[d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY][op->osize / 4];
}

/* MOVNTI and MOVDIRI: ordinary stores, as caches are not modelled. No 16-bit form. */
x86_fn *x86_sel_store_reg(const struct x86_dec *d, struct x86_op *op)
{
	return op->flags & X86_OP_REXW ? mov_mr_8 : mov_mr_4;
}

/* ---- Conditional ---- */

#define CMOV_SIZE(n) \
	/* A false condition still reads the operand and zero-extends a 32-bit destination. */ \
	static void cmov_##n(struct x86_cpu *cpu, const struct x86_op *op) \
	{ \
		u64 v = get_rm(cpu, op, n); \
		set_reg(cpu, op->reg, condition(cpu, op->imm2) ? v : get_reg(cpu, op->reg, n), n); \
	}
CMOV_SIZE(2)
CMOV_SIZE(4)
CMOV_SIZE(8)

x86_fn *x86_sel_cmov(const struct x86_dec *d, struct x86_op *op)
{
	op->imm2 = d->insn.opcode & 15;
	return op->osize == 8 ? cmov_8 : op->osize == 4 ? cmov_4 : cmov_2;
}

static void setcc_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	*x86_reg8(cpu, op->rm) = condition(cpu, op->imm2);
}

static void setcc_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	store_mem(cpu, op, condition(cpu, op->imm2), 1);
}

x86_fn *x86_sel_setcc(const struct x86_dec *d, struct x86_op *op)
{
	op->imm2 = d->insn.opcode & 15;
	return op->flags & X86_OP_MEM ? setcc_m : setcc_r;
}

/* ---- Inside the accumulator ---- */

static void cbw(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, X86_RAX, (u64)(s8)cpu->gpr[X86_RAX], 2);
}
static void cwde(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, X86_RAX, (u64)(s16)cpu->gpr[X86_RAX], 4);
}
static void cdqe(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->gpr[X86_RAX] = (u64)(s32)cpu->gpr[X86_RAX];
}
static void cwd(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, X86_RDX, (u64)((s64)(s16)cpu->gpr[X86_RAX] >> 16), 2);
}
static void cdq(struct x86_cpu *cpu, const struct x86_op *op)
{
	set_reg(cpu, X86_RDX, (u64)((s64)(s32)cpu->gpr[X86_RAX] >> 32), 4);
}
static void cqo(struct x86_cpu *cpu, const struct x86_op *op)
{
	cpu->gpr[X86_RDX] = (u64)((s64)cpu->gpr[X86_RAX] >> 63);
}

x86_fn *x86_sel_cbw(const struct x86_dec *d, struct x86_op *op)
{
	return op->osize == 8 ? cdqe : op->osize == 4 ? cwde : cbw;
}

x86_fn *x86_sel_cwd(const struct x86_dec *d, struct x86_op *op)
{
	return op->osize == 8 ? cqo : op->osize == 4 ? cdq : cwd;
}

static void xlat(struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 ea = trunc_to(cpu->gpr[X86_RBX] + (u8)cpu->gpr[X86_RAX], op->asize);

	set_reg(cpu, X86_RAX, load_lin(cpu, op->seg, x86_lin_read(cpu, op->seg, ea, 1), 1), 1);
}

x86_fn *x86_sel_xlat(const struct x86_dec *d, struct x86_op *op)
{
	return xlat;
}

#define AH 0x10		/* as in x86_reg8() */

static void lahf(struct x86_cpu *cpu, const struct x86_op *op)
{
	*x86_reg8(cpu, AH) = (u8)x86_get_arith(cpu) | 2;
}

static void sahf(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_set_arith(cpu, *x86_reg8(cpu, AH) | (x86_of(cpu) ? RFLAGS_OF : 0));
}

/* In 64-bit mode both have a feature bit of their own. */
static x86_fn *lahf64(const struct x86_dec *d, x86_fn *fn)
{
	return d->mode == X86_MODE_64 && !x86_has(d->cpu, X86_FEAT_LAHF64) ? x86_op_ud : fn;
}

x86_fn *x86_sel_lahf(const struct x86_dec *d, struct x86_op *op)
{
	return lahf64(d, lahf);
}

x86_fn *x86_sel_sahf(const struct x86_dec *d, struct x86_op *op)
{
	return lahf64(d, sahf);
}
