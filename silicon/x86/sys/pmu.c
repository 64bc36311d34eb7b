/* SPDX-License-Identifier: MIT */
/*
 * Performance monitoring, architectural version 2.
 * SDM vol. 3B "Architectural Performance Monitoring".
 *
 * Nothing is counted event by event. A counter's register holds its value at the last
 * account; what has been added since is the difference of a quantity that the processor
 * keeps anyway: instructions and branches retired, or the TSC. So accounts are made whenever
 * the set of counters that count changes (a register is written, the privilege level
 * changes, a VM entry or exit, a halt) or somebody looks.
 *
 * An instruction counts for the settings with which it started: WRMSR that enables a
 * counter does not, the one that disables it does; SYSCALL is the user's, its return the
 * kernel's.
 *
 * Overflow. Instructions and branches: the run loop gets a limit (cpu->insn_limit), at
 * which it comes here, so the interrupt is taken behind the very instruction. Cycles: a
 * timer (X86_EV_PMU), late by what the host's scheduler is late.
 *
 * Speed. Translated code chained from block to block does not count instructions. It is
 * left for counted blocks as long as a counter of instructions or branches is enabled,
 * whatever levels it counts, and a while longer: to change over empties the code cache.
 *
 * The machine that edges, inversions and masks see: it retires at most one instruction in
 * a cycle, and never in two cycles in a row.
 */
#include <string.h>
#include <x86intrin.h>

#include "base/log.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/sys/pmu.h"
#include "silicon/x86/sys/sys_priv.h"

#define COUNT_MASK BITS(X86_PMU_WIDTH - 1, 0)
#define GP_BITS BITS(X86_PMU_GP - 1, 0)
#define FIXED_BITS BITS(32 + X86_PMU_FIXED - 1, 32)

#define EVTSEL_EVENT 0xffffu	/* event select and unit mask */
#define EVTSEL_USR BIT(16)
#define EVTSEL_OS BIT(17)
#define EVTSEL_EDGE BIT(18)
#define EVTSEL_INT BIT(20)
#define EVTSEL_EN BIT(22)
#define EVTSEL_INV BIT(23)
#define EVTSEL_CMASK(v) ((v) >> 24 & 0xff)
#define EVTSEL_RESERVED (BITS(63, 32) | BIT(21))	/* AnyThread came with version 3 */

#define FIXED_OS 1u
#define FIXED_USR 2u
#define FIXED_PMI 8u
#define FIXED_CTRL_WRITABLE 0xbbbull

#define STATUS_CLEARABLE (GP_BITS | FIXED_BITS | BIT(62) | BIT(63))
#define DEBUGCTL_FREEZE_PERFMON BIT(12)

#define LVT_MASKED BIT(16)
#define LVT_WRITABLE (BITS(7, 0) | BITS(10, 8) | LVT_MASKED)
#define LVT_MODE(v) ((v) >> 8 & 7)
enum { LVT_FIXED = 0, LVT_SMI = 2, LVT_NMI = 4 };

/* How long counted blocks are kept after the last use of a counter that needs them. */
#define STAY_MS 100

/* What a counter adds up. */
enum pmu_source {
	PMU_NOTHING,
	PMU_CYCLES,		/* not halted; core and reference cycles alike */
	PMU_WAKES,		/* halts that have ended: edges of the former */
	PMU_INSNS,
	PMU_BRANCHES,
	PMU_IDLE_INSNS,		/* cycles in which nothing retires */
	PMU_IDLE_BRANCHES,
	PMU_NR_SOURCES
};

static bool counts_insns(u8 s)
{
	return s >= PMU_INSNS;
}

static bool counts_cycles(u8 s)
{
	return s == PMU_CYCLES || s == PMU_IDLE_INSNS || s == PMU_IDLE_BRANCHES;
}

/* ---- Events ---- */

static u8 event_source(u32 event)
{
	switch (event) {
	case 0x003c:	/* UnHalted Core Cycles */
	case 0x013c:	/* UnHalted Reference Cycles */
		return PMU_CYCLES;
	case 0x00c0:	/* Instructions Retired */
		return PMU_INSNS;
	case 0x00c4:	/* Branch Instructions Retired */
		return PMU_BRANCHES;
	default:
		UNIMPL("performance event that cannot be counted");
		return PMU_NOTHING;
	}
}

/* Cycles in which no such event is. */
static u8 inverse(u8 s)
{
	return s == PMU_INSNS ? PMU_IDLE_INSNS : s == PMU_BRANCHES ? PMU_IDLE_BRANCHES : PMU_NOTHING;
}

/* SDM "IA32_PERFEVTSELx MSRs": E, INV and CMASK. An event happens once in a cycle at most. */
static u8 evtsel_source(u64 sel)
{
	u8 s = event_source(sel & EVTSEL_EVENT);
	unsigned cmask = EVTSEL_CMASK(sel);
	bool inv = sel & EVTSEL_INV && cmask;	/* ignored without CMASK */

	if (s == PMU_NOTHING)
		return s;
	if (cmask > 1)
		s = inv ? PMU_CYCLES : PMU_NOTHING;
	else if (inv && !(sel & EVTSEL_EDGE && s != PMU_CYCLES))
		s = inverse(s);
	/* Every event begins one: cycles without it, as they end, included. */
	return sel & EVTSEL_EDGE && s == PMU_CYCLES ? PMU_WAKES : s;
}

/* ---- Accounts ---- */

static u64 bit_of(unsigned i)
{
	return BIT(i < X86_PMU_GP ? i : 32 + i - X86_PMU_GP);
}

/* Fixed counter @i's four bits. */
static unsigned fixed_field(const struct x86_pmu *p, unsigned i)
{
	return p->fixed_ctrl >> 4 * (i - X86_PMU_GP) & 0xf;
}

/* Is counter @i enabled, at level 0 (bit 0) and above (bit 1)? */
static unsigned enabled_levels(const struct x86_pmu *p, unsigned i)
{
	u64 sel;

	if (!(p->global_ctrl & bit_of(i)))
		return 0;
	if (i >= X86_PMU_GP)
		return fixed_field(p, i) & (FIXED_OS | FIXED_USR);
	sel = p->evtsel[i];
	return sel & EVTSEL_EN ? (sel & EVTSEL_OS ? 1u : 0) | (sel & EVTSEL_USR ? 2u : 0) : 0;
}

static bool wants_interrupt(const struct x86_pmu *p, unsigned i)
{
	return i < X86_PMU_GP ? p->evtsel[i] & EVTSEL_INT : fixed_field(p, i) & FIXED_PMI;
}

/* SDM "Local Vector Table": the entry is masked as its interrupt is delivered. */
static void interrupt(struct x86_cpu *cpu)
{
	struct x86_pmu *p = &cpu->pmu;
	u32 lvt = p->lvtpc;

	if (cpu->debugctl & DEBUGCTL_FREEZE_PERFMON)
		p->global_ctrl = 0;
	if (lvt & LVT_MASKED)
		return;
	p->lvtpc |= (u32)LVT_MASKED;
	switch (LVT_MODE(lvt)) {
	case LVT_FIXED:
		if ((lvt & 0xff) >= 16)
			x86_raise_intr(cpu, (u8)lvt);
		break;
	case LVT_NMI:
		x86_raise_nmi(cpu);
		break;
	default:
		UNIMPL("delivery mode of LVTPC that is neither fixed nor NMI");
	}
}

/* Which of two counts is ahead by how much; an instruction that has not retired after all: 0. */
static u64 since(u64 now, u64 *before)
{
	u64 d = now - *before;

	if ((s64)d < 0)
		return 0;
	*before = now;
	return d;
}

static void update(struct x86_cpu *cpu);

/* @completes: the instruction in execution retires with the settings as they are. */
static void account(struct x86_cpu *cpu, bool completes)
{
	struct x86_pmu *p = &cpu->pmu;
	u64 insns = cpu->insn_count - cpu->insn_partial, branches = cpu->branch_count;
	u64 add[PMU_NR_SOURCES] = { 0 };
	bool pmi = false;

	if (cpu->op) {
		insns += (u64)(cpu->op - cpu->op_first) + completes;
		branches += x86_branches(cpu->op_first, cpu->op + completes);
	}
	if (!p->halted)
		add[PMU_CYCLES] = since(__rdtsc(), &p->tsc);
	add[PMU_WAKES] = since(p->nr_wakes, &p->wakes);
	add[PMU_INSNS] = since(insns, &p->insns);
	add[PMU_BRANCHES] = since(branches, &p->branches);
	add[PMU_IDLE_INSNS] = add[PMU_CYCLES] - min(add[PMU_CYCLES], add[PMU_INSNS]);
	add[PMU_IDLE_BRANCHES] = add[PMU_CYCLES] - min(add[PMU_CYCLES], add[PMU_BRANCHES]);

	for (u32 on = p->on; on; on &= on - 1) {
		unsigned i = (unsigned)__builtin_ctz(on);

		p->count[i] += add[p->source[i]];
		if (likely(!(p->count[i] >> X86_PMU_WIDTH)))
			continue;
		p->count[i] &= COUNT_MASK;
		p->global_status |= bit_of(i);
		pmi |= wants_interrupt(p, i);
	}
	if (pmi) {
		interrupt(cpu);
		update(cpu);
	}
}

/* What counts from now on. */
static void update(struct x86_cpu *cpu)
{
	static const u8 fixed[X86_PMU_FIXED] = { PMU_INSNS, PMU_CYCLES, PMU_CYCLES };
	struct x86_pmu *p = &cpu->pmu;
	u16 before = p->on;

	p->on = 0;
	p->by_insns = p->by_level = false;
	p->user = cpu->cpl != 0;
	for (unsigned i = 0; i < X86_PMU_COUNTERS; i++) {
		unsigned levels = enabled_levels(p, i);

		if (!levels)
			continue;
		p->source[i] = i < X86_PMU_GP ? evtsel_source(p->evtsel[i]) : fixed[i - X86_PMU_GP];
		p->by_insns |= counts_insns(p->source[i]);
		p->by_level |= levels != 3;
		if (levels & (p->user ? 2 : 1))
			p->on |= (u16)(1u << i);
	}
	/* Deadlines are another's now. */
	if (p->on || before)
		cpu->slow |= X86_SLOW_PMU;
}

void x86_pmu_level(struct x86_cpu *cpu)
{
	if (cpu->pmu.user == (cpu->cpl != 0))
		return;
	account(cpu, true);
	update(cpu);
}

void x86_pmu_halt(struct x86_cpu *cpu)
{
	if (cpu->pmu.halted)
		return;
	account(cpu, true);
	cpu->pmu.halted = true;
}

void x86_pmu_wake(struct x86_cpu *cpu)
{
	struct x86_pmu *p = &cpu->pmu;

	if (!p->halted)
		return;
	p->halted = false;
	p->tsc = __rdtsc();
	p->nr_wakes++;
	if (p->on)
		cpu->slow |= X86_SLOW_PMU;
}

/* ---- The run loop ---- */

void x86_pmu_limit(struct x86_cpu *cpu)
{
	struct x86_pmu *p = &cpu->pmu;
	u64 limit = cpu->run_limit, tick = 0, now;

	cpu->insn_limit = limit;
	cpu->slow &= ~(u32)X86_SLOW_PMU;
	if (likely(!p->on && !p->by_insns && !p->slow_until))
		return;
	for (u32 on = p->on; on; on &= on - 1) {
		unsigned i = (unsigned)__builtin_ctz(on);
		u64 left = COUNT_MASK + 1 - p->count[i];

		if (p->source[i] == PMU_INSNS || p->source[i] == PMU_BRANCHES)
			limit = min(limit, cpu->insn_count + left);
		else if (counts_cycles(p->source[i]) && !p->halted)
			tick = tick ? min(tick, p->tsc + left) : p->tsc + left;
	}
	if (p->by_insns || p->slow_until) {
		now = __rdtsc();
		if (p->by_insns)
			p->slow_until = now + (u64)x86_tsc_khz() * STAY_MS;
		else if (p->slow_until <= now)
			p->slow_until = 0;
	}
	if (p->slow_until) {
		/* Any limit makes the run loop count. */
		limit = min(limit, cpu->insn_count + COUNT_MASK);
		if (!p->by_insns)
			tick = tick ? min(tick, p->slow_until) : p->slow_until;
	}
	cpu->insn_limit = limit;
	x86_ticker_arm(cpu, X86_TICK_PMU, tick);
}

void x86_pmu_boundary(struct x86_cpu *cpu)
{
	atomic_fetch_and(&cpu->events, ~(u32)X86_EV_PMU);
	account(cpu, false);
	x86_pmu_limit(cpu);
}

/* ---- Registers ---- */

#define MSR_PMC0 0xc1u
#define MSR_EVTSEL0 0x186u
#define MSR_FIXED0 0x309u
#define MSR_FIXED_CTRL 0x38du
#define MSR_GLOBAL_STATUS 0x38eu
#define MSR_GLOBAL_CTRL 0x38fu
#define MSR_GLOBAL_OVF_CTRL 0x390u
#define MSR_A_PMC0 0x4c1u

void x86_pmu_reset(struct x86_cpu *cpu)
{
	struct x86_pmu *p = &cpu->pmu;

	memset(p, 0, sizeof(*p));
	/* SDM vol. 3A "Processor State After Reset". */
	p->global_ctrl = x86_has(cpu, X86_FEAT_PERFMON) ? GP_BITS : 0;
	p->lvtpc = LVT_MASKED;
	p->insns = cpu->insn_count - cpu->insn_partial;
	p->branches = cpu->branch_count;
	p->tsc = __rdtsc();
}

/* The counter that @msr is, or -1. */
static int counter_of(u32 msr)
{
	if (msr - MSR_PMC0 < X86_PMU_GP)
		return (int)(msr - MSR_PMC0);
	if (msr - MSR_A_PMC0 < X86_PMU_GP)
		return (int)(msr - MSR_A_PMC0);
	if (msr - MSR_FIXED0 < X86_PMU_FIXED)
		return (int)(msr - MSR_FIXED0 + X86_PMU_GP);
	return -1;
}

bool x86_pmu_rdmsr(struct x86_cpu *cpu, u32 msr, u64 *v)
{
	const struct x86_pmu *p = &cpu->pmu;
	int i = counter_of(msr);

	account(cpu, false);
	if (i >= 0) {
		*v = p->count[i];
		return true;
	}
	switch (msr) {
	case MSR_FIXED_CTRL:
		*v = p->fixed_ctrl;
		return true;
	case MSR_GLOBAL_STATUS:
		*v = p->global_status;
		return true;
	case MSR_GLOBAL_CTRL:
		*v = p->global_ctrl;
		return true;
	case MSR_GLOBAL_OVF_CTRL:
		*v = 0;
		return true;
	default:
		*v = p->evtsel[msr - MSR_EVTSEL0];
		return true;
	}
}

/* SDM "Full-Width Writes to Performance Counter Registers": the old aliases take 32 bits, signed. */
static bool counter_value_ok(u32 msr, u64 *v)
{
	if (msr - MSR_PMC0 < X86_PMU_GP)
		*v = (u64)(s64)(s32)*v & COUNT_MASK;
	return !(*v & ~COUNT_MASK);
}

static bool value_ok(u32 msr, u64 v)
{
	switch (msr) {
	case MSR_FIXED_CTRL:
		return !(v & ~FIXED_CTRL_WRITABLE);
	case MSR_GLOBAL_STATUS:
		return false;
	case MSR_GLOBAL_CTRL:
		return !(v & ~(GP_BITS | FIXED_BITS));
	case MSR_GLOBAL_OVF_CTRL:
		return !(v & ~STATUS_CLEARABLE);
	default:
		return !(v & EVTSEL_RESERVED);
	}
}

bool x86_pmu_wrmsr(struct x86_cpu *cpu, u32 msr, u64 v)
{
	struct x86_pmu *p = &cpu->pmu;
	int i = counter_of(msr);

	if (i >= 0 ? !counter_value_ok(msr, &v) : !value_ok(msr, v))
		return false;
	account(cpu, true);
	if (i >= 0) {
		p->count[i] = v;
	} else {
		switch (msr) {
		case MSR_FIXED_CTRL:
			p->fixed_ctrl = v;
			break;
		case MSR_GLOBAL_CTRL:
			p->global_ctrl = v;
			break;
		case MSR_GLOBAL_OVF_CTRL:
			p->global_status &= ~v;
			break;
		default:
			p->evtsel[msr - MSR_EVTSEL0] = v;
			break;
		}
	}
	update(cpu);
	return true;
}

bool x86_pmu_rdpmc(struct x86_cpu *cpu, u32 index, u64 *v)
{
	unsigned i = index & BITS(29, 0);

	if (!x86_has(cpu, X86_FEAT_PERFMON) || i >= (index & BIT(30) ? X86_PMU_FIXED : X86_PMU_GP))
		return false;
	account(cpu, false);
	*v = cpu->pmu.count[i + (index & BIT(30) ? X86_PMU_GP : 0)];
	return true;
}

bool x86_pmu_global_ctrl_ok(const struct x86_cpu *cpu, u64 v)
{
	return value_ok(MSR_GLOBAL_CTRL, v);
}

void x86_pmu_set_global_ctrl(struct x86_cpu *cpu, u64 v)
{
	if (v == cpu->pmu.global_ctrl)
		return;
	account(cpu, true);
	cpu->pmu.global_ctrl = v;
	if (v) {
		update(cpu);
		return;
	}
	/* Every VM exit of a guest that counts. */
	cpu->pmu.on = 0;
	cpu->pmu.by_insns = cpu->pmu.by_level = false;
}

/* ---- LVTPC ---- */

u32 x86_get_lvtpc(struct x86_cpu *cpu)
{
	return cpu->pmu.lvtpc;
}

void x86_set_lvtpc(struct x86_cpu *cpu, u32 v)
{
	cpu->pmu.lvtpc = v & (u32)LVT_WRITABLE;
}
