/* SPDX-License-Identifier: MIT */
/* MC146818 real-time clock and CMOS memory, ports 70H and 71H. */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <pthread.h>

#include "base/types.h"
#include "vmm/iobus.h"

#define CMOS_SIZE 128

struct rtc {
	void (*irq)(void *ctx, bool level);
	void *irq_ctx;

	struct iobus_range range;
	pthread_mutex_t lock;
	u8 index;
	u8 cmos[CMOS_SIZE];
	s64 offset_ns;		/* guest's clock minus the host's CLOCK_REALTIME */
	s64 frozen_ns;		/* time while register B's SET stops the clock */
	s64 last_second;	/* last update that was reported */
	s64 next_periodic_ns;
	bool irq_level;
	int timer_fd;		/* timerfd for the next interrupt; poll it, then rtc_timer() */
};

/*
 * @ram_below_4g (at least VMM_MIN_MEM), @ram_above_4g: bytes, for the sizes that firmware leaves.
 */
int rtc_init(struct rtc *r, struct iobus *pio, u64 ram_below_4g, u64 ram_above_4g);
void rtc_exit(struct rtc *r, struct iobus *pio);
void rtc_timer(struct rtc *r);

#endif
