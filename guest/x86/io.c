/* SPDX-License-Identifier: MIT */
/* Replay: guest/run io   (or: userkvm boot -i none -k build/guest/io) */
/* Port and memory-mapped I/O by every kind of instruction that a hypervisor must emulate. */
#include "kit/kit.h"

#define COM1_SCRATCH 0x3ff
#define UNUSED_PORT 0x6ff0
#define APIC ((volatile u32 *)0xfee00000)
#define APIC_PTR(reg) ((u64)0xfee00000 + (reg))
#define IOAPIC ((volatile u32 *)0xfec00000)
#define UNUSED_MMIO ((volatile u32 *)0xf1000000)

static void ports(void)
{
	static const char line[] = "# written by REP OUTSB\n";
	const char *s = line;
	u64 n = sizeof(line) - 1;
	u8 mem[8], *buf = mem + 4;
	void *d = buf;

	outb(COM1_SCRATCH, 0x5a);
	report("8-bit port", inb(COM1_SCRATCH) == 0x5a);
	asm volatile("rep outsb" : "+S"(s), "+c"(n) : "d"((u16)0x3f8) : "memory");
	report("REP OUTSB", n == 0 && s == line + sizeof(line) - 1);
	outb(COM1_SCRATCH, 0xa7);
	n = 4;
	asm volatile("rep insb" : "+D"(d), "+c"(n) : "d"((u16)COM1_SCRATCH) : "memory");
	report("REP INSB", n == 0 && buf[0] == 0xa7 && buf[3] == 0xa7);
	d = buf + 3;
	n = 4;
	buf[0] = 0;
	asm volatile("std; rep insb; cld" : "+D"(d), "+c"(n) : "d"((u16)COM1_SCRATCH) : "memory");
	report("REP INSB downwards", n == 0 && buf[0] == 0xa7 && d == buf - 1);
	outl(0xcf8, 0x80000000);
	report("32-bit port", inl(0xcf8) == 0x80000000);
	report("16-bit port of a 32-bit register", inw(0xcfc) != 0xffff);
	report("nobody there: all ones",
	       inb(UNUSED_PORT) == 0xff && inw(UNUSED_PORT) == 0xffff && inl(UNUSED_PORT) == 0xffffffff);
}

static void mmio_forms(void)
{
	u64 tpr = APIC_PTR(APIC_TPR), v, n;
	u32 buf[2], r;
	void *d;
	const void *s;

	APIC[APIC_TPR / 4] = 0x20;
	asm volatile("mov (%1), %k0" : "=r"(v) : "r"(tpr) : "memory");
	report("MOV load", v == 0x20);
	asm volatile("movl $0x30, (%0)" :: "r"(tpr) : "memory");
	report("MOV immediate", APIC[APIC_TPR / 4] == 0x30);
	asm volatile("movslq (%1), %0" : "=r"(v) : "r"(tpr) : "memory");
	report("MOVSXD", v == 0x30);
	asm volatile("orl $0x41, (%0)" :: "r"(tpr) : "memory");
	report("OR to memory", APIC[APIC_TPR / 4] == 0x71);
	asm volatile("mov $0x10, %k0; xchg %k0, (%1)" : "=&r"(v) : "r"(tpr) : "memory");
	report("XCHG", v == 0x71 && APIC[APIC_TPR / 4] == 0x10);
	asm volatile("mov $3, %k0; add (%1), %k0" : "=&r"(v) : "r"(tpr) : "memory");
	report("ADD from memory", v == 0x13);
	asm volatile("testl $0x10, (%1); setnz %b0" : "=q"(r) : "r"(tpr) : "memory");
	report("TEST", (u8)r == 1);
	asm volatile("cmpl $0x10, (%1); sete %b0" : "=q"(r) : "r"(tpr) : "memory");
	report("CMP", (u8)r == 1);
	asm volatile("bt $4, (%1); setc %b0" : "=q"(r) : "r"(tpr) : "memory");
	report("BT", (u8)r == 1);
	s = (void *)tpr;
	d = buf;
	n = 1;
	asm volatile("rep movsl" : "+S"(s), "+D"(d), "+c"(n) :: "memory");
	report("REP MOVSD from a device", buf[0] == 0x10 && n == 0);
	buf[0] = 0x40;
	s = buf;
	d = (void *)tpr;
	n = 1;
	asm volatile("rep movsl" : "+S"(s), "+D"(d), "+c"(n) :: "memory");
	report("REP MOVSD to a device", APIC[APIC_TPR / 4] == 0x40);
	d = (void *)tpr;
	asm volatile("stosl" : "+D"(d) : "a"(0x50) : "memory");
	report("STOSD", APIC[APIC_TPR / 4] == 0x50);
	APIC[APIC_TPR / 4] = 0;
}

static void mmio_devices(void)
{
	u32 id;

	IOAPIC[0] = 1;
	report("IOAPIC version", (IOAPIC[4] & 0xff) >= 0x11);
	IOAPIC[0] = 0;
	id = IOAPIC[4];
	IOAPIC[4] = 5u << 24;
	report("IOAPIC id", (IOAPIC[4] & 0x0f000000) == 5u << 24);
	IOAPIC[4] = id;
	/* What nobody answers differs by machine: 0 or all ones. */
	id = *UNUSED_MMIO;
	*UNUSED_MMIO = ~id ^ 0x1234;
	report("a write to nobody is lost", *UNUSED_MMIO == id);
}

static void user_bad_out(u64 arg)
{
	asm volatile("outb %%al, $0x80" ::: "memory");
}

static void others(void)
{
	struct cpuid c = cpuid(0, 0);
	u64 a, b;

	report("CPUID", c.a >= 1 && (c.b | c.c | c.d));
	a = rdtsc();
	b = rdtsc();
	report("RDTSC grows", b > a);
	report("OUT at CPL 3 is #GP, not an access", is_fault(run_user(user_bad_out, 0), 13, 0));
}

int main(void)
{
	ports();
	mmio_forms();
	mmio_devices();
	others();
	return 0;
}
