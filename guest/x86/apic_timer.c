/* SPDX-License-Identifier: MIT */
/* Replay: guest/run apic_timer   (or: userkvm boot -i none -k build/guest/apic_timer) */
/* The local APIC's timer: one-shot, periodic, TSC-deadline, masks; TPR; both APIC modes. */
#include "kit/kit.h"

#define VEC 0x50

static volatile u32 ticks;
static volatile bool in_service;

static void on_timer(struct frame *f)
{
	ticks++;
	in_service = apic_read(APIC_ISR + (VEC / 32) * 16) >> (VEC % 32) & 1;
	apic_eoi();
}

static void arm(u32 mode, u32 count)
{
	ticks = 0;
	apic_write(APIC_TDCR, 0xb);	/* by 1 */
	apic_write(APIC_LVTT, VEC | mode);
	apic_write(APIC_TMICT, count);
}

static void spin(u64 cycles)
{
	u64 end = rdtsc() + cycles;

	sti();
	while (rdtsc() < end)
		pause();
	cli();
}

static void counting(void)
{
	u32 a, b;

	arm(LVT_MASKED, 0xffffffff);
	a = apic_read(APIC_TMCCT);
	spin(100000);
	b = apic_read(APIC_TMCCT);
	report("the current count goes down", b < a);
	report("the initial count stays", apic_read(APIC_TMICT) == 0xffffffff);
	apic_write(APIC_TMICT, 0);
	report("count 0 stops", apic_read(APIC_TMCCT) == 0);
}

static void modes(void)
{
	arm(0, 100000);
	report("one-shot fires", wait_for(ticks));
	report("the vector is in service in its handler", in_service);
	spin(20000000);
	report("once", ticks == 1 && apic_read(APIC_TMCCT) == 0);

	arm(LVT_PERIODIC, 1000000);
	report("periodic fires again and again", wait_for(ticks >= 5));
	apic_write(APIC_LVTT, VEC | LVT_PERIODIC | LVT_MASKED);
	let_in();	/* one that is pending already */
	ticks = 0;
	spin(20000000);
	report("masked it does not", ticks == 0);
	apic_write(APIC_TMICT, 0);

	arm(0, 100000);
	ticks = 0;
	while (!ticks)
		sti_hlt();
	report("wakes HLT", ticks == 1);
}

static void deadline(void)
{
	if (!(cpuid(1, 0).c >> 24 & 1)) {
		skip("TSC deadline", "not in CPUID");
		return;
	}
	ticks = 0;
	apic_write(APIC_LVTT, VEC | LVT_DEADLINE);
	asm volatile("mfence" ::: "memory");
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 5000000);
	report("deadline fires", wait_for(ticks));
	report("and disarms", rdmsr(MSR_TSC_DEADLINE) == 0);
	ticks = 0;
	wrmsr(MSR_TSC_DEADLINE, 1);
	report("one in the past fires at once", wait_for(ticks == 1));
	ticks = 0;
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 50000000);
	wrmsr(MSR_TSC_DEADLINE, 0);
	spin(100000000);
	report("0 disarms", ticks == 0);
	apic_write(APIC_LVTT, VEC | LVT_MASKED);
}

static void priority(void)
{
	arm(0, 1000);
	apic_write(APIC_TPR, VEC & 0xf0);
	spin(20000000);
	report("TPR holds its class back", ticks == 0);
	report("CR8 is TPR", read_cr8() == VEC >> 4);
	report("pending in IRR", apic_read(APIC_IRR + (VEC / 32) * 16) >> (VEC % 32) & 1);
	write_cr8(0);
	report("lowering CR8 lets it in", wait_for(ticks == 1));
	report("and writes TPR", apic_read(APIC_TPR) == 0);
}

int main(void)
{
	set_handler(VEC, on_timer);
	counting();
	modes();
	deadline();
	priority();
	if (apic_has_x2()) {
		printf("# x2APIC mode\n");
		apic_enable(true);
		report("the id stays", apic_read(APIC_ID) == this_cpu()->apic_id);
		report("#GP at a register that does not exist",
		       is_fault(probe("rdmsr", "c"(MSR_X2APIC + 0x31)), 13, 0));
		report("#GP at reserved bits of EOI",
		       is_fault(probe("mov $1, %%eax; wrmsr", "c"(MSR_X2APIC + 0xb), "d"(0)), 13, 0));
		counting();
		modes();
		deadline();
		priority();
	} else {
		skip("x2APIC", "not in CPUID");
	}
	return 0;
}
