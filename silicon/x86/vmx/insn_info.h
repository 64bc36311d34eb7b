/* SPDX-License-Identifier: MIT */
/*
 * VM-exit instruction information and displacements. SDM vol. 3C "Information for VM Exits
 * Due to Instruction Execution".
 */
#ifndef SILICON_X86_VMX_INSN_INFO_H
#define SILICON_X86_VMX_INSN_INFO_H

#include "silicon/x86/op.h"

/* 0 = 16, 1 = 32, 2 = 64 bits. */
static inline u32 vmx_size_code(unsigned bytes)
{
	return bytes == 8 ? 2 : bytes == 4 ? 1 : 0;
}

/*
 * The memory operand (scale, address size, segment, index, base), or register
 * @reg1 in register form. Bits that do not apply are 0.
 */
static inline u32 vmx_operand_info(const struct x86_op *op, unsigned reg1)
{
	u32 info = vmx_size_code(op->asize) << 7;

	if (!(op->flags & X86_OP_MEM))
		return 1u << 10 | (reg1 & 15) << 3;
	info |= (u32)op->seg << 15;
	info |= op->index < X86_NR_GPRS ? (op->scale & 3u) | (u32)op->index << 18 : 1u << 22;
	info |= op->base < X86_NR_GPRS ? (u32)op->base << 23 : 1u << 27;
	return info;
}

/* Exit qualification of instructions with a memory operand. */
static inline u64 vmx_displacement(const struct x86_cpu *cpu, const struct x86_op *op)
{
	u64 d = (u64)(s64)op->disp;

	if (!(op->flags & X86_OP_MEM))
		return 0;
	if (op->base == X86_REG_NEXT_RIP)
		d += cpu->gpr[X86_REG_NEXT_RIP];
	return op->asize == 8 ? d : op->asize == 4 ? (u32)d : (u16)d;
}

/* Ask the bus of an emulating processor; unwinds unless the instruction shall execute. */
void vmx_hook(struct x86_cpu *cpu, enum x86_emul_hook hook);

#endif
