/* SPDX-License-Identifier: MIT */
/*
 * Life of a processor, the machine-wide list of them, state as a whole, events
 * from outside, and the accessors that are no instruction's semantics.
 */
#include "silicon/x86/cpu.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "silicon/x86/cpulist.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/flags.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/mem.h"
#include "silicon/x86/model/model.h"
#include "silicon/x86/sys/sys.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct x86_cpu *list;

bool x86_cpu_list_trylock(void)
{
	return pthread_mutex_trylock(&list_lock) == 0;
}

void x86_cpu_list_unlock(void)
{
	pthread_mutex_unlock(&list_lock);
}

struct x86_cpu *x86_cpu_list(void)
{
	return list;
}

static void list_add(struct x86_cpu *cpu)
{
	pthread_mutex_lock(&list_lock);
	cpu->next_cpu = list;
	list = cpu;
	pthread_mutex_unlock(&list_lock);
}

static void list_del(struct x86_cpu *cpu)
{
	pthread_mutex_lock(&list_lock);
	for (struct x86_cpu **p = &list; *p; p = &(*p)->next_cpu)
		if (*p == cpu) {
			*p = cpu->next_cpu;
			break;
		}
	pthread_mutex_unlock(&list_lock);
}

static const char *const engine_name[] = { [X86_ENGINE_INTERP] = "interp", [X86_ENGINE_JIT] = "jit",
	[X86_ENGINE_LOCKSTEP] = "lockstep" };

bool x86_engine_find(const char *name, enum x86_engine *e)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engine_name); i++)
		if (!strcmp(name, engine_name[i])) {
			*e = (enum x86_engine)i;
			return true;
		}
	return false;
}

enum x86_engine x86_engine_default(void)
{
	const char *name = getenv("USERKVM_ENGINE");
	enum x86_engine e;

	if (name && *name) {
		if (!x86_engine_find(name, &e))
			log_warn("USERKVM_ENGINE: no engine '%s'", name);
		else
			return e;
	}
#ifdef __SANITIZE_THREAD__
	/* It sees nothing of translated code, and delivers no signal while that runs. */
	return X86_ENGINE_INTERP;
#else
	return X86_ENGINE_JIT;
#endif
}

static struct x86_cpu *new_cpu(const struct x86_model *model, u32 apic_id,
			       const struct x86_bus_ops *bus, void *bus_ctx)
{
	struct x86_cpu *cpu = x86_jit_alloc_cpu();

	if (!cpu)
		return NULL;
	cpu->apic_id = apic_id;
	cpu->bus = bus;
	cpu->bus_ctx = bus_ctx;
	cpu->insn_limit = cpu->run_limit = ~0ull;
	x86_model_bind(cpu, model);
	if (x86_mmu_new(cpu) || x86_decode_new(cpu)) {
		x86_cpu_free(cpu);
		return NULL;
	}
	x86_cpu_reset(cpu);
	list_add(cpu);
	return cpu;
}

struct x86_cpu *x86_cpu_new(const struct x86_model *model, u32 apic_id)
{
	struct x86_cpu *cpu = new_cpu(model, apic_id, NULL, NULL);

	if (cpu)
		cpu->engine = (u8)x86_engine_default();
	return cpu;
}

int x86_set_engine(struct x86_cpu *cpu, enum x86_engine e)
{
	if (cpu->bus && e != X86_ENGINE_INTERP)
		return -ENOTSUP;
	if (e != (enum x86_engine)cpu->engine)
		x86_jit_free(cpu);
	cpu->engine = (u8)e;
	return 0;
}

enum x86_engine x86_get_engine(const struct x86_cpu *cpu)
{
	return (enum x86_engine)cpu->engine;
}

struct x86_cpu *x86_cpu_new_emul(const struct x86_model *model, u32 apic_id,
				 const struct x86_bus_ops *ops, void *ctx)
{
	return new_cpu(model, apic_id, ops, ctx);
}

void x86_cpu_free(struct x86_cpu *cpu)
{
	if (!cpu)
		return;
	BUG_ON(atomic_load(&cpu->running));
	list_del(cpu);
	x86_jit_free(cpu);
	x86_decode_free(cpu);
	if (cpu->mmu)
		x86_mmu_free(cpu);
	x86_jit_free_cpu(cpu);
}

const struct x86_model *x86_cpu_model(const struct x86_cpu *cpu)
{
	return cpu->model;
}

u64 *x86_gprs(struct x86_cpu *cpu)
{
	return cpu->gpr;
}

void x86_get_state(struct x86_cpu *cpu, struct x86_state *s)
{
	memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
	s->rip = cpu->rip;
	s->rflags = x86_get_rflags(cpu);
	memcpy(s->seg, cpu->seg, sizeof(s->seg));
	s->gdtr = cpu->gdtr;
	s->idtr = cpu->idtr;
	s->cr0 = cpu->cr0;
	s->cr2 = cpu->cr2;
	s->cr3 = cpu->cr3;
	s->cr4 = cpu->cr4;
	s->cr8 = cpu->tpr >> 4;
	s->efer = cpu->efer;
	memcpy(s->dr, cpu->dr, sizeof(s->dr));
	s->dr6 = cpu->dr6;
	s->dr7 = cpu->dr7;
	memcpy(s->pdpte, cpu->pdpte, sizeof(s->pdpte));
	s->interruptibility = (cpu->slow & X86_SLOW_SHADOW_STI ? 1u : 0) |
			      (cpu->slow & X86_SLOW_SHADOW_SS ? 2u : 0) | (cpu->nmi_blocked ? 8u : 0);
}

void x86_set_state(struct x86_cpu *cpu, const struct x86_state *s)
{
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	cpu->rip = cpu->gpr[X86_REG_NEXT_RIP] = s->rip;
	x86_set_rflags(cpu, s->rflags);
	memcpy(cpu->seg, s->seg, sizeof(s->seg));
	cpu->gdtr = s->gdtr;
	cpu->idtr = s->idtr;
	cpu->cr0 = s->cr0;
	cpu->cr2 = s->cr2;
	cpu->cr3 = s->cr3;
	cpu->cr4 = s->cr4;
	cpu->tpr = (u8)(s->cr8 << 4);
	cpu->efer = s->efer;
	memcpy(cpu->dr, s->dr, sizeof(s->dr));
	cpu->dr6 = s->dr6;
	cpu->dr7 = s->dr7;
	memcpy(cpu->pdpte, s->pdpte, sizeof(s->pdpte));
	cpu->nmi_blocked = s->interruptibility & 8;
	cpu->pending_db = 0;
	cpu->activity = X86_ACT_ACTIVE;
	x86_pmu_wake(cpu);
	cpu->slow &= ~(u32)(X86_SLOW_SHADOW_STI | X86_SLOW_SHADOW_SS | X86_SLOW_DB_PENDING |
			    X86_SLOW_START | X86_SLOW_HALTED);
	cpu->slow |= (s->interruptibility & 1 ? X86_SLOW_SHADOW_STI : 0) |
		     (s->interruptibility & 2 ? X86_SLOW_SHADOW_SS : 0);
	/* SS.DPL is the CPL, as in a VMCS; update_mode() corrects it for real and VM86 mode. */
	cpu->cpl = X86_AR_DPL(s->seg[X86_SS].ar);
	x86_update_mode(cpu);
	x86_tlb_switch(cpu);
	x86_tlb_flush_all(cpu);
	x86_debug_update(cpu);
}

void x86_code_changed(struct x86_cpu *cpu)
{
	x86_decode_recheck(cpu);
}

/* ---- Events: any thread, signal handlers ---- */

void x86_post(struct x86_cpu *cpu, u32 events)
{
	int saved = errno;	/* may run in a signal handler */

	atomic_fetch_or(&cpu->events, events);
	atomic_store(&cpu->calm, 0);
	atomic_store(&cpu->jit_pages, x86_jit_no_pages);
	if (unlikely(atomic_load(&cpu->asleep)))
		syscall(SYS_futex, &cpu->events, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = saved;
}

void x86_raise_intr(struct x86_cpu *cpu, u8 vector)
{
	atomic_fetch_or(&cpu->irr[vector / 64], BIT(vector % 64));
	x86_post(cpu, X86_EV_INTR);
}

void x86_raise_nmi(struct x86_cpu *cpu)
{
	x86_post(cpu, X86_EV_NMI);
}

bool x86_intr_pending(const struct x86_cpu *cpu)
{
	return atomic_load_explicit(&cpu->events, memory_order_relaxed) & X86_EV_INTR;
}

/*
 * The event bit is cleared first: a vector that arrives during the search sets
 * it again, so it is never lost.
 */
int x86_ack_intr(struct x86_cpu *cpu)
{
	int vector = -1;

	atomic_fetch_and(&cpu->events, ~(u32)X86_EV_INTR);
	for (int i = ARRAY_SIZE(cpu->irr) - 1; i >= 0; i--) {
		u64 pending = atomic_load(&cpu->irr[i]);

		if (!pending)
			continue;
		if (vector >= 0) {
			x86_post(cpu, X86_EV_INTR);
			break;
		}
		vector = 63 - __builtin_clzll(pending);
		if (atomic_fetch_and(&cpu->irr[i], ~BIT(vector)) & ~BIT(vector))
			x86_post(cpu, X86_EV_INTR);
		vector += i * 64;
	}
	return vector;
}
