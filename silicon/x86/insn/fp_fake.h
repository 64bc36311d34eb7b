/* SPDX-License-Identifier: MIT */
/*
 * A processor for tests of the FP and vector instructions alone: real decoder
 * and handlers, the rows of insn_{x87,sse,avx}.def, and recorders in place of
 * mmu/, sys/ and vmx/. Guest memory is an arena followed by a page that faults.
 */
#ifndef SILICON_X86_INSN_FP_FAKE_H
#define SILICON_X86_INSN_FP_FAKE_H

#include "silicon/x86/cpu.h"
#include "silicon/x86/fault.h"

#define FAKE_ARENA_SIZE 8192u

extern struct x86_cpu *fake_cpu;
extern u8 *fake_arena;		/* linear address = host address; page aligned */

#define FAKE_NO_FAULT 0xffu

/* 64-bit mode, CPL 3, everything enabled, FINIT and MXCSR 1F80, registers zero, arena zero. */
void fake_reset(void);

/*
 * Execute one instruction with RBX = @mem (if not NULL) as base for tests'
 * operands. Returns the vector raised or FAKE_NO_FAULT.
 */
u8 fake_run(const u8 *code, unsigned len, void *mem);
#define FAKE_RUN(mem, ...) \
	fake_run((const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }), mem)

#endif
