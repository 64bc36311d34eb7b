/* SPDX-License-Identifier: MIT */
/*
 * The VMCS as this processor keeps it in its 4 KiB region: revision and abort
 * words where the manual puts them, then every existing field as one u64, so
 * that VM entries and exits move words without looking anything up. Knows
 * nothing of what the fields mean.
 *
 * SDM vol. 3C "Virtual-Machine Control Structures", "Format of the VMCS Region".
 */
#ifndef SILICON_X86_VMX_VMCS_H
#define SILICON_X86_VMX_VMCS_H

#include "silicon/vmx.h"

/* Index of each field in struct vmcs; order of spec/x86/vmcs.def. */
enum vmcs_slot {
#define VMCS(enc, name, width, type, needs) VS_##name,
#include "spec/x86/vmcs.def"
#undef VMCS
	VMCS_NR_SLOTS
};

#define VMCS_REVISION 0x00756b01u
#define VMCS_SHADOW (1u << 31)

/*
 * Launch states. A region that never saw VMCLEAR holds neither word, so that
 * both VMLAUNCH and VMRESUME of it fail.
 */
#define VMCS_CLEAR 0x524c4356u
#define VMCS_LAUNCHED 0x484e4356u

/* What was written since the last VM entry that checked it. */
#define VMCS_DIRTY_CTL 1u	/* control fields */
#define VMCS_DIRTY_HOST 2u	/* host-state area */
#define VMCS_DIRTY_GUEST 4u	/* guest registers, except those checked at every entry */
#define VMCS_DIRTY_ALL 7u

struct vmcs {
	u32 revision;		/* bit 31: shadow VMCS */
	u32 abort;		/* VMX-abort indicator */
	u32 launch;		/* VMCS_CLEAR, VMCS_LAUNCHED */
	u32 dirty;		/* VMCS_DIRTY_*; set as a whole by VMPTRLD */
	u64 checked_with;	/* controls that the last guest-state check depended on */
	u64 f[VMCS_NR_SLOTS];
};
_Static_assert(sizeof(struct vmcs) <= PAGE_SIZE, "the VMCS region is 4 KiB");

/* Field @name of VMCS @v, an lvalue. The caller stores no more bits than the field has. */
#define V(v, name) ((v)->f[VS_##name])

/* Segment fields by enum x86_seg. */
#define V_SEG(v, what, seg) ((v)->f[VS_GUEST_ES_##what + (seg)])

/* Field classes: encoding bits 11:10 and 14:13. */
enum vmcs_type { VMCS_TYPE_CTL, VMCS_TYPE_RO, VMCS_TYPE_GUEST, VMCS_TYPE_HOST };
enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NAT };

static inline enum vmcs_type vmcs_type(u32 enc)
{
	return (enum vmcs_type)(enc >> 10 & 3);
}

static inline enum vmcs_width vmcs_width(u32 enc)
{
	return (enum vmcs_width)(enc >> 13 & 3);
}

/* Does the field exist? */
bool vmcs_has(u32 enc);
/* Any field, high halves included. False: unsupported component (VMfail 12). */
bool vmcs_read(const struct vmcs *v, u32 enc, u64 *val);
bool vmcs_write(struct vmcs *v, u32 enc, u64 val);

#endif
