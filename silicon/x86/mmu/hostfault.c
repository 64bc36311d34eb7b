// SPDX-License-Identifier: MIT
/*
 * Memory that vanishes: a client may unmap or truncate what it gave us as
 * guest RAM. The host's SIGSEGV or SIGBUS at a simulated access becomes the
 * bus error of that processor; the same for root-mode software's own accesses
 * through x86_phys_read() and its like.
 *
 * No signal mask is saved or changed on the normal path. The handler restores
 * the mask of what it interrupted before it unwinds, so that nothing stays
 * blocked, whatever mask it was entered with. All other faults go to the
 * handler that was there before.
 */
#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "base/epoch.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/mmu/phys.h"

/* The processor whose handlers run on this thread, and the copy in progress. */
static _Thread_local struct x86_cpu *volatile access_cpu;
static _Thread_local sigjmp_buf *volatile copy_guard;

struct x86_cpu *x86_access_begin(struct x86_cpu *cpu)
{
	struct x86_cpu *before = access_cpu;

	if (before)
		before->in_access = false;
	access_cpu = cpu;
	if (cpu)
		cpu->in_access = true;
	return before;
}

void x86_access_end(struct x86_cpu *cpu, struct x86_cpu *before)
{
	cpu->in_access = false;
	access_cpu = before;
	if (before)
		before->in_access = true;
}

/* In translated code the guest's registers are in the host's: its slow path makes the access again. */
static bool redirect(struct x86_cpu *cpu, ucontext_t *uc)
{
#ifdef __x86_64__
	u64 to = cpu && cpu->jit && cpu->in_access ? x86_jit_fault_pc(cpu, (u64)uc->uc_mcontext.gregs[REG_RIP]) : 0;

	if (to)
		uc->uc_mcontext.gregs[REG_RIP] = (long long)to;
	return to;
#else
	return false;
#endif
}

bool x86_handle_host_fault(void *addr, void *context)
{
	struct x86_cpu *cpu = access_cpu;

	if (redirect(cpu, context))
		return true;

	/* Where no guest memory can be, the bug is ours. */
	if (x86_no_memory((u64)addr))
		return false;
	if (copy_guard)
		siglongjmp(*copy_guard, 1);
	if (!cpu || !cpu->in_access)
		return false;
	if (cpu->mmu->in_epoch) {
		cpu->mmu->in_epoch = false;
		epoch_exit();
	}
	x86_bus_error(cpu, (u64)addr);
}

/* ---- A handler for programs that have none ---- */

static struct sigaction previous[2];	/* SIGSEGV, SIGBUS */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *prev = &previous[sig == SIGBUS];
	const ucontext_t *interrupted = context;
	int saved = errno;
	sigset_t mask;

	/* SI_KERNEL: a general protection fault, which has no address. */
	if (info->si_code > 0 && info->si_code != SI_KERNEL) {
		bool done;

		pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, &mask);
		done = x86_handle_host_fault(info->si_addr, context);
		pthread_sigmask(SIG_SETMASK, &mask, NULL);
		errno = saved;
		if (done)
			return;
	}
	if (prev->sa_flags & SA_SIGINFO) {
		prev->sa_sigaction(sig, info, context);
	} else if (prev->sa_handler != SIG_DFL && prev->sa_handler != SIG_IGN) {
		prev->sa_handler(sig);
	} else {
		/* The default action, at the faulting instruction. */
		sigaction(sig, prev, NULL);
		if (info->si_code <= 0)
			raise(sig);
	}
}

int x86_install_fault_handler(void)
{
	static const int sigs[2] = { SIGSEGV, SIGBUS };
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < 2; i++) {
		struct sigaction old;

		if (sigaction(sigs[i], &sa, &old))
			return -errno;
		/* Installed before: keep what we chained to then. */
		if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_fault)
			previous[i] = old;
	}
	return 0;
}

/* ---- Physical memory as root-mode software reaches it ---- */

static int guarded_copy(void *dst, const void *src, size_t len)
{
	sigjmp_buf jb;
	sigjmp_buf *volatile before = copy_guard;

	if (sigsetjmp(jb, 0)) {
		copy_guard = before;
		return -EFAULT;
	}
	copy_guard = &jb;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	x86_mem_copy(dst, src, len);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	copy_guard = before;
	return 0;
}

static bool no_range(u64 pa, size_t len)
{
	return x86_no_memory(pa) || (len && x86_no_memory(pa + len - 1));
}

int x86_phys_read(spa_t pa, void *buf, size_t len)
{
	return no_range(pa.v, len) ? -EFAULT : guarded_copy(buf, (const void *)pa.v, len);
}

/* The bytes are in memory: processors that have them decoded must look again. */
static void code_changed(u64 pa, size_t len)
{
	for (size_t n; len; pa += n, len -= n) {
		n = min(len, (size_t)(PAGE_SIZE - (pa & ~PAGE_MASK)));
		if (x86_codepage_test(pa))
			x86_codepage_store(NULL, pa, (unsigned)n);
	}
}

int x86_phys_write(spa_t pa, const void *buf, size_t len)
{
	int r;

	if (no_range(pa.v, len))
		return -EFAULT;
	r = guarded_copy((void *)pa.v, buf, len);
	/* After a fault too: some of it may have been written. */
	code_changed(pa.v, len);
	return r;
}

int x86_phys_cmpxchg(spa_t pa, void *old, const void *val, unsigned size)
{
	sigjmp_buf jb;
	sigjmp_buf *volatile before = copy_guard;
	u64 o[2] = { 0 }, n[2] = { 0 };
	bool done;

	if (no_range(pa.v, size))
		return -EFAULT;
	memcpy(o, old, size);
	memcpy(n, val, size);
	if (sigsetjmp(jb, 0)) {
		copy_guard = before;
		return -EFAULT;
	}
	copy_guard = &jb;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	done = x86_mem_cmpxchg((void *)pa.v, o, n, size);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	copy_guard = before;
	if (done) {
		code_changed(pa.v, size);
		return 0;
	}
	memcpy(old, o, size);
	return 1;
}
