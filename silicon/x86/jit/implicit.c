/* SPDX-License-Identifier: MIT */
/*
 * Integer instructions with operands that are not in their encoding: shifts by CL,
 * multiplication and division, CMPXCHG, sign extension of the accumulator, single flags.
 * Guest RDX is at home in RDX; RAX and RCX are scratch, so that the guest's can be
 * there for one instruction.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/jit_priv.h"

static void byte_op(struct x86_jit_tr *t, u8 op)
{
	jit_room(&t->a);
	jit_8(&t->a, op);
}

static void rax_from(struct x86_jit_tr *t, unsigned r)
{
	unsigned h = jit_use(t, r, JIT_RAX);

	if (h != JIT_RAX)
		jit_mov_rr(&t->a, JIT_RAX, h);
}

/* ---- Shifts by CL ---- */

/*
 * A count of 0 keeps the flags, so they must be there. RCX is wanted for the count:
 * an address moves to RAX. AH..BH are reached in RAX.
 */
static bool shift_cl(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;
	struct jit_insn in = t->in;
	bool twin = in.map == JIT_MAP_0F;	/* SHLD, SHRD: a second register */
	unsigned r = in.rm & 15, count;

	if (in.flags & JIT_I_MEM) {
		if (twin && jit_home(in.reg) < 0)
			return false;
		jit_mem(t, op->msize, true);
		jit_flags_read(t);
		jit_mov_rr(&t->a, JIT_RAX, JIT_RCX);
		jit_mem_base(&in, JIT_RAX, 0);
	} else {
		if (twin && jit_home(in.reg) < 0 && jit_home(r) < 0)
			return false;
		jit_flags_read(t);
		jit_writes(t, r & (in.rm & JIT_HIGH_BYTE ? 3 : 15));
	}
	count = jit_use(t, X86_RCX, JIT_RCX);
	if (count != JIT_RCX)
		jit_mov_rr(&t->a, JIT_RCX, count);
	if (twin)
		in.reg = (u8)jit_use(t, in.reg, JIT_RAX);
	if (in.flags & JIT_I_MEM) {
		jit_put(t, &in);
	} else if (in.rm & JIT_HIGH_BYTE) {
		r = in.rm & 3;
		rax_from(t, r);
		in.rm = JIT_HIGH_BYTE;
		jit_put(t, &in);
		jit_def(t, r, JIT_RAX);
	} else if (twin && jit_home(r) < 0) {
		in.rm = JIT_RAX;
		rax_from(t, r);
		jit_put(t, &in);
		jit_def(t, r, JIT_RAX);
	} else {
		in.rm = (u8)jit_use(t, r, JIT_RAX);
		jit_put(t, &in);
		jit_def(t, r, in.rm);
	}
	jit_flags_set(t);
	return true;
}

/* ---- Multiplication ---- */

/* The explicit operand: in memory, at home, or in cpu->gpr[]; RAX stays free. False: AH..BH. */
static bool source(struct x86_jit_tr *t, struct jit_insn *in)
{
	if (in->flags & JIT_I_MEM) {
		jit_mem_base(in, JIT_RCX, 0);
	} else if (in->rm & JIT_HIGH_BYTE) {
		return false;
	} else if (jit_home(in->rm) >= 0) {
		in->rm = (u8)jit_home(in->rm);
	} else {
		struct jit_mem m = jit_gpr(in->rm);

		jit_mem_base(in, m.base, m.disp);
	}
	return true;
}

static bool multiply(struct x86_jit_tr *t)
{
	struct jit_insn in = t->in;

	if (!(in.flags & JIT_I_MEM) && in.rm & JIT_HIGH_BYTE)
		return false;
	if (in.flags & JIT_I_MEM)
		jit_mem(t, t->op->msize, false);
	jit_flags_dead(t);
	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RDX);
	source(t, &in);
	rax_from(t, X86_RAX);
	jit_put(t, &in);
	jit_def(t, X86_RAX, JIT_RAX);
	jit_flags_set(t);
	return true;
}

static bool mulx(struct x86_jit_tr *t)
{
	struct jit_insn in = t->in;
	unsigned high = in.reg, low = in.vvvv;

	if (in.flags & JIT_I_MEM)
		jit_mem(t, t->op->msize, false);
	jit_writes(t, high);
	jit_writes(t, low);
	source(t, &in);
	in.reg = jit_home(high) >= 0 ? (u8)jit_home(high) : JIT_RAX;
	/* With equal destinations the high half wins. */
	in.vvvv = high == low ? in.reg : jit_home(low) >= 0 ? (u8)jit_home(low) : JIT_RCX;
	jit_put(t, &in);
	if (high != low)
		jit_def(t, low, in.vvvv);
	jit_def(t, high, in.reg);
	return true;
}

/* ---- Division ---- */

/* The divisor in RCX, whatever it was: tested and used without being read twice. */
static void divisor(struct x86_jit_tr *t, struct jit_insn *in, unsigned size)
{
	if (in->flags & JIT_I_MEM)
		jit_load(&t->a, JIT_RCX, jit_at(JIT_RCX, 0), size);
	else
		jit_mov_rr(&t->a, JIT_RCX, jit_use(t, in->rm, JIT_RCX));
	jit_mem_to_reg(in, JIT_RCX);
}

/*
 * What could raise #DE is the handler's. Unsigned: the upper half is not below the
 * divisor. Signed: all but a dividend that is sign-extended, by other than 0 and -1.
 * Flags, which a division leaves alone, have been put aside.
 */
static bool divide(struct x86_jit_tr *t, bool is_signed)
{
	unsigned size = t->in.flags & JIT_I_W ? 8 : 4;
	struct jit_insn in = t->in;
	struct jit_asm *a = &t->a;

	if (in.flags & (JIT_I_RM8 | JIT_I_66) || jit_home(X86_RDX) != JIT_RDX)
		return false;
	if (in.flags & JIT_I_MEM)
		jit_mem(t, size, false);
	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RDX);
	jit_flags_lost(t);
	divisor(t, &in, size);
	rax_from(t, X86_RAX);
	if (is_signed) {
		/* ECX + 1 above 1, unsigned: neither 0 nor -1. */
		u8 *fits;

		jit_op_rr(a, 0xc1, 7, JIT_RAX, size);		/* sar rax, 31 or 63 */
		jit_8(a, size * 8 - 1);
		jit_alu_rr(a, JIT_CMP, JIT_RAX, JIT_RDX, size);
		jit_slow_jcc(t, JIT_NE);
		jit_lea(a, JIT_RAX, jit_at(JIT_RCX, 1), size);
		jit_alu_ri(a, JIT_CMP, JIT_RAX, 1, size);
		fits = jit_jcc8(a, JIT_A);
		jit_slow_jmp(t);
		jit_bind8(a, fits);
		rax_from(t, X86_RAX);
	} else {
		jit_alu_rr(a, JIT_CMP, JIT_RDX, JIT_RCX, size);
		jit_slow_jcc(t, JIT_AE);
	}
	jit_put(t, &in);
	jit_def(t, X86_RAX, JIT_RAX);
	return true;
}

/* ---- CMPXCHG ---- */

static bool cmpxchg(struct x86_jit_tr *t)
{
	struct jit_insn in = t->in;

	/* RAX and RCX are taken: the new value must be at home. */
	if (!(in.flags & JIT_I_MEM) || in.reg & JIT_HIGH_BYTE || jit_home(in.reg) < 0)
		return false;
	jit_mem(t, t->op->msize, true);
	jit_flags_dead(t);
	jit_writes(t, X86_RAX);
	in.reg = (u8)jit_home(in.reg);
	jit_mem_base(&in, JIT_RCX, 0);
	rax_from(t, X86_RAX);
	jit_put(t, &in);
	jit_def(t, X86_RAX, JIT_RAX);
	jit_flags_set(t);
	return true;
}

/* ---- The accumulator, single flags ---- */

/* CBW CWDE CDQE, CWD CDQ CQO: with the guest's RAX in RAX they are themselves. */
static bool extend(struct x86_jit_tr *t, u8 opcode)
{
	unsigned dst = opcode == 0x98 ? X86_RAX : X86_RDX;

	if (jit_home(X86_RDX) != JIT_RDX)
		return false;
	jit_writes(t, dst);
	rax_from(t, X86_RAX);
	jit_room(&t->a);
	if (t->op->flags & X86_OP_REXW)
		jit_8(&t->a, 0x48);
	else if (t->op->flags & X86_OP_OSZ)
		jit_8(&t->a, 0x66);
	jit_8(&t->a, opcode);
	if (dst == X86_RAX)
		jit_def(t, X86_RAX, JIT_RAX);
	return true;
}

static bool carry(struct x86_jit_tr *t, u8 opcode)
{
	jit_flags_read(t);
	byte_op(t, opcode);
	jit_flags_set(t);
	return true;
}

static bool direction(struct x86_jit_tr *t, bool set)
{
	jit_flags_lost(t);
	jit_op_rm(&t->a, 0x81, set ? JIT_OR : JIT_AND, JIT_FIELD(rflags), 4);
	jit_32(&t->a, set ? RFLAGS_DF : ~(u32)RFLAGS_DF);
	return true;
}

static bool ah_flags(struct x86_jit_tr *t, bool load)
{
	jit_flags_read(t);
	if (load)
		jit_writes(t, X86_RAX);
	rax_from(t, X86_RAX);
	byte_op(t, load ? 0x9f : 0x9e);
	if (load)
		jit_def(t, X86_RAX, JIT_RAX);
	else
		jit_flags_set(t);
	return true;
}

bool jit_emit_implicit(struct x86_jit_tr *t)
{
	x86_select_fn *sel = x86_insn_row(t->op->row)->select;

	if (t->op->fn == x86_op_ud)
		return false;
	/* What jit_parse() leaves alone because there is nothing to replace. */
	if (sel == x86_sel_cbw)
		return extend(t, 0x98);
	if (sel == x86_sel_cwd)
		return extend(t, 0x99);
	if (sel == x86_sel_clc)
		return carry(t, 0xf8);
	if (sel == x86_sel_stc)
		return carry(t, 0xf9);
	if (sel == x86_sel_cmc)
		return carry(t, 0xf5);
	if (sel == x86_sel_cld || sel == x86_sel_std)
		return direction(t, sel == x86_sel_std);
	if (sel == x86_sel_lahf || sel == x86_sel_sahf)
		return ah_flags(t, sel == x86_sel_lahf);
	if (!t->parsed || !(t->op->opnd & X86_OPND_IMPLICIT))
		return false;
	if (sel == x86_sel_shl || sel == x86_sel_shr || sel == x86_sel_sar || sel == x86_sel_rol ||
	    sel == x86_sel_ror || sel == x86_sel_rcl || sel == x86_sel_rcr || sel == x86_sel_shld ||
	    sel == x86_sel_shrd)
		return shift_cl(t);
	if (sel == x86_sel_mul || sel == x86_sel_imul)
		return multiply(t);
	if (sel == x86_sel_mulx)
		return mulx(t);
	if (sel == x86_sel_div || sel == x86_sel_idiv)
		return divide(t, sel == x86_sel_idiv);
	if (sel == x86_sel_cmpxchg)
		return cmpxchg(t);
	return false;
}
