/* SPDX-License-Identifier: MIT */
/*
 * A small machine for the tests of sys/: 1 MiB of memory at physical (= process)
 * address 64 KiB, descriptor tables with known selectors, a handler per vector.
 * Every handler is a HLT, so that x86_run() stops there with the frame on the stack.
 */
#ifndef SILICON_X86_SYS_TEST_MACHINE_H
#define SILICON_X86_SYS_TEST_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "silicon/x86/sys/sys_priv.h"

/* Where things are. */
enum {
	GDT_AT = 0x10000, IDT_AT = 0x11000, TSS_AT = 0x12000, LDT_AT = 0x13000, TSS2_AT = 0x13800,
	PML4_AT = 0x14000, PDPT_AT = 0x15000, PD_AT = 0x16000, PT_AT = 0x17000,
	CODE_AT = 0x20000, USER_CODE_AT = 0x28000, STACK_TOP = 0x30000, STACK2_TOP = 0x34000,
	IST_TOP = 0x38000, USER_STACK_TOP = 0x40000, DATA_AT = 0x50000, USER_DATA_AT = 0x58000,
	HANDLERS_AT = 0x60000, TASK2_CODE_AT = 0x70000, READ_ONLY_AT = 0x78000,
	NOT_PRESENT_AT = 0x7f000,
};

/* Selectors of the GDT. */
enum {
	SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_KCODE16 = 0x18, SEL_KDATA16 = 0x20,
	SEL_UCODE = 0x28 | 3, SEL_UDATA = 0x30 | 3, SEL_KCODE64 = 0x38, SEL_UCODE64 = 0x40 | 3,
	SEL_TSS = 0x48, SEL_LDT = 0x58, SEL_CONF = 0x68, SEL_NOT_PRESENT_DATA = 0x70,
	SEL_NOT_PRESENT_CODE = 0x78, SEL_GATE = 0x80, SEL_TSS2 = 0x90, SEL_FREE = 0x98,
	SEL_TASK_GATE = 0xa0, SEL_RO_DATA = 0xa8, SEL_XONLY = 0xb0, GDT_LIMIT = 0xff,
	SEL_LDT_DATA = 0x04,
};

/* 32-bit code in long mode is PROT with paging, as compatibility mode: COMPAT. */
enum test_mode { REAL, VM86, PROT16, PROT32, COMPAT, LONG64 };

struct machine {
	struct x86_cpu *cpu;
	enum test_mode mode;
	enum x86_run_result result;
};

/* A processor in @mode at @cpl, at CODE_AT (USER_CODE_AT for CPL 3), stacks set up. */
void machine_start(struct machine *m, const char *model, enum test_mode mode, unsigned cpl);
void machine_stop(struct machine *m);
/* Place @code (@len bytes) at the program counter. */
void machine_code(struct machine *m, const void *code, unsigned len);
/* Run at most @max instructions. Returns the vector whose handler was reached, or -1. */
int machine_run(struct machine *m, unsigned max);
#define RUN(m, ...) ({ \
	static const u8 code_[] = { __VA_ARGS__ }; \
	machine_code(m, code_, sizeof(code_)); \
	machine_run(m, 100); \
})

/* The frame of the handler reached: items counted from the last pushed. */
u64 machine_frame(struct machine *m, unsigned n);

void machine_gdt(u16 sel, u64 desc);
u64 machine_get_gdt(u16 sel);
/* A gate in the IDT: the type with P and DPL as in the descriptor's byte 5. */
void machine_gate(struct machine *m, u8 vector, u16 sel, u32 off, u8 access, unsigned ist);

static inline u64 peek(u64 at, unsigned size)
{
	u64 v = 0;

	memcpy(&v, (void *)at, size);
	return v;
}

static inline void poke(u64 at, u64 v, unsigned size)
{
	memcpy((void *)at, &v, size);
}

/* A code or data descriptor. */
static inline u64 make_desc(u32 base, u32 limit20, u8 access, u8 flags)
{
	return (limit20 & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
	       (u64)(limit20 >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

#endif
