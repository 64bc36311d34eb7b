/* SPDX-License-Identifier: MIT */
/*
 * Near branches. A target that needs a canonical check is left to the handler.
 *
 * Calls and returns use the host's own, whose predictor knows where a return goes. A call
 * pushes the guest's return address and then the host's on the host stack (entry.c: the
 * ring); a return compares the former with what it has popped from the guest's stack. Equal:
 * the host returns behind the call, where a jump leads to the guest's return address as any
 * jump would that comes from another page. Not equal, because the guest does something else
 * than calling and returning: what is on the ring is forgotten, and the table finds the target.
 * All of them but direct jumps have the flags in cpu->jit_flags.
 */
#include "silicon/x86/jit/jit_priv.h"

#include "silicon/x86/jit/cache.h"

x86_select_fn x86_sel_jcc, x86_sel_jmp, x86_sel_call, x86_sel_ret;

/* Does the branch stay in the present half of the address space? 32-bit ones do. */
static bool plain_target(const struct x86_jit_tr *t, u64 target)
{
	return (target ^ t->rip) >> 46 == 0;
}

static bool relative(const struct x86_jit_tr *t, u64 *target)
{
	*target = t->next_rip + t->op->imm;
	if (t->word == 4)
		*target = (u32)*target;
	return t->op->osize == t->word && plain_target(t, *target) && plain_target(t, t->next_rip);
}

/* The condition code of Jcc: behind prefixes that mean nothing, 7xh or 0F 8xh. */
static unsigned condition(const struct x86_jit_tr *t)
{
	for (const u8 *p = t->bytes; ; p++)
		if (*p >> 4 == 7 || *p >> 4 == 8)
			return *p & 15;
}

/* The branch back leads to the code behind it; not taken, it leaves. */
static void next_round(struct x86_jit_tr *t, unsigned cc)
{
	struct jit_flags before;
	u8 *on;

	jit_flags_test(t, cc);
	if (t->flags.carry != JIT_CF_AWAY) {
		jit_exit(t, jit_jcc(&t->a, cc ^ 1), t->next_rip);
		return;
	}
	before = t->flags;
	on = jit_jcc8(&t->a, cc);
	jit_flags_read(t);
	jit_exit(t, jit_jmp(&t->a), t->next_rip);
	jit_bind8(&t->a, on);
	t->flags = before;
}

static bool jcc(struct x86_jit_tr *t)
{
	unsigned cc = condition(t);
	u64 target;

	if (!relative(t, &target))
		return false;
	/* In the middle of a block: it goes on. */
	if (t->nr + 1 < t->block->nr_ops) {
		jit_flags_read(t);
		jit_exit(t, jit_jcc(&t->a, cc), target);
		return true;
	}
	if (target == t->lin && jit_loop_unrolled(t)) {
		next_round(t, cc);
		t->ended = true;
		return true;
	}
	if (target == t->lin && jit_loop_fits(t)) {
		jit_flags_test(t, cc);
		jit_loop_back(t, jit_jcc(&t->a, cc));
		jit_flags_read(t);
	} else {
		jit_flags_read(t);
		jit_exit(t, jit_jcc(&t->a, cc), target);
	}
	jit_exit(t, jit_jmp(&t->a), t->next_rip);
	t->ended = true;
	return true;
}

static bool jmp(struct x86_jit_tr *t)
{
	u64 target;

	if (!relative(t, &target))
		return false;
	jit_flags_settle(t);
	jit_exit(t, jit_jmp(&t->a), target);
	t->ended = true;
	return true;
}

static bool imm32(u64 v)
{
	return (s64)v == (s32)v;
}

/* The guest's push; RAX holds the address afterwards if it is no immediate operand. */
static void push_next_rip(struct x86_jit_tr *t)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP);

	if (imm32(t->next_rip)) {
		jit_store_imm(&t->a, t->at, (s32)t->next_rip, t->word);
	} else {
		jit_mov_imm(&t->a, JIT_RAX, t->next_rip);
		jit_store(&t->a, JIT_RAX, t->at, t->word);
	}
	jit_lea(&t->a, rsp, jit_at(rsp, -(s32)t->word), t->word);
}

/* The host's call, to @target or [cpu->jit_tmp] if that is 0, and what comes after the return. */
static void host_call(struct x86_jit_tr *t, u64 target)
{
	struct jit_asm *a = &t->a;
	u64 again = jit_here(a);
	u8 *full;

	/* 0 where the ring ends. */
	jit_test_ri(a, JIT_RSP, 0xffff);
	full = jit_jcc8(a, JIT_E);
	if (imm32(t->next_rip)) {
		jit_8(a, 0x68);				/* push imm32 */
		jit_32(a, (u32)t->next_rip);
	} else {
		jit_8(a, 0x50);				/* push rax */
	}
	if (target)
		jit_exit_as(t, JIT_WAY_CALL, jit_call(a), target);
	else
		jit_op_rm(a, 0xff, 2, JIT_FIELD(jit_tmp), 4);
	jit_lea(a, JIT_RSP, jit_at(JIT_RSP, 8), 8);
	jit_exit_as(t, JIT_WAY_RETURN, jit_jmp(a), t->next_rip);
	jit_bind8(a, full);
	jit_load(a, JIT_RSP, JIT_FIELD(ring_top), 8);
	jit_jmp_to(a, again);
	t->ended = true;
}

static bool call(struct x86_jit_tr *t)
{
	u64 target;

	if (!relative(t, &target))
		return false;
	/* While they are still there. */
	jit_flags_save(t);
	jit_mem_stack(t, -(s32)t->word, true);
	push_next_rip(t);
	host_call(t, target);
	return true;
}

/* ---- Indirect: the target's address is its key in the table of entries ---- */

static struct jit_mem table(const struct x86_jit_tr *t, s32 first)
{
	return jit_at_index(JIT_RBP, JIT_RCX, 3, first + (s32)(jit_kind(t->cpu) * JIT_HASH_SIZE * 8));
}

/*
 * RAX = target. RCX := its index if it is known, else the handler does the whole branch:
 * a target that is not canonical is never known.
 */
static void probe(struct x86_jit_tr *t)
{
	jit_op_rr(&t->a, 0x0fb7, JIT_RCX, JIT_RAX, 4);		/* movzx ecx, ax */
	jit_alu_rm(&t->a, JIT_CMP, JIT_RAX, table(t, JIT_TABLE(rip)), 8);
	jit_slow_jcc(t, JIT_NE);
}

static void jump_table(struct x86_jit_tr *t)
{
	jit_op_rm(&t->a, 0xff, 4, table(t, JIT_TABLE(entry)), 4);
	t->ended = true;
}

/* RAX := operand of an indirect branch. */
static void load_target(struct x86_jit_tr *t)
{
	jit_flags_save(t);
	if (t->op->flags & X86_OP_MEM) {
		jit_operand_in_place(t, false);
		jit_load(&t->a, JIT_RAX, t->at, t->word);
		return;
	}
	if (jit_use(t, t->op->rm, JIT_RAX) != JIT_RAX)
		jit_op_rr(&t->a, 0x89, jit_use(t, t->op->rm, JIT_RAX), JIT_RAX, t->word);
}

static bool jmp_indirect(struct x86_jit_tr *t)
{
	load_target(t);
	jit_guess(t);
	probe(t);
	jit_guess_learn(t);
	jump_table(t);
	return true;
}

static bool call_indirect(struct x86_jit_tr *t)
{
	if (!plain_target(t, t->next_rip))
		return false;
	load_target(t);
	probe(t);
	jit_load(&t->a, JIT_RAX, table(t, JIT_TABLE(entry)), 8);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_mem_stack(t, -(s32)t->word, true);
	push_next_rip(t);
	host_call(t, 0);
	return true;
}

static bool ret(struct x86_jit_tr *t)
{
	unsigned rsp = (unsigned)jit_home(X86_RSP);
	s32 by = t->word + (u16)t->op->imm;
	u8 *other;

	jit_flags_save(t);
	jit_mem_stack(t, 0, false);
	jit_load(&t->a, JIT_RAX, t->at, t->word);
	/* Events are not looked for where the ring leads, but behind STI they must be. */
	if (!t->sti || t->nr != t->sti) {
		jit_alu_rm(&t->a, JIT_CMP, JIT_RAX, jit_at(JIT_RSP, 8), 8);
		other = jit_jcc8(&t->a, JIT_NE);
		jit_lea(&t->a, rsp, jit_at(rsp, by), t->word);
		jit_8(&t->a, 0xc3);
		jit_bind8(&t->a, other);
	}
	probe(t);
	jit_lea(&t->a, rsp, jit_at(rsp, by), t->word);
	jit_load(&t->a, JIT_RSP, JIT_FIELD(ring_top), 8);
	jump_table(t);
	return true;
}

/* Not a far transfer: those read 6 or 10 bytes, or have an opcode of their own. */
bool jit_is_near(const struct x86_op *op, const u8 *p, unsigned word)
{
	if (op->osize != word || (op->opnd & X86_OPND_READ && op->msize != word))
		return false;
	while (*p == 0x66 || *p == 0x67 || *p == 0xf2 || *p == 0xf3 || (*p & 0xf0) == 0x40 ||
	       (*p & 0xe7) == 0x26 || (*p & 0xfe) == 0x64)
		p++;
	return *p != 0xca && *p != 0xcb && *p != 0x9a && *p != 0xea;
}

bool jit_emit_branch(struct x86_jit_tr *t)
{
	x86_select_fn *select = x86_insn_row(t->op->row)->select;
	bool indirect = t->op->opnd & (X86_OPND_READ | X86_OPND_RM_GPR);

	/* Also not what has become #UD or #GP. */
	if (!(t->op->flags & X86_OP_END) || !t->op->row || !jit_is_near(t->op, t->bytes, t->word))
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
