/* SPDX-License-Identifier: MIT */
/* Host instructions: see asm.h. SDM vol. 2 "Instruction Format". */
#include "silicon/x86/jit/asm.h"

/* Prefixes, REX and opcode bytes. @rm, @index: what REX.B and REX.X extend. */
static void head(struct jit_asm *a, unsigned op, unsigned reg, unsigned index, unsigned rm, unsigned size,
		 bool byte_rm)
{
	unsigned rex = (size == 8 ? 8 : 0) | (reg & 8) >> 1 | (index & 8) >> 2 | (rm & 8) >> 3;

	jit_room(a);
	if (op >> 16)
		jit_8(a, op >> 16);
	if (size == 2)
		jit_8(a, 0x66);
	if (rex || (size == 1 && (reg >= 4 || (byte_rm && rm >= 4))))
		jit_8(a, 0x40 | rex);
	if (op >> 8 & 0xff)
		jit_8(a, op >> 8 & 0xff);
	jit_8(a, op & 0xff);
}

void jit_op_rr(struct jit_asm *a, unsigned op, unsigned reg, unsigned rm, unsigned size)
{
	head(a, op, reg, 0, rm, size, true);
	jit_8(a, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void jit_op_rm(struct jit_asm *a, unsigned op, unsigned reg, struct jit_mem m, unsigned size)
{
	bool sib = m.index != JIT_RSP || (m.base & 7) == JIT_RSP;
	unsigned mod = m.disp == 0 && (m.base & 7) != JIT_RBP ? 0 : m.disp == (s8)m.disp ? 1 : 2;

	if (m.base == JIT_NO_BASE) {
		/* SIB without base: always 32 bits of displacement. */
		head(a, op, reg, m.index, 0, size, false);
		jit_8(a, (reg & 7) << 3 | 4);
		jit_8(a, (unsigned)m.scale << 6 | (m.index & 7) << 3 | 5);
		jit_32(a, (u32)m.disp);
		return;
	}
	head(a, op, reg, m.index == JIT_RSP ? 0 : m.index, m.base, size, false);
	jit_8(a, mod << 6 | (reg & 7) << 3 | (sib ? 4 : m.base & 7));
	if (sib)
		jit_8(a, (unsigned)m.scale << 6 | (m.index & 7) << 3 | (m.base & 7));
	if (mod == 1)
		jit_8(a, (u8)m.disp);
	else if (mod == 2)
		jit_32(a, (u32)m.disp);
}

void jit_mov_imm(struct jit_asm *a, unsigned reg, u64 v)
{
	if (v == (u32)v) {
		head(a, 0xb8 | (reg & 7), 0, 0, reg, 4, false);
		jit_32(a, (u32)v);
	} else if ((s64)v == (s32)v) {
		jit_op_rr(a, 0xc7, 0, reg, 8);
		jit_32(a, (u32)v);
	} else {
		head(a, 0xb8 | (reg & 7), 0, 0, reg, 8, false);
		jit_64(a, v);
	}
}

void jit_store_imm(struct jit_asm *a, struct jit_mem m, s32 v, unsigned size)
{
	jit_op_rm(a, size == 1 ? 0xc6 : 0xc7, 0, m, size);
	for (unsigned i = 0; i < (size > 4 ? 4 : size); i++)
		jit_8(a, (u32)v >> 8 * i & 0xff);
}

void jit_rorx(struct jit_asm *a, unsigned to, unsigned from, unsigned n, unsigned size)
{
	jit_room(a);
	jit_8(a, 0xc4);
	jit_8(a, (to & 8 ? 0 : 0x80) | 0x40 | (from & 8 ? 0 : 0x20) | 3);
	jit_8(a, (size == 8 ? 0x80 : 0) | 0x78 | 3);
	jit_8(a, 0xf0);
	jit_8(a, 0xc0 | (to & 7) << 3 | (from & 7));
	jit_8(a, n);
}

static void bits(struct jit_asm *a, unsigned pp, unsigned to, unsigned from, unsigned mask)
{
	jit_room(a);
	jit_8(a, 0xc4);
	jit_8(a, (to & 8 ? 0 : 0x80) | 0x40 | (mask & 8 ? 0 : 0x20) | 2);
	jit_8(a, (~from & 15) << 3 | pp);
	jit_8(a, 0xf5);
	jit_8(a, 0xc0 | (to & 7) << 3 | (mask & 7));
}

void jit_pext(struct jit_asm *a, unsigned to, unsigned from, unsigned mask)
{
	bits(a, 2, to, from, mask);
}

void jit_pdep(struct jit_asm *a, unsigned to, unsigned from, unsigned mask)
{
	bits(a, 3, to, from, mask);
}

void jit_alu_ri(struct jit_asm *a, enum jit_alu f, unsigned reg, s32 v, unsigned size)
{
	if (size == 1) {
		jit_op_rr(a, 0x80, f, reg, 1);
		jit_8(a, (u8)v);
	} else if (v == (s8)v) {
		jit_op_rr(a, 0x83, f, reg, size);
		jit_8(a, (u8)v);
	} else {
		jit_op_rr(a, 0x81, f, reg, size);
		jit_8(a, (u32)v & 0xff);
		jit_8(a, (u32)v >> 8 & 0xff);
		if (size > 2) {
			jit_8(a, (u32)v >> 16 & 0xff);
			jit_8(a, (u32)v >> 24);
		}
	}
}

u8 *jit_jmp(struct jit_asm *a)
{
	jit_room(a);
	jit_8(a, 0xe9);
	jit_32(a, 0);
	return a->p - 4;
}

u8 *jit_call(struct jit_asm *a)
{
	jit_room(a);
	jit_8(a, 0xe8);
	jit_32(a, 0);
	return a->p - 4;
}

u8 *jit_jcc(struct jit_asm *a, unsigned cc)
{
	jit_room(a);
	jit_8(a, 0x0f);
	jit_8(a, 0x80 | cc);
	jit_32(a, 0);
	return a->p - 4;
}

u8 *jit_jcc8(struct jit_asm *a, unsigned cc)
{
	jit_room(a);
	jit_8(a, 0x70 | cc);
	jit_8(a, 0);
	return a->p - 1;
}

u8 *jit_jrcxz(struct jit_asm *a)
{
	jit_room(a);
	jit_8(a, 0xe3);
	jit_8(a, 0);
	return a->p - 1;
}

void jit_jmp_to(struct jit_asm *a, u64 target)
{
	jit_room(a);
	jit_8(a, 0xe9);
	jit_32(a, (u32)(target - (jit_here(a) + 4)));
}

void jit_call_to(struct jit_asm *a, u64 target)
{
	jit_room(a);
	jit_8(a, 0xe8);
	jit_32(a, (u32)(target - (jit_here(a) + 4)));
}

void jit_test_ri(struct jit_asm *a, unsigned reg, u32 v)
{
	jit_op_rr(a, 0xf7, 0, reg, 4);
	jit_32(a, v);
}

void jit_bytes(struct jit_asm *a, const u8 *p, unsigned n)
{
	jit_room(a);
	while (n--)
		jit_8(a, *p++);
}

void jit_push(struct jit_asm *a, unsigned reg)
{
	jit_room(a);
	if (reg & 8)
		jit_8(a, 0x41);
	jit_8(a, 0x50 | (reg & 7));
}

void jit_pop(struct jit_asm *a, unsigned reg)
{
	jit_room(a);
	if (reg & 8)
		jit_8(a, 0x41);
	jit_8(a, 0x58 | (reg & 7));
}

void jit_push_flags(struct jit_asm *a)
{
	static const u8 code[] = { 0x9f, 0x0f, 0x90, 0xc0, 0x50 };	/* lahf; seto al; push rax */

	jit_bytes(a, code, sizeof(code));
}

void jit_pop_flags(struct jit_asm *a)
{
	static const u8 code[] = { 0x58, 0x04, 0x7f, 0x9e };	/* pop rax; add al, 7fh; sahf */

	jit_bytes(a, code, sizeof(code));
}
