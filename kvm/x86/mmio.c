// SPDX-License-Identifier: MIT
/*
 * Memory-mapped I/O of an instruction under emulation.
 *
 * User space answers a read only with the next KVM_RUN, so an instruction may
 * be executed several times before it completes. Every device access that it
 * makes is kept in a log in the order of execution: a repeated execution gets
 * the same answers, and side effects happen once. Writes for user space are
 * kept until the instruction is done.
 */
#include <string.h>

#include "base/trace.h"
#include "kvm/stats.h"
#include "kvm/x86/emulate.h"
#include "kvm/x86/irq/irq.h"

static void trace_mmio(struct hv_vcpu *v, const struct hv_mmio_access *a)
{
	u64 val = 0;

	memcpy(&val, a->data, a->len);
	trace(kvm_mmio, "mmio %s len %u gpa 0x%llx val 0x%llx", a->write ? "write" : "read", a->len,
	      (unsigned long long)a->gpa, (unsigned long long)val);
	if (!hv_exit_stat_wanted(&v->exits))
		return;
	if (a->write)
		hv_exit_stat_begin(&v->exits, HV_EVENT_MMIO, HV_EXIT_KEY(a->gpa, true));
	else
		hv_exit_stat_mmio_read(&v->exits, a->gpa);
}

void hv_mmio_begin(struct hv_vcpu *v)
{
	v->x86->mmio.n = 0;
	v->x86->mmio.cursor = 0;
	v->x86->mmio.sent = 0;
}

static bool device_read(struct hv_vcpu *v, u64 gpa, unsigned len, void *data)
{
	if (v->lapic && hv_lapic_mmio_read(v, gpa, len, data))
		return true;
	return hv_iobus_read(v, HV_BUS_MMIO, gpa, len, data) == 0;
}

static bool device_write(struct hv_vcpu *v, u64 gpa, unsigned len, const void *data)
{
	if (v->lapic && hv_lapic_mmio_write(v, gpa, len, data))
		return true;
	return hv_iobus_write(v, HV_BUS_MMIO, gpa, len, data) == 0;
}

static void ask_user(struct hv_vcpu *v, const struct hv_mmio_access *a)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = a->gpa;
	run->mmio.len = a->len;
	run->mmio.is_write = a->write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (a->write)
		memcpy(run->mmio.data, a->data, a->len);
	hv_stat_inc(v, HV_STAT_mmio_exits);
}

/* The entry of the access that comes next in this execution; NULL if it is new. */
static struct hv_mmio_access *replay(struct hv_vcpu *v)
{
	if (v->x86->mmio.cursor >= v->x86->mmio.n)
		return NULL;
	return &v->x86->mmio.log[v->x86->mmio.cursor++];
}

static enum x86_bus_result read_fragment(struct hv_vcpu *v, u64 gpa, u8 *buf, unsigned len)
{
	struct hv_mmio_access *a = replay(v);

	if (a) {
		/* Another path than last time: the guest rewrote its own instruction. */
		if (a->gpa != gpa || a->len != len || a->write)
			return X86_BUS_ERROR;
		memcpy(buf, a->data, len);
		return X86_BUS_OK;
	}
	if (v->x86->mmio.n == HV_MMIO_LOG)
		return X86_BUS_ERROR;
	a = &v->x86->mmio.log[v->x86->mmio.n];
	*a = (struct hv_mmio_access){ .gpa = gpa, .len = (u8)len };
	if (!device_read(v, gpa, len, a->data)) {
		trace(kvm_mmio, "mmio unsatisfied-read len %u gpa 0x%llx val 0x0", len,
		      (unsigned long long)gpa);
		ask_user(v, a);
		v->x86->emul_user_exit = true;
		return X86_BUS_RETRY;
	}
	trace_mmio(v, a);
	v->x86->mmio.n++;
	v->x86->mmio.cursor++;
	memcpy(buf, a->data, len);
	return X86_BUS_OK;
}

static enum x86_bus_result write_fragment(struct hv_vcpu *v, u64 gpa, const u8 *buf, unsigned len)
{
	struct hv_mmio_access *a = replay(v);

	if (a)
		return a->gpa == gpa && a->len == len && a->write ? X86_BUS_OK : X86_BUS_ERROR;
	if (v->x86->mmio.n == HV_MMIO_LOG)
		return X86_BUS_ERROR;
	a = &v->x86->mmio.log[v->x86->mmio.n];
	*a = (struct hv_mmio_access){ .gpa = gpa, .len = (u8)len, .write = true };
	memcpy(a->data, buf, len);
	trace_mmio(v, a);
	a->user = !device_write(v, gpa, len, buf);
	v->x86->mmio.n++;
	v->x86->mmio.cursor++;
	return X86_BUS_OK;
}

enum x86_bus_result hv_mmio_read(struct hv_vcpu *v, u64 gpa, void *buf, unsigned len)
{
	for (unsigned off = 0; off < len; off += 8) {
		enum x86_bus_result r = read_fragment(v, gpa + off, (u8 *)buf + off,
						      min(len - off, 8u));

		if (r != X86_BUS_OK)
			return r;
	}
	return X86_BUS_OK;
}

enum x86_bus_result hv_mmio_write(struct hv_vcpu *v, u64 gpa, const void *buf, unsigned len)
{
	for (unsigned off = 0; off < len; off += 8) {
		enum x86_bus_result r = write_fragment(v, gpa + off, (const u8 *)buf + off,
						       min(len - off, 8u));

		if (r != X86_BUS_OK)
			return r;
	}
	return X86_BUS_OK;
}

void hv_mmio_read_done(struct hv_vcpu *v)
{
	struct hv_mmio_access *a = &v->x86->mmio.log[v->x86->mmio.n++];

	memcpy(a->data, v->run->mmio.data, a->len);
	trace_mmio(v, a);
	v->x86->mmio.cursor = 0;
}

int hv_mmio_send_writes(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	while (x->mmio.sent < x->mmio.n) {
		const struct hv_mmio_access *a = &x->mmio.log[x->mmio.sent++];

		if (!a->user)
			continue;
		ask_user(v, a);
		x->complete = hv_mmio_send_writes;
		return 0;
	}
	return hv_emul_finish(v);
}
