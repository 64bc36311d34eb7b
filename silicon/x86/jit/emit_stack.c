/* SPDX-License-Identifier: MIT */
/*
 * PUSH, POP, LEAVE of the stack's usual size. RSP moves last. What is pushed and popped in one block shares
 * looks in the TLB, with CALL, RET and the frame's operands: span.c.
 */
#include "silicon/x86/jit/jit_priv.h"

x86_select_fn x86_sel_push, x86_sel_pop, x86_sel_leave, x86_sel_call, x86_sel_ret;

bool jit_stack_word(const struct x86_op *op, struct jit_stack *s)
{
	x86_select_fn *select = x86_insn_row(op->row)->select;

	if (!op->row || op->osize != 8 || op->flags & X86_OP_MEM)
		return false;
	if (select == x86_sel_push || select == x86_sel_call)
		*s = (struct jit_stack){ .write = true, .disp = -8, .by = -8 };
	else if ((select == x86_sel_pop && op->reg != X86_RSP) || select == x86_sel_ret)
		*s = (struct jit_stack){ .by = 8 };
	else
		return false;
	return true;
}

static void move_rsp(struct x86_jit_tr *t, s32 by)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP);

	jit_moves(t, X86_RSP, by);
	jit_lea(&t->a, rsp, jit_at(rsp, by), t->word);
}

static bool push_memory(struct x86_jit_tr *t)
{
	jit_mem(t, t->word, false);
	jit_load(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), t->word);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_mem_at(t, X86_SS, X86_RSP, -(s32)t->word, t->word, true);
	jit_load(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_store(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), t->word);
	move_rsp(t, -(s32)t->word);
	return true;
}

static bool push(struct x86_jit_tr *t)
{
	const struct x86_op *op = t->op;

	if (op->flags & X86_OP_MEM)
		return push_memory(t);
	jit_mem_stack(t, -(s32)t->word, true);
	if (op->opnd & (X86_OPND_REG_GPR | X86_OPND_RM_GPR)) {
		unsigned r = op->opnd & X86_OPND_REG_GPR ? op->reg : op->rm;

		jit_store(&t->a, jit_use(t, r, JIT_RAX), t->at, t->word);
	} else {
		jit_store_imm(&t->a, t->at, (s32)op->imm, t->word);
	}
	move_rsp(t, -(s32)t->word);
	return true;
}

static bool pop(struct x86_jit_tr *t)
{
	unsigned r = t->op->reg;
	int home = jit_home(r);

	if (t->op->flags & X86_OP_MEM)
		return false;
	jit_mem_stack(t, 0, false);
	jit_writes(t, r);
	jit_load(&t->a, home >= 0 ? (unsigned)home : JIT_RAX, t->at, t->word);
	if (r == X86_RSP)
		return true;
	if (home < 0)
		jit_def(t, r, JIT_RAX);
	move_rsp(t, t->word);
	return true;
}

static bool leave(struct x86_jit_tr *t)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP), rbp = (unsigned)jit_home(X86_RBP);

	jit_mem_at(t, X86_SS, X86_RBP, 0, t->word, false);
	jit_writes(t, X86_RSP);
	jit_writes(t, X86_RBP);
	jit_load(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), t->word);
	jit_lea(&t->a, rsp, jit_at(rbp, t->word), t->word);
	jit_mov_rr(&t->a, rbp, JIT_RAX);
	return true;
}

bool jit_emit_stack(struct x86_jit_tr *t)
{
	x86_select_fn *select;

	if (!t->op->row || t->op->osize != t->word || t->op->flags & X86_OP_END)
		return false;
	select = x86_insn_row(t->op->row)->select;
	if (select == x86_sel_push)
		return push(t);
	if (select == x86_sel_pop)
		return pop(t);
	if (select == x86_sel_leave)
		return leave(t);
	return false;
}
