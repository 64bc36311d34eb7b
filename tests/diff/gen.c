// SPDX-License-Identifier: MIT
/*
 * Choosing cases: random encodings, kept if libZydis knows them, the tables
 * allow them, and the host has them; then a state whose memory operands mostly
 * land in the data pages (sometimes in the read-only page, the hole, across
 * pages, or at a non-canonical address).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "tests/diff/diff.h"
#include "tests/diff/forms.h"
#include "tests/diff/gen.h"

static u8 pool[1 << 17];

static void make_pool(void)
{
	struct diff_rng r = { 0x5eed5eed5eed5eedull };

	/* Half random bytes, half small or special numbers, so that FP operands are interesting. */
	static const u64 special[] = {
		0, 1, ~0ull, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
		0xfff0000000000000, 0x7ff8000000000001, 0x7ff0000000000001, 0x0000000000000001,
		0x3f8000003f800000, 0x7f8000007fc00001, 0x7f80000180000000, 0x0080000000000001,
		0x4330000000000000, 0x7fefffffffffffff, 0x0010000000000000, 0x41dfffffffc00000,
		0x7f7fffff00800000, 0x4f0000004effffff, 0x3c003c00fc007c01,
	};

	for (size_t i = 0; i < sizeof(pool); i += 8) {
		u64 v = diff_rand(&r);

		if (diff_below(&r, 2))
			v = special[diff_below(&r, ARRAY_SIZE(special))];
		memcpy(pool + i, &v, 8);
	}
}

void diff_fill(u64 seed, u8 *data, size_t len)
{
	if (!pool[0] && !pool[1] && !pool[2] && !pool[8])
		make_pool();
	memcpy(data, pool + (seed & 0xffff & ~7ull), len);
}

struct diff_gen *diff_gen_new(u64 seed)
{
	struct diff_gen *g = calloc(1, sizeof(*g));

	if (!g)
		abort();
	g->rng.s = seed | 1;
	for (int i = 0; i < 16; i++)
		diff_rand(&g->rng);
	ZydisDecoderInit(&g->dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&g->dec32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	return g;
}

/* ---- Encodings ---- */

static unsigned put_modrm(struct diff_rng *r, u8 *p)
{
	unsigned n = 0;
	u8 m = (u8)diff_rand(r);

	if (diff_below(r, 3) == 0)
		m |= 0xc0;
	p[n++] = m;
	for (int i = 0; i < 9; i++)
		p[n++] = (u8)diff_rand(r);
	return n;
}

unsigned diff_legacy_bytes(struct diff_rng *r, bool bits32, u8 *p)
{
	static const u8 prefixes[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x2e, 0x3e, 0x26, 0x36 };
	unsigned n = 0, map = diff_below(r, 8);

	while (diff_below(r, 3) == 0 && n < 4)
		p[n++] = prefixes[diff_below(r, diff_below(r, 2) ? 3 : ARRAY_SIZE(prefixes))];
	if (!bits32 && diff_below(r, 2))
		p[n++] = 0x40 | (u8)diff_below(r, 16);
	if (map >= 2)
		p[n++] = 0x0f;
	if (map == 6)
		p[n++] = 0x38;
	if (map == 7)
		p[n++] = 0x3a;
	if (map == 0 && diff_below(r, 4) == 0)
		p[n++] = 0xd8 | (u8)diff_below(r, 8);	/* x87 */
	else
		p[n++] = (u8)diff_rand(r);
	return n + put_modrm(r, p + n);
}

unsigned diff_vex_bytes(struct diff_rng *r, bool bits32, u8 *p)
{
	unsigned n = 0;
	u8 a = (u8)diff_rand(r), b = (u8)diff_rand(r);

	if (diff_below(r, 2)) {
		p[n++] = 0xc5;
		p[n++] = bits32 ? a | 0xc0 : a;
	} else {
		p[n++] = 0xc4;
		p[n++] = (u8)((a & 0xe0) | (1 + diff_below(r, 3))) | (bits32 ? 0xc0 : 0);
		p[n++] = b;
	}
	if (diff_below(r, 3) == 0)
		p[n - 1] |= 0x78;	/* vvvv unused */
	p[n++] = (u8)diff_rand(r);
	return n + put_modrm(r, p + n);
}

/* ---- States ---- */

u64 diff_rand_int(struct diff_rng *r)
{
	static const u64 edge[] = {
		0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, ~0ull, 63, 64, 31, 32, 15, 16, 17, 9,
	};
	u64 v = diff_rand(r);

	switch (diff_below(r, 4)) {
	case 0: return edge[diff_below(r, ARRAY_SIZE(edge))];
	case 1: return v >> diff_below(r, 64);
	case 2: return v;
	default: return (u64)((s64)v >> diff_below(r, 64));
	}
}

static void rand_f80(struct diff_rng *r, u8 out[10])
{
	u64 mant = diff_rand(r) | 1ull << 63;
	u16 exp = (u16)(0x3fff - 70 + diff_below(r, 140)) | (diff_below(r, 2) ? 0x8000 : 0);

	switch (diff_below(r, 12)) {
	case 0: mant = 0; exp &= 0x8000; break;				/* zero */
	case 1: mant = 1ull << 63; exp |= 0x7fff; break;		/* infinity */
	case 2: exp |= 0x7fff; mant |= 1ull << 62; break;		/* QNaN */
	case 3: exp |= 0x7fff; mant &= ~(1ull << 62); mant |= 1; break;	/* SNaN */
	case 4: exp &= 0x8000; mant >>= 1; break;			/* denormal */
	case 5: mant >>= 1 + diff_below(r, 8); break;			/* unnormal */
	case 6: exp = (u16)diff_rand(r); break;
	case 7: mant = (u64)diff_below(r, 1000) << 54 | 1ull << 63; exp = 0x3fff + (u16)diff_below(r, 12); break;
	case 8: exp &= 0x8000; mant = 1ull << 63; break;		/* pseudo-denormal */
	default: break;
	}
	memcpy(out, &mant, 8);
	memcpy(out + 8, &exp, 2);
}

void diff_rand_state(struct diff_rng *r, struct diff_case *c, bool x87)
{
	struct diff_state *s = &c->in;

	for (int i = 0; i < 16; i++)
		s->gpr[i] = diff_rand_int(r);
	if (c->bits32)
		for (int i = 0; i < 16; i++)
			s->gpr[i] = i < 8 ? (u32)s->gpr[i] : 0;
	s->gpr[4] = DIFF_DATA + PAGE_SIZE + diff_below(r, PAGE_SIZE / 8) * 8;
	if (c->bits32 || diff_below(r, 4) == 0)
		s->gpr[4] += diff_below(r, 8);
	s->rflags = 0x202 | (diff_rand(r) & 0xcd5);	/* arithmetic flags, DF, not TF */
	s->rflags &= ~0x100ull;
	diff_fill(diff_rand(r), (u8 *)s->ymm, sizeof(s->ymm));
	s->mxcsr = 0x1f80;
	if (diff_below(r, 2))
		s->mxcsr = (u32)(diff_rand(r) & 0xffff);
	s->fcw = 0x37f;
	s->fsw = 0;
	s->ftw = 0;
	if (x87 || diff_below(r, 16) == 0) {
		s->fcw = 0x37f;
		if (diff_below(r, 2))
			s->fcw = (u16)(0x340 | (diff_rand(r) & 0xc3f));
		if (diff_below(r, 4) == 0)
			s->fcw &= (u16)~0x300 | (u16)(diff_rand(r) & 0x300);
		s->fsw = (u16)(diff_rand(r) & 0x7f7f);
		/* ES and B follow from the unmasked flags; a pending exception is rare. */
		if (diff_below(r, 16))
			s->fsw &= (u16)~(~s->fcw & 0x3f);
		if (s->fsw & ~s->fcw & 0x3f)
			s->fsw |= 0x8080;
		else
			s->fsw &= 0x7f7f;
		s->ftw = (u8)diff_rand(r) | (u8)diff_rand(r);
		if (diff_below(r, 2))
			s->ftw = 0xff;
		for (int i = 0; i < 8; i++)
			rand_f80(r, s->st[i]);
	}
	c->data_seed = diff_rand(r);
	s->rip = DIFF_CODE + PAGE_SIZE - 32 + diff_below(r, 24);
	if (diff_below(r, 4))
		s->rip = DIFF_CODE + 64 + diff_below(r, 64);
}

static int gpr_of(ZydisRegister reg)
{
	ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return reg == ZYDIS_REGISTER_NONE || big < ZYDIS_REGISTER_RAX || big > ZYDIS_REGISTER_R15 ?
		-1 : (int)(big - ZYDIS_REGISTER_RAX);
}

static u64 pick_target(struct diff_rng *r, unsigned size, bool bits32)
{
	u64 t = DIFF_DATA + 512 + diff_below(r, (u32)DIFF_DATA_SIZE - 1024);

	if (!size)
		size = 1;
	switch (diff_below(r, 24)) {
	case 0: return DIFF_RO + diff_below(r, PAGE_SIZE - 64) / 64 * 64;
	case 1: return DIFF_RO - diff_below(r, size);		/* into the read-only page */
	case 2: return DIFF_HOLE + diff_below(r, 2048) / 64 * 64;
	case 3: return DIFF_DATA + PAGE_SIZE - diff_below(r, size);	/* crosses two good pages */
	case 4: return bits32 ? t : t | 1ull << (47 + diff_below(r, 16));	/* not canonical */
	case 5: case 6: case 7: case 8: return t;		/* any alignment */
	default: return t & ~63ull;
	}
}

/*
 * Make the memory operands land where they can be compared. True if they do
 * (or there are none).
 */
static bool aim(struct diff_rng *r, struct diff_case *c, const ZydisDecodedInstruction *in,
		const ZydisDecodedOperand *ops)
{
	u64 *gpr = c->in.gpr;
	u64 limit = in->address_width == 16 ? 0xffff : in->address_width == 32 ? 0xffffffff : ~0ull;
	unsigned nmem = 0;

	if (in->address_width == 16)
		return false;	/* the data pages cannot be reached */
	for (unsigned i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperand *o = &ops[i];
		int base, index;
		u64 target, disp;

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (o->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			continue;
		if (o->mem.segment == ZYDIS_REGISTER_FS || o->mem.segment == ZYDIS_REGISTER_GS)
			return false;
		target = pick_target(r, o->size / 8, c->bits32 || in->address_width != 64);
		disp = o->mem.disp.has_displacement ? (u64)o->mem.disp.value : 0;
		if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
			s64 d = (s64)(target - (c->in.rip + c->len));
			s32 d32 = (s32)d;

			if (d != d32)
				return false;
			memcpy(c->code + in->raw.disp.offset, &d32, 4);
			continue;
		}
		base = gpr_of(o->mem.base);
		if (o->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
			/* Small indices: element addresses within the data pages. */
			unsigned reg = ZydisRegisterGetId(o->mem.index);
			bool wide = in->mnemonic == ZYDIS_MNEMONIC_VGATHERQPS || in->mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
				    in->mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || in->mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;

			for (unsigned e = 0; e < (wide ? 4 : 8); e++) {
				s64 v = (s64)diff_below(r, 512) - 256;

				memcpy(c->in.ymm[reg] + e * (wide ? 8 : 4), &v, wide ? 8 : 4);
			}
			if (base < 0)
				return false;
			gpr[base] = (DIFF_DATA + DIFF_DATA_SIZE / 2 - disp) & limit;
			if (diff_below(r, 8) == 0)
				gpr[base] = (DIFF_RO + 256 - disp) & limit;
			nmem++;
			continue;
		}
		index = gpr_of(o->mem.index);
		if (base < 0 && index < 0) {
			if (in->raw.disp.size == 32 && target <= 0x7fffffff) {
				u32 d = (u32)target;

				memcpy(c->code + in->raw.disp.offset, &d, 4);
				continue;
			}
			if (in->raw.disp.size == 64) {
				memcpy(c->code + in->raw.disp.offset, &target, 8);
				continue;
			}
			return false;
		}
		if (nmem++ && base != 6 && base != 7 && base != 4)
			return false;
		if (base >= 0 && index >= 0 && base != index) {
			gpr[index] = (u64)((s64)diff_below(r, 64) - 32) & limit;
			gpr[base] = (target - disp - gpr[index] * o->mem.scale) & limit;
		} else if (base >= 0 && base == index) {
			u64 k = 1 + o->mem.scale;

			gpr[base] = ((target - disp) / k) & limit;
		} else if (base >= 0) {
			gpr[base] = (target - disp) & limit;
		} else {
			gpr[index] = ((target - disp) / o->mem.scale) & limit;
		}
		/* Bit strings: the register offset moves the address. */
		if (o->size && (in->mnemonic == ZYDIS_MNEMONIC_BT || in->mnemonic == ZYDIS_MNEMONIC_BTS ||
				in->mnemonic == ZYDIS_MNEMONIC_BTR || in->mnemonic == ZYDIS_MNEMONIC_BTC) &&
		    ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
			int off = gpr_of(ops[1].reg.value);

			if (off == base || off == index)
				return true;
			if (off >= 0 && in->operand_width > 16)
				gpr[off] = (u64)((s64)diff_below(r, 8192) - 4096) & limit;
		}
	}
	/* A repeated string operation must end. */
	if (in->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		gpr[1] = (gpr[1] & ~limit) | diff_below(r, 40);
	else if (in->meta.category == ZYDIS_CATEGORY_STRINGOP)
		gpr[1] = diff_below(r, 40);
	return true;
}

bool diff_gen_next(struct diff_gen *g, struct diff_case *c)
{
	struct diff_rng *r = &g->rng;
	ZydisDecodedInstruction in;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoder *dec;
	u8 bytes[64];

	memset(c, 0, sizeof(*c));
	c->bits32 = diff_below(r, 8) == 0;
	dec = c->bits32 ? &g->dec32 : &g->dec64;
	if (diff_below(r, 3) == 0)
		diff_vex_bytes(r, c->bits32, bytes);
	else
		diff_legacy_bytes(r, c->bits32, bytes);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(dec, bytes, 15, &in, ops)))
		return false;
	if (!diff_form_allowed(&in, ops, c->bits32))
		return false;
	memcpy(c->code, bytes, in.length);
	c->len = in.length;
	diff_rand_state(r, c, in.meta.isa_ext == ZYDIS_ISA_EXT_X87 || in.meta.isa_ext == ZYDIS_ISA_EXT_MMX);
	return aim(r, c, &in, ops);
}
