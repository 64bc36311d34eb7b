/* SPDX-License-Identifier: MIT */
/*
 * APIC virtualization: the virtual-APIC page, accesses to the APIC-access page,
 * x2APIC MSRs, virtual interrupts and posted interrupts.
 *
 * A virtualized write only stores; what it means is done at the next boundary,
 * once the instruction has completed (apic_write). Recognition of a virtual
 * interrupt is re-evaluated at the points that the manual lists and nowhere else.
 *
 * SDM vol. 3C "APIC Virtualization and Virtual Interrupts".
 */
#include <string.h>

#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"
#include "silicon/x86/vmx/vmx_priv.h"

static u32 reg_read(const struct x86_cpu *cpu, u32 off)
{
	return vmx_read32(cpu->vmx.virt_apic + off);
}

static void reg_write(const struct x86_cpu *cpu, u32 off, u32 val)
{
	vmx_write32(cpu->vmx.virt_apic + off, val);
}

static bool has_vid(const struct x86_cpu *cpu)
{
	return cpu->vmx.proc2 & PROC2_VIRT_INTR_DELIVERY;
}

/* ---- Vectors: 256-bit registers of eight words, 16 bytes apart ---- */

static void vec_set(const struct x86_cpu *cpu, u32 base, u8 vector)
{
	u32 off = base + vector / 32 * 16u;

	reg_write(cpu, off, reg_read(cpu, off) | 1u << vector % 32);
}

static void vec_clear(const struct x86_cpu *cpu, u32 base, u8 vector)
{
	u32 off = base + vector / 32 * 16u;

	reg_write(cpu, off, reg_read(cpu, off) & ~(1u << vector % 32));
}

/* Highest vector set, 0 if none. */
static u8 vec_highest(const struct x86_cpu *cpu, u32 base)
{
	for (int i = 7; i >= 0; i--) {
		u32 w = reg_read(cpu, base + (u32)i * 16);

		if (w)
			return (u8)(i * 32 + 31 - __builtin_clz(w));
	}
	return 0;
}

/* Guest interrupt status: requesting (low byte) and servicing vector. */
static u8 rvi(const struct x86_cpu *cpu)
{
	return (u8)V(cpu->vmx.vmcs, GUEST_INTR_STATUS);
}

static u8 svi(const struct x86_cpu *cpu)
{
	return (u8)(V(cpu->vmx.vmcs, GUEST_INTR_STATUS) >> 8);
}

static void set_status(struct x86_cpu *cpu, u8 r, u8 s)
{
	V(cpu->vmx.vmcs, GUEST_INTR_STATUS) = r | (u32)s << 8;
}

/* ---- Elementary operations ---- */

u8 vmx_vtpr(struct x86_cpu *cpu)
{
	return vmx_read8(cpu->vmx.virt_apic + APIC_TPR);
}

static void virtualize_ppr(struct x86_cpu *cpu)
{
	u8 tpr = vmx_vtpr(cpu), isr = svi(cpu);

	reg_write(cpu, APIC_PPR, tpr >> 4 >= isr >> 4 ? tpr : isr & 0xf0u);
}

/* "Evaluation of Pending Virtual Interrupts". */
static void evaluate(struct x86_cpu *cpu)
{
	cpu->vmx.vintr = !(cpu->vmx.proc & PROC_INTR_WINDOW_EXITING) &&
			 rvi(cpu) >> 4 > (reg_read(cpu, APIC_PPR) >> 4 & 0xf);
	if (cpu->vmx.vintr)
		vmx_poll_boundaries(cpu);
}

void vmx_tpr_threshold(struct x86_cpu *cpu)
{
	if (vmx_vtpr(cpu) >> 4 < (V(cpu->vmx.vmcs, TPR_THRESHOLD) & 0xf))
		vmx_exit(cpu, VMX_EXIT_TPR_BELOW_THRESHOLD, 0, VMX_RF_KEEP);
}

static void virtualize_tpr(struct x86_cpu *cpu)
{
	if (!has_vid(cpu)) {
		vmx_tpr_threshold(cpu);
		return;
	}
	virtualize_ppr(cpu);
	evaluate(cpu);
}

static void virtualize_eoi(struct x86_cpu *cpu)
{
	u8 vector = svi(cpu);

	reg_write(cpu, APIC_EOI, 0);
	vec_clear(cpu, APIC_ISR, vector);
	set_status(cpu, rvi(cpu), vec_highest(cpu, APIC_ISR));
	virtualize_ppr(cpu);
	if (cpu->vmx.vmcs->f[VS_EOI_EXIT_BITMAP0 + vector / 64] >> vector % 64 & 1)
		vmx_exit(cpu, VMX_EXIT_EOI_INDUCED, vector, VMX_RF_KEEP);
	evaluate(cpu);
}

static void virtualize_self_ipi(struct x86_cpu *cpu, u8 vector)
{
	vec_set(cpu, APIC_IRR, vector);
	set_status(cpu, max(rvi(cpu), vector), svi(cpu));
	evaluate(cpu);
}

void vmx_vapic_entry(struct x86_cpu *cpu)
{
	virtualize_ppr(cpu);
	evaluate(cpu);
}

void vmx_deliver_virtual(struct x86_cpu *cpu)
{
	u8 vector = rvi(cpu);

	vec_set(cpu, APIC_ISR, vector);
	reg_write(cpu, APIC_PPR, vector & 0xf0);
	vec_clear(cpu, APIC_IRR, vector);
	set_status(cpu, vec_highest(cpu, APIC_IRR), vector);
	cpu->vmx.vintr = false;
	vmx_mtf_step(cpu);
	x86_deliver(cpu, vector, INTR_EXT, false, 0, cpu->rip);
}

/*
 * "Posted-Interrupt Processing". Others post at the same time: the group of
 * requests is taken word by word with atomic exchanges. The EOI that the manual
 * writes to the local APIC has no effect here: x86_ack_intr() leaves nothing in service.
 */
void vmx_posted_intr(struct x86_cpu *cpu)
{
	u64 desc = V(cpu->vmx.vmcs, POSTED_INTR_DESC_ADDR);
	u8 top = 0;

	__atomic_fetch_and((u64 *)(desc + 32), ~1ull, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < 4; i++) {
		u64 pir = __atomic_exchange_n((u64 *)(desc + 8 * i), 0, __ATOMIC_SEQ_CST);
		u32 off = APIC_IRR + 32 * i;

		if (!pir)
			continue;
		reg_write(cpu, off, reg_read(cpu, off) | (u32)pir);
		reg_write(cpu, off + 16, reg_read(cpu, off + 16) | (u32)(pir >> 32));
		top = (u8)(i * 64 + 63 - (u32)__builtin_clzll(pir));
	}
	set_status(cpu, max(rvi(cpu), top), svi(cpu));
	evaluate(cpu);
}

/* ---- Writes, once the instruction has completed ---- */

/* The interrupt-command register asks for what "self-IPI virtualization" can do. */
static bool icr_is_self_ipi(u32 icr)
{
	return !(icr & (BITS(31, 20) | BITS(17, 16) | BIT(13) | BIT(12) | BIT(15) | BITS(10, 8))) &&
	       (icr >> 18 & 3) == 1 && (icr & 0xf0);
}

static void apic_write_exit(struct x86_cpu *cpu, u16 off)
{
	vmx_exit(cpu, VMX_EXIT_APIC_WRITE, off, VMX_RF_KEEP);
}

void vmx_apic_write_emulate(struct x86_cpu *cpu, u16 off)
{
	u32 val = reg_read(cpu, off & 0xff0);

	switch (off & 0xff0) {
	case APIC_TPR:
		reg_write(cpu, APIC_TPR, val & 0xff);
		virtualize_tpr(cpu);
		break;
	case APIC_EOI:
		if (!has_vid(cpu))
			apic_write_exit(cpu, off);
		virtualize_eoi(cpu);
		break;
	case APIC_ICR_LO:
		if (!has_vid(cpu) || !icr_is_self_ipi(val))
			apic_write_exit(cpu, off);
		virtualize_self_ipi(cpu, (u8)val);
		break;
	case APIC_ICR_HI:
		reg_write(cpu, APIC_ICR_HI, val & 0xff000000);
		break;
	case APIC_SELF_IPI:	/* x2APIC only: see vmx_x2apic_write() */
		if (!(val & 0xf0))
			apic_write_exit(cpu, off);
		virtualize_self_ipi(cpu, (u8)val);
		break;
	default:
		apic_write_exit(cpu, off);
	}
}

static void write_pending(struct x86_cpu *cpu, u16 off)
{
	cpu->vmx.apic_write = true;
	cpu->vmx.apic_write_off = off;
	cpu->slow |= X86_SLOW_VMX_TRAP;
}

void vmx_vtpr_write(struct x86_cpu *cpu, u8 tpr)
{
	reg_write(cpu, APIC_TPR, tpr);
	write_pending(cpu, APIC_TPR);
}

/* ---- The APIC-access page ---- */

/* Which registers each setting of the controls virtualizes: one bit per 16-byte unit. */
#define UNIT(off) BIT((off) >> 4 & 63)

static bool read_virtualized(const struct x86_cpu *cpu, u32 off)
{
	static const u64 regs =
		UNIT(0x20) | UNIT(0x30) | UNIT(0x80) | UNIT(0xb0) | UNIT(0xd0) | UNIT(0xe0) | UNIT(0xf0) |
		BITS(0x27, 0x10) | UNIT(0x280) | UNIT(0x300) | UNIT(0x310) | BITS(0x37, 0x32) |
		UNIT(0x380) | UNIT(0x3e0);

	if (!(cpu->vmx.proc2 & PROC2_APIC_REGISTER_VIRT))
		return off >> 4 == APIC_TPR >> 4;
	return off < 0x400 && (regs & UNIT(off));
}

static bool write_virtualized(const struct x86_cpu *cpu, u32 off)
{
	static const u64 regs =
		UNIT(0x20) | UNIT(0x80) | UNIT(0xb0) | UNIT(0xd0) | UNIT(0xe0) | UNIT(0xf0) | UNIT(0x280) |
		UNIT(0x300) | UNIT(0x310) | BITS(0x37, 0x32) | UNIT(0x380) | UNIT(0x3e0);
	static const u64 vid_regs = UNIT(0x80) | UNIT(0xb0) | UNIT(0x300);

	if (off >= 0x400)
		return false;
	if (cpu->vmx.proc2 & PROC2_APIC_REGISTER_VIRT)
		return regs & UNIT(off);
	if (has_vid(cpu))
		return vid_regs & UNIT(off);
	return off >> 4 == APIC_TPR >> 4;
}

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH, ACCESS_DELIVERY };

static _Noreturn void access_exit(struct x86_cpu *cpu, u32 off, bool write, bool fetch)
{
	u64 type = fetch ? ACCESS_FETCH : write ? ACCESS_WRITE : ACCESS_READ;

	if (cpu->delivering)
		type = ACCESS_DELIVERY;
	else
		V(cpu->vmx.vmcs, EXIT_INSN_LEN) = (cpu->gpr[X86_REG_NEXT_RIP] - cpu->rip) & 0xf;
	vmx_exit(cpu, VMX_EXIT_APIC_ACCESS, off | type << 12, VMX_RF_SET);
}

bool x86_vmx_apic_access(struct x86_cpu *cpu, u64 spa, unsigned size, bool write, bool fetch, u64 *val)
{
	u32 off = spa & 0xfff;
	u8 *page = (u8 *)cpu->vmx.virt_apic;
	bool other = cpu->vmx.apic_write && cpu->vmx.apic_write_off >> 4 != off >> 4;

	if (!page || fetch || size > 4 || (off & 0xc) || ((off + size - 1) & 0xc) || other ||
	    !(write ? write_virtualized(cpu, off) : read_virtualized(cpu, off)))
		access_exit(cpu, off, write, fetch);
	if (write) {
		memcpy(page + off, val, size);
		write_pending(cpu, (u16)off);
	} else {
		*val = 0;
		memcpy(val, page + off, size);
	}
	return true;
}

/* ---- x2APIC MSRs ---- */

#define X2APIC_TPR 0x808
#define X2APIC_EOI 0x80b
#define X2APIC_SELF_IPI 0x83f

bool vmx_x2apic_read(struct x86_cpu *cpu, u32 msr, u64 *val)
{
	if (msr - 0x800 > 0xff)
		return false;
	if (msr != X2APIC_TPR && !(cpu->vmx.proc2 & PROC2_APIC_REGISTER_VIRT))
		return false;
	*val = vmx_read64(cpu->vmx.virt_apic + ((msr & 0xff) << 4));
	return true;
}

bool vmx_x2apic_write(struct x86_cpu *cpu, u32 msr, u64 val)
{
	switch (msr) {
	case X2APIC_TPR:
		if (val >> 8)
			x86_gp0(cpu);
		break;
	case X2APIC_EOI:
		if (!has_vid(cpu))
			return false;
		if (val)
			x86_gp0(cpu);
		break;
	case X2APIC_SELF_IPI:
		if (!has_vid(cpu))
			return false;
		if (val >> 8)
			x86_gp0(cpu);
		break;
	default:
		return false;
	}
	vmx_write64(cpu->vmx.virt_apic + ((msr & 0xff) << 4), val);
	write_pending(cpu, (u16)((msr & 0xff) << 4));
	return true;
}
