// SPDX-License-Identifier: MIT
/*
 * Physical accesses: memory of this process, or the bus of an emulating
 * processor; and the two ways in which they fail. Guest memory is shared with
 * other threads, so every access is a relaxed atomic of its size at least.
 */
#include "silicon/x86/mmu/phys.h"

#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/mmu/dry.h"
#include "silicon/x86/vmx/intercept.h"

_Noreturn void x86_bus_error(struct x86_cpu *cpu, u64 pa)
{
	cpu->fault.payload = pa;
	x86_unwind(cpu, X86_UNWIND_BUS_ERROR);
}

_Noreturn void x86_bus_declined(struct x86_cpu *cpu, enum x86_bus_result r)
{
	x86_unwind(cpu, r == X86_BUS_RETRY ? X86_UNWIND_BUS_RETRY : X86_UNWIND_BUS_FAIL);
}

/* The bus takes up to 64 bytes at a time. */
#define BUS_MAX 64u

static void bus_read(struct x86_cpu *cpu, u64 pa, void *buf, unsigned len)
{
	for (unsigned n; len; pa += n, buf = (u8 *)buf + n, len -= n) {
		enum x86_bus_result r;

		n = min(len, BUS_MAX);
		r = cpu->bus->read(cpu->bus_ctx, pa, buf, n);
		if (r != X86_BUS_OK)
			x86_bus_declined(cpu, r);
	}
}

static void bus_write(struct x86_cpu *cpu, u64 pa, const void *buf, unsigned len)
{
	for (unsigned n; len; pa += n, buf = (const u8 *)buf + n, len -= n) {
		enum x86_bus_result r;

		n = min(len, BUS_MAX);
		r = cpu->bus->write(cpu->bus_ctx, pa, buf, n);
		if (r != X86_BUS_OK)
			x86_bus_declined(cpu, r);
	}
}

/* Paging-structure entries: naturally aligned. */

u32 x86_entry_load32(struct x86_cpu *cpu, u64 pa)
{
	u32 v;

	if (cpu->bus) {
		bus_read(cpu, pa, &v, sizeof(v));
		return v;
	}
	if (x86_no_memory(pa))
		x86_bus_error(cpu, pa);
	return __atomic_load_n((u32 *)pa, __ATOMIC_ACQUIRE);
}

u64 x86_entry_load64(struct x86_cpu *cpu, u64 pa)
{
	u64 v;

	if (cpu->bus) {
		bus_read(cpu, pa, &v, sizeof(v));
		return v;
	}
	if (x86_no_memory(pa))
		x86_bus_error(cpu, pa);
	return __atomic_load_n((u64 *)pa, __ATOMIC_ACQUIRE);
}

bool x86_entry_cmpxchg(struct x86_cpu *cpu, u64 pa, u64 old, u64 val, unsigned size)
{
	if (cpu->bus) {
		u64 o = old;
		enum x86_bus_result r = cpu->bus->cmpxchg(cpu->bus_ctx, pa, &o, &val, size);

		if (r != X86_BUS_OK)
			x86_bus_declined(cpu, r);
		return o == old;
	}
	if (size == 4) {
		u32 o = (u32)old;

		return __atomic_compare_exchange_n((u32 *)pa, &o, (u32)val, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_SEQ_CST);
	}
	return __atomic_compare_exchange_n((u64 *)pa, &old, val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* ---- Data ---- */

typedef u64 vec16 __attribute__((vector_size(16), may_alias));

#ifdef __SANITIZE_THREAD__
#define WIDE_ACCESS 0	/* the sanitizer takes a vector access for a plain one */
#else
#define WIDE_ACCESS 1
#endif

void x86_mem_copy(void *dst, const void *src, size_t len)
{
	u8 *d = dst;
	const u8 *s = src;

	if (WIDE_ACCESS && len == 16 && !(((u64)d | (u64)s) & 15)) {
		*(volatile vec16 *)d = *(const volatile vec16 *)s;
		return;
	}
#define STEP(type, n) \
	(__atomic_store_n((type *)d, __atomic_load_n((const type *)s, __ATOMIC_RELAXED), __ATOMIC_RELAXED), \
	 d += (n), s += (n), len -= (n))

	while (len >= 8)
		STEP(x86_mem_u64, 8);
	if (len >= 4)
		STEP(x86_mem_u32, 4);
	if (len >= 2)
		STEP(x86_mem_u16, 2);
	if (len)
		STEP(u8, 1);
#undef STEP
}

void x86_xlat_read(struct x86_cpu *cpu, const struct x86_xlat *x, void *buf, unsigned len)
{
	u64 v = 0;

	if (cpu->bus) {
		bus_read(cpu, x->pa, buf, len);
		return;
	}
	if (unlikely(cpu->dry)) {
		if (x->apic)
			x86_dry_give_up(cpu);
		x86_dry_read(cpu, x->pa, buf, len);
		return;
	}
	if (x->apic && x86_vmx_apic_access(cpu, x->pa, len, false, false, &v)) {
		memcpy(buf, &v, min(len, 8u));
		return;
	}
	x86_mem_copy(buf, (const void *)x->pa, len);
}

void x86_xlat_write(struct x86_cpu *cpu, const struct x86_xlat *x, const void *buf, unsigned len)
{
	u64 v = 0;

	if (cpu->bus) {
		bus_write(cpu, x->pa, buf, len);
		return;
	}
	if (unlikely(cpu->dry)) {
		if (x->apic || x86_codepage_test(x->pa))
			x86_dry_give_up(cpu);
		x86_dry_write(cpu, x->pa, buf, len);
		return;
	}
	if (x->apic) {
		memcpy(&v, buf, min(len, 8u));
		if (x86_vmx_apic_access(cpu, x->pa, len, true, false, &v))
			return;
	}
	x86_mem_copy((void *)x->pa, buf, len);
	if (x86_codepage_test(x->pa))
		x86_codepage_store(cpu, x->pa, len);
}

bool x86_xlat_cmpxchg(struct x86_cpu *cpu, const struct x86_xlat *x, void *old, const void *val, unsigned len)
{
	u64 pa = x->pa, o[2] = { 0 }, n[2] = { 0 };
	bool done;

	memcpy(o, old, len);
	memcpy(n, val, len);
	if (unlikely(cpu->dry)) {
		u64 found[2] = { 0 };

		x86_xlat_read(cpu, x, found, len);
		done = !memcmp(found, o, len);
		if (done)
			x86_xlat_write(cpu, x, val, len);
		memcpy(old, found, len);
		return done;
	}
	if (cpu->bus) {
		u64 found[2] = { o[0], o[1] };
		enum x86_bus_result r = cpu->bus->cmpxchg(cpu->bus_ctx, pa, found, n, len);

		if (r != X86_BUS_OK)
			x86_bus_declined(cpu, r);
		done = !memcmp(found, o, len);
		memcpy(old, found, len);
		return done;
	}
	done = x86_mem_cmpxchg((void *)pa, o, n, len);
	memcpy(old, o, len);
	if (done && x86_codepage_test(pa))
		x86_codepage_store(cpu, pa, len);
	return done;
}

bool x86_mem_cmpxchg(void *p, u64 old[2], const u64 val[2], unsigned len)
{
	bool done;
	u8 b;
	u16 w;
	u32 d;

#define CX(type, var) \
	(var = (type)old[0], \
	 done = __atomic_compare_exchange_n((type *)p, &var, (type)val[0], false, __ATOMIC_SEQ_CST, \
					    __ATOMIC_SEQ_CST), \
	 old[0] = var, done)

	switch (len) {
	case 1:
		return CX(u8, b);
	case 2:
		return CX(x86_mem_u16, w);
	case 4:
		return CX(x86_mem_u32, d);
	case 8:
		return __atomic_compare_exchange_n((x86_mem_u64 *)p, &old[0], val[0], false, __ATOMIC_SEQ_CST,
						   __ATOMIC_SEQ_CST);
	default:
		/* The compiler would call a library for 16 bytes. */
		__asm__ volatile("lock cmpxchg16b %1"
				 : "=@ccz"(done), "+m"(*(vec16 *)p), "+a"(old[0]), "+d"(old[1])
				 : "b"(val[0]), "c"(val[1]) : "memory");
		return done;
	}
#undef CX
}
