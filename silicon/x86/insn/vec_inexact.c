/* SPDX-License-Identifier: MIT */
/*
 * The precision flag beside an unmasked overflow or underflow. PE then tells
 * whether the result is inexact with its exponent unbounded (SDM vol. 1
 * "Numeric Overflow Exception", "Numeric Underflow Exception"), which the masked
 * run of vec.c does not show. Each element is run alone to see which ones
 * overflow, and those are computed once more in binary128: it holds any product of
 * doubles exactly, and a sum that it must round is inexact in double as well.
 */
#include "silicon/x86/insn/vec.h"

enum kind { ADD, SUB, MUL, DIV, CVT, FMA };
/* Where the operands of element i are. */
enum order { STRAIGHT, ALTERNATE, PAIRS, F132, F213, F231 };

struct arith {
	u16 mnemonic;
	u8 kind, order;
	bool dbl, scalar;
	bool neg_product, neg_addend;	/* FMA; with ALTERNATE the addend's sign alternates */
	bool alternate;
};

#define PACKED(name, k, o) \
	{ ZYDIS_MNEMONIC_##name##PS, k, o, false, false }, { ZYDIS_MNEMONIC_V##name##PS, k, o, false, false }, \
	{ ZYDIS_MNEMONIC_##name##PD, k, o, true, false }, { ZYDIS_MNEMONIC_V##name##PD, k, o, true, false }
#define SCALAR(name, k) \
	{ ZYDIS_MNEMONIC_##name##SS, k, STRAIGHT, false, true }, { ZYDIS_MNEMONIC_V##name##SS, k, STRAIGHT, false, true }, \
	{ ZYDIS_MNEMONIC_##name##SD, k, STRAIGHT, true, true }, { ZYDIS_MNEMONIC_V##name##SD, k, STRAIGHT, true, true }
#define FMA_PACKED(name, o, p, a, alt) \
	{ ZYDIS_MNEMONIC_V##name##PS, FMA, o, false, false, p, a, alt }, \
	{ ZYDIS_MNEMONIC_V##name##PD, FMA, o, true, false, p, a, alt }
#define FMA_ALL(name, o, p, a) \
	FMA_PACKED(name, o, p, a, false), \
	{ ZYDIS_MNEMONIC_V##name##SS, FMA, o, false, true, p, a }, \
	{ ZYDIS_MNEMONIC_V##name##SD, FMA, o, true, true, p, a }
#define FMA_ORDERS(name, p, a) \
	FMA_ALL(name##132, F132, p, a), FMA_ALL(name##213, F213, p, a), FMA_ALL(name##231, F231, p, a)
#define FMA_ALTERNATING(name, a) \
	FMA_PACKED(name##132, F132, false, a, true), FMA_PACKED(name##213, F213, false, a, true), \
	FMA_PACKED(name##231, F231, false, a, true)

static const struct arith table[] = {
	PACKED(ADD, ADD, STRAIGHT), PACKED(SUB, SUB, STRAIGHT), PACKED(MUL, MUL, STRAIGHT),
	PACKED(DIV, DIV, STRAIGHT), PACKED(ADDSUB, SUB, ALTERNATE), PACKED(HADD, ADD, PAIRS),
	PACKED(HSUB, SUB, PAIRS),
	SCALAR(ADD, ADD), SCALAR(SUB, SUB), SCALAR(MUL, MUL), SCALAR(DIV, DIV),
	{ ZYDIS_MNEMONIC_CVTSD2SS, CVT, STRAIGHT, true, true }, { ZYDIS_MNEMONIC_VCVTSD2SS, CVT, STRAIGHT, true, true },
	{ ZYDIS_MNEMONIC_CVTPD2PS, CVT, STRAIGHT, true, false }, { ZYDIS_MNEMONIC_VCVTPD2PS, CVT, STRAIGHT, true, false },
	FMA_ORDERS(FMADD, false, false), FMA_ORDERS(FMSUB, false, true),
	FMA_ORDERS(FNMADD, true, false), FMA_ORDERS(FNMSUB, true, true),
	/* Odd elements as named first, even ones the other way. */
	FMA_ALTERNATING(FMADDSUB, false), FMA_ALTERNATING(FMSUBADD, true),
};

static const struct arith *find(unsigned mnemonic)
{
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].mnemonic == mnemonic)
			return &table[i];
	return NULL;
}

static u64 get(const void *v, unsigned i, bool dbl)
{
	const struct x86_ymm *y = v;

	return dbl ? y->q[i] : y->d[i];
}

static __float128 value(u64 bits, bool dbl, bool daz)
{
	u32 f = (u32)bits;
	double d;
	float s;

	if (dbl) {
		if (daz && !(bits & BITS(62, 52)))
			bits &= BIT(63);
		memcpy(&d, &bits, 8);
		return d;
	}
	if (daz && !(f & 0x7f800000))
		f &= 0x80000000;
	memcpy(&s, &f, 4);
	return s;
}

/* Does @v fit in a significand of @bits bits? */
static bool fits(__float128 v, unsigned bits)
{
	unsigned __int128 raw;

	memcpy(&raw, &v, 16);
	return !(raw << (128 - (113 - bits)));
}

static bool sum_exact(__float128 a, __float128 b, __float128 *sum)
{
	__float128 r = a + b, bb = r - a;

	*sum = r;
	return (a - (r - bb)) + (b - bb) == 0;
}

struct element {
	u64 x, y, z;	/* x op y; x * y + z */
	u8 kind;
};

static bool inexact(const struct element *e, bool dbl, u32 mxcsr)
{
	bool daz = mxcsr & MXCSR_DAZ, exact = true;
	unsigned bits = dbl && e->kind != CVT ? 53 : 24;
	__float128 x = value(e->x, dbl, daz), y = value(e->y, dbl, daz), r = x;

	switch ((enum kind)e->kind) {
	case ADD: exact = sum_exact(x, y, &r); break;
	case SUB: exact = sum_exact(x, -y, &r); break;
	case MUL: r = x * y; break;
	case DIV: r = x / y; return !fits(r, bits) || r * y != x;
	case FMA: exact = sum_exact(x * y, value(e->z, dbl, daz), &r); break;
	case CVT: break;
	}
	return !exact || !fits(r, bits);
}

/* Element i's operation, signs of FMA applied to the operands. */
static struct element element(const struct x86_vec_fp *a, const struct arith *t, unsigned i)
{
	u64 sign = t->dbl ? BIT(63) : BIT(31);
	bool dbl = t->dbl, neg_addend = t->neg_addend;
	struct element e = { .kind = t->kind };
	unsigned per_lane = dbl ? 2 : 4, pair = i / per_lane * per_lane + i % (per_lane / 2) * 2;
	const void *from;

	switch ((enum order)t->order) {
	case ALTERNATE:		/* ADDSUB: even elements subtract */
		e.kind = i & 1 ? ADD : SUB;
		/* fall through */
	case STRAIGHT:
		e.x = get(t->kind == CVT ? a->s2 : a->s1, i, dbl);
		e.y = get(a->s2, i, dbl);
		return e;
	case PAIRS:		/* the lower half of each lane from the first operand */
		from = i % per_lane < per_lane / 2 ? a->s1 : a->s2;
		e.x = get(from, pair, dbl);
		e.y = get(from, pair + 1, dbl);
		return e;
	case F132:
		e.x = get(a->dst, i, dbl);
		e.y = get(a->s2, i, dbl);
		e.z = get(a->s1, i, dbl);
		break;
	case F213:
		e.x = get(a->s1, i, dbl);
		e.y = get(a->dst, i, dbl);
		e.z = get(a->s2, i, dbl);
		break;
	case F231:
		e.x = get(a->s1, i, dbl);
		e.y = get(a->s2, i, dbl);
		e.z = get(a->dst, i, dbl);
		break;
	}
	if (t->alternate && !(i & 1))
		neg_addend = !neg_addend;
	if (t->neg_product)
		e.x ^= sign;
	if (neg_addend)
		e.z ^= sign;
	return e;
}

static u32 run_element(const struct element *e, bool dbl, u32 mxcsr)
{
	static const u16 body[][2] = {
		[ADD] = { ZYDIS_MNEMONIC_VADDSS, ZYDIS_MNEMONIC_VADDSD },
		[SUB] = { ZYDIS_MNEMONIC_VSUBSS, ZYDIS_MNEMONIC_VSUBSD },
		[MUL] = { ZYDIS_MNEMONIC_VMULSS, ZYDIS_MNEMONIC_VMULSD },
		[DIV] = { ZYDIS_MNEMONIC_VDIVSS, ZYDIS_MNEMONIC_VDIVSD },
		[CVT] = { ZYDIS_MNEMONIC_VCVTSD2SS, ZYDIS_MNEMONIC_VCVTSD2SS },
		[FMA] = { ZYDIS_MNEMONIC_VFMADD213SS, ZYDIS_MNEMONIC_VFMADD213SD },
	};
	struct x86_ymm dst = { 0 }, s1 = { 0 }, s2 = { 0 };
	struct x86_vec_fp a = {
		.body = x86_vec_body(body[e->kind][dbl], false)->x, .dst = &dst, .s1 = &s1, .s2 = &s2, .mxcsr = mxcsr,
	};

	s1.q[0] = e->x;
	if (e->kind == FMA) {
		dst.q[0] = e->y;
		s2.q[0] = e->z;
	} else {
		s2.q[0] = e->y;
	}
	return x86_vec_fp(&a) & FP_FLAGS;
}

/*
 * VCVTPS2PH has no FTZ that would show exact tiny results, and its source holds every
 * result with the exponent unbounded: 11 significant bits, tiny below 2^-14.
 */
u32 x86_vec_half_flags(const struct x86_vec_fp *a, unsigned vl, u32 unmasked)
{
	const struct x86_ymm *src = a->s2;
	u32 flags = 0;

	for (unsigned i = 0; i < vl / 4; i++) {
		struct x86_ymm one = { .d = { src->d[i] } };
		struct x86_vec_fp e = { .body = a->body, .dst = &one, .s1 = &one, .s2 = &one, .mxcsr = a->mxcsr };
		__float128 v = value(src->d[i], false, a->mxcsr & MXCSR_DAZ);
		u32 f = x86_vec_fp(&e) & FP_FLAGS;

		if (unmasked & FP_UE && v != 0 && v < 0x1p-14 && v > -0x1p-14 && fits(v, 11))
			f |= FP_UE;
		if (f & unmasked & (FP_OE | FP_UE))
			f = (f & ~(u32)FP_PE) | (fits(v, 11) ? 0 : FP_PE);
		flags |= f;
	}
	return flags;
}

u32 x86_vec_post_flags(const struct x86_vec_fp *a, unsigned mnemonic, unsigned vl, u32 unmasked, u32 flags)
{
	const struct arith *t = find(mnemonic);
	unsigned n;

	if (!t)
		return flags;
	n = t->scalar ? 1 : vl / (t->dbl ? 8 : 4);
	flags &= ~(u32)FP_PE;
	for (unsigned i = 0; i < n; i++) {
		struct element e = element(a, t, i);
		u32 f = run_element(&e, t->dbl, a->mxcsr);

		if (unmasked & FP_UE)
			f |= run_element(&e, t->dbl, a->mxcsr | MXCSR_FTZ) & FP_UE;
		if (f & unmasked & (FP_OE | FP_UE))
			flags |= inexact(&e, t->dbl, a->mxcsr) ? FP_PE : 0;
		else
			flags |= f & FP_PE;
	}
	return flags;
}
