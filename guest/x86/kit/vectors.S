/* SPDX-License-Identifier: MIT */
/* One entry for each vector: makes a struct frame and calls kit_interrupt(). */
#include "kit_asm.h"

	.text
	.code64
	.balign 16
	.globl vector_entries
vector_entries:
	vector = 0
	.rept 256
	.balign 16
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
	.else
	push $0
	.endif
	push $vector
	jmp common
	vector = vector + 1
	.endr

common:
	push %rax
	push %rbx
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %rbp
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call kit_interrupt
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rbp
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rbx
	pop %rax
	add $16, %rsp
	iretq

/*
 * void enter_user(u64 rip, u64 arg, u64 rsp, u64 cs, u64 *kernel_rsp): IRET to CPL 3. Returns
 * when leave_user() is called with the stack pointer stored here.
 */
	.globl enter_user, leave_user
enter_user:
	push_preserved
	mov %rsp, (%r8)
	mov %rdi, %rax
	mov %rsi, %rdi
	push $SEL_UDS
	push %rdx
	pushfq
	push %rcx
	push %rax
	iretq
leave_user:
	mov %rdi, %rsp
	pop_preserved
	ret

	.section .note.GNU-stack, "", @progbits
