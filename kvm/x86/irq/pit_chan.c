// SPDX-License-Identifier: MIT
/* One counter of the interval timer. Intel 8254 data sheet, "Mode Definitions". */
#include "kvm/x86/irq/pit_chan.h"

#include "kvm/host_time.h"

/*
 * RW field of the control word, and the ABI's state of the data port: what the
 * next access transfers. A counter with both bytes alternates between PIT_BOTH
 * (the low one) and PIT_SECOND.
 */
enum pit_rw { PIT_LATCH, PIT_LSB, PIT_MSB, PIT_BOTH, PIT_SECOND };

/* Of a counter that has had no control word, as KVM saves it. */
#define PIT_NO_MODE 0xff

u64 pit_ns_to_clocks(u64 ns)
{
	return (u128)ns * PIT_HZ / NSEC_PER_SEC;
}

u64 pit_clocks_to_ns(u64 clocks)
{
	return ((u128)clocks * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ;
}

static unsigned from_bcd(unsigned v)
{
	unsigned d = 0;

	for (int shift = 12; shift >= 0; shift -= 4)
		d = d * 10 + (v >> shift & 0xf);
	return d;
}

static u16 to_bcd(unsigned d)
{
	return (d / 1000 % 10) << 12 | (d / 100 % 10) << 8 | (d / 10 % 10) << 4 | d % 10;
}

static unsigned modulus(const struct pit_chan *c)
{
	return c->s.bcd ? 10000 : 65536;
}

/* Modes 0 and 4 stand still while the gate is closed, modes 2 and 3 begin anew when it opens. */
static bool gate_pauses(const struct pit_chan *c)
{
	return c->s.mode == 0 || c->s.mode == 4;
}

static u64 elapsed(const struct pit_chan *c, u64 now)
{
	u64 start = (u64)c->s.count_load_time;

	if (gate_pauses(c) && !c->s.gate)
		return c->paused;
	return now > start ? pit_ns_to_clocks(now - start) : 0;
}

static void start(struct pit_chan *c, u64 now)
{
	c->s.count_load_time = (s64)now;
	c->paused = 0;
}

void pit_chan_init(struct pit_chan *c, bool gate)
{
	*c = (struct pit_chan){
		.s = {
			.mode = PIT_NO_MODE, .gate = gate, .count = 65536,
			.rw_mode = PIT_BOTH, .read_state = PIT_BOTH, .write_state = PIT_BOTH,
		},
	};
}

bool pit_chan_out(const struct pit_chan *c, u64 now)
{
	u64 d = elapsed(c, now), n = c->s.count;

	if (!c->loaded)
		return c->s.mode != 0;
	switch (c->s.mode) {
	case 0:
		return d >= n;
	case 1:
		/* Triggered by the gate; count_load_time is then the trigger's. */
		return d >= n;
	case 2:
		return !c->s.gate || d % n != n - 1;
	case 3:
		return !c->s.gate || d % n < (n + 1) / 2;
	default:	/* 4, 5: low for one clock at the end */
		return d != n;
	}
}

u16 pit_chan_count(const struct pit_chan *c, u64 now)
{
	u64 d = elapsed(c, now), n = c->s.count, half, left;

	if (!c->loaded)
		d = 0;
	switch (c->s.mode) {
	case 2:
		left = c->s.gate ? n - d % n : n;
		break;
	case 3:
		/* Counts down by twos, once per half; an odd count is loaded less one. */
		half = (n + 1) / 2;
		d = c->s.gate ? d % n : 0;
		if (d >= half)
			d -= half;
		left = (n & ~1ull) - 2 * d;
		break;
	default:
		/* Goes on after zero, from the highest value down. */
		left = (n + modulus(c) - d % modulus(c)) % modulus(c);
	}
	left %= modulus(c);
	return c->s.bcd ? to_bcd(left) : left;
}

/* ---- Latches ---- */

void pit_chan_latch_count(struct pit_chan *c, u64 now)
{
	if (c->s.count_latched)
		return;
	c->s.latched_count = pit_chan_count(c, now);
	c->s.count_latched = c->s.rw_mode ? c->s.rw_mode : PIT_BOTH;
}

void pit_chan_latch_status(struct pit_chan *c, u64 now)
{
	if (c->s.status_latched)
		return;
	c->s.status = pit_chan_out(c, now) << 7 | !c->loaded << 6 | c->s.rw_mode << 4 |
		      (c->s.mode & 7) << 1 | c->s.bcd;
	c->s.status_latched = 1;
}

void pit_chan_control(struct pit_chan *c, u8 control, u64 now)
{
	unsigned rw = control >> 4 & 3, mode = control >> 1 & 7;

	if (rw == PIT_LATCH) {
		pit_chan_latch_count(c, now);
		return;
	}
	c->s.rw_mode = rw;
	c->s.mode = mode > 5 ? mode - 4 : mode;
	c->s.bcd = control & 1;
	c->s.read_state = c->s.write_state = rw;
	c->s.count_latched = c->s.status_latched = 0;
	c->loaded = false;
}

/* ---- Data port ---- */

static void load(struct pit_chan *c, unsigned val, u64 now)
{
	unsigned count = c->s.bcd ? from_bcd(val) : val;

	c->s.count = count ? count : modulus(c);
	c->loaded = true;
	/*
	 * "Initial count": modes 2 and 3 take a new count at the end of the
	 * present cycle, 1 and 5 at the next trigger; starting anew at once is
	 * what every user of a reprogrammed counter expects of modes 2 and 3.
	 */
	if (c->s.mode == 1 || c->s.mode == 5)
		c->s.count_load_time = (s64)(now - pit_clocks_to_ns(c->s.count + 1));
	else
		start(c, now);
}

bool pit_chan_write(struct pit_chan *c, u8 val, u64 now)
{
	switch (c->s.write_state) {
	default:
		load(c, val, now);
		return true;
	case PIT_MSB:
		load(c, val << 8, now);
		return true;
	case PIT_BOTH:
		c->s.write_latch = val;
		c->s.write_state = PIT_SECOND;
		/* Mode 0: "writing the first byte disables counting". */
		if (c->s.mode == 0)
			c->loaded = false;
		return false;
	case PIT_SECOND:
		c->s.write_state = PIT_BOTH;
		load(c, c->s.write_latch | val << 8, now);
		return true;
	}
}

u8 pit_chan_read(struct pit_chan *c, u64 now)
{
	u16 count;

	if (c->s.status_latched) {
		c->s.status_latched = 0;
		return c->s.status;
	}
	if (c->s.count_latched) {
		if (c->s.count_latched == PIT_BOTH) {
			c->s.count_latched = PIT_MSB;
			return c->s.latched_count & 0xff;
		}
		count = c->s.latched_count >> (c->s.count_latched == PIT_MSB ? 8 : 0);
		c->s.count_latched = 0;
		return count & 0xff;
	}
	count = pit_chan_count(c, now);
	switch (c->s.read_state) {
	default:
		return count & 0xff;
	case PIT_MSB:
		return count >> 8;
	case PIT_BOTH:
		c->s.read_state = PIT_SECOND;
		return count & 0xff;
	case PIT_SECOND:
		c->s.read_state = PIT_BOTH;
		return count >> 8;
	}
}

void pit_chan_gate(struct pit_chan *c, bool gate, u64 now)
{
	if (gate == c->s.gate)
		return;
	if (gate_pauses(c)) {
		if (!gate)
			c->paused = elapsed(c, now);
		else
			c->s.count_load_time = (s64)(now - pit_clocks_to_ns(c->paused));
	} else if (gate) {
		start(c, now);
	}
	c->s.gate = gate;
}

bool pit_chan_edges(const struct pit_chan *c, u64 *first, u64 *period)
{
	u64 n = c->s.count;

	*period = 0;
	if (!c->loaded || !c->s.gate)
		return false;
	switch (c->s.mode) {
	case 0:
		*first = n;
		return true;
	case 2:
	case 3:
		*first = *period = n;
		return true;
	case 4:
		*first = n + 1;
		return true;
	default:	/* 1 and 5 wait for a gate that never moves */
		return false;
	}
}

/* ---- State ---- */

void pit_chan_set(struct pit_chan *c, const struct kvm_pit_channel_state *s, u64 now)
{
	u64 start_ns = (u64)s->count_load_time;

	c->s = *s;
	c->s.count = s->count && s->count <= 65536 ? s->count : 65536;
	c->s.mode = s->mode > 5 ? PIT_NO_MODE : s->mode;
	c->s.rw_mode &= 3;
	c->s.bcd &= 1;
	c->s.gate = !!s->gate;
	c->loaded = c->s.mode != PIT_NO_MODE;
	c->paused = now > start_ns ? pit_ns_to_clocks(now - start_ns) : 0;
}

void pit_chan_get(const struct pit_chan *c, struct kvm_pit_channel_state *s, u64 now)
{
	*s = c->s;
	if (gate_pauses(c) && !c->s.gate)
		s->count_load_time = (s64)(now - pit_clocks_to_ns(c->paused));
}
