// SPDX-License-Identifier: MIT
/* CRC-32, SHA-256 (FIPS 180-4) and AES-128 (FIPS 197) in plain C, over a buffer of fixed bytes. */
#include <string.h>

#include "guest/bench/bench.h"

static u8 data[4096];

static void fill(void)
{
	u32 seed = 5;

	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = (u8)(lcg(&seed) >> 24);
}

u64 bench_crc32(u64 n)
{
	static u32 table[256];
	u32 c = ~0u;

	fill();
	for (u32 i = 0; i < 256; i++) {
		u32 v = i;

		for (int k = 0; k < 8; k++)
			v = v >> 1 ^ (v & 1 ? 0xedb88320 : 0);
		table[i] = v;
	}
	while (n--)
		for (u32 i = 0; i < sizeof(data); i++)
			c = c >> 8 ^ table[(u8)(c ^ data[i])];
	return ~c;
}

/* ---- SHA-256. The constants are cube and square roots of the first primes: computed, not listed ---- */

static u32 k256[64], h256[8];

/* Is the @root-th power of @v, below 2^37, at least @p << 32 * @root? */
static bool power_reaches(u64 v, int root, u32 p)
{
	const u32 by[2] = { (u32)v, (u32)(v >> 32) };
	u32 power[6] = { 1 };

	for (int k = 0; k < root; k++) {
		u32 product[6] = { 0 };

		for (int i = 0; i < 2; i++) {
			u64 carry = 0;

			for (int j = 0; i + j < 6; j++) {
				carry += (u64)by[i] * power[j] + product[i + j];
				product[i + j] = (u32)carry;
				carry >>= 32;
			}
		}
		memcpy(power, product, sizeof(power));
	}
	return power[root + 1] || power[root] >= p;
}

/* The first 32 bits of the fractional part of the @root-th root (2 or 3) of @p. */
static u32 root_fraction(u32 p, int root)
{
	u64 lo = 0, hi = 1ull << 37;	/* root of p < 32, in units of 2^-32 */

	while (hi - lo > 1) {
		u64 mid = lo + (hi - lo) / 2;

		if (power_reaches(mid, root, p))
			hi = mid;
		else
			lo = mid;
	}
	return (u32)lo;
}

static void sha_constants(void)
{
	u32 p = 2;

	for (int i = 0; i < 64; p++) {
		bool prime = true;

		for (u32 d = 2; d * d <= p; d++)
			prime &= p % d != 0;
		if (!prime)
			continue;
		k256[i] = root_fraction(p, 3);
		if (i < 8)
			h256[i] = root_fraction(p, 2);
		i++;
	}
}

static inline u32 ror(u32 v, int n)
{
	return v >> n | v << (32 - n);
}

static void sha_block(u32 *h, const u8 *p)
{
	u32 w[64], s[8];

	for (int i = 0; i < 16; i++) {
		memcpy(w + i, p + 4 * i, 4);
		w[i] = __builtin_bswap32(w[i]);
	}
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, h, 32);
	for (int i = 0; i < 64; i++) {
		u32 t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) +
			 ((s[4] & s[5]) ^ (~s[4] & s[6])) + k256[i] + w[i];
		u32 t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
			 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t1;
		s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

u64 bench_sha256(u64 n)
{
	u8 abc[64] = { 'a', 'b', 'c', 0x80, [63] = 24 };
	u32 h[8];

	fill();
	sha_constants();
	/* FIPS 180-4's example: a wrong answer here is a wrong processor. */
	memcpy(h, h256, sizeof(h));
	sha_block(h, abc);
	if (h[0] != 0xba7816bf || h[7] != 0xf20015ad)
		return 0;
	memcpy(h, h256, sizeof(h));
	while (n--)
		for (u32 i = 0; i < sizeof(data); i += 64)
			sha_block(h, data + i);
	return mix(mix(h[0], h[3]), (u64)h[6] << 32 | h[7]);
}

/* ---- AES-128 ---- */

static u8 sbox[256], round_key[176];

static u8 times2(u8 v)
{
	return (u8)(v << 1 ^ (v >> 7) * 0x1b);
}

static void aes_tables(void)
{
	u8 p = 1, q = 1, key[16];

	/* q = 1 / p: p runs through the powers of 3, q through those of its inverse. */
	do {
		u8 x;

		p = p ^ times2(p);
		q ^= (u8)(q << 1);
		q ^= (u8)(q << 2);
		q ^= (u8)(q << 4);
		if (q & 0x80)
			q ^= 9;
		x = (u8)(q ^ (q << 1 | q >> 7) ^ (q << 2 | q >> 6) ^ (q << 3 | q >> 5) ^ (q << 4 | q >> 4));
		sbox[p] = x ^ 0x63;
	} while (p != 1);
	sbox[0] = 0x63;
	for (u8 i = 0; i < 16; i++)
		key[i] = i;
	memcpy(round_key, key, 16);
	for (u32 i = 16, c = 1; i < 176; i += 4) {
		u8 t[4];

		memcpy(t, round_key + i - 4, 4);
		if (i % 16 == 0) {
			u8 first = t[0];

			t[0] = sbox[t[1]] ^ (u8)c;
			t[1] = sbox[t[2]];
			t[2] = sbox[t[3]];
			t[3] = sbox[first];
			c = times2((u8)c);
		}
		for (u32 k = 0; k < 4; k++)
			round_key[i + k] = round_key[i + k - 16] ^ t[k];
	}
}

static void aes_block(u8 *b)
{
	u8 t[16];

	for (int i = 0; i < 16; i++)
		b[i] ^= round_key[i];
	for (int round = 1; round <= 10; round++) {
		for (int i = 0; i < 16; i++)
			t[i] = sbox[b[(i + 4 * (i & 3)) & 15]];
		for (int c = 0; c < 16 && round < 10; c += 4) {
			u8 all = t[c] ^ t[c + 1] ^ t[c + 2] ^ t[c + 3], first = t[c];

			for (int i = 0; i < 4; i++) {
				u8 next = i < 3 ? t[c + i + 1] : first;

				t[c + i] ^= all ^ times2(t[c + i] ^ next);
			}
		}
		for (int i = 0; i < 16; i++)
			b[i] = t[i] ^ round_key[round * 16 + i];
	}
}

u64 bench_aes128(u64 n)
{
	u8 b[16];
	u64 h[2];

	aes_tables();
	/* FIPS 197, appendix C.1: the first block must come out as printed there. */
	for (u8 i = 0; i < 16; i++)
		b[i] = (u8)(i << 4 | i);
	aes_block(b);
	if (memcmp(b, "\x69\xc4\xe0\xd8\x6a\x7b\x04\x30\xd8\xcd\xb7\x80\x70\xb4\xc5\x5a", 16))
		return 0;
	for (u64 i = 0; i < n * 64; i++)
		aes_block(b);
	memcpy(h, b, 16);
	return mix(h[0], h[1]);
}
