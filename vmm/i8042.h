/* SPDX-License-Identifier: MIT */
/* Keyboard controller without keyboard or mouse: self-tests, and the reset line. */
#ifndef VMM_I8042_H
#define VMM_I8042_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/iobus.h"

struct i8042 {
	void (*reset)(void *ctx);
	void *reset_ctx;

	struct iobus_range data, cmd, port92;
	pthread_mutex_t lock;
	u8 status, out, config, pending_cmd, output_port;
};

int i8042_init(struct i8042 *k, struct iobus *pio);
void i8042_exit(struct i8042 *k, struct iobus *pio);

#endif
