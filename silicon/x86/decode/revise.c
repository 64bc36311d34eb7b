/* SPDX-License-Identifier: MIT */
/*
 * Blocks whose bytes have changed: what is the same stays decoded. Code that is rewritten
 * again and again mostly gets another immediate or another target, which needs no decoding
 * at all; else the instructions that differ are decoded, as long as each stays as long as
 * it was and the block ends where it did.
 */
#include <string.h>

#include "silicon/x86/decode/decode.h"

/* Opcodes whose immediate or displacement is the value in op->imm and decides nothing else. */
static bool plain_opcode(u8 op)
{
	switch (op) {
	case 0x68:			/* PUSH */
	case 0x81:
	case 0xa9:			/* TEST */
	case 0xb8 ... 0xbf:		/* MOV */
	case 0xc7:
	case 0xe8: case 0xe9:		/* CALL, JMP */
		return true;
	default:
		return op < 0x40 && (op & 7) == 5;
	}
}

/* How many bytes at the end of 64-bit instruction @p are such a value; 0: none, or not known to be. */
static unsigned plain_value(const struct x86_op *op, const u8 *p)
{
	const u8 *at = p;

	if ((*at & 0xf0) == 0x40)
		at++;
	if (at[0] == 0x0f)
		return (at[1] & 0xf0) == 0x80 ? 4 : 0;
	if (!plain_opcode(*at))
		return 0;
	return (*at & 0xf8) == 0xb8 && op->flags & X86_OP_REXW ? 8 : 4;
}

static u64 value_of(const u8 *p, unsigned n)
{
	u64 v = 0;

	memcpy(&v, p, n);
	return (u64)sign_extend(v, n * 8);
}

/* Instruction @old has become @now, of which only a plain value differs. */
static bool revalue(struct x86_op *op, const u8 *old, const u8 *now)
{
	unsigned n = plain_value(op, old), head;

	if (!n || op->len <= n)
		return false;
	head = op->len - n;
	if (memcmp(old, now, head) || op->imm != value_of(old + head, n))
		return false;
	op->imm = value_of(now + head, n);
	return true;
}

bool x86_block_revise(struct x86_cpu *cpu, struct x86_block *b, const u8 *mem)
{
	unsigned mode = b->key & 15, code_size = b->key >> 4;
	u8 *old = (u8 *)&b->op[b->nr_ops], now[X86_BLOCK_MAX_BYTES];

	x86_copy_code(now, mem, b->len);
	for (unsigned i = 0, at = 0; i < b->nr_ops; at += b->op[i++].len) {
		struct x86_op *op = &b->op[i], fresh;

		if (!memcmp(old + at, now + at, op->len))
			continue;
		if (code_size == 8 && revalue(op, old + at, now + at))
			continue;
		if (x86_decode_bytes(cpu, mode, code_size, now + at, op->len, &fresh) != X86_DEC_OK ||
		    fresh.len != op->len || (fresh.flags ^ op->flags) & X86_OP_END)
			return false;
		*op = fresh;
	}
	memcpy(old, now, b->len);
	return true;
}
