/* SPDX-License-Identifier: MIT */
/* Numbers that assembly and C share. */
#ifndef GUEST_X86_KIT_ASM_H
#define GUEST_X86_KIT_ASM_H

#define MAX_CPUS 16
#define AP_STACK 16384
#define AP_BASE 0x8000		/* SIPI vector 8 */

#define SEL_CS64 0x08
#define SEL_DS 0x10
#define SEL_CS32 0x18
#define SEL_CS16 0x20
#define SEL_DS16 0x28
#define SEL_UCS32 0x33
#define SEL_UDS 0x3b
#define SEL_UCS64 0x43
#define SEL_SPARE 0x48
#define SEL_TSS 0x58

#define PTE_P 1
#define PTE_W 2
#define PTE_U 4
#define PTE_RW 3
#define PTE_A 0x20
#define PTE_D 0x40
#define PTE_PS 0x80
#define PTE_G 0x100
#define PTE_NX 0x8000000000000000

#define CR0_PE 0x1
#define CR0_MP 0x2
#define CR0_EM 0x4
#define CR0_TS 0x8
#define CR0_ET 0x10
#define CR0_NE 0x20
#define CR0_WP 0x10000
#define CR0_AM 0x40000
#define CR0_NW 0x20000000
#define CR0_CD 0x40000000
#define CR0_PG 0x80000000
#define CR4_VME 0x1
#define CR4_DE 0x8
#define CR4_PAE 0x20
#define CR4_PGE 0x80
#define CR4_OSFXSR 0x200
#define CR4_UMIP 0x800
#define CR4_SMEP 0x100000
#define CR4_SMAP 0x200000

#define MSR_APIC_BASE 0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800
#define MSR_EFER 0xc0000080
#define MSR_GS_BASE 0xc0000101
#define EFER_SCE 0x1
#define EFER_LME 0x100
#define EFER_LMA 0x400
#define EFER_NXE 0x800

#define VEC_USER_EXIT 0x80	/* INT: back from run_user() */
#define VEC_SPURIOUS 0xff

#ifdef __ASSEMBLER__
/* What a C function leaves as it was (System V AMD64 ABI, "Registers"). */
	.macro push_preserved
	.irp r, %rbx, %rbp, %r12, %r13, %r14, %r15
	push \r
	.endr
	.endm
	.macro pop_preserved
	.irp r, %r15, %r14, %r13, %r12, %rbp, %rbx
	pop \r
	.endr
	.endm
#endif

#endif
