/* SPDX-License-Identifier: MIT */
/*
 * What a selector sees: libZydis' result plus the mode it was decoded for.
 */
#ifndef SILICON_X86_DECODE_DEC_H
#define SILICON_X86_DECODE_DEC_H

#include <Zydis/Zydis.h>

#include "silicon/x86/cpu.h"
#include "silicon/x86/op.h"

struct x86_dec {
	struct x86_cpu *cpu;		/* features and model only: decoding depends on nothing else */
	u8 mode;			/* enum x86_mode */
	u8 code_size;			/* 2, 4, 8 */
	const struct x86_insn_row *row;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/*
 * decode/ fills every field of struct x86_op that follows from the encoding
 * (registers, memory operand, immediates, sizes, prefixes) before it calls the
 * selector; a selector only picks the handler and may adjust fields. It returns
 * x86_op_ud for a form that is #UD (LOCK misuse, wrong operand kind).
 */
x86_fn x86_op_ud;

/* Selectors of every family, named in the tables. */
#define INSN(mnemonic, form, gate, modes, priv, vmx, svm, select) x86_select_fn x86_sel_##select;
#include "spec/x86/insn_all.def"
#undef INSN

#endif
