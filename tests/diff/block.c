// SPDX-License-Identifier: MIT
/*
 * Random blocks of 5 to 60 instructions in 64-bit mode. Instructions are random
 * encodings as those of gen.c, with memory operands that we choose, so that a
 * block runs on: bases are registers that nothing else writes. Control flow is
 * ours: conditional branches ahead, loops that count down, jumps, calls and
 * returns through registers and the stack. Rarely something faults: a store to
 * the read-only page, a hole, a division, an undefined opcode. Stores into the
 * block's own code change immediates and opcodes of what is executed later or
 * was executed before.
 *
 * Registers: RBX RBP R12 R13 data, R14 index, R15 loop counter, RSP; the other
 * nine are anybody's.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/diff/forms.h"
#include "tests/diff/gen.h"

#define RESERVED (1u << 3 | 1u << 4 | 1u << 5 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15)
#define F_ALL 0xcd5u
#define MAX_PATCHES 4

struct out {
	struct diff_gen *g;
	struct diff_rng *r;
	struct diff_case *c;
	u32 undefined;		/* flags at this point of the straight line */
	/* Places whose bytes may be changed: immediates of 4 bytes, opcodes of ADD, SUB, CMP. */
	struct { u16 at, group; bool opcode; } patch[MAX_PATCHES];
	unsigned nr_patches;
	u16 groups;		/* given out */
};

static u64 here(const struct out *o)
{
	return o->c->in.rip + o->c->len;
}

static bool room(const struct out *o, unsigned insns)
{
	return o->c->nr + insns + 24 < DIFF_MAX_INSNS && o->c->len + insns * 15 + 200 < DIFF_CODE_MAX;
}

/* @group: the instructions that only make sense together (a loop's counter and its branch); 0: alone. */
static void put(struct out *o, const void *bytes, unsigned len, u16 group)
{
	struct diff_case *c = o->c;

	c->insn[c->nr++] = (struct diff_insn){ .offset = c->len, .group = group };
	memcpy(c->code + c->len, bytes, len);
	c->len += (u16)len;
}

#define PUT(o, group, ...) put(o, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }), group)

static u16 new_group(struct out *o)
{
	return ++o->groups;
}

static void put32(struct out *o, u8 a, u8 b, u32 v, u16 group)
{
	u8 p[6] = { a, b };

	memcpy(p + 2, &v, 4);
	put(o, p, sizeof(p), group);
}

/* ---- Flags ---- */

/* Undefined flags behind an instruction that found @before undefined. */
static u32 flags_after(const ZydisDecodedInstruction *in, u32 before)
{
	const ZydisAccessedFlags *f = in->cpu_flags;
	u32 undefined = (u32)diff_form_undefined(in), set = 0;
	/* A count of zero leaves the flags alone. */
	bool maybe = in->meta.category == ZYDIS_CATEGORY_SHIFT || in->meta.category == ZYDIS_CATEGORY_ROTATE ||
		     in->meta.category == ZYDIS_CATEGORY_STRINGOP;

	if (f) {
		set = f->modified | f->set_0 | f->set_1;
		undefined |= f->undefined & F_ALL;
	}
	return (maybe ? before : before & ~set) | undefined;
}

static bool reads_flags(const ZydisDecodedInstruction *in, u32 flags)
{
	if (in->mnemonic == ZYDIS_MNEMONIC_PUSHFQ || in->mnemonic == ZYDIS_MNEMONIC_PUSHF ||
	    in->mnemonic == ZYDIS_MNEMONIC_LAHF)
		return flags != 0;
	return in->cpu_flags && in->cpu_flags->tested & flags;
}

static bool is_branch(const ZydisDecodedInstruction *in)
{
	return in->meta.category == ZYDIS_CATEGORY_COND_BR || in->meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
	       in->meta.category == ZYDIS_CATEGORY_CALL || in->meta.category == ZYDIS_CATEGORY_RET;
}

bool diff_flow(struct diff_case *c)
{
	ZydisDecoder dec;
	u32 undefined = 0;

	ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < c->nr; i++) {
		ZydisDecodedInstruction in;
		unsigned at = c->insn[i].offset;

		c->insn[i].undefined = (u16)undefined;
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&dec, NULL, c->code + at, c->len - at, &in)))
			continue;
		if (undefined && (is_branch(&in) || reads_flags(&in, undefined)))
			return false;
		undefined = flags_after(&in, undefined);
	}
	/* The INT3 behind the block. */
	c->insn[c->nr].offset = c->len;
	c->insn[c->nr].undefined = (u16)undefined;
	return true;
}

/* cmp r, r: every flag has a value again. */
static void define_flags(struct out *o)
{
	if (o->undefined)
		PUT(o, 0, 0x48, 0x39, (u8)(0xc0 | diff_below(o->r, 64)));
	o->undefined = 0;
}

/* ---- Memory operands ---- */

/* Mostly aligned, mostly near; a store through it may hit the read-only page or the hole. */
static u64 anywhere(struct out *o)
{
	switch (diff_below(o->r, 40)) {
	case 0: return DIFF_RO + diff_below(o->r, 1024) / 16 * 16;
	case 1: return DIFF_HOLE + diff_below(o->r, 2048);
	case 2: return DIFF_RO - diff_below(o->r, 32);
	case 3: case 4: case 5: return DIFF_DATA + PAGE_SIZE * (1 + diff_below(o->r, 2)) - diff_below(o->r, 32);
	default: return DIFF_DATA + 256 + diff_below(o->r, DIFF_DATA_SIZE - 512) / 32 * 32;
	}
}

/* ModRM, SIB and displacement for register field @reg, with the REX bits that the encoding has. */
static unsigned mem_operand(struct out *o, u8 reg, bool rex_b, bool rex_x, unsigned behind, unsigned before, u8 *p)
{
	static const u8 low[] = { 3, 5, 3, 5, 4 }, high[] = { 4, 5 };
	struct diff_rng *r = o->r;
	u8 base = rex_b ? high[diff_below(r, 2)] : low[diff_below(r, 5)];
	u8 scale = (u8)(diff_below(r, 4) << 6);
	s32 disp = (s32)diff_below(r, 32) * 16 - 256;
	unsigned n = 0, how = diff_below(r, 16);

	reg = (u8)(reg << 3);
	if (diff_below(r, 10) == 0)
		disp += (s32)diff_below(r, 16);
	if (how == 0) {		/* RIP-relative */
		disp = (s32)(anywhere(o) - (here(o) + before + 5 + behind));
		p[n++] = reg | 5;
	} else if (how == 1 && !rex_x) {	/* absolute */
		disp = (s32)anywhere(o);
		p[n++] = reg | 4;
		p[n++] = scale | 0x25;
	} else {
		bool small = disp >= -128 && disp < 128 && diff_below(r, 4), sib = base == 4 || diff_below(r, 4) == 0;

		p[n++] = (u8)((small ? 0x40 : 0x80) | reg | (sib ? 4 : base));
		/* Index R14, which the encoding must allow; else none. */
		if (sib)
			p[n++] = (u8)(scale | (rex_x ? 6 : 4) << 3 | base);
		if (small) {
			p[n++] = (u8)disp;
			return n;
		}
	}
	memcpy(p + n, &disp, 4);
	return n + 4;
}

/* ---- One random instruction ---- */

/* Opcodes that programs are made of; the second byte after 0F is marked by 0F00. */
static const u16 common[] = {
	0x00, 0x01, 0x02, 0x03, 0x09, 0x0b, 0x11, 0x13, 0x19, 0x1b, 0x20, 0x21, 0x23, 0x29, 0x2b, 0x30, 0x31, 0x33,
	0x38, 0x39, 0x3a, 0x3b, 0x3d, 0x05, 0x25, 0x2d, 0x50, 0x51, 0x52, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x5e, 0x5f,
	0x63, 0x68, 0x69, 0x6b, 0x80, 0x81, 0x83, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x89, 0x8a, 0x8b, 0x8b,
	0x8d, 0x8d, 0x8f, 0x90, 0x98, 0x99, 0x9c, 0x9e, 0x9f, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac,
	0xad, 0xae, 0xaf, 0xb0, 0xb4, 0xb8, 0xb9, 0xbf, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xf5, 0xf6,
	0xf7, 0xf7, 0xf8, 0xf9, 0xfc, 0xfd, 0xfe, 0xff,
	0xf10, 0xf11, 0xf12, 0xf13, 0xf16, 0xf28, 0xf29, 0xf2a, 0xf2c, 0xf2d, 0xf2e, 0xf2f, 0xf40, 0xf42, 0xf44,
	0xf46, 0xf48, 0xf4c, 0xf4f, 0xf51, 0xf54, 0xf57, 0xf58, 0xf59, 0xf5a, 0xf5b, 0xf5c, 0xf5d, 0xf5e, 0xf5f,
	0xf60, 0xf62, 0xf6c, 0xf6e, 0xf6f, 0xf70, 0xf74, 0xf76, 0xf7e, 0xf7f, 0xf90, 0xf92, 0xf94, 0xf95, 0xf98,
	0xf9e, 0xfa3, 0xfa4, 0xfa5, 0xfab, 0xfac, 0xfaf, 0xfb0, 0xfb1, 0xfb3, 0xfb6, 0xfb7, 0xfba, 0xfbb, 0xfbc,
	0xfbd, 0xfbe, 0xfbf, 0xfc0, 0xfc1, 0xfc6, 0xfc8, 0xfc9, 0xfd4, 0xfd6, 0xfe7, 0xfef, 0xffe,
};

static unsigned common_bytes(struct diff_rng *r, u8 *p)
{
	u16 op = common[diff_below(r, ARRAY_SIZE(common))];
	unsigned n = 0;

	if (diff_below(r, 8) == 0)
		p[n++] = 0x66;
	if (diff_below(r, 12) == 0)
		p[n++] = diff_below(r, 2) ? 0xf2 : 0xf3;
	if (diff_below(r, 24) == 0)
		p[n++] = 0xf0;
	if (diff_below(r, 4))
		p[n++] = (u8)(0x40 | (diff_below(r, 2) ? 8 : 0) | diff_below(r, 8));
	if (op >> 8)
		p[n++] = 0x0f;
	p[n++] = (u8)op;
	for (unsigned i = 0; i < 10; i++)
		p[n++] = (u8)diff_rand(r);
	return n;
}

static int gpr(ZydisRegister reg)
{
	ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return reg == ZYDIS_REGISTER_NONE || big < ZYDIS_REGISTER_RAX || big > ZYDIS_REGISTER_R15 ?
		-1 : (int)(big - ZYDIS_REGISTER_RAX);
}

static bool suits(struct out *o, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops)
{
	struct diff_rng *r = o->r;
	bool stack = in->meta.category == ZYDIS_CATEGORY_PUSH || in->meta.category == ZYDIS_CATEGORY_POP;

	if (!diff_form_allowed(in, ops, false) || is_branch(in) || in->mnemonic == ZYDIS_MNEMONIC_INT3 ||
	    in->address_width != 64)
		return false;
	switch (in->mnemonic) {
	/* They mostly end the block. */
	case ZYDIS_MNEMONIC_DIV: case ZYDIS_MNEMONIC_IDIV: case ZYDIS_MNEMONIC_FLDCW: case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR: case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2:
		if (diff_below(r, 12))
			return false;
		break;
	/* The register moves the address. */
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS: case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
		if (ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY && ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			return false;
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperand *op = &ops[i];
		int reg = op->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr(op->reg.value) : -1;

		if (reg >= 0 && RESERVED >> reg & 1 && op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    !(stack && reg == 4 && op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN))
			return false;
		/* Indices of a vector lead anywhere; FS and GS of the host are not the guest's. */
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB || op->mem.segment == ZYDIS_REGISTER_FS ||
		     op->mem.segment == ZYDIS_REGISTER_GS))
			return false;
	}
	return true;
}

/* Registers that the encoding does not name, in a group with it: lea rdi, [rbp + d]; lea rsi, [rbx + d]; mov ecx, n. */
static u16 aim_hidden(struct out *o, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops)
{
	u16 group = new_group(o);
	u32 d = diff_below(o->r, 32) * 8;

	for (unsigned i = 0; i < in->operand_count; i++) {
		if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY || ops[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			continue;
		if (gpr(ops[i].mem.base) == 7 && diff_below(o->r, 10) == 0) {
			/* mov edi, the end of what can be written: faults half-way. */
			u32 a = (u32)DIFF_RO - diff_below(o->r, 64);

			PUT(o, group, 0xbf, (u8)a, (u8)(a >> 8), (u8)(a >> 16), (u8)(a >> 24));
		} else if (gpr(ops[i].mem.base) == 7) {
			PUT(o, group, 0x48, 0x8d, 0xbd, (u8)d, (u8)(d >> 8), 0, 0);
		}
		if (gpr(ops[i].mem.base) == 6)
			PUT(o, group, 0x48, 0x8d, 0xb3, (u8)(d + 24), (u8)((d + 24) >> 8), 0, 0);
	}
	if (in->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		PUT(o, group, 0xb9, (u8)diff_below(o->r, 48), 0, 0, 0);
	return group;
}

/* Replace the memory operand in @p by one of ours; new length, or 0. */
static unsigned retarget(struct out *o, u8 *p, const ZydisDecodedInstruction *in)
{
	bool vex = in->attributes & ZYDIS_ATTRIB_HAS_VEX, long_vex = vex && p[in->raw.vex.offset] == 0xc4;
	bool x = !vex && in->raw.rex.X, b = !vex && in->raw.rex.B;
	unsigned head = in->raw.modrm.offset, imm = 0, n;
	u8 bytes[32];

	if (long_vex) {
		x = !(p[in->raw.vex.offset + 1] & 0x40);
		b = !(p[in->raw.vex.offset + 1] & 0x20);
	}
	for (int i = 0; i < 2; i++)
		imm += in->raw.imm[i].size / 8;
	memcpy(bytes, p, head);
	n = head + mem_operand(o, in->raw.modrm.reg, b, x, imm, head, bytes + head);
	for (unsigned i = 0; i < imm; i++)
		bytes[n++] = (u8)diff_rand(o->r);
	if (n > 15)
		return 0;
	memcpy(p, bytes, n);
	return n;
}

static void random_insn(struct out *o)
{
	for (;;) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
		u8 p[64];
		unsigned len;
		u16 group;

		switch (diff_below(o->r, 6)) {
		case 0: diff_legacy_bytes(o->r, false, p); break;
		case 1: diff_vex_bytes(o->r, false, p); break;
		default: common_bytes(o->r, p); break;
		}
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&o->g->dec64, p, 15, &in, ops)))
			continue;
		if (!suits(o, &in, ops))
			continue;
		if (reads_flags(&in, o->undefined))
			define_flags(o);
		group = aim_hidden(o, &in, ops);
		if (in.attributes & ZYDIS_ATTRIB_HAS_MODRM && in.raw.modrm.mod != 3) {
			len = retarget(o, p, &in);
			if (!len || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&o->g->dec64, p, len, &in, ops)) ||
			    in.length != len || !suits(o, &in, ops))
				continue;
		} else if (in.raw.disp.size == 64) {
			u64 target = anywhere(o);

			memcpy(p + in.raw.disp.offset, &target, 8);
		}
		o->undefined = flags_after(&in, o->undefined);
		put(o, p, in.length, group);
		return;
	}
}

/* ---- Code that is changed ---- */

/* mov r, imm32 or add/sub/cmp r, r, remembered as a place to store to. */
static void patchable(struct out *o)
{
	static const u8 regs[] = { 0, 1, 2, 6, 7 };
	u8 d = regs[diff_below(o->r, 5)], s = (u8)diff_below(o->r, 8);
	unsigned nr = o->nr_patches;

	if (nr == MAX_PATCHES)
		return;
	o->patch[nr].opcode = diff_below(o->r, 2);
	o->patch[nr].at = o->c->len + 1;
	o->patch[nr].group = new_group(o);
	o->nr_patches++;
	if (o->patch[nr].opcode) {
		PUT(o, o->patch[nr].group, 0x48, 0x29, (u8)(0xc0 | s << 3 | d));
		o->undefined = 0;
	} else {
		u32 v = (u32)diff_rand(o->r);

		PUT(o, o->patch[nr].group, (u8)(0xb8 | d), (u8)v, (u8)(v >> 8), (u8)(v >> 16), (u8)(v >> 24));
	}
}

/* mov byte [rip + d], imm or mov [rip + d], eax. */
static void patch(struct out *o, unsigned i)
{
	static const u8 opcodes[] = { 0x01, 0x29, 0x39 };
	u64 target = o->c->in.rip + o->patch[i].at;
	u32 d;

	if (o->patch[i].opcode || diff_below(o->r, 2)) {
		d = (u32)(target - (here(o) + 7));
		PUT(o, o->patch[i].group, 0xc6, 0x05, (u8)d, (u8)(d >> 8), (u8)(d >> 16), (u8)(d >> 24),
		    o->patch[i].opcode ? opcodes[diff_below(o->r, 3)] : (u8)diff_rand(o->r));
	} else {
		d = (u32)(target - (here(o) + 6));
		put32(o, 0x89, 0x05, d, o->patch[i].group);
	}
}

/* ---- Control flow ---- */

static void items(struct out *o, unsigned n, bool loops);

/* A forward branch of two bytes around some instructions; rel8 is filled in behind them. */
static void skip(struct out *o, u8 opcode, unsigned n)
{
	unsigned at;

	define_flags(o);
	at = o->c->len;
	PUT(o, 0, opcode, 0);
	items(o, n, false);
	define_flags(o);
	/* Out of reach, it leads to its own end. */
	if (o->c->len - at - 2 < 128)
		o->c->code[at + 1] = (u8)(o->c->len - at - 2);
}

static void loop(struct out *o, unsigned n)
{
	u8 rounds = (u8)(1 + diff_below(o->r, 6));
	u16 group = new_group(o);
	unsigned head;
	u32 d;

	define_flags(o);
	PUT(o, group, 0x41, 0xbf, rounds, 0, 0, 0);	/* mov r15d, rounds */
	head = o->c->len;
	items(o, n, false);
	switch (diff_below(o->r, 3)) {
	case 0:		/* dec r15: CF lives on */
		define_flags(o);
		PUT(o, group, 0x49, 0xff, 0xcf);
		break;
	case 1:		/* sub r15, 1 */
		PUT(o, group, 0x49, 0x83, 0xef, 1);
		break;
	default:	/* lea r15, [r15 - 1]; cmp r15, 0 */
		PUT(o, group, 0x4d, 0x8d, 0x7f, 0xff);
		PUT(o, group, 0x49, 0x83, 0xff, 0);
		break;
	}
	o->undefined = 0;
	d = (u32)(head - (o->c->len + 6u));
	put32(o, 0x0f, 0x85, d, group);
}

/* Transfers to the next instruction but one, in every way there is. */
static void transfer(struct out *o)
{
	u16 group = new_group(o);

	define_flags(o);
	switch (diff_below(o->r, 7)) {
	case 0:		/* jmp short over a trap */
		PUT(o, group, 0xeb, 1);
		PUT(o, group, 0xcc);
		break;
	case 1:		/* jmp near over a trap */
		PUT(o, group, 0xe9, 1, 0, 0, 0);
		PUT(o, group, 0xcc);
		break;
	case 2:		/* lea rax, [rip + 3]; jmp rax; trap */
		PUT(o, group, 0x48, 0x8d, 0x05, 3, 0, 0, 0);
		PUT(o, group, 0xff, 0xe0);
		PUT(o, group, 0xcc);
		break;
	case 3:		/* call over a jmp to its return: call f; jmp out; f: ret */
		PUT(o, group, 0xe8, 2, 0, 0, 0);
		PUT(o, group, 0xeb, 1);
		PUT(o, group, 0xc3);
		break;
	case 4:		/* lea rcx, [rip + 4]; push rcx; ret; traps */
		PUT(o, group, 0x48, 0x8d, 0x0d, 4, 0, 0, 0);
		PUT(o, group, 0x51);
		PUT(o, group, 0xc3);
		PUT(o, group, 0xcc);
		PUT(o, group, 0xcc);
		break;
	case 5:		/* movzx eax, r15b; lea rcx, [rip + 6]; lea rcx, [rcx + 4 rax]; jmp rcx; 7 times add rdx, i */
		PUT(o, group, 0x41, 0x0f, 0xb6, 0xc7);
		PUT(o, group, 0x48, 0x8d, 0x0d, 6, 0, 0, 0);
		PUT(o, group, 0x48, 0x8d, 0x0c, 0x81);
		PUT(o, group, 0xff, 0xe1);
		for (u8 i = 0; i < 7; i++)
			PUT(o, group, 0x48, 0x83, 0xc2, i);
		break;
	default:	/* lea rdx, [rip + 4]; call rdx; jmp out; f: ret 0 */
		PUT(o, group, 0x48, 0x8d, 0x15, 4, 0, 0, 0);
		PUT(o, group, 0xff, 0xd2);
		PUT(o, group, 0xeb, 3);
		PUT(o, group, 0xc2, 0, 0);
		break;
	}
}

/* Something that faults, mostly. */
static void fault(struct out *o)
{
	switch (diff_below(o->r, 6)) {
	case 0:		/* xor ecx, ecx; div ecx */
		PUT(o, 0, 0x31, 0xc9);
		PUT(o, 0, 0xf7, 0xf1);
		o->undefined = F_ALL;
		break;
	case 1:
		PUT(o, 0, 0x0f, 0x0b);
		break;
	case 2:		/* mov eax, [hole] */
		PUT(o, 0, 0x8b, 0x04, 0x25, (u8)DIFF_HOLE, (u8)(DIFF_HOLE >> 8), (u8)(DIFF_HOLE >> 16), (u8)(DIFF_HOLE >> 24));
		break;
	case 3:		/* add [read-only], eax */
		PUT(o, 0, 0x01, 0x04, 0x25, (u8)DIFF_RO, (u8)(DIFF_RO >> 8), (u8)(DIFF_RO >> 16), (u8)(DIFF_RO >> 24));
		o->undefined = 0;
		break;
	case 4:		/* mov rax, not canonical; mov [rax], ecx */
		PUT(o, 0, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, (u8)(1 + diff_below(o->r, 200)), 0x10);
		PUT(o, 0, 0x89, 0x08);
		break;
	default:	/* hlt: not at CPL 3 */
		PUT(o, 0, 0xf4);
		break;
	}
}

static void items(struct out *o, unsigned n, bool loops)
{
	while (n-- > 0 && room(o, 4)) {
		switch (diff_below(o->r, 60)) {
		case 0: case 1:
			if (loops)
				loop(o, 2 + diff_below(o->r, 8));
			break;
		case 2: case 3: case 4:
			skip(o, 0x70 | (u8)diff_below(o->r, 16), 1 + diff_below(o->r, 4));
			break;
		case 5:
			skip(o, 0xe3, 1 + diff_below(o->r, 2));
			break;
		case 6: case 7:
			transfer(o);
			break;
		case 8: case 9:
			patchable(o);
			break;
		case 10: case 11:
			if (o->nr_patches)
				patch(o, diff_below(o->r, o->nr_patches));
			break;
		case 12:
			if (diff_below(o->r, 3) == 0)
				fault(o);
			break;
		default:
			random_insn(o);
			break;
		}
	}
}

static void block_state(struct diff_rng *r, struct diff_case *c)
{
	struct diff_state *s = &c->in;

	diff_rand_state(r, c, diff_below(r, 2));
	/* Unmasked exceptions and a full x87 stack end most blocks: not always. */
	if (diff_below(r, 4)) {
		s->mxcsr |= 0x1f80;
		s->fcw |= 0x3f;
		s->fsw &= 0x7f7f;
		s->ftw &= (u8)diff_rand(r);
	}
	s->gpr[3] = DIFF_DATA + PAGE_SIZE + diff_below(r, 16) * 16 - 128;
	s->gpr[5] = DIFF_DATA + 2 * PAGE_SIZE + diff_below(r, 16) * 16 - 128;
	s->gpr[12] = DIFF_DATA + 1024 + diff_below(r, 128) * 64;
	s->gpr[13] = DIFF_DATA + DIFF_DATA_SIZE - 2048 + diff_below(r, 96) * 16;
	s->gpr[14] = diff_below(r, 3) ? diff_below(r, 5) * 16 : diff_below(r, 64);
	s->gpr[15] = 1 + diff_below(r, 4);
	s->gpr[4] = DIFF_DATA + PAGE_SIZE + 1024 + diff_below(r, 256) * 16;
	if (diff_below(r, 4) == 0)
		s->gpr[4] += diff_below(r, 16);
	s->rip = DIFF_CODE + diff_below(r, PAGE_SIZE);
	if (diff_below(r, 2))
		s->rip = DIFF_CODE + PAGE_SIZE - diff_below(r, 200);	/* over the page boundary */
}

void diff_gen_block(struct diff_gen *g, struct diff_case *c)
{
	do {
		struct out o = { .g = g, .r = &g->rng, .c = c };

		memset(c, 0, sizeof(*c));
		block_state(o.r, c);
		items(&o, 5 + diff_below(o.r, diff_below(o.r, 4) ? 20 : 56), true);
		/* The last loop may lead over all of it. */
		define_flags(&o);
		if (diff_below(o.r, 4) == 0) {
			u16 group = new_group(&o);

			PUT(&o, group, 0x41, 0xff, 0xcf);	/* dec r15d */
			put32(&o, 0x0f, 0x8f, (u32)(0 - (c->len + 6u)), group);	/* jg start */
		}
	} while (!diff_flow(c));
}
