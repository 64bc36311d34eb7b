/* SPDX-License-Identifier: MIT */
/* LODS, STOS, MOVS, SCAS and CMPS without REP, upwards; all else is the handlers'. */
#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/jit_priv.h"

/* Guest register @r moves by the size of an element. */
static void advance(struct x86_jit_tr *t, unsigned r)
{
	unsigned home = (unsigned)jit_home(r);

	jit_lea(&t->a, home, jit_at(home, t->op->osize), t->word);
}

static unsigned opcode(unsigned size, unsigned byte_form)
{
	return byte_form | (size > 1);
}

static void source(struct x86_jit_tr *t)
{
	jit_mem_at(t, t->op->seg, X86_RSI, 0, t->op->osize, false);
}

static void destination(struct x86_jit_tr *t, bool write)
{
	jit_mem_at(t, X86_ES, X86_RDI, 0, t->op->osize, write);
}

static void lods(struct x86_jit_tr *t)
{
	unsigned size = t->op->osize;

	jit_writes(t, X86_RAX);
	jit_writes(t, X86_RSI);
	source(t);
	jit_op_rm(&t->a, opcode(size, 0x8a), (unsigned)jit_home(X86_RAX), jit_at(JIT_RCX, 0), size);
	advance(t, X86_RSI);
}

static void stos(struct x86_jit_tr *t)
{
	jit_writes(t, X86_RDI);
	destination(t, true);
	jit_store(&t->a, (unsigned)jit_home(X86_RAX), jit_at(JIT_RCX, 0), t->op->osize);
	advance(t, X86_RDI);
}

static void movs(struct x86_jit_tr *t)
{
	unsigned size = t->op->osize;

	jit_writes(t, X86_RSI);
	jit_writes(t, X86_RDI);
	source(t);
	jit_op_rm(&t->a, opcode(size, 0x8a), JIT_RAX, jit_at(JIT_RCX, 0), size);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	destination(t, true);
	jit_load(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	jit_store(&t->a, JIT_RAX, jit_at(JIT_RCX, 0), size);
	advance(t, X86_RSI);
	advance(t, X86_RDI);
}

static void scas(struct x86_jit_tr *t)
{
	unsigned size = t->op->osize;

	jit_writes(t, X86_RDI);
	destination(t, false);
	jit_flags_dead(t);
	jit_op_rm(&t->a, opcode(size, 0x3a), (unsigned)jit_home(X86_RAX), jit_at(JIT_RCX, 0), size);
	jit_flags_set(t);
	advance(t, X86_RDI);
}

/* The destination is read first: with both bad the fault is its. */
static void cmps(struct x86_jit_tr *t)
{
	unsigned size = t->op->osize;

	jit_writes(t, X86_RSI);
	jit_writes(t, X86_RDI);
	destination(t, false);
	jit_op_rm(&t->a, opcode(size, 0x8a), JIT_RAX, jit_at(JIT_RCX, 0), size);
	jit_store(&t->a, JIT_RAX, JIT_FIELD(jit_tmp), 8);
	source(t);
	jit_flags_dead(t);
	jit_op_rm(&t->a, opcode(size, 0x8a), JIT_RAX, jit_at(JIT_RCX, 0), size);
	jit_op_rm(&t->a, opcode(size, 0x3a), JIT_RAX, JIT_FIELD(jit_tmp), size);
	jit_flags_set(t);
	advance(t, X86_RSI);
	advance(t, X86_RDI);
}

bool jit_emit_string_one(struct x86_jit_tr *t)
{
	x86_select_fn *sel = x86_insn_row(t->op->row)->select;
	static const struct { x86_select_fn *select; void (*emit)(struct x86_jit_tr *t); } known[] = {
		{ x86_sel_lods, lods }, { x86_sel_stos, stos }, { x86_sel_movs, movs }, { x86_sel_scas, scas },
		{ x86_sel_cmps, cmps },
	};

	if (t->op->flags & (X86_OP_REP | X86_OP_REPNE) || t->op->asize != t->word)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].select != sel)
			continue;
		jit_flags_lost(t);
		jit_op_rm(&t->a, 0xf7, 0, JIT_FIELD(rflags), 4);	/* test dword [..], imm32 */
		jit_32(&t->a, RFLAGS_DF);
		jit_slow_jcc(t, JIT_NE);
		known[i].emit(t);
		return true;
	}
	return false;
}
