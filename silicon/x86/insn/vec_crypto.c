/* SPDX-License-Identifier: MIT */
/*
 * AES, SHA and carry-less multiplication in portable C, for hosts that lack the
 * instructions which the models have: FIPS 197, FIPS 180-4 and SDM vol. 2. Not
 * constant-time: what runs here are simulated secrets of a simulated processor.
 */
#include "silicon/x86/insn/vec_soft.h"

#include <pthread.h>

/* ---- AES ---- */

static u8 sbox[256], inv_sbox[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static u8 times2(u8 v)
{
	return (u8)(v << 1 ^ (v >> 7) * 0x1b);
}

static u8 gf_mul(u8 a, unsigned b)
{
	u8 r = 0;

	for (; b; b >>= 1, a = times2(a))
		if (b & 1)
			r ^= a;
	return r;
}

static u8 rotl8(u8 v, unsigned n)
{
	return (u8)(v << n | v >> (8 - n));
}

/* FIPS 197 section 5.1.1: inverse in GF(2^8), then an affine map. 3 generates the field. */
static void make_sboxes(void)
{
	u8 p = 1, q = 1;

	do {
		u8 x;

		p ^= times2(p);		/* p *= 3 */
		q ^= (u8)(q << 1);	/* q /= 3 */
		q ^= (u8)(q << 2);
		q ^= (u8)(q << 4);
		if (q & 0x80)
			q ^= 0x09;
		x = q ^ rotl8(q, 1) ^ rotl8(q, 2) ^ rotl8(q, 3) ^ rotl8(q, 4) ^ 0x63;
		sbox[p] = x;
		inv_sbox[x] = p;
	} while (p != 1);
	sbox[0] = 0x63;
	inv_sbox[0x63] = 0;
}

/* SubBytes and ShiftRows (they commute): row r of the state moves by r columns. */
static void sub_shift(struct x86_ymm *out, const struct x86_ymm *in, const u8 *box, int dir)
{
	for (int col = 0; col < 4; col++)
		for (int row = 0; row < 4; row++)
			out->b[4 * col + row] = box[in->b[4 * ((col + dir * row + 4) & 3) + row]];
}

/* Each column times the circulant of @k. */
static void mix(struct x86_ymm *v, const u8 k[4])
{
	for (int col = 0; col < 4; col++) {
		u8 *c = &v->b[4 * col], t[4];

		for (int row = 0; row < 4; row++)
			t[row] = gf_mul(c[row], k[0]) ^ gf_mul(c[(row + 1) & 3], k[1]) ^
				 gf_mul(c[(row + 2) & 3], k[2]) ^ gf_mul(c[(row + 3) & 3], k[3]);
		memcpy(c, t, 4);
	}
}

static const u8 mix_encrypt[4] = { 2, 3, 1, 1 }, mix_decrypt[4] = { 14, 11, 13, 9 };

static void aes_round(struct x86_ymm *d, const struct x86_ymm *state, const struct x86_ymm *key,
		      bool decrypt, bool last)
{
	struct x86_ymm v = { 0 };

	pthread_once(&once, make_sboxes);
	sub_shift(&v, state, decrypt ? inv_sbox : sbox, decrypt ? -1 : 1);
	if (!last)
		mix(&v, decrypt ? mix_decrypt : mix_encrypt);
	d->q[0] = v.q[0] ^ key->q[0];
	d->q[1] = v.q[1] ^ key->q[1];
}

SOFT(AESENC) { aes_round(d, s1, s2, false, false); }
SOFT(AESENCLAST) { aes_round(d, s1, s2, false, true); }
SOFT(AESDEC) { aes_round(d, s1, s2, true, false); }
SOFT(AESDECLAST) { aes_round(d, s1, s2, true, true); }

SOFT(AESIMC)
{
	struct x86_ymm v = *s2;

	mix(&v, mix_decrypt);
	d->q[0] = v.q[0];
	d->q[1] = v.q[1];
}

static u32 sub_word(u32 w)
{
	return sbox[w & 0xff] | (u32)sbox[w >> 8 & 0xff] << 8 | (u32)sbox[w >> 16 & 0xff] << 16 |
	       (u32)sbox[w >> 24] << 24;
}

SOFT(AESKEYGENASSIST)
{
	u32 x1, x3;

	pthread_once(&once, make_sboxes);
	x1 = sub_word(s2->d[1]);
	x3 = sub_word(s2->d[3]);
	d->d[0] = x1;
	d->d[1] = (x1 >> 8 | x1 << 24) ^ imm;
	d->d[2] = x3;
	d->d[3] = (x3 >> 8 | x3 << 24) ^ imm;
}

/* ---- PCLMULQDQ ---- */

SOFT(PCLMULQDQ)
{
	u64 a = s1->q[imm & 1], b = s2->q[imm >> 4 & 1], low = 0, high = 0;

	for (unsigned i = 0; i < 64; i++) {
		if (!(b >> i & 1))
			continue;
		low ^= a << i;
		high ^= i ? a >> (64 - i) : 0;
	}
	d->q[0] = low;
	d->q[1] = high;
}

/* ---- SHA ---- */

static u32 rotl(u32 v, unsigned n)
{
	return v << n | v >> (32 - n);
}

static u32 rotr(u32 v, unsigned n)
{
	return v >> n | v << (32 - n);
}

SOFT(SHA1MSG1)
{
	/* W0..W3 are d[3]..d[0] of the first operand, W4 and W5 d[3] and d[2] of the second. */
	u32 w0 = s1->d[3], w1 = s1->d[2], w2 = s1->d[1], w3 = s1->d[0], w4 = s2->d[3],
	    w5 = s2->d[2];

	d->d[3] = w2 ^ w0;
	d->d[2] = w3 ^ w1;
	d->d[1] = w4 ^ w2;
	d->d[0] = w5 ^ w3;
}

SOFT(SHA1MSG2)
{
	u32 w13 = s2->d[2], w14 = s2->d[1], w15 = s2->d[0], w16 = rotl(s1->d[3] ^ w13, 1);
	u32 w17 = rotl(s1->d[2] ^ w14, 1), w18 = rotl(s1->d[1] ^ w15, 1),
	    w19 = rotl(s1->d[0] ^ w16, 1);

	d->d[3] = w16;
	d->d[2] = w17;
	d->d[1] = w18;
	d->d[0] = w19;
}

SOFT(SHA1NEXTE)
{
	u32 e = rotl(s1->d[3], 30);

	d->q[0] = s2->q[0];
	d->d[2] = s2->d[2];
	d->d[3] = s2->d[3] + e;
}

SOFT(SHA1RNDS4)
{
	static const u32 k[4] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
	u32 a = s1->d[3], b = s1->d[2], c = s1->d[1], e = s1->d[0], w = 0;

	/* Here e is the manual's D; its E is 0, as it is already in the first word of the second
	 * operand. */
	for (int i = 3; i >= 0; i--) {
		u32 f, t;

		switch (imm & 3) {
		case 0: f = (b & c) ^ (~b & e); break;
		case 2: f = (b & c) ^ (b & e) ^ (c & e); break;
		default: f = b ^ c ^ e; break;
		}
		t = f + rotl(a, 5) + s2->d[i] + w + k[imm & 3];
		w = e;			/* E of the next round */
		e = c;
		c = rotl(b, 30);
		b = a;
		a = t;
	}
	d->d[3] = a;
	d->d[2] = b;
	d->d[1] = c;
	d->d[0] = e;
}

static u32 sigma0(u32 v) { return rotr(v, 7) ^ rotr(v, 18) ^ v >> 3; }
static u32 sigma1(u32 v) { return rotr(v, 17) ^ rotr(v, 19) ^ v >> 10; }

SOFT(SHA256MSG1)
{
	u32 w4 = s2->d[0];

	for (int i = 0; i < 4; i++)
		d->d[i] = s1->d[i] + sigma0(i == 3 ? w4 : s1->d[i + 1]);
}

SOFT(SHA256MSG2)
{
	u32 w16 = s1->d[0] + sigma1(s2->d[2]), w17 = s1->d[1] + sigma1(s2->d[3]);
	u32 w18 = s1->d[2] + sigma1(w16), w19 = s1->d[3] + sigma1(w17);

	d->d[0] = w16;
	d->d[1] = w17;
	d->d[2] = w18;
	d->d[3] = w19;
}

/* State CDGH in the first operand, ABEF in the second; the third is XMM0: two words + constants. */
SOFT(SHA256RNDS2)
{
	u32 a = s2->d[3], b = s2->d[2], e = s2->d[1], f = s2->d[0];
	u32 c = s1->d[3], dd = s1->d[2], g = s1->d[1], h = s1->d[0];

	for (int i = 0; i < 2; i++) {
		u32 t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) +
			 s3->d[i];
		u32 t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

		h = g;
		g = f;
		f = e;
		e = dd + t1;
		dd = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	d->d[3] = a;
	d->d[2] = b;
	d->d[1] = e;
	d->d[0] = f;
}
