/* SPDX-License-Identifier: MIT */
/* Near branches. A target that needs a canonical check is left to the handler. */
#include "silicon/x86/jit/jit_priv.h"

x86_select_fn x86_sel_jcc, x86_sel_jmp;

/* In 64-bit mode, does the branch stay in the present half of the address space? */
static bool plain_target(const struct x86_jit_tr *t, u64 target)
{
	return (target ^ t->rip) >> 46 == 0;
}

static bool relative(const struct x86_jit_tr *t, u64 *target)
{
	*target = t->next_rip + t->op->imm;
	return t->op->osize == 8 && plain_target(t, *target) && plain_target(t, t->next_rip);
}

/* The condition code of Jcc: behind prefixes that mean nothing, 7xh or 0F 8xh. */
static unsigned condition(const struct x86_jit_tr *t)
{
	for (const u8 *p = t->bytes; ; p++)
		if (*p >> 4 == 7 || *p >> 4 == 8)
			return *p & 15;
}

static bool jcc(struct x86_jit_tr *t)
{
	u64 target;

	if (!relative(t, &target))
		return false;
	jit_flags_read(t);
	jit_exit(t, jit_jcc(&t->a, condition(t)), target);
	jit_exit(t, jit_jmp(&t->a), t->next_rip);
	t->ended = true;
	return true;
}

static bool jmp(struct x86_jit_tr *t)
{
	u64 target;

	if (!relative(t, &target))
		return false;
	jit_flags_read(t);
	jit_exit(t, jit_jmp(&t->a), target);
	t->ended = true;
	return true;
}

bool jit_emit_branch(struct x86_jit_tr *t)
{
	x86_select_fn *select = x86_insn_row(t->op->row)->select;

	/* Also not what has become #UD or #GP. */
	if (!(t->op->flags & X86_OP_END) || !t->op->row)
		return false;
	if (select == x86_sel_jcc)
		return jcc(t);
	if (select == x86_sel_jmp && !(t->op->opnd & (X86_OPND_READ | X86_OPND_RM_GPR)))
		return jmp(t);
	return false;
}
