// SPDX-License-Identifier: MIT
/*
 * Floating point and vectors. Results are exact in IEEE arithmetic (no
 * contraction, fixed order), so their bits are compared.
 */
#include <immintrin.h>
#include <string.h>

#include "guest/bench/bench.h"

/* ---- Five bodies ---- */

struct body { double x[3], v[3], mass; };

static u64 bits(double d)
{
	u64 v;

	memcpy(&v, &d, 8);
	return v;
}

static void step(struct body *b)
{
	for (int i = 0; i < 5; i++)
		for (int j = i + 1; j < 5; j++) {
			double d[3], d2 = 0, m;

			for (int k = 0; k < 3; k++) {
				d[k] = b[i].x[k] - b[j].x[k];
				d2 += d[k] * d[k];
			}
			m = 0.01 / (d2 * __builtin_sqrt(d2));
			for (int k = 0; k < 3; k++) {
				b[i].v[k] -= d[k] * b[j].mass * m;
				b[j].v[k] += d[k] * b[i].mass * m;
			}
		}
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 3; k++)
			b[i].x[k] += 0.01 * b[i].v[k];
}

u64 bench_nbody(u64 n)
{
	struct body b[5];
	u32 seed = 3;
	u64 h = 0;

	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 3; k++) {
			b[i].x[k] = (i + 1) * 5 + (double)(lcg(&seed) >> 8) / 16777216;
			b[i].v[k] = (double)(lcg(&seed) >> 8) / 16777216 - 0.5;
		}
		b[i].mass = i ? 0.1 / i : 40;
	}
	while (n--)
		step(b);
	for (int i = 0; i < 5; i++)
		h = mix(mix(h, bits(b[i].x[0])), bits(b[i].v[2]));
	return h;
}

/* ---- y = a x + y over 1024 floats, in L1 ---- */

#define LEN 1024
static float vx[LEN] __attribute__((aligned(64))), vy[LEN] __attribute__((aligned(64)));

static void vectors(void)
{
	u32 seed = 11;

	for (int i = 0; i < LEN; i++) {
		vx[i] = (float)(lcg(&seed) >> 16) / 65536;
		vy[i] = (float)i;
	}
}

static u64 vectors_sum(void)
{
	u64 h = 0;

	for (int i = 0; i < LEN; i += 2) {
		u64 v;

		memcpy(&v, vy + i, 8);
		h = mix(h, v);
	}
	return h;
}

u64 bench_saxpy_scalar(u64 n)
{
	vectors();
	while (n--) {
		for (int i = 0; i < LEN; i++) {
			__m128 x = _mm_load_ss(vx + i);

			_mm_store_ss(vy + i, _mm_add_ss(_mm_mul_ss(x, _mm_set_ss(0.25f)), _mm_load_ss(vy + i)));
		}
		BARRIER();
	}
	return vectors_sum();
}

u64 bench_saxpy_128(u64 n)
{
	__m128 a = _mm_set1_ps(0.25f);

	vectors();
	while (n--) {
		for (int i = 0; i < LEN; i += 4)
			_mm_store_ps(vy + i, _mm_add_ps(_mm_mul_ps(_mm_load_ps(vx + i), a), _mm_load_ps(vy + i)));
		BARRIER();
	}
	return vectors_sum();
}

__attribute__((target("avx2"))) u64 bench_saxpy_avx2(u64 n)
{
	__m256 a = _mm256_set1_ps(0.25f);

	vectors();
	while (n--) {
		for (int i = 0; i < LEN; i += 8)
			_mm256_store_ps(vy + i, _mm256_add_ps(_mm256_mul_ps(_mm256_load_ps(vx + i), a),
							      _mm256_load_ps(vy + i)));
		BARRIER();
	}
	return vectors_sum();
}

/* ---- Integers in vectors: 1024 elements of 32 bits ---- */

__attribute__((target("sse4.1"))) u64 bench_ivec_128(u64 n)
{
	static u32 a[LEN] __attribute__((aligned(64)));
	const __m128i k = _mm_set1_epi32(0x01000193), s = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
	u64 h = 0;

	for (u32 i = 0; i < LEN; i++)
		a[i] = i;
	while (n--) {
		for (int i = 0; i < LEN; i += 4) {
			__m128i v = _mm_load_si128((__m128i *)(a + i));

			v = _mm_add_epi32(_mm_mullo_epi32(v, k), _mm_srli_epi32(v, 3));
			v = _mm_xor_si128(v, _mm_shuffle_epi32(v, 0x4e));
			v = _mm_sub_epi32(_mm_max_epu32(v, s), _mm_slli_epi16(v, 2));
			_mm_store_si128((__m128i *)(a + i), v);
		}
		BARRIER();
	}
	for (u32 i = 0; i < LEN; i++)
		h = mix(h, a[i]);
	return h;
}

/* ---- x87: dependent multiply and add, 100 of them ---- */

u64 bench_x87(u64 n)
{
	long double x = 1, a = 1.0000001L, b = 0.9999999L;
	u64 mant;

	for (u64 i = 0; i < n * 50; i++)
		__asm__ volatile("fmul %1, %0\n\tfadd %2, %0" : "+t"(x) : "u"(a), "f"(b));
	memcpy(&mant, &x, 8);
	return mant;
}
