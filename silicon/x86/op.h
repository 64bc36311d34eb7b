/* SPDX-License-Identifier: MIT */
/*
 * A decoded instruction, and how a row of spec/x86/insn_*.def becomes one.
 *
 * Decoding happens once per page content (decode/). A row names a selector;
 * the selector looks at libZydis' result, fills the operands it needs and
 * returns the handler for that form and width. Handlers contain semantics
 * only; they run as op->fn(cpu, op) with cpu->rip at the instruction and
 * cpu->gpr[X86_REG_NEXT_RIP] behind it. A branch writes that slot.
 */
#ifndef SILICON_X86_OP_H
#define SILICON_X86_OP_H

#include "silicon/x86/cpu.h"

typedef void x86_fn(struct x86_cpu *cpu, const struct x86_op *op);

struct x86_op {
	x86_fn *fn;
	u64 imm;		/* immediate, sign-extended; moffs; branch displacement; far pointer: offset | sel << 32 */
	s32 disp;		/* of the memory operand */
	u16 row;		/* index of its row in the instruction table */
	u16 flags;		/* X86_OP_* */
	u8 len;			/* bytes, 1..15 */
	u8 reg;			/* ModRM.reg with REX.R (or opcode register with REX.B) */
	u8 rm;			/* register form: ModRM.rm with REX.B */
	u8 vvvv;		/* VEX third operand */
	u8 base, index;		/* GPR, X86_REG_ZERO or X86_REG_NEXT_RIP */
	u8 scale;		/* shift count 0..3 */
	u8 seg;			/* effective segment of the memory operand, rules of 64-bit mode applied */
	u8 osize;		/* operand size in bytes 2, 4, 8 (1 for byte forms) */
	u8 asize;		/* address size in bytes 2, 4, 8 */
	u8 imm2;		/* ENTER level, 4th register operand (is4), second immediate */
	u8 vl;			/* vector length in bytes: 16, 32 */
	u8 msize;		/* bytes of the memory operand as the manual has it (selectors may change osize), 0 = none */
	u8 opnd;		/* X86_OPND_* */
	u8 flags_in, flags_out;	/* arithmetic flags read or perhaps kept, and possibly changed: X86_AF_* */
};

#define X86_OP_MEM (1u << 0)	/* ModRM operand is memory */
#define X86_OP_LOCK (1u << 1)
#define X86_OP_REP (1u << 2)	/* F3, the last of F2/F3 */
#define X86_OP_REPNE (1u << 3)	/* F2 */
#define X86_OP_REXW (1u << 4)
#define X86_OP_VEX (1u << 5)
#define X86_OP_REX (1u << 6)	/* any REX: byte registers 4..7 are SPL..DIL */
#define X86_OP_END (1u << 7)	/* ends a block: set by decode/ from the row or a selector */
#define X86_OP_OSZ (1u << 8)	/* 66 prefix present */
#define X86_OP_SEGOVR (1u << 9)	/* an effective segment override was given */
#define X86_OP_FLAT (1u << 10)	/* 64-bit mode and address, not FS or GS: effective = linear address */
#define X86_OP_BRANCH (1u << 11)	/* retires as a branch instruction, far ones included */

/* What the operands of the encoding are; reg, rm, vvvv as encoded, before any selector moved them. */
#define X86_OPND_READ (1u << 0)		/* memory operand */
#define X86_OPND_WRITE (1u << 1)
#define X86_OPND_REG_GPR (1u << 2)	/* ModRM.reg or the opcode's register is a general register */
#define X86_OPND_RM_GPR (1u << 3)
#define X86_OPND_VVVV_GPR (1u << 4)
#define X86_OPND_IMPLICIT (1u << 5)	/* uses general registers that are not in the encoding */

/* Six arithmetic flags in a byte: RFLAGS bits 7:0 without bit 3 (always 0), which stands for OF. */
#define X86_AF_OF (1u << 3)
#define X86_AF_ALL 0xddu

/*
 * Byte registers: r < 16 = low byte of GPR r; 0x10 | (0..3) = AH CH DH BH.
 * decode/ stores reg/rm that way for byte operands.
 */
static inline u8 *x86_reg8(struct x86_cpu *cpu, unsigned r)
{
	return (u8 *)&cpu->gpr[r & 15] + (r >> 4);
}

/* Branches of a block from @op to before @end. Only translations are made of blocks with more than one. */
static inline u32 x86_branches(const struct x86_op *op, const struct x86_op *end)
{
	u32 n = 0;

	for (; op < end; op++)
		n += (op->flags / X86_OP_BRANCH) & 1;
	return n;
}

/* The instruction in execution does not retire, those before it in its block have. */
static inline void x86_retire_before(struct x86_cpu *cpu)
{
	cpu->insn_count += (u64)(cpu->op - cpu->op_first);
	if (unlikely(cpu->insn_limit != ~0ull))
		cpu->branch_count += x86_branches(cpu->op_first, cpu->op);
	cpu->op = NULL;
}

/* ---- Decoding ---- */

/* libZydis types are only seen by decode/ and selectors. */
struct x86_dec;		/* decode/dec.h */
typedef x86_fn *x86_select_fn(const struct x86_dec *d, struct x86_op *op);

/* Where a row is valid. */
#define X86_IN_REAL 1u	/* real and virtual-8086 */
#define X86_IN_LEGACY 2u	/* protected, compatibility */
#define X86_IN_64 4u
#define X86_IN_ANY 7u
#define X86_IN_PROT 6u	/* not real, not virtual-8086 */
#define X86_IN_NOT64 3u

/*
 * One row per instruction and form:
 *   INSN(mnemonic, form, gate, modes, priv, vmx, svm, select)
 * mnemonic: Zydis' name (ZYDIS_MNEMONIC_<mnemonic>); form: ANY, or MMX, XMM,
 * X87, VEX where one mnemonic stands for several instructions; gate:
 * X86_FEAT_<gate> (NONE = always); modes X86_IN_*; priv: CPL0, IOPL, ANY,
 * documentation of the check that the handler makes; vmx, svm: the intercept
 * (enum x86_intercept, NONE = never exits by itself); select: x86_sel_<select>.
 */
struct x86_insn_row {
	const char *name;
	u16 mnemonic;
	u8 form;
	u16 gate;
	u8 modes;
	u8 priv;
	u8 vmx;
	u8 svm;
	x86_select_fn *select;
};
enum x86_form { X86_FORM_ANY, X86_FORM_MMX, X86_FORM_XMM, X86_FORM_X87, X86_FORM_VEX };
enum x86_priv { X86_PRIV_ANY, X86_PRIV_CPL0, X86_PRIV_IOPL, X86_PRIV_SPECIAL };

#endif
