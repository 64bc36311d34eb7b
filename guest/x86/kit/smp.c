/* SPDX-License-Identifier: MIT */
/* The C entry of every processor, TSS and GS base, starting the others, work for them. */
#include "kit.h"

void kit_start(u32 id);
void idt_init(void);
void idt_load(void);
void user_init(void);

extern u64 kit_gdt[];
extern const u8 ap_begin[], ap_end[];

struct cpu cpus[MAX_CPUS];
volatile u32 nr_online;
u64 kit_patience = 4000000000ull;

static void load_tss(struct cpu *c)
{
	u64 base = (u64)c->tss, *d = &kit_gdt[SEL_TSS / 8 + 2 * c->id];
	u64 rsp0 = (u64)(c->kernel_stack + sizeof(c->kernel_stack));
	u64 ist = (u64)(c->ist_stack + sizeof(c->ist_stack));
	u16 iomap = sizeof(c->tss);

	memcpy(c->tss + 4, &rsp0, 8);
	memcpy(c->tss + 36, &ist, 8);
	memcpy(c->tss + 102, &iomap, 2);
	d[0] = (sizeof(c->tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	d[1] = base >> 32;
	asm volatile("ltr %w0" :: "r"(SEL_TSS + 16 * c->id));
}

/* Firmware leaves its timer interrupt at vector 8, where a #DF is expected. */
static void mask_pics(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static _Noreturn void ap_loop(struct cpu *c)
{
	for (;;) {
		void (*fn)(void *) = __atomic_load_n(&c->work, __ATOMIC_ACQUIRE);

		if (fn) {
			fn(c->work_arg);
			__atomic_store_n(&c->work, NULL, __ATOMIC_RELEASE);
		}
		let_in();
		pause();
	}
}

void kit_start(u32 id)
{
	struct cpu *c = &cpus[id];

	if (id >= MAX_CPUS)
		for (;;)
			asm volatile("cli; hlt");
	c->self = c;
	c->id = id;
	wrmsr(MSR_GS_BASE, (u64)c);
	if (id == 0)
		idt_init();
	idt_load();
	load_tss(c);
	apic_enable(false);
	c->apic_id = apic_read(APIC_ID) >> 24;
	__atomic_add_fetch(&nr_online, 1, __ATOMIC_SEQ_CST);
	if (id)
		ap_loop(c);
	user_init();
	mask_pics();
	printf("KTAP version 1\n");
	main();
	finish();
}

static void delay(u64 cycles)
{
	u64 end = rdtsc() + cycles;

	while (rdtsc() < end)
		pause();
}

bool start_cpus(u32 n)
{
	if (nr_online >= n)
		return true;
	memcpy((void *)AP_BASE, ap_begin, (size_t)(ap_end - ap_begin));
	apic_ipi(0, ICR_OTHERS | ICR_INIT);
	delay(30000000);
	apic_ipi(0, ICR_OTHERS | ICR_SIPI | AP_BASE >> 12);
	if (wait_for(nr_online >= n))
		return true;
	/* A second SIPI, as the manual has it; one that runs already ignores it. */
	apic_ipi(0, ICR_OTHERS | ICR_SIPI | AP_BASE >> 12);
	return wait_for(nr_online >= n);
}

void run_on(u32 id, void (*fn)(void *), void *arg)
{
	wait_idle(id);
	cpus[id].work_arg = arg;
	__atomic_store_n(&cpus[id].work, fn, __ATOMIC_RELEASE);
}

void wait_idle(u32 id)
{
	if (!wait_for(!__atomic_load_n(&cpus[id].work, __ATOMIC_ACQUIRE)))
		die("processor %u does not finish", id);
}
