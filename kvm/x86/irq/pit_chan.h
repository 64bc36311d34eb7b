/* SPDX-License-Identifier: MIT */
/*
 * One counter of an 8254 interval timer as a function of time: no clock, no
 * lock, no interrupts of its own. Times are nanoseconds of any one clock.
 */
#ifndef KVM_X86_IRQ_PIT_CHAN_H
#define KVM_X86_IRQ_PIT_CHAN_H

#include "abi/kvm.h"
#include "base/types.h"

#define PIT_HZ 1193182u

/*
 * The ABI's state holds count (in clocks, 1..65536), mode, latches, gate and
 * the time at which counting started.
 */
struct pit_chan {
	struct kvm_pit_channel_state s;
	bool loaded;		/* a count was written since the control word */
	u64 paused;		/* clocks counted when the gate closed (modes 0, 4) */
};

u64 pit_ns_to_clocks(u64 ns);
/* The first nanosecond at which @clocks have passed. */
u64 pit_clocks_to_ns(u64 clocks);

/* Power-on; the gate as wired. */
void pit_chan_init(struct pit_chan *c, bool gate);
/* Control word without the channel bits; RW = 0 latches the count. */
void pit_chan_control(struct pit_chan *c, u8 control, u64 now);
void pit_chan_latch_status(struct pit_chan *c, u64 now);
void pit_chan_latch_count(struct pit_chan *c, u64 now);
/* True if a write completed a new count: counting starts at @now. */
bool pit_chan_write(struct pit_chan *c, u8 val, u64 now);
u8 pit_chan_read(struct pit_chan *c, u64 now);
void pit_chan_gate(struct pit_chan *c, bool gate, u64 now);
bool pit_chan_out(const struct pit_chan *c, u64 now);
u16 pit_chan_count(const struct pit_chan *c, u64 now);
/*
 * Clocks from the start of counting to the first rising edge of OUT, and between edges (0: only
 * one).
 */
bool pit_chan_edges(const struct pit_chan *c, u64 *first, u64 *period);

/* From and to a saved state. */
void pit_chan_set(struct pit_chan *c, const struct kvm_pit_channel_state *s, u64 now);
void pit_chan_get(const struct pit_chan *c, struct kvm_pit_channel_state *s, u64 now);

#endif
