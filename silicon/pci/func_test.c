// SPDX-License-Identifier: MIT
/* Configuration space, windows and MSI-X of a PCI function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/pci_regs.h>

#include "base/bits.h"
#include "silicon/pci.h"

static u64 reads, last_off, last_size, last_value;
static unsigned sent;
static u32 sent_data;

static u64 window_read(struct pci_func *f, u64 off, unsigned size)
{
	reads++;
	last_off = off;
	last_size = size;
	return 0x1122334455667788;
}

static void window_write(struct pci_func *f, u64 off, unsigned size, u64 v)
{
	last_off = off;
	last_size = size;
	last_value = v;
}

static void message(void *ctx, u64 addr, u32 data)
{
	assert_true(addr == 0xfee00000);
	sent++;
	sent_data = data;
}

static int dma_read(void *ctx, u64 addr, void *buf, size_t len)
{
	*(u8 *)buf = 42;
	return 0;
}

static const struct pci_slot slot = { .dma = { .read = dma_read }, .message = message };

static void init(struct pci_func *f)
{
	const struct pci_ids ids = { 0x1af4, 0x1041, 0x8086, 0x001a, 0x020000 };
	const struct pci_bar bar = { .size = 0x2000, .read = window_read, .write = window_write };

	pci_func_init(f, &slot, &ids);
	pci_func_add_bar(f, 2, &bar);
	pci_func_add_msix(f, 3, 2, 0x1000, 0x1800);
	reads = sent = 0;
}

static void test_config(void **state)
{
	struct pci_func f;
	u8 cap;

	init(&f);
	assert_int_equal(pci_config_read(&f, PCI_VENDOR_ID, 4), 0x10411af4);
	assert_int_equal(pci_config_read(&f, PCI_CLASS_REVISION, 4), 0x02000001);
	assert_int_equal(pci_config_read(&f, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x001a8086);
	pci_config_write(&f, PCI_VENDOR_ID, 4, 0);
	assert_int_equal(pci_config_read(&f, PCI_VENDOR_ID, 2), 0x1af4);
	pci_config_write(&f, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(pci_config_read(&f, PCI_COMMAND, 2), 0x406);
	/* Misaligned, of odd size, or beyond the end. */
	assert_int_equal(pci_config_read(&f, 1, 2), ~0u);
	assert_int_equal(pci_config_read(&f, 0, 8), ~0u);
	assert_int_equal(pci_config_read(&f, 256, 1), ~0u);
	pci_config_write(&f, 256, 4, 1);
	/* One capability, the table's size and place. */
	cap = pci_config_read(&f, PCI_CAPABILITY_LIST, 1);
	assert_int_equal(pci_config_read(&f, cap, 2), PCI_CAP_ID_MSIX);
	assert_int_equal(pci_config_read(&f, cap + PCI_MSIX_FLAGS, 2), 2);
	assert_int_equal(pci_config_read(&f, cap + PCI_MSIX_TABLE, 4), 0x1002);
	assert_int_equal(pci_config_read(&f, cap + PCI_MSIX_PBA, 4), 0x1802);
}

static void test_window(void **state)
{
	struct pci_func f;
	u64 v;

	init(&f);
	/* Sizing. */
	pci_config_write(&f, PCI_BASE_ADDRESS_2, 4, ~0u);
	pci_config_write(&f, PCI_BASE_ADDRESS_3, 4, ~0u);
	assert_int_equal(pci_config_read(&f, PCI_BASE_ADDRESS_2, 4), 0xffffe004);
	assert_int_equal(pci_config_read(&f, PCI_BASE_ADDRESS_3, 4), ~0u);
	assert_int_equal(pci_config_read(&f, PCI_BASE_ADDRESS_0, 4), 0);
	pci_config_write(&f, PCI_BASE_ADDRESS_2, 4, 0xe0000000);
	pci_config_write(&f, PCI_BASE_ADDRESS_3, 4, 1);
	assert_true(pci_bar_address(&f, 2) == 0x1e0000000);
	/* Decoding is off until it is asked for. */
	assert_false(pci_mem_read(&f, 0x1e0000000, 4, &v));
	assert_true(v == ~0ull);
	pci_config_write(&f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(pci_mem_read(&f, 0x1e0000ff8, 8, &v));
	assert_true(reads == 1 && last_off == 0xff8 && last_size == 8);
	assert_true(pci_mem_write(&f, 0x1e0001fff, 1, 9));
	assert_true(last_off == 0x1fff && last_value == 9);
	assert_false(pci_mem_read(&f, 0x1e0002000, 4, &v));
	assert_false(pci_mem_read(&f, 0x1dffffffc, 4, &v));
	assert_false(pci_mem_read(&f, 0x1e0000002, 4, &v));
	assert_false(pci_mem_write(&f, 0x1e0000000, 3, 0));
	pci_func_reset(&f);
	assert_true(pci_bar_address(&f, 2) == 0 && !pci_config_read(&f, PCI_COMMAND, 2));
}

static unsigned flush(struct pci_func *f)
{
	struct pci_msg msg[PCI_MSIX_MAX];
	unsigned n = pci_take_messages(f, msg);

	sent = 0;
	pci_send(f, msg, n);
	assert_int_equal(sent, n);
	return n;
}

static void test_msix(void **state)
{
	struct pci_func f;
	u8 cap;

	init(&f);
	cap = pci_config_read(&f, PCI_CAPABILITY_LIST, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pci_msix_table_read(&f, 16 * i + 12, 4), 1);
		pci_msix_table_write(&f, 16 * i, 8, 0xfee00003);
		pci_msix_table_write(&f, 16 * i + 8, 4, 0x40 + i);
	}
	assert_true(pci_msix_table_read(&f, 16, 8) == 0xfee00000);
	/* Off: nothing is sent nor kept. */
	pci_msix_raise(&f, 1);
	assert_true(flush(&f) == 0 && pci_msix_pba_read(&f, 0, 8) == 0);
	pci_config_write(&f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	/* Masked: pending, until the mask goes. */
	pci_msix_raise(&f, 1);
	pci_msix_raise(&f, 1);
	assert_int_equal(flush(&f), 0);
	assert_true(pci_msix_pba_read(&f, 0, 8) == 2);
	pci_msix_table_write(&f, 16 + 8, 8, 0x41);
	assert_true(flush(&f) == 1 && sent_data == 0x41 && pci_msix_pba_read(&f, 0, 8) == 0);
	pci_msix_raise(&f, 1);
	assert_int_equal(flush(&f), 1);
	/* So with the mask for all. */
	pci_config_write(&f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_msix_raise(&f, 1);
	pci_msix_raise(&f, 2);
	assert_int_equal(flush(&f), 0);
	assert_true(pci_msix_pba_read(&f, 0, 4) == 6);
	pci_config_write(&f, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_true(flush(&f) == 1 && sent_data == 0x41 && pci_msix_pba_read(&f, 0, 4) == 4);
	/* No such vector; accesses that the table does not take. */
	pci_msix_raise(&f, 3);
	assert_int_equal(flush(&f), 0);
	pci_msix_table_write(&f, 48, 4, 1);
	pci_msix_table_write(&f, 12, 2, 0);
	assert_int_equal(pci_msix_table_read(&f, 12, 4), 1);
	assert_int_equal(pci_msix_table_read(&f, 48, 4), 0);
}

static void test_dma(void **state)
{
	struct pci_func f;
	u8 b = 0;

	init(&f);
	assert_int_equal(pci_dma_port.read(&f, 0, &b, 1), -EPERM);
	pci_config_write(&f, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(pci_dma_port.read(&f, 0, &b, 1), 0);
	assert_int_equal(b, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config), cmocka_unit_test(test_window), cmocka_unit_test(test_msix),
		cmocka_unit_test(test_dma),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
