/* SPDX-License-Identifier: MIT */
/*
 * Random encodings that the decoder accepts, taken apart, given other registers and
 * another memory operand, put together for 64-bit code and decoded by libZydis: every
 * operand must be the one that was asked for. What counts as pure must have no operand
 * that escaped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <Zydis/Zydis.h>

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/jit/rewrite.h"
#include "silicon/x86/jit/test_gen.h"
#include "silicon/x86/test_cpu.h"

#define NEW_BASE 11
#define NEW_DISP 0x1234

static struct x86_cpu *cpu;
static ZydisDecoder dec64, dec32;
/* ---- One encoding ---- */

struct insn {
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

static bool decode(const ZydisDecoder *dec, const u8 *bytes, unsigned n, struct insn *i)
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(dec, bytes, n, &i->in, i->op));
}

/* ---- The substitution ---- */

struct subst {
	u8 gpr[16], vec[16];
};

static void shuffle(u8 *p, unsigned from)
{
	for (unsigned i = 0; i < 16; i++)
		p[i] = (u8)i;
	for (unsigned i = 15; i > from; i--) {
		unsigned j = from + rnd(i - from + 1);
		u8 t = p[i];

		p[i] = p[j];
		p[j] = t;
	}
}

/* AH..BH must stay among themselves. */
static void make_subst(struct subst *s)
{
	shuffle(s->gpr, 4);
	shuffle(s->vec, 0);
	if (rnd(2))
		for (unsigned i = 0; i < 4; i++)
			s->gpr[i] ^= 3;
}

static u8 map_gpr(const struct subst *s, u8 r)
{
	return r & JIT_HIGH_BYTE ? JIT_HIGH_BYTE | s->gpr[r & 3] : s->gpr[r & 15];
}

/* @third: VEX.vvvv is an operand; it must stay 0 otherwise. */
static void substitute(const struct subst *s, const struct x86_op *op, struct jit_insn *in, bool third)
{
	bool mem = in->flags & JIT_I_MEM, rm_gpr = op->opnd & X86_OPND_RM_GPR;

	/* The register of the opcode counts as reg; it is in rm after parsing. */
	if ((in->flags & JIT_I_OPREG) || (in->flags & JIT_I_EXT && op->opnd & X86_OPND_REG_GPR))
		rm_gpr = true;
	if (in->flags & JIT_I_MODRM && in->opcode == 0x87 && in->map == JIT_MAP_1)
		rm_gpr = true;
	if (!(in->flags & JIT_I_EXT))
		in->reg = op->opnd & X86_OPND_REG_GPR ? map_gpr(s, in->reg) : s->vec[in->reg & 15];
	if (mem) {
		if (in->flags & JIT_I_VSIB)
			jit_mem_index(in, NEW_BASE, s->vec[in->index], in->scale, NEW_DISP);
		else
			jit_mem_base(in, NEW_BASE, NEW_DISP);
	} else {
		in->rm = rm_gpr ? map_gpr(s, in->rm) : s->vec[in->rm & 15];
	}
	if (third)
		in->vvvv = op->opnd & X86_OPND_VVVV_GPR ? map_gpr(s, in->vvvv) : s->vec[in->vvvv];
}

/* ---- What must come out ---- */

static bool is_vec(ZydisRegister r)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(r);

	return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM;
}

static bool is_gpr(ZydisRegister r)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(r);

	return c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
}

static int number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return JIT_HIGH_BYTE | (r - ZYDIS_REGISTER_AH);
	if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8)
		return r < ZYDIS_REGISTER_AH ? r - ZYDIS_REGISTER_AL : r - ZYDIS_REGISTER_SPL + 4;
	return ZydisRegisterGetId(r);
}

static bool same_register(const struct subst *s, const ZydisDecodedOperand *a, const ZydisDecodedOperand *b,
			  bool encoded)
{
	int want = number(a->reg.value);

	if (encoded && is_gpr(a->reg.value))
		want = map_gpr(s, (u8)want);
	/* BLENDVPS and SHA256RNDS2 have an XMM0 that stays. */
	if (encoded && is_vec(a->reg.value) && a->encoding != ZYDIS_OPERAND_ENCODING_IS4 &&
	    a->encoding != ZYDIS_OPERAND_ENCODING_NONE)
		want = s->vec[want];
	return ZydisRegisterGetClass(a->reg.value) == ZydisRegisterGetClass(b->reg.value) &&
	       number(b->reg.value) == want;
}

static bool same_memory(const struct subst *s, const ZydisDecodedOperand *a, const ZydisDecodedOperand *b)
{
	if (b->mem.base != ZYDIS_REGISTER_RAX + NEW_BASE || b->mem.disp.value != NEW_DISP)
		return false;
	if (a->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		return number(b->mem.index) == s->vec[number(a->mem.index)] && a->mem.scale == b->mem.scale;
	return b->mem.index == ZYDIS_REGISTER_NONE && (a->mem.type == b->mem.type);
}

static bool same_operand(const struct subst *s, const ZydisDecodedOperand *a, const ZydisDecodedOperand *b,
			 bool short_form)
{
	bool encoded = a->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT || short_form;

	if (a->type != b->type || a->size != b->size)
		return false;
	switch (a->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER: return same_register(s, a, b, encoded);
	case ZYDIS_OPERAND_TYPE_MEMORY: return !encoded || same_memory(s, a, b);
	case ZYDIS_OPERAND_TYPE_IMMEDIATE: return a->imm.value.u == b->imm.value.u;
	default: return true;
	}
}

static bool same(const struct subst *s, const struct insn *a, const struct insn *b, bool short_form)
{
	if (a->in.mnemonic != b->in.mnemonic || a->in.operand_count_visible != b->in.operand_count_visible)
		return false;
	for (unsigned i = 0; i < a->in.operand_count_visible; i++) {
		/* XCHG has no order. */
		unsigned j = a->in.mnemonic == ZYDIS_MNEMONIC_XCHG && short_form ? 1 - i : i;

		if (!same_operand(s, &a->op[i], &b->op[j], short_form) &&
		    !(i != j && same_operand(s, &a->op[i], &b->op[i], short_form)))
			return false;
	}
	return true;
}

static void dump(const char *what, const u8 *p, unsigned n)
{
	fprintf(stderr, "%s:", what);
	for (unsigned i = 0; i < n; i++)
		fprintf(stderr, " %02x", p[i]);
	fprintf(stderr, "\n");
}

/* A pure form has no operand besides those that substitute() reached. */
static bool escaped(const struct insn *i, const struct x86_op *op, bool short_form)
{
	unsigned memories = 0;

	for (unsigned k = 0; k < i->in.operand_count; k++) {
		const ZydisDecodedOperand *o = &i->op[k];
		bool given = o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT || short_form;

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			memories++;
			if (o->mem.type == ZYDIS_MEMOP_TYPE_MEM && (!given || op->msize != o->size / 8 || !op->msize))
				return true;
		}
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || given)
			continue;
		if (is_gpr(o->reg.value) || ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	return memories > 1;
}

static bool is_mmx(const struct insn *i)
{
	for (unsigned k = 0; k < i->in.operand_count; k++)
		if (i->op[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(i->op[k].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

static bool has_third(const struct insn *i)
{
	for (unsigned k = 0; k < i->in.operand_count_visible; k++)
		if (i->op[k].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
			return true;
	return false;
}

/* ---- The campaign ---- */

struct counts {
	unsigned accepted, parsed, pure, high;
};

static void one(bool bits64, struct counts *n)
{
	struct insn a, b;
	struct jit_insn in, id;
	struct subst s;
	struct x86_op op;
	u8 bytes[40], out[JIT_MAX_INSN];
	unsigned len;
	bool short_form;
	enum jit_class class;

	len = encoding(bits64, bytes);
	if (!decode(bits64 ? &dec64 : &dec32, bytes, 15, &a) ||
	    x86_decode_bytes(cpu, bits64 ? X86_MODE_64 : X86_MODE_COMPAT, bits64 ? 8 : 4, bytes, 15, &op) !=
		    X86_DEC_OK || op.fn == x86_op_ud || op.len != a.in.length)
		return;
	n->accepted++;
	if (!jit_parse(bytes, op.len, bits64 ? 8 : 4, &in))
		return;
	n->parsed++;
	/* The segment registers of MOV, and what general code leaves alone. */
	class = jit_classify(&op, &in);
	if (class == JIT_CLASS_HANDLER || class == JIT_CLASS_NOP)
		return;
	n->pure++;
	short_form = !(a.in.attributes & ZYDIS_ATTRIB_HAS_MODRM) && in.flags & JIT_I_MODRM;
	if (escaped(&a, &op, short_form) || is_mmx(&a))
		dump("an operand escapes", bytes, op.len);
	assert_false(escaped(&a, &op, short_form) || is_mmx(&a));
	id = in;
	make_subst(&s);
	substitute(&s, &op, &in, has_third(&a));
	len = jit_encode(&in, out);
	if (!len) {
		bool high = ((in.flags & JIT_I_REG8 ? in.reg : 0) | (in.flags & JIT_I_RM8 ? in.rm : 0)) & JIT_HIGH_BYTE;

		assert_true(high);
		n->high++;
		return;
	}
	if (!decode(&dec64, out, len, &b) || b.in.length != len || !same(&s, &a, &b, short_form)) {
		dump(bits64 ? "guest 64" : "guest 32", bytes, op.len);
		dump("host", out, len);
		fail();
	}
	assert_int_equal(!!(a.in.attributes & ZYDIS_ATTRIB_HAS_LOCK), !!(b.in.attributes & ZYDIS_ATTRIB_HAS_LOCK));
	/* Unchanged registers must give the same operands as well. */
	if (id.flags & JIT_I_MEM && id.base == JIT_RIP)
		return;
	len = jit_encode(&id, out);
	if (!len || !decode(&dec64, out, len, &b) || b.in.mnemonic != a.in.mnemonic) {
		dump("guest", bytes, op.len);
		fail();
	}
}

static void test_rewrite(void **state)
{
	struct counts n64 = { 0 }, n32 = { 0 };

	for (unsigned i = 0; i < 400000; i++)
		one(true, &n64);
	for (unsigned i = 0; i < 200000; i++)
		one(false, &n32);
	/* The campaign is worth something. */
	assert_true(n64.pure > 60000 && n64.high > 20 && n32.pure > 20000);
}

/* Length and bytes of forms whose encoding has a special case. */
static void test_addresses(void **state)
{
	static const struct {
		u8 base, index, scale;
		s32 disp;
		const char *bytes;	/* of MOV EDX, [...] */
	} row[] = {
		{ 0, JIT_NO_REG, 0, 0, "8b 10" },
		{ 4, JIT_NO_REG, 0, 0, "8b 14 24" },
		{ 5, JIT_NO_REG, 0, 0, "8b 55 00" },
		{ 12, JIT_NO_REG, 0, 0, "41 8b 14 24" },
		{ 13, JIT_NO_REG, 0, 0, "41 8b 55 00" },
		{ 1, JIT_NO_REG, 0, 127, "8b 51 7f" },
		{ 1, JIT_NO_REG, 0, -128, "8b 51 80" },
		{ 1, JIT_NO_REG, 0, 128, "8b 91 80 00 00 00" },
		{ 1, 0, 3, 0, "8b 14 c1" },
		{ 5, 12, 0, 0, "42 8b 54 25 00" },
		{ JIT_NO_REG, 1, 2, 0x10, "8b 14 8d 10 00 00 00" },
		{ JIT_NO_REG, JIT_NO_REG, 0, -1, "8b 14 25 ff ff ff ff" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct jit_insn in;
		u8 out[JIT_MAX_INSN], want[16];
		unsigned n = test_hex(want, row[i].bytes);

		assert_true(jit_parse((const u8 *)"\x8b\x17", 2, 8, &in));
		jit_mem_index(&in, row[i].base, row[i].index, row[i].scale, row[i].disp);
		assert_int_equal(jit_encode(&in, out), n);
		assert_memory_equal(out, want, n);
	}
}

static void test_refused(void **state)
{
	static const char *const refused[] = {
		"e8 00 00 00 00", "74 00", "c3", "0f 84 00 00 00 00", "a1 00 00 00 00 00 00 00 00",
		"8e d8", "0f 20 c0", "6a 01", "50", "f4", "0f 05",
	};
	struct jit_insn in;
	u8 bytes[16], out[JIT_MAX_INSN];

	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		assert_false(jit_parse(bytes, test_hex(bytes, refused[i]), 8, &in));
	/* 16-bit addresses. */
	assert_false(jit_parse((const u8 *)"\x67\x8b\x07", 3, 4, &in));
	/* mov [12345678h], al: its general form */
	assert_true(jit_parse((const u8 *)"\xa2\x78\x56\x34\x12", 5, 4, &in));
	assert_int_equal(in.opcode, 0x88);
	assert_int_equal(in.flags, JIT_I_ADDR32 | JIT_I_MODRM | JIT_I_MEM | JIT_I_REG8 | JIT_I_RM8);
	assert_int_equal(in.disp, 0x12345678);
	assert_int_equal(in.base & in.index, JIT_NO_REG);
	/* MOV AH, DIL does not exist; a RIP-relative operand must be replaced. */
	assert_true(jit_parse((const u8 *)"\x88\xdc", 2, 8, &in));
	in.reg = 7;
	assert_int_equal(jit_encode(&in, out), 0);
	assert_true(jit_parse((const u8 *)"\x8b\x05\0\0\0\0", 6, 8, &in));
	assert_int_equal(jit_encode(&in, out), 0);
}

static int setup(void **state)
{
	cpu = test_cpu_new();
	ZydisDecoderInit(&dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&dec32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	return 0;
}

static int teardown(void **state)
{
	test_cpu_free(cpu);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("rewrite", tests, setup, teardown);
}
