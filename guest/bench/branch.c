// SPDX-License-Identifier: MIT
/* Branches of every kind: unpredictable ones, calls, indirect jumps and calls. */
#include "guest/bench/bench.h"

/* ---- Quick sort of a million numbers ---- */

static void insertion(u32 *a, s64 n)
{
	for (s64 i = 1; i < n; i++) {
		u32 v = a[i];
		s64 j = i - 1;

		for (; j >= 0 && a[j] > v; j--)
			a[j + 1] = a[j];
		a[j + 1] = v;
	}
}

static void quick(u32 *a, s64 n)
{
	while (n > 16) {
		u32 pivot = a[n / 2];
		s64 i = 0, j = n - 1;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				u32 t = a[i];

				a[i++] = a[j];
				a[j--] = t;
			}
		}
		quick(a, j + 1);
		a += i;
		n -= i;
	}
	insertion(a, n);
}

u64 bench_qsort1m(u64 n)
{
	u32 *a = (u32 *)bench_arena(), seed = 1;
	u64 sum = 0;

	while (n--) {
		for (u32 i = 0; i < MIB; i++)
			a[i] = lcg(&seed);
		quick(a, MIB);
		for (u32 i = 0; i < MIB; i += 4099)
			sum = mix(sum, a[i]);
	}
	return sum;
}

/* ---- Recursion ---- */

static __attribute__((noipa)) u32 fib(u32 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

u64 bench_fib(u64 n)
{
	u64 sum = 0;

	while (n--)
		sum += fib(20);
	return sum;
}

/* ---- A bytecode interpreter ---- */

enum { OP_ADDI, OP_XOR, OP_SHR, OP_MUL, OP_LT, OP_JNZ, OP_SUBI, OP_SWAP, OP_END };

/* Three registers; 9 operations an iteration and 3 outside: 903 for 100 iterations. */
static const struct { u8 op, a, b; u32 imm; } program[] = {
	{ OP_ADDI, 0, 0, 77 },
	{ OP_ADDI, 2, 0, 100 },
	{ OP_XOR, 0, 1, 0 },		/* 2: loop */
	{ OP_MUL, 1, 0, 2654435761u },
	{ OP_SHR, 1, 0, 7 },
	{ OP_LT, 0, 1, 0 },
	{ OP_ADDI, 0, 0, 13 },
	{ OP_SWAP, 0, 1, 0 },
	{ OP_XOR, 1, 0, 0 },
	{ OP_SUBI, 2, 0, 1 },
	{ OP_JNZ, 2, 0, 2 },
	{ OP_END, 0, 0, 0 },
};

u64 bench_vmdisp(u64 n)
{
	static const void *const label[] = { &&addi, &&xor, &&shr, &&mul, &&lt, &&jnz, &&subi, &&swap, &&end };
	u64 sum = 0;

	while (n--) {
		u64 r[3] = { sum & 0xff, 1, 0 }, t;
		u32 pc = 0;

#define NEXT goto *label[program[++pc].op]
#define A r[program[pc].a]
#define B r[program[pc].b]
#define IMM program[pc].imm
		goto *label[program[0].op];
addi:		A += IMM; NEXT;
xor:		A ^= B; NEXT;
shr:		A >>= IMM; NEXT;
mul:		A = A * IMM + B; NEXT;
lt:		A += A < B; NEXT;
subi:		A -= IMM; NEXT;
swap:		t = A; A = B; B = t; NEXT;
jnz:		if (A)
			pc = IMM - 1;
		NEXT;
end:		sum = mix(sum, r[0] + r[1]);
	}
	return sum;
}

/* ---- Indirect calls ---- */

#define CALLEE(i) static __attribute__((noipa)) u64 callee##i(u64 x) { return x + i; }
CALLEE(1) CALLEE(2) CALLEE(3) CALLEE(4) CALLEE(5) CALLEE(6) CALLEE(7) CALLEE(8)

u64 bench_icall(u64 n)
{
	u64 (*volatile fn[8])(u64) = { callee1, callee2, callee3, callee4, callee5, callee6, callee7, callee8 };
	u64 x = 0;

	for (u64 i = 0; i < n * 1000; i++)
		x = fn[i & 7](x);
	return x;
}
