// SPDX-License-Identifier: MIT
/* What leaves a virtual machine: CPUID, ports, device registers; and the time of day. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest/bench/bench.h"

u64 bench_cpuid(u64 n)
{
	u64 sum = 0;

	for (u64 i = 0; i < n * 10; i++) {
		u32 a = 0, b, c = 0, d;

		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		sum += a;
	}
	return sum;
}

u64 bench_rdtsc(u64 n)
{
	u32 a = 0, d;

	for (u64 i = 0; i < n * 100; i++)
		__asm__ volatile("rdtsc" : "=a"(a), "=d"(d));
	return a;
}

static void ports(void)
{
	if (iopl(3))
		bench_skip("no access to ports");
}

u64 bench_outb80(u64 n)
{
	ports();
	for (u64 i = 0; i < n * 10; i++)
		outb((u8)i, 0x80);
	return n;
}

u64 bench_inb61(u64 n)
{
	u64 sum = 0;

	ports();
	for (u64 i = 0; i < n * 10; i++)
		sum += inb(0x61);
	return sum;
}

static u64 mmio(u64 n, u64 pa, u32 offset)
{
	static volatile u8 *page;
	u64 sum = 0;

	if (!page) {
		int fd = open("/dev/mem", O_RDWR | O_SYNC);
		void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)pa);

		if (p == MAP_FAILED)
			bench_skip("/dev/mem: no device page (iomem=relaxed?)");
		page = p;
	}
	for (u64 i = 0; i < n * 10; i++)
		sum += *(volatile u32 *)(page + offset);
	return sum;
}

/* Main counter of the HPET, where a PC has it. */
u64 bench_mmio_hpet(u64 n)
{
	return mmio(n, 0xfed00000, 0xf0);
}

/* Version register of the local APIC. */
u64 bench_mmio_lapic(u64 n)
{
	return mmio(n, 0xfee00000, 0x30);
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* How much longer than 1 ms a sleep takes. */
u64 bench_timer1ms(u64 n)
{
	static u64 over[10000];
	struct timespec ms = { .tv_nsec = 1000000 };

	if (n > 10000)
		n = 10000;
	for (u64 i = 0; i < n; i++) {
		u64 t = bench_now();

		clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL);
		over[i] = bench_now() - t - 1000000;
	}
	qsort(over, n, 8, by_value);
	bench_value("timer1ms_p50", (double)over[n / 2] / 1e3);
	bench_value("timer1ms_p99", (double)over[n * 99 / 100] / 1e3);
	bench_value("timer1ms_max", (double)over[n - 1] / 1e3);
	return n;
}
