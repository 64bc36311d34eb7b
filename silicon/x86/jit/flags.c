/* SPDX-License-Identifier: MIT */
/*
 * The guest's arithmetic flags inside a block. Memory operands need EFLAGS for their
 * check. What the guest has there is then computed again from the registers of the
 * instruction that made it, if these are still there; else it has been kept in
 * cpu->jit_flags. Both are exact, so that a fault finds the right RFLAGS.
 */
#include <limits.h>

#include "silicon/x86/jit/jit_priv.h"

/* ---- Computing again: RAX is clobbered ---- */

/* RAX := guest register as it was for the instruction that made the flags. */
static void operand(struct x86_jit_tr *t, unsigned r, s32 moved)
{
	int home = jit_home(r);

	if (home < 0) {
		jit_load(&t->a, JIT_RAX, jit_gpr(r), 8);
		if (moved)
			jit_lea(&t->a, JIT_RAX, jit_at(JIT_RAX, -moved), 8);
	} else {
		jit_lea(&t->a, JIT_RAX, jit_at((unsigned)home, -moved), 8);
	}
}

static void alu(struct x86_jit_tr *t, enum jit_alu f, unsigned host)
{
	const struct jit_flags *fl = &t->flags;

	if (fl->b == JIT_NO_REG)
		jit_alu_ri(&t->a, f, host, fl->imm, fl->size);
	else if (jit_home(fl->b) >= 0)
		jit_alu_rr(&t->a, f, host, (unsigned)jit_home(fl->b), fl->size);
	else
		jit_alu_rm(&t->a, f, host, jit_gpr(fl->b), fl->size);
}

static void test(struct x86_jit_tr *t, unsigned host)
{
	const struct jit_flags *fl = &t->flags;
	unsigned op = fl->size == 1 ? 0x84 : 0x85;

	if (fl->b == JIT_NO_REG) {
		jit_op_rr(&t->a, fl->size == 1 ? 0xf6 : 0xf7, 0, host, fl->size);
		for (unsigned i = 0; i < (fl->size > 4 ? 4 : fl->size); i++)
			jit_8(&t->a, (u32)fl->imm >> 8 * i & 0xff);
	} else if (fl->b == fl->a) {
		jit_op_rr(&t->a, op, host, host, fl->size);
	} else if (jit_home(fl->b) >= 0) {
		jit_op_rr(&t->a, op, (unsigned)jit_home(fl->b), host, fl->size);
	} else {
		jit_op_rm(&t->a, op, host, jit_gpr(fl->b), fl->size);
	}
}

static bool counted(const struct jit_flags *f)
{
	return f->again == JIT_AGAIN_INC || f->again == JIT_AGAIN_DEC;
}

/* INC or DEC of RAX once more, CF being what was put away. */
static void count(struct x86_jit_tr *t)
{
	unsigned size = t->flags.size;
	bool dec = t->flags.again == JIT_AGAIN_DEC;

	jit_alu_ri(&t->a, dec ? JIT_ADD : JIT_SUB, JIT_RAX, 1, size);
	jit_op_rm(&t->a, 0x80, 7, JIT_FIELD(jit_no_carry), 1);	/* cmp byte [..], 1 */
	jit_8(&t->a, 1);
	jit_op_rr(&t->a, size == 1 ? 0xfe : 0xff, dec, JIT_RAX, size);
	t->flags.carry = JIT_CF_KEPT;
}

static void compute(struct x86_jit_tr *t)
{
	const struct jit_flags *f = &t->flags;
	unsigned host = JIT_RAX;
	unsigned neg = f->size == 1 ? 0xf6 : 0xf7;

	/* Only CMP and TEST leave their operand alone. */
	if ((f->again == JIT_AGAIN_CMP || f->again == JIT_AGAIN_TEST) && !f->moved && jit_home(f->a) >= 0)
		host = (unsigned)jit_home(f->a);
	else
		operand(t, f->a, f->moved);
	switch (f->again) {
	case JIT_AGAIN_CMP:
		alu(t, JIT_CMP, host);
		break;
	case JIT_AGAIN_TEST:
		test(t, host);
		break;
	case JIT_AGAIN_ADD:
		alu(t, JIT_SUB, host);
		alu(t, JIT_ADD, host);
		break;
	case JIT_AGAIN_SUB:
		alu(t, JIT_ADD, host);
		alu(t, JIT_SUB, host);
		break;
	case JIT_AGAIN_NEG:
		jit_op_rr(&t->a, neg, 3, host, f->size);
		jit_op_rr(&t->a, neg, 3, host, f->size);
		break;
	case JIT_AGAIN_INC:
	case JIT_AGAIN_DEC:
		count(t);
		break;
	case JIT_AGAIN_NONE:
		break;
	}
}

/* ---- The state ---- */

void jit_flags_read(struct x86_jit_tr *t)
{
	t->wrong_entry |= t->flags.where == JIT_FL_ANY;
	if (t->flags.where == JIT_FL_SAVED)
		jit_asm_load_flags(&t->a);
	else if (t->flags.where == JIT_FL_AGAIN || t->flags.carry == JIT_CF_AWAY)
		compute(t);
	t->flags.where = JIT_FL_LIVE;
}

void jit_flags_settle(struct x86_jit_tr *t)
{
	if (t->flags.where != JIT_FL_SAVED)
		jit_flags_read(t);
}

void jit_flags_carry(struct x86_jit_tr *t)
{
	if (t->flags.where != JIT_FL_SAVED) {
		jit_flags_read(t);
		return;
	}
	/* Bit 0 of AH, without the way through RAX and SAHF. */
	jit_op_rm(&t->a, 0x0fba, 4, JIT_FIELD(jit_flags), 2);	/* bt word [..], imm8 */
	jit_8(&t->a, 8);
	t->flags = (struct jit_flags){ .where = JIT_FL_LIVE, .again = JIT_AGAIN_NONE };
}

bool jit_flags_carry_away(struct x86_jit_tr *t)
{
	if (t->flags.carry == JIT_CF_WITH) {
		jit_flags_carry(t);
		return false;
	}
	t->flags = (struct jit_flags){ .where = JIT_FL_LIVE, .carry = JIT_CF_KEPT };
	return true;
}

void jit_flags_test(struct x86_jit_tr *t, unsigned cc)
{
	/* B, AE, BE, A look at CF. */
	if (t->flags.where != JIT_FL_LIVE || cc >> 1 == JIT_B >> 1 || cc >> 1 == JIT_BE >> 1)
		jit_flags_read(t);
}

void jit_flags_keep_carry(struct x86_jit_tr *t)
{
	bool keep = counted(&t->flags);

	if (keep && t->flags.carry == JIT_CF_WITH)
		jit_op_rm(&t->a, 0x0f93, 0, JIT_FIELD(jit_no_carry), 1);	/* setae byte [..] */
	t->flags.carry = keep ? JIT_CF_KEPT : JIT_CF_WITH;
}

void jit_flags_save(struct x86_jit_tr *t)
{
	if (t->flags.where == JIT_FL_SAVED)
		return;
	jit_flags_read(t);
	jit_asm_save_flags(&t->a);
	t->flags = (struct jit_flags){ .where = JIT_FL_SAVED };
}

void jit_flags_lost(struct x86_jit_tr *t)
{
	t->wrong_entry |= t->flags.where == JIT_FL_ANY;
	if (t->flags.where != JIT_FL_LIVE)
		return;
	if (t->flags.again == JIT_AGAIN_NONE) {
		jit_flags_save(t);
		return;
	}
	jit_flags_keep_carry(t);
	t->flags.where = JIT_FL_AGAIN;
}

void jit_flags_set(struct x86_jit_tr *t)
{
	t->flags = (struct jit_flags){ .where = JIT_FL_LIVE, .again = JIT_AGAIN_NONE };
}

void jit_flags_dead(struct x86_jit_tr *t)
{
	t->flags = (struct jit_flags){ .where = JIT_FL_LIVE, .again = JIT_AGAIN_NONE };
}

static bool depends(const struct jit_flags *f, unsigned r)
{
	return f->again != JIT_AGAIN_NONE && (f->a == r || (f->b == r && f->b != JIT_NO_REG));
}

/* Register @r changes: what depends on it must be made before. */
static void settle(struct x86_jit_tr *t, unsigned r)
{
	struct jit_flags *f = &t->flags;

	if (f->where == JIT_FL_SAVED || !depends(f, r))
		return;
	jit_flags_read(t);
	f->again = JIT_AGAIN_NONE;
}

void jit_writes(struct x86_jit_tr *t, unsigned r)
{
	jit_span_writes(t, r);
	jit_loop_writes(t, r);
	settle(t, r);
}

void jit_adds(struct x86_jit_tr *t, unsigned r, s32 by)
{
	jit_span_moves(t, r, by);
	jit_loop_moves(t, r, by);
	settle(t, r);
}

void jit_moves(struct x86_jit_tr *t, unsigned r, s32 by)
{
	struct jit_flags *f = &t->flags;
	s32 moved;

	jit_span_moves(t, r, by);
	jit_loop_moves(t, r, by);
	if (f->where == JIT_FL_SAVED || !depends(f, r))
		return;
	if (f->a == r && f->b != r && !__builtin_add_overflow(f->moved, by, &moved) && moved != INT_MIN) {
		f->moved = moved;
		return;
	}
	settle(t, r);
}
