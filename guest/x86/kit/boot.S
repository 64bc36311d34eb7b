/* SPDX-License-Identifier: MIT */
/*
 * From the loader's 32-bit protected mode (PVH or Multiboot 1: paging off, flat
 * segments) to 64-bit C code, and the same for application processors from real
 * mode. The low 4 GiB are mapped one to one by 2 MiB pages.
 */
#include "kit_asm.h"

#define MB_MAGIC 0x1badb002
#define MB_FLAGS 0x10000	/* the address fields below count, not the ELF headers */

/* Paging and long mode, without a stack: ends in compatibility mode. Clobbers EAX, ECX, EDX. */
	.macro long_mode
	mov $CR4_PAE | CR4_OSFXSR, %eax
	mov %eax, %cr4
	mov $kit_pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME | EFER_NXE | EFER_SCE, %eax
	wrmsr
	mov $CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE, %eax
	mov %eax, %cr0
	.endm

	.section .boot, "a"
	.balign 4
multiboot:
	.long MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)
	.long multiboot, kit_begin, kit_data_end, kit_end, start32

	.section .note.Xen, "a"
	.balign 4
	.long 4, 4, 18		/* name, descriptor, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.text
	.code32
	.globl start32
start32:
	cli
	cld
	mov $boot_stack_end, %esp

	/* PML4 -> PDPT -> four page directories. */
	movl $kit_pdpt + PTE_RW, kit_pml4
	mov $4, %ecx
	mov $kit_pdpt, %edi
	mov $kit_pd + PTE_RW, %eax
1:	mov %eax, (%edi)
	add $4096, %eax
	add $8, %edi
	loop 1b
	mov $2048, %ecx
	mov $kit_pd, %edi
	mov $PTE_RW + PTE_PS, %eax
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b

	long_mode
	lgdt gdt_pointer
	ljmp $SEL_CS64, $start64

	.code64
start64:
	mov $SEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $boot_stack_end, %rsp
	xor %ebp, %ebp
	xor %edi, %edi
	call kit_start

/* ---- Application processors: copied to AP_BASE, started there by SIPI ---- */

	.globl ap_begin, ap_end
	.code16
ap_begin:
	cli
	cld
	xor %ax, %ax
	mov %ax, %ds
	lgdtl AP_BASE + (ap_gdt_pointer - ap_begin)
	mov $CR0_PE | CR0_NE | CR0_ET, %eax
	mov %eax, %cr0
	ljmpl $SEL_CS32, $ap32
	.balign 4
ap_gdt_pointer:
	.word gdt_end - kit_gdt - 1
	.long kit_gdt
ap_end:

	.code32
ap32:
	mov $SEL_DS, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	long_mode
	ljmp $SEL_CS64, $ap64

	.code64
ap64:
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $1, %edi
	lock xadd %edi, kit_next_cpu(%rip)
	/* Stacks are an array: processor n gets the n-th. */
	mov %edi, %eax
	inc %eax
	imul $AP_STACK, %eax, %eax
	lea ap_stacks(%rip), %rsp
	add %rax, %rsp
	xor %ebp, %ebp
	call kit_start
1:	cli
	hlt
	jmp 1b

	.data
	.balign 4
	.globl kit_next_cpu
kit_next_cpu:
	.long 1			/* 0 is the bootstrap processor */
	.balign 8
	.globl gdt_pointer
gdt_pointer:
	.word gdt_end - kit_gdt - 1
	.quad kit_gdt

	.balign 16
	.globl kit_gdt
kit_gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* SEL_CS64 */
	.quad 0x00cf93000000ffff	/* SEL_DS */
	.quad 0x00cf9b000000ffff	/* SEL_CS32 */
	.quad 0x00009b000000ffff	/* SEL_CS16 */
	.quad 0x000093000000ffff	/* SEL_DS16 */
	.quad 0x00cffb000000ffff	/* SEL_UCS32 */
	.quad 0x00cff3000000ffff	/* SEL_UDS */
	.quad 0x00affb000000ffff	/* SEL_UCS64 */
	.quad 0, 0			/* SEL_SPARE: for programs */
	.fill 2 * MAX_CPUS, 8, 0	/* SEL_TSS: two slots a processor */
gdt_end:

	.bss
	.balign 4096
	.globl kit_pml4, kit_pdpt, kit_pd
kit_pml4:	.skip 4096
kit_pdpt:	.skip 4096
kit_pd:		.skip 4 * 4096
boot_stack:	.skip 32768
	.globl boot_stack_end
boot_stack_end:
ap_stacks:	.skip AP_STACK * MAX_CPUS
