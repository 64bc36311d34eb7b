/* SPDX-License-Identifier: MIT */
/*
 * Access to VMCS fields by their encoding. SDM vol. 3C "Encoding of VMCS Fields".
 */
#include "base/bits.h"
#include "base/log.h"
#include "silicon/x86/cpu.h"
#include "silicon/x86/vmx/vmcs.h"

/* Encoding bits that tell existing fields apart: width, type, index below 64. */
#define KEY(enc) (((enc) >> 13 & 3) << 8 | ((enc) >> 10 & 3) << 6 | ((enc) >> 1 & 63))

/* Slot + 1; 0 = no such field. */
static const u8 slot_of[1024] = {
#define VMCS(enc, name, width, type, needs) [KEY(enc)] = VS_##name + 1,
#include "spec/x86/vmcs.def"
#undef VMCS
};
_Static_assert(VMCS_NR_SLOTS < 255, "slot numbers are bytes");

static const u64 width_mask[4] = {
	[VMCS_WIDTH_16] = 0xffff,
	[VMCS_WIDTH_64] = ~0ull,
	[VMCS_WIDTH_32] = 0xffffffff,
	[VMCS_WIDTH_NAT] = ~0ull,
};

/*
 * Which checks a write to a field of each type makes due. Fields that a
 * hypervisor changes at nearly every exit are exempt: either every entry checks
 * them (RIP, interruptibility, the event to inject, ...) or none does.
 */
static const u8 dirty_of_type[4] = {
	[VMCS_TYPE_CTL] = VMCS_DIRTY_CTL,
	[VMCS_TYPE_GUEST] = VMCS_DIRTY_GUEST,
	[VMCS_TYPE_HOST] = VMCS_DIRTY_HOST,
};

static bool checked_apart(unsigned slot)
{
	switch (slot) {
	case VS_GUEST_RIP:
	case VS_GUEST_RSP:
	case VS_GUEST_INTERRUPTIBILITY:
	case VS_GUEST_ACTIVITY:
	case VS_GUEST_PENDING_DEBUG:
	case VS_GUEST_INTR_STATUS:
	case VS_PML_INDEX:
	case VS_LINK_POINTER:
	case VS_PREEMPTION_TIMER_VALUE:
	case VS_ENTRY_INTR_INFO:
	case VS_ENTRY_ERROR_CODE:
	case VS_ENTRY_INSN_LEN:
	case VS_EXCEPTION_BITMAP:
	case VS_CR0_MASK:
	case VS_CR0_SHADOW:
	case VS_CR4_MASK:
	case VS_CR4_SHADOW:
	case VS_TPR_THRESHOLD:
	case VS_TSC_OFFSET:
	case VS_EOI_EXIT_BITMAP0:
	case VS_EOI_EXIT_BITMAP1:
	case VS_EOI_EXIT_BITMAP2:
	case VS_EOI_EXIT_BITMAP3:
		return true;
	default:
		return false;
	}
}

/* The slot of @enc, or -1. */
static int find(u32 enc)
{
	if (enc & ~0x6fffu || (enc >> 1 & 0x1ff) > 63)
		return -1;
	if (enc & 1 && vmcs_width(enc) != VMCS_WIDTH_64)
		return -1;
	return slot_of[KEY(enc)] - 1;
}

bool vmcs_has(u32 enc)
{
	return find(enc) >= 0;
}

bool vmcs_read(const struct vmcs *v, u32 enc, u64 *val)
{
	int slot = find(enc);

	if (slot < 0)
		return false;
	*val = enc & 1 ? v->f[slot] >> 32 : v->f[slot];
	return true;
}

static void store(struct vmcs *v, unsigned slot, u32 enc, u64 val)
{
	v->f[slot] = val & width_mask[vmcs_width(enc)];
	if (!checked_apart(slot))
		v->dirty |= dirty_of_type[vmcs_type(enc)];
	/* The host-state checks depend on two controls. */
	if (slot == VS_EXIT_CTLS || slot == VS_ENTRY_CTLS)
		v->dirty |= VMCS_DIRTY_HOST;
}

bool vmcs_write(struct vmcs *v, u32 enc, u64 val)
{
	int slot = find(enc);

	if (slot < 0)
		return false;
	if (enc & 1)
		val = bits_set(v->f[slot], 63, 32, val & 0xffffffff);
	store(v, (unsigned)slot, enc, val);
	return true;
}

/* An enumerator of silicon/vmx.h, so the encoding itself needs no check. */
static unsigned known_slot(const struct x86_cpu *cpu, enum vmcs_field field)
{
	unsigned slot = slot_of[KEY((u32)field)] - 1u;

	BUG_ON(slot >= VMCS_NR_SLOTS || !cpu->vmx.vmcs);
	return slot;
}

u64 x86_vmcs_get(struct x86_cpu *cpu, enum vmcs_field field)
{
	unsigned slot = known_slot(cpu, field);

	return cpu->vmx.vmcs->f[slot];
}

void x86_vmcs_set(struct x86_cpu *cpu, enum vmcs_field field, u64 val)
{
	store(cpu->vmx.vmcs, known_slot(cpu, field), (u32)field, val);
}
