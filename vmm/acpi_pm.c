// SPDX-License-Identifier: MIT
/*
 * ACPI fixed hardware. The machine is always in ACPI mode (SCI_EN set, no SMI
 * command port). No fixed event ever happens, so the SCI stays low.
 * Source: ACPI 6.4 "Fixed Hardware Registers".
 */
#include "vmm/acpi_pm.h"

#include <string.h>
#include <time.h>

#include "vmm/layout.h"

#define CNT_SCI_EN 0x0001
#define CNT_SLP_TYP(v) (((v) >> 10) & 7u)
#define CNT_SLP_EN 0x2000

#define REG_STATUS 0
#define REG_ENABLE 2
#define REG_CONTROL (PORT_PM1_CNT - PORT_PM1_EVT)
#define REG_TIMER (PORT_PM_TMR - PORT_PM1_EVT)
#define REGS_LEN (REG_TIMER + 4)

static u32 pm_timer(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u32)((u64)ts.tv_sec * PM_TMR_HZ + (u64)ts.tv_nsec * PM_TMR_HZ / 1000000000);
}

/* The registers as bytes, for accesses of any width. */
static void regs_load(const struct acpi_pm *pm, u8 regs[REGS_LEN])
{
	u32 timer = pm_timer();
	u16 control = (u16)(pm->control | CNT_SCI_EN);

	memset(regs, 0, REGS_LEN);
	memcpy(regs + REG_STATUS, &pm->status, 2);
	memcpy(regs + REG_ENABLE, &pm->enable, 2);
	memcpy(regs + REG_CONTROL, &control, 2);
	memcpy(regs + REG_TIMER, &timer, 4);
}

static void pm_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct acpi_pm *pm = ctx;
	u8 regs[REGS_LEN];
	bool off_now = false;

	pthread_mutex_lock(&pm->lock);
	regs_load(pm, regs);
	if (!is_write) {
		memcpy(data, regs + off, len);
	} else {
		/* Status bits clear where ones are written; the others are plain. */
		u16 clear = 0;

		for (unsigned i = 0; i < len; i++)
			if (off + i < REG_ENABLE)
				clear |= (u16)(data[i] << (8 * (off + i)));
		memcpy(regs + off, data, len);
		pm->status &= (u16)~clear;
		memcpy(&pm->enable, regs + REG_ENABLE, 2);
		memcpy(&pm->control, regs + REG_CONTROL, 2);
		off_now = (pm->control & CNT_SLP_EN) && CNT_SLP_TYP(pm->control) == SLP_TYP_S5;
		pm->control &= (u16)~CNT_SLP_EN;	/* reads as zero */
	}
	pthread_mutex_unlock(&pm->lock);
	/* Inside the OUT: the processor that wrote it executes nothing more. */
	if (off_now)
		pm->poweroff(pm->poweroff_ctx);
}

int acpi_pm_init(struct acpi_pm *pm, struct iobus *pio)
{
	pthread_mutex_init(&pm->lock, NULL);
	pm->range = (struct iobus_range){ .start = PORT_PM1_EVT, .len = REGS_LEN, .width = 4,
		.fn = pm_port, .ctx = pm };
	return iobus_add(pio, &pm->range);
}

void acpi_pm_exit(struct acpi_pm *pm, struct iobus *pio)
{
	iobus_remove(pio, &pm->range);
	pthread_mutex_destroy(&pm->lock);
}
