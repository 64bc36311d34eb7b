/* SPDX-License-Identifier: MIT */
/*
 * The measuring program: workloads that do a fixed work n times and return a
 * checksum of it. Who times them, and how the figures leave, is main.c's.
 */
#ifndef GUEST_BENCH_BENCH_H
#define GUEST_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

/* The work is a function of @n alone, the checksum too, but for rows that say NOSUM. */
#define W(name, unit, per, check, flags, must, moonshot) u64 bench_##name(u64 n);
#include "guest/bench/workloads.def"
#undef W

#define MIB (1ul << 20)
#define ARENA_SIZE (192 * MIB)

/* Page-aligned memory of ARENA_SIZE, zeroed at first; one per process. */
u8 *bench_arena(void);
/* Shared with children that the caller forks. Never freed. */
void *bench_shared(size_t len);
/* A child on processor @cpu runs @fn(@arg) and ends; bench_join() waits for it. */
int bench_spawn(unsigned cpu, void (*fn)(void *), void *arg);
void bench_join(int pid);
void bench_pin(unsigned cpu);
/* Print why, and end this workload's process: not measured here. */
_Noreturn void bench_skip(const char *why);
/* A figure of its own beside the row's rate. */
void bench_value(const char *name, double v);
u64 bench_now(void);	/* nanoseconds of the clock that the guest believes */
extern const char *bench_self;	/* path of this program, for exec */

static inline u64 mix(u64 h, u64 v)
{
	return (h ^ v) * 0x9e3779b97f4a7c15ull ^ h >> 29;
}

static inline u32 lcg(u32 *s)
{
	*s = *s * 1664525 + 1013904223;
	return *s;
}

#define HIDE(x) __asm__ volatile("" : "+r"(x))
#define BARRIER() __asm__ volatile("" ::: "memory")

#endif
