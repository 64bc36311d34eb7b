// SPDX-License-Identifier: MIT
/* TSC and kvmclock: see clock.h for the model. */
#include "kvm/x86/clock.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "kvm/host_time.h"
#include "kvm/mem.h"
#include "kvm/x86/hyperv/hyperv.h"
#include "kvm/x86/irq/irq.h"

#define PVCLOCK_TSC_STABLE 1
#define PVCLOCK_GUEST_STOPPED 2

/* KVM ABI: what MSR_KVM_SYSTEM_TIME points to. */
struct pvclock_page {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags, pad[2];
};
_Static_assert(sizeof(struct pvclock_page) == 32, "pvclock_vcpu_time_info");

struct pvclock_wall {
	u32 version, sec, nsec;
};

/* Ticks to nanoseconds as a guest computes them: (ticks << shift) * mul >> 32. */
struct rate {
	u32 mul;
	int shift;
};

struct hv_vm_clock {
	pthread_mutex_t lock;
	u32 host_khz;
	struct rate rate;	/* of the host's TSC */
	/* The line of kvmclock. */
	u64 base_tsc, base_ns;
	u64 wall_msr;
	/* The last TSC that a host wrote, for others to join. */
	bool written;
	u64 write_offset, write_mult;
	_Atomic bool stable;	/* all vCPUs have one offset and multiplier */
};

struct hv_vcpu_clock {
	/* Written under the VM clock's lock by who holds vcpu->mutex; read by others under it. */
	u64 offset, mult;
	u32 khz;		/* as asked for */
	u64 adjust;		/* IA32_TSC_ADJUST */
	u64 msr;		/* system time */
	bool stopped;		/* to be reported as PVCLOCK_GUEST_STOPPED */
};

/* mul in 2^31..2^32-1: as precise as the format allows. */
static struct rate rate_of(u64 hz)
{
	u128 num = (u128)NSEC_PER_SEC << 32;
	struct rate r = { .shift = 0 };

	while (num / hz > UINT32_MAX) {
		num >>= 1;
		r.shift++;
	}
	while (num / hz < BIT(31)) {
		num <<= 1;
		r.shift--;
	}
	r.mul = num / hz;
	return r;
}

static u64 to_ns(struct rate r, u64 ticks)
{
	ticks = r.shift < 0 ? ticks >> -r.shift : ticks << r.shift;
	return (u128)ticks * r.mul >> 32;
}

static u64 scale(u64 tsc, u64 mult)
{
	return mult == HV_TSC_UNITY ? tsc : (u64)((u128)tsc * mult >> HV_TSC_FRAC_BITS);
}

static u64 guest_tsc_at(const struct hv_vcpu_clock *c, u64 host)
{
	return scale(host, c->mult) + c->offset;
}

/* The frequency that the guest's TSC has: what was asked for may be rounded to the host's. */
static u64 guest_hz(const struct hv_vcpu *v)
{
	const struct hv_vcpu_clock *c = v->clock;

	return (c->mult == HV_TSC_UNITY ? v->vm->clock->host_khz : c->khz) * 1000ull;
}

/* A host TSC value and the wall-clock time of the same moment, as close as it gets. */
static void host_pair(u64 *tsc, u64 *real_ns)
{
	u64 best = 0;

	for (int i = 0; i < 5; i++) {
		u64 t0 = hv_host_tsc(), ns = hv_host_realtime_ns(), t1 = hv_host_tsc();

		if (i && t1 - t0 >= best)
			continue;
		best = t1 - t0;
		*tsc = t0 + best / 2;
		*real_ns = ns;
	}
}

static u64 kvmclock_at(const struct hv_vm_clock *vc, u64 tsc)
{
	return vc->base_ns + to_ns(vc->rate, tsc - vc->base_tsc);
}

/* ---- Life ---- */

int hv_clock_vm_new(struct hv_vm *vm)
{
	struct hv_vm_clock *vc = calloc(1, sizeof(*vc));

	if (!vc)
		return -ENOMEM;
	pthread_mutex_init(&vc->lock, NULL);
	vc->host_khz = vm->default_tsc_khz = x86_tsc_khz();
	vc->rate = rate_of(vc->host_khz * 1000ull);
	vc->base_tsc = hv_host_tsc();
	atomic_init(&vc->stable, true);
	vm->clock = vc;
	return 0;
}

void hv_clock_vm_free(struct hv_vm *vm)
{
	if (!vm->clock)
		return;
	pthread_mutex_destroy(&vm->clock->lock);
	free(vm->clock);
	vm->clock = NULL;
}

/* ---- TSC ---- */

/*
 * The offset of @v has changed: is there still one TSC in the VM? Lock held;
 * true if the answer is a new one, which all clock pages must tell.
 */
static bool judge_stability(struct hv_vcpu *v)
{
	struct hv_vm_clock *vc = v->vm->clock;
	bool stable = true;
	struct hv_vcpu *o;
	unsigned i;

	hv_for_each_vcpu(i, o, v->vm) {
		if (o->clock->offset != v->clock->offset || o->clock->mult != v->clock->mult)
			stable = false;
	}
	return atomic_exchange(&vc->stable, stable) != stable;
}

/* Lock held; drops it. */
static void set_offset(struct hv_vcpu *v, u64 offset)
{
	bool all;

	v->clock->offset = offset;
	all = judge_stability(v);
	pthread_mutex_unlock(&v->vm->clock->lock);
	hv_set_request(v, HV_REQ_CLOCK_UPDATE);
	hv_lapic_tsc_changed(v);
	if (all)
		hv_request_all(v->vm, HV_REQ_CLOCK_UPDATE, false);
}

/*
 * A host gives @v's TSC the value @val. Hosts write vCPUs one after the other
 * and mean one moment: what is within a second of the last write's TSC, or 0 as
 * at creation, is taken for the same. Lock held; drops it.
 */
static void synchronize(struct hv_vcpu *v, u64 val)
{
	struct hv_vm_clock *vc = v->vm->clock;
	u64 scaled = scale(hv_host_tsc(), v->clock->mult), offset = val - scaled;
	u64 second = guest_hz(v);

	if (vc->written && vc->write_mult == v->clock->mult) {
		u64 ahead = val - (scaled + vc->write_offset);

		if (!val || ahead + second < 2 * second)
			offset = vc->write_offset;
	}
	vc->written = true;
	vc->write_offset = offset;
	vc->write_mult = v->clock->mult;
	set_offset(v, offset);
}

static int set_mult(struct hv_vcpu *v, u32 khz)
{
	u32 host = v->vm->clock->host_khz;
	u128 mult = ((u128)khz << HV_TSC_FRAC_BITS) / host;
	u64 off = khz > host ? khz - host : host - khz;

	if (!mult || mult > UINT64_MAX)
		return -EINVAL;
	v->clock->khz = khz;
	/* Within 250 ppm the host's own rate will do, as in KVM. */
	v->clock->mult = off * 1000000 <= host * 250ull ? HV_TSC_UNITY : (u64)mult;
	return 0;
}

int hv_clock_vcpu_new(struct hv_vcpu *v)
{
	v->clock = calloc(1, sizeof(*v->clock));
	if (!v->clock)
		return -ENOMEM;
	pthread_mutex_lock(&v->vm->clock->lock);
	BUG_ON(set_mult(v, v->vm->default_tsc_khz));
	synchronize(v, 0);
	return 0;
}

void hv_clock_vcpu_free(struct hv_vcpu *v)
{
	free(v->clock);
	v->clock = NULL;
}

u64 hv_tsc_offset(struct hv_vcpu *v)
{
	return v->clock->offset;
}

u64 hv_tsc_multiplier(struct hv_vcpu *v)
{
	return v->clock->mult;
}

u64 hv_guest_tsc(struct hv_vcpu *v)
{
	return guest_tsc_at(v->clock, hv_host_tsc());
}

u64 hv_guest_tsc_khz(struct hv_vcpu *v)
{
	return v->clock->khz;
}

void hv_tsc_write(struct hv_vcpu *v, u64 val, bool host)
{
	u64 offset;

	pthread_mutex_lock(&v->vm->clock->lock);
	if (host) {
		synchronize(v, val);
		return;
	}
	offset = val - scale(hv_host_tsc(), v->clock->mult);
	v->clock->adjust += offset - v->clock->offset;
	set_offset(v, offset);
}

u64 hv_tsc_adjust(struct hv_vcpu *v)
{
	return v->clock->adjust;
}

void hv_tsc_adjust_write(struct hv_vcpu *v, u64 val, bool host)
{
	u64 delta = val - v->clock->adjust;

	v->clock->adjust = val;
	if (host)
		return;
	pthread_mutex_lock(&v->vm->clock->lock);
	set_offset(v, v->clock->offset + delta);
}

int hv_tsc_set_khz(struct hv_vcpu *v, u32 khz)
{
	u64 now;
	int err;

	pthread_mutex_lock(&v->vm->clock->lock);
	now = hv_guest_tsc(v);
	err = set_mult(v, khz ? khz : v->vm->clock->host_khz);
	if (err)
		pthread_mutex_unlock(&v->vm->clock->lock);
	else
		synchronize(v, now);
	return err;
}

int hv_vm_tsc_set_khz(struct hv_vm *vm, u32 khz)
{
	vm->default_tsc_khz = khz ? khz : vm->clock->host_khz;
	return 0;
}

u64 hv_tsc_attr_get(struct hv_vcpu *v)
{
	return v->clock->offset;
}

void hv_tsc_attr_set(struct hv_vcpu *v, u64 offset)
{
	struct hv_vm_clock *vc = v->vm->clock;

	pthread_mutex_lock(&vc->lock);
	vc->written = true;
	vc->write_offset = offset;
	vc->write_mult = v->clock->mult;
	set_offset(v, offset);
}

u64 hv_tsc_to_host_ns(struct hv_vcpu *v, u64 tsc)
{
	u64 now = hv_host_ns(), cur = hv_guest_tsc(v), hz = guest_hz(v);
	u128 ns;

	if (tsc <= cur)
		return now;
	ns = ((u128)(tsc - cur) * NSEC_PER_SEC + hz - 1) / hz;
	/* Centuries ahead: never. */
	return ns > INT64_MAX ? INT64_MAX : now + (u64)ns;
}

/* ---- kvmclock ---- */

u64 hv_kvmclock_ns(struct hv_vm *vm)
{
	u64 ns;

	pthread_mutex_lock(&vm->clock->lock);
	ns = kvmclock_at(vm->clock, hv_host_tsc());
	pthread_mutex_unlock(&vm->clock->lock);
	return ns;
}

bool hv_clock_line(struct hv_vcpu *v, struct hv_clock_line *line)
{
	struct hv_vm_clock *vc = v->vm->clock;
	struct hv_vcpu_clock *c = v->clock;
	struct rate r;

	pthread_mutex_lock(&vc->lock);
	r = c->mult == HV_TSC_UNITY ? vc->rate : rate_of(guest_hz(v));
	*line = (struct hv_clock_line){
		.tsc = guest_tsc_at(c, vc->base_tsc), .system_time = vc->base_ns,
		.mul = r.mul, .shift = r.shift,
	};
	pthread_mutex_unlock(&vc->lock);
	return atomic_load(&vc->stable);
}

void hv_clock_update(struct hv_vcpu *v)
{
	struct hv_vcpu_clock *c = v->clock;
	u64 gpa = c->msr & ~1ull;
	struct pvclock_page page;
	struct hv_clock_line line;
	u32 version;
	bool stable;

	if (!(c->msr & KVM_MSR_ENABLED) || hv_read_guest(v->vm, 0, gpa, &page, sizeof(page)))
		return;
	/* Readers start again if the version is odd, or another one after they have read. */
	version = (page.version + 1) | 1;
	if (hv_write_guest(v->vm, 0, gpa, &version, sizeof(version)))
		return;

	stable = hv_clock_line(v, &line);
	page = (struct pvclock_page){
		.version = version,
		.tsc_timestamp = line.tsc,
		.system_time = line.system_time,
		.tsc_to_system_mul = line.mul,
		.tsc_shift = (s8)line.shift,
		/* The guest takes the stopped flag away itself. */
		.flags = (stable ? PVCLOCK_TSC_STABLE : 0) |
			 (page.flags & PVCLOCK_GUEST_STOPPED) |
			 (c->stopped ? PVCLOCK_GUEST_STOPPED : 0),
	};
	c->stopped = false;

	hv_write_guest(v->vm, 0, gpa, &page, sizeof(page));
	version++;
	hv_write_guest(v->vm, 0, gpa, &version, sizeof(version));
}

/* Wall-clock time at which kvmclock was 0. */
static void write_wall_clock(struct hv_vm *vm, u64 gpa)
{
	struct pvclock_wall w;
	u64 tsc, real;

	if (!gpa || hv_read_guest(vm, 0, gpa, &w.version, sizeof(w.version)))
		return;
	w.version = (w.version + 1) | 1;
	if (hv_write_guest(vm, 0, gpa, &w.version, sizeof(w.version)))
		return;
	host_pair(&tsc, &real);
	pthread_mutex_lock(&vm->clock->lock);
	real -= kvmclock_at(vm->clock, tsc);
	pthread_mutex_unlock(&vm->clock->lock);
	w.sec = real / NSEC_PER_SEC;
	w.nsec = real % NSEC_PER_SEC;
	hv_write_guest(vm, 0, gpa, &w, sizeof(w));
	w.version++;
	hv_write_guest(vm, 0, gpa, &w.version, sizeof(w.version));
}

int hv_clock_rdmsr(struct hv_vcpu *v, u32 msr, u64 *val)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		pthread_mutex_lock(&v->vm->clock->lock);
		*val = v->vm->clock->wall_msr;
		pthread_mutex_unlock(&v->vm->clock->lock);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*val = v->clock->msr;
		return 0;
	}
	BUG();
}

int hv_clock_wrmsr(struct hv_vcpu *v, u32 msr, u64 val)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		pthread_mutex_lock(&v->vm->clock->lock);
		v->vm->clock->wall_msr = val;
		pthread_mutex_unlock(&v->vm->clock->lock);
		write_wall_clock(v->vm, val);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		v->clock->msr = val;
		hv_set_request(v, HV_REQ_CLOCK_UPDATE);
		return 0;
	}
	BUG();
}

void hv_clock_get(struct hv_vm *vm, struct kvm_clock_data *c)
{
	u64 tsc, real;

	*c = (struct kvm_clock_data){ .flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC };
	host_pair(&tsc, &real);
	pthread_mutex_lock(&vm->clock->lock);
	c->clock = kvmclock_at(vm->clock, tsc);
	pthread_mutex_unlock(&vm->clock->lock);
	c->host_tsc = tsc;
	c->realtime = real;
	if (atomic_load(&vm->clock->stable))
		c->flags |= KVM_CLOCK_TSC_STABLE;
}

int hv_clock_set(struct hv_vm *vm, const struct kvm_clock_data *c)
{
	u64 tsc, real, ns = c->clock;

	if (c->flags & ~(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	host_pair(&tsc, &real);
	/* The clock went on while the VM travelled. */
	if ((c->flags & KVM_CLOCK_REALTIME) && real > c->realtime)
		ns += real - c->realtime;
	pthread_mutex_lock(&vm->clock->lock);
	vm->clock->base_tsc = tsc;
	vm->clock->base_ns = ns;
	pthread_mutex_unlock(&vm->clock->lock);
	hyperv_clock_moved(vm);
	hv_request_all(vm, HV_REQ_CLOCK_UPDATE, false);
	return 0;
}

int hv_kvmclock_ctrl(struct hv_vcpu *v)
{
	if (!(v->clock->msr & KVM_MSR_ENABLED))
		return -EINVAL;
	v->clock->stopped = true;
	hv_set_request(v, HV_REQ_CLOCK_UPDATE);
	return 0;
}

void hv_clock_pair(struct hv_vcpu *v, u64 *tsc, s64 *sec, s64 *nsec)
{
	u64 host, real;

	host_pair(&host, &real);
	*tsc = guest_tsc_at(v->clock, host);
	*sec = (s64)(real / NSEC_PER_SEC);
	*nsec = (s64)(real % NSEC_PER_SEC);
}
