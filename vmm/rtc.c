// SPDX-License-Identifier: MIT
/*
 * MC146818 clock: time from the host's clock plus an offset, alarms, periodic
 * and update interrupts on IRQ 8. Source: Motorola MC146818A data sheet.
 */
#include "vmm/rtc.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/layout.h"

enum {
	RTC_SEC,
	RTC_SEC_ALARM,
	RTC_MIN,
	RTC_MIN_ALARM,
	RTC_HOUR,
	RTC_HOUR_ALARM,
	RTC_WDAY,
	RTC_MDAY,
	RTC_MONTH,
	RTC_YEAR,
	RTC_A,
	RTC_B,
	RTC_C,
	RTC_D,
	RTC_CENTURY = 0x32,
};

#define A_UIP 0x80
#define A_DIVIDER_ON 0x20	/* with the low bits of the divider field zero: 32768 Hz */
#define B_SET 0x80
#define B_PIE 0x40
#define B_AIE 0x20
#define B_UIE 0x10
#define B_BINARY 0x04
#define B_24H 0x02
#define C_IRQF 0x80
#define D_VALID 0x80
#define ALARM_ANY 0xc0

#define NS_PER_S 1000000000ll
#define MAX_SECONDS 7000000000ll
#define UIP_NS 244000ll		/* UIP is set this long before an update */

static s64 host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static bool running(const struct rtc *r)
{
	return !(r->cmos[RTC_B] & B_SET);
}

static s64 now_ns(const struct rtc *r)
{
	return running(r) ? host_ns() + r->offset_ns : r->frozen_ns;
}

static u8 encode(const struct rtc *r, int v)
{
	return r->cmos[RTC_B] & B_BINARY ? (u8)v : (u8)(v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *r, u8 v)
{
	return r->cmos[RTC_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 0xf);
}

static u8 encode_hour(const struct rtc *r, int h)
{
	if (r->cmos[RTC_B] & B_24H)
		return encode(r, h);
	return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0);
}

static int decode_hour(const struct rtc *r, u8 v)
{
	int h;

	if (r->cmos[RTC_B] & B_24H)
		return decode(r, v);
	h = decode(r, v & 0x7f) % 12;
	return v & 0x80 ? h + 12 : h;
}

/* Bring the time registers up to @ns. */
static void load_time(struct rtc *r, s64 ns)
{
	time_t t = (time_t)(ns / NS_PER_S);
	struct tm tm;

	gmtime_r(&t, &tm);
	r->cmos[RTC_SEC] = encode(r, tm.tm_sec);
	r->cmos[RTC_MIN] = encode(r, tm.tm_min);
	r->cmos[RTC_HOUR] = encode_hour(r, tm.tm_hour);
	r->cmos[RTC_WDAY] = encode(r, tm.tm_wday + 1);
	r->cmos[RTC_MDAY] = encode(r, tm.tm_mday);
	r->cmos[RTC_MONTH] = encode(r, tm.tm_mon + 1);
	/* MAX_SECONDS keeps the year positive. */
	r->cmos[RTC_YEAR] = encode(r, (tm.tm_year + 1900) % 100);
	r->cmos[RTC_CENTURY] = encode(r, (tm.tm_year + 1900) / 100);
}

/* The guest wrote the time registers: what time is that? timegm() normalises nonsense. */
static s64 store_time(const struct rtc *r)
{
	struct tm tm = {
		.tm_sec = decode(r, r->cmos[RTC_SEC]),
		.tm_min = decode(r, r->cmos[RTC_MIN]),
		.tm_hour = decode_hour(r, r->cmos[RTC_HOUR]),
		.tm_mday = decode(r, r->cmos[RTC_MDAY]),
		.tm_mon = decode(r, r->cmos[RTC_MONTH]) - 1,
		.tm_year =
			decode(r, r->cmos[RTC_CENTURY]) * 100 + decode(r, r->cmos[RTC_YEAR]) - 1900,
	};

	s64 t = timegm(&tm);

	/* Years beyond 2190 or so do not fit into nanoseconds. */
	t = min(t, MAX_SECONDS);
	return max(t, -MAX_SECONDS) * NS_PER_S;
}

static bool alarm_matches(const struct rtc *r)
{
	static const u8 pairs[][2] = {
		{RTC_SEC_ALARM, RTC_SEC},
		{RTC_MIN_ALARM, RTC_MIN},
		{RTC_HOUR_ALARM, RTC_HOUR},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		u8 want = r->cmos[pairs[i][0]];

		if ((want & ALARM_ANY) != ALARM_ANY && want != r->cmos[pairs[i][1]])
			return false;
	}
	return true;
}

static s64 periodic_ns(const struct rtc *r)
{
	unsigned rate = r->cmos[RTC_A] & 0xf;

	if (!rate || (r->cmos[RTC_A] & 0x70) != A_DIVIDER_ON)
		return 0;
	/* Rates 1 and 2 repeat 8 and 9. */
	if (rate < 3)
		rate += 7;
	return NS_PER_S * (1 << (rate - 1)) / 32768;
}

static void irq_update(struct rtc *r)
{
	bool level = r->cmos[RTC_C] & r->cmos[RTC_B] & (B_PIE | B_AIE | B_UIE);

	r->cmos[RTC_C] = (u8)((r->cmos[RTC_C] & ~C_IRQF) | (level ? C_IRQF : 0));
	if (level != r->irq_level) {
		r->irq_level = level;
		r->irq(r->irq_ctx, level);
	}
}

/* Set the flags of everything that happened up to now. */
static void catch_up(struct rtc *r)
{
	s64 now = now_ns(r), period = periodic_ns(r);

	if (running(r) && now / NS_PER_S != r->last_second) {
		s64 second = now / NS_PER_S;

		r->cmos[RTC_C] |= B_UIE;
		/*
		 * Seconds that nobody looked at can hold an alarm; a jump is looked at up to a day
		 * back.
		 */
		for (s64 s = max(r->last_second + 1, second - 86400); s <= second; s++) {
			load_time(r, s * NS_PER_S);
			if (alarm_matches(r)) {
				r->cmos[RTC_C] |= B_AIE;
				break;
			}
		}
		r->last_second = second;
	}
	if (period && r->next_periodic_ns && host_ns() >= r->next_periodic_ns) {
		r->cmos[RTC_C] |= B_PIE;
		r->next_periodic_ns += ((host_ns() - r->next_periodic_ns) / period + 1) * period;
	}
	irq_update(r);
}

/* Wake up for the next interrupt that the guest asked for. */
static void arm(struct rtc *r)
{
	struct itimerspec its = { 0 };
	s64 when = 0, period = periodic_ns(r);

	if (running(r) && (r->cmos[RTC_B] & (B_UIE | B_AIE)))
		when = (now_ns(r) / NS_PER_S + 1) * NS_PER_S - r->offset_ns;
	if ((r->cmos[RTC_B] & B_PIE) && period) {
		if (!r->next_periodic_ns)
			r->next_periodic_ns = host_ns() + period;
		if (!when || r->next_periodic_ns < when)
			when = r->next_periodic_ns;
	} else {
		r->next_periodic_ns = 0;
	}
	if (when) {
		its.it_value.tv_sec = when / NS_PER_S;
		its.it_value.tv_nsec = when % NS_PER_S;
	}
	timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

void rtc_timer(struct rtc *r)
{
	u64 count;

	if (read(r->timer_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&r->lock);
	catch_up(r);
	arm(r);
	pthread_mutex_unlock(&r->lock);
}

static u8 cmos_read(struct rtc *r, u8 i)
{
	s64 now = now_ns(r);
	u8 v;

	switch (i) {
	case RTC_A:
		v = r->cmos[RTC_A] & 0x7f;
		return running(r) && now % NS_PER_S >= NS_PER_S - UIP_NS ? v | A_UIP : v;
	case RTC_C:
		catch_up(r);
		v = r->cmos[RTC_C];
		/* Reading acknowledges. */
		r->cmos[RTC_C] = 0;
		irq_update(r);
		arm(r);
		return v;
	case RTC_D:
		return D_VALID;
	}
	if (running(r) && (i <= RTC_YEAR || i == RTC_CENTURY) &&
	    i != RTC_SEC_ALARM && i != RTC_MIN_ALARM && i != RTC_HOUR_ALARM)
		load_time(r, now);
	return r->cmos[i];
}

static void cmos_write(struct rtc *r, u8 i, u8 v)
{
	s64 now = now_ns(r);

	switch (i) {
	case RTC_C:
	case RTC_D:
		return;
	case RTC_A:
		r->cmos[RTC_A] = v & 0x7f;
		r->next_periodic_ns = 0;
		break;
	case RTC_B:
		catch_up(r);
		if ((v & B_SET) && running(r)) {
			load_time(r, now);
			r->frozen_ns = now;
		}
		if (!(v & B_SET) && !running(r)) {
			/*
			 * The formats in force are those of the time when the registers were
			 * written.
			 */
			r->offset_ns = store_time(r) - host_ns();
			r->last_second = (host_ns() + r->offset_ns) / NS_PER_S;
		}
		r->cmos[RTC_B] = v;
		irq_update(r);
		break;
	case RTC_SEC: case RTC_MIN: case RTC_HOUR: case RTC_WDAY: case RTC_MDAY: case RTC_MONTH:
	case RTC_YEAR: case RTC_CENTURY:
		if (running(r))
			load_time(r, now);
		r->cmos[i] = v;
		if (running(r)) {
			r->offset_ns = store_time(r) + now % NS_PER_S - host_ns();
			r->last_second = (host_ns() + r->offset_ns) / NS_PER_S;
		}
		break;
	default:
		r->cmos[i] = v;
		break;
	}
	arm(r);
}

static void rtc_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct rtc *r = ctx;

	pthread_mutex_lock(&r->lock);
	/*
	 * Bit 7 of the index masks NMIs; no source of NMIs is gated here. The index cannot be read.
	 */
	if (off == 0 && is_write)
		r->index = data[0] & 0x7f;
	else if (off == 1 && is_write)
		cmos_write(r, r->index, data[0]);
	else if (off == 1)
		data[0] = cmos_read(r, r->index);
	pthread_mutex_unlock(&r->lock);
}

static void put_size(struct rtc *r, u8 at, u64 v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		r->cmos[at + i] = (u8)(v >> (8 * i));
}

int rtc_init(struct rtc *r, struct iobus *pio, u64 ram_below_4g, u64 ram_above_4g)
{
	pthread_mutex_init(&r->lock, NULL);
	r->timer_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->timer_fd < 0)
		return -errno;
	r->cmos[RTC_A] = A_DIVIDER_ON | 6;
	r->cmos[RTC_B] = B_24H;
	r->last_second = host_ns() / NS_PER_S;
	/* Base memory 640 KiB; KiB above 1 MiB; 64 KiB units above 16 MiB and above 4 GiB. */
	put_size(r, 0x15, 640, 2);
	put_size(r, 0x17, min((ram_below_4g >> 10) - 1024, 0xffffull), 2);
	put_size(r, 0x30, min((ram_below_4g >> 10) - 1024, 0xffffull), 2);
	put_size(r, 0x34, min((ram_below_4g - (16ull << 20)) >> 16, 0xffffull), 2);
	put_size(r, 0x5b, ram_above_4g >> 16, 3);
	r->range = (struct iobus_range){
		.start = PORT_CMOS, .len = 2, .width = 1, .fn = rtc_port, .ctx = r};
	return iobus_add(pio, &r->range);
}

void rtc_exit(struct rtc *r, struct iobus *pio)
{
	iobus_remove(pio, &r->range);
	close(r->timer_fd);
	pthread_mutex_destroy(&r->lock);
}
