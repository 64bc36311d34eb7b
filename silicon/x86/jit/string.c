/* SPDX-License-Identifier: MIT */
/*
 * REP MOVS and REP STOS with addresses of the usual size, upwards: as many elements at a time as lie in
 * one page on both sides, by the host's own instruction, so that overlaps repeat patterns as
 * they should. Between two runs the guest's registers are exact and events are looked for;
 * whatever else comes up continues in the handler, which also knows what an interrupted REP is.
 */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/jit_priv.h"

#define CMOVA 0x0f47

/* @to := bytes from the address in @from to the end of its page. */
static void room_in_page(struct jit_asm *a, unsigned to, unsigned from)
{
	jit_op_rr(a, 0x89, from, to, 4);
	jit_alu_ri(a, JIT_OR, to, (s32)PAGE_MASK, 4);
	jit_op_rr(a, 0xf7, 3, to, 4);				/* neg */
}

/* gpr[RCX] in memory := elements of the next run. RCX is at home elsewhere. */
static void run_length(struct x86_jit_tr *t, bool movs, unsigned shift)
{
	unsigned count = (unsigned)jit_home(X86_RCX);
	struct jit_asm *a = &t->a;

	room_in_page(a, JIT_RAX, JIT_RDI);
	if (movs) {
		room_in_page(a, JIT_RCX, JIT_RSI);
		jit_alu_rr(a, JIT_CMP, JIT_RAX, JIT_RCX, 4);
		jit_op_rr(a, CMOVA, JIT_RAX, JIT_RCX, 4);
	}
	if (shift) {
		jit_op_rr(a, 0xc1, 5, JIT_RAX, 4);		/* shr eax, shift */
		jit_8(a, shift);
		/* An element across the page's end. */
		jit_slow_jcc(t, JIT_E);
	}
	jit_alu_rr(a, JIT_CMP, JIT_RAX, count, t->word);
	jit_op_rr(a, CMOVA, JIT_RAX, count, t->word);
	jit_store(a, JIT_RAX, jit_gpr(X86_RCX), 8);
}

static void host_rep(struct jit_asm *a, bool movs, unsigned size)
{
	jit_room(a);
	if (size == 2)
		jit_8(a, 0x66);
	jit_8(a, 0xf3);
	if (size == 8)
		jit_8(a, 0x48);
	jit_8(a, (movs ? 0xa4 : 0xaa) | (size > 1));
}

/* A host fault in the REP at @begin goes on here, with both pointers put back. */
static void landing(struct x86_jit_tr *t, u32 begin, bool movs)
{
	t->nr_access = t->first_access;
	t->access[t->nr_access++] = (struct jit_access){
		.begin = begin, .slow = (u32)(t->a.p - t->start), .cold = JIT_OWN_LANDING,
	};
	jit_load(&t->a, JIT_RDI, jit_gpr(X86_RDI), 8);
	if (movs)
		jit_load(&t->a, JIT_RSI, jit_gpr(X86_RSI), 8);
	jit_slow_jmp(t);
}

/* Guest pointer @r := what it was, moved by the run. */
static void move_on(struct x86_jit_tr *t, unsigned r, unsigned shift)
{
	unsigned home = (unsigned)jit_home(r);

	jit_load(&t->a, home, jit_gpr(r), 8);
	jit_lea(&t->a, home, jit_at_index(home, JIT_RAX, shift, 0), t->word);
}

static bool rep(struct x86_jit_tr *t, bool movs)
{
	unsigned size = t->op->osize, shift = (unsigned)__builtin_ctz(size), count = (unsigned)jit_home(X86_RCX);
	struct jit_asm *a = &t->a;
	struct jit_flags flags;
	u8 *again, *done;
	u32 begin;

	if (!(t->op->flags & (X86_OP_REP | X86_OP_REPNE)) || t->op->asize != t->word || t->op->seg == X86_FS ||
	    t->op->seg == X86_GS || jit_home(X86_RDI) != JIT_RDI || jit_home(X86_RSI) != JIT_RSI)
		return false;
	jit_writes(t, X86_RCX);
	jit_writes(t, X86_RDI);
	if (movs)
		jit_writes(t, X86_RSI);
	jit_flags_lost(t);
	jit_op_rm(a, 0xf7, 0, JIT_FIELD(rflags), 4);		/* test dword [..], imm32 */
	jit_32(a, RFLAGS_DF);
	jit_slow_jcc(t, JIT_NE);
	if (t->word != 8) {
		/* Pages are counted by offsets. */
		jit_op_rm(a, 0x83, 7, JIT_FIELD(seg_base[X86_ES]), 4);	/* cmp dword [..], 0 */
		jit_8(a, 0);
		jit_slow_jcc(t, JIT_NE);
	}
	jit_op_rr(a, 0x85, count, count, t->word);
	done = jit_jcc(a, JIT_E);
	again = a->p;
	run_length(t, movs, shift);
	jit_mem_at(t, X86_ES, X86_RDI, 0, 1, true);
	jit_grain_refuse(t);
	jit_lea(a, JIT_RCX, t->at, 8);
	if (movs) {
		jit_store(a, JIT_RCX, JIT_FIELD(jit_tmp), 8);
		jit_mem_at(t, t->op->seg, X86_RSI, 0, 1, false);
		jit_lea(a, JIT_RCX, t->at, 8);
		jit_store(a, JIT_RSI, jit_gpr(X86_RSI), 8);
		jit_mov_rr(a, JIT_RSI, JIT_RCX);
		jit_load(a, JIT_RCX, JIT_FIELD(jit_tmp), 8);
	}
	jit_store(a, JIT_RDI, jit_gpr(X86_RDI), 8);
	jit_mov_rr(a, JIT_RDI, JIT_RCX);
	jit_load(a, JIT_RCX, jit_gpr(X86_RCX), 8);
	if (!movs)
		jit_mov_rr(a, JIT_RAX, jit_use(t, X86_RAX, JIT_RAX));
	begin = (u32)(a->p - t->start);
	host_rep(a, movs, size);
	jit_load(a, JIT_RAX, jit_gpr(X86_RCX), 8);
	move_on(t, X86_RDI, shift);
	if (movs)
		move_on(t, X86_RSI, shift);
	jit_alu_rr(a, JIT_SUB, count, JIT_RAX, t->word);
	jit_bind(a, done);
	done = jit_jcc8(a, JIT_E);
	jit_op_rm(a, 0x83, 7, JIT_FIELD(events), 8);		/* cmp qword [events and slow], 0 */
	jit_8(a, 0);
	jit_slow_jcc(t, JIT_NE);
	jit_jmp_to(a, (u64)again + (u64)a->delta);
	jit_bind8(a, done);

	/* Where the flags are does not depend on which way is taken. */
	flags = t->flags;
	jit_flags_read(t);
	jit_exit(t, jit_jmp(a), t->next_rip);
	t->ended = true;
	t->flags = flags;
	landing(t, begin, movs);
	return true;
}

bool jit_emit_string(struct x86_jit_tr *t)
{
	x86_select_fn *sel = x86_insn_row(t->op->row)->select;

	if (t->op->fn == x86_op_ud || !t->op->row)
		return false;
	if ((sel == x86_sel_movs || sel == x86_sel_stos) && rep(t, sel == x86_sel_movs))
		return true;
	return jit_emit_string_one(t);
}
