/* SPDX-License-Identifier: MIT */
/*
 * The run loop. Fast: while nothing is pending, translated code if there is any, else
 * block after block of decoded operations, each handler called in turn. Slow: while cpu->events or cpu->slow
 * has a bit, x86_boundary() decides between any two instructions, and they are
 * executed one at a time.
 *
 * Inside a block the next RIP is kept in a register: only operations that end a
 * block may write X86_REG_NEXT_RIP (or, single-stepped, a REP that is not done).
 */
#include "silicon/x86/run.h"

#include <string.h>

#include "base/log.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/fault.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"

#define TIMER_POLL 64		/* blocks between two looks at the VMX-preemption timer */
#define GO_ON (-1)
#define VM_EXIT (-2)

static inline void execute(struct x86_cpu *cpu, u64 rip, const struct x86_op *op, const struct x86_op *end)
{
	u64 mask = cpu->ip_mask;
	const struct x86_op *first = op;

	cpu->op_first = op;
	do {
		cpu->op = op;
		cpu->rip = rip;
		rip = (rip + op->len) & mask;
		cpu->gpr[X86_REG_NEXT_RIP] = rip;
		op->fn(cpu, op);
		op++;
	} while (op != end && likely(!cpu->slow));
	cpu->op = NULL;
	cpu->insn_count += (u64)(op - first);
	cpu->branch_count += (op[-1].flags / X86_OP_BRANCH) & 1;
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP];
}

static inline void execute_block(struct x86_cpu *cpu, u64 rip, const struct x86_block *b)
{
	execute(cpu, rip, b->op, b->op + b->nr_ops);
}

/* Can a whole block be executed, apart from events? */
static inline bool fast_possible(const struct x86_cpu *cpu)
{
	return likely(cpu->insn_limit - cpu->insn_count >= X86_BLOCK_MAX_OPS) && !x86_near_cs_limit(cpu);
}

static inline void execute_one(struct x86_cpu *cpu)
{
	const struct x86_op *op;

	op = x86_near_cs_limit(cpu) ? x86_decode_single(cpu) : x86_block_lookup(cpu)->op;
	execute(cpu, cpu->rip, op, op + 1);
}

/* GO_ON or a result of x86_run(). */
static int slow_step(struct x86_cpu *cpu)
{
	u32 events;

	/* First: it may find that there is an interrupt. */
	if (cpu->slow & X86_SLOW_PMU || cpu->insn_count >= cpu->insn_limit ||
	    atomic_load_explicit(&cpu->events, memory_order_relaxed) & X86_EV_PMU)
		x86_pmu_boundary(cpu);
	events = atomic_load(&cpu->events);
	cpu->slow &= ~(u32)X86_SLOW_CODE;
	cpu->jit_link = NULL;
	if (events & X86_EV_CODE_PAGE)
		x86_codepage_serve(cpu);
	if (events & X86_EV_JIT)
		x86_jit_serve(cpu);
	if (events & X86_EV_STOP) {
		atomic_fetch_and(&cpu->events, ~(u32)X86_EV_STOP);
		return X86_RUN_STOP;
	}
	if (cpu->insn_count >= cpu->run_limit)
		return X86_RUN_BUDGET;
	if (cpu->slow || (events & ~(u32)(X86_EV_CODE_PAGE | X86_EV_JIT))) {
		x86_boundary(cpu);
		if (cpu->slow & X86_SLOW_HALTED) {
			if (x86_guest(cpu))
				return GO_ON;
			return cpu->activity == X86_ACT_SHUTDOWN ? X86_RUN_SHUTDOWN : X86_RUN_HALT;
		}
	}
	if (cpu->slow) {
		execute_one(cpu);
		x86_after_insn(cpu);
	} else if (fast_possible(cpu)) {
		/* An event that cannot be delivered now stays pending and must not stop progress. */
		execute_block(cpu, cpu->rip, x86_block_lookup(cpu));
	} else {
		execute_one(cpu);
	}
	return GO_ON;
}

/* What an unwound handler left in cpu->fault. */
static int unwound(struct x86_cpu *cpu)
{
	if (cpu->op)
		x86_retire_before(cpu);
	switch ((enum x86_unwind)cpu->fault.kind) {
	case X86_UNWIND_FAULT:
		x86_deliver_fault(cpu);
		return GO_ON;
	case X86_UNWIND_RESTART:
		return GO_ON;
	case X86_UNWIND_VMEXIT:
		return VM_EXIT;
	case X86_UNWIND_BUS_ERROR:
		return X86_RUN_BUS_ERROR;
	case X86_UNWIND_NONE:
	case X86_UNWIND_BUS_RETRY:	/* only under x86_emul_insn() */
	case X86_UNWIND_BUS_FAIL:
		break;
	}
	BUG();
}

/* cpu->events and cpu->slow, in one load. */
static inline bool must_look(const struct x86_cpu *cpu)
{
	_Static_assert(offsetof(struct x86_cpu, slow) == offsetof(struct x86_cpu, events) + 4 &&
		       offsetof(struct x86_cpu, events) % 8 == 0, "one aligned word");
	return __atomic_load_n((const u64 *)&cpu->events, __ATOMIC_RELAXED) != 0;
}

/* Not inlined: in a function with sigsetjmp() nothing stays in a register. */
static __attribute__((noinline)) int loop(struct x86_cpu *cpu)
{
	struct x86_block *b = NULL;	/* executed last, as long as links are of use */

	for (unsigned blocks = 1; ; blocks++) {
		u64 rip = cpu->rip;

		if (unlikely(blocks % TIMER_POLL == 0) && x86_guest(cpu))
			x86_vmx_timer_poll(cpu);
		if (unlikely(must_look(cpu)) || !fast_possible(cpu)) {
			int r = slow_step(cpu);

			if (r != GO_ON)
				return r;
			b = NULL;
			continue;
		}
		if (x86_jit_usable(cpu) &&
		    (unlikely(cpu->engine == X86_ENGINE_LOCKSTEP) ? x86_lockstep_run(cpu) :
		     x86_jit_run(cpu, cpu->insn_limit == ~0ull))) {
			b = NULL;
			continue;
		}
		if (likely(b && x86_in_64(cpu)))
			b = x86_block_follow(cpu, b, &rip);
		else
			b = x86_block_lookup(cpu);
		execute_block(cpu, rip, b);
	}
}

/* Many processors never run: they answer CPUID. */
static __attribute__((noinline)) void start_jit(struct x86_cpu *cpu)
{
	int r = x86_jit_new(cpu);

	if (!r)
		return;
	cpu->engine = X86_ENGINE_INTERP;
	log_warn("no memory for translated code (%s): instructions are interpreted", strerror(-r));
}

/*
 * Run until something ends it. Handlers unwind to here: nothing but @cpu may
 * carry state across sigsetjmp().
 */
static int run(struct x86_cpu *cpu, bool guest)
{
	sigjmp_buf here, *volatile outer = cpu->unwind;
	struct x86_cpu *volatile outer_cpu = x86_access_begin(cpu);
	int r;

	if (unlikely(cpu->engine != X86_ENGINE_INTERP && !cpu->jit))
		start_jit(cpu);
	cpu->unwind = &here;
	atomic_store(&cpu->running, true);
	if (sigsetjmp(here, 0)) {
		r = unwound(cpu);
		/* Root-mode software that runs here sees the exit as its next instruction. */
		if (r == VM_EXIT && !guest)
			r = GO_ON;
	} else {
		r = GO_ON;
	}
	if (r == GO_ON)
		r = loop(cpu);
	x86_access_end(cpu, outer_cpu);
	atomic_store_explicit(&cpu->running, false, memory_order_release);
	cpu->unwind = outer;
	return r;
}

enum x86_run_result x86_run(struct x86_cpu *cpu, u64 max_insns)
{
	cpu->run_limit = max_insns ? cpu->insn_count + max_insns : ~0ull;
	x86_pmu_limit(cpu);
	if (cpu->vmx.stale)
		x86_vmx_root_refresh(cpu);
	return (enum x86_run_result)run(cpu, false);
}

int x86_run_guest(struct x86_cpu *cpu)
{
	int r;

	cpu->run_limit = ~0ull;
	x86_pmu_limit(cpu);
	if (cpu->engine != X86_ENGINE_INTERP && cpu->vmx.timer_deadline)
		x86_ticker_arm(cpu, X86_TICK_VMX, cpu->vmx.timer_deadline);
	r = run(cpu, true);
	return r == VM_EXIT ? 0 : r;
}
