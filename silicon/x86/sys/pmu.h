/* SPDX-License-Identifier: MIT */
/*
 * Performance monitoring, architectural version 2: state and contract. The registers are
 * reached as MSRs; how counters count is told in pmu.c.
 */
#ifndef SILICON_X86_SYS_PMU_H
#define SILICON_X86_SYS_PMU_H

#include "base/types.h"

struct x86_cpu;

/* As leaf 0AH of spec/x86/cpuid_intel.def has them. */
#define X86_PMU_GP 8
#define X86_PMU_FIXED 3
#define X86_PMU_WIDTH 48
#define X86_PMU_COUNTERS (X86_PMU_GP + X86_PMU_FIXED)

struct x86_pmu {
	/* ---- registers ---- */
	u64 evtsel[X86_PMU_GP], fixed_ctrl, global_ctrl, global_status;
	u64 count[X86_PMU_COUNTERS];	/* at the last account: general-purpose ones, then the fixed ones */
	u32 lvtpc;			/* of the physical local APIC */

	/* ---- derived: update() ---- */
	u8 source[X86_PMU_COUNTERS];	/* enum pmu_source */
	u16 on;			/* counters that count at the present privilege level */
	bool by_insns;			/* an enabled counter, of any level, counts instructions or branches */
	bool by_level;			/* an enabled counter counts at some levels only */
	bool user;			/* the level that `on` holds for is not 0 */

	/* ---- what the counts stand for ---- */
	u64 insns, branches, tsc, wakes;	/* those of the machine at the last account */
	u64 nr_wakes;			/* times that the processor began to run */
	bool halted;
	u64 slow_until;			/* host TSC: not worth chaining blocks again before */
};

void x86_pmu_reset(struct x86_cpu *cpu);

/* RDMSR and WRMSR of the PMU's registers; false: #GP(0). */
bool x86_pmu_rdmsr(struct x86_cpu *cpu, u32 msr, u64 *v);
bool x86_pmu_wrmsr(struct x86_cpu *cpu, u32 msr, u64 v);
/* RDPMC behind its privilege check and intercept; false: #GP(0). */
bool x86_pmu_rdpmc(struct x86_cpu *cpu, u32 index, u64 *v);

/* IA32_PERF_GLOBAL_CTRL for VM entries and exits; @v is valid. */
bool x86_pmu_global_ctrl_ok(const struct x86_cpu *cpu, u64 v);
void x86_pmu_set_global_ctrl(struct x86_cpu *cpu, u64 v);

/* The privilege level may have changed: to be called if by_level. */
void x86_pmu_level(struct x86_cpu *cpu);
/* The processor halts; it runs again. Cycles are counted while it runs. */
void x86_pmu_halt(struct x86_cpu *cpu);
void x86_pmu_wake(struct x86_cpu *cpu);

/*
 * For the run loop. limit(): set cpu->insn_limit so that it comes back when a counter
 * may overflow, cpu->run_limit at the latest; ask the ticker for X86_EV_PMU for what
 * cycles do. boundary(): on reaching it, X86_SLOW_PMU or X86_EV_PMU, between two instructions.
 */
void x86_pmu_limit(struct x86_cpu *cpu);
void x86_pmu_boundary(struct x86_cpu *cpu);

#endif
