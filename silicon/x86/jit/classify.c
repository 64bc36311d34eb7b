/* SPDX-License-Identifier: MIT */
/* Which decoded instructions translated code can contain as they are: pure.def, minus what a form rules out. */
#include <cpuid.h>
#include <pthread.h>

#include "base/log.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/jit/rewrite.h"
#include "silicon/x86/op.h"

enum rule { RULE_NONE, RULE_NOP, RULE_INT, RULE_VEC, RULE_ALIGNED, RULE_LEGACY_ALIGNED };

#define PURE(select, class) x86_select_fn x86_sel_##select;
#include "silicon/x86/jit/pure.def"
#undef PURE

static const struct {
	x86_select_fn *select;
	u8 rule;
} pure[] = {
#define PURE(select, class) { x86_sel_##select, RULE_##class },
#include "silicon/x86/jit/pure.def"
#undef PURE
};

/* By row of the instruction table. */
#define MAX_ROWS 2048
static u8 rule_of_row[MAX_ROWS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* x86-64-v3 is given; what comes beyond it must be asked for. */
static bool host_has(u16 gate)
{
	u32 a, b, c, d, b7, c7;

	switch (gate) {
	case X86_FEAT_AES: case X86_FEAT_PCLMULQDQ: case X86_FEAT_ADX: case X86_FEAT_SHA: case X86_FEAT_MOVDIRI:
		break;
	default:
		return true;
	}
	if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d))
		return false;
	switch (gate) {
	case X86_FEAT_AES: return c & bit_AES;
	case X86_FEAT_PCLMULQDQ: return c & bit_PCLMUL;
	case X86_FEAT_ADX: return b7 & bit_ADX;
	case X86_FEAT_SHA: return b7 & bit_SHA;
	default: return c7 & bit_MOVDIRI;
	}
}

static void fill_rules(void)
{
	BUG_ON(x86_insn_rows() > MAX_ROWS);
	for (unsigned row = 0; row < x86_insn_rows(); row++) {
		const struct x86_insn_row *r = x86_insn_row(row);

		for (unsigned i = 0; i < ARRAY_SIZE(pure); i++)
			if (pure[i].select == r->select && host_has(r->gate))
				rule_of_row[row] = pure[i].rule;
	}
}

/* BT and its kin address memory by a register's upper bits too. */
static bool bit_string(const struct jit_insn *in)
{
	return in->map == JIT_MAP_0F && !(in->flags & JIT_I_VEX) && in->flags & JIT_I_MEM &&
	       (in->opcode & 0xe7) == 0xa3;
}

static bool scan(const struct x86_op *op)
{
	x86_select_fn *sel = x86_insn_row(op->row)->select;

	return sel == x86_sel_bsf || sel == x86_sel_bsr;
}

enum jit_class jit_classify(const struct x86_op *op, struct jit_insn *in)
{
	pthread_once(&once, fill_rules);
	switch ((enum rule)rule_of_row[op->row]) {
	case RULE_NOP:
		return JIT_CLASS_NOP;
	case RULE_INT:
		if (op->opnd & X86_OPND_IMPLICIT || bit_string(in))
			break;
		/* BSF and BSR of a guest that has no TZCNT and LZCNT: the prefix means nothing to it. */
		if (scan(op))
			in->flags &= (u16)~(JIT_I_F2 | JIT_I_F3);
		return JIT_CLASS_INT;
	case RULE_VEC:
		return op->opnd & X86_OPND_IMPLICIT ? JIT_CLASS_HANDLER : JIT_CLASS_VEC;
	case RULE_ALIGNED:
		return op->msize > 8 ? JIT_CLASS_VEC_ALIGNED : JIT_CLASS_VEC;
	case RULE_LEGACY_ALIGNED:
		return op->msize == 16 && !(op->flags & X86_OP_VEX) ? JIT_CLASS_VEC_ALIGNED : JIT_CLASS_VEC;
	case RULE_NONE:
		break;
	}
	return JIT_CLASS_HANDLER;
}
