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
	sub	$16, %rsp
	fnstcw	(%rsp)
	fnclex
	fldcw	96(%rdi)
	fldt	48(%rdi)
	fldt	32(%rdi)
	lea	8(%rdi), %rsi
	call	*(%rdi)
	mov	16(%rsp), %rdi
	fnstsw	98(%rdi)
	pushfq
	pop	104(%rdi)
	fnclex
	fldcw	(%rsp)
	/* Bodies leave one to three values; an empty one stores as the masked indefinite. */
	fstpt	64(%rdi)
	fstpt	80(%rdi)
	emms
	fnclex
	add	$24, %rsp
	ret
	.size x86_x87_run, . - x86_x87_run

	.section .note.GNU-stack, "", @progbits
