// SPDX-License-Identifier: MIT
/* Life of a machine: build, run, end, take apart. */
#include "vmm/machine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vmm/layout.h"
#include "vmm/term.h"

void machine_end(struct vmm *vmm, enum vmm_end end, int status, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vmm->end_lock);
	if (!atomic_load(&vmm->ended)) {
		vmm->result->end = end;
		vmm->result->status = status;
		va_start(ap, fmt);
		vsnprintf(vmm->result->text, sizeof(vmm->result->text), fmt, ap);
		va_end(ap);
		atomic_store(&vmm->ended, true);
	}
	pthread_mutex_unlock(&vmm->end_lock);
	eventfd_write(vmm->end_fd, 1);
}

static int machine_load(struct vmm *vmm)
{
	const struct vmm_config *cfg = vmm->cfg;
	const struct acpi_params acpi = {
		.cpus = cfg->cpus, .com2 = cfg->command, .com3 = cfg->command};
	struct load_params p = {
		.kernel = &cfg->kernel, .initrd = &cfg->initrd, .cmdline = cfg->cmdline};
	char err[LOAD_ERR_LEN];
	int ret = mem_init(&vmm->mem, cfg->mem);

	if (ret) {
		machine_end(vmm, VMM_END_ERROR, 0, "cannot get %llu MiB of memory: %s",
			    (unsigned long long)(cfg->mem >> 20), strerror(-ret));
		return ret;
	}
	ret = acpi_build(&vmm->mem, &acpi, &p.rsdp);
	if (ret) {
		machine_end(vmm, VMM_END_ERROR, 0, "ACPI tables: %s", strerror(-ret));
		return ret;
	}
	ret = load_kernel(&vmm->mem, &p, &vmm->entry, err);
	if (ret)
		machine_end(vmm, VMM_END_ERROR, 0, "%s", err);
	else if (cfg->loaded)
		cfg->loaded(cfg->loaded_ctx);
	return ret;
}

static int machine_check(struct vmm *vmm)
{
	const struct vmm_config *cfg = vmm->cfg;

	if (cfg->cpus < 1 || cfg->cpus > VMM_MAX_CPUS) {
		machine_end(vmm, VMM_END_ERROR, 0, "%u CPUs: possible are 1 to %u", cfg->cpus,
			    VMM_MAX_CPUS);
		return -EINVAL;
	}
	if (cfg->mem < VMM_MIN_MEM || cfg->mem > VMM_MAX_MEM || !is_aligned(cfg->mem, PAGE_SIZE)) {
		machine_end(vmm, VMM_END_ERROR, 0,
			    "%llu MiB of memory: possible are %llu MiB to %llu MiB",
			    (unsigned long long)(cfg->mem >> 20), VMM_MIN_MEM >> 20,
			    VMM_MAX_MEM >> 20);
		return -EINVAL;
	}
	return 0;
}

/* What the machine ended of, once nothing runs any more. */
static void machine_verdict(struct vmm *vmm)
{
	struct vmm_result *r = vmm->result;
	char text[256];

	/* panic=-1 resets; a broken kernel may fault thrice while it panics. */
	if ((r->end == VMM_END_REBOOT || r->end == VMM_END_PANIC ||
	     r->end == VMM_END_TRIPLE_FAULT || r->end == VMM_END_HALTED ||
	     r->end == VMM_END_TIMEOUT) &&
	    devices_panic_text(vmm, text, sizeof(text))) {
		r->end = VMM_END_PANIC;
		snprintf(r->text, sizeof(r->text), "%s", text);
		return;
	}
	/* Decompressors and firmware-like code fail without a word. */
	if ((r->end == VMM_END_TRIPLE_FAULT || r->end == VMM_END_HALTED) &&
	    !devices_any_output(vmm))
		snprintf(r->text + strlen(r->text), sizeof(r->text) - strlen(r->text),
			 ", before it said anything (is the kernel image %s damaged?)",
			 vmm->cfg->kernel.name);
}

/* Everything between the first allocation and the end; false if threads are left over. */
static bool machine_live(struct vmm *vmm)
{
	const struct vmm_config *cfg = vmm->cfg;
	bool stopped = true;

	/* Images first: a broken one is named whatever KVM there is. */
	if (machine_check(vmm) || machine_load(vmm) || kvm_init(vmm))
		goto out;
	irqs_init(&vmm->irqs, vmm->sys, vmm->vm_fd, vmm->cap_irqfd);
	if (devices_init(vmm) || vcpus_init(vmm))
		goto out_devices;
	if (cfg->in_fd >= 0)
		term_raw(cfg->in_fd);
	if (!vcpus_start(vmm))
		devices_loop(vmm);
	stopped = vcpus_stop(vmm);
	term_restore();
	machine_verdict(vmm);
	if (!stopped)
		return false;
out_devices:
	devices_exit(vmm);
	vcpus_exit(vmm);
	irqs_exit(&vmm->irqs);
out:
	kvm_exit(vmm);
	mem_exit(&vmm->mem);
	return true;
}

void vmm_run(const struct vmm_config *cfg, struct vmm_result *result)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	sigset_t block, old;

	memset(result, 0, sizeof(*result));
	result->end = VMM_END_ERROR;
	if (!vmm) {
		snprintf(result->text, sizeof(result->text), "no memory");
		return;
	}
	vmm->cfg = cfg;
	vmm->sys = cfg->sys;
	vmm->kvm_fd = vmm->vm_fd = -1;
	vmm->result = result;
	vmm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmm->end_fd < 0) {
		snprintf(result->text, sizeof(result->text), "eventfd: %s", strerror(errno));
		free(vmm);
		return;
	}
	pthread_mutex_init(&vmm->end_lock, NULL);
	iobus_init(&vmm->pio);
	iobus_init(&vmm->mmio);
	/* For this thread, which takes them from a signalfd, and for all that it starts. */
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGHUP);
	sigaddset(&block, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &block, &old);

	if (machine_live(vmm)) {
		iobus_exit(&vmm->pio);
		iobus_exit(&vmm->mmio);
		pthread_mutex_destroy(&vmm->end_lock);
		close(vmm->end_fd);
		free(vmm);
	} else {
		/* A thread that still runs needs everything to stay. */
		result->stuck = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
