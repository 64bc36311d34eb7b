/* SPDX-License-Identifier: MIT */
/*
 * The assembly half of modes.c: compatibility mode, and a tour through 32-bit protected, 16-bit
 * protected, real and virtual-8086 mode.
 */
#include "kit/kit_asm.h"
#include "modes.h"

#define LOW(label) (LOW_BASE + label - low_begin)

	.text
	.code64
	.globl both_call, compat_call, limit_call, limit_resume, modes_tour, low_begin, low_end
compat_call:
	push %rbx
	xor %eax, %eax
	lcall *compat_ptr(%rip)
	pop %rbx
	ret

/* (selector): both_code by a far call to that code segment. */
both_call:
	push %rbx
	mov %edi, both_ptr + 4(%rip)
	lcall *both_ptr(%rip)
	pop %rbx
	ret

limit_call:
	lcall *limit_ptr(%rip)
	ret

	/*
	 * The same bytes in both modes: EAX = 10 rounds of two INC EAX, or of two REX prefixes, and
	 * of a call. The far call and LRET have words of 32 bits in both.
	 */
both_code:
	.byte 0x31, 0xc0		/* xor %eax, %eax */
	.byte 0xb9, 10, 0, 0, 0		/* mov $10, %ecx */
	.byte 0x40, 0x40, 0x90		/* 1: inc %eax twice or not; nop */
	.byte 0xe8, 5, 0, 0, 0		/* call 2f */
	.byte 0xff, 0xc9		/* dec %ecx */
	.byte 0x75, 0xf4		/* jnz 1b */
	.byte 0xcb			/* lret */
	.byte 0x83, 0xc0, 0x64		/* 2: add $100, %eax */
	.byte 0xc3			/* ret */

	.code32
compat_code:
	.byte 0x40, 0x40	/* INC EAX twice; in 64-bit mode two REX prefixes */
	mov %cs, compat_cs
	lret

	/* FS has a limit of 0fh. */
limit_code:
	mov $SEL_SPARE, %ecx
	mov %ecx, %fs
	mov %fs:0xf, %al
	mov %fs:0x10, %al
	mov $1, %eax
	lret
limit_resume:
	xor %eax, %eax
	mov %eax, %fs
	lret

	.code64
modes_tour:
	push_preserved
	pushfq
	cli
	mov %rsp, saved_rsp(%rip)
	sidt saved_idt(%rip)
	ljmp *tour_ptr(%rip)

	.code32
tour32:
	mov $SEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $tour_stack_end, %esp
	/* Leave long mode. */
	mov %cr0, %eax
	and $~CR0_PG, %eax
	mov %eax, %cr0
	mov $MSR_EFER, %ecx
	rdmsr
	mov %eax, tour_efer
	and $~EFER_LME, %eax
	wrmsr
	lidt idt32_ptr
	movl $0x32323232, tour_protected
	ljmp $SEL_CS16, $LOW_BASE

back_from_real:
	mov $SEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $tour_stack_end, %esp
	lidt idt32_ptr
	mov $SEL_SPARE, %eax
	ltr %ax
	/* To virtual-8086 mode: GS FS DS ES SS ESP EFLAGS CS EIP. */
	push $0
	push $0
	push $0
	push $0
	push $0
	push $0x7f00
	push $0x20002
	push $LOW_BASE >> 4
	push $vm86_code - low_begin
	iret

	/* #GP in virtual-8086 mode; the stack is the TSS's. */
vm86_gp:
	mov %ds, %ebx		/* null, so nothing can be stored yet */
	mov $SEL_DS, %eax
	mov %eax, %ds
	mov %ebx, vm86_ds
	mov (%esp), %eax
	mov %eax, vm86_error
	mov 4(%esp), %eax
	mov %eax, vm86_eip
	mov 12(%esp), %eax
	mov %eax, vm86_flags
	/* Back to long mode. */
	mov $SEL_DS, %eax
	mov %eax, %es
	mov %eax, %ss
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov %cr0, %eax
	or $CR0_PG, %eax
	mov %eax, %cr0
	ljmp $SEL_CS64, $tour64

	.code64
tour64:
	mov saved_rsp(%rip), %rsp
	lidt saved_idt(%rip)
	andb $~2, kit_gdt + SEL_TSS + 5(%rip)	/* not busy */
	mov $SEL_TSS, %eax
	ltr %ax
	popfq
	pop_preserved
	ret

/* ---- Copied to LOW_BASE ---- */

	.code16
low_begin:
	/* 16-bit protected mode. */
	mov $SEL_DS16, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %ax, %fs
	mov %ax, %gs
	movw $0x1616, RESULT_PROTECTED16
	mov %cr0, %eax
	and $~CR0_PE, %eax
	mov %eax, %cr0
	ljmp $0, $LOW(real_code)
real_code:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $0x7f00, %sp
	lidt LOW(real_idt)
	movw $LOW(real_handler), REAL_VECTOR * 4
	movw $0, REAL_VECTOR * 4 + 2
	int $REAL_VECTOR
	/* Segments are paragraphs: LOW_BASE through a segment one lower. */
	mov $(LOW_BASE >> 4) - 1, %ax
	mov %ax, %es
	mov %es:16, %ax
	cmp LOW_BASE, %ax
	sete RESULT_SEGMENT
	mov %cr0, %eax
	or $CR0_PE, %al
	mov %eax, %cr0
	ljmpl $SEL_CS32, $back_from_real
real_handler:
	incw RESULT_REAL_INT
	iret
	.balign 2
real_idt:
	.word 0x3ff
	.long 0

vm86_code:
	mov $0xbeef, %ax
	mov %ax, RESULT_VM86
	.globl vm86_hlt
vm86_hlt:
	hlt
low_end:

	.data
	.balign 8
compat_ptr:
	.long compat_code
	.word SEL_CS32
	.balign 8
both_ptr:
	.long both_code
	.word 0
	.balign 8
limit_ptr:
	.long limit_code
	.word SEL_CS32
	.balign 8
tour_ptr:
	.long tour32
	.word SEL_CS32
	.balign 8
	.globl saved_rsp, idt32, compat_cs, tour_protected, vm86_error, vm86_eip, vm86_flags, vm86_ds
	.globl vm86_gp, tour_stack_end, tour_efer
saved_rsp:	.quad 0
saved_idt:	.skip 16
idt32_ptr:
	.word 14 * 8 - 1
	.long idt32
	.balign 8
idt32:		.skip 14 * 8
compat_cs:	.long 0
tour_protected:	.long 0
tour_efer:	.long 0
vm86_error:	.long ~0
vm86_eip:	.long 0
vm86_flags:	.long 0
vm86_ds:	.long ~0

	.bss
	.balign 16
	.skip 4096
tour_stack_end:

	.section .note.GNU-stack, "", @progbits
