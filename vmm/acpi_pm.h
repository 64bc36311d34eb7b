/* SPDX-License-Identifier: MIT */
/* ACPI fixed hardware: PM1a event and control registers, power management timer. */
#ifndef VMM_ACPI_PM_H
#define VMM_ACPI_PM_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/iobus.h"

struct acpi_pm {
	void (*poweroff)(void *ctx);
	void *poweroff_ctx;

	struct iobus_range range;
	pthread_mutex_t lock;
	u16 status, enable, control;
};

int acpi_pm_init(struct acpi_pm *pm, struct iobus *pio);
void acpi_pm_exit(struct acpi_pm *pm, struct iobus *pio);

#endif
