/* SPDX-License-Identifier: MIT */
/*
 * The check matrix of VM entry: one row per rule, each a valid VMCS with some
 * fields changed, and what VMLAUNCH answers. SDM vol. 3C "VM Entries".
 */
#include "silicon/x86/vmx/testkit.h"

#define FAIL33(qual) (0x100 + (qual))	/* entry failure 33 with this qualification */
#define ENTERS 0
#define NO_MEMORY VMX_BUS_ERROR		/* enters, and finds nothing at its CR3 */

/* Fields to change, and the outcome: error 7, 8, FAIL33(q), or ENTERS (then HLT exits). */
struct row {
	const char *rule;
	int expect;
	struct { u32 field; u64 val; } set[8];
};

#define PIN(bits) { VMCS_PIN_BASED_CTLS, 0x16 | (bits) }
#define PROC(bits) { VMCS_PROC_BASED_CTLS, 0x04006172 | PROC_HLT_EXITING | (bits) }
#define PROC_2(bits) PROC(PROC_ACTIVATE_SECONDARY), { VMCS_PROC_BASED_CTLS2, (bits) }
#define EXITC(bits) { VMCS_EXIT_CTLS, 0x36dfb | EXITC_HOST_64 | (bits) }
#define ENTRY64(bits) { VMCS_ENTRY_CTLS, 0x11fb | ENTRY_IA32E_GUEST | (bits) }
#define ENTRY32(bits) { VMCS_ENTRY_CTLS, 0x11fb | (bits) }
#define BASE2 (PROC2_EPT | PROC2_UNRESTRICTED_GUEST)
#define INJECT(type, vector) { VMCS_ENTRY_INTR_INFO, INTR_VALID | (type) << 8 | (vector) }
#define INJECT_E(type, vector) { VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_ERROR | (type) << 8 | (vector) }
/* A 32-bit guest without paging. */
#define UNPAGED ENTRY32(0), { VMCS_GUEST_CR0, 0x31 }, { VMCS_GUEST_CS_AR, TK_AR_CODE32 }
#define REAL ENTRY32(0), { VMCS_GUEST_CR0, 0x30 }, { VMCS_GUEST_CS_AR, 0x9b }, { VMCS_GUEST_CS_LIMIT, 0xffff }
#define POSTED PIN(PIN_POSTED_INTR | PIN_EXT_INTR_EXITING), \
	PROC(PROC_ACTIVATE_SECONDARY | PROC_TPR_SHADOW), \
	{ VMCS_PROC_BASED_CTLS2, BASE2 | PROC2_VIRT_INTR_DELIVERY }, \
	{ VMCS_POSTED_INTR_VECTOR, 0xf2 }, { VMCS_POSTED_INTR_DESC_ADDR, 0x40 }
#define HALTED { VMCS_GUEST_ACTIVITY, X86_ACT_HLT }
#define NONCANON 0x0200000000000000ull
#define CANON57 0x00f0000000000000ull	/* canonical with 57 bits only */

static const struct row control_rows[] = {
	{ "as it is", ENTERS, { { VMCS_VPID, 1 } } },
	{ "pin: reserved bit must be 1", 7, { { VMCS_PIN_BASED_CTLS, 0 } } },
	{ "pin: unknown bit", 7, { PIN(1 << 8) } },
	{ "proc: reserved bit must be 1", 7, { { VMCS_PROC_BASED_CTLS, PROC_HLT_EXITING } } },
	{ "proc: tertiary not offered", 7, { PROC(PROC_ACTIVATE_TERTIARY) } },
	{ "proc: CR3 exiting may be 0 (TRUE MSR)", 7, { PROC(BIT(0)) } },
	{ "proc2: unknown bit", 7, { PROC_2(BASE2 | BIT(31)) } },
	{ "proc2 ignored when not activated", NO_MEMORY, { PROC(0), { VMCS_PROC_BASED_CTLS2, ~0u },
		{ VMCS_GUEST_CR3, 0 } } },
	{ "CR3-target count", 7, { { VMCS_CR3_TARGET_COUNT, 5 } } },
	{ "CR3-target count", ENTERS, { { VMCS_CR3_TARGET_COUNT, 4 } } },
	{ "I/O bitmap A alignment", 7, { PROC_2(BASE2), PROC(PROC_USE_IO_BITMAPS), { VMCS_IO_BITMAP_A, 0x1001 } } },
	{ "I/O bitmap B width", 7, { PROC(PROC_USE_IO_BITMAPS), { VMCS_IO_BITMAP_B, 1ull << 52 } } },
	{ "I/O bitmaps unused", ENTERS, { { VMCS_IO_BITMAP_A, 1 } } },
	{ "MSR bitmap alignment", 7, { { VMCS_MSR_BITMAP, 0x800 } } },
	{ "virtual NMIs need NMI exiting", 7, { PIN(PIN_VIRTUAL_NMIS) } },
	{ "NMI window needs virtual NMIs", 7, { PIN(PIN_NMI_EXITING), PROC(PROC_NMI_WINDOW_EXITING) } },
	{ "virtual-APIC address", 7, { PROC(PROC_TPR_SHADOW), { VMCS_VIRT_APIC_ADDR, 8 } } },
	{ "TPR threshold 31:4", 7, { PROC(PROC_TPR_SHADOW), { VMCS_TPR_THRESHOLD, 16 } } },
	{ "TPR threshold above VTPR", 7, { PROC(PROC_TPR_SHADOW), { VMCS_TPR_THRESHOLD, 1 } } },
	{ "TPR threshold free with VID", ENTERS, { PIN(PIN_EXT_INTR_EXITING),
		{ VMCS_PROC_BASED_CTLS, 0x04006172 | PROC_HLT_EXITING | PROC_TPR_SHADOW | PROC_ACTIVATE_SECONDARY },
		{ VMCS_PROC_BASED_CTLS2, BASE2 | PROC2_VIRT_INTR_DELIVERY }, { VMCS_TPR_THRESHOLD, 16 } } },
	{ "x2APIC needs TPR shadow", 7, { PROC_2(BASE2 | PROC2_VIRT_X2APIC) } },
	{ "register virtualization needs TPR shadow", 7, { PROC_2(BASE2 | PROC2_APIC_REGISTER_VIRT) } },
	{ "VID needs TPR shadow", 7, { PIN(PIN_EXT_INTR_EXITING), PROC_2(BASE2 | PROC2_VIRT_INTR_DELIVERY) } },
	{ "VID needs external-interrupt exiting", 7, {
		{ VMCS_PROC_BASED_CTLS, 0x04006172 | PROC_TPR_SHADOW | PROC_ACTIVATE_SECONDARY },
		{ VMCS_PROC_BASED_CTLS2, BASE2 | PROC2_VIRT_INTR_DELIVERY } } },
	{ "APIC accesses and x2APIC", 7, {
		{ VMCS_PROC_BASED_CTLS, 0x04006172 | PROC_TPR_SHADOW | PROC_ACTIVATE_SECONDARY },
		{ VMCS_PROC_BASED_CTLS2, BASE2 | PROC2_VIRT_APIC_ACCESSES | PROC2_VIRT_X2APIC } } },
	{ "APIC-access address", 7, { PROC_2(BASE2 | PROC2_VIRT_APIC_ACCESSES), { VMCS_APIC_ACCESS_ADDR, 4 } } },
	{ "posted interrupts need VID", 7, { PIN(PIN_POSTED_INTR | PIN_EXT_INTR_EXITING) } },
	{ "posted interrupts", ENTERS, { POSTED } },
	{ "posted interrupts need acknowledge", 7, { POSTED, EXITC(EXITC_LOAD_EFER) } },
	{ "posted-interrupt vector 15:8", 7, { POSTED, { VMCS_POSTED_INTR_VECTOR, 0x1f2 } } },
	{ "posted-interrupt descriptor alignment", 7, { POSTED, { VMCS_POSTED_INTR_DESC_ADDR, 0x20 } } },
	{ "posted-interrupt descriptor width", 7, { POSTED, { VMCS_POSTED_INTR_DESC_ADDR, 1ull << 52 } } },
	{ "VPID 0", 7, { PROC_2(BASE2 | PROC2_VPID), { VMCS_VPID, 0x10000 } } },
	{ "EPTP memory type", 7, { { VMCS_EPT_POINTER, 0x1000 | 3 << 3 | 1 } } },
	{ "EPTP walk length", 7, { { VMCS_EPT_POINTER, 0x1000 | 2 << 3 | 6 } } },
	{ "EPTP reserved bits", 7, { { VMCS_EPT_POINTER, 0x1000 | 3 << 3 | 6 | 1 << 8 } } },
	{ "EPTP shadow-stack bit", 7, { { VMCS_EPT_POINTER, 0x1000 | 3 << 3 | 6 | 1 << 7 } } },
	{ "EPTP width", 7, { { VMCS_EPT_POINTER, 1ull << 52 | 3 << 3 | 6 } } },
	{ "unrestricted guest needs EPT", 7, { PROC_2(PROC2_UNRESTRICTED_GUEST) } },
	{ "PML needs EPT", 7, { PROC_2(PROC2_PML) } },
	{ "mode-based execute needs EPT", 7, { PROC_2(PROC2_MODE_BASED_EXEC) } },
	{ "PML address", 7, { PROC_2(BASE2 | PROC2_PML), { VMCS_PML_ADDR, 0x10 } } },
	{ "VM functions: unknown", 7, { PROC_2(BASE2 | PROC2_VMFUNC), { VMCS_VMFUNC_CTLS, 2 } } },
	{ "EPTP list address", 7, { PROC_2(BASE2 | PROC2_VMFUNC), { VMCS_VMFUNC_CTLS, 1 }, { VMCS_EPTP_LIST_ADDR, 8 } } },
	{ "EPTP switching needs EPT", 7, { PROC_2(PROC2_VMFUNC), { VMCS_VMFUNC_CTLS, 1 } } },
	{ "VMREAD bitmap address", 7, { PROC_2(BASE2 | PROC2_VMCS_SHADOWING), { VMCS_VMREAD_BITMAP, 1 } } },
	{ "VMWRITE bitmap address", 7, { PROC_2(BASE2 | PROC2_VMCS_SHADOWING), { VMCS_VMWRITE_BITMAP, 1 } } },
	{ "TSC multiplier 0", 7, { PROC_2(BASE2 | PROC2_TSC_SCALING), { VMCS_TSC_MULTIPLIER, 0 } } },
	{ "exit controls: reserved", 7, { { VMCS_EXIT_CTLS, EXITC_HOST_64 } } },
	{ "exit controls: CET", 7, { EXITC(EXITC_LOAD_CET) } },
	{ "save timer without timer", 7, { EXITC(EXITC_SAVE_TIMER) } },
	{ "exit MSR-store alignment", 7, { { VMCS_EXIT_MSR_STORE_COUNT, 1 }, { VMCS_EXIT_MSR_STORE_ADDR, 8 } } },
	{ "exit MSR-load end (trap 12)", 7, { { VMCS_EXIT_MSR_LOAD_COUNT, 0x10000001 },
		{ VMCS_EXIT_MSR_LOAD_ADDR, 0xffffffff0000 } } },
	{ "entry MSR-load end", 7, { { VMCS_ENTRY_MSR_LOAD_COUNT, 2 }, { VMCS_ENTRY_MSR_LOAD_ADDR, 0xfffffffffff0 } } },
	{ "entry controls: SMM", 7, { ENTRY64(ENTRY_SMM) } },
	{ "entry controls: dual monitor", 7, { ENTRY64(ENTRY_DEACTIVATE_DUAL_MONITOR) } },
	{ "inject: type 1", 7, { INJECT(1, 0x20) } },
	{ "inject: type 7 vector", 7, { INJECT(7, 1) } },
	{ "inject: NMI vector", 7, { INJECT(2, 3) } },
	{ "inject: exception vector", 7, { INJECT(3, 32) } },
	{ "inject: reserved bits", 7, { { VMCS_ENTRY_INTR_INFO, INTR_VALID | 1 << 13 | 3 << 8 | 6 } } },
	{ "inject: bit 12", 7, { { VMCS_ENTRY_INTR_INFO, INTR_VALID | 1 << 12 | 3 << 8 | 6 } } },
	{ "inject: #GP without error code", 7, { INJECT(3, 13) } },
	{ "inject: #UD with error code", 7, { INJECT_E(3, 6) } },
	{ "inject: #CP has none without CET", 7, { INJECT_E(3, 21) } },
	{ "inject: interrupt with error code", 7, { INJECT_E(0, 13) } },
	{ "inject: error code 31:16", 7, { INJECT_E(3, 13), { VMCS_ENTRY_ERROR_CODE, 0x10000 } } },
	{ "inject: #GP in real mode has no error code", 7, { INJECT_E(3, 13), REAL } },
	{ "inject: software interrupt length", 7, { INJECT(4, 0x20), { VMCS_ENTRY_INSN_LEN, 16 } } },
	{ "inject: software interrupt length 0", ENTERS, { INJECT(4, 0x20), { VMCS_ENTRY_INSN_LEN, 0 } } },
	{ "inject: length of others ignored", ENTERS, { INJECT(3, 6), { VMCS_ENTRY_INSN_LEN, 99 } } },
	{ "inject: invalid field ignored", ENTERS, { { VMCS_ENTRY_INTR_INFO, 0x7fffffff } } },
};

static const struct row host_rows[] = {
	{ "CR0.PE", 8, { { VMCS_HOST_CR0, 0x80000030 } } },
	{ "CR0.PG", 8, { { VMCS_HOST_CR0, 0x31 } } },
	{ "CR0.NE", 8, { { VMCS_HOST_CR0, 0x80000011 } } },
	{ "CR0 63:32", 8, { { VMCS_HOST_CR0, 0x180000031 } } },
	{ "CR4.VMXE", 8, { { VMCS_HOST_CR4, CR4_PAE } } },
	{ "CR4 unknown bit", 8, { { VMCS_HOST_CR4, CR4_PAE | CR4_VMXE | BIT(23) } } },
	{ "CR4.SMXE", 8, { { VMCS_HOST_CR4, CR4_PAE | CR4_VMXE | CR4_SMXE } } },
	{ "CR3 width", 8, { { VMCS_HOST_CR3, 1ull << 52 } } },
	{ "SYSENTER_ESP", 8, { { VMCS_HOST_SYSENTER_ESP, NONCANON } } },
	{ "SYSENTER_EIP", 8, { { VMCS_HOST_SYSENTER_EIP, NONCANON } } },
	{ "FS base", 8, { { VMCS_HOST_FS_BASE, NONCANON } } },
	{ "GS base", 8, { { VMCS_HOST_GS_BASE, NONCANON } } },
	{ "TR base", 8, { { VMCS_HOST_TR_BASE, NONCANON } } },
	{ "GDTR base", 8, { { VMCS_HOST_GDTR_BASE, NONCANON } } },
	{ "IDTR base", 8, { { VMCS_HOST_IDTR_BASE, NONCANON } } },
	{ "bases by the widest width (trap 7)", ENTERS, { { VMCS_HOST_FS_BASE, CANON57 } } },
	{ "PAT", 8, { EXITC(EXITC_LOAD_PAT), { VMCS_HOST_PAT, 2 } } },
	{ "PERF_GLOBAL_CTRL", 8, { EXITC(EXITC_LOAD_PERF_GLOBAL), { VMCS_HOST_PERF_GLOBAL_CTRL, BIT(8) } } },
	{ "PERF_GLOBAL_CTRL", 8, { EXITC(EXITC_LOAD_PERF_GLOBAL), { VMCS_HOST_PERF_GLOBAL_CTRL, BIT(35) } } },
	{ "PERF_GLOBAL_CTRL", ENTERS, { EXITC(EXITC_LOAD_PERF_GLOBAL), { VMCS_HOST_PERF_GLOBAL_CTRL, 0x7000000ff } } },
	{ "PERF_GLOBAL_CTRL not loaded", ENTERS, { { VMCS_HOST_PERF_GLOBAL_CTRL, BIT(8) } } },
	{ "PAT", 8, { EXITC(EXITC_LOAD_PAT), { VMCS_HOST_PAT, 8ull << 56 } } },
	{ "PAT", ENTERS, { EXITC(EXITC_LOAD_PAT), { VMCS_HOST_PAT, 0x0007040600070406 } } },
	{ "EFER reserved", 8, { { VMCS_HOST_EFER, EFER_LMA | EFER_LME | BIT(9) } } },
	{ "EFER.LMA", 8, { { VMCS_HOST_EFER, EFER_LME } } },
	{ "EFER.LME", 8, { { VMCS_HOST_EFER, EFER_LMA } } },
	{ "ES RPL", 8, { { VMCS_HOST_ES_SEL, 3 } } },
	{ "GS TI", 8, { { VMCS_HOST_GS_SEL, 4 } } },
	{ "CS 0", 8, { { VMCS_HOST_CS_SEL, 0 } } },
	{ "TR 0", 8, { { VMCS_HOST_TR_SEL, 0 } } },
	{ "SS 0 with a 64-bit host", ENTERS, { { VMCS_HOST_SS_SEL, 0 } } },
	{ "host size 0 in long mode", 8, { { VMCS_EXIT_CTLS, 0x36dfb } } },
	{ "CR4.PAE", 8, { { VMCS_HOST_CR4, CR4_VMXE } } },
	{ "RIP by LA57 of host CR4 (trap 7)", 8, { { VMCS_HOST_RIP, CANON57 } } },
	{ "RIP by LA57 of host CR4 (trap 7)", ENTERS, { { VMCS_HOST_RIP, CANON57 },
		{ VMCS_HOST_CR4, CR4_PAE | CR4_VMXE | CR4_LA57 } } },
};

static const struct row guest_rows[] = {
	{ "CR0.NE", FAIL33(0), { { VMCS_GUEST_CR0, 0x80000011 } } },
	{ "CR0.PG without unrestricted guest", FAIL33(0), { PROC_2(PROC2_EPT), UNPAGED } },
	{ "unpaged", ENTERS, { UNPAGED } },
	{ "PG without PE", FAIL33(0), { ENTRY32(0), { VMCS_GUEST_CR0, 0x80000030 }, { VMCS_GUEST_CS_AR, TK_AR_CODE32 } } },
	{ "CR4.VMXE: 33, not 8 (trap 5)", FAIL33(0), { { VMCS_GUEST_CR4, CR4_PAE } } },
	{ "CR4 unknown", FAIL33(0), { { VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE | BIT(23) } } },
	{ "DEBUGCTL", FAIL33(0), { ENTRY64(ENTRY_LOAD_DEBUG | ENTRY_LOAD_EFER), { VMCS_GUEST_DEBUGCTL, BIT(5) } } },
	{ "DEBUGCTL not loaded", ENTERS, { ENTRY64(0), { VMCS_GUEST_DEBUGCTL, BIT(5) } } },
	{ "DR7 63:32", FAIL33(0), { ENTRY64(ENTRY_LOAD_DEBUG), { VMCS_GUEST_DR7, 1ull << 32 } } },
	{ "IA-32e with PG 0 (trap 6)", FAIL33(0), { { VMCS_GUEST_CR0, 0x31 } } },
	{ "IA-32e without PAE", FAIL33(0), { { VMCS_GUEST_CR4, CR4_VMXE } } },
	{ "PCIDE outside IA-32e", FAIL33(0), { UNPAGED, { VMCS_GUEST_CR4, CR4_VMXE | CR4_PCIDE } } },
	{ "CR3 width", FAIL33(0), { { VMCS_GUEST_CR3, 1ull << 51 } } },
	{ "SYSENTER_ESP", FAIL33(0), { { VMCS_GUEST_SYSENTER_ESP, NONCANON } } },
	{ "SYSENTER_EIP", FAIL33(0), { { VMCS_GUEST_SYSENTER_EIP, NONCANON } } },
	{ "PAT", FAIL33(0), { ENTRY64(ENTRY_LOAD_PAT), { VMCS_GUEST_PAT, 3 } } },
	{ "PERF_GLOBAL_CTRL", FAIL33(0), { ENTRY64(ENTRY_LOAD_PERF_GLOBAL), { VMCS_GUEST_PERF_GLOBAL_CTRL, BIT(8) } } },
	{ "DEBUGCTL freezes", ENTERS, { ENTRY64(ENTRY_LOAD_DEBUG | ENTRY_LOAD_EFER), { VMCS_GUEST_DEBUGCTL, 0x1802 } } },
	{ "EFER reserved", FAIL33(0), { { VMCS_GUEST_EFER, EFER_LMA | EFER_LME | BIT(1) } } },
	{ "EFER.LMA", FAIL33(0), { { VMCS_GUEST_EFER, EFER_LME } } },
	{ "EFER.LME", FAIL33(0), { { VMCS_GUEST_EFER, EFER_LMA } } },
	{ "EFER.LME free when unpaged", ENTERS, { { VMCS_ENTRY_CTLS, 0x11fb | ENTRY_LOAD_EFER },
		{ VMCS_GUEST_CR0, 0x31 }, { VMCS_GUEST_CS_AR, TK_AR_CODE32 }, { VMCS_GUEST_EFER, EFER_LME } } },
	{ "RFLAGS bit 1", FAIL33(0), { { VMCS_GUEST_RFLAGS, 0 } } },
	{ "RFLAGS bit 3", FAIL33(0), { { VMCS_GUEST_RFLAGS, 0xa } } },
	{ "RFLAGS bit 22", FAIL33(0), { { VMCS_GUEST_RFLAGS, 0x400002 } } },
	{ "RFLAGS.VM in IA-32e", FAIL33(0), { { VMCS_GUEST_RFLAGS, 0x20002 } } },
	{ "RFLAGS.VM without PE (trap 6)", FAIL33(0), { REAL, { VMCS_GUEST_RFLAGS, 0x20002 } } },
	{ "IF 0 injecting an interrupt", FAIL33(0), { INJECT(0, 0x40) } },
	{ "IF 1 injecting an interrupt", ENTERS, { INJECT(0, 0x40), { VMCS_GUEST_RFLAGS, 0x202 } } },
	{ "RIP 63:32 of a 32-bit guest", FAIL33(0), { UNPAGED, { VMCS_GUEST_RIP, 1ull << 32 } } },
	{ "RIP 63:57 mixed (trap 7)", FAIL33(0), { { VMCS_GUEST_RIP, NONCANON } } },

	{ "TR.TI", FAIL33(0), { { VMCS_GUEST_TR_SEL, 0x34 } } },
	{ "LDTR.TI", FAIL33(0), { { VMCS_GUEST_LDTR_SEL, 4 }, { VMCS_GUEST_LDTR_AR, 0x82 } } },
	{ "LDTR.TI unusable", ENTERS, { { VMCS_GUEST_LDTR_SEL, 4 } } },
	{ "SS.RPL, restricted", FAIL33(0), { PROC_2(PROC2_EPT), { VMCS_GUEST_SS_SEL, 0x13 } } },
	{ "TR base", FAIL33(0), { { VMCS_GUEST_TR_BASE, NONCANON } } },
	{ "FS base", FAIL33(0), { { VMCS_GUEST_FS_BASE, NONCANON } } },
	{ "GS base though unusable", FAIL33(0), { { VMCS_GUEST_GS_BASE, NONCANON }, { VMCS_GUEST_GS_AR, 0x10000 } } },
	{ "LDTR base", FAIL33(0), { { VMCS_GUEST_LDTR_BASE, NONCANON }, { VMCS_GUEST_LDTR_AR, 0x82 } } },
	{ "CS base 63:32", FAIL33(0), { { VMCS_GUEST_CS_BASE, 1ull << 32 } } },
	{ "DS base 63:32", FAIL33(0), { { VMCS_GUEST_DS_BASE, 1ull << 32 } } },
	{ "DS base 63:32 unusable", ENTERS, { { VMCS_GUEST_DS_BASE, 1ull << 32 }, { VMCS_GUEST_DS_AR, 0x10000 } } },
	{ "CS type 8", FAIL33(0), { { VMCS_GUEST_CS_AR, 0xa098 } } },
	{ "CS type 3, restricted", FAIL33(0), { PROC_2(PROC2_EPT), { VMCS_GUEST_CS_AR, 0xa093 } } },
	{ "CS type 3 DPL", FAIL33(0), { UNPAGED, { VMCS_GUEST_CS_AR, 0xc0f3 } } },
	{ "CS checked though unusable (trap 10)", FAIL33(0), { { VMCS_GUEST_CS_AR, 0x1a09a - 2 } } },
	{ "SS type", FAIL33(0), { { VMCS_GUEST_SS_AR, 0xc091 } } },
	{ "SS unusable by AR alone (trap 10)", ENTERS, { { VMCS_GUEST_SS_AR, 0x10000 } } },
	{ "SS null selector but usable (trap 10)", FAIL33(0), { { VMCS_GUEST_SS_SEL, 0 }, { VMCS_GUEST_SS_AR, 0xc091 } } },
	{ "DS not accessed", FAIL33(0), { { VMCS_GUEST_DS_AR, 0xc092 } } },
	{ "ES execute-only code", FAIL33(0), { { VMCS_GUEST_ES_AR, 0xc099 } } },
	{ "ES readable code", ENTERS, { { VMCS_GUEST_ES_AR, 0xc09b } } },
	{ "FS S", FAIL33(0), { { VMCS_GUEST_FS_AR, 0xc083 } } },
	{ "CS.DPL, non-conforming", FAIL33(0), { { VMCS_GUEST_CS_AR, TK_AR_CODE64 | 3 << 5 } } },
	{ "CS.DPL, conforming above SS.DPL", FAIL33(0), { { VMCS_GUEST_CS_AR, 0xa0ff } } },
	{ "SS.DPL in real mode", FAIL33(0), { REAL, { VMCS_GUEST_SS_AR, 0xc0f3 } } },
	{ "SS.DPL is not SS.RPL, restricted", FAIL33(0), { PROC_2(PROC2_EPT), { VMCS_GUEST_SS_AR, 0xc0f3 },
		{ VMCS_GUEST_CS_AR, 0xa0fb } } },
	{ "DS.DPL below RPL, restricted", FAIL33(0), { PROC_2(PROC2_EPT), { VMCS_GUEST_DS_SEL, 0x13 } } },
	{ "DS.DPL below RPL, unrestricted", ENTERS, { { VMCS_GUEST_DS_SEL, 0x13 } } },
	{ "GS P", FAIL33(0), { { VMCS_GUEST_GS_AR, 0xc013 } } },
	{ "DS 11:8", FAIL33(0), { { VMCS_GUEST_DS_AR, 0xc193 } } },
	{ "DS 31:17", FAIL33(0), { { VMCS_GUEST_DS_AR, 0x2c093 } } },
	{ "CS D and L", FAIL33(0), { { VMCS_GUEST_CS_AR, TK_AR_CODE64 | X86_AR_DB } } },
	{ "G 1, limit 11:0", FAIL33(0), { { VMCS_GUEST_DS_LIMIT, 0xfffffffe } } },
	{ "G 0, limit 31:20", FAIL33(0), { { VMCS_GUEST_DS_AR, 0x4093 } } },
	{ "TR unusable", FAIL33(0), { { VMCS_GUEST_TR_AR, 0x1008b } } },
	{ "TR type", FAIL33(0), { { VMCS_GUEST_TR_AR, 0x89 } } },
	{ "TR type 3 in IA-32e", FAIL33(0), { { VMCS_GUEST_TR_AR, 0x83 } } },
	{ "TR type 3 in 32 bits", ENTERS, { UNPAGED, { VMCS_GUEST_TR_AR, 0x83 } } },
	{ "TR S", FAIL33(0), { { VMCS_GUEST_TR_AR, 0x9b } } },
	{ "TR limit", FAIL33(0), { { VMCS_GUEST_TR_LIMIT, 0x100000 } } },
	{ "LDTR type", FAIL33(0), { { VMCS_GUEST_LDTR_AR, 0x83 } } },
	{ "LDTR P", FAIL33(0), { { VMCS_GUEST_LDTR_AR, 0x02 } } },
	{ "GDTR base", FAIL33(0), { { VMCS_GUEST_GDTR_BASE, NONCANON } } },
	{ "IDTR limit", FAIL33(0), { { VMCS_GUEST_IDTR_LIMIT, 0x10000 } } },
	{ "VM86 segment base", FAIL33(0), { UNPAGED, { VMCS_GUEST_RFLAGS, 0x20002 } } },

	{ "activity 4", FAIL33(0), { { VMCS_GUEST_ACTIVITY, 4 } } },
	{ "HLT at CPL 3", FAIL33(0), { HALTED, { VMCS_GUEST_SS_AR, 0xc0f3 }, { VMCS_GUEST_CS_AR, 0xa0fb } } },
	{ "HLT and STI", FAIL33(0), { HALTED, { VMCS_GUEST_INTERRUPTIBILITY, 1 }, { VMCS_GUEST_RFLAGS, 0x202 } } },
	{ "HLT: inject #UD (trap 9)", FAIL33(0), { HALTED, INJECT(3, 6) } },
	{ "HLT: inject software interrupt (trap 9)", FAIL33(0), { HALTED, INJECT(4, 0x20) } },
	{ "HLT: inject #DB", ENTERS, { HALTED, INJECT(3, 1) } },
	{ "HLT: inject #MC", ENTERS, { HALTED, INJECT(3, 18) } },
	{ "HLT: inject NMI", ENTERS, { HALTED, INJECT(2, 2) } },
	{ "shutdown: inject interrupt (trap 9)", FAIL33(0), { { VMCS_GUEST_ACTIVITY, 2 }, INJECT(0, 0x30),
		{ VMCS_GUEST_RFLAGS, 0x202 } } },
	{ "shutdown: inject software 18 (trap 9)", FAIL33(0), { { VMCS_GUEST_ACTIVITY, 2 }, INJECT(6, 18) } },
	{ "shutdown: inject NMI", ENTERS, { { VMCS_GUEST_ACTIVITY, 2 }, INJECT(2, 2) } },
	{ "wait-for-SIPI: inject NMI", FAIL33(0), { { VMCS_GUEST_ACTIVITY, 3 }, INJECT(2, 2) } },
	{ "interruptibility 31:5", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 0x20 } } },
	{ "STI and MOV SS", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 3 }, { VMCS_GUEST_RFLAGS, 0x202 } } },
	{ "STI with IF 0", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 1 } } },
	{ "MOV SS injecting interrupt", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 2 }, INJECT(0, 0x30),
		{ VMCS_GUEST_RFLAGS, 0x202 } } },
	{ "MOV SS injecting NMI", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 2 }, INJECT(2, 2) } },
	{ "SMI blocking", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 4 } } },
	{ "NMI blocking injecting virtual NMI", FAIL33(0), { PIN(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS),
		{ VMCS_GUEST_INTERRUPTIBILITY, 8 }, INJECT(2, 2) } },
	{ "NMI blocking injecting NMI", ENTERS, { { VMCS_GUEST_INTERRUPTIBILITY, 8 }, INJECT(2, 2) } },
	{ "enclave", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 0x10 } } },
	{ "pending debug reserved", FAIL33(0), { { VMCS_GUEST_PENDING_DEBUG, 0x10 } } },
	{ "pending debug 63:32 (trap 8)", FAIL33(0), { { VMCS_GUEST_PENDING_DEBUG, 1ull << 40 } } },
	{ "pending debug RTM", FAIL33(0), { { VMCS_GUEST_PENDING_DEBUG, 0x11000 } } },
	{ "MOV SS, TF without BS (trap 8)", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 2 }, { VMCS_GUEST_RFLAGS, 0x102 } } },
	{ "MOV SS, BS without TF (trap 8)", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 2 }, { VMCS_GUEST_PENDING_DEBUG, 0x4000 } } },
	{ "STI, TF and BTF with BS (trap 8)", FAIL33(0), { { VMCS_GUEST_INTERRUPTIBILITY, 1 }, { VMCS_GUEST_RFLAGS, 0x302 },
		{ VMCS_GUEST_DEBUGCTL, 2 }, { VMCS_GUEST_PENDING_DEBUG, 0x4000 } } },
	{ "HLT, TF without BS (trap 8)", FAIL33(0), { HALTED, { VMCS_GUEST_RFLAGS, 0x102 } } },
	{ "link pointer alignment", FAIL33(4), { { VMCS_LINK_POINTER, 8 } } },
	{ "link pointer width", FAIL33(4), { { VMCS_LINK_POINTER, 1ull << 52 } } },
	{ "PDPTE reserved", FAIL33(2), { ENTRY32(0), { VMCS_GUEST_CS_AR, TK_AR_CODE32 }, { VMCS_GUEST_PDPTE2, 0x1003 } } },
	{ "PDPTE not present", ENTERS, { UNPAGED, { VMCS_GUEST_PDPTE2, 0x1002 } } },
};

static void apply(struct tk *t, const struct row *r)
{
	for (unsigned i = 0; i < ARRAY_SIZE(r->set) && r->set[i].field | r->set[i].val; i++)
		assert_int_equal(x86_vmwrite(t->cpu, r->set[i].field, r->set[i].val), VMX_OK);
}

static void check_row(const struct row *r)
{
	struct tk *t = tk_new();
	u32 reason;
	int res;

	apply(t, r);
	tk_set(t, VMCS_INSN_ERROR, 77);
	tk_set(t, VMCS_EXIT_REASON, 99);
	t->mem[TK_CODE] = 0xf4;
	res = tk_try(t);
	if (r->expect == 7 || r->expect == 8) {
		if (res != r->expect)
			fail_msg("%s: got %d, want VMfail %d", r->rule, res, r->expect);
		assert_int_equal(tk_get(t, VMCS_INSN_ERROR), r->expect);
		assert_int_equal(tk_get(t, VMCS_EXIT_REASON), 99);
	} else if (r->expect == NO_MEMORY) {
		assert_int_equal(res, VMX_BUS_ERROR);
	} else {
		reason = (u32)tk_get(t, VMCS_EXIT_REASON);
		if (res != VMX_OK)
			fail_msg("%s: got %d", r->rule, res);
		if (r->expect == ENTERS && reason & VMX_EXIT_ENTRY_FAILURE)
			fail_msg("%s: got failure %#x", r->rule, reason);
		if (r->expect != ENTERS && (reason != (VMX_EXIT_INVALID_STATE | VMX_EXIT_ENTRY_FAILURE) ||
					    tk_get(t, VMCS_EXIT_QUALIFICATION) != (u64)r->expect - 0x100))
			fail_msg("%s: got %#x/%#llx, want 33/%d", r->rule, reason,
				 (unsigned long long)tk_get(t, VMCS_EXIT_QUALIFICATION), r->expect - 0x100);
		assert_int_equal(tk_get(t, VMCS_INSN_ERROR), 77);
	}
	tk_free(t);
}

static void controls(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(control_rows); i++)
		check_row(&control_rows[i]);
}

static void host_state(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(host_rows); i++)
		check_row(&host_rows[i]);
}

static void guest_state(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(guest_rows); i++)
		check_row(&guest_rows[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(controls),
		cmocka_unit_test(host_state),
		cmocka_unit_test(guest_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
