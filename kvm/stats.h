/* SPDX-License-Identifier: MIT */
/*
 * Counters of VMs and vCPUs: stats.def names them, KVM_GET_STATS_FD shows them.
 * A vCPU's counters are written by its thread alone, so an increment is one
 * plain relaxed add; VM counters are atomic.
 */
#ifndef KVM_STATS_H
#define KVM_STATS_H

#include "kvm/vcpu.h"

enum hv_vm_stat {
#define VM_STAT(name, kind) HV_VM_STAT_##name,
#include "kvm/stats.def"
	HV_NR_VM_STATS
};
enum hv_vcpu_stat {
#define VCPU_STAT(name, kind) HV_STAT_##name,
#include "kvm/stats.def"
	HV_NR_VCPU_STATS
};

struct hv_stats {
	int fd;			/* memfd behind the counters, -1 until somebody asks */
	bool of_vm;
	u32 data_offset;
	u8 *map;		/* private memory, or the memfd's first page */
	_Atomic u64 *count;	/* in @map */
	char id[48];
};

/* @vcpu: index, or -1 for a VM. Returns NULL when memory is short. */
struct hv_stats *hv_stats_new(int vcpu);
void hv_stats_free(struct hv_stats *s);
/* A new descriptor for reading header, names and live values; or -errno. */
int hv_stats_fd(struct hv_stats *s);

static inline void hv_stat_add(struct hv_vcpu *v, enum hv_vcpu_stat what, u64 n)
{
	_Atomic u64 *c = &v->stats->count[what];

	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void hv_stat_inc(struct hv_vcpu *v, enum hv_vcpu_stat what)
{
	hv_stat_add(v, what, 1);
}

static inline void hv_vm_stat_add(struct hv_vm *vm, enum hv_vm_stat what, s64 n)
{
	atomic_fetch_add_explicit(&vm->stats->count[what], (u64)n, memory_order_relaxed);
}

#endif
