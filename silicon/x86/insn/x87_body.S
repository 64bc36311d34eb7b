/* SPDX-License-Identifier: MIT */
/* The rows of x87_body.def as code, and the trampoline that runs one on the guest's operands. */
	.text

#define X87_BODY(name, ...) .balign 8; .globl x86_x87_##name; .hidden x86_x87_##name; x86_x87_##name: __VA_ARGS__; ret;
#include "silicon/x86/insn/x87_body.def"

/*
 * void x86_x87_run(struct x86_x87 *a): offsets are asserted in x87_arith.c.
 *
 * The guest's own control word is in force, unmasked exceptions included: an
 * x87 exception is reported by the next waiting instruction only, and FNCLEX
 * comes before it. The host's x87 stack is empty between functions, by the ABI.
 */
	.balign 16
	.globl x86_x87_run
	.hidden x86_x87_run
	.type x86_x87_run, @function
x86_x87_run:
	push	%rdi
	sub	$48, %rsp
	fnstcw	(%rsp)
	/* Flags that C code left; hardly ever any. */
	fnstsw	%ax
	test	$0x7f, %al
	jz	1f
	fnclex
1:	movzwl	96(%rdi), %eax
	cmp	%ax, (%rsp)
	je	2f
run:
	fldcw	96(%rdi)
2:	fldt	48(%rdi)
	fldt	32(%rdi)
	lea	8(%rdi), %rsi
	call	*(%rdi)
	mov	48(%rsp), %rdi
	pushfq
	pop	104(%rdi)
	fnstsw	%ax
	mov	%ax, 98(%rdi)
	/* Nothing may be pending when the results are stored, under the host's masks. */
	test	$0xff, %al
	jz	3f
	fnclex
3:	movzwl	96(%rdi), %eax
	cmp	%ax, (%rsp)
	je	4f
	fldcw	(%rsp)
	/* Bodies leave one to three values; an empty one stores as the masked indefinite. */
4:	fstpt	64(%rdi)
	fstpt	80(%rdi)
	emms
	add	$56, %rsp
	ret
	.size x86_x87_run, . - x86_x87_run

/* void x86_x87_run_cc(struct x86_x87 *a): the condition codes of a->sw are there beforehand. */
	.balign 16
	.globl x86_x87_run_cc
	.hidden x86_x87_run_cc
	.type x86_x87_run_cc, @function
x86_x87_run_cc:
	push	%rdi
	sub	$48, %rsp
	fnstcw	(%rsp)
	fnclex
	fnstenv	16(%rsp)
	movzwl	98(%rdi), %eax
	and	$0x4700, %eax
	mov	%ax, 20(%rsp)
	fldenv	16(%rsp)
	jmp	run
	.size x86_x87_run_cc, . - x86_x87_run_cc

	.section .note.GNU-stack, "", @progbits
