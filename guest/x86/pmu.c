/* SPDX-License-Identifier: MIT */
/* Replay: guest/run pmu   (or: userkvm boot -i none -k build/guest/pmu) */
/* Performance counters, architectural version 2: exact counts, levels, overflow interrupts, RDPMC. */
#include "kit/kit.h"

#define PMC0 0xc1
#define EVTSEL0 0x186
#define FIXED0 0x309
#define FIXED_CTRL 0x38d
#define STATUS 0x38e
#define GLOBAL_CTRL 0x38f
#define OVF_CTRL 0x390
#define USR 0x10000u
#define OS 0x20000u
#define INT 0x100000u
#define EN 0x400000u
#define INSNS 0xc0u
#define BRANCHES 0xc4u
#define CYCLES 0x3cu
#define FIXED0_ON (1ull << 32)
#define APIC_LVTPC 0x340
#define PMI 0x61
#define CR4_PCE 0x100

static unsigned nr_gp;
static u64 width_mask;

static void stop(void)
{
	wrmsr(GLOBAL_CTRL, 0);
	for (unsigned i = 0; i < nr_gp; i++)
		wrmsr(EVTSEL0 + i, 0);
	wrmsr(FIXED_CTRL, 0);
	wrmsr(OVF_CTRL, 3ull << 32 | 3);
}

/* Begin with @on, N times three instructions, end. Between the two WRMSR: 2, 3 N, 4 with the last. */
static void counted_loop(u64 on, u32 n)
{
	u32 lo = (u32)on, hi = (u32)(on >> 32);

	asm volatile("wrmsr; mov %3, %%r8d; nop; 1: nop; dec %%r8d; jnz 1b; mov %%ecx, %%ecx; xor %%eax, %%eax; "
		     "xor %%edx, %%edx; wrmsr"
		     : "+a"(lo), "+d"(hi) : "c"(GLOBAL_CTRL), "r"(n) : "r8", "memory", "cc");
}
#define LOOP_INSNS(n) (2 + 3 * (u64)(n) + 4)

static u64 read_tsc_of_loop(u64 on, u32 n)
{
	u64 t = rdtsc();

	counted_loop(on, n);
	return rdtsc() - t;
}

static void counts(void)
{
	bool exact = true;
	u64 tsc, c;

	wrmsr(EVTSEL0, INSNS | OS | USR | EN);
	wrmsr(EVTSEL0 + 1, BRANCHES | OS | USR | EN);
	wrmsr(FIXED_CTRL, 0x333);
	for (u32 n = 1; n < 100000; n = n * 3 + 1) {
		wrmsr(PMC0, 0);
		wrmsr(PMC0 + 1, 0);
		wrmsr(FIXED0, 0);
		counted_loop(FIXED0_ON | 3, n);
		exact &= rdmsr(PMC0) == LOOP_INSNS(n) && rdmsr(FIXED0) == LOOP_INSNS(n) && rdmsr(PMC0 + 1) == n;
	}
	report("instructions and branches of a loop", exact);
	c = rdmsr(PMC0);
	counted_loop(0, 100);
	report("disabled", rdmsr(PMC0) == c);

	wrmsr(FIXED0 + 1, 0);
	wrmsr(FIXED0 + 2, 0);
	tsc = read_tsc_of_loop(6ull << 32, 100000);
	c = rdmsr(FIXED0 + 1);
	report("cycles advance, not faster than the TSC", c > 0 && c <= tsc && rdmsr(FIXED0 + 2) > 0);
	stop();
}

/* An exit in the middle is the hypervisor's affair. */
static void exits(void)
{
	u32 lo = 0, hi = 1, msr = GLOBAL_CTRL;

	wrmsr(FIXED_CTRL, 3);
	wrmsr(FIXED0, 0);
	asm volatile("wrmsr; cpuid; mov %3, %%ecx; xor %%eax, %%eax; cpuid; xor %%eax, %%eax; out %%al, $0x80; "
		     "mov %3, %%ecx; xor %%edx, %%edx; wrmsr"
		     : "+a"(lo), "+d"(hi), "+c"(msr) : "i"(GLOBAL_CTRL) : "ebx", "memory", "cc");
	report("CPUID and OUT are one each", rdmsr(FIXED0) == 9);
	stop();
}

static void user_loop(u64 n)
{
	asm volatile("1: dec %0; jnz 1b" : "+r"(n) :: "cc");
}

static void levels(void)
{
	u64 user, few, os;

	wrmsr(EVTSEL0, INSNS | USR | EN);
	wrmsr(EVTSEL0 + 1, INSNS | OS | EN);
	wrmsr(EVTSEL0 + 2, BRANCHES | USR | EN);
	wrmsr(PMC0, 0);
	wrmsr(GLOBAL_CTRL, 7);
	run_user(user_loop, 10);
	few = rdmsr(PMC0);
	wrmsr(PMC0, 0);
	wrmsr(PMC0 + 1, 0);
	wrmsr(PMC0 + 2, 0);
	run_user(user_loop, 1010);
	user = rdmsr(PMC0);
	os = rdmsr(PMC0 + 1);
	wrmsr(GLOBAL_CTRL, 0);
	report("user: a thousand rounds more", user - few == 2000);
	report("kernel: nothing of the loop", os > 0 && os < 1000);
	report("user: branches", rdmsr(PMC0 + 2) >= 1010 && rdmsr(PMC0 + 2) < 1100);
	stop();
}

/* ---- Overflow ---- */

static volatile u32 interrupts;
static volatile u64 rip, status;

static void on_pmi(struct frame *f)
{
	interrupts++;
	rip = f->rip;
	status = rdmsr(STATUS);
	wrmsr(GLOBAL_CTRL, 0);
	wrmsr(OVF_CTRL, status);
	if (f->vector != 2)
		apic_eoi();
}

/* Overflow at instruction @n of a row of NOPs; where the interrupt found us, counted from the WRMSR. */
static u64 overflow_at(u32 n)
{
	u64 first;

	interrupts = 0;
	rip = 0;
	wrmsr(FIXED_CTRL, 0xb);
	wrmsr(FIXED0, width_mask + 1 - n);
	sti();
	asm volatile("wrmsr; 1: .rept 200; nop; .endr; lea 1b(%%rip), %0"
		     : "=r"(first) : "c"(GLOBAL_CTRL), "a"(0), "d"(1) : "memory");
	cli();
	return rip - first;
}

static void overflow(void)
{
	bool exact = true, masked = true;

	apic_enable(false);
	set_handler(PMI, on_pmi);
	set_handler(2, on_pmi);
	for (u32 n = 1; n < 200; n += 13) {
		apic_write(APIC_LVTPC, PMI);
		exact &= overflow_at(n) == n && interrupts == 1 && status == FIXED0_ON;
		masked &= apic_read(APIC_LVTPC) == (LVT_MASKED | PMI);
	}
	report("PMI behind the very instruction", exact);
	report("which masks the LVT entry", masked);
	overflow_at(50);
	report("no PMI while it is masked", interrupts == 0 && rdmsr(STATUS) == FIXED0_ON);
	stop();

	apic_write(APIC_LVTPC, ICR_NMI);
	report("PMI as NMI", overflow_at(77) == 77 && interrupts == 1);
	stop();

	interrupts = 0;
	apic_write(APIC_LVTPC, PMI);
	wrmsr(EVTSEL0, CYCLES | OS | USR | INT | EN);
	wrmsr(PMC0, -100000ull);
	wrmsr(GLOBAL_CTRL, 1);
	report("cycles overflow", wait_for(interrupts) && status == 1);
	stop();
	apic_write(APIC_LVTPC, LVT_MASKED);
}

/* ---- RDPMC ---- */

static void user_rdpmc(u64 index)
{
	asm volatile("rdpmc" :: "c"((u32)index) : "rax", "rdx");
}

static u64 rdpmc(u32 index)
{
	u32 lo, hi;

	asm volatile("rdpmc" : "=a"(lo), "=d"(hi) : "c"(index));
	return lo | (u64)hi << 32;
}

static void reads(void)
{
	wrmsr(PMC0 + 1, 0x80001234);
	report("RDPMC: writes are sign-extended", rdpmc(1) == (0xffffffff80001234 & width_mask));
	wrmsr(FIXED0 + 1, 0x123456789a);
	report("RDPMC of a fixed counter", rdpmc(1u << 30 | 1) == 0x123456789a);
	report("#GP beyond the last", is_fault(probe("rdpmc", "c"(nr_gp)), 13, 0));
	report("#GP beyond the last fixed one", is_fault(probe("rdpmc", "c"(1u << 30 | 3)), 13, 0));
	report("#GP at CPL 3 without CR4.PCE", is_fault(run_user(user_rdpmc, 0), 13, 0));
	write_cr4(read_cr4() | CR4_PCE);
	report("CPL 3 with CR4.PCE", !run_user(user_rdpmc, 0).taken);
	report("but #GP beyond the last", is_fault(run_user(user_rdpmc, nr_gp), 13, 0));
	write_cr4(read_cr4() & ~(u64)CR4_PCE);
	report("#GP for reserved bits of a selector", is_fault(probe("wrmsr", "c"(EVTSEL0), "d"(1), "m"(width_mask)), 13, 0));
	report("#GP for writing the status", is_fault(probe("xor %%eax, %%eax; wrmsr", "c"(STATUS), "d"(0)), 13, 0));
}

int main(void)
{
	struct cpuid leaf = cpuid(0, 0);

	if (leaf.a >= 0xa)
		leaf = cpuid(0xa, 0);
	nr_gp = leaf.a >> 8 & 0xff;
	width_mask = (1ull << (leaf.a >> 16 & 0xff)) - 1;
	if ((leaf.a & 0xff) < 2 || nr_gp < 3 || (leaf.d & 0x1f) != 3) {
		skip("performance counters", "this processor has none of version 2");
		return 0;
	}
	stop();
	counts();
	exits();
	levels();
	overflow();
	reads();
	return 0;
}
