/* SPDX-License-Identifier: MIT */
/*
 * Taking instructions apart and putting them together again: opcode maps of the
 * Intel SDM, appendix A, reduced to what the shape of an encoding is.
 */
#include "silicon/x86/jit/rewrite.h"

#include <string.h>

/* ---- Opcode maps ---- */

/*
 * One letter per opcode:
 *   .  not rewritten (or a prefix)
 *   m  ModRM; b the same with byte operands; c only ModRM.rm is a byte operand
 *   M  ModRM and imm8; B the same on a byte operand; Z ModRM and immediate of operand size
 *   x  ModRM with opcode extension; y the same on a byte operand
 *   X  extension and imm8; Y the same on a byte operand; W extension and immediate of operand size
 *   t, T  F6h, F7h: TEST has an immediate, the others have none
 *   a, A  short form with AL, eAX and an immediate
 *   o  register in the opcode; i with imm8; v with immediate of operand size up to 8 bytes
 *   e  exchange with eAX; s inc or dec by opcode register
 *   n  nothing but the opcode
 */
static const char map_1[256 + 1] =
	"bmbmaA.." "bmbmaA.." "bmbmaA.." "bmbmaA.."	/* 00 */
	"bmbmaA.." "bmbmaA.." "bmbmaA.." "bmbmaA.."	/* 20 */
	"ssssssss" "ssssssss" "........" "........"	/* 40 */
	"...m...." ".Z.M...." "........" "........"	/* 60 */
	"YWYXbmbm" "bmbm.m.." "eeeeeeee" "........"	/* 80 */
	"........" "aA......" "iiiiiiii" "vvvvvvvv"	/* a0 */
	"YX....YW" "........" "yxyx...." "xxxxxxxx"	/* c0 */
	"........" "........" "......tT" "......yx";	/* e0 */

/*
 * Capitals here mean that F2 and F3 belong to the opcode: P ModRM, Q and imm8, R extension
 * and imm8, G extension, N nothing.
 */
static const char map_0f[256 + 1] =
	"........" ".....x.." "PPPPPPPP" "xmmmmmmm"	/* 00 */
	"........" "PPPPPPPP" "........" "........"	/* 20 */
	"mmmmmmmm" "mmmmmmmm" "PPPPPPPP" "PPPPPPPP"	/* 40 */
	"PPPPPPPP" "PPPPPPPP" "QRRRPPPN" "....PPPP"	/* 60 */
	"........" "........" "yyyyyyyy" "yyyyyyyy"	/* 80 */
	"...mMm.." "...mMmGm" "bm.m..cm" "P.XmPPcm"	/* a0 */
	"bmQmQQQG" "oooooooo" "PPPPPPPP" "PPPPPPPP"	/* c0 */
	"PPPPPPPP" "PPPPPPPP" "PPPPPPPP" "PPPPPPP.";	/* e0 */

enum {
	SH_OK = 1 << 0, SH_MODRM = 1 << 1, SH_REG8 = 1 << 2, SH_RM8 = 1 << 3, SH_EXT = 1 << 4,
	SH_IMM8 = 1 << 5, SH_IMMZ = 1 << 6, SH_IMMV = 1 << 7, SH_OPREG = 1 << 8, SH_ACC = 1 << 9,
	SH_TEST = 1 << 10, SH_XCHG = 1 << 11, SH_INCDEC = 1 << 12, SH_REP = 1 << 13,
};

static const u16 shape_of[128] = {
	['m'] = SH_OK | SH_MODRM,
	['b'] = SH_OK | SH_MODRM | SH_REG8 | SH_RM8,
	['c'] = SH_OK | SH_MODRM | SH_RM8,
	['M'] = SH_OK | SH_MODRM | SH_IMM8,
	['B'] = SH_OK | SH_MODRM | SH_RM8 | SH_IMM8,
	['Z'] = SH_OK | SH_MODRM | SH_IMMZ,
	['x'] = SH_OK | SH_MODRM | SH_EXT,
	['y'] = SH_OK | SH_MODRM | SH_EXT | SH_RM8,
	['X'] = SH_OK | SH_MODRM | SH_EXT | SH_IMM8,
	['Y'] = SH_OK | SH_MODRM | SH_EXT | SH_RM8 | SH_IMM8,
	['W'] = SH_OK | SH_MODRM | SH_EXT | SH_IMMZ,
	['t'] = SH_OK | SH_MODRM | SH_EXT | SH_RM8 | SH_IMM8 | SH_TEST,
	['T'] = SH_OK | SH_MODRM | SH_EXT | SH_IMMZ | SH_TEST,
	['a'] = SH_OK | SH_ACC | SH_RM8 | SH_IMM8,
	['A'] = SH_OK | SH_ACC | SH_IMMZ,
	['o'] = SH_OK | SH_OPREG,
	['i'] = SH_OK | SH_OPREG | SH_RM8 | SH_IMM8,
	['v'] = SH_OK | SH_OPREG | SH_IMMV,
	['e'] = SH_OK | SH_XCHG,
	['s'] = SH_OK | SH_INCDEC,
	['n'] = SH_OK,
	['P'] = SH_OK | SH_MODRM | SH_REP,
	['Q'] = SH_OK | SH_MODRM | SH_IMM8 | SH_REP,
	['R'] = SH_OK | SH_MODRM | SH_EXT | SH_IMM8 | SH_REP,
	['G'] = SH_OK | SH_MODRM | SH_EXT | SH_REP,
	['N'] = SH_OK | SH_REP,
};

/* ---- Parsing ---- */

struct cursor {
	const u8 *p, *end;
	bool rex;	/* any REX prefix */
	u8 r, x, b;	/* register extensions, as bit 3 */
	bool bits64;
};

static u64 take(struct cursor *c, unsigned n)
{
	const u8 *p = c->p;
	u64 v = 0;

	c->p += n;
	while (n--)
		v = v << 8 | p[n];
	return v;
}

/* VEX in code that is not 64-bit needs the first two bits of its second byte, or it is LES or LDS. */
static bool vex_prefix(struct cursor *c, struct jit_insn *in)
{
	bool three = *c->p++ == 0xc4;
	u8 a = *c->p++, b = three ? *c->p++ : a;
	static const u16 pp[4] = { 0, JIT_I_66, JIT_I_F3, JIT_I_F2 };

	if (!c->bits64 && a < 0xc0)
		return false;
	in->flags |= JIT_I_VEX | pp[b & 3] | (b & 4 ? JIT_I_L : 0);
	in->vvvv = (u8)(~b >> 3 & (c->bits64 ? 15 : 7));
	in->map = JIT_MAP_0F;
	if (c->bits64)
		c->r = (~a & 0x80) >> 4;
	if (!three)
		return true;
	in->map = a & 0x1f;
	if (b & 0x80)
		in->flags |= JIT_I_W;
	if (c->bits64) {
		c->x = (~a & 0x40) >> 3;
		c->b = (~a & 0x20) >> 2;
	}
	return in->map <= JIT_MAP_0F3A;
}

/* All that comes before the opcode, and the escapes. False: not rewritten. */
static bool prefixes(struct cursor *c, struct jit_insn *in)
{
	bool addr = false;
	u8 p;

	for (;; c->p++) {
		switch (p = *c->p) {
		case 0x66: in->flags |= JIT_I_66; continue;
		case 0xf2: in->flags = (u16)((in->flags & ~JIT_I_F3) | JIT_I_F2); continue;
		case 0xf3: in->flags = (u16)((in->flags & ~JIT_I_F2) | JIT_I_F3); continue;
		case 0xf0: in->flags |= JIT_I_LOCK; continue;
		case 0x67: addr = true; continue;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: continue;
		}
		break;
	}
	if (addr != !c->bits64)
		in->flags |= JIT_I_ADDR32;
	if (addr && !c->bits64)
		return false;
	if (p == 0xc4 || p == 0xc5)
		return vex_prefix(c, in);
	if (c->bits64 && (p & 0xf0) == 0x40) {
		c->rex = true;
		c->r = (u8)((p & 4) << 1);
		c->x = (u8)((p & 2) << 2);
		c->b = (u8)((p & 1) << 3);
		if (p & 8)
			in->flags |= JIT_I_W;
		c->p++;
	}
	if (*c->p != 0x0f)
		return true;
	in->map = JIT_MAP_0F;
	c->p++;
	if (*c->p == 0x38 || *c->p == 0x3a)
		in->map = *c->p++ == 0x38 ? JIT_MAP_0F38 : JIT_MAP_0F3A;
	return true;
}

static unsigned shape_vex(struct jit_insn *in)
{
	unsigned shape = in->map == JIT_MAP_0F3A ? shape_of['M'] : shape_of['m'];

	if (in->map == JIT_MAP_0F38) {
		/* Gathers, and group 17. */
		if (in->opcode >= 0x90 && in->opcode <= 0x93)
			in->flags |= JIT_I_VSIB;
		return in->opcode == 0xf3 ? shape_of['x'] : shape;
	}
	if (in->map != JIT_MAP_0F)
		return shape;
	if (in->opcode == 0x77)
		return shape_of['n'];
	if (in->opcode >= 0x71 && in->opcode <= 0x73)
		return shape_of['X'];
	if (in->opcode == 0xae)
		return shape_of['x'];
	if (in->opcode == 0x70 || in->opcode == 0xc2 || (in->opcode >= 0xc4 && in->opcode <= 0xc6))
		return shape_of['M'];
	return shape;
}

static unsigned shape(struct jit_insn *in)
{
	if (in->flags & JIT_I_VEX)
		return shape_vex(in);
	switch ((enum jit_map)in->map) {
	case JIT_MAP_1: return shape_of[(u8)map_1[in->opcode]];
	case JIT_MAP_0F: return shape_of[(u8)map_0f[in->opcode]];
	case JIT_MAP_0F38:
		/* CRC32 r32, r/m8 shares its opcode with MOVBE. */
		if (in->opcode == 0xf0 && in->flags & JIT_I_F2)
			return shape_of['P'] | SH_RM8;
		return shape_of['P'];
	case JIT_MAP_0F3A: return shape_of['Q'];
	}
	return 0;
}

static void memory(struct cursor *c, struct jit_insn *in, unsigned mod, unsigned rm)
{
	in->flags |= JIT_I_MEM;
	in->base = in->index = JIT_NO_REG;
	if (rm == 4) {
		u8 sib = (u8)take(c, 1);
		u8 index = (sib >> 3 & 7) | c->x;

		in->scale = sib >> 6;
		if (index != 4 || in->flags & JIT_I_VSIB)
			in->index = index;
		if (mod || (sib & 7) != 5)
			in->base = (sib & 7) | c->b;
		else
			mod = 2;
	} else if (mod == 0 && rm == 5) {
		if (c->bits64)
			in->base = JIT_RIP;
		mod = 2;
	} else {
		in->base = (u8)(rm | c->b);
	}
	if (mod == 1)
		in->disp = (s8)take(c, 1);
	else if (mod == 2)
		in->disp = (s32)take(c, 4);
}

/* Byte registers 4..7 are AH..BH where there is no REX. */
static u8 byte_reg(const struct cursor *c, const struct jit_insn *in, u8 r)
{
	return r < 8 && r & 4 && !c->rex && !(in->flags & JIT_I_VEX) ? JIT_HIGH_BYTE | (r & 3) : r;
}

static void modrm(struct cursor *c, struct jit_insn *in, unsigned sh)
{
	u8 m = (u8)take(c, 1);

	in->flags |= JIT_I_MODRM;
	in->reg = m >> 3 & 7;
	if (sh & SH_EXT)
		in->flags |= JIT_I_EXT;
	else
		in->reg |= c->r;
	if (sh & SH_REG8) {
		in->flags |= JIT_I_REG8;
		in->reg = byte_reg(c, in, in->reg);
	}
	if (sh & SH_RM8)
		in->flags |= JIT_I_RM8;
	if (m < 0xc0) {
		memory(c, in, m >> 6, m & 7);
		return;
	}
	in->rm = (m & 7) | c->b;
	if (sh & SH_RM8)
		in->rm = byte_reg(c, in, in->rm);
}

/* The general form of a short one. */
static void lengthen(struct cursor *c, struct jit_insn *in, unsigned sh)
{
	u8 op = in->opcode;

	in->flags |= JIT_I_MODRM;
	if (sh & SH_XCHG) {
		in->opcode = 0x87;
		in->rm = (op & 7) | c->b;
		return;
	}
	in->flags |= JIT_I_EXT;
	if (sh & SH_INCDEC) {
		in->opcode = 0xff;
		in->reg = op >> 3 & 1;
		in->rm = op & 7;
		return;
	}
	if (sh & SH_RM8)
		in->flags |= JIT_I_RM8;
	if (op >= 0x40) {	/* TEST */
		in->opcode = 0xf6 | (op & 1);
	} else {
		in->opcode = 0x80 | (op & 1);
		in->reg = op >> 3;
	}
}

/* MOV between the accumulator and an address, A0h to A3h: 8Ah, 8Bh, 88h, 89h with a displacement alone. */
static void accumulator(struct cursor *c, struct jit_insn *in)
{
	in->flags |= JIT_I_MODRM | JIT_I_MEM | (in->opcode & 1 ? 0 : JIT_I_REG8 | JIT_I_RM8);
	in->opcode = (in->opcode & 1) | (in->opcode & 2 ? 0x88 : 0x8a);
	in->base = in->index = JIT_NO_REG;
	in->disp = (s32)take(c, 4);
}

static unsigned imm_size(const struct jit_insn *in, unsigned sh)
{
	if (sh & SH_IMM8)
		return 1;
	if (!(sh & (SH_IMMZ | SH_IMMV)))
		return 0;
	if (in->flags & JIT_I_W)
		return sh & SH_IMMV ? 8 : 4;
	return in->flags & JIT_I_66 ? 2 : 4;
}

/*
 * Outside 64-bit code VEX.W says nothing where it would choose the size of a general
 * register, nor does the top bit of a register in the immediate.
 */
static void drop_ignored(struct jit_insn *in)
{
	u8 op = in->opcode;

	switch ((enum jit_map)in->map) {
	case JIT_MAP_0F:
		if (op == 0x2a || op == 0x2c || op == 0x2d || op == 0x6e || op == 0x7e)
			in->flags &= (u16)~JIT_I_W;
		break;
	case JIT_MAP_0F38:
		if (op >= 0xf2 && op <= 0xf7)
			in->flags &= (u16)~JIT_I_W;
		break;
	case JIT_MAP_0F3A:
		if (op == 0x16 || op == 0x22 || op == 0xf0)
			in->flags &= (u16)~JIT_I_W;
		if (op >= 0x4a && op <= 0x4c)
			in->imm &= 0x7f;
		break;
	case JIT_MAP_1:
		break;
	}
}

bool jit_parse(const u8 *bytes, unsigned len, unsigned code_size, struct jit_insn *in)
{
	struct cursor c = { .p = bytes, .end = bytes + len, .bits64 = code_size == 8 };
	unsigned sh;

	memset(in, 0, sizeof(*in));
	if (!prefixes(&c, in))
		return false;
	in->opcode = *c.p++;
	if (in->map == JIT_MAP_1 && !c.bits64 && (in->opcode & 0xfc) == 0xa0) {
		accumulator(&c, in);
		in->flags &= (u16)~(JIT_I_F2 | JIT_I_F3);
		return c.p == c.end;
	}
	sh = shape(in);
	if (!(sh & SH_OK))
		return false;
	/* 40h to 4Fh are REX in 64-bit code; 82h is another 80h elsewhere, 63h another instruction. */
	if (in->map == JIT_MAP_1 && !c.bits64 && in->opcode == 0x63)
		return false;
	if (in->map == JIT_MAP_1 && in->opcode == 0x82)
		in->opcode = 0x80;
	/* NOP, PAUSE; with REX.B an exchange. */
	if (sh & SH_XCHG && in->opcode == 0x90 && !c.b) {
		in->flags &= JIT_I_F3;
		return true;
	}
	if (sh & SH_MODRM)
		modrm(&c, in, sh);
	if (sh & SH_OPREG) {
		in->flags |= JIT_I_OPREG | (sh & SH_RM8 ? JIT_I_RM8 : 0);
		in->rm = (in->opcode & 7) | c.b;
		if (sh & SH_RM8)
			in->rm = byte_reg(&c, in, in->rm);
		in->opcode &= 0xf8;
	}
	if (sh & SH_TEST && in->reg > 1)
		sh &= ~(unsigned)(SH_IMM8 | SH_IMMZ);
	in->imm_len = (u8)imm_size(in, sh);
	in->imm = take(&c, in->imm_len);
	if (c.p != c.end)
		return false;
	if (sh & (SH_ACC | SH_XCHG | SH_INCDEC))
		lengthen(&c, in, sh);
	if (in->flags & JIT_I_VEX) {
		if (!c.bits64)
			drop_ignored(in);
	} else if (!(sh & SH_REP)) {
		in->flags &= (u16)~(JIT_I_F2 | JIT_I_F3);
	}
	return true;
}

/* ---- Encoding ---- */

/* REX bits as in the prefix itself. */
#define REX_R 4u
#define REX_X 2u
#define REX_B 1u

static unsigned ext_bits(const struct jit_insn *in)
{
	unsigned rex = 0;

	if (!(in->flags & JIT_I_EXT) && in->reg & 8)
		rex |= REX_R;
	if (!(in->flags & JIT_I_MEM))
		return rex | (in->rm & 8 ? REX_B : 0);
	if (!(in->base & JIT_NO_REG) && in->base & 8)
		rex |= REX_B;
	if (!(in->index & JIT_NO_REG) && in->index & 8)
		rex |= REX_X;
	return rex;
}

static u8 *put_vex(const struct jit_insn *in, u8 *p)
{
	unsigned inv = ~ext_bits(in);
	u8 low = (u8)((~in->vvvv & 15) << 3 | (in->flags & JIT_I_L ? 4 : 0) |
		      (in->flags & JIT_I_66 ? 1 : in->flags & JIT_I_F3 ? 2 : in->flags & JIT_I_F2 ? 3 : 0));

	if (in->map == JIT_MAP_0F && !(in->flags & JIT_I_W) && (inv & (REX_X | REX_B)) == (REX_X | REX_B)) {
		*p++ = 0xc5;
		*p++ = (u8)((inv & REX_R) << 5 | low);
		return p;
	}
	*p++ = 0xc4;
	*p++ = (u8)((inv & 7) << 5 | in->map);
	*p++ = (u8)((in->flags & JIT_I_W ? 0x80 : 0) | low);
	return p;
}

/* What a byte register asks for: any REX, or none at all. */
static void byte_rule(u8 r, bool *need, bool *forbid)
{
	if (r & JIT_HIGH_BYTE)
		*forbid = true;
	else if (r >= 4 && r < 8)
		*need = true;
}

static u8 *put_legacy(const struct jit_insn *in, u8 *p)
{
	unsigned rex = ext_bits(in) | (in->flags & JIT_I_W ? 8 : 0);
	bool need = rex != 0, forbid = false;

	if (in->flags & JIT_I_REG8)
		byte_rule(in->reg, &need, &forbid);
	if ((in->flags & (JIT_I_RM8 | JIT_I_MEM)) == JIT_I_RM8)
		byte_rule(in->rm, &need, &forbid);
	if (need && forbid)
		return NULL;
	if (in->flags & JIT_I_LOCK)
		*p++ = 0xf0;
	if (in->flags & JIT_I_66)
		*p++ = 0x66;
	if (in->flags & (JIT_I_F2 | JIT_I_F3))
		*p++ = in->flags & JIT_I_F2 ? 0xf2 : 0xf3;
	if (need)
		*p++ = (u8)(0x40 | rex);
	if (in->map != JIT_MAP_1)
		*p++ = 0x0f;
	if (in->map > JIT_MAP_0F)
		*p++ = in->map == JIT_MAP_0F38 ? 0x38 : 0x3a;
	return p;
}

static u8 reg_field(u8 r)
{
	return r & JIT_HIGH_BYTE ? 4 | (r & 3) : r & 7;
}

static u8 *put_disp32(u8 *p, s32 disp)
{
	memcpy(p, &disp, 4);
	return p + 4;
}

static u8 *put_memory(const struct jit_insn *in, u8 *p)
{
	bool sib = !(in->index & JIT_NO_REG) || in->base == JIT_NO_REG || (in->base & 7) == 4;
	u8 reg = (u8)(reg_field(in->reg) << 3);
	u8 *m = p++;

	if (sib)
		*p++ = (u8)(in->scale << 6 | (in->index & JIT_NO_REG ? 4 : in->index & 7) << 3 |
			    (in->base == JIT_NO_REG ? 5 : in->base & 7));
	*m = (u8)(reg | (sib ? 4 : in->base & 7));
	if (in->base == JIT_NO_REG)
		return put_disp32(p, in->disp);
	if (!in->disp && (in->base & 7) != 5)
		return p;
	if (in->disp == (s8)in->disp) {
		*m |= 0x40;
		*p++ = (u8)in->disp;
		return p;
	}
	*m |= 0x80;
	return put_disp32(p, in->disp);
}

unsigned jit_encode(const struct jit_insn *in, u8 *out)
{
	u8 *p;

	if (in->flags & JIT_I_MEM && in->base == JIT_RIP)
		return 0;
	p = in->flags & JIT_I_VEX ? put_vex(in, out) : put_legacy(in, out);
	if (!p)
		return 0;
	*p++ = in->flags & JIT_I_OPREG ? in->opcode | reg_field(in->rm) : in->opcode;
	if (in->flags & JIT_I_MODRM) {
		if (in->flags & JIT_I_MEM)
			p = put_memory(in, p);
		else
			*p++ = (u8)(0xc0 | reg_field(in->reg) << 3 | reg_field(in->rm));
	}
	memcpy(p, &in->imm, 8);		/* JIT_MAX_INSN has room for all of it */
	return (unsigned)(p - out) + in->imm_len;
}
