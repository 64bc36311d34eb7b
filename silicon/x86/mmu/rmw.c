// SPDX-License-Identifier: MIT
/*
 * Read-modify-write that is not one host access on one page of plain memory.
 * The translation made by x86_rmw_slow() is kept until the operation ends, so
 * its second half cannot fault.
 *
 * Locked operations across a page ("split locks" with a bus lock on hardware)
 * exclude each other by one process-wide lock. Against locked operations that
 * fit a page they are as atomic as their two halves.
 */
#include <pthread.h>

#include "silicon/x86/mmu/phys.h"
#include "silicon/x86/mmu/access.h"
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/sys/sys.h"

static pthread_mutex_t split_lock = PTHREAD_MUTEX_INITIALIZER;

static void read_halves(struct x86_cpu *cpu, const struct x86_span *s, void *buf)
{
	x86_xlat_read(cpu, &s->x[0], buf, s->len[0]);
	if (s->len[1])
		x86_xlat_read(cpu, &s->x[1], (u8 *)buf + s->len[0], s->len[1]);
}

static void write_halves(struct x86_cpu *cpu, const struct x86_span *s, const void *buf)
{
	x86_xlat_write(cpu, &s->x[0], buf, s->len[0]);
	if (s->len[1])
		x86_xlat_write(cpu, &s->x[1], (const u8 *)buf + s->len[0], s->len[1]);
}

static void span_of(struct x86_cpu *cpu, const struct x86_rmw *m, struct x86_span *s)
{
	u64 room = PAGE_SIZE - (m->lin & ~PAGE_MASK);

	s->x[0] = cpu->mmu->rmw[0];
	s->x[1] = cpu->mmu->rmw[1];
	s->len[0] = (unsigned)min((u64)m->size, room);
	s->len[1] = m->size - s->len[0];
}

void x86_rmw_slow(struct x86_cpu *cpu, struct x86_rmw *m)
{
	struct x86_span s;

	x86_check_linear(cpu, m->seg, m->lin, m->size);
	x86_check_align(cpu, m->lin, m->size);
	x86_span_translate(cpu, &s, m->lin, m->size, X86_ACC_R | X86_ACC_W, x86_data_idx(cpu), cpu->lin_mask);
	cpu->mmu->rmw[0] = s.x[0];
	cpu->mmu->rmw[1] = s.x[1];
	m->old = 0;
	read_halves(cpu, &s, &m->old);
	if (unlikely(cpu->dr7 & 0xff))
		x86_check_watchpoint(cpu, m->lin, m->size, true);
}

void x86_rmw_write_slow(struct x86_cpu *cpu, struct x86_rmw *m, u64 val)
{
	struct x86_span s;

	span_of(cpu, m, &s);
	write_halves(cpu, &s, &val);
}

/* A host fault inside the lock would leave it held: touch both halves for writing before. */
static void touch(const struct x86_span *s)
{
	for (unsigned i = 0; i < 2; i++)
		__atomic_fetch_or((u8 *)s->x[i].pa, 0, __ATOMIC_RELAXED);
}

static bool split_cmpxchg(struct x86_cpu *cpu, const struct x86_span *s, u64 *old, u64 val, unsigned size)
{
	u64 found = 0;
	bool same;

	if (!cpu->bus && !s->x[0].apic && !s->x[1].apic) {
		touch(s);
		pthread_mutex_lock(&split_lock);
		read_halves(cpu, s, &found);
		same = !memcmp(&found, old, size);
		if (same)
			write_halves(cpu, s, &val);
		pthread_mutex_unlock(&split_lock);
	} else {
		read_halves(cpu, s, &found);
		same = !memcmp(&found, old, size);
		if (same)
			write_halves(cpu, s, &val);
	}
	*old = found;
	return same;
}

static bool span_cmpxchg(struct x86_cpu *cpu, const struct x86_span *s, u64 *old, u64 val, unsigned size)
{
	/* The APIC-access page has one owner, its processor: no lock is needed. */
	if (s->len[1] || s->x[0].apic) {
		x86_dry_refuse(cpu);
		return split_cmpxchg(cpu, s, old, val, size);
	}
	return x86_xlat_cmpxchg(cpu, &s->x[0], old, &val, size);
}

bool x86_rmw_cmpxchg(struct x86_cpu *cpu, struct x86_rmw *m, u64 val)
{
	struct x86_span s;

	if (likely(m->p)) {
		u64 old[2] = { m->old, 0 }, new[2] = { val, 0 };
		bool done = x86_mem_cmpxchg(m->p, old, new, m->size);

		m->old = old[0];
		return done;
	}
	span_of(cpu, m, &s);
	return span_cmpxchg(cpu, &s, &m->old, val, m->size);
}

bool x86_sys_cmpxchg(struct x86_cpu *cpu, u64 lin, u64 *old, u64 val, unsigned size)
{
	struct x86_span s;

	x86_check_linear(cpu, X86_DS, lin, size);
	x86_span_translate(cpu, &s, lin, size, X86_ACC_R | X86_ACC_W, X86_MMU_KERNEL,
			   x86_lma(cpu) ? ~0ull : 0xffffffff);
	return span_cmpxchg(cpu, &s, old, val, size);
}

bool x86_cmpxchg16(struct x86_cpu *cpu, unsigned seg, u64 lin, u64 old[2], const u64 val[2])
{
	struct x86_xlat x;
	bool done;

	x86_check_linear(cpu, seg, lin, 16);
	x86_xlat(cpu, lin, X86_ACC_R | X86_ACC_W, x86_data_idx(cpu), &x);
	if (x.apic) {
		/* More than 4 bytes: this exits. */
		x86_xlat_read(cpu, &x, old, 16);
		return false;
	}
	done = x86_xlat_cmpxchg(cpu, &x, old, val, 16);
	if (unlikely(cpu->dr7 & 0xff))
		x86_check_watchpoint(cpu, lin, 16, true);
	return done;
}
