/* SPDX-License-Identifier: MIT */
/*
 * Contract between the families of vector instructions: memory operands of
 * 1..32 bytes, the register file, and calls of native bodies (vec_body.S).
 */
#ifndef SILICON_X86_INSN_VEC_H
#define SILICON_X86_INSN_VEC_H

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/mmu/mem.h"

/* Operands of 16 or 32 bytes each; dst is the old destination on entry; @gpr for bodies that take
 * one. */
void x86_vec_call16(const void *body, void *dst, const void *s1, const void *s2, const void *s3,
		    u64 gpr);
void x86_vec_call32(const void *body, void *dst, const void *s1, const void *s2, const void *s3,
		    u64 gpr);
void x86_vec_call_sse(const void *body, void *dst, const void *s1, const void *s2, const void *s3);
u64 x86_vec_gpr(const void *body, const void *s1, const void *s2);
u64 x86_vec_flags(const void *body, const void *s1, const void *s2);
/* PCMPxSTRx with explicit lengths in EAX and EDX: returns ECX | RFLAGS << 32. */
u64 x86_vec_string(const void *body, const void *s1, const void *s2, u32 eax, u32 edx, void *xmm0);

struct x86_vec_fp {
	const void *body;
	const void *dst, *s1, *s2;	/* old destination and sources, 32 bytes each */
	u64 flags;			/* out: RFLAGS */
	u64 gpr;			/* in and out */
	u32 mxcsr;			/* in */
	u32 pad;
	struct x86_ymm out;
};
u32 x86_vec_fp(struct x86_vec_fp *a);

/*
 * Run @a under the guest's MXCSR: a->out, a->gpr and a->flags are valid when it
 * returns, and MXCSR has the new flags; an unmasked exception faults instead.
 */
void x86_vec_fp_run(struct x86_cpu *cpu, const struct x86_op *op, struct x86_vec_fp *a);

/*
 * @flags of a masked run of @a, in which OE or UE is among @unmasked: the same with
 * PE as it is when the exponent is unbounded.
 */
u32 x86_vec_post_flags(const struct x86_vec_fp *a, unsigned mnemonic, unsigned vl, u32 unmasked,
		       u32 flags);

/* The flags of VCVTPS2PH as they are with @unmasked exceptions; @vl: bytes of the source. */
u32 x86_vec_half_flags(const struct x86_vec_fp *a, unsigned vl, u32 unmasked);

/* A native body by its Zydis mnemonic, VEX or legacy name alike. */
enum x86_vec_shape {
	VEC_RVM, VEC_RM, VEC_RVC, VEC_RMW, VEC_RMN, VEC_RVMR, VEC_RVX, VEC_GM, VEC_GW, VEC_VG,
	VEC_FL, VEC_R3, VEC_ST
};
/* What a body needs of the host. */
enum x86_vec_host { VEC_HOST_V3, VEC_HOST_AES, VEC_HOST_CLM, VEC_HOST_SHA, VEC_NR_HOST };

typedef void x86_vec_soft_fn(struct x86_ymm *d, const struct x86_ymm *s1, const struct x86_ymm *s2,
			     const struct x86_ymm *s3, u8 imm);
/* For tests: take the C body wherever there is one, at the next decoding. */
extern bool x86_vec_force_soft;

struct x86_vec_body {
	const void *x, *y;	/* 128 and 256 bits (GW, VG: 32 and 64-bit GPR); NULL if absent */
	u16 nimm;		/* values of the immediate, a power of two; 0 = none */
	u8 shape;		/* enum x86_vec_shape */
	bool fp;		/* MXCSR applies */
	bool sse;		/* no VEX form */
	u8 host;		/* enum x86_vec_host */
	x86_vec_soft_fn *soft;	/* the same in C, 128 bits; NULL where every host has it */
};
/* NULL: there is none, or the host cannot run it. */
const struct x86_vec_body *x86_vec_body(unsigned mnemonic, bool imm);

static inline const void *x86_vec_imm(const void *bodies, const struct x86_vec_body *b, u64 imm)
{
	return b->nimm ? (const u8 *)bodies + 8 * (imm & (b->nimm - 1u)) : bodies;
}

/* Memory operand size in bytes as Zydis gives it, 0 if there is none. */
unsigned x86_vec_memsize(const struct x86_dec *d);

/* Copies as one access each, as wide as the host has. */
static inline void x86_copy16(void *dst, const void *src)
{
	asm volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
		     : "=m"(*(u8 (*)[16])dst) : "m"(*(const u8 (*)[16])src) : "xmm0");
}

static inline void x86_copy32(void *dst, const void *src)
{
	x86_copy16(dst, src);
	x86_copy16((u8 *)dst + 16, (const u8 *)src + 16);
}

static inline void x86_vec_zero_upper(struct x86_ymm *r)
{
	r->q[2] = r->q[3] = 0;
}

/* Read the memory operand, @size 1..32; bytes of @v above it become 0. */
void x86_vec_load(struct x86_cpu *cpu, const struct x86_op *op, struct x86_ymm *v, unsigned size);
void x86_vec_store(struct x86_cpu *cpu, const struct x86_op *op, const void *v, unsigned size);
/* The same with the alignment rule of legacy SSE: #GP(0) if not @size aligned. */
void x86_vec_load_aligned(struct x86_cpu *cpu, const struct x86_op *op, struct x86_ymm *v,
			  unsigned size);
void x86_vec_store_aligned(struct x86_cpu *cpu, const struct x86_op *op, const void *v,
			   unsigned size);

#endif
