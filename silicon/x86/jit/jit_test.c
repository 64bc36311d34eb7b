/* SPDX-License-Identifier: MIT */
/*
 * Blocks of random instructions with a random state, run by the interpreter and by
 * translations: registers, flags, vector state and memory must be the same, also where
 * the block ends in a fault.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <Zydis/Zydis.h>

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/jit/cache.h"
#include "silicon/x86/jit/rewrite.h"
#include "silicon/x86/jit/test_gen.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/test_cpu.h"

#define MAX_INSNS 14
#define USED (T_STACK + PAGE_SIZE - T_MEM)	/* what programs may reach of the test's memory */
#define READ_ONLY (T_DATA + 0x3000)
#define LIMIT 100000

static struct x86_cpu *interp, *jit;
static enum x86_mode mode = X86_MODE_64;
static unsigned word = 8;	/* of @mode: 8, 4 */
static ZydisDecoder dec;

/* What a run starts from, and what it leaves. */
struct state {
	struct x86_state s;
	struct x86_fpu fpu;
	u8 data[USED];
	enum x86_run_result result;
};
static struct state start, got[2];

static u8 code[MAX_INSNS * 15 + 1];
static unsigned code_len;

/* ---- Choosing ---- */

enum kind { KIND_VEC, KIND_X87, KIND_INT, KIND_ANY };

/* Memory operands that have a chance: a base, a small displacement, nothing else. */
static bool plain_address(const ZydisDecodedInstruction *in, const struct x86_op *op)
{
	if (!(op->flags & X86_OP_MEM))
		return true;
	return op->index == X86_REG_ZERO && op->base < X86_NR_GPRS && op->disp == (s8)op->disp &&
	       op->asize == word && (word != 8 || (op->seg != X86_FS && op->seg != X86_GS)) && in->raw.disp.size <= 8;
}

/* What differs by nature, or is defined by more than the processor. */
static bool unsuitable(const ZydisDecodedInstruction *in)
{
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP: case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED: case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_XBEGIN: case ZYDIS_MNEMONIC_RDMSR: case ZYDIS_MNEMONIC_RDPMC:
		return true;
	default:
		return false;
	}
}

static bool wanted(enum kind kind, const struct x86_op *op, const u8 *bytes)
{
	struct jit_insn in;
	bool parsed = jit_parse(bytes, op->len, word, &in);
	enum jit_class class = parsed ? jit_classify(op, &in) : JIT_CLASS_HANDLER;

	if (op->flags & X86_OP_END)
		return false;
	switch (kind) {
	case KIND_VEC: return class == JIT_CLASS_VEC || class == JIT_CLASS_VEC_ALIGNED || rnd(20) == 0;
	case KIND_X87: return (parsed && in.map == JIT_MAP_1 && (in.opcode & 0xf8) == 0xd8) || rnd(40) == 0;
	case KIND_INT: return class != JIT_CLASS_VEC && class != JIT_CLASS_VEC_ALIGNED;
	case KIND_ANY: break;
	}
	return true;
}

/* Registers that loops count by: nothing else in them may name these. */
static bool names_counter(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *ops)
{
	for (unsigned i = 0; i < in->operand_count; i++) {
		ZydisRegister r[3] = { ZYDIS_REGISTER_NONE };

		if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			r[0] = ops[i].reg.value;
		if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			r[1] = ops[i].mem.base, r[2] = ops[i].mem.index;
		for (unsigned k = 0; k < 3; k++) {
			ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r[k]);

			if (word == 8 ? big == ZYDIS_REGISTER_R9 || big == ZYDIS_REGISTER_R15 : big == ZYDIS_REGISTER_RDI)
				return true;
		}
	}
	return false;
}

static bool in_loop;

static void choose_insn(enum kind kind)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	struct x86_op op;
	u8 bytes[40];

	for (;;) {
		encoding(word == 8, bytes);
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, bytes, 15, &in, ops)))
			continue;
		if (x86_decode_bytes(interp, mode, word, bytes, 15, &op) != X86_DEC_OK || op.fn == x86_op_ud)
			continue;
		if (op.len == in.length && !unsuitable(&in) && (plain_address(&in, &op) || rnd(50) == 0) &&
		    wanted(kind, &op, bytes) && !(in_loop && names_counter(&in, ops)))
			break;
	}
	memcpy(code + code_len, bytes, op.len);
	code_len += op.len;
}

static u64 number(void)
{
	static const u64 special[] = {
		0, 1, ~0ull, 1ull << 63, 0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000001, 0x7ff0000000000001,
		1, 0x3f8000003f800000, 0x7f8000007fc00001, 0x0080000000000001, 0x4330000000000000, 0x7fefffffffffffff,
		0xffffffff, 0x80000000, 0x7f,
	};

	if (rnd(2))
		return special[rnd(ARRAY_SIZE(special))];
	return (u64)rnd(~0u) << 32 | rnd(~0u);
}

/* Registers that may be an address mostly are one, aligned mostly. */
static u64 pointer(void)
{
	u64 at = T_DATA + rnd(READ_ONLY + PAGE_SIZE - T_DATA);

	if (rnd(8))
		at &= ~31ull;
	if (rnd(20) == 0)
		at = T_UNMAPPED;
	return rnd(4) ? at : number();
}

/* Flat ones mostly; else ES, FS or GS has a base, a limit inside the memory, or a type that forbids stores. */
static void choose_segments(void)
{
	static const u8 some[] = { X86_ES, X86_FS, X86_GS };

	for (unsigned i = 0; i < ARRAY_SIZE(some); i++) {
		struct x86_segment *s = &start.s.seg[some[i]];

		s->base = rnd(2) ? 0 : rnd(8) * 0x800 - 0x1000;
		s->limit = rnd(8) ? 0xffffffff : (u32)(T_DATA + rnd(0x4000)) | 0xfff;
		s->ar = (rnd(8) ? 0x93 : 0x91) | X86_AR_G | X86_AR_DB;
		if (rnd(16) == 0)
			s->ar = X86_AR_UNUSABLE;
	}
}

static void choose_state(void)
{
	memset(&start, 0, sizeof(start));
	x86_get_state(interp, &start.s);
	for (unsigned i = 0; i < X86_NR_GPRS; i++)
		start.s.gpr[i] = pointer();
	if (word != 8)
		for (unsigned i = 0; i < X86_NR_GPRS; i++)
			start.s.gpr[i] = rnd(4) ? (u32)start.s.gpr[i] : (u32)start.s.gpr[i] | (u64)rnd(~0u) << 32;
	start.s.gpr[X86_RSP] = T_STACK - 8 * rnd(16);
	if (word != 8)
		choose_segments();
	start.s.rip = T_CODE;
	start.s.rflags = RFLAGS_1 | ((u64)rnd(1u << 12) & RFLAGS_ARITH);
	for (unsigned i = 0; i < 16; i++)
		for (unsigned k = 0; k < 4; k++)
			start.fpu.ymm[i].q[k] = number();
	start.fpu.mxcsr = 0x1f80 | rnd(64) | rnd(4) << 13;
	if (rnd(16) == 0)
		start.fpu.mxcsr = rnd(1u << 16);
	for (unsigned i = 0; i < 8; i++) {
		static const u16 exp[] = { 0, 1, 0x3fff, 0x7fff, 0xbfff, 0xffff, 0x7ffe, 0x4005 };

		start.fpu.st[i].mant = rnd(4) ? number() | 1ull << 63 : number();
		start.fpu.st[i].exp = rnd(2) ? exp[rnd(ARRAY_SIZE(exp))] : (u16)(0x3ff8 + rnd(16) + rnd(2) * 0x8000);
	}
	start.fpu.fcw = (u16)(0x7f | rnd(16) << 8);
	start.fpu.fsw = (u16)((rnd(1u << 15) & ~(FSW_ES | FSW_B)));
	start.fpu.ftw = (u8)rnd(256);
	start.fpu.fip = number();
	start.fpu.fdp = number();
	if (rnd(16) == 0) {
		start.fpu.fcw = (u16)(0x40 | (rnd(0x1000) & 0xf3f));
		start.fpu.fsw &= start.fpu.fcw | (u16)~FP_FLAGS;
	}
	for (unsigned i = 0; i < USED; i += 8) {
		u64 v = number();

		memcpy(start.data + i, &v, 8);
	}
	/* Once in a while there is something to raise at the first vector instruction. */
	start.s.cr0 &= ~(u64)CR0_TS;
	start.s.cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	if (rnd(32) == 0)
		start.s.cr0 |= CR0_TS;
	if (rnd(32) == 0)
		start.s.cr4 &= ~(u64)CR4_OSFXSR;
	if (rnd(32) == 0)
		start.s.cr4 &= ~(u64)CR4_OSXSAVE;
}

/* ---- Running ---- */

static void run(struct x86_cpu *cpu, struct state *out)
{
	x86_set_state(cpu, &start.s);
	cpu->fpu = start.fpu;
	cpu->slow = 0;
	cpu->activity = X86_ACT_ACTIVE;
	memcpy(test_mem(T_MEM), start.data, USED);
	x86_decode_recheck(cpu);
	out->result = x86_run(cpu, 0);
	x86_get_state(cpu, &out->s);
	out->fpu = cpu->fpu;
	memcpy(out->data, test_mem(T_MEM), USED);
}

static bool differs(const char *what, const void *a, const void *b, size_t n, bool print)
{
	if (!memcmp(a, b, n))
		return false;
	if (print) {
		fprintf(stderr, "%s:", what);
		for (unsigned k = 0; k < 2; k++) {
			fprintf(stderr, " %s ", k ? "jit" : "interp");
			for (size_t i = n; i-- > 0; )
				fprintf(stderr, "%02x", ((const u8 *)(k ? b : a))[i]);
		}
		fprintf(stderr, "\n");
	}
	return true;
}

static bool compare(bool print)
{
	const struct state *a = &got[0], *b = &got[1];
	bool bad = a->result != b->result;
	char name[16];

	if (bad && print)
		fprintf(stderr, "result: interp %u jit %u\n", a->result, b->result);
	for (unsigned i = 0; i < X86_NR_GPRS; i++) {
		snprintf(name, sizeof(name), "gpr%u", i);
		bad |= differs(name, &a->s.gpr[i], &b->s.gpr[i], 8, print);
	}
	bad |= differs("rip", &a->s.rip, &b->s.rip, 8, print);
	bad |= differs("rflags", &a->s.rflags, &b->s.rflags, 8, print);
	bad |= differs("cr2", &a->s.cr2, &b->s.cr2, 8, print);
	bad |= differs("mxcsr", &a->fpu.mxcsr, &b->fpu.mxcsr, 4, print);
	for (unsigned i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "ymm%u", i);
		bad |= differs(name, &a->fpu.ymm[i], &b->fpu.ymm[i], 32, print);
	}
	bad |= differs("x87", a->fpu.st, b->fpu.st, sizeof(a->fpu.st), print);
	bad |= differs("fsw", &a->fpu.fcw, &b->fpu.fcw, offsetof(struct x86_fpu, fop) - offsetof(struct x86_fpu, fcw), print);
	bad |= differs("fip", &a->fpu.fip, &b->fpu.fip, 16, print);
	for (unsigned i = 0; i < USED; i += 32) {
		if (!print && !memcmp(a->data + i, b->data + i, 32))
			continue;
		snprintf(name, sizeof(name), "mem %x", i);
		bad |= differs(name, a->data + i, b->data + i, 32, print);
	}
	return bad;
}

static void disassemble(void)
{
	ZydisFormatter f;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	char text[128];

	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	for (unsigned at = 0; at < code_len; at += in.length) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, code + at, code_len - at, &in, ops)))
			break;
		ZydisFormatterFormatInstruction(&f, &in, ops, in.operand_count_visible, text, sizeof(text), T_CODE + at, NULL);
		fprintf(stderr, "%#llx ", (unsigned long long)(T_CODE + at));
		for (unsigned i = 0; i < in.length; i++)
			fprintf(stderr, "%02x", code[at + i]);
		fprintf(stderr, " %s\n", text);
	}
}

/* The code at @code by both engines; a difference is shown and fails. How it ended. */
static enum x86_run_result run_both(const char *what, unsigned n)
{
	memcpy(start.data + (T_CODE - T_MEM), code, code_len);
	run(interp, &got[0]);
	run(jit, &got[1]);
	if (compare(false)) {
		fprintf(stderr, "%s %u\n", what, n);
		disassemble();
		compare(true);
		fail();
	}
	return got[0].result;
}

static unsigned campaign(enum kind kind, unsigned blocks)
{
	unsigned halted = 0;

	for (unsigned n = 0; n < blocks; n++) {
		unsigned insns = 1 + rnd(8);

		code_len = 0;
		while (insns--)
			choose_insn(kind);
		code[code_len++] = 0xf4;
		choose_state();
		halted += run_both("block", n) == X86_RUN_HALT;
	}
	return halted;
}

static void test_vec(void **state)
{
	assert_true(campaign(KIND_VEC, 1500) > 200);
}

static void test_x87(void **state)
{
	assert_true(campaign(KIND_X87, 1000) > 150);
}

static void test_int(void **state)
{
	assert_true(campaign(KIND_INT, 1500) > 200);
}

static void test_any(void **state)
{
	assert_true(campaign(KIND_ANY, 500) > 70);
}

/* The end of a block that branches to its start, counted by R9 or R15: some rounds. */
static void end_loop(void)
{
	static const char *const ends[] = {
		"49 ff c9 75", "41 ff cf 75", "49 83 e9 01 75", "41 83 ef 01 77", "49 ff cf 79", "41 ff c9 7f",
		"4d 8d 7f ff 49 83 ff 03 73", "49 ff c9 4d 85 c9 75", "f9 49 ff cf 75", "41 83 c7 ff 72", "49 83 c1 ff 41 f6 c1 0f 75",
		"49 83 ef 01 73",
	};

	static const char *const ends_32[] = {
		"4f 75", "ff cf 75", "83 ef 01 75", "83 ef 01 77", "4f 79", "ff cf 7f", "8d 7f ff 83 ff 03 73", "4f 85 ff 75",
		"f9 4f 75", "83 c7 ff 72", "83 c7 ff f7 c7 0f 00 00 00 75", "83 ef 01 73",
	};

	code_len += test_hex(code + code_len, word == 8 ? ends[rnd(ARRAY_SIZE(ends))] : ends_32[rnd(ARRAY_SIZE(ends_32))]);
	code[code_len] = (u8)-(code_len + 1);
	code_len++;
	code[code_len++] = 0xf4;
}

static void choose_loop(void)
{
	unsigned insns = rnd(6);

	code_len = 0;
	in_loop = true;
	while (insns--)
		choose_insn(rnd(3) ? KIND_INT : KIND_VEC);
	in_loop = false;
	end_loop();
}

static void set_counters(u64 n)
{
	if (word == 8)
		start.s.gpr[X86_R9] = start.s.gpr[X86_R15] = n;
	else
		start.s.gpr[X86_RDI] = n;
}

/* Only chained code has copies for loops: nothing is counted in these runs. */
static void test_loops(void **state)
{
	unsigned halted = 0;

	for (unsigned n = 0; n < 3000; n++) {
		choose_loop();
		choose_state();
		/* Pointers that run into the pages behind them. */
		for (unsigned i = 0; i < X86_NR_GPRS; i++)
			if (rnd(8) == 0)
				start.s.gpr[i] = READ_ONLY - rnd(64);
		set_counters(1 + rnd(8));
		halted += run_both("loop", n) == X86_RUN_HALT;
	}
	assert_true(halted > 500);
}

/* An access or two kinds of change at a few registers, so that many share a base. */
static void choose_access(void)
{
	static const struct { u8 len, bytes[3]; } forms[] = {
		{ 1, { 0x8b } }, { 1, { 0x89 } }, { 1, { 0x8b } }, { 1, { 0x01 } }, { 1, { 0x3b } }, { 1, { 0x8a } },
		{ 1, { 0x88 } }, { 2, { 0x0f, 0x28 } }, { 2, { 0x0f, 0x29 } }, { 2, { 0x0f, 0x10 } }, { 2, { 0x0f, 0x11 } },
		{ 1, { 0x87 } }, { 1, { 0x13 } }, { 2, { 0x0f, 0xb6 } }, { 2, { 0x0f, 0x58 } },
	};
	static const u8 bases_64[] = { X86_RBX, X86_RDI, X86_R13, X86_RSP, X86_R8 };
	static const u8 bases_32[] = { X86_RBX, X86_RSI, X86_RBP, X86_RSP, X86_RDX };
	const u8 *bases = word == 8 ? bases_64 : bases_32;
	/* A register that counts a loop: nobody's destination. */
	unsigned counter = word == 8 ? X86_R9 : X86_RDI;
	unsigned f = rnd(ARRAY_SIZE(forms)), base = bases[rnd(rnd(2) ? 2 : 5)], reg = rnd(word * 2);
	bool sib = base == X86_RSP || rnd(4) == 0, xmm = forms[f].len == 2 && forms[f].bytes[1] != 0xb6;
	unsigned index = sib && base != X86_RSP ? in_loop && rnd(2) ? X86_RCX : counter : X86_RSP;
	s32 disp = (s32)rnd(256) - 64;
	u8 *p = code + code_len;

	/* A base is one seldom. */
	if (reg == counter || reg == X86_R15 || (memchr(bases, (int)reg, 5) && rnd(16)))
		reg = X86_RAX;
	if (rnd(3))
		disp &= ~15;
	if (rnd(8) == 0 && word == 4) {
		/* The same as below. */
		const u8 change[7][3] = {
			{ 0x83, 0xc0 | base, (u8)disp }, { 0x83, 0xe8 | base, (u8)disp }, { 0x40 | base, 0x90, 0x90 },
			{ 0x8d, (u8)(0x40 | base * 9), (u8)disp }, { 0x40 | reg, 0x90, 0x90 }, { 0x50 | reg, 0x90, 0x90 },
			{ 0x58 | reg, 0x90, 0x90 },
		};

		/* An address with ESP has another form. */
		memcpy(p, change[base == X86_RSP ? rnd(3) : rnd(7)], 3);
		code_len += 3;
		return;
	}
	if (rnd(8) == 0 && word == 8) {
		/* add base, imm8; sub base, imm8; inc base; lea base, [base + disp8]; inc reg; push reg; pop reg */
		const u8 change[7][4] = {
			{ 0x48 | base >> 3, 0x83, 0xc0 | (base & 7), (u8)disp },
			{ 0x48 | base >> 3, 0x83, 0xe8 | (base & 7), (u8)disp },
			{ 0x48 | base >> 3, 0xff, 0xc0 | (base & 7), 0x90 },
			{ 0x48 | (base >> 3) * 5, 0x8d, 0x40 | (base & 7) * 9, (u8)disp },
			{ 0x48 | reg >> 3, 0xff, 0xc0 | (reg & 7), 0x90 },
			{ 0x40 | reg >> 3, 0x50 | (reg & 7), 0x90, 0x90 }, { 0x40 | reg >> 3, 0x58 | (reg & 7), 0x90, 0x90 },
		};
		u32 n = rnd(7);

		/* RSP as a base has another form. */
		memcpy(p, change[n == 3 && base == X86_RSP ? 0 : n], 4);
		code_len += 4;
		return;
	}
	if (word == 8)
		*p++ = (u8)(0x40 | (xmm || rnd(3) ? 8 : 0) | reg >> 3 << 2 | (index == X86_R9 ? 2 : 0) | base >> 3);
	memcpy(p, forms[f].bytes, forms[f].len);
	p += forms[f].len;
	*p++ = (u8)(0x80 | (reg & 7) << 3 | (sib ? 4 : base & 7));
	if (sib)
		*p++ = (u8)(rnd(4) << 6 | (index & 7) << 3 | (base & 7));
	memcpy(p, &disp, 4);
	code_len = (unsigned)(p + 4 - code);
}

/* Operands that share a look in the TLB, around page ends, each block with several states. */
static void test_spans(void **state)
{
	unsigned halted = 0;

	for (unsigned n = 0; n < 300; n++) {
		unsigned insns = 2 + rnd(MAX_INSNS - 2);

		code_len = 0;
		while (insns--)
			choose_access();
		if (rnd(3) == 0)
			end_loop();
		else
			code[code_len++] = 0xf4;
		for (unsigned k = 0; k < 10; k++) {
			choose_state();
			for (unsigned i = 0; i < X86_NR_GPRS; i++) {
				u64 page = T_DATA + rnd(4) * PAGE_SIZE;

				start.s.gpr[i] = page + (rnd(3) ? rnd(PAGE_SIZE) & ~15u : PAGE_SIZE - (rnd(256) & ~7u));
			}
			start.s.gpr[X86_RSP] = T_STACK - 512 - 8 * rnd(16);
			set_counters(1 + rnd(4));
			halted += run_both("spans", n) == X86_RUN_HALT;
		}
	}
	assert_true(halted > 400);
}

/* Instructions that a branch jumps over or not. */
static void choose_skipped(void)
{
	unsigned at;

	if (rnd(2)) {
		/* test, cmp, add, sub of two registers, none of them a counter's or a base's */
		static const u8 ops[] = { 0x85, 0x39, 0x01, 0x29 };
		static const u8 regs[] = { X86_RAX, X86_RCX, X86_RDX, X86_RSI };

		code[code_len++] = ops[rnd(ARRAY_SIZE(ops))];
		code[code_len++] = (u8)(0xc0 | regs[rnd(ARRAY_SIZE(regs))] << 3 | regs[rnd(ARRAY_SIZE(regs))]);
	}
	code[code_len++] = (u8)(0x70 | rnd(16));
	at = code_len++;
	for (unsigned n = 1 + rnd(2); n; n--) {
		if (rnd(8))
			choose_access();
		else
			choose_insn(KIND_INT);
	}
	code[at] = (u8)(code_len - at - 1);
}

/*
 * Branches that are taken in some rounds of a loop: translations go on behind them where the
 * interpreter has seen that.
 */
static void test_longer(void **state)
{
	unsigned halted = 0;
	u16 hot;

	run(jit, &got[1]);
	hot = jit->jit->hot;
	jit->jit->hot = 3;
	for (unsigned n = 0; n < 400; n++) {
		code_len = 0;
		in_loop = true;
		for (unsigned k = 1 + rnd(3); k; k--) {
			choose_access();
			choose_skipped();
		}
		in_loop = false;
		end_loop();
		for (unsigned k = 0; k < 3; k++) {
			choose_state();
			for (unsigned i = 0; i < X86_NR_GPRS; i++)
				start.s.gpr[i] = T_DATA + 256 + (rnd(3 * PAGE_SIZE - 512) & ~15u);
			start.s.gpr[X86_RSP] = T_STACK - 512 - 8 * rnd(16);
			start.s.gpr[X86_R9] = start.s.gpr[X86_R15] = 1 + rnd(40);
			halted += run_both("longer", n) == X86_RUN_HALT;
		}
	}
	jit->jit->hot = hot;
	assert_true(halted > 400);
}

/* Loops of many rounds, through several pages: looks in the TLB for many of them at once. RCX is an index in no order. */
static void choose_long_loop(void)
{
	static const char *const index[] = { "8d 4c 49 05 83 e1 7f", "80 c1 61", "69 c9 0d 66 19 00 83 e1 3f", "0f b6 c8", "" };
	unsigned insns = 1 + rnd(6);
	bool away = rnd(4) == 0;

	code_len = 0;
	in_loop = true;
	if (rnd(2))
		code_len += test_hex(code, index[rnd(ARRAY_SIZE(index))]);
	/* add rbx, 64; ...; sub rbx, 64: the same at the end, but not in between */
	if (away)
		code_len += test_hex(code + code_len, "48 83 c3 40");
	while (insns--)
		choose_access();
	if (away)
		code_len += test_hex(code + code_len, "48 83 eb 40");
	if (rnd(2))
		code_len += test_hex(code + code_len, index[rnd(ARRAY_SIZE(index))]);
	in_loop = false;
	end_loop();
}

static void test_long_loops(void **state)
{
	unsigned halted = 0;

	for (unsigned n = 0; n < 500; n++) {
		choose_long_loop();
		for (unsigned k = 0; k < 5; k++) {
			choose_state();
			for (unsigned i = 0; i < X86_NR_GPRS; i++)
				start.s.gpr[i] = T_DATA + 256 + (rnd(3 * PAGE_SIZE - 512) & ~(rnd(4) ? 15u : 3u));
			start.s.gpr[X86_RSP] = T_STACK - 2048 - 8 * rnd(16);
			start.s.gpr[X86_RCX] = rnd(128);
			start.s.gpr[X86_R9] = start.s.gpr[X86_R15] = 1 + rnd(rnd(2) ? 16 : 600);
			halted += run_both("long loop", n) == X86_RUN_HALT;
		}
	}
	assert_true(halted > 500);
}

/* Something that a frame consists of. */
static void choose_of_frame(void)
{
	unsigned reg = rnd(16), disp = rnd(24) * 8;
	u8 *p = code + code_len;

	/* Seldom RSP itself. */
	if (reg == X86_RSP && rnd(8))
		reg = X86_R12;
	switch (rnd(10)) {
	case 0 ... 2:	/* push reg */
		*p++ = (u8)(0x40 | reg >> 3);
		*p++ = (u8)(0x50 | (reg & 7));
		break;
	case 3 ... 5:	/* pop reg */
		*p++ = (u8)(0x40 | reg >> 3);
		*p++ = (u8)(0x58 | (reg & 7));
		break;
	case 6:		/* push imm8; cmp eax, imm8 */
		*p++ = 0x6a;
		*p++ = (u8)rnd(256);
		*p++ = 0x83;
		*p++ = 0xf8;
		*p++ = (u8)rnd(256);
		break;
	case 7:		/* add or sub rsp, imm8 */
		*p++ = 0x48;
		*p++ = 0x83;
		*p++ = rnd(2) ? 0xc4 : 0xec;
		*p++ = (u8)(disp & 0x38);
		break;
	default:	/* mov reg, [rsp + disp8] and back; xadd */
		if (reg == X86_RSP)
			reg = X86_RAX;
		*p++ = (u8)(0x48 | reg >> 3 << 2);
		if (rnd(8) == 0) {
			*p++ = 0x0f;
			*p++ = 0xc1;
		} else {
			*p++ = rnd(2) ? 0x89 : 0x8b;
		}
		*p++ = (u8)(0x44 | (reg & 7) << 3);
		*p++ = 0x24;
		*p++ = (u8)(disp & 0x78);
		break;
	}
	code_len = (unsigned)(p - code);
}

/* Frames around the ends of pages, of which one is read-only, and around nothing. */
static void test_frames(void **state)
{
	unsigned halted = 0;

	for (unsigned n = 0; n < 300; n++) {
		unsigned insns = 2 + rnd(MAX_INSNS - 2);

		code_len = 0;
		while (insns--)
			choose_of_frame();
		/* push T_CODE + n; ret; n: hlt */
		if (rnd(2)) {
			u32 end = (u32)T_CODE + code_len + 6;

			code[code_len++] = 0x68;
			memcpy(code + code_len, &end, 4);
			code_len += 4;
			code[code_len++] = 0xc3;
		}
		code[code_len++] = 0xf4;
		for (unsigned k = 0; k < 10; k++) {
			u64 ends[] = { T_DATA, T_DATA + PAGE_SIZE, READ_ONLY, READ_ONLY + PAGE_SIZE, T_MEM + USED };

			choose_state();
			start.s.gpr[X86_RSP] = rnd(3) ? T_STACK - 8 * rnd(256) : ends[rnd(ARRAY_SIZE(ends))] + 8 * rnd(16) - 64;
			if (rnd(16) == 0)
				start.s.gpr[X86_RSP] += 1 + rnd(7);
			halted += run_both("frame", n) == X86_RUN_HALT;
		}
	}
	assert_true(halted > 400);
}

/* stac; jmp +0; mov eax, [rbx]; clac; mov ecx, [rbx]; hlt: the second access must fault under SMAP. */
static void test_smap(void **state)
{
	code_len = test_hex(code, "0f 01 cb eb 00 8b 03 0f 01 ca 8b 0b f4");
	choose_state();
	start.s.gpr[X86_RBX] = T_DATA;
	start.s.cr4 |= CR4_SMAP;
	memcpy(start.data + (T_CODE - T_MEM), code, code_len);
	for (unsigned i = 0; i < 3; i++) {
		run(interp, &got[0]);
		run(jit, &got[1]);
		assert_false(compare(true));
		assert_int_equal(got[1].result, X86_RUN_SHUTDOWN);
		assert_int_equal(got[1].s.cr2, T_DATA);
	}
}

/* ---- Calls and returns ---- */

/* Three times: what is translated first is linked when it runs again. */
static void thrice(u64 rsp)
{
	choose_state();
	start.s.gpr[X86_RSP] = rsp;
	start.s.gpr[X86_RBX] = T_DATA;
	start.s.cr4 |= CR4_SMAP;
	memcpy(start.data + (T_CODE - T_MEM), code, code_len);
	for (unsigned i = 0; i < 3; i++) {
		run(interp, &got[0]);
		run(jit, &got[1]);
		assert_false(compare(true));
	}
}

/* mov rax, [rbx]; mov rcx, [rbx + 8]; call [rbx + 16]; hlt; ret: a span that is not that of the stack. */
static void test_call_beside_span(void **state)
{
	const u64 target = T_CODE + 11;

	code_len = test_hex(code, "48 8b 03 48 8b 4b 08 ff 53 10 f4 c3");
	choose_state();
	/* One of the two pages that are not where they are in memory. */
	start.s.gpr[X86_RBX] = T_DATA + PAGE_SIZE;
	start.s.gpr[X86_RSP] = T_STACK + 0xff0;
	start.s.cr4 &= ~(u64)CR4_SMAP;
	memcpy(start.data + (T_DATA + 2 * PAGE_SIZE + 16 - T_MEM), &target, 8);
	memcpy(start.data + (T_CODE - T_MEM), code, code_len);
	for (unsigned i = 0; i < 3; i++) {
		run(interp, &got[0]);
		run(jit, &got[1]);
		assert_false(compare(true));
		assert_int_equal(got[1].result, X86_RUN_HALT);
	}
}

/* Stacks in a supervisor page, so that they do not depend on AC. */
static void test_returns(void **state)
{
	static const char *const program[] = {
		/* mov ecx, 300; call f; hlt; f: inc eax; dec ecx; jz +5; call f; inc edx; ret: deeper than the ring */
		"b9 2c 01 00 00 e8 01 00 00 00 f4 ff c0 ff c9 74 05 e8 f5 ff ff ff ff c2 c3",
		/* call a; hlt; a: call b; ud2; b: add rsp, 8; ret: past one level */
		"e8 01 00 00 00 f4 e8 02 00 00 00 0f 0b 48 83 c4 08 c3",
		/* call a; a: ret, to its own call's end first and then to what was on the stack: not present */
		"6a 05 e8 00 00 00 00 c3",
		/* lea rax, [rip + 4]; push rax; ret; ud2; hlt: a return that nobody called for */
		"48 8d 05 04 00 00 00 50 c3 0f 0b f4",
		/* push 0; ret: the ring is empty */
		"6a 00 c3",
		/* mov rax, 8000000000000000h; push rax; ret 16: not canonical */
		"48 b8 00 00 00 00 00 00 00 80 50 c2 10 00",
		/* lea rax, [rip + 6]; call rax; hlt; 3 * nop; ret */
		"48 8d 05 06 00 00 00 ff d0 f4 90 90 90 c3",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(program); i++) {
		code_len = test_hex(code, program[i]);
		thrice(T_STACK + 0xff0);
	}
}

/*
 * call f; mov eax, [rbx]; call g; mov ecx, [rbx]; hlt; f: stac; ret; g: clac; ret: returns by another
 * TLB index than the calls, and the second access must fault.
 */
static void test_returns_smap(void **state)
{
	u64 *pte = test_pte(T_STACK), before = *pte;

	*pte &= ~4ull;
	x86_tlb_flush_all(interp);
	x86_tlb_flush_all(jit);
	code_len = test_hex(code, "e8 0a 00 00 00 8b 03 e8 07 00 00 00 8b 0b f4 0f 01 cb c3 0f 01 ca c3");
	thrice(T_STACK + 0xff0);
	assert_int_equal(got[1].result, X86_RUN_SHUTDOWN);
	assert_int_equal(got[1].s.cr2, T_DATA);
	*pte = before;
	x86_tlb_flush_all(interp);
	x86_tlb_flush_all(jit);
}

/*
 * One jump with eight targets, the first of which is another in each round: mov ecx, 200;
 * l: mov eax, ecx; and eax, 7; lea rsi, [rip + t]; lea rsi, [rsi + rax * 4]; jmp rsi;
 * t: 8 times add or sub edx, ecx; jmp m. m: xor byte [t], 28h; dec ecx; jnz l; hlt.
 */
static void test_many_targets(void **state)
{
	code_len = test_hex(code, "b9 c8 00 00 00 89 c8 83 e0 07 48 8d 35 06 00 00 00 48 8d 34 86 ff e6");
	for (unsigned i = 0; i < 8; i++) {
		code_len += test_hex(code + code_len, i & 1 ? "29 ca eb" : "01 ca eb");
		code[code_len++] = (u8)(4 * (7 - i));
	}
	code_len += test_hex(code + code_len, "80 35 d9 ff ff ff 28 ff c9 75 c3 f4");
	choose_state();
	start.s.cr4 &= ~(u64)CR4_SMAP;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(run_both("targets", i), X86_RUN_HALT);
}

/*
 * A page whose translation changes while it is on the ring of calls: the return must lead to what is
 * there then. mov ebx, 20; L: call f; inc eax (in the other page inc edx); dec ebx; jnz L; hlt.
 */
static void return_to_another_page(const char *callee)
{
	static const char *const caller[2] = {
		"bb 14 00 00 00 e8 f6 0f 00 00 ff c0 ff cb 75 f5 f4", "bb 14 00 00 00 e8 f6 0f 00 00 ff c2 ff cb 75 f5 f4",
	};
	const u64 pages[2] = { T_CODE, T_CODE + 2 * PAGE_SIZE }, f = T_CODE + PAGE_SIZE;
	u64 *pte = test_pte(T_CODE), before = *pte, *tables = test_pte(T_TABLES + 0x3000), no_tables = *tables;

	*tables = (T_TABLES + 0x3000) | 3;
	x86_tlb_flush_all(interp);
	x86_tlb_flush_all(jit);
	choose_state();
	for (unsigned i = 0; i < 2; i++)
		test_hex(start.data + (pages[i] - T_MEM), caller[i]);
	test_hex(start.data + (f - T_MEM), callee);
	start.s.gpr[X86_RSP] = T_STACK + 0xff0;
	start.s.cr4 &= ~(u64)CR4_SMAP;
	start.s.gpr[X86_RSI] = (u64)pte;
	start.s.gpr[X86_RDI] = T_CODE;
	start.s.gpr[X86_RCX] = (before & ~PAGE_MASK) | pages[1];
	start.s.gpr[X86_RAX] = start.s.gpr[X86_RDX] = 0;
	for (unsigned i = 0; i < 3; i++) {
		run(interp, &got[0]);
		assert_int_equal(*pte, before);
		run(jit, &got[1]);
		assert_int_equal(*pte, before);
		assert_false(compare(true));
		assert_int_equal(got[1].result, X86_RUN_HALT);
		assert_int_equal(got[1].s.gpr[X86_RAX], 10);
		assert_int_equal(got[1].s.gpr[X86_RDX], 10);
	}
	*tables = no_tables;
	x86_tlb_flush_all(interp);
	x86_tlb_flush_all(jit);
}

static void test_returns_to_another_page(void **state)
{
	/* xchg [rsi], rcx; invlpg [rdi]; ret */
	return_to_another_page("48 87 0e 0f 01 3f c3");
	/* xchg [rsi], rcx; mov r8, cr3; mov cr3, r8; ret */
	return_to_another_page("48 87 0e 41 0f 20 d8 41 0f 22 d8 c3");
}

/* The one address whose complement is 0, by an indirect jump and by the run loop. */
static void test_last_address(void **state)
{
	code_len = test_hex(code, "48 c7 c0 ff ff ff ff ff e0 f4");
	choose_state();
	memcpy(start.data + (T_CODE - T_MEM), code, code_len);
	for (unsigned i = 0; i < 3; i++) {
		run(interp, &got[0]);
		run(jit, &got[1]);
		assert_false(compare(true));
		assert_int_equal(got[1].s.rip, ~0ull);
	}
}

/* ---- 32-bit code ---- */

/* In @m, with the pages that tests rely on. */
static void enter_mode(enum x86_mode m, unsigned w)
{
	u64 pte;

	mode = m;
	word = w;
	ZydisDecoderInit(&dec, w == 8 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 w == 8 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
	test_mode(interp, m, w);
	test_mode(jit, m, w);
	if (m == X86_MODE_PROT)
		return;
	*test_pte(READ_ONLY) &= ~2ull;
	/* Neighbours that are none in memory: what is taken to be in the wrong page shows. */
	pte = *test_pte(T_DATA + PAGE_SIZE);
	*test_pte(T_DATA + PAGE_SIZE) = *test_pte(T_DATA + 2 * PAGE_SIZE);
	*test_pte(T_DATA + 2 * PAGE_SIZE) = pte;
	/* What is not restored before each run is out of reach. */
	for (u64 a = T_MEM + USED; a < T_MEM + T_SIZE; a += PAGE_SIZE)
		*test_pte(a) = 0;
	x86_tlb_flush_all(interp);
	x86_tlb_flush_all(jit);
}

static void test_32_bit_returns(unsigned programs)
{
	static const char *const program[] = {
		/* mov ecx, 300; call f; hlt; f: inc eax; dec ecx; jz +5; call f; inc edx; ret */
		"b9 2c 01 00 00 e8 01 00 00 00 f4 40 49 74 05 e8 f7 ff ff ff 42 c3",
		/* call a; hlt; a: call b; ud2; b: add esp, 4; ret: past one level */
		"e8 01 00 00 00 f4 e8 02 00 00 00 0f 0b 83 c4 04 c3",
		/* mov eax, 2000100bh; call eax; hlt; 4 * nop; ret 4 */
		"b8 0b 10 00 20 ff d0 f4 90 90 90 90 c2 04 00",
		/* These fault where pages are on. push 5; call a; a: ret: to its call's end, then to what was pushed */
		"6a 05 e8 00 00 00 00 c3",
		/* push 0; ret */
		"6a 00 c3",
		/* call [ebx]; hlt; push [ebx]; ret; with 66: a target of 16 bits */
		"66 e8 00 00", "66 c3", "66 68 00 10 66 c3", "ff 13 f4", "ff 33 c3",
		/* jmp f000h:12345678h, and call, lret: to other code segments */
		"ea 78 56 34 12 00 f0", "9a 78 56 34 12 00 f0", "cb",
	};

	for (unsigned i = 0; i < min(programs, (unsigned)ARRAY_SIZE(program)); i++) {
		code_len = test_hex(code, program[i]);
		thrice(T_STACK + 0xff0);
	}
}

static void test_32_bit(void **state)
{
	enter_mode(X86_MODE_PROT, 4);
	test_32_bit_returns(3);
	enter_mode(X86_MODE_COMPAT, 4);
	test_32_bit_returns(~0u);
	/* Without SMAP. */
	enter_mode(X86_MODE_COMPAT, 4);
	assert_true(campaign(KIND_INT, 3000) > 400);
	assert_true(campaign(KIND_VEC, 600) > 80);
	assert_true(campaign(KIND_X87, 400) > 60);
	assert_true(campaign(KIND_ANY, 500) > 70);
	test_loops(state);
	test_spans(state);
	enter_mode(X86_MODE_64, 8);
}

static int setup(void **state)
{
	setenv("USERKVM_JIT_HOT", "0", 1);
	interp = test_cpu_new();
	jit = x86_cpu_new(x86_model_find("intel"), 1);
	enter_mode(X86_MODE_64, 8);
	if (x86_set_engine(interp, X86_ENGINE_INTERP) || x86_set_engine(jit, X86_ENGINE_JIT))
		return -1;
	if (x86_set_xcr0(interp, 7) || x86_set_xcr0(jit, 7))
		return -1;
	return 0;
}

static int teardown(void **state)
{
	x86_cpu_free(jit);
	test_cpu_free(interp);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vec),
		cmocka_unit_test(test_x87),
		cmocka_unit_test(test_int),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_longer),
		cmocka_unit_test(test_long_loops),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_smap),
		cmocka_unit_test(test_last_address),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_call_beside_span),
		cmocka_unit_test(test_returns_smap),
		cmocka_unit_test(test_returns_to_another_page),
		cmocka_unit_test(test_many_targets),
		cmocka_unit_test(test_32_bit),
	};

	/* Another seed than in CI, to look further. */
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0) | 1;
	return cmocka_run_group_tests_name("jit", tests, setup, teardown);
}
