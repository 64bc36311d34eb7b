// SPDX-License-Identifier: MIT
/* The page walker: every mode, reserved bit, permission and error code; A and D flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "silicon/x86/mmu/mmu_fake.h"

enum { M32, M32_PSE, MPAE, M4L, M5L };
static const char *const mode_name[] = { "32-bit", "32-bit PSE", "PAE", "4-level", "5-level" };

#define LIN 0x00c02345ull	/* 32-bit modes: PDE 3, PTE 2; 4-level: PDE 6 */

/* Where the entries of the one mapping are. tbl[level]: 0 = PT ... */
struct map {
	u64 lin;
	u64 *e[5];	/* e[0] leaf PTE, upwards */
	u32 *e32[2];
	u64 data;
	unsigned top;	/* index of the highest entry */
};

static struct x86_cpu *cpu;
static struct map map;

#define UWP (PTE_P | PTE_W | PTE_U)

static void setup(int mode)
{
	u64 t[5];

	cpu = fake_cpu();
	memset(&map, 0, sizeof(map));
	map.lin = LIN;
	map.data = fake_page();
	for (unsigned i = 0; i < 5; i++)
		t[i] = fake_page();
	cpu->cr0 |= CR0_PG | CR0_WP;
	cpu->efer |= EFER_NXE;
	if (mode <= M32_PSE) {
		u32 *pd = (u32 *)t[1], *pt = (u32 *)t[0];

		cpu->cr3 = t[1];
		if (mode == M32_PSE)
			cpu->cr4 |= CR4_PSE;
		map.e32[1] = &pd[LIN >> 22];
		map.e32[0] = &pt[LIN >> 12 & 1023];
		*map.e32[1] = (u32)(t[0] | UWP);
		*map.e32[0] = (u32)(map.data | UWP);
		map.top = 1;
		return;
	}
	cpu->cr4 |= CR4_PAE;
	map.top = mode == MPAE ? 1 : mode == M4L ? 3 : 4;
	for (unsigned i = 0; i <= map.top; i++) {
		map.e[i] = (u64 *)t[i] + (LIN >> (12 + 9 * i) & 511);
		*map.e[i] = (i ? t[i - 1] : map.data) | UWP;
	}
	if (mode == MPAE) {
		cpu->pdpte[0] = t[1] | PTE_P;
		return;
	}
	cpu->efer |= EFER_LME | EFER_LMA;
	cpu->mode = X86_MODE_64;
	cpu->lin_mask = ~0ull;
	cpu->cr3 = t[map.top];
	if (mode == M5L)
		cpu->cr4 |= CR4_LA57;
}

/* 0 or the error code | PF_RAISE */
static u32 walk(unsigned acc, unsigned idx, struct x86_walk *w)
{
	struct x86_walk tmp;
	volatile u32 err = 0;
	int kind = FAKE_RUN(err = x86_walk(cpu, map.lin, acc, idx, 0, w ? w : &tmp));

	assert_int_equal(kind, X86_UNWIND_NONE);
	return err;
}

static void test_modes(void **state)
{
	for (int mode = M32; mode <= M5L; mode++) {
		struct x86_walk w;

		setup(mode);
		print_message("# %s\n", mode_name[mode]);
		assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
		assert_int_equal(w.pa, map.data | (LIN & 0xfff));
		assert_int_equal(w.page_shift, 12);
		assert_true(w.user);
		assert_false(w.writable);	/* D clear */
		assert_int_equal(walk(X86_ACC_W, X86_MMU_USER, &w), 0);
		assert_true(w.writable);
		for (unsigned i = 0; i <= map.top; i++) {
			u64 e = map.e[i] ? *map.e[i] : *map.e32[i];

			assert_true(e & PTE_A);
			assert_int_equal(!!(e & PTE_D), i == 0);
		}
	}
}

static void test_large(void **state)
{
	struct x86_walk w;

	/* 4M, PSE-36 bits included */
	setup(M32_PSE);
	cpu->physbits = 40;
	*map.e32[1] = 0x04c00000 | PTE_PS | UWP | 0x5 << 13;
	assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
	assert_int_equal(w.gpa, 0x0504c00000ull | (LIN & 0x3fffff));
	assert_int_equal(w.page_shift, 22);
	*map.e32[1] |= 1u << 12 | 7u << 9;	/* PAT and ignored bits */
	assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
	/* without CR4.PSE bit 7 is ignored: the PDE leads to a table */
	setup(M32);
	*map.e32[1] |= PTE_PS;
	assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
	assert_int_equal(w.page_shift, 12);
	for (int mode = MPAE; mode <= M5L; mode++) {
		setup(mode);
		*map.e[1] = 0x40600000 | PTE_PS | UWP;
		assert_int_equal(walk(X86_ACC_W, X86_MMU_USER, &w), 0);
		assert_int_equal(w.gpa, 0x40600000 | (LIN & 0x1fffff));
		assert_int_equal(w.page_shift, 21);
		assert_true(*map.e[1] & PTE_D);
	}
	setup(M4L);
	*map.e[2] = 0x1c0000000 | PTE_PS | UWP | PTE_G;
	cpu->cr4 |= CR4_PGE;
	assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
	assert_int_equal(w.gpa, 0x1c0000000 | (LIN & 0x3fffffff));
	assert_int_equal(w.page_shift, 30);
	assert_true(w.global);
	cpu->cr4 &= ~CR4_PGE;
	assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, &w), 0);
	assert_false(w.global);
}

/* Each row sets one bit in one entry; in a guest under EPT the width is 46 (checked elsewhere: 48 here). */
static const struct {
	int mode;
	unsigned entry;		/* 0 = leaf PTE */
	u64 set;		/* bits to OR in */
	bool rsvd;
	bool nxe_off;
	bool no_1g;
} rsvd_rows[] = {
	/* 32-bit entries have none */
	{ M32, 0, BITS(11, 9) | PTE_G | PTE_PS, false }, { M32, 1, BITS(11, 7), false },
	{ M32_PSE, 1, PTE_PS | BIT(21), true },
	/* address bits above 47, up to 51 (62 in PAE) */
	{ MPAE, 0, BIT(48), true }, { MPAE, 0, BIT(51), true }, { MPAE, 0, BIT(52), true },
	{ MPAE, 0, BIT(62), true }, { MPAE, 1, BIT(52), true }, { MPAE, 1, BIT(48), true },
	{ MPAE, 0, PTE_XD, true, true }, { MPAE, 1, PTE_XD, true, true }, { MPAE, 0, BITS(11, 9), false },
	{ MPAE, 1, PTE_PS | BIT(13), true }, { MPAE, 1, PTE_PS | BIT(20), true },
	{ M4L, 0, BIT(48), true }, { M4L, 0, BIT(51), true }, { M4L, 0, BITS(62, 52), false },
	{ M4L, 1, BIT(48), true }, { M4L, 2, BIT(50), true }, { M4L, 3, BIT(49), true },
	{ M4L, 1, BITS(62, 52), false }, { M4L, 2, BITS(62, 52), false }, { M4L, 3, BITS(62, 52), false },
	{ M4L, 0, PTE_XD, true, true }, { M4L, 1, PTE_XD, true, true }, { M4L, 2, PTE_XD, true, true },
	{ M4L, 3, PTE_XD, true, true }, { M4L, 3, PTE_PS, true }, { M4L, 2, PTE_PS, true, false, true },
	{ M4L, 2, PTE_PS | BIT(13), true }, { M4L, 2, PTE_PS | BIT(29), true },
	{ M4L, 1, PTE_PS | BIT(13), true }, { M4L, 1, PTE_PS | BIT(20), true }, { M4L, 1, BIT(8), false },
	{ M4L, 3, BIT(8), false }, { M4L, 3, BITS(11, 9), false },
	{ M5L, 4, PTE_PS, true }, { M5L, 4, BIT(48), true }, { M5L, 4, PTE_XD, true, true },
	{ M5L, 3, PTE_PS, true }, { M5L, 0, BIT(51), true },
};

static void test_reserved(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rsvd_rows); i++) {
		u32 want = rsvd_rows[i].rsvd ? PF_RAISE | PF_P | PF_RSVD : 0;
		u32 err;

		setup(rsvd_rows[i].mode);
		if (rsvd_rows[i].nxe_off)
			cpu->efer &= ~EFER_NXE;
		if (rsvd_rows[i].no_1g)
			memset(cpu->feat, 0, sizeof(cpu->feat));
		if (map.e[rsvd_rows[i].entry])
			*map.e[rsvd_rows[i].entry] |= rsvd_rows[i].set;
		else
			*map.e32[rsvd_rows[i].entry] |= (u32)rsvd_rows[i].set;
		err = walk(X86_ACC_R, X86_MMU_KERNEL, NULL);
		if (err != want)
			fail_msg("row %u: %x, want %x", i, err, want);
		/* Nothing set on a fault. */
		for (unsigned l = 0; want && l <= map.top; l++)
			assert_false((map.e[l] ? *map.e[l] : *map.e32[l]) & PTE_A);
		/* Reserved bits of a not-present entry do not count. */
		if (map.e[rsvd_rows[i].entry])
			*map.e[rsvd_rows[i].entry] &= ~PTE_P;
		else
			*map.e32[rsvd_rows[i].entry] &= ~(u32)PTE_P;
		assert_int_equal(walk(X86_ACC_R, X86_MMU_KERNEL, NULL), PF_RAISE);
	}
}

/* Under a bus (as under EPT) the width is the model's. */
static enum x86_bus_result bus_read(void *ctx, u64 pa, void *buf, unsigned len)
{
	memcpy(buf, (void *)pa, len);
	return X86_BUS_OK;
}

static enum x86_bus_result bus_write(void *ctx, u64 pa, const void *buf, unsigned len)
{
	memcpy((void *)pa, buf, len);
	return X86_BUS_OK;
}

static enum x86_bus_result bus_cmpxchg(void *ctx, u64 pa, void *old, const void *val, unsigned len)
{
	if (memcmp((void *)pa, old, len))
		memcpy(old, (void *)pa, len);
	else
		memcpy((void *)pa, val, len);
	return X86_BUS_OK;
}

static const struct x86_bus_ops bus = { .read = bus_read, .write = bus_write, .cmpxchg = bus_cmpxchg };

static void test_guest_width(void **state)
{
	static const struct { u8 bits; u64 set; bool rsvd; } rows[] = {
		{ 36, BIT(36), true }, { 36, BIT(35), false }, { 39, BIT(39), true }, { 40, BIT(40), true },
		{ 46, BIT(46), true }, { 46, BIT(45), false }, { 52, BIT(51), false }, { 48, BIT(47), false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		setup(M4L);
		cpu->bus = &bus;
		cpu->physbits = rows[i].bits;
		*map.e[0] |= rows[i].set;
		assert_int_equal(walk(X86_ACC_R, X86_MMU_USER, NULL),
				 rows[i].rsvd ? PF_RAISE | PF_P | PF_RSVD | PF_U : 0);
		/* PSE-36: bits 20:13 of a 4M PDE at or above the width */
		setup(M32_PSE);
		cpu->bus = &bus;
		cpu->physbits = 36;
		*map.e32[1] |= PTE_PS | 1u << (i % 2 ? 17 : 16);
		*map.e32[1] &= ~BITS(15, 13);
		assert_int_equal(walk(X86_ACC_R, X86_MMU_KERNEL, NULL) & PF_RSVD,
				 i % 2 || (*map.e32[1] & BITS(21, 17)) ? PF_RSVD : 0);
	}
}

/*
 * Permissions. us/rw/xd describe the leaf; the upper levels allow everything.
 * want: 0 or the error code; codes here are without PF_RAISE.
 */
#define SU X86_MMU_KERNEL
#define SA X86_MMU_KERNEL_AC
#define US X86_MMU_USER
enum { NO_WP = 1, SMEP = 2, SMAP = 4, NO_NXE = 8, PKE = 16, AD = 32, WD = 64 };
static const struct {
	u8 us, rw, xd, idx, acc;
	unsigned flags;
	s32 want;	/* -1: allowed */
} perm_rows[] = {
	/* user */
	{ 1, 1, 0, US, X86_ACC_R, 0, -1 }, { 1, 0, 0, US, X86_ACC_R, 0, -1 }, { 0, 1, 0, US, X86_ACC_R, 0, 5 },
	{ 1, 1, 0, US, X86_ACC_W, 0, -1 }, { 1, 0, 0, US, X86_ACC_W, 0, 7 }, { 0, 1, 0, US, X86_ACC_W, 0, 7 },
	{ 1, 0, 0, US, X86_ACC_W, NO_WP, 7 },
	{ 1, 0, 0, US, X86_ACC_X, 0, -1 }, { 0, 0, 0, US, X86_ACC_X, 0, 0x15 },
	{ 1, 0, 1, US, X86_ACC_X, 0, 0x15 }, { 1, 0, 1, US, X86_ACC_R, 0, -1 },
	{ 0, 0, 0, US, X86_ACC_X, NO_NXE, 5 }, { 0, 0, 0, US, X86_ACC_X, NO_NXE | SMEP, 0x15 },
	{ 1, 1, 0, US, X86_ACC_R | X86_ACC_W, 0, -1 }, { 1, 0, 0, US, X86_ACC_R | X86_ACC_W, 0, 7 },
	/* supervisor */
	{ 0, 0, 0, SU, X86_ACC_R, 0, -1 }, { 1, 0, 0, SU, X86_ACC_R, 0, -1 },
	{ 0, 0, 0, SU, X86_ACC_W, 0, 3 }, { 0, 0, 0, SU, X86_ACC_W, NO_WP, -1 }, { 0, 1, 0, SU, X86_ACC_W, 0, -1 },
	{ 1, 0, 0, SU, X86_ACC_W, 0, 3 }, { 1, 0, 0, SU, X86_ACC_W, NO_WP, -1 },
	{ 0, 0, 1, SU, X86_ACC_X, 0, 0x11 }, { 0, 0, 0, SU, X86_ACC_X, 0, -1 }, { 1, 0, 0, SU, X86_ACC_X, 0, -1 },
	{ 1, 0, 0, SU, X86_ACC_X, SMEP, 0x11 }, { 0, 0, 0, SU, X86_ACC_X, SMEP, -1 },
	{ 1, 0, 0, SU, X86_ACC_X, SMEP | NO_NXE, 0x11 },
	{ 1, 1, 0, SU, X86_ACC_R, SMAP, 1 }, { 1, 1, 0, SU, X86_ACC_W, SMAP, 3 },
	{ 1, 1, 0, SU, X86_ACC_W, SMAP | NO_WP, 3 }, { 0, 1, 0, SU, X86_ACC_W, SMAP, -1 },
	{ 1, 1, 0, SA, X86_ACC_R, SMAP, -1 }, { 1, 1, 0, SA, X86_ACC_W, SMAP, -1 },
	{ 1, 0, 0, SA, X86_ACC_W, SMAP, 3 }, { 1, 1, 0, SU, X86_ACC_X, SMAP, -1 },
	{ 1, 1, 0, SA, X86_ACC_X, SMEP, 0x11 },
	/* protection keys: user pages only, data only */
	{ 1, 1, 0, US, X86_ACC_R, PKE | AD, 0x25 }, { 1, 1, 0, US, X86_ACC_W, PKE | AD, 0x27 },
	{ 1, 1, 0, US, X86_ACC_R, PKE | WD, -1 }, { 1, 1, 0, US, X86_ACC_W, PKE | WD, 0x27 },
	{ 1, 1, 0, US, X86_ACC_X, PKE | AD | WD, -1 }, { 1, 1, 0, SU, X86_ACC_R, PKE | AD, 0x21 },
	{ 1, 1, 0, SU, X86_ACC_W, PKE | WD, 0x23 }, { 1, 1, 0, SU, X86_ACC_W, PKE | WD | NO_WP, -1 },
	{ 1, 1, 0, SU, X86_ACC_W, PKE | AD | NO_WP, 0x23 }, { 0, 1, 0, SU, X86_ACC_W, PKE | AD | WD, -1 },
	/* both deny: the key shows */
	{ 1, 0, 0, US, X86_ACC_W, PKE | WD, 0x27 }, { 1, 1, 0, SU, X86_ACC_R, PKE | AD | SMAP, 0x21 },
	{ 1, 1, 0, US, X86_ACC_R, AD | WD, -1 },
};

static void set_perm(unsigned level, bool us, bool rw, bool xd)
{
	u64 *e = map.e[level];

	*e = (*e & ~(PTE_U | PTE_W | PTE_XD)) | (us ? PTE_U : 0) | (rw ? PTE_W : 0) | (xd ? PTE_XD : 0);
}

static void test_permissions(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(perm_rows); i++) {
		/* The restriction may sit in any level: U/S and R/W are ANDed, XD is ORed. */
		for (unsigned level = 0; level < 4; level++) {
			unsigned f = perm_rows[i].flags;
			u32 want = perm_rows[i].want < 0 ? 0 : PF_RAISE | (u32)perm_rows[i].want, err;

			setup(M4L);
			if (f & NO_WP)
				cpu->cr0 &= ~CR0_WP;
			if (f & SMEP)
				cpu->cr4 |= CR4_SMEP;
			if (f & SMAP)
				cpu->cr4 |= CR4_SMAP;
			if (f & NO_NXE)
				cpu->efer &= ~EFER_NXE;
			if (f & PKE)
				cpu->cr4 |= CR4_PKE;
			*map.e[0] |= 5ull << 59;
			cpu->pkru = (f & AD ? 1u << 10 : 0) | (f & WD ? 1u << 11 : 0);
			set_perm(level, perm_rows[i].us, perm_rows[i].rw, perm_rows[i].xd);
			err = walk(perm_rows[i].acc, perm_rows[i].idx, NULL);
			if (err != want)
				fail_msg("row %u level %u: %x, want %x", i, level, err, want);
			for (unsigned l = 0; l < 4; l++)
				assert_int_equal(!!(*map.e[l] & PTE_A), !want);
			assert_int_equal(!!(*map.e[0] & PTE_D), !want && (perm_rows[i].acc & X86_ACC_W));
		}
	}
}

static void test_not_present(void **state)
{
	static const struct { u8 idx, acc; u32 want; } rows[] = {
		{ SU, X86_ACC_R, 0 }, { SU, X86_ACC_W, 2 }, { US, X86_ACC_R, 4 }, { US, X86_ACC_W, 6 },
		{ SU, X86_ACC_X, 0x10 }, { US, X86_ACC_X, 0x14 },
	};

	for (int mode = M32; mode <= M5L; mode++) {
		for (unsigned level = 0; level < 5; level++) {
			setup(mode);
			if (level > map.top)
				continue;
			if (map.e[level])
				*map.e[level] = ~PTE_P;
			else
				*map.e32[level] = ~(u32)PTE_P;
			for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
				u32 want = rows[i].want;

				/* I/D needs PAE for NXE to count */
				if (mode <= M32_PSE)
					want &= ~(u32)PF_ID;
				assert_int_equal(walk(rows[i].acc, rows[i].idx, NULL), PF_RAISE | want);
			}
		}
	}
	setup(MPAE);
	cpu->pdpte[0] = 0;
	assert_int_equal(walk(X86_ACC_R, SU, NULL), PF_RAISE);
}

static void test_unpaged(void **state)
{
	struct x86_walk w;

	cpu = fake_cpu();
	map.lin = fake_page() + 0x123;
	assert_int_equal(walk(X86_ACC_W, US, &w), 0);
	assert_int_equal(w.pa, map.lin);
	assert_true(w.writable);
}

/* An entry that changes between read and update: the walk starts again. */
static unsigned race_left;

static enum x86_bus_result racing_cmpxchg(void *ctx, u64 pa, void *old, const void *val, unsigned len)
{
	if (race_left) {
		race_left--;
		/* Another processor makes the page read-only meanwhile. */
		*map.e[0] &= ~PTE_W;
	}
	return bus_cmpxchg(ctx, pa, old, val, len);
}

static void test_lost_update(void **state)
{
	struct x86_bus_ops racing = bus;

	setup(M4L);
	racing.cmpxchg = racing_cmpxchg;
	cpu->bus = &racing;
	*map.e[3] |= PTE_A;
	*map.e[2] |= PTE_A;
	*map.e[1] |= PTE_A;
	race_left = 1;
	assert_int_equal(walk(X86_ACC_W, US, NULL), PF_RAISE | PF_P | PF_W | PF_U);
	assert_false(*map.e[0] & (PTE_A | PTE_D));
	race_left = 0;
	assert_int_equal(walk(X86_ACC_R, US, NULL), 0);
	assert_int_equal(*map.e[0] & (PTE_A | PTE_D), PTE_A);
	cpu->bus = NULL;
}

static void test_probe(void **state)
{
	u64 pa = 0;

	setup(M4L);
	assert_int_equal(x86_translate(cpu, LIN, true, true, false, &pa), 0);
	assert_int_equal(pa, map.data | (LIN & 0xfff));
	assert_false(*map.e[0] & (PTE_A | PTE_D));
	*map.e[0] &= ~PTE_U;
	assert_int_equal(x86_translate(cpu, LIN, false, true, false, &pa), PF_RAISE | 5);
	assert_int_equal(x86_translate(cpu, LIN, false, false, true, &pa), 0);
	*map.e[1] = 0x1000 | UWP;	/* a table where no memory can be */
	assert_int_equal(x86_translate(cpu, LIN, false, true, false, &pa), PF_RAISE | 4);
}

static void test_pdptes(void **state)
{
	static const struct { u64 val; bool ok; } rows[] = {
		{ 0x1000 | PTE_P, true }, { 0x1000 | PTE_P | BITS(4, 3) | BITS(11, 9), true },
		{ PTE_P | BIT(1), false }, { PTE_P | BIT(2), false }, { PTE_P | BIT(5), false },
		{ PTE_P | BIT(8), false }, { PTE_P | BIT(48), false }, { PTE_P | BIT(52), false },
		{ PTE_P | BIT(63), false }, { PTE_P | BIT(47), true }, { ~PTE_P, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned n = 0; n < 4; n++) {
			u64 table;

			setup(MPAE);
			table = fake_page() + 0x7e0;
			cpu->pdpte[0] = 0x1234;
			fake_ptr(table)[n] = rows[i].val;
			assert_int_equal(x86_load_pdptes(cpu, table | 0x1f), rows[i].ok);
			if (rows[i].ok)
				assert_int_equal(cpu->pdpte[n], rows[i].val);
			else
				assert_int_equal(cpu->pdpte[0], 0x1234);
		}
	}
}

static int teardown(void **state)
{
	if (cpu)
		cpu->bus = NULL;
	fake_free();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes), cmocka_unit_test(test_large), cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_guest_width), cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_not_present), cmocka_unit_test(test_unpaged),
		cmocka_unit_test(test_lost_update), cmocka_unit_test(test_probe), cmocka_unit_test(test_pdptes),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
