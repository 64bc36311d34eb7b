/* SPDX-License-Identifier: MIT */
/*
 * silicon/x86_emul.h: one instruction, or a task switch, on an emulating
 * processor. Memory, ports and MSRs reach the bus in mmu/ and sys/; here is only
 * the frame: fetch, execute, and what the unwinding meant.
 */
#include "silicon/x86_emul.h"

#include <string.h>

#include "base/log.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/sys/sys.h"

/* What a handler left behind when it did not return. */
static enum x86_emul_status unwound(struct x86_cpu *cpu, struct x86_emul_result *res)
{
	switch ((enum x86_unwind)cpu->fault.kind) {
	case X86_UNWIND_FAULT:
		res->vector = cpu->fault.vector;
		res->has_error = cpu->fault.has_error;
		res->error = cpu->fault.error;
		res->payload = cpu->fault.payload;
		return X86_EMUL_FAULT;
	case X86_UNWIND_BUS_RETRY:
		return X86_EMUL_RETRY;
	case X86_UNWIND_BUS_ERROR:
	case X86_UNWIND_BUS_FAIL:
		return X86_EMUL_ERROR;
	case X86_UNWIND_NONE:
	case X86_UNWIND_RESTART:
	case X86_UNWIND_VMEXIT:		/* an emulating processor is never in VMX operation */
		break;
	}
	BUG();
}

/* Where unwinding and host faults went before. */
struct frame {
	struct x86_cpu *outer_cpu;
	sigjmp_buf *outer;
};

static void enter(struct x86_cpu *cpu, struct frame *f, sigjmp_buf *here, struct x86_emul_result *res)
{
	BUG_ON(!cpu->bus);
	memset(res, 0, sizeof(*res));
	f->outer_cpu = x86_access_begin(cpu);
	f->outer = cpu->unwind;
	cpu->unwind = here;
	cpu->pending_db = 0;
}

static void leave(struct x86_cpu *cpu, const struct frame *f)
{
	cpu->unwind = f->outer;
	x86_access_end(cpu, f->outer_cpu);
}

/* Traps that the completed instruction owes: single step, data and task breakpoints. */
static void note_traps(struct x86_cpu *cpu, struct x86_emul_result *res)
{
	res->db_dr6 = cpu->pending_db & (BITS(3, 0) | BIT(14) | BIT(15));
	res->db_trap = res->db_dr6 != 0;
	cpu->pending_db = 0;
	cpu->slow &= ~(u32)X86_SLOW_DB_PENDING;
}

static void one_insn(struct x86_cpu *cpu)
{
	const struct x86_op *op = x86_decode_single(cpu);

	/* As x86_boundary() would: TF, RF and the shadows count as they are now. */
	cpu->slow &= ~(u32)X86_SLOW_START;
	cpu->slow |= cpu->slow << X86_SLOW_START_SHIFT & X86_SLOW_START;
	cpu->gpr[X86_REG_NEXT_RIP] = (cpu->rip + op->len) & cpu->ip_mask;
	op->fn(cpu, op);
	cpu->insn_count++;
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
	x86_after_insn(cpu);
}

enum x86_emul_status x86_emul_insn(struct x86_cpu *cpu, struct x86_emul_result *res)
{
	enum x86_emul_status status;
	sigjmp_buf here;
	struct frame f;
	unsigned len;

	enter(cpu, &f, &here, res);
	if (sigsetjmp(here, 0)) {
		status = unwound(cpu, res);
	} else {
		one_insn(cpu);
		note_traps(cpu, res);
		status = X86_EMUL_DONE;
	}
	leave(cpu, &f);
	memcpy(res->insn, x86_decode_single_bytes(cpu, &len), sizeof(res->insn));
	res->insn_len = (u8)len;
	return status;
}

enum x86_emul_status x86_emul_task_switch(struct x86_cpu *cpu, u16 tss_sel,
					  enum x86_task_switch reason, bool has_error, u32 error,
					  struct x86_emul_result *res)
{
	enum x86_emul_status status;
	sigjmp_buf here;
	struct frame f;

	enter(cpu, &f, &here, res);
	if (sigsetjmp(here, 0)) {
		status = unwound(cpu, res);
	} else {
		x86_task_switch(cpu, tss_sel, reason, has_error, error, cpu->rip);
		note_traps(cpu, res);
		status = X86_EMUL_DONE;
	}
	leave(cpu, &f);
	return status;
}

u32 x86_emul_translate(struct x86_cpu *cpu, u64 lin, unsigned access, u64 *pa)
{
	struct x86_emul_result res;
	sigjmp_buf here;
	struct frame f;
	u32 r;

	enter(cpu, &f, &here, &res);
	if (sigsetjmp(here, 0))
		r = 1u << 31;	/* the bus has no answer: as not present */
	else
		r = x86_translate(cpu, lin, access & 1, access & 2, access & 4, pa);
	leave(cpu, &f);
	return r;
}
