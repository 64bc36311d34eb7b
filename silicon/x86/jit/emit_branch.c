/* SPDX-License-Identifier: MIT */
/* Near branches. A target that needs a canonical check is left to the handler. */
#include "silicon/x86/jit/jit_priv.h"

#include "silicon/x86/jit/cache.h"

x86_select_fn x86_sel_jcc, x86_sel_jmp, x86_sel_call, x86_sel_ret;

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

static void push_next_rip(struct x86_jit_tr *t)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP);

	jit_flags_read(t);
	if ((s64)t->next_rip == (s32)t->next_rip) {
		jit_store_imm(&t->a, jit_at(JIT_RCX, 0), (s32)t->next_rip, 8);
	} else {
		jit_mov_imm(&t->a, JIT_RAX, t->next_rip);
		jit_store(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), 8);
	}
	jit_lea(&t->a, rsp, jit_at(rsp, -8), 8);
}

static bool call(struct x86_jit_tr *t)
{
	u64 target;

	if (!relative(t, &target))
		return false;
	jit_mem_at(t, X86_SS, X86_RSP, -8, 8, true);
	push_next_rip(t);
	jit_exit(t, jit_jmp(&t->a), target);
	t->ended = true;
	return true;
}

/* ---- Indirect: the target's address is its key in the table of entries ---- */

static struct jit_mem table(const struct x86_jit_tr *t, s32 first)
{
	return jit_at_index(JIT_RBP, JIT_RCX, 3, first + (s32)(t->cpu->mmu_idx * JIT_HASH_SIZE * 8));
}

/*
 * RAX = target. RCX := its index if it is known, else the handler does the whole branch:
 * a target that is not canonical is never known. No flag changes.
 */
static void probe(struct x86_jit_tr *t)
{
	u8 *hit;

	jit_op_rr(&t->a, 0x0fb7, JIT_RCX, JIT_RAX, 4);		/* movzx ecx, ax */
	jit_load(&t->a, JIT_RCX, table(t, JIT_TABLE(tag)), 8);
	jit_lea(&t->a, JIT_RCX, jit_at_index(JIT_RCX, JIT_RAX, 0, 1), 8);
	hit = jit_jrcxz(&t->a);
	jit_slow_jmp(t);
	jit_bind8(&t->a, hit);
	jit_op_rr(&t->a, 0x0fb7, JIT_RCX, JIT_RAX, 4);
}

static void jump_table(struct x86_jit_tr *t)
{
	jit_op_rm(&t->a, 0xff, 4, table(t, JIT_TABLE(code)), 4);
	t->ended = true;
}

/* RAX := operand of an indirect branch. */
static void load_target(struct x86_jit_tr *t)
{
	if (t->op->flags & X86_OP_MEM) {
		jit_mem(t, 8, false);
		jit_flags_read(t);
		jit_load(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), 8);
		return;
	}
	jit_flags_read(t);
	if (jit_use(t, t->op->rm, JIT_RAX) != JIT_RAX)
		jit_mov_rr(&t->a, JIT_RAX, jit_use(t, t->op->rm, JIT_RAX));
}

static bool jmp_indirect(struct x86_jit_tr *t)
{
	load_target(t);
	probe(t);
	jump_table(t);
	return true;
}

static bool call_indirect(struct x86_jit_tr *t)
{
	load_target(t);
	probe(t);
	jit_load(&t->a, JIT_RAX, table(t, JIT_TABLE(code)), 8);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_mem_at(t, X86_SS, X86_RSP, -8, 8, true);
	push_next_rip(t);
	jit_op_rm(&t->a, 0xff, 4, JIT_FIELD(jit_tmp), 4);
	t->ended = true;
	return true;
}

static bool ret(struct x86_jit_tr *t)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP);

	jit_mem_at(t, X86_SS, X86_RSP, 0, 8, false);
	jit_flags_read(t);
	jit_load(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), 8);
	probe(t);
	jit_lea(&t->a, rsp, jit_at(rsp, 8 + (u16)t->op->imm), 8);
	jump_table(t);
	return true;
}

/* Not a far transfer: those read 6 or 10 bytes, or have an opcode of their own. */
bool jit_is_near(const struct x86_op *op, const u8 *p)
{
	if (op->osize != 8 || (op->opnd & X86_OPND_READ && op->msize != 8))
		return false;
	while (*p == 0x66 || *p == 0x67 || *p == 0xf2 || *p == 0xf3 || (*p & 0xf0) == 0x40 ||
	       (*p & 0xe7) == 0x26 || (*p & 0xfe) == 0x64)
		p++;
	return *p != 0xca && *p != 0xcb;
}

bool jit_emit_branch(struct x86_jit_tr *t)
{
	x86_select_fn *select = x86_insn_row(t->op->row)->select;
	bool indirect = t->op->opnd & (X86_OPND_READ | X86_OPND_RM_GPR);

	/* Also not what has become #UD or #GP. */
	if (!(t->op->flags & X86_OP_END) || !t->op->row || !jit_is_near(t->op, t->bytes))
		return false;
	if (select == x86_sel_jcc)
		return jcc(t);
	if (select == x86_sel_jmp)
		return indirect ? jmp_indirect(t) : jmp(t);
	if (select == x86_sel_call)
		return indirect ? call_indirect(t) : call(t);
	if (select == x86_sel_ret)
		return ret(t);
	return false;
}
