/* SPDX-License-Identifier: MIT */
/*
 * How often a vCPU leaves its guest, why, and how long until it is back: what
 * `perf kvm stat` counts from trace points. Who wants to know maps the area and
 * writes a new number into @wanted; the vCPU then clears its rows and counts
 * until the number is 0. While nobody wants it, an exit costs one load more.
 *
 * The area lies in the vCPU's memfd, which a process of the same user opens
 * through /proc/PID/fd, so nothing has to be removed when a client dies; or in a
 * file below the folder that the environment names (USERKVM_STAT), where it
 * outlives the client.
 */
#ifndef KVM_EXIT_STAT_H
#define KVM_EXIT_STAT_H

#include <stdatomic.h>

#include "base/types.h"

#define HV_EXIT_STAT_MAGIC 0x3154415354495845ull	/* "EXITSTA1" */
#define HV_EXIT_STAT_PAGE 8		/* of the vCPU's memfd */
#define HV_EXIT_STAT_REASONS 128
#define HV_EXIT_STAT_KEYS 256

enum hv_exit_event { HV_EVENT_VMEXIT, HV_EVENT_MMIO, HV_EVENT_IOPORT, HV_NR_EXIT_EVENTS };

/* Times in nanoseconds; the squares' sum is a 128-bit number. */
struct hv_exit_row {
	u64 key, count, sum, sq_lo, sq_hi, min, max;
};
/* Keys: the basic exit reason; the address or port in the upper bits and in bit 0 whether it is a write. */
#define HV_EXIT_KEY(addr, write) ((u64)(addr) << 1 | !!(write))

struct hv_exit_area {
	u64 magic;
	u32 pid, vcpu;
	_Atomic u32 wanted;		/* the reader's */
	_Atomic u32 counting;		/* the vCPU's: the number for which the rows below are */
	u64 lost[HV_NR_EXIT_EVENTS];	/* events of more different keys than there are rows */
	struct hv_exit_row vmexit[HV_EXIT_STAT_REASONS];
	struct hv_exit_row mmio[HV_EXIT_STAT_KEYS];
	struct hv_exit_row ioport[HV_EXIT_STAT_KEYS];
};
#define HV_EXIT_STAT_BYTES ((sizeof(struct hv_exit_area) + PAGE_SIZE - 1) & PAGE_MASK)

/* The kernel's name of a basic exit reason. */
const char *hv_exit_stat_reason(u32 reason);

/* The vCPU's side; its thread alone. */
struct hv_exit_stat {
	struct hv_exit_area *area;
	struct { u64 key, start; } open[HV_NR_EXIT_EVENTS];	/* start 0: no such event is on */
};

/* @memfd has room at HV_EXIT_STAT_PAGE. 0 or -errno. */
int hv_exit_stat_new(struct hv_exit_stat *s, int memfd, u32 vcpu);
void hv_exit_stat_free(struct hv_exit_stat *s);

void hv_exit_stat_begin(struct hv_exit_stat *s, enum hv_exit_event what, u64 key);
/* An MMIO read has its answer: it began with the exit. */
void hv_exit_stat_mmio_read(struct hv_exit_stat *s, u64 gpa);
/* The guest is entered: ends all that is on. */
void hv_exit_stat_entry(struct hv_exit_stat *s);

static inline bool hv_exit_stat_wanted(const struct hv_exit_stat *s)
{
	return unlikely(atomic_load_explicit(&s->area->wanted, memory_order_relaxed));
}

#endif
