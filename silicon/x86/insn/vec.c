/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions whose semantics are the host's own instruction: one
 * handler per operand shape, the body (vec_body.def) chosen when the
 * instruction is decoded and kept in op->imm. Moves, masked accesses, string
 * compares and MMX are elsewhere (sse_*.c, avx_*.c, mmx_*.c).
 *
 * Guest floating point runs with every exception masked and clear flags;
 * what the guest unmasked is found afterwards from the flags, before anything is
 * committed. Compiled C never sees the guest's MXCSR.
 */
#include "silicon/x86/insn/vec.h"

#include <cpuid.h>
#include <stddef.h>
#include <xmmintrin.h>

#include "silicon/x86/decode/decode.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/insn/vec_soft.h"

_Static_assert(offsetof(struct x86_vec_fp, flags) == 32 && offsetof(struct x86_vec_fp, gpr) == 40 &&
	       offsetof(struct x86_vec_fp, mxcsr) == 48 && offsetof(struct x86_vec_fp, out) == 64,
	       "vec_body.S knows these");

/* ---- Bodies ---- */

#define DECL_X(i) extern const char x86_vec_##i##x[];
#define DECL_Y(i) extern const char x86_vec_##i##y[];
#define DECL_XY(i) DECL_X(i) DECL_Y(i)
#define VEC(name, shape, widths, class) DECL_##widths(V##name##_)
#define VEX(name, shape, widths, class) DECL_##widths(V##name##_)
#define LEG(name, shape, class) DECL_X(name##_)
#define VECI(name, shape, widths, class, n) DECL_##widths(V##name##_i)
#define VEXI(name, shape, widths, class, n) DECL_##widths(V##name##_i)
#define LEGI(name, shape, class, n) DECL_X(name##_i)
#include "silicon/x86/insn/vec_body.def"

enum body_index {
	BODY_NONE,
#define VEC(name, shape, widths, class) BODY_##name,
#define VEX(name, shape, widths, class) BODY_##name,
#define LEG(name, shape, class) BODY_##name,
#define VECI(name, shape, widths, class, n) BODYI_##name,
#define VEXI(name, shape, widths, class, n) BODYI_##name,
#define LEGI(name, shape, class, n) BODYI_##name,
#include "silicon/x86/insn/vec_body.def"
};

#define PTR_X(i) .x = x86_vec_##i##x
#define PTR_Y(i) .y = x86_vec_##i##y
#define PTR_XY(i) PTR_X(i), PTR_Y(i)
#define CLASS_INT(name) .host = VEC_HOST_V3
#define CLASS_FP(name) .fp = true, .host = VEC_HOST_V3
#define CLASS_AES(name) .host = VEC_HOST_AES, .soft = x86_soft_##name
#define CLASS_CLM(name) .host = VEC_HOST_CLM, .soft = x86_soft_##name
#define CLASS_SHA(name) .host = VEC_HOST_SHA, .soft = x86_soft_##name, .sse = true
static const struct x86_vec_body bodies[] = {
#define VEC(name, shape_, widths, class) \
	[BODY_##name] = { PTR_##widths(V##name##_), .shape = VEC_##shape_, CLASS_##class(name) },
#define VEX(name, shape_, widths, class) \
	[BODY_##name] = { PTR_##widths(V##name##_), .shape = VEC_##shape_, CLASS_##class(name) },
#define LEG(name, shape_, class) \
	[BODY_##name] = { PTR_X(name##_), .shape = VEC_##shape_, CLASS_##class(name) },
#define VECI(name, shape_, widths, class, n)                                                       \
	[BODYI_##name] = {PTR_##widths(V##name##_i), .shape = VEC_##shape_, .nimm = n,             \
			  CLASS_##class(name)},
#define VEXI(name, shape_, widths, class, n)                                                       \
	[BODYI_##name] = {PTR_##widths(V##name##_i), .shape = VEC_##shape_, .nimm = n,             \
			  CLASS_##class(name)},
#define LEGI(name, shape_, class, n) \
	[BODYI_##name] = { PTR_X(name##_i), .shape = VEC_##shape_, .nimm = n, CLASS_##class(name) },
#include "silicon/x86/insn/vec_body.def"
};

static const u16 by_mnemonic[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define VEC(name, shape, widths, class) \
	[ZYDIS_MNEMONIC_##name] = BODY_##name, [ZYDIS_MNEMONIC_V##name] = BODY_##name,
#define VEX(name, shape, widths, class) [ZYDIS_MNEMONIC_V##name] = BODY_##name,
#define LEG(name, shape, class) [ZYDIS_MNEMONIC_##name] = BODY_##name,
#include "silicon/x86/insn/vec_body.def"
};

static const u16 by_mnemonic_imm[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define VECI(name, shape, widths, class, n) \
	[ZYDIS_MNEMONIC_##name] = BODYI_##name, [ZYDIS_MNEMONIC_V##name] = BODYI_##name,
#define VEXI(name, shape, widths, class, n) [ZYDIS_MNEMONIC_V##name] = BODYI_##name,
#define LEGI(name, shape, class, n) [ZYDIS_MNEMONIC_##name] = BODYI_##name,
#include "silicon/x86/insn/vec_body.def"
};

/* ---- The host ---- */

bool x86_vec_force_soft;

static bool host_has(enum x86_vec_host what)
{
	u32 a, b = 0, c = 0, d;

	switch (what) {
	case VEC_HOST_V3: return true;	/* else x86_host_lacks() names it, and nothing runs */
	case VEC_HOST_AES: return __builtin_cpu_supports("aes");
	case VEC_HOST_CLM: return __builtin_cpu_supports("pclmul");
	case VEC_HOST_SHA: return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
	case VEC_NR_HOST: break;
	}
	return false;
}

/* CPUID may be a VM exit of the host: ask once. Racing threads find the same. */
static bool use_native(const struct x86_vec_body *b)
{
	static _Atomic u8 known[VEC_NR_HOST];	/* 0 unknown, 1 no, 2 yes */
	u8 k = known[b->host];

	if (!k)
		known[b->host] = k = host_has(b->host) ? 2 : 1;
	return k == 2 && !(x86_vec_force_soft && b->soft);
}

const struct x86_vec_body *x86_vec_body(unsigned mnemonic, bool imm)
{
	unsigned i = imm ? by_mnemonic_imm[mnemonic] : by_mnemonic[mnemonic];

	return i ? &bodies[i] : NULL;
}

/* ---- Memory operands ---- */

unsigned x86_vec_memsize(const struct x86_dec *d)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++)
		if (d->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return d->operands[i].size / 8;
	return 0;
}

static void load_at(struct x86_cpu *cpu, unsigned seg, u64 lin, struct x86_ymm *v, unsigned size)
{
	const void *p;

	v->q[0] = v->q[1] = v->q[2] = v->q[3] = 0;
	switch (size) {
	case 1: v->q[0] = x86_load8(cpu, seg, lin); return;
	case 2: v->q[0] = x86_load16(cpu, seg, lin); return;
	case 4: v->q[0] = x86_load32(cpu, seg, lin); return;
	case 8: v->q[0] = x86_load64(cpu, seg, lin); return;
	}
	p = x86_hit_read(cpu, lin, size);
	if (unlikely(!p))
		x86_load_bytes(cpu, seg, lin, v, size);
	else if (size == 16)
		x86_copy16(v, p);
	else
		x86_copy32(v, p);
}

static void store_at(struct x86_cpu *cpu, unsigned seg, u64 lin, const void *v, unsigned size)
{
	u64 low = 0;
	void *p;

	if (size <= 8)
		memcpy(&low, v, size);
	switch (size) {
	case 1: x86_store8(cpu, seg, lin, (u8)low); return;
	case 2: x86_store16(cpu, seg, lin, (u16)low); return;
	case 4: x86_store32(cpu, seg, lin, (u32)low); return;
	case 8: x86_store64(cpu, seg, lin, low); return;
	}
	p = x86_hit_write(cpu, lin, size);
	if (unlikely(!p))
		x86_store_bytes(cpu, seg, lin, v, size);
	else if (size == 16)
		x86_copy16(p, v);
	else
		x86_copy32(p, v);
}

void x86_vec_load(struct x86_cpu *cpu, const struct x86_op *op, struct x86_ymm *v, unsigned size)
{
	load_at(cpu, op->seg, x86_lin_read(cpu, op->seg, x86_ea(cpu, op), size), v, size);
}

void x86_vec_store(struct x86_cpu *cpu, const struct x86_op *op, const void *v, unsigned size)
{
	store_at(cpu, op->seg, x86_lin_write(cpu, op->seg, x86_ea(cpu, op), size), v, size);
}

void x86_vec_load_aligned(struct x86_cpu *cpu, const struct x86_op *op, struct x86_ymm *v,
			  unsigned size)
{
	u64 lin = x86_lin_read(cpu, op->seg, x86_ea(cpu, op), size);

	if (unlikely(lin & (size - 1)))
		x86_gp0(cpu);
	load_at(cpu, op->seg, lin, v, size);
}

void x86_vec_store_aligned(struct x86_cpu *cpu, const struct x86_op *op, const void *v,
			   unsigned size)
{
	u64 lin = x86_lin_write(cpu, op->seg, x86_ea(cpu, op), size);

	if (unlikely(lin & (size - 1)))
		x86_gp0(cpu);
	store_at(cpu, op->seg, lin, v, size);
}

/* ---- SIMD floating-point exceptions ---- */

/*
 * Nearly all guests run with every exception masked and the modes that C code
 * has too. Then nothing needs to be switched (LDMXCSR costs more than all the
 * rest): if the host's sticky flags are a subset of the guest's beforehand,
 * what they have afterwards is what the guest's become.
 */
static __always_inline bool fp_plain_begin(const struct x86_cpu *cpu)
{
	u32 guest = cpu->fpu.mxcsr, host;

	if (unlikely((guest & ~FP_FLAGS) != MXCSR_RESET))
		return false;
	host = _mm_getcsr();
	if (unlikely((host & ~FP_FLAGS) != MXCSR_RESET))
		return false;
	if (unlikely(host & ~guest))
		_mm_setcsr(guest);
	return true;
}

static __always_inline void fp_plain_end(struct x86_cpu *cpu)
{
	cpu->fpu.mxcsr |= _mm_getcsr() & FP_FLAGS;
}

static void dot_product_stages(struct x86_cpu *cpu, const struct x86_op *op,
			       const struct x86_vec_fp *whole, unsigned mnemonic);

static void fp_checked(struct x86_cpu *cpu, const struct x86_op *op, struct x86_vec_fp *a,
		       unsigned mnemonic)
{
	u32 guest = cpu->fpu.mxcsr;
	u32 unmasked = ~(guest >> MXCSR_MASK_SHIFT) & FP_FLAGS;
	u64 gpr = a->gpr;
	u32 flags;

	/* FTZ acts only while underflow is masked. */
	a->mxcsr =
		(guest & (MXCSR_RC | MXCSR_DAZ | (unmasked & FP_UE ? 0 : MXCSR_FTZ))) | MXCSR_MASKS;
	flags = x86_vec_fp(a) & FP_FLAGS;
	if (unlikely(unmasked & FP_UE)) {
		/*
		 * Unmasked underflow also wants tiny results that are exact. Flushing
		 * them makes the host report every tiny result.
		 */
		struct x86_vec_fp probe = *a;

		probe.gpr = gpr;
		probe.mxcsr |= MXCSR_FTZ;
		flags |= x86_vec_fp(&probe) & FP_UE;
	}
	if (unlikely(unmasked & (FP_OE | FP_UE)) && !mnemonic) {
		mnemonic = x86_insn_row(op->row)->mnemonic;
		if (mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH)
			flags = x86_vec_half_flags(a, op->vl, unmasked);
	}
	if (unlikely(flags & unmasked)) {
		if (!mnemonic)
			mnemonic = x86_insn_row(op->row)->mnemonic;
		dot_product_stages(cpu, op, a, mnemonic);
		/* A pre-computation exception stops all elements before any result. */
		if (flags & unmasked & FP_PRE_FLAGS)
			flags &= FP_PRE_FLAGS;
		else if (flags & unmasked & (FP_OE | FP_UE))
			flags = x86_vec_post_flags(a, mnemonic, op->vl, unmasked, flags);
		cpu->fpu.mxcsr |= flags;
		x86_simd_fault(cpu);
	}
	cpu->fpu.mxcsr |= flags;
}

static void stage(struct x86_cpu *cpu, const struct x86_op *op, struct x86_vec_fp *a,
		  unsigned mnemonic)
{
	a->body = x86_vec_body(mnemonic, false)->y;
	a->dst = a->s1;
	fp_checked(cpu, op, a, mnemonic);
}

/*
 * DPPS and DPPD multiply, add pairs and add these: each step faults by itself,
 * before the flags of the next. Called when a fault is certain; a step that does
 * not fault has only set its flags.
 */
static void dot_product_stages(struct x86_cpu *cpu, const struct x86_op *op,
			       const struct x86_vec_fp *whole, unsigned mnemonic)
{
	bool dbl = mnemonic == ZYDIS_MNEMONIC_DPPD || mnemonic == ZYDIS_MNEMONIC_VDPPD;
	struct x86_ymm s1 = { 0 }, s2 = { 0 };
	struct x86_vec_fp a = { .s1 = &s1, .s2 = &s2 };
	const struct x86_vec_body *b;
	unsigned imm;

	if (!dbl && mnemonic != ZYDIS_MNEMONIC_DPPS && mnemonic != ZYDIS_MNEMONIC_VDPPS)
		return;
	b = x86_vec_body(mnemonic, true);
	imm = (unsigned)((const u8 *)whole->body - (const u8 *)(op->vl == 32 ? b->y : b->x)) / 8;
	memcpy(&s1, whole->s1, op->vl);
	memcpy(&s2, whole->s2, op->vl);
	for (unsigned i = 0; i < 8; i++) {
		if (imm >> (dbl ? 4 + (i >> 1 & 1) : 4 + (i & 3)) & 1)
			continue;
		s1.d[i] = s2.d[i] = 0;
	}
	stage(cpu, op, &a, dbl ? ZYDIS_MNEMONIC_VMULPD : ZYDIS_MNEMONIC_VMULPS);
	s1 = s2 = a.out;
	stage(cpu, op, &a, dbl ? ZYDIS_MNEMONIC_VHADDPD : ZYDIS_MNEMONIC_VHADDPS);
	s1 = s2 = a.out;
	if (!dbl)
		stage(cpu, op, &a, ZYDIS_MNEMONIC_VHADDPS);
}

void x86_vec_fp_run(struct x86_cpu *cpu, const struct x86_op *op, struct x86_vec_fp *a)
{
	fp_checked(cpu, op, a, 0);
}

/* ---- Handlers by operand shape ---- */

#define YMM(n) (&cpu->fpu.ymm[n])

static __always_inline void check(struct x86_cpu *cpu, bool vex)
{
	if (vex)
		x86_check_avx(cpu);
	else
		x86_check_sse(cpu);
}

static __always_inline const void *source(struct x86_cpu *cpu, const struct x86_op *op,
					  struct x86_ymm *tmp, bool vex, bool mem)
{
	if (!mem)
		return YMM(op->rm);
	if (!vex && op->osize == 16)
		x86_vec_load_aligned(cpu, op, tmp, 16);
	else
		x86_vec_load(cpu, op, tmp, op->osize);
	return tmp;
}

static __always_inline void vec_int(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				    bool mem)
{
	struct x86_ymm tmp;
	const void *s2;

	check(cpu, vex);
	s2 = source(cpu, op, &tmp, vex, mem);
	(vex ? x86_vec_call32 : x86_vec_call16)((const void *)op->imm, YMM(op->reg), YMM(op->vvvv),
						s2, YMM(op->imm2), 0);
}

/* The general way, with a result that is committed only if nothing faults. */
static void fp_commit(struct x86_cpu *cpu, const struct x86_op *op, const void *s2, u64 gpr,
		      bool vex)
{
	struct x86_vec_fp a = {
		.body = (const void *)op->imm,
		.dst = YMM(op->reg),
		.s1 = YMM(op->vvvv),
		.s2 = s2,
		.gpr = gpr,
	};

	x86_vec_fp_run(cpu, op, &a);
	if (vex)
		*YMM(op->reg) = a.out;
	else
		x86_copy16(YMM(op->reg), &a.out);
}

static __always_inline void fp_do(struct x86_cpu *cpu, const struct x86_op *op, const void *s2,
				  u64 gpr, bool vex)
{
	if (likely(fp_plain_begin(cpu))) {
		(vex ? x86_vec_call32 : x86_vec_call16)((const void *)op->imm, YMM(op->reg),
							YMM(op->vvvv), s2, s2, gpr);
		fp_plain_end(cpu);
	} else {
		fp_commit(cpu, op, s2, gpr, vex);
	}
}

static __always_inline void vec_fp(struct x86_cpu *cpu, const struct x86_op *op, bool vex, bool mem)
{
	struct x86_ymm tmp;

	check(cpu, vex);
	fp_do(cpu, op, source(cpu, op, &tmp, vex, mem), 0, vex);
}

static __always_inline void set_flags(struct x86_cpu *cpu, u64 rflags)
{
	x86_set_arith(cpu, rflags & RFLAGS_ARITH);
}

static __always_inline void vec_flags(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				      bool mem)
{
	struct x86_ymm tmp;

	check(cpu, vex);
	set_flags(cpu, x86_vec_flags((const void *)op->imm, YMM(op->reg),
				     source(cpu, op, &tmp, vex, mem)));
}

static __always_inline void vec_flags_fp(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
					 bool mem)
{
	struct x86_vec_fp a = { .body = (const void *)op->imm };
	struct x86_ymm tmp;

	check(cpu, vex);
	a.dst = a.s1 = YMM(op->reg);
	a.s2 = source(cpu, op, &tmp, vex, mem);
	if (likely(fp_plain_begin(cpu))) {
		a.flags = x86_vec_flags(a.body, a.s1, a.s2);
		fp_plain_end(cpu);
	} else {
		x86_vec_fp_run(cpu, op, &a);
	}
	set_flags(cpu, a.flags);
}

/* Floating point to a general register. */
static __always_inline void vec_to_gpr(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				       bool mem)
{
	struct x86_vec_fp a = { .body = (const void *)op->imm };
	struct x86_ymm tmp;

	check(cpu, vex);
	a.dst = a.s1 = a.s2 = source(cpu, op, &tmp, vex, mem);
	if (likely(fp_plain_begin(cpu))) {
		a.gpr = x86_vec_gpr(a.body, a.s2, a.s2);
		fp_plain_end(cpu);
	} else {
		x86_vec_fp_run(cpu, op, &a);
	}
	cpu->gpr[op->reg] = a.gpr;
}

/* A general register or integer in memory to floating point. */
static __always_inline void vec_from_gpr(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
					 bool mem)
{
	struct x86_ymm tmp;
	u64 gpr;

	check(cpu, vex);
	if (mem) {
		x86_vec_load(cpu, op, &tmp, op->osize);
		gpr = tmp.q[0];
	} else {
		gpr = cpu->gpr[op->rm];
	}
	fp_do(cpu, op, YMM(op->vvvv), gpr, vex);
}

static __always_inline void vec_mask_to_gpr(struct x86_cpu *cpu, const struct x86_op *op, bool vex)
{
	check(cpu, vex);
	cpu->gpr[op->reg] = x86_vec_gpr((const void *)op->imm, YMM(op->rm), YMM(op->rm));
}

static __always_inline void vec_sse_only(struct x86_cpu *cpu, const struct x86_op *op, bool mem)
{
	struct x86_ymm tmp;

	x86_check_sse(cpu);
	x86_vec_call_sse((const void *)op->imm, YMM(op->reg), YMM(op->vvvv),
			 source(cpu, op, &tmp, false, mem), YMM(op->imm2));
}

/* op->imm: the C body, and the immediate above it. */
static __always_inline void vec_soft(struct x86_cpu *cpu, const struct x86_op *op, bool vex,
				     bool mem)
{
	x86_vec_soft_fn *fn = (x86_vec_soft_fn *)(op->imm & BITS(55, 0));
	struct x86_ymm tmp, d = { 0 };
	const void *s2;

	check(cpu, vex);
	s2 = source(cpu, op, &tmp, vex, mem);
	fn(&d, YMM(op->vvvv), s2, YMM(op->imm2), (u8)(op->imm >> 56));
	if (vex)
		*YMM(op->reg) = d;
	else
		x86_copy16(YMM(op->reg), &d);
}

#define HANDLERS(name)                                                                             \
	static void name##_sse_r(struct x86_cpu *cpu, const struct x86_op *op)                     \
	{                                                                                          \
		name(cpu, op, false, false);                                                       \
	}                                                                                          \
	static void name##_sse_m(struct x86_cpu *cpu, const struct x86_op *op)                     \
	{                                                                                          \
		name(cpu, op, false, true);                                                        \
	}                                                                                          \
	static void name##_avx_r(struct x86_cpu *cpu, const struct x86_op *op)                     \
	{                                                                                          \
		name(cpu, op, true, false);                                                        \
	}                                                                                          \
	static void name##_avx_m(struct x86_cpu *cpu, const struct x86_op *op)                     \
	{                                                                                          \
		name(cpu, op, true, true);                                                         \
	}                                                                                          \
	static x86_fn *const name##_fns[2][2] = {{name##_sse_r, name##_sse_m},                     \
						 {name##_avx_r, name##_avx_m}};
HANDLERS(vec_int)
HANDLERS(vec_fp)
HANDLERS(vec_flags)
HANDLERS(vec_flags_fp)
HANDLERS(vec_to_gpr)
HANDLERS(vec_from_gpr)
HANDLERS(vec_soft)

static void mask_to_gpr_sse(struct x86_cpu *cpu, const struct x86_op *op)
{
	vec_mask_to_gpr(cpu, op, false);
}
static void mask_to_gpr_avx(struct x86_cpu *cpu, const struct x86_op *op)
{
	vec_mask_to_gpr(cpu, op, true);
}
static void sse_only_r(struct x86_cpu *cpu, const struct x86_op *op)
{
	vec_sse_only(cpu, op, false);
}
static void sse_only_m(struct x86_cpu *cpu, const struct x86_op *op)
{
	vec_sse_only(cpu, op, true);
}

/* ---- Selection ---- */

/* 256-bit forms that came later than the row's 128-bit ones. */
static bool width_allowed(const struct x86_dec *d)
{
	switch (d->insn.meta.isa_set) {
	case ZYDIS_ISA_SET_AVX2: return x86_has(d->cpu, X86_FEAT_AVX2);
	case ZYDIS_ISA_SET_VAES:
	case ZYDIS_ISA_SET_VPCLMULQDQ: return false;
	default: return true;
	}
}

x86_fn *x86_sel_vec(const struct x86_dec *d, struct x86_op *op)
{
	const ZydisDecodedOperand *last = &d->operands[d->insn.operand_count_visible - 1];
	bool has_imm = last->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	bool vex = op->flags & X86_OP_VEX, mem = op->flags & X86_OP_MEM;
	const struct x86_vec_body *b = x86_vec_body(d->insn.mnemonic, has_imm);
	bool wide = vex && op->vl == 32;
	u64 imm = op->imm;

	if (!b || !width_allowed(d))
		return x86_op_ud;
	/* Shifts by an immediate: the destination is VEX.vvvv, or ModRM.rm without VEX. */
	if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
		op->reg = op->vvvv;
	else if (d->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
		op->reg = op->rm;
	if (!vex)
		op->vvvv = op->reg;
	if (b->shape == VEC_RVMR || b->shape == VEC_R3) {
		if (!vex)
			op->imm2 = 0;	/* BLENDVPS and others: XMM0 */
	} else {
		op->imm2 = op->reg;
	}
	op->osize = (u8)x86_vec_memsize(d);
	/* INSERTPS takes the only element that a memory operand has. */
	if (mem && (d->insn.mnemonic == ZYDIS_MNEMONIC_INSERTPS ||
		    d->insn.mnemonic == ZYDIS_MNEMONIC_VINSERTPS))
		imm &= 0x3f;
	/* The legacy compares know eight predicates. */
	if (!vex && b->fp && b->nimm == 32)
		imm &= 7;
	if (b->shape == VEC_GW || b->shape == VEC_VG)
		wide = op->flags & X86_OP_REXW && d->mode == X86_MODE_64;
	if (!use_native(b)) {
		op->imm = (u64)b->soft | imm << 56;
		return vec_soft_fns[vex][mem];
	}
	op->imm = (u64)x86_vec_imm(wide && b->y ? b->y : b->x, b, imm);

	switch ((enum x86_vec_shape)b->shape) {
	case VEC_GM:
		return vex ? mask_to_gpr_avx : mask_to_gpr_sse;
	case VEC_GW:
		return vec_to_gpr_fns[vex][mem];
	case VEC_VG:
		return vec_from_gpr_fns[vex][mem];
	case VEC_FL:
		return b->fp ? vec_flags_fp_fns[vex][mem] : vec_flags_fns[vex][mem];
	case VEC_ST:
		break;		/* sse_string.c */
	case VEC_R3:
	case VEC_RM:
	case VEC_RVM:
	case VEC_RVC:
	case VEC_RMW:
	case VEC_RMN:
	case VEC_RVMR:
	case VEC_RVX:
		if (b->sse)
			return mem ? sse_only_m : sse_only_r;
		return b->fp ? vec_fp_fns[vex][mem] : vec_int_fns[vex][mem];
	}
	return x86_op_ud;
}
