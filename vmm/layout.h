/* SPDX-License-Identifier: MIT */
/* The machine's physical addresses, ports and interrupt numbers, each once. */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

/* Low memory, below the first RAM end that firmware would leave to a system. */
#define LAYOUT_GDT 0x500u
#define LAYOUT_START_INFO 0x6000u	/* PVH */
#define LAYOUT_ZERO_PAGE 0x7000u	/* Linux struct boot_params */
#define LAYOUT_PAGE_TABLES 0x9000u	/* 6 pages: PML4, PDPT, 4 PDs */
#define LAYOUT_CMDLINE 0x20000u
#define LAYOUT_CMDLINE_MAX 0x10000u
#define LAYOUT_EBDA 0x9fc00u
#define LAYOUT_ISA_HOLE 0xa0000u
#define LAYOUT_ACPI 0xe0000u		/* RSDP and tables, up to 1 MiB */
#define LAYOUT_ACPI_END 0x100000u
#define LAYOUT_KERNEL 0x100000u

/* PCI hole below 4 GiB; RAM beyond it continues at 4 GiB. */
#define LAYOUT_HOLE 0xc0000000ull
#define LAYOUT_PCI_MMIO 0xc0000000ull
#define LAYOUT_PCI_MMIO_END 0xe0000000ull	/* exclusive */
#define LAYOUT_ECAM 0xe0000000ull		/* memory-mapped configuration space of bus 0 */
#define LAYOUT_ECAM_SIZE 0x100000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_IDENTITY_MAP 0xfffbc000ull	/* KVM's real-mode page tables */
#define LAYOUT_TSS 0xfffbd000ull		/* and task state segment, 3 pages */
#define LAYOUT_HIGH_RAM 0x100000000ull

#define PORT_I8042_DATA 0x60
#define PORT_I8042_CMD 0x64
#define PORT_CMOS 0x70
#define PORT_POST 0x80
#define PORT_92 0x92
#define PORT_DEBUG_EXIT 0xf4
#define PORT_COM1 0x3f8
#define PORT_COM2 0x2f8
#define PORT_COM3 0x3e8
#define PORT_PM1_EVT 0x600	/* status word, enable word */
#define PORT_PM1_CNT 0x604
#define PORT_PM_TMR 0x608
#define PORT_PCI_ADDR 0xcf8
#define PORT_RESET 0xcf9
#define PORT_PCI_DATA 0xcfc

#define IRQ_COM1 4
#define IRQ_COM2 3
#define IRQ_COM3 5
#define IRQ_RTC 8
#define IRQ_SCI 9
#define IRQ_PCI_FIRST 16	/* INTA of slot n: 16 + n % 8 */
#define IRQ_NR_PCI 8
#define IRQ_NR_PINS 24
#define IRQ_MSI_FIRST 32

#define PM_TMR_HZ 3579545u
#define SLP_TYP_S5 5u

#endif
