/* SPDX-License-Identifier: MIT */
/*
 * For the tests of vmx/: a processor in VMX root operation, one VMCS that enters
 * a 64-bit guest at CPL 0, 4 MiB of guest memory behind EPT.
 *
 * Guest memory: page tables map the 4 MiB one to one (2 MiB pages, user
 * accessible); GDT, IDT, TSS, a stack and code have fixed places. Vector n is
 * handled by a HLT at TK_HANDLER(n); HLT exits.
 */
#ifndef SILICON_X86_VMX_TESTKIT_H
#define SILICON_X86_VMX_TESTKIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "silicon/x86/cpu.h"
#include "silicon/x86/vmx/vmx_priv.h"

#define TK_MEM (4ul << 20)
#define TK_PML4 0x1000
#define TK_PD 0x3000
#define TK_GDT 0x4000
#define TK_IDT 0x5000
#define TK_TSS 0x6000
#define TK_STACK 0x9000		/* top */
#define TK_CODE 0x10000
#define TK_DATA 0x20000
#define TK_HANDLERS 0x30000
#define TK_HANDLER(n) (TK_HANDLERS + 16u * (n))

/* Selectors of the guest's GDT. */
#define TK_CS 0x08
#define TK_SS 0x10
#define TK_CS3 0x1b
#define TK_SS3 0x23
#define TK_CS32 0x28
#define TK_TR 0x30

#define TK_AR_CODE64 0xa09bu
#define TK_AR_CODE32 0xc09bu
#define TK_AR_DATA 0xc093u

/* Host addresses that no code runs at. */
#define TK_HOST_RIP 0x400000
#define TK_HOST_RSP 0x500000

struct tk {
	struct x86_cpu *cpu;
	u8 *mem;		/* guest memory */
	u8 *vmxon, *vmcs;	/* regions */
	u64 *ept;		/* PML4, PDPT, PD, two PTs */
	u64 *root;		/* page tables of tk_root() */
	u8 *io_a, *io_b, *msr_bitmap, *vapic, *apic_access, *scratch;
	bool launched;
};

struct tk *tk_new(void);
void tk_free(struct tk *t);

/* Copy code to TK_CODE. */
void tk_code(struct tk *t, const void *bytes, size_t len);
#define TK_RUN_CODE(t, ...) do { \
		const u8 code_[] = { __VA_ARGS__ }; \
		tk_code(t, code_, sizeof(code_)); \
		tk_enter(t); \
	} while (0)

u64 tk_get(struct tk *t, enum vmcs_field field);
void tk_set(struct tk *t, enum vmcs_field field, u64 val);
void tk_or(struct tk *t, enum vmcs_field field, u64 bits);
void tk_clear(struct tk *t, enum vmcs_field field, u64 bits);

/* VMLAUNCH or VMRESUME; the result of x86_vmenter(). */
int tk_try(struct tk *t);
/* The same, asserting that an exit (or entry failure) came. */
void tk_enter(struct tk *t);
/* Assert the exit reason. */
#define tk_expect(t, reason) tk_expect_at(t, reason, __FILE__, __LINE__)
void tk_expect_at(struct tk *t, u32 reason, const char *file, int line);
/* One round: set RIP back to TK_CODE and enter. */
void tk_again(struct tk *t);
/* Guest at CPL 3 with the same code. */
void tk_user(struct tk *t);
/* 32-bit protected mode without paging; real mode. */
void tk_protected(struct tk *t);
void tk_real(struct tk *t);
/* EPT entry of a guest page. */
u64 *tk_epte(struct tk *t, u64 gpa);
/*
 * Execute @n instructions in root mode at TK_CODE: linear addresses map to guest memory
 * as in the guest; the first 2 MiB only.
 */
#define tk_root(t, code, n) tk_root_code(t, code, sizeof(code) - 1, n)
void tk_root_code(struct tk *t, const void *code, size_t len, unsigned n);
/* What an entry would inject. */
void tk_inject(struct tk *t, u8 type, u8 vector, bool has_error, u32 error);

#endif
