// SPDX-License-Identifier: MIT
/*
 * Nodes of the preload object: /dev/kvm, and the module parameters that clients
 * look at before they use it. The parameters say what our hypervisor does.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/hv.h"
#include "uapi/cpuid_fault.h"
#include "uapi/uapi.h"
#include "uapi/uapi_priv.h"
#include "vfs/vfs.h"

#define INTEL "/sys/module/kvm_intel/parameters/"
#define KVM "/sys/module/kvm/parameters/"

static const struct vfs_node params[] = {
	{ INTEL "ept", .text = "Y\n" },
	{ INTEL "unrestricted_guest", .text = "Y\n" },
	{ INTEL "vpid", .text = "Y\n" },
	{ INTEL "nested", .text = "N\n" },
	{ KVM "enable_pmu", .text = "Y\n" },
	{ KVM "ignore_msrs", .text = "N\n" },
	{ KVM "nx_huge_pages", .text = "N\n" },
	{ KVM "tdp_mmu", .text = "Y\n" },
};

/*
 * A client that executes CPUID itself sees the host. QEMU takes the place of each
 * XSAVE component from there: one that KVM offers and the host lacks would land at
 * offset 0, on top of the x87 state. So none of those is offered, nor one that
 * the model has in another place. With CPUID faulting the client is told of those
 * that the host lacks.
 */
static u64 components_unlike_host(void)
{
	static _Atomic u64 found;	/* bit 0, which no answer has: known */
	struct kvm_cpuid_entry2 list[UAPI_MAX_CPUID];
	u32 n = UAPI_MAX_CPUID, eax, ebx, ecx, edx;
	u64 hidden = atomic_load(&found);

	if (hidden)
		return hidden & ~1ull;
	if (hv_supported_cpuid(uapi_model, list, &n) < 0)
		return 0;
	for (u32 i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *e = &list[i];

		if (e->function != 0xd || e->index < 2 || !e->eax)
			continue;
		__cpuid_count(0xd, e->index, eax, ebx, ecx, edx);
		if (!eax && uapi_cpuid_fault_active())
			continue;
		if (eax != e->eax || ebx != e->ebx)
			hidden |= 1ull << e->index;
	}
	atomic_store(&found, hidden | 1);
	return hidden;
}

static void virtualize_cpuid(void)
{
	int r = uapi_cpuid_fault_start(uapi_model);

	if (r)
		log_info("no CPUID faulting here (%s): the program's own CPUID tells of the host",
			 strerror(-r));
}

/*
 * By default with the first open of /dev/kvm, so that programs that only inherit
 * us are left alone. Some clients look before they open.
 */
static void choose_cpuid(void)
{
	const char *when = getenv("USERKVM_CPUID");

	if (!when || !*when || !strcmp(when, "open"))
		uapi_first_open = virtualize_cpuid;
	else if (!strcmp(when, "start"))
		virtualize_cpuid();
	else if (strcmp(when, "host"))
		log_error("USERKVM_CPUID is '%s', not open, start or host: taken as host", when);
}

/* In the place of ours when that cannot be: the program must not take the host's for it. */
static bool there_is_none(const struct vfs_node *node, const char *rest)
{
	return false;
}

static const struct vfs_node no_kvm = { .path = "/dev/kvm", .has = there_is_none };

static void register_nodes(void)
{
	const char *model = getenv("USERKVM_CPU");
	int r;

	if (!model || !*model)
		model = x86_model_name(0);
	uapi_hidden_xcr0 = components_unlike_host;
	r = uapi_register(model);
	for (unsigned i = 0; !r && i < ARRAY_SIZE(params); i++)
		r = vfs_register_node(&params[i]);
	if (!r)
		choose_cpuid();
	else
		vfs_register_node(&no_kvm);
	if (r == -ENOENT)
		log_error("no processor model '%s' (USERKVM_CPU): there is no /dev/kvm", model);
	else if (r == -ENODEV)
		log_error("processor model '%s' (USERKVM_CPU) cannot run guests", model);
	else if (r)
		log_error("/dev/kvm: %s", strerror(-r));
}
VFS_NODES(register_nodes);
