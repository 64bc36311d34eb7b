/* SPDX-License-Identifier: MIT */
/* One instruction at a time over a bus: answers, retries, faults, traps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "silicon/x86.h"
#include "silicon/x86_emul.h"
#include "base/bits.h"

/* Guest-physical memory: 64 KiB of RAM at 0; a device register page at MMIO. */
#define RAM_SIZE 0x10000
#define CODE 0x1000
#define DATA 0x3000
#define MMIO 0xfee00000ull

static struct bus {
	u8 ram[RAM_SIZE];
	bool retry_reads, retry_writes, fail_hook;
	unsigned reads, writes, ins, outs, hooks;
	u64 last_pa, last_val;
	unsigned last_len;
	u64 value;			/* of the device */
} bus;
static struct x86_cpu *cpu;
static struct x86_state st;
static struct x86_emul_result res;

static enum x86_bus_result bus_read(void *ctx, u64 pa, void *buf, unsigned len)
{
	assert_true(len >= 1 && len <= 64 && (pa & 4095) + len <= 4096);
	if (pa + len <= RAM_SIZE) {
		memcpy(buf, bus.ram + pa, len);
		return X86_BUS_OK;
	}
	if ((pa & ~4095ull) != MMIO)
		return X86_BUS_ERROR;
	if (bus.retry_reads)
		return X86_BUS_RETRY;
	bus.reads++;
	bus.last_pa = pa;
	bus.last_len = len;
	memcpy(buf, &bus.value, len);
	return X86_BUS_OK;
}

static enum x86_bus_result bus_write(void *ctx, u64 pa, const void *buf, unsigned len)
{
	if (pa + len <= RAM_SIZE) {
		memcpy(bus.ram + pa, buf, len);
		return X86_BUS_OK;
	}
	if ((pa & ~4095ull) != MMIO)
		return X86_BUS_ERROR;
	if (bus.retry_writes)
		return X86_BUS_RETRY;
	bus.writes++;
	bus.last_pa = pa;
	bus.last_len = len;
	bus.last_val = 0;
	memcpy(&bus.last_val, buf, len);
	return X86_BUS_OK;
}

static enum x86_bus_result bus_cmpxchg(void *ctx, u64 pa, void *old, const void *val, unsigned len)
{
	u8 now[16];
	enum x86_bus_result r = bus_read(ctx, pa, now, len);

	if (r)
		return r;
	if (memcmp(now, old, len)) {
		memcpy(old, now, len);
		return X86_BUS_OK;
	}
	return bus_write(ctx, pa, val, len);
}

static enum x86_bus_result bus_in(void *ctx, u16 port, unsigned size, u32 *val)
{
	bus.ins++;
	bus.last_pa = port;
	bus.last_len = size;
	*val = (u32)bus.value;
	return bus.retry_reads ? X86_BUS_RETRY : X86_BUS_OK;
}

static enum x86_bus_result bus_out(void *ctx, u16 port, unsigned size, u32 val)
{
	bus.outs++;
	bus.last_pa = port;
	bus.last_len = size;
	bus.last_val = val;
	return bus.retry_writes ? X86_BUS_RETRY : X86_BUS_OK;
}

static int bus_msr(void *ctx, u32 msr, u64 *val)
{
	*val = msr;
	return 0;
}

static int bus_wrmsr(void *ctx, u32 msr, u64 val)
{
	return msr == 1;
}

static enum x86_bus_result bus_hook(void *ctx, enum x86_emul_hook hook)
{
	bus.hooks++;
	return bus.fail_hook ? X86_BUS_ERROR : X86_BUS_OK;
}

static const struct x86_bus_ops ops = {
	.read = bus_read, .write = bus_write, .cmpxchg = bus_cmpxchg, .in = bus_in, .out = bus_out,
	.rdmsr = bus_msr, .wrmsr = bus_wrmsr, .hook = bus_hook,
};

/* Protected mode without paging, the code of @hex at CODE. */
static void prepare(const char *hex)
{
	memset(&bus, 0, sizeof(bus));
	memset(&st, 0, sizeof(st));
	for (u8 *p = bus.ram + CODE; *hex; hex += hex[2] ? 3 : 2) {
		unsigned hi = (unsigned)hex[0], lo = (unsigned)hex[1];

		*p++ = (u8)((hi <= '9' ? hi - '0' : hi - 'a' + 10) << 4 | (lo <= '9' ? lo - '0' : lo - 'a' + 10));
	}
	for (unsigned i = 0; i < X86_NR_SREGS; i++)
		st.seg[i] = (struct x86_segment){ .limit = ~0u, .ar = 0xc093, .sel = 8 };
	st.seg[X86_CS].ar = 0xc09b;
	st.seg[X86_LDTR].ar = X86_AR_UNUSABLE;
	st.seg[X86_TR] = (struct x86_segment){ .limit = 0x67, .ar = 0x8b };
	st.cr0 = 0x31;
	st.dr6 = 0xffff0ff0;
	st.dr7 = 0x400;
	st.rflags = 2;
	st.rip = CODE;
	st.gpr[X86_RSP] = 0x8000;
	st.gpr[X86_RSI] = MMIO;
	st.gpr[X86_RDI] = DATA;
	bus.value = 0x1122334455667788;
}

static enum x86_emul_status emulate(void)
{
	enum x86_emul_status r;

	x86_set_state(cpu, &st);
	r = x86_emul_insn(cpu, &res);
	x86_get_state(cpu, &st);
	return r;
}

static void test_read(void **state)
{
	prepare("8b 46 10");		/* mov eax, [esi + 0x10] */
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(st.gpr[X86_RAX], 0x55667788);
	assert_int_equal(bus.last_pa, MMIO + 0x10);
	assert_int_equal(bus.last_len, 4);
	assert_int_equal(st.rip, CODE + 3);
	assert_int_equal(res.insn_len, 3);
	assert_memory_equal(res.insn, "\x8b\x46\x10", 3);
	assert_false(res.db_trap);
}

static void test_retry(void **state)
{
	prepare("8b 46 10");
	bus.retry_reads = true;
	assert_int_equal(emulate(), X86_EMUL_RETRY);
	assert_int_equal(st.rip, CODE);
	assert_int_equal(st.gpr[X86_RAX], 0);
	bus.retry_reads = false;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(st.gpr[X86_RAX], 0x55667788);
}

/* A read-modify-write whose write is not answered at once changes neither register nor flags. */
static void test_rmw_retry(void **state)
{
	prepare("0f c1 06");		/* xadd [esi], eax */
	st.gpr[X86_RAX] = 1;
	st.rflags = 2 | 0x8d5;
	bus.retry_writes = true;
	assert_int_equal(emulate(), X86_EMUL_RETRY);
	assert_int_equal(st.gpr[X86_RAX], 1);
	assert_int_equal(st.rflags, 2 | 0x8d5);
	bus.retry_writes = false;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(bus.last_val, 0x55667789);
	assert_int_equal(st.gpr[X86_RAX], 0x55667788);
	assert_int_equal(st.rip, CODE + 3);
}

static void test_locked(void **state)
{
	prepare("f0 01 06");		/* lock add [esi], eax */
	st.gpr[X86_RAX] = 1;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(bus.last_val, 0x55667789);
}

static void test_rep_one_iteration_each(void **state)
{
	prepare("f3 a5");		/* rep movsd from the device to RAM */
	st.gpr[X86_RCX] = 3;
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(emulate(), X86_EMUL_DONE);
		assert_int_equal(st.gpr[X86_RCX], 3 - i);
		assert_int_equal(st.gpr[X86_RDI], DATA + 4 * i);
		assert_int_equal(st.rip, i < 3 ? CODE : CODE + 2);
		assert_int_equal(bus.reads, i);
	}
	assert_memory_equal(bus.ram + DATA + 8, "\x88\x77\x66\x55", 4);
}

static void test_faults(void **state)
{
	prepare("0f 0b");
	assert_int_equal(emulate(), X86_EMUL_FAULT);
	assert_int_equal(res.vector, 6);
	assert_false(res.has_error);

	prepare("8b 06");		/* beyond the limit of DS */
	st.seg[X86_DS].limit = 0xffff;
	assert_int_equal(emulate(), X86_EMUL_FAULT);
	assert_int_equal(res.vector, 13);
	assert_true(res.has_error);
	assert_int_equal(res.error, 0);

	prepare("8b 06");		/* nothing there */
	st.gpr[X86_RSI] = 0x12345000;
	assert_int_equal(emulate(), X86_EMUL_ERROR);
	assert_int_equal(st.rip, CODE);
}

/* Two-level paging in the bus' memory: PD at 0x4000, PT at 0x5000. */
static void test_paging(void **state)
{
	u32 *pd = (u32 *)(bus.ram + 0x4000), *pt = (u32 *)(bus.ram + 0x5000);
	u64 pa;

	prepare("89 06");		/* mov [esi], eax */
	pd[0] = 0x5000 | 7;
	pt[1] = CODE | 7;
	pt[2] = DATA | 5;		/* read-only */
	pt[3] = DATA | 7;
	st.cr0 |= 1u << 31 | 1 << 16;
	st.cr3 = 0x4000;
	st.gpr[X86_RSI] = 0x2000;
	assert_int_equal(emulate(), X86_EMUL_FAULT);
	assert_int_equal(res.vector, 14);
	assert_int_equal(res.error, 3);
	assert_int_equal(res.payload, 0x2000);
	st.gpr[X86_RSI] = 0x3004;
	st.gpr[X86_RAX] = 0xdead;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_memory_equal(bus.ram + DATA + 4, "\xad\xde", 2);
	assert_int_equal(pt[3] & 0x60, 0x60);	/* A and D */

	assert_int_equal(x86_emul_translate(cpu, 0x3123, 0, &pa), 0);
	assert_int_equal(pa, DATA + 0x123);
	assert_int_equal(x86_emul_translate(cpu, 0x2123, 1, &pa), 1u << 31 | 3);
	assert_int_equal(x86_emul_translate(cpu, 0x7123, 2, &pa), 1u << 31 | 4);
}

static void test_single_step(void **state)
{
	prepare("8b 06");
	st.rflags |= 1 << 8;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_true(res.db_trap);
	assert_int_equal(res.db_dr6, 1 << 14);
	assert_int_equal(st.rip, CODE + 2);
}

static void test_ports(void **state)
{
	prepare("ed");			/* in eax, dx */
	st.gpr[X86_RDX] = 0x3f8;
	bus.retry_reads = true;
	assert_int_equal(emulate(), X86_EMUL_RETRY);
	assert_int_equal(st.gpr[X86_RAX], 0);
	bus.retry_reads = false;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(st.gpr[X86_RAX], 0x55667788);
	assert_int_equal(bus.last_pa, 0x3f8);

	prepare("e6 80");		/* out 0x80, al */
	st.gpr[X86_RAX] = 0x1234;
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(bus.last_val, 0x34);
	assert_int_equal(bus.last_len, 1);
}

static void test_hooks(void **state)
{
	prepare("0f a2");		/* cpuid */
	assert_int_equal(emulate(), X86_EMUL_DONE);
	assert_int_equal(bus.hooks, 1);
	prepare("0f a2");
	bus.fail_hook = true;
	assert_int_equal(emulate(), X86_EMUL_ERROR);
	assert_int_equal(st.rip, CODE);
}

static int setup(void **state)
{
	cpu = x86_cpu_new_emul(x86_model_find("intel"), 0, &ops, &bus);
	return cpu ? 0 : -1;
}

static int teardown(void **state)
{
	x86_cpu_free(cpu);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_rmw_retry),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_rep_one_iteration_each),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_paging),
		cmocka_unit_test(test_single_step),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_hooks),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
