/* SPDX-License-Identifier: MIT */
/*
 * x87 control: status and control words, environments, the stack pointer. The
 * FN forms do not wait; Zydis shows their waiting spellings as FWAIT and them.
 */
#include "silicon/x86/insn/x87.h"

#define FCW_VALID 0x1f7f
#define FCW_ALWAYS 0x40

static void set_fcw(struct x86_cpu *cpu, u16 v)
{
	cpu->fpu.fcw = (v & FCW_VALID) | FCW_ALWAYS;
	x86_fp_update_es(cpu);
}

static void op_fninit(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87_nowait(cpu);
	x86_fp_init(cpu);
}

static void op_fnclex(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87_nowait(cpu);
	cpu->fpu.fsw &= (u16)~(FP_FLAGS | FSW_SF | FSW_ES | FSW_B);
}

static void op_fldcw(struct x86_cpu *cpu, const struct x86_op *op)
{
	u16 v;

	x86_check_x87(cpu);
	v = x86_load16(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), 2));
	set_fcw(cpu, v);
}

static void op_fnstcw(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87_nowait(cpu);
	x86_store16(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 2), cpu->fpu.fcw);
}

static void op_fnstsw(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87_nowait(cpu);
	if (op->flags & X86_OP_MEM)
		x86_store16(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), 2),
			    cpu->fpu.fsw);
	else
		cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xffffull) | cpu->fpu.fsw;
}

static void op_fwait(struct x86_cpu *cpu, const struct x86_op *op)
{
	if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		x86_fault(cpu, X86_NM);
	x86_check_fp_pending(cpu);
}

static void op_fnop(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
}

/* Instructions of the 8087 and 287 that later processors ignore. */
static void op_ignored(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87_nowait(cpu);
}

static void op_fincstp(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	cpu->fpu.fsw &= (u16)~FSW_C1;
	x87_rotate(cpu, 1);
}

static void op_fdecstp(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	cpu->fpu.fsw &= (u16)~FSW_C1;
	x87_rotate(cpu, -1);
}

static void op_ffree(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	cpu->fpu.fsw &= (u16)~FSW_C1;
	x87_free(cpu, op->rm & 7);
}

static void op_ffreep(struct x86_cpu *cpu, const struct x86_op *op)
{
	x86_check_x87(cpu);
	cpu->fpu.fsw &= (u16)~FSW_C1;
	x87_free(cpu, op->rm & 7);
	x87_pop(cpu, 1);
}

/* ---- Environments ---- */

/* Two bits a physical register: 0 valid, 1 zero, 2 special, 3 empty. */
static u16 full_tags(const struct x86_cpu *cpu)
{
	u16 tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		const x86_f80_t *r = &cpu->fpu.st[i];
		unsigned exp = r->exp & 0x7fff, tag = 2;

		if (!(cpu->fpu.ftw >> i & 1))
			tag = 3;
		else if (!exp && !r->mant)
			tag = 1;
		else if (exp && exp != 0x7fff && r->mant >> 63)
			tag = 0;
		tags |= (u16)(tag << 2 * i);
	}
	return tags;
}

static u8 abridged_tags(u16 tags)
{
	u8 ftw = 0;

	for (unsigned i = 0; i < 8; i++)
		if ((tags >> 2 * i & 3) != 3)
			ftw |= (u8)(1u << i);
	return ftw;
}

/* Seven words or dwords; SDM vol. 1 "Saving the x87 FPU's State". op->imm: 14 or 28 bytes. */
static void build_env(const struct x86_cpu *cpu, const struct x86_op *op, u8 *env)
{
	const struct x86_fpu *f = &cpu->fpu;
	u32 v[7] = { f->fcw, f->fsw, full_tags(cpu), (u32)f->fip, 0, (u32)f->fdp, 0 };

	if (!x86_prot(cpu)) {
		v[3] &= 0xffff;
		v[4] = ((u32)f->fip >> 16) << 12 | f->fop;
		v[5] &= 0xffff;
		v[6] = ((u32)f->fdp >> 16) << 12;
	} else if (op->imm == 28) {
		v[4] = (u32)f->fop << 16;	/* FCS, FDS: 0 */
		v[6] = 0xffff0000;
	}
	for (unsigned i = 0; i < 7; i++) {
		u32 w = v[i] | (i < 3 || (!x86_prot(cpu) && (i == 3 || i == 5)) ? 0xffff0000 : 0);

		memcpy(env + i * op->imm / 7, &w, op->imm / 7);
	}
}

static void apply_env(struct x86_cpu *cpu, const struct x86_op *op, const u8 *env)
{
	struct x86_fpu *f = &cpu->fpu;
	u32 v[7] = { 0 };

	for (unsigned i = 0; i < 7; i++)
		memcpy(&v[i], env + i * op->imm / 7, op->imm / 7);
	f->fsw = (u16)v[1];
	f->ftw = abridged_tags((u16)v[2]);
	f->fip = v[3];
	f->fdp = v[5];
	if (!x86_prot(cpu)) {
		f->fip = (v[3] & 0xffff) | (v[4] >> 12 & 0xffff) << 16;
		f->fdp = (v[5] & 0xffff) | (v[6] >> 12 & 0xffff) << 16;
		f->fop = v[4] & 0x7ff;
	} else {
		f->fop = op->imm == 28 ? v[4] >> 16 & 0x7ff : 0;
	}
	set_fcw(cpu, (u16)v[0]);
}

#define ENV_MAX 28
#define REGS_SIZE 80

static void op_fnstenv(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 env[ENV_MAX];
	u64 lin;

	x86_check_x87_nowait(cpu);
	build_env(cpu, op, env);
	lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), (unsigned)op->imm);
	x86_store_bytes(cpu, op->seg, lin, env, (unsigned)op->imm);
	set_fcw(cpu, cpu->fpu.fcw | FP_FLAGS);
}

static void op_fldenv(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 env[ENV_MAX];
	u64 lin;

	x86_check_x87(cpu);
	lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), (unsigned)op->imm);
	x86_load_bytes(cpu, op->seg, lin, env, (unsigned)op->imm);
	apply_env(cpu, op, env);
}

static void op_fnsave(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 image[ENV_MAX + REGS_SIZE];
	unsigned size = (unsigned)op->imm + REGS_SIZE;
	u64 lin;

	x86_check_x87_nowait(cpu);
	build_env(cpu, op, image);
	for (unsigned i = 0; i < 8; i++) {
		x86_f80_t v = x87_st(cpu, i);

		memcpy(image + op->imm + 10 * i, &v, 10);
	}
	lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), size);
	x86_store_bytes(cpu, op->seg, lin, image, size);
	x86_fp_init(cpu);
}

static void op_frstor(struct x86_cpu *cpu, const struct x86_op *op)
{
	u8 image[ENV_MAX + REGS_SIZE];
	unsigned size = (unsigned)op->imm + REGS_SIZE;
	u64 lin;

	x86_check_x87(cpu);
	lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), size);
	x86_load_bytes(cpu, op->seg, lin, image, size);
	apply_env(cpu, op, image);
	for (unsigned i = 0; i < 8; i++) {
		x86_f80_t v = { 0 };

		memcpy(&v, image + op->imm + 10 * i, 10);
		cpu->fpu.st[x87_phys(cpu, i)] = v;
	}
}

/* The operand size of these is not Zydis' memory size: 66 and CS.D choose the format. */
#define SELECT_ENV(name) \
	x86_fn *x86_sel_x87_##name(const struct x86_dec *d, struct x86_op *op) \
	{ \
		bool small = (d->code_size == 2) != !!(op->flags & X86_OP_OSZ); \
		op->imm = small ? 14 : 28; \
		return op_##name; \
	}
SELECT_ENV(fnstenv)
SELECT_ENV(fldenv)
SELECT_ENV(fnsave)
SELECT_ENV(frstor)

#define SELECT(name) \
	x86_fn *x86_sel_x87_##name(const struct x86_dec *d, struct x86_op *op) { return op_##name; }
SELECT(fninit)
SELECT(fnclex)
SELECT(fldcw)
SELECT(fnstcw)
SELECT(fnstsw)
SELECT(fwait)
SELECT(fnop)
SELECT(ignored)
SELECT(fincstp)
SELECT(fdecstp)
SELECT(ffree)
SELECT(ffreep)
