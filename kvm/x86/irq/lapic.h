/* SPDX-License-Identifier: MIT */
/*
 * The local APIC, for the files of this folder.
 *
 * Registers live in one page in xAPIC layout. Except for IRR and TMR, only the
 * vCPU's thread (or who holds vcpu->mutex) writes them; others read them, so
 * every access is atomic. Other threads deliver by setting a bit in IRR or
 * @events and then HV_REQ_EVENT, followed by a kick; no lock is involved.
 */
#ifndef KVM_X86_IRQ_LAPIC_H
#define KVM_X86_IRQ_LAPIC_H

#include "base/bits.h"
#include "base/epoch.h"
#include "kvm/x86/irq/irq.h"

enum lapic_reg {
#define LAPIC_REG(off, n, name, x, x2, keep, ignore) APIC_##name = (off),
#include "kvm/x86/irq/lapic_reg.def"
#undef LAPIC_REG
};

#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)
#define APIC_BASE_DEFAULT 0xfee00000u

#define APIC_SVR_ENABLE (1u << 8)
#define APIC_SVR_NO_EOI_BROADCAST (1u << 12)
#define APIC_VERSION_NO_EOI_BROADCAST (1u << 24)
#define APIC_LVT_MASKED (1u << 16)
#define APIC_LVT_REMOTE_IRR (1u << 14)
#define APIC_LVT_LEVEL (1u << 15)
#define APIC_ESR_SEND_ILLEGAL 0x20u
#define APIC_ESR_RECV_ILLEGAL 0x40u
#define APIC_ESR_ILLEGAL_REG 0x80u

enum apic_mode { APIC_DISABLED, APIC_X, APIC_X2, APIC_INVALID };

enum apic_delivery {
	APIC_DM_FIXED, APIC_DM_LOWEST, APIC_DM_SMI, APIC_DM_RESERVED3,
	APIC_DM_NMI, APIC_DM_INIT, APIC_DM_SIPI, APIC_DM_EXTINT,
};

enum apic_shorthand { APIC_NO_SHORTHAND, APIC_SELF, APIC_ALL, APIC_OTHERS };

enum apic_timer_mode { APIC_ONESHOT, APIC_PERIODIC, APIC_DEADLINE, APIC_TIMER_RESERVED };

/* An interrupt message on its way. */
struct apic_msg {
	u32 dest;
	bool logical;
	bool level, assert;
	u8 mode;		/* enum apic_delivery */
	u8 shorthand;		/* IPIs only */
	u8 vector;
	bool msi_redir;		/* MSI redirection hint: lowest priority among the destinations */
};

struct hv_lapic {
	u8 *page;
	struct hv_vcpu *v;
	_Atomic u64 base;	/* IA32_APIC_BASE */
	struct hv_lapic_cpuid cpuid;
	_Atomic u32 events;	/* enum hv_lapic_event */
	_Atomic u8 sipi_vector;
	_Atomic u32 esr;	/* errors since the last write of ESR */
	_Atomic int extint;	/* split: vector of KVM_INTERRUPT, or -1 */
	_Atomic bool extint_msg;	/* an ExtINT message came: the PIC has a vector */
	u8 eoi_exit;

	/* lapic_timer.c */
	bool counting;		/* one-shot or periodic */
	u64 deadline;		/* TSC_DEADLINE MSR, 0 = disarmed */
	u64 expires;		/* host ns: end of the present count, or the deadline */

	u64 synic_used[4], synic_self_ending[4];	/* hv_lapic_set_synic() */

	/* pv_eoi.c */
	u64 pv_eoi;		/* MSR */
	bool pv_eoi_offered;	/* the flag in guest memory was set by us */
};

/*
 * Who answers to which address, as of the last change of any ID, LDR, DFR,
 * mode or enable bit. Immutable; replaced under irq_lock, read in an epoch section.
 */
struct hv_apic_map {
	struct epoch_node epoch;
	unsigned nr;		/* vCPUs considered: index < nr */
	bool phys_aliased;	/* two APICs have one ID: ask each */
	bool logical_mixed;	/* modes differ or logical addresses overlap: ask each */
	bool x2apic;		/* mode of all enabled APICs */
	bool cluster;		/* xAPIC: DFR model of all */
	struct hv_vcpu *logical[16][16];	/* [cluster][bit]; flat: [0][0..7] */
	u32 max_id;
	struct hv_vcpu *phys[];	/* by present ID, 0..max_id */
};

/* Delivery mode as trace points name it. */
const char *apic_delivery_name(unsigned mode);

static inline u32 lapic_get(const struct hv_lapic *l, unsigned off)
{
	return __atomic_load_n((const u32 *)(l->page + off), __ATOMIC_RELAXED);
}

static inline void lapic_put(struct hv_lapic *l, unsigned off, u32 val)
{
	__atomic_store_n((u32 *)(l->page + off), val, __ATOMIC_RELAXED);
}

/* Bit @vector of the 256-bit register at @off; the previous value. */
static inline bool lapic_vec_set(struct hv_lapic *l, unsigned off, u8 vector)
{
	u32 bit = 1u << (vector & 31);

	return __atomic_fetch_or((u32 *)(l->page + off + (vector >> 5) * 16), bit,
				 __ATOMIC_SEQ_CST) &
	       bit;
}

static inline bool lapic_vec_clear(struct hv_lapic *l, unsigned off, u8 vector)
{
	u32 bit = 1u << (vector & 31);

	return __atomic_fetch_and((u32 *)(l->page + off + (vector >> 5) * 16), ~bit,
				  __ATOMIC_SEQ_CST) &
	       bit;
}

static inline bool lapic_vec_test(const struct hv_lapic *l, unsigned off, u8 vector)
{
	return lapic_get(l, off + (vector >> 5) * 16) >> (vector & 31) & 1;
}

/* Highest bit of the 256-bit register at @off, or -1. */
static inline int lapic_vec_highest(const struct hv_lapic *l, unsigned off)
{
	for (int i = 7; i >= 0; i--) {
		u32 w = lapic_get(l, off + i * 16);

		if (w)
			return i * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

static inline enum apic_mode apic_base_mode(u64 base)
{
	switch (base & (APIC_BASE_EN | APIC_BASE_EXTD)) {
	case 0:
		return APIC_DISABLED;
	case APIC_BASE_EN:
		return APIC_X;
	case APIC_BASE_EN | APIC_BASE_EXTD:
		return APIC_X2;
	default:
		return APIC_INVALID;
	}
}

static inline enum apic_mode lapic_mode(const struct hv_lapic *l)
{
	return apic_base_mode(atomic_load(&l->base));
}

static inline bool lapic_sw_enabled(const struct hv_lapic *l)
{
	return lapic_get(l, APIC_SVR) & APIC_SVR_ENABLE;
}

/* lapic.c */
u32 lapic_ppr(struct hv_lapic *l);
void lapic_guest_eoi(struct hv_lapic *l);
/* Clears ISR and tells the IOAPIC. */
void lapic_finish_vector(struct hv_lapic *l, u8 vector);
/* A vector arrives; any thread. False if it was illegal. */
bool lapic_accept(struct hv_lapic *l, u8 vector, bool level);
/* One message arrives at this APIC; any thread. True if it took it. */
bool lapic_deliver(struct hv_lapic *l, const struct apic_msg *m);
/* An LVT's event: the timer, an error. True if it was not masked. */
bool lapic_lvt_fire(struct hv_lapic *l, unsigned lvt);
void lapic_error(struct hv_lapic *l, u32 esr);
/* A line of the PIC: wake those who let it through. */
void lapic_pic_changed(struct hv_vm *vm);

/* lapic_reg.c: 0, or 1 for an access that x2APIC mode answers with #GP. */
int lapic_read_reg(struct hv_lapic *l, unsigned off, u64 *val);
int lapic_write_reg(struct hv_lapic *l, unsigned off, u64 val);
u32 lapic_x2_ldr(u32 id);

/* lapic_ipi.c: a write of ICR */
void lapic_send_ipi(struct hv_lapic *l, u32 icr, u32 dest);

/* lapic_timer.c */
void lapic_timer_reset(struct hv_lapic *l);
void lapic_timer_set_icr(struct hv_lapic *l, u32 val);
void lapic_timer_set_divide(struct hv_lapic *l, u32 val);
void lapic_timer_set_lvt(struct hv_lapic *l, u32 val);
u32 lapic_timer_count(struct hv_lapic *l);
/* Continue a count as KVM_SET_LAPIC found it. */
void lapic_timer_restore(struct hv_lapic *l);

/* apic_map.c */
#define APIC_SET_WORDS ((HV_MAX_VCPUS + 63) / 64)
struct apic_set {
	u64 w[APIC_SET_WORDS];
};
/* Does APIC @l answer to @m? @ipi: the message comes from an APIC. The definition of addressing. */
bool apic_matches(struct hv_lapic *l, const struct apic_msg *m, struct hv_vcpu *source);
/* All vCPUs that @m goes to. */
void apic_destinations(struct hv_vm *vm, const struct apic_msg *m, struct hv_vcpu *source,
		       struct apic_set *set);
/*
 * Deliver to all, or for lowest priority to one, of the destinations.
 * Returns how many took it; -1 if nobody was addressed. @taken: optional, who.
 */
int apic_send(struct hv_vm *vm, const struct apic_msg *m, struct hv_vcpu *source,
	      struct apic_set *taken);

/* pv_eoi.c */
/* Take the guest's clearing of the flag as the EOI that it stands for. */
void lapic_pv_eoi_sync(struct hv_lapic *l);
void lapic_pv_eoi_reset(struct hv_lapic *l);

#endif
