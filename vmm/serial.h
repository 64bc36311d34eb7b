/* SPDX-License-Identifier: MIT */
/* 16550A serial port. */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/iobus.h"

#define SERIAL_INPUT_MAX 4096
#define SERIAL_FIFO 16
#define SERIAL_RING (SERIAL_INPUT_MAX + SERIAL_FIFO)	/* a cleared FIFO goes back */

struct serial {
	/* Set by the creator. */
	u16 port;
	void (*irq)(void *ctx, bool level);
	void *irq_ctx;
	/* The guest sent a byte; called under the port's lock. */
	void (*output)(void *ctx, u8 byte);
	void *output_ctx;

	struct iobus_range range;
	pthread_mutex_t lock;
	u8 ier, fcr, lcr, mcr, scr, dll, dlm, lsr_errors, msr_delta;
	bool thr_pending;	/* transmitter-empty interrupt not yet seen */
	bool irq_level;
	u8 fifo[SERIAL_FIFO];	/* what the chip has received */
	unsigned fifo_len;
	unsigned idle_polls;	/* reads of the line status without a transmission in between */
	/* What the host typed and the guest is not ready for, as a ring. */
	u8 in[SERIAL_RING];
	unsigned in_head, in_len;
};

int serial_init(struct serial *s, struct iobus *pio);
void serial_exit(struct serial *s, struct iobus *pio);

/* Room for input, and input. What does not fit is not taken; returns the bytes taken. */
unsigned serial_room(struct serial *s);
unsigned serial_input(struct serial *s, const u8 *data, unsigned len);

#endif
