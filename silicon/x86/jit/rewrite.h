/* SPDX-License-Identifier: MIT */
/*
 * Instructions as the translator rewrites them: the fields of one encoding, which
 * the caller changes (registers, memory operand) and has put together again for
 * the host. No semantics here and no allocation.
 *
 *	jit_parse(bytes, op->len, cpu->code_size, &in);
 *	in.reg = host_gpr[in.reg];
 *	jit_mem_base(&in, JIT_RCX, 0);
 *	len = jit_encode(&in, out);
 *
 * Host code is 64-bit code always; guest code may be 32 or 64-bit. Encodings that
 * exist for brevity come out of jit_parse() in their general form, so that their
 * registers can be replaced: ADD EAX, imm; INC r32 by 40h+r; XCHG EAX, r; MOV EAX, moffs of 32-bit code. MOV r, imm
 * and BSWAP stay as they are, with the register in @rm.
 *
 * What the operands are (GPR or vector, size, read or written, flags) is in struct
 * x86_op: X86_OPND_*, msize, flags_in, flags_out.
 */
#ifndef SILICON_X86_JIT_REWRITE_H
#define SILICON_X86_JIT_REWRITE_H

#include "base/types.h"

/* Room that jit_encode() wants at @out: the longest instruction, and what it writes behind it. */
#define JIT_MAX_INSN 24

/* Opcode maps, numbered as VEX numbers them; the map of one-byte opcodes is 0. */
enum jit_map { JIT_MAP_1, JIT_MAP_0F, JIT_MAP_0F38, JIT_MAP_0F3A };

/* No base or index register; the base of RIP-relative operands, displacement from the next instruction. */
#define JIT_NO_REG 0x40
#define JIT_RIP 0x41
/* AH CH DH BH are 10h..13h, as in struct x86_op. */
#define JIT_HIGH_BYTE 0x10

struct jit_insn {
	u16 flags;		/* JIT_I_* */
	u8 map, opcode;
	u8 reg, rm;		/* ModRM; @reg is the opcode extension where the opcode has one; @rm also 3-bit opcode registers */
	u8 vvvv;		/* VEX.vvvv, 0 if unused */
	u8 base, index, scale;	/* of the memory operand; @index is a vector register under JIT_I_VSIB */
	s32 disp;
	u8 imm_len;		/* bytes of @imm */
	u64 imm;		/* as encoded, zero-extended; a VEX register in bits 7:4 counts as immediate */
};

#define JIT_I_MODRM (1u << 0)
#define JIT_I_MEM (1u << 1)	/* ModRM.rm is memory: @base, @index, @scale, @disp; else register @rm */
#define JIT_I_VEX (1u << 2)
#define JIT_I_L (1u << 3)	/* VEX.L: 256 bits */
#define JIT_I_W (1u << 4)	/* REX.W or VEX.W */
#define JIT_I_66 (1u << 5)	/* operand size or mandatory prefix; VEX.pp */
#define JIT_I_F3 (1u << 6)
#define JIT_I_F2 (1u << 7)
#define JIT_I_LOCK (1u << 8)
#define JIT_I_REG8 (1u << 9)	/* @reg is a byte register */
#define JIT_I_RM8 (1u << 10)	/* @rm is a byte register if it is one */
#define JIT_I_EXT (1u << 11)	/* @reg is an opcode extension */
#define JIT_I_VSIB (1u << 12)
#define JIT_I_OPREG (1u << 13)	/* no ModRM, register in the opcode's low bits: @rm */
#define JIT_I_ADDR32 (1u << 14)	/* the guest's effective address is 32 bits; never encoded */

/*
 * @bytes, @len: an instruction that x86_decode_bytes() has accepted for @code_size (4 or 8).
 * Segment and unused prefixes are dropped. False: not a form that can be rewritten
 * (branches, moffs, 16-bit addresses, far pointers, ENTER and what exists in 32-bit code only).
 */
bool jit_parse(const u8 *bytes, unsigned len, unsigned code_size, struct jit_insn *in);

/*
 * Put @in together at @out, JIT_MAX_INSN bytes; returns the length. 0: there is no
 * such encoding: AH..BH beside a register that needs REX, or a base that is still JIT_RIP.
 */
unsigned jit_encode(const struct jit_insn *in, u8 *out);

/* The memory operand becomes [@base + @disp], @base a host register. */
static inline void jit_mem_base(struct jit_insn *in, u8 base, s32 disp)
{
	in->base = base;
	in->index = JIT_NO_REG;
	in->scale = 0;
	in->disp = disp;
	in->flags |= JIT_I_MEM;
}

/* The same with an index register, @scale the shift count. */
static inline void jit_mem_index(struct jit_insn *in, u8 base, u8 index, u8 scale, s32 disp)
{
	in->base = base;
	in->index = index;
	in->scale = scale;
	in->disp = disp;
	in->flags |= JIT_I_MEM;
}

/* The memory operand becomes register @reg. */
static inline void jit_mem_to_reg(struct jit_insn *in, u8 reg)
{
	in->rm = reg;
	in->flags &= (u16)~JIT_I_MEM;
}

/*
 * Can the translator emit this instruction for the host after it has replaced
 * registers and memory operand? Its only operands are those of the encoding,
 * it has no effect on control flow or system state, and can fault by its memory
 * access alone (vectors: after their state is known to be usable). See pure.def.
 */
enum jit_class {
	JIT_CLASS_HANDLER,	/* no: the interpreter's handler, or code of its own */
	JIT_CLASS_NOP,		/* nothing to emit, whatever the operands */
	JIT_CLASS_INT,		/* general registers only */
	JIT_CLASS_VEC,		/* vector registers, perhaps beside general ones (X86_OPND_*) */
	JIT_CLASS_VEC_ALIGNED,	/* the same; memory operand must be aligned to its size, else #GP(0) */
};
struct x86_op;
/* @in: @op parsed; a prefix that means something to the host only is dropped from it. */
enum jit_class jit_classify(const struct x86_op *op, struct jit_insn *in);

#endif
