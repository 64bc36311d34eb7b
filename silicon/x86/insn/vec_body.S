/* SPDX-License-Identifier: MIT */
/*
 * The native instructions themselves, one per row of vec_body.def, and the
 * trampolines that call them on the guest's registers. Bodies work on vector
 * registers 0..3 and RAX only (vec_body.def says which is what). A body with an
 * immediate is an array of 8-byte entries, one for each value.
 *
 * Everything is VEX encoded, so the host's upper halves need no care until
 * VZEROUPPER; SHA has no VEX form and comes in through %xmm registers alone.
 */
	.text

#define BODY(name) .balign 8; .globl x86_vec_##name; .hidden x86_vec_##name; x86_vec_##name:

	.macro imm_bodies count, insn, ops:vararg
	.set imm_value, 0
	.rept \count
	.balign 8
	\insn $imm_value, \ops
	ret
	.set imm_value, imm_value + 1
	.endr
	.endm

#define RVM_X(i) BODY(i##_x) i %xmm2, %xmm1, %xmm0; ret;
#define RVM_Y(i) BODY(i##_y) i %ymm2, %ymm1, %ymm0; ret;
#define RVM_XY(i) RVM_X(i) RVM_Y(i)
#define RM_X(i) BODY(i##_x) i %xmm2, %xmm0; ret;
#define RM_Y(i) BODY(i##_y) i %ymm2, %ymm0; ret;
#define RM_XY(i) RM_X(i) RM_Y(i)
#define RVC_XY(i) RVM_X(i) BODY(i##_y) i %xmm2, %ymm1, %ymm0; ret;
#define RMW_Y(i) BODY(i##_y) i %xmm2, %ymm0; ret;
#define RMW_XY(i) RM_X(i) RMW_Y(i)
#define RMN_XY(i) RM_X(i) BODY(i##_y) i %ymm2, %xmm0; ret;
#define RVMR_XY(i) BODY(i##_x) i %xmm3, %xmm2, %xmm1, %xmm0; ret; BODY(i##_y) i %ymm3, %ymm2, %ymm1, %ymm0; ret;
#define GM_XY(i) BODY(i##_x) i %xmm2, %eax; ret; BODY(i##_y) i %ymm2, %eax; ret;
#define GW_XY(i) BODY(i##_x) i %xmm2, %eax; ret; BODY(i##_y) i %xmm2, %rax; ret;
#define VG_XY(i) BODY(i##_x) i %eax, %xmm1, %xmm0; ret; BODY(i##_y) i %rax, %xmm1, %xmm0; ret;
#define FL_X(i) BODY(i##_x) i %xmm2, %xmm1; ret;
#define FL_XY(i) FL_X(i) BODY(i##_y) i %ymm2, %ymm1; ret;

/* SHA256RNDS2 has XMM0 as its third operand. */
#define R3_X(i) BODY(i##_x) movdqa %xmm0, %xmm1; movdqa %xmm3, %xmm0; i %xmm2, %xmm1; movdqa %xmm1, %xmm0; ret;

#define RVM_X_IMM(i, n) BODY(i##_ix) imm_bodies n, i, %xmm2, %xmm1, %xmm0;
#define RVM_Y_IMM(i, n) BODY(i##_iy) imm_bodies n, i, %ymm2, %ymm1, %ymm0;
#define RVM_XY_IMM(i, n) RVM_X_IMM(i, n) RVM_Y_IMM(i, n)
#define RM_X_IMM(i, n) BODY(i##_ix) imm_bodies n, i, %xmm2, %xmm0;
#define RM_Y_IMM(i, n) BODY(i##_iy) imm_bodies n, i, %ymm2, %ymm0;
#define RM_XY_IMM(i, n) RM_X_IMM(i, n) RM_Y_IMM(i, n)
#define RMN_XY_IMM(i, n) RM_X_IMM(i, n) BODY(i##_iy) imm_bodies n, i, %ymm2, %xmm0;
#define ST_X_IMM(i, n) BODY(i##_ix) imm_bodies n, i, %xmm2, %xmm1;
#define RVX_Y_IMM(i, n) BODY(i##_iy) imm_bodies n, i, %xmm2, %ymm1, %ymm0;

#define VEC(name, shape, widths, class) shape##_##widths(V##name)
#define VEX(name, shape, widths, class) shape##_##widths(V##name)
#define LEG(name, shape, class) shape##_X(name)
#define VECI(name, shape, widths, class, n) shape##_##widths##_IMM(V##name, n)
#define VEXI(name, shape, widths, class, n) shape##_##widths##_IMM(V##name, n)
#define LEGI(name, shape, class, n) shape##_X_IMM(name, n)
#include "silicon/x86/insn/vec_body.def"

#define ENTRY(name) .balign 16; .globl name; .hidden name; .type name, @function; name:
#define END(name) .size name, . - name

/*
 * void x86_vec_call16/32(body, dst, s1, s2, s3, gpr): operands and result are 16
 * or 32 bytes; the result goes to dst, RAX is gpr. 16-byte operands are read as
 * such: a wider load would not be forwarded from the store of the last result.
 */
ENTRY(x86_vec_call16)
	vmovdqu	(%rsi), %xmm0
	vmovdqu	(%rdx), %xmm1
	vmovdqu	(%rcx), %xmm2
	vmovdqu	(%r8), %xmm3
	mov	%r9, %rax
	push	%rsi
	call	*%rdi
	pop	%rsi
	vmovdqu	%xmm0, (%rsi)
	ret
END(x86_vec_call16)

ENTRY(x86_vec_call32)
	vmovdqu	(%rsi), %ymm0
	vmovdqu	(%rdx), %ymm1
	vmovdqu	(%rcx), %ymm2
	vmovdqu	(%r8), %ymm3
	mov	%r9, %rax
	push	%rsi
	call	*%rdi
	pop	%rsi
	vmovdqu	%ymm0, (%rsi)
	vzeroupper
	ret
END(x86_vec_call32)

/* void x86_vec_call_sse(body, dst, s1, s2, s3): bodies without a VEX form. */
ENTRY(x86_vec_call_sse)
	movdqu	(%rsi), %xmm0
	movdqu	(%rcx), %xmm2
	movdqu	(%r8), %xmm3
	push	%rsi
	call	*%rdi
	pop	%rsi
	movdqu	%xmm0, (%rsi)
	ret
END(x86_vec_call_sse)

/* u64 x86_vec_gpr(body, s1, s2): RAX of the body. */
ENTRY(x86_vec_gpr)
	vmovdqu	(%rsi), %ymm1
	vmovdqu	(%rdx), %ymm2
	sub	$8, %rsp
	call	*%rdi
	add	$8, %rsp
	vzeroupper
	ret
END(x86_vec_gpr)

/* u64 x86_vec_flags(body, s1, s2): RFLAGS of the body. */
ENTRY(x86_vec_flags)
	vmovdqu	(%rsi), %ymm1
	vmovdqu	(%rdx), %ymm2
	sub	$8, %rsp
	call	*%rdi
	pushfq
	pop	%rax
	add	$8, %rsp
	vzeroupper
	ret
END(x86_vec_flags)

/* u64 x86_vec_string(body, s1, s2, eax, edx, mask): ECX | RFLAGS << 32; *mask = XMM0. */
ENTRY(x86_vec_string)
	vmovdqu	(%rsi), %xmm1
	vmovdqu	(%rdx), %xmm2
	mov	%ecx, %eax
	mov	%r8d, %edx
	sub	$8, %rsp
	call	*%rdi
	pushfq
	pop	%rax
	shl	$32, %rax
	mov	%ecx, %ecx
	or	%rcx, %rax
	vmovdqu	%xmm0, (%r9)
	add	$8, %rsp
	ret
END(x86_vec_string)

/*
 * u32 x86_vec_fp(struct x86_vec_fp *a): run a->body under a->mxcsr; returns
 * MXCSR as it was left. Offsets are asserted in vec.c.
 */
ENTRY(x86_vec_fp)
	mov	8(%rdi), %rdx
	vmovdqu	(%rdx), %ymm0
	mov	16(%rdi), %rdx
	vmovdqu	(%rdx), %ymm1
	mov	24(%rdi), %rdx
	vmovdqu	(%rdx), %ymm2
	mov	40(%rdi), %rax
	sub	$24, %rsp
	vstmxcsr 8(%rsp)
	vldmxcsr 48(%rdi)
	call	*(%rdi)
	vstmxcsr 12(%rsp)
	vldmxcsr 8(%rsp)
	mov	%rax, 40(%rdi)
	pushfq
	pop	%rax
	mov	%rax, 32(%rdi)
	vmovdqu	%ymm0, 64(%rdi)
	mov	12(%rsp), %eax
	add	$24, %rsp
	vzeroupper
	ret
END(x86_vec_fp)

	.section .note.GNU-stack, "", @progbits
