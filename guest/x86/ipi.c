/* SPDX-License-Identifier: MIT */
/* Replay: guest/run ipi   (or: userkvm boot -i none -c 2 -k build/guest/ipi) */
/* Interrupts between two processors: fixed, self, shorthand, NMI, to a halted target. */
#include "kit/kit.h"

#define VEC 0x60
#define VEC_HIGH 0xe0

static volatile u32 got[MAX_CPUS], nmis, order, halted, awake;
static volatile u8 sequence[4];

static void on_ipi(struct frame *f)
{
	got[this_cpu()->id]++;
	if (order < 4)
		sequence[order++] = (u8)f->vector;
	apic_eoi();
}

static void on_nmi(struct frame *f)
{
	nmis++;
}

static void halt(void *arg)
{
	halted = 1;
	sti_hlt();
	awake = 1;
}

static void send_back(void *arg)
{
	apic_ipi(cpus[0].apic_id, VEC);
}

static void rounds(const char *mode)
{
	u32 id1 = cpus[1].apic_id;

	printf("# %s\n", mode);
	got[0] = got[1] = nmis = 0;
	apic_ipi(id1, VEC);
	report("to the other", wait_for(got[1] == 1) && got[0] == 0);
	run_on(1, send_back, NULL);
	report("from the other", wait_for(got[0] == 1));
	wait_idle(1);
	apic_ipi(0, ICR_SELF | VEC);
	report("to self", wait_for(got[0] == 2) && got[1] == 1);
	apic_ipi(0, ICR_OTHERS | VEC);
	report("all but self", wait_for(got[1] == 2) && got[0] == 2);
	for (u32 i = 0; i < 1000; i++) {
		u32 want = got[1] + 1;

		apic_ipi(id1, VEC);
		if (!wait_for(got[1] >= want))
			break;
	}
	report("a thousand, one by one", got[1] == 1002);
	apic_ipi(id1, ICR_NMI);
	report("NMI", wait_for(nmis == 1));

	halted = awake = 0;
	run_on(1, halt, NULL);
	wait_for(halted);
	apic_ipi(id1, VEC);
	report("wakes a halted processor", wait_for(awake));
	wait_idle(1);

	/* Two pending at once: the higher class first. */
	cli();
	order = 0;
	apic_ipi(0, ICR_SELF | VEC);
	apic_ipi(0, ICR_SELF | VEC_HIGH);
	report("the higher vector first", wait_for(order == 2) && sequence[0] == VEC_HIGH && sequence[1] == VEC);
}

static void to_x2(void *arg)
{
	apic_enable(true);
}

int main(void)
{
	set_handler(VEC, on_ipi);
	set_handler(VEC_HIGH, on_ipi);
	set_handler(2, on_nmi);
	report("two processors", start_cpus(2));
	if (nr_online < 2)
		return 0;
	rounds("xAPIC");
	if (apic_has_x2()) {
		apic_enable(true);
		run_on(1, to_x2, NULL);
		wait_idle(1);
		rounds("x2APIC");
	} else {
		skip("x2APIC", "not in CPUID");
	}
	return 0;
}
