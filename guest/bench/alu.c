// SPDX-License-Identifier: MIT
/* Arithmetic without memory, and the loops whose shape matters: exact instruction counts, so in assembly. */
#include "guest/bench/bench.h"

static u64 alu(u64 n)
{
	unsigned long a = 1, b = 2, c = 3, i = (unsigned long)n * 1000;

	if (!i)
		return 0;
	__asm__ volatile("1:	add %1, %0\n\t"
			 "lea 7(%0, %2), %1\n\t"
			 "xor %0, %2\n\t"
			 "shr $3, %1\n\t"
			 "sub %2, %0\n\t"
			 "rol $5, %2\n\t"
			 "and $0xffffff, %1\n\t"
			 "inc %0\n\t"
			 "dec %3\n\t"
			 "jnz 1b"
			 : "+r"(a), "+r"(b), "+r"(c), "+r"(i) :: "cc");
	return mix(mix(a, b), c);
}

u64 bench_alu10(u64 n)
{
	return alu(n);
}

u64 bench_loop2(u64 n)
{
	unsigned long i = (unsigned long)n * 1000;

	if (i)
		__asm__ volatile("1:	dec %0\n\tjnz 1b" : "+r"(i) :: "cc");
	return n + i;
}

#ifdef __x86_64__
#define R(name) "%r" name
#define RED_ZONE "128"
#else
#define R(name) "%e" name
#define RED_ZONE "0"
#endif

/* Two instructions end one page, two begin the next: no block of a translator may hold the loop whole. */
__asm__(".pushsection .text.xpage, \"ax\", @progbits\n"
	".balign 4096\n"
	"	.skip 4096 - 2 * (1f - 2f), 0xcc\n"
	"	.type xpage_loop, @function\n"
	"xpage_loop:\n"
	"2:	add $1, " R("ax") "\n"
	"1:	add $3, " R("dx") "\n"
	"	sub $1, " R("di") "\n"
	"	jnz 2b\n"
	"	xor " R("dx") ", " R("ax") "\n"
	"	ret\n"
	".popsection");

u64 bench_loop_xpage(u64 n)
{
	unsigned long i = (unsigned long)n * 1000, a = 0, d = 0;

	if (i)
		__asm__ volatile("sub $" RED_ZONE ", %" R("sp") "\n\tcall xpage_loop\n\tadd $" RED_ZONE ", %" R("sp")
				 : "+a"(a), "+d"(d), "+D"(i) :: "cc", "memory");
	return a;
}

u64 bench_div64(u64 n)
{
	u64 x = 0xfedcba9876543210ull, d = 0x123456789ull;

	for (u64 i = 0; i < n * 100; i++) {
		x = x / d + (x % d << 21 | 1ull << 63);
		d += 2;
	}
	return x;
}

static u64 sieve(u64 n)
{
	static u8 composite[65536];
	u64 primes = 0;

	while (n--) {
		for (u32 i = 0; i < sizeof(composite); i++)
			composite[i] = 0;
		for (u32 i = 2; i < 256; i++)
			if (!composite[i])
				for (u32 j = i * i; j < sizeof(composite); j += i)
					composite[j] = 1;
		BARRIER();
		for (u32 i = 2; i < sizeof(composite); i++)
			primes += !composite[i];
	}
	return primes;
}

u64 bench_sieve(u64 n)
{
	return sieve(n);
}

/* ---- The same on both processors ---- */

struct half {
	u64 n, sum;
	u64 (*fn)(u64 n);
};

static void half(void *arg)
{
	struct half *h = arg;

	h->sum = h->fn(h->n);
}

static u64 both(u64 (*fn)(u64 n), u64 n)
{
	struct half *h = bench_shared(sizeof(*h));
	int child;
	u64 sum;

	*h = (struct half){ .n = n, .fn = fn };
	child = bench_spawn(1, half, h);
	sum = fn(n);
	bench_join(child);
	return mix(sum, 0) + h->sum;
}

u64 bench_par_alu(u64 n)
{
	return both(alu, n);
}

u64 bench_par_sieve(u64 n)
{
	return both(sieve, n);
}
