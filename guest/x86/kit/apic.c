/* SPDX-License-Identifier: MIT */
/* The local APIC, in either of its modes. */
#include "kit.h"

#define APIC_MMIO 0xfee00000ull
#define BASE_ENABLE 0x800
#define BASE_X2 0x400
#define SVR_ENABLE 0x100

static bool x2_mode(void)
{
	return rdmsr(MSR_APIC_BASE) & BASE_X2;
}

bool apic_has_x2(void)
{
	return cpuid(1, 0).c >> 21 & 1;
}

u32 apic_read(u32 reg)
{
	if (x2_mode())
		return (u32)rdmsr(MSR_X2APIC + (reg >> 4));
	return *(volatile u32 *)(APIC_MMIO + reg);
}

void apic_write(u32 reg, u32 v)
{
	if (x2_mode())
		wrmsr(MSR_X2APIC + (reg >> 4), v);
	else
		*(volatile u32 *)(APIC_MMIO + reg) = v;
}

void apic_enable(bool x2)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BASE_ENABLE);
	if (x2)
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BASE_X2);
	apic_write(APIC_SVR, SVR_ENABLE | VEC_SPURIOUS);
	apic_write(APIC_TPR, 0);
}

void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

void apic_ipi(u32 dest, u32 icr)
{
	if (x2_mode()) {
		wrmsr(MSR_X2APIC + (APIC_ICR >> 4), (u64)dest << 32 | icr);
		return;
	}
	*(volatile u32 *)(APIC_MMIO + APIC_ICR + 0x10) = dest << 24;
	*(volatile u32 *)(APIC_MMIO + APIC_ICR) = icr;
	/* Delivery status: not in x2APIC mode. */
	for (int i = 0; i < 1000000 && (*(volatile u32 *)(APIC_MMIO + APIC_ICR) & 0x1000); i++)
		pause();
}
