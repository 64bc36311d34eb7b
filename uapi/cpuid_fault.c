// SPDX-License-Identifier: MIT
/*
 * CPUID faulting (SDM vol. 3A "CPUID faulting" of MISC_FEATURES_ENABLES): Linux
 * offers it per thread by arch_prctl(ARCH_SET_CPUID), and CPUID then ends in
 * SIGSEGV. Clients execute CPUID to learn vendor, VMX, physical width and the
 * layout of the XSAVE area; they should learn the model's.
 *
 * The answer is the host's with those facts replaced. Instruction sets stay the
 * host's: libraries choose their code by them, and leaf 0Dh:0 sizes the areas
 * that native XSAVE fills.
 */
#include "uapi/cpuid_fault.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "silicon/x86.h"
#include "vfs/vfs.h"

enum { EAX, EBX, ECX, EDX };

#define CPUID_1_ECX_VMX (1u << 5)
#define CPUID_X1_ECX_SVM (1u << 2)

static struct x86_cpu *like;	/* a processor of the model, only asked */

/* The bounds of this object: our own questions are about the host. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static int set_faulting(bool on)
{
	return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on) ? -errno : 0;
}

static void answer(u32 leaf, u32 subleaf, u32 r[4])
{
	u32 m[4];

	__cpuid_count(leaf, subleaf, r[EAX], r[EBX], r[ECX], r[EDX]);
	x86_cpuid(like, leaf, subleaf, m);
	switch (leaf) {
	case 0:
		/* The vendor; the highest leaf stays the host's. */
		memcpy(&r[EBX], &m[EBX], 3 * sizeof(m[0]));
		break;
	case 1:
		r[EAX] = m[EAX];
		r[ECX] = (r[ECX] & ~CPUID_1_ECX_VMX) | (m[ECX] & CPUID_1_ECX_VMX);
		break;
	case 0xd:
		/* Places of components that only the model has. */
		if (subleaf >= 2 && !r[EAX])
			memcpy(r, m, sizeof(m));
		break;
	case 0x80000001:
		r[EAX] = m[EAX];
		r[ECX] = (r[ECX] & ~CPUID_X1_ECX_SVM) | (m[ECX] & CPUID_X1_ECX_SVM);
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		memcpy(r, m, sizeof(m));
		break;
	case 0x80000008:
		r[EAX] = m[EAX];
		break;
	default:
		break;
	}
}

/* Async-signal-safe, and calls nothing of libc that could execute CPUID in its turn. */
static bool on_fault(int sig, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	const u8 *ip = (const u8 *)g[REG_RIP];
	u32 leaf = (u32)g[REG_RAX], subleaf = (u32)g[REG_RCX], r[4];
	int saved_errno = errno;

	/* A general protection fault at an instruction of which we can read two bytes: it was fetched. */
	if (sig != SIGSEGV || info->si_code != SI_KERNEL || ip[0] != 0x0f || ip[1] != 0xa2)
		return false;
	if (set_faulting(false))
		return false;
	if ((const char *)ip >= __ehdr_start && (const char *)ip < etext)
		__cpuid_count(leaf, subleaf, r[EAX], r[EBX], r[ECX], r[EDX]);
	else
		answer(leaf, subleaf, r);
	set_faulting(true);
	g[REG_RAX] = r[EAX];
	g[REG_RBX] = r[EBX];
	g[REG_RCX] = r[ECX];
	g[REG_RDX] = r[EDX];
	g[REG_RIP] += 2;
	errno = saved_errno;
	return true;
}

bool uapi_cpuid_fault_active(void)
{
	return like != NULL;
}

int uapi_cpuid_fault_start(const struct x86_model *model)
{
	struct x86_cpu *cpu = x86_cpu_new(model, 0);
	int r;

	if (!cpu)
		return -ENOMEM;
	r = vfs_guard_signal(SIGSEGV);
	if (!r) {
		like = cpu;
		vfs_set_fault_filter(on_fault);
		r = set_faulting(true);
	}
	if (r) {
		vfs_set_fault_filter(NULL);
		like = NULL;
		x86_cpu_free(cpu);
	}
	return r;
}
