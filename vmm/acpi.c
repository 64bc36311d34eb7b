// SPDX-License-Identifier: MIT
/*
 * ACPI tables of the machine: RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT.
 * Source: ACPI 6.4 "ACPI System Description Tables".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "vmm/aml.h"
#include "vmm/layout.h"
#include "vmm/machine.h"

struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "table header");

/* Generic address structure. */
struct acpi_gas {
	u8 space, bits, offset, access;
	u64 address;
} __attribute__((packed));
#define GAS_IO 1

struct acpi_rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 ext_checksum, reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");

struct acpi_fadt {
	struct acpi_header h;
	u32 firmware_ctrl, dsdt;
	u8 reserved0, pm_profile;
	u16 sci_int;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	u32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base,
		cst_cnt;
	u16 c2_lat, c3_lat, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_flags;
	u8 reserved1;
	u32 flags;
	struct acpi_gas reset;
	u8 reset_value;
	u16 arm_flags;
	u8 minor;
	u64 x_firmware_ctrl, x_dsdt;
	struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1;
	struct acpi_gas sleep_control, sleep_status;
	u64 hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT revision 6");

/* boot_flags: ISA devices; the 8042 (bit 1) is absent as a keyboard */
#define FADT_LEGACY_DEVICES BIT(0)
#define FADT_NO_VGA BIT(2)
#define FADT_WBINVD BIT(0)		/* flags */
#define FADT_PROC_C1 BIT(2)
#define FADT_SLEEP_BUTTON BIT(5)	/* no fixed sleep button */
#define FADT_PWR_BUTTON BIT(4)		/* no fixed power button */
#define FADT_FIX_RTC BIT(6)		/* RTC wake status not in fixed registers */
#define FADT_TMR_VAL_EXT BIT(8)		/* 32-bit timer */
#define FADT_RESET_REG BIT(10)

struct acpi_facs {
	char signature[4];
	u32 length, hw_signature, waking, lock, flags;
	u64 x_waking;
	u8 version, reserved[31];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_facs) == 64, "FACS");

/* The tables are put one after the other into this area, then copied to the guest. */
struct builder {
	u8 buf[LAYOUT_ACPI_END - LAYOUT_ACPI];
	size_t len;
};

static u8 checksum(const void *data, size_t len)
{
	const u8 *p = data;
	u8 sum = 0;

	while (len--)
		sum = (u8)(sum + *p++);
	return (u8)-sum;
}

static void *table_begin(struct builder *b, size_t align)
{
	b->len = round_up(b->len, align);
	return b->buf + b->len;
}

static u64 table_end(struct builder *b, size_t len)
{
	u64 at = LAYOUT_ACPI + b->len;

	b->len += len;
	return at;
}

static void header_init(struct acpi_header *h, const char *signature, u8 revision, size_t len)
{
	memcpy(h->signature, signature, 4);
	h->length = (u32)len;
	h->revision = revision;
	memcpy(h->oem_id, "USRKVM", 6);
	memcpy(h->oem_table_id, "MACHINE ", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "UKVM", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, len);
}

static struct acpi_gas gas_io(u16 port, u8 bytes)
{
	return (struct acpi_gas){ .space = GAS_IO, .bits = (u8)(bytes * 8),
		.access = bytes == 4 ? 3 : bytes, .address = port };
}

static void dsdt_uart(struct aml *a, const char *name, unsigned uid, u16 port, unsigned irq)
{
	aml_device(a, name);
	aml_named(a, "_HID");
	aml_eisaid(a, "PNP0501");
	aml_named(a, "_UID");
	aml_int(a, uid);
	aml_named(a, "_CRS");
	aml_resources(a);
	aml_res_io(a, port, 8);
	aml_res_irq(a, irq);
	aml_resources_end(a);
	aml_end(a);
}

static void dsdt_pci(struct aml *a)
{
	aml_device(a, "PCI0");
	aml_named(a, "_HID");
	aml_eisaid(a, "PNP0A03");
	aml_named(a, "_BBN");
	aml_int(a, 0);
	aml_named(a, "_UID");
	aml_int(a, 0);
	aml_named(a, "_CRS");
	aml_resources(a);
	aml_res_bus(a, 0, 0);
	aml_res_io(a, PORT_PCI_ADDR, 8);
	aml_res_io_window(a, 0x1000, 0xffff);
	aml_res_mem_window(a, (u32)LAYOUT_PCI_MMIO, (u32)(LAYOUT_PCI_MMIO_END - 1));
	aml_resources_end(a);
	/* INTA of each slot, wired to its pin directly (no link devices). Slot 0 is the bridge. */
	aml_named(a, "_PRT");
	aml_package(a, 31);
	for (u32 slot = 1; slot < 32; slot++) {
		aml_package(a, 4);
		aml_int(a, slot << 16 | 0xffff);
		aml_int(a, 0);
		aml_int(a, 0);
		aml_int(a, IRQ_PCI_FIRST + slot % IRQ_NR_PCI);
		aml_end(a);
	}
	aml_end(a);
	aml_end(a);
}

static void dsdt_body(struct aml *a, const struct acpi_params *p)
{
	/* Sleep type of S5 for both PM1 control registers. */
	aml_named(a, "\\_S5");
	aml_package(a, 4);
	aml_int(a, SLP_TYP_S5);
	aml_int(a, SLP_TYP_S5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);

	aml_scope(a, "\\_SB");
	dsdt_pci(a);
	/* Systems trust the MCFG only if its range is a motherboard resource. */
	aml_device(a, "MBRD");
	aml_named(a, "_HID");
	aml_eisaid(a, "PNP0C02");
	aml_named(a, "_CRS");
	aml_resources(a);
	aml_res_mem(a, (u32)LAYOUT_ECAM, (u32)LAYOUT_ECAM_SIZE);
	aml_resources_end(a);
	aml_end(a);
	dsdt_uart(a, "COM1", 1, PORT_COM1, IRQ_COM1);
	if (p->com2)
		dsdt_uart(a, "COM2", 2, PORT_COM2, IRQ_COM2);
	if (p->com3)
		dsdt_uart(a, "COM3", 3, PORT_COM3, IRQ_COM3);
	aml_device(a, "RTC0");
	aml_named(a, "_HID");
	aml_eisaid(a, "PNP0B00");
	aml_named(a, "_CRS");
	aml_resources(a);
	aml_res_io(a, PORT_CMOS, 2);
	aml_res_irq(a, IRQ_RTC);
	aml_resources_end(a);
	aml_end(a);
	aml_end(a);
}

static u64 build_dsdt(struct builder *b, const struct acpi_params *p)
{
	struct acpi_header *h = table_begin(b, 16);
	struct aml a = { .buf = (u8 *)(h + 1), .cap = 16384 };

	dsdt_body(&a, p);
	if (a.overflow)
		return 0;
	header_init(h, "DSDT", 2, sizeof(*h) + a.len);
	return table_end(b, h->length);
}

static u64 build_facs(struct builder *b)
{
	struct acpi_facs *f = table_begin(b, 64);

	memcpy(f->signature, "FACS", 4);
	f->length = sizeof(*f);
	f->version = 2;
	return table_end(b, sizeof(*f));
}

static u64 build_fadt(struct builder *b, u64 dsdt, u64 facs)
{
	struct acpi_fadt *f = table_begin(b, 16);

	f->firmware_ctrl = (u32)facs;
	f->dsdt = (u32)dsdt;
	f->x_dsdt = dsdt;
	f->sci_int = IRQ_SCI;
	f->pm1a_evt = PORT_PM1_EVT;
	f->pm1a_cnt = PORT_PM1_CNT;
	f->pm_tmr = PORT_PM_TMR;
	f->pm1_evt_len = 4;
	f->pm1_cnt_len = 2;
	f->pm_tmr_len = 4;
	f->c2_lat = 0xfff;	/* above the limits: no C2, C3 */
	f->c3_lat = 0xfff;
	f->century = 0x32;
	f->boot_flags = FADT_LEGACY_DEVICES | FADT_NO_VGA;
	f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLEEP_BUTTON | FADT_FIX_RTC |
		   FADT_TMR_VAL_EXT | FADT_RESET_REG;
	f->reset = gas_io(PORT_RESET, 1);
	f->reset_value = 0x06;
	f->minor = 4;
	f->x_pm1a_evt = gas_io(PORT_PM1_EVT, 4);
	f->x_pm1a_cnt = gas_io(PORT_PM1_CNT, 2);
	f->x_pm_tmr = gas_io(PORT_PM_TMR, 4);
	memcpy(&f->hypervisor, "USERKVM", 8);
	header_init(&f->h, "FACP", 6, sizeof(*f));
	return table_end(b, sizeof(*f));
}

static void put(u8 **p, u64 v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*p)++ = (u8)(v >> (8 * i));
}

static u64 build_madt(struct builder *b, unsigned cpus)
{
	struct acpi_header *h = table_begin(b, 16);
	u8 *p = (u8 *)(h + 1);
	size_t len;

	put(&p, LAYOUT_LAPIC, 4);
	put(&p, 1, 4);			/* PCAT_COMPAT: there are 8259s too */
	for (unsigned i = 0; i < cpus; i++) {
		put(&p, 0, 1);		/* Processor Local APIC */
		put(&p, 8, 1);
		put(&p, i, 1);
		put(&p, i, 1);
		put(&p, 1, 4);		/* enabled */
	}
	put(&p, 1, 1);			/* I/O APIC */
	put(&p, 12, 1);
	put(&p, 0, 2);
	put(&p, LAYOUT_IOAPIC, 4);
	put(&p, 0, 4);
	put(&p, 2, 1); /* Interrupt Source Override: timer on pin 2, as the bus has it */
	put(&p, 10, 1);
	put(&p, 0, 2);
	put(&p, 2, 4);
	put(&p, 0, 2);
	put(&p, 2, 1);			/* SCI: level, active high */
	put(&p, 10, 1);
	put(&p, 0, 1);
	put(&p, IRQ_SCI, 1);
	put(&p, IRQ_SCI, 4);
	put(&p, 0xd, 2);
	put(&p, 4, 1);			/* Local APIC NMI: LINT1 of all processors */
	put(&p, 6, 1);
	put(&p, 0xff, 1);
	put(&p, 0, 2);
	put(&p, 1, 1);
	len = (size_t)(p - (u8 *)h);
	header_init(h, "APIC", 4, len);
	return table_end(b, len);
}

/* PCI Firmware Specification, "MCFG Table Description": one segment, bus 0 only. */
static u64 build_mcfg(struct builder *b)
{
	struct acpi_header *h = table_begin(b, 16);
	u8 *p = (u8 *)(h + 1);
	size_t len;

	put(&p, 0, 8);
	put(&p, LAYOUT_ECAM, 8);
	put(&p, 0, 2);			/* segment */
	put(&p, 0, 1);			/* first and last bus */
	put(&p, 0, 1);
	put(&p, 0, 4);
	len = (size_t)(p - (u8 *)h);
	header_init(h, "MCFG", 1, len);
	return table_end(b, len);
}

static void build_all(struct builder *b, const struct acpi_params *p, u64 dsdt, struct acpi_rsdp *r)
{
	u64 tables[] = { build_fadt(b, dsdt, build_facs(b)), build_madt(b, p->cpus), build_mcfg(b) };
	struct acpi_header *x = table_begin(b, 16);

	memcpy(x + 1, tables, sizeof(tables));
	header_init(x, "XSDT", 1, sizeof(*x) + sizeof(tables));

	memcpy(r->signature, "RSD PTR ", 8);
	memcpy(r->oem_id, "USRKVM", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt = table_end(b, x->length);
	/* The first checksum covers the 20 bytes of ACPI 1.0. */
	r->checksum = checksum(r, 20);
	r->ext_checksum = checksum(r, sizeof(*r));
}

int acpi_build(struct vmm_mem *mem, const struct acpi_params *p, u64 *rsdp)
{
	struct builder *b = calloc(1, sizeof(*b));
	struct acpi_rsdp *r;
	u64 dsdt;
	int ret;

	if (!b)
		return -ENOMEM;
	/* The RSDP comes first, where a search of the BIOS area finds it too. */
	r = table_begin(b, 16);
	*rsdp = table_end(b, sizeof(*r));
	dsdt = build_dsdt(b, p);
	if (dsdt)
		build_all(b, p, dsdt, r);
	ret = !dsdt || mem_write(mem, LAYOUT_ACPI, b->buf, b->len) ? -ENOMEM : 0;
	free(b);
	return ret;
}
