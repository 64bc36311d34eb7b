/* SPDX-License-Identifier: MIT */
/*
 * Contract between the x87 families: the register stack, the run of a native
 * body, exception bookkeeping, and how a selector packs an x87 operation.
 *
 * struct x86_op of an x87 instruction: imm = body; vvvv = low three bits of the
 * opcode (they are part of FOP) | number of pops << 4; imm2 = the ModRM byte;
 * osize = bytes of the memory operand; reg, rm = stack indexes where used.
 */
#ifndef SILICON_X86_INSN_X87_H
#define SILICON_X86_INSN_X87_H

#include "silicon/x86/decode/dec.h"
#include "silicon/x86/insn/fp_state.h"
#include "silicon/x86/mmu/mem.h"

struct x86_x87 {
	const void *body;
	u8 mem[16];		/* memory operand, in or out */
	u64 pad;
	x86_f80_t a, b;		/* ST(0) and ST(1) of the body */
	x86_f80_t r0, r1;	/* out: the same two */
	u16 cw;
	u16 sw;			/* out; for x86_x87_run_cc() also in */
	u32 pad2;
	u64 rflags;		/* out */
};
void x86_x87_run(struct x86_x87 *a);
/* For bodies that set some condition codes and sometimes leave them. */
void x86_x87_run_cc(struct x86_x87 *a);

#define X87_BODY(name, ...) extern const char x86_x87_##name[];
#include "silicon/x86/insn/x87_body.def"
#undef X87_BODY

static const x86_f80_t x87_indefinite = { .mant = 0xc000000000000000, .exp = 0xffff };

static inline unsigned x87_top(const struct x86_cpu *cpu)
{
	return cpu->fpu.fsw >> 11 & 7;
}

static inline unsigned x87_phys(const struct x86_cpu *cpu, unsigned i)
{
	return (x87_top(cpu) + i) & 7;
}

static inline bool x87_empty(const struct x86_cpu *cpu, unsigned i)
{
	return !(cpu->fpu.ftw >> x87_phys(cpu, i) & 1);
}

static inline x86_f80_t x87_st(const struct x86_cpu *cpu, unsigned i)
{
	return cpu->fpu.st[x87_phys(cpu, i)];
}

static inline void x87_set_st(struct x86_cpu *cpu, unsigned i, x86_f80_t v)
{
	cpu->fpu.st[x87_phys(cpu, i)] = (x86_f80_t){ .mant = v.mant, .exp = v.exp };
	cpu->fpu.ftw |= (u8)(1u << x87_phys(cpu, i));
}

static inline void x87_free(struct x86_cpu *cpu, unsigned i)
{
	cpu->fpu.ftw &= (u8)~(1u << x87_phys(cpu, i));
}

static inline void x87_rotate(struct x86_cpu *cpu, int by)
{
	cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~FSW_TOP) | ((x87_top(cpu) + (unsigned)by) & 7) << 11);
}

static inline void x87_pop(struct x86_cpu *cpu, unsigned n)
{
	while (n--) {
		x87_free(cpu, 0);
		x87_rotate(cpu, 1);
	}
}

static inline void x87_push(struct x86_cpu *cpu, x86_f80_t v)
{
	x87_rotate(cpu, -1);
	x87_set_st(cpu, 0, v);
}

static inline unsigned x87_pops(const struct x86_op *op)
{
	return op->vvvv >> 4;
}

/*
 * An instruction has produced status @sw: condition codes of @cc and flags go
 * to FSW, the pointers are kept. Returns the unmasked exceptions that it raised.
 * Most instructions set C1 (rounded up, or 0); FCOMI and FCMOVcc leave it.
 */
u16 x87_status(struct x86_cpu *cpu, const struct x86_op *op, u16 sw, u16 cc);

/*
 * Stack fault. Returns true if it is masked: the caller then goes on with the
 * indefinite as result. Call it after every access that may fault.
 */
bool x87_stack_underflow(struct x86_cpu *cpu, const struct x86_op *op);
bool x87_stack_overflow(struct x86_cpu *cpu, const struct x86_op *op);

/* Fill the packed fields above. */
void x87_pack(const struct x86_dec *d, struct x86_op *op, const void *body, unsigned pops);

/* The memory operand, op->osize = 2, 4, 8 or 10 bytes. */
void x87_load(struct x86_cpu *cpu, const struct x86_op *op, void *buf);
void x87_store(struct x86_cpu *cpu, const struct x86_op *op, const void *buf);

#endif
