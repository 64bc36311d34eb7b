// SPDX-License-Identifier: MIT
/*
 * Emulation of instructions that cannot run on the guest's own processor: those
 * that touch device memory, string I/O, hardware task switches. A second
 * processor whose bus is this file is loaded with the guest's state, executes
 * one instruction by the silicon's own handlers, and the result goes back.
 */
#include "kvm/x86/emulate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "kvm/mem.h"
#include "kvm/stats.h"
#include "kvm/x86/irq/irq.h"

/* ---- The bus ---- */

static bool is_apic_page(struct hv_vcpu *v, u64 pa)
{
	return v->lapic && (hv_lapic_get_base(v) & PAGE_MASK) == (pa & PAGE_MASK);
}

static enum x86_bus_result ram_result(struct hv_vcpu *v, int r)
{
	if (r >= 0)
		return X86_BUS_OK;
	v->x86->emul_errno = -EFAULT;
	return X86_BUS_ERROR;
}

static enum x86_bus_result bus_read(void *ctx, u64 pa, void *buf, unsigned len)
{
	struct hv_vcpu *v = ctx;

	if (hv_gpa_is_ram(v->vm, hv_as(v), pa, false) && !is_apic_page(v, pa))
		return ram_result(v, hv_read_guest(v->vm, hv_as(v), pa, buf, len));
	return hv_mmio_read(v, pa, buf, len);
}

static enum x86_bus_result bus_write(void *ctx, u64 pa, const void *buf, unsigned len)
{
	struct hv_vcpu *v = ctx;

	if (hv_gpa_is_ram(v->vm, hv_as(v), pa, true) && !is_apic_page(v, pa))
		return ram_result(v, hv_write_guest(v->vm, hv_as(v), pa, buf, len));
	return hv_mmio_write(v, pa, buf, len);
}

static enum x86_bus_result bus_cmpxchg(void *ctx, u64 pa, void *old, const void *val, unsigned len)
{
	struct hv_vcpu *v = ctx;

	if (hv_gpa_is_ram(v->vm, hv_as(v), pa, true) && !is_apic_page(v, pa))
		return ram_result(v, hv_cmpxchg_guest(v->vm, hv_as(v), pa, old, val, len));
	/* A device register cannot be locked: the read that came before is as good as it gets. */
	return hv_mmio_write(v, pa, val, len);
}

static enum x86_bus_result bus_in(void *ctx, u16 port, unsigned size, u32 *val)
{
	return hv_pio_string_in(ctx, port, size, val);
}

static enum x86_bus_result bus_out(void *ctx, u16 port, unsigned size, u32 val)
{
	return hv_pio_string_out(ctx, port, size, val);
}

static int bus_rdmsr(void *ctx, u32 msr, u64 *val)
{
	return hv_emul_rdmsr(ctx, msr, val);
}

static int bus_wrmsr(void *ctx, u32 msr, u64 val)
{
	return hv_emul_wrmsr(ctx, msr, val);
}

static const struct x86_bus_ops bus_ops = {
	.read = bus_read, .write = bus_write, .cmpxchg = bus_cmpxchg, .in = bus_in, .out = bus_out,
	.rdmsr = bus_rdmsr, .wrmsr = bus_wrmsr,
};

/* ---- Moving the guest's state in and out ---- */

static void gather(struct hv_vcpu *v, struct x86_state *s)
{
	memcpy(s->gpr, x86_gprs(v->cpu), sizeof(s->gpr));
	s->gpr[X86_RSP] = vmcs_get(v, VMCS_GUEST_RSP);
	s->rip = vmcs_get(v, VMCS_GUEST_RIP);
	s->rflags = vmcs_get(v, VMCS_GUEST_RFLAGS);
	for (unsigned i = 0; i < X86_NR_SEGS; i++)
		hv_get_segment(v, i, &s->seg[i]);
	s->gdtr.base = vmcs_get(v, VMCS_GUEST_GDTR_BASE);
	s->gdtr.limit = (u16)vmcs_get(v, VMCS_GUEST_GDTR_LIMIT);
	s->idtr.base = vmcs_get(v, VMCS_GUEST_IDTR_BASE);
	s->idtr.limit = (u16)vmcs_get(v, VMCS_GUEST_IDTR_LIMIT);
	s->cr0 = hv_get_cr0(v);
	s->cr2 = x86_get_cr2(v->cpu);
	s->cr3 = vmcs_get(v, VMCS_GUEST_CR3);
	s->cr4 = hv_get_cr4(v);
	s->cr8 = hv_get_cr8(v);
	s->efer = vmcs_get(v, VMCS_GUEST_EFER);
	for (unsigned i = 0; i < 4; i++)
		s->dr[i] = hv_get_dr(v, i);
	s->dr6 = hv_get_dr(v, 6);
	s->dr7 = hv_get_dr(v, 7);
	for (unsigned i = 0; i < 4; i++)
		s->pdpte[i] = vmcs_get(v, VMCS_GUEST_PDPTE0 + 2 * i);
	s->interruptibility = (u32)vmcs_get(v, VMCS_GUEST_INTERRUPTIBILITY);
}

static void put_dtable(struct hv_vcpu *v, enum vmcs_field base, enum vmcs_field limit,
		       const struct x86_dtable *was, const struct x86_dtable *is)
{
	if (was->base != is->base)
		vmcs_set(v, base, is->base);
	if (was->limit != is->limit)
		vmcs_set(v, limit, is->limit);
}

static bool same_segment(const struct x86_segment *a, const struct x86_segment *b)
{
	return a->base == b->base && a->limit == b->limit && a->ar == b->ar && a->sel == b->sel;
}

/* Most instructions change a register or two: write only what is new. */
static void commit(struct hv_vcpu *v, const struct x86_state *s)
{
	const struct x86_state *was = &v->x86->emul_state;

	for (unsigned i = 0; i < X86_NR_GPRS; i++) {
		if (s->gpr[i] != was->gpr[i])
			hv_set_gpr(v, i, s->gpr[i]);
	}
	vmcs_set(v, VMCS_GUEST_RIP, s->rip);
	if (s->rflags != was->rflags)
		vmcs_set(v, VMCS_GUEST_RFLAGS, s->rflags);
	for (unsigned i = 0; i < X86_NR_SEGS; i++) {
		if (!same_segment(&s->seg[i], &was->seg[i]))
			hv_set_segment(v, i, &s->seg[i]);
	}
	put_dtable(v, VMCS_GUEST_GDTR_BASE, VMCS_GUEST_GDTR_LIMIT, &was->gdtr, &s->gdtr);
	put_dtable(v, VMCS_GUEST_IDTR_BASE, VMCS_GUEST_IDTR_LIMIT, &was->idtr, &s->idtr);
	if (s->cr2 != was->cr2)
		x86_set_cr2(v->cpu, s->cr2);
	if (s->cr0 != was->cr0)
		hv_load_cr0(v, s->cr0);
	if (s->cr3 != was->cr3) {
		vmcs_set(v, VMCS_GUEST_CR3, s->cr3);
		for (unsigned i = 0; i < 4; i++)
			vmcs_set(v, VMCS_GUEST_PDPTE0 + 2 * i, s->pdpte[i]);
		hv_vmx_flush_guest_tlb(v);
	}
	if (s->dr7 != was->dr7)
		hv_set_dr(v, 7, s->dr7);
	if (s->interruptibility != was->interruptibility) {
		vmcs_set(v, VMCS_GUEST_INTERRUPTIBILITY, s->interruptibility);
		hv_set_request(v, HV_REQ_EVENT);
	}
}

struct x86_cpu *hv_emul_load(struct hv_vcpu *v, bool with_fpu)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 mask = x86_get_xcr0(v->cpu) | 3;

	if (!x->emul) {
		x->emul = x86_cpu_new_emul(v->vm->model, v->id, &bus_ops, v);
		if (!x->emul)
			return NULL;
		x->emul_xsave = aligned_alloc(64, round_up(x86_xsave_size(x->emul), 64));
		if (!x->emul_xsave)
			return NULL;
	}
	gather(v, &x->emul_state);
	x86_set_state(x->emul, &x->emul_state);
	if (with_fpu) {
		x86_xsave_area(v->cpu, x->emul_xsave, mask);
		if (x86_set_xcr0(x->emul, mask) < 0 ||
		    x86_xrstor_area(x->emul, x->emul_xsave, mask) < 0)
			return NULL;
	}
	/* Protection keys count for data accesses, vector instruction or not. */
	x86_set_pkru(x->emul, x86_get_pkru(v->cpu));
	return x->emul;
}

static int commit_all(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 mask = x86_get_xcr0(v->cpu) | 3;
	struct x86_state s;

	x86_get_state(x->emul, &s);
	commit(v, &s);
	x86_xsave_area(x->emul, x->emul_xsave, mask);
	return x86_xrstor_area(v->cpu, x->emul_xsave, mask);
}

void hv_emul_free(struct hv_vcpu *v)
{
	if (v->x86->emul)
		x86_cpu_free(v->x86->emul);
	free(v->x86->emul_xsave);
}

/* ---- One instruction ---- */

/* The kernel's text of an instruction: segment base, RIP, bytes, mode. */
static void trace_failed(struct hv_vcpu *v, const u8 *insn, unsigned len)
{
	bool vm86 = vmcs_get(v, VMCS_GUEST_RFLAGS) & RFLAGS_VM;
	bool db = vmcs_get(v, VMCS_GUEST_CS_AR) & X86_AR_DB;
	char hex[3 * 15 + 1] = "";

	for (unsigned i = 0; i < min(len, 15u); i++)
		snprintf(hex + 3 * i, 4, " %02x", insn[i]);
	trace_emit(TRACE_kvm_emulate_insn, "%x:%llx:%s (%s) failed", (u32)vmcs_get(v, VMCS_GUEST_CS_BASE),
		   (unsigned long long)vmcs_get(v, VMCS_GUEST_RIP), hex,
		   !hv_is_prot(v) ? "real" : vm86 ? "vm16" : hv_is_64bit(v) ? "prot64" : db ? "prot32" : "prot16");
}

int hv_emulation_failure(struct hv_vcpu *v, const u8 *insn, unsigned len)
{
	struct kvm_run *run = v->run;

	hv_stat_inc(v, HV_STAT_insn_emulation_fail);
	/* A program of the guest's must not be able to end the guest, unless the client asks for every failure. */
	if (hv_get_cpl(v) > 0 && !v->vm->exit_on_emulation_failure) {
		hv_queue_ud(v);
		return 1;
	}
	if (trace_on(TRACE_kvm_emulate_insn))
		trace_failed(v, insn, len);
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 0;
	run->emulation_failure.flags = 0;
	if (len) {
		/* flags, and 16 bytes of size and instruction */
		run->emulation_failure.ndata = 3;
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = (u8)len;
		memset(run->emulation_failure.insn_bytes, 0x90,
		       sizeof(run->emulation_failure.insn_bytes));
		memcpy(run->emulation_failure.insn_bytes, insn, min(len, 15u));
	}
	return 0;
}

static void queue_fault(struct hv_vcpu *v, const struct x86_emul_result *res)
{
	bool payload = res->vector == HV_PF || res->vector == HV_DB;

	hv_queue_exception(v, res->vector, res->has_error, res->error, payload,
			   payload ? res->payload : 0);
}

static int not_emulated(struct hv_vcpu *v, const struct x86_emul_result *res)
{
	if (v->x86->emul_errno)
		return v->x86->emul_errno;
	return hv_emulation_failure(v, res->insn, res->insn_len);
}

int hv_emul_step(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct x86_emul_result res = { 0 };
	struct x86_cpu *cpu = hv_emul_load(v, true);

	if (!cpu)
		return -ENOMEM;
	hv_stat_inc(v, HV_STAT_insn_emulation);
	x->emul_user_exit = false;
	x->emul_errno = 0;
	x->emul_db_trap = false;
	x->mmio.cursor = 0;
	switch (x86_emul_insn(cpu, &res)) {
	case X86_EMUL_DONE:
		if (commit_all(v) < 0)
			return -EINVAL;
		/* An iteration of a REP is no instruction. */
		if (vmcs_get(v, VMCS_GUEST_RIP) != x->emul_state.rip)
			hv_pmu_insn(v);
		x->emul_db_trap = res.db_trap;
		x->emul_db_dr6 = res.db_dr6;
		return 1;
	case X86_EMUL_FAULT:
		queue_fault(v, &res);
		return 1;
	case X86_EMUL_RETRY:
		if (x->emul_user_exit)
			return HV_EMUL_AGAIN;
		break;
	case X86_EMUL_ERROR:
		break;
	}
	return not_emulated(v, &res);
}

int hv_emul_finish(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (!x->emul_db_trap)
		return 1;
	x->emul_db_trap = false;
	if (x->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP))
		return hv_debug_exit(v, HV_DB, x->emul_db_dr6 | DR6_FIXED_1, hv_linear_rip(v));
	hv_queue_exception(v, HV_DB, false, 0, true, x->emul_db_dr6);
	return 1;
}

/* ---- Device memory ---- */

static int mmio_answered(struct hv_vcpu *v);

static int emulate_mmio(struct hv_vcpu *v)
{
	int r;

	/* No device answers a fetch. */
	if (!hv_code_is_memory(v))
		return hv_emulation_failure(v, NULL, 0);
	r = hv_emul_step(v);
	if (r == HV_EMUL_AGAIN) {
		v->x86->complete = mmio_answered;
		v->x86->pio.rip = hv_linear_rip(v);
		return 0;
	}
	return r <= 0 ? r : hv_mmio_send_writes(v);
}

static int mmio_answered(struct hv_vcpu *v)
{
	/* A client that moved RIP does not want the instruction any more. */
	if (hv_linear_rip(v) != v->x86->pio.rip)
		return 1;
	hv_mmio_read_done(v);
	return emulate_mmio(v);
}

int hv_emulate_mmio(struct hv_vcpu *v, u64 gpa)
{
	int r;

	v->x86->emul_kind = HV_EMUL_MMIO;
	hv_mmio_begin(v);
	r = hv_mov_mmio(v, gpa);
	if (r != -EOPNOTSUPP)
		return r;
	hv_mmio_begin(v);
	return emulate_mmio(v);
}

/* ---- Task switches ---- */

int hv_emulate_task_switch(struct hv_vcpu *v, u16 tss, unsigned reason, bool has_error, u32 error)
{
	struct hv_vcpu_x86 *x = v->x86;
	struct x86_emul_result res = { 0 };
	struct x86_cpu *cpu = hv_emul_load(v, true);

	if (!cpu)
		return -ENOMEM;
	x->emul_kind = HV_EMUL_TASK;
	x->emul_errno = 0;
	x->emul_db_trap = false;
	hv_mmio_begin(v);
	switch (x86_emul_task_switch(cpu, tss, (enum x86_task_switch)reason, has_error, error, &res)) {
	case X86_EMUL_DONE:
		if (commit_all(v) < 0)
			return -EINVAL;
		x->emul_db_trap = res.db_trap;
		x->emul_db_dr6 = res.db_dr6;
		return hv_emul_finish(v);
	case X86_EMUL_FAULT: {
		struct x86_state s;

		/* A fault in the new task is delivered there. */
		x86_get_state(cpu, &s);
		commit(v, &s);
		queue_fault(v, &res);
		return 1;
	}
	case X86_EMUL_RETRY:
	case X86_EMUL_ERROR:
		break;
	}
	return not_emulated(v, &res);
}
