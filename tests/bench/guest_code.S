/* SPDX-License-Identifier: MIT */
/*
 * The measured loops: position-independent functions (rdi = iterations, rsi =
 * a buffer of 64 KiB, result in rax) that run unchanged on the host and, copied
 * into guest memory, in a virtual machine.
 */
	.text
	.macro func name
	.balign 64
	.globl bench_\name
bench_\name:
	.endm
	.macro endfunc name
	.globl bench_\name\()_end
bench_\name\()_end:
	.endm

/* 10 instructions an iteration: ALU, load, store, branch. */
	func mixed
	xor %eax, %eax
1:	mov (%rsi), %rdx
	add %rdi, %rax
	lea 3(%rdx, %rax), %rcx
	xor %rcx, %rdx
	mov %rdx, (%rsi)
	shr $3, %rcx
	and $0x1fff, %ecx
	add 8(%rsi, %rcx), %al
	dec %rdi
	jnz 1b
	ret
	endfunc mixed

/* 10 register instructions an iteration. */
	func alu
	xor %eax, %eax
	mov $12345, %edx
1:	add %rdx, %rax
	xor %rdi, %rdx
	lea 7(%rax, %rdx), %rcx
	sub %rcx, %rdx
	or $1, %rdx
	and %rdx, %rcx
	add %rcx, %rax
	inc %rdx
	dec %rdi
	jnz 1b
	ret
	endfunc alu

/* 2 instructions an iteration. */
	func loop2
1:	dec %rdi
	jnz 1b
	ret
	endfunc loop2

/* 6 instructions an iteration, with a call and a return. */
	func call
	xor %eax, %eax
1:	call 2f
	dec %rdi
	jnz 1b
	ret
2:	inc %rax
	nop
	ret
	endfunc call

/* Byte sieve over the buffer: data-dependent branches. rdi = rounds. */
	func sieve
	xor %eax, %eax
1:	mov $2, %ecx
2:	mov %ecx, %edx
3:	movb $1, (%rsi, %rdx)
	add %ecx, %edx
	cmp $4096, %edx
	jb 3b
	inc %ecx
	cmp $64, %ecx
	jb 2b
	dec %rdi
	jnz 1b
	ret
	endfunc sieve

/* Vector: 8 instructions an iteration on 32-byte registers. */
	func avx2
	vpcmpeqd %ymm0, %ymm0, %ymm0
	vpxor %xmm1, %xmm1, %xmm1
1:	vmovdqu (%rsi), %ymm2
	vpaddd %ymm0, %ymm2, %ymm2
	vpxor %ymm2, %ymm1, %ymm1
	vpshufd $0x1b, %ymm1, %ymm3
	vpaddq %ymm3, %ymm1, %ymm1
	vmovdqu %ymm1, (%rsi)
	dec %rdi
	jnz 1b
	vmovd %xmm1, %eax
	vzeroupper
	ret
	endfunc avx2

/* Exits: rdi times. Only for guests. */
	func out
1:	out %al, $0x80
	dec %rdi
	jnz 1b
	ret
	endfunc out

	func cpuid
	push %rbx
	mov %rdi, %r8
1:	xor %eax, %eax
	xor %ecx, %ecx
	cpuid
	dec %r8
	jnz 1b
	pop %rbx
	ret
	endfunc cpuid

	func mmio
1:	mov (%rsi), %eax
	dec %rdi
	jnz 1b
	ret
	endfunc mmio

/* One store to each of rdi pages from rsi on. */
	func touch
1:	movq $1, (%rsi)
	add $4096, %rsi
	dec %rdi
	jnz 1b
	ret
	endfunc touch

	.section .note.GNU-stack, "", @progbits
