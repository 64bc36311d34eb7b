// SPDX-License-Identifier: MIT
/* Loads, stores, chases and copies. The arena: pages are touched before they are measured. */
#include <string.h>

#include "guest/bench/bench.h"

/* ---- Pointer chases: one cycle through all nodes, in random order ---- */

static void **chain(u8 *base, u32 nodes, u32 stride)
{
	u32 seed = 7, *order = (u32 *)(bench_arena() + 128 * MIB);

	for (u32 i = 0; i < nodes; i++)
		order[i] = i;
	/* Sattolo's shuffle leaves a single cycle. */
	for (u32 i = nodes - 1; i; i--) {
		u32 j = (u32)((u64)lcg(&seed) * i >> 32), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (u32 i = 0; i < nodes; i++)
		*(void **)(base + (u64)i * stride) = base + (u64)order[i] * stride;
	return (void **)base;
}

static u64 chase(void **p, u64 steps, const u8 *base)
{
	while (steps--)
		p = *p;
	return (u64)((u8 *)p - base);
}

u64 bench_chase16k(u64 n)
{
	static void **start;

	if (!start)
		start = chain(bench_arena(), 256, 64);
	return chase(start, n * 256 + 100, bench_arena());
}

u64 bench_chase64m(u64 n)
{
	static void **start;

	if (!start)
		start = chain(bench_arena(), MIB, 64);
	return chase(start, n * 1000, bench_arena());
}

/* ---- Streams: one access an iteration, 16 KiB ---- */

u64 bench_loads(u64 n)
{
	u32 *a = (u32 *)bench_arena();
	unsigned long sum = 0;

	for (u32 i = 0; i < 4096; i++)
		a[i] = i * 2654435761u;
	while (n--) {
		unsigned long i = -4096ul;

		__asm__ volatile("1:	add (%2, %1, 4), %k0\n\tinc %1\n\tjnz 1b"
				 : "+r"(sum), "+r"(i) : "r"(a + 4096) : "cc", "memory");
	}
	return sum;
}

u64 bench_stores(u64 n)
{
	u32 *a = (u32 *)bench_arena();
	u64 total = 0;

	for (u64 k = 0; k < n; k++) {
		unsigned long i = -4096ul;

		__asm__ volatile("1:	mov %k1, (%2, %0, 4)\n\tinc %0\n\tjnz 1b"
				 : "+r"(i) : "r"((u32)k), "r"(a + 4096) : "cc", "memory");
	}
	for (u32 i = 0; i < 4096; i++)
		total += a[i];
	return total;
}

/* One load in each of 8192 pages, never twice the same cache set in a row. */
u64 bench_tlb4k(u64 n)
{
	static bool ready;
	u8 *a = bench_arena();
	u64 sum = 0;

	if (!ready)
		for (u64 i = 0; i < 8192; i++)
			a[i * 4096 + i % 64 * 64] = (u8)i;
	ready = true;
	while (n--)
		for (u64 i = 0; i < 8192; i++)
			sum += a[i * 4096 + i % 64 * 64];
	return sum;
}

/* ---- Copies. 17 pages of offset: no conflict in a TLB of any size ---- */

#define FAR (64 * MIB)
#define APART (FAR + 17 * 4096)

static u8 *source(size_t len)
{
	static size_t ready;
	u8 *a = bench_arena();

	if (ready < len)
		for (size_t i = 0; i < len; i += 8)
			*(u64 *)(a + i) = i * 0x9e3779b97f4a7c15ull;
	ready = len;
	return a;
}

static u64 digest(const u8 *p, size_t len)
{
	u64 h = len;

	for (size_t i = 0; i < len; i += 8 * (1 + len / 2048 / 8))
		h = mix(h, *(const u64 *)(p + i));
	return h;
}

u64 bench_memcpy64m(u64 n)
{
	u8 *s = source(64 * MIB), *d = s + APART;

	while (n--) {
		memcpy(d, s, 64 * MIB);
		BARRIER();
	}
	return digest(d, 64 * MIB);
}

u64 bench_memcpy16k(u64 n)
{
	u8 *s = source(16384), *d = s + APART;

	while (n--) {
		HIDE(d);
		memcpy(d, s, 16384);
		BARRIER();
	}
	return digest(d, 16384);
}

static u64 copy8(u64 n, u8 *s, u8 *d)
{
	while (n--) {
		unsigned long i = -16384ul, t;

		__asm__ volatile("1:	mov (%2, %0), %1\n\tmov %1, (%3, %0)\n\tadd %4, %0\n\tjnz 1b"
				 : "+r"(i), "=&r"(t) : "r"(s + 16384), "r"(d + 16384), "i"(sizeof(t)) : "cc", "memory");
	}
	return digest(d, 16384);
}

u64 bench_copy8(u64 n)
{
	u8 *s = source(16384);

	return copy8(n, s, s + APART);
}

/* The distance that a direct-mapped TLB indexed by low page bits cannot hold. */
u64 bench_copy8_conf(u64 n)
{
	u8 *s = source(16384);

	return copy8(n, s, s + FAR);
}

u64 bench_repmovsb(u64 n)
{
	u8 *s = source(16384), *d = s + APART;

	while (n--) {
		u8 *from = s, *to = d;
		size_t len = 16384;

		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) :: "memory");
	}
	return digest(d, 16384);
}

u64 bench_atomic(u64 n)
{
	static u64 counter;

	counter = 5;
	for (u64 i = 0; i < n * 100; i++)
		__atomic_fetch_add(&counter, i, __ATOMIC_SEQ_CST);
	return counter;
}
