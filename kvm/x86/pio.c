// SPDX-License-Identifier: MIT
/*
 * Port I/O. Devices of the hypervisor first, then KVM_EXIT_IO with the data in
 * the second page of the run mapping. A string instruction transfers as many
 * elements per exit as one page of guest memory (and the PIO page) holds: OUTS
 * collects them by emulating iterations, INS asks for them in advance and then
 * consumes them.
 */
#include <string.h>

#include "base/trace.h"
#include "kvm/stats.h"
#include "kvm/x86/emulate.h"
#include "kvm/x86/irq/irq.h"

#define QUIRK_PORT_7E 0x7e

static void trace_pio(struct hv_vcpu *v, bool in, u16 port, unsigned size, unsigned count, u32 val)
{
	trace(kvm_pio, "pio_%s at 0x%x size %u count %u val 0x%x %s", in ? "read" : "write", port, size,
	      count, val, count > 1 ? "(...)" : "");
	if (hv_exit_stat_wanted(&v->exits))
		hv_exit_stat_begin(&v->exits, HV_EVENT_IOPORT, HV_EXIT_KEY(port, !in));
}

static u32 size_mask(unsigned size)
{
	return size == 4 ? ~0u : (1u << size * 8) - 1;
}

static int exit_to_user(struct hv_vcpu *v, bool in, u16 port, unsigned size, u32 count)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = (u8)size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = PAGE_SIZE;
	hv_stat_inc(v, HV_STAT_io_exits);
	return 0;
}

/* ---- IN and OUT ---- */

static int put_in_result(struct hv_vcpu *v, u32 val)
{
	unsigned size = v->x86->pio.size;
	u64 old = hv_get_gpr(v, X86_RAX);

	trace_pio(v, true, v->x86->pio.port, size, 1, val);
	hv_set_gpr(v, X86_RAX, size == 4 ? val : bits_set(old, size * 8 - 1, 0, val));
	return hv_skip_insn(v);
}

static int in_answered(struct hv_vcpu *v)
{
	u32 val = 0;

	/* A client that moved RIP does not want the instruction any more. */
	if (hv_linear_rip(v) != v->x86->pio.rip)
		return 1;
	memcpy(&val, v->pio_data, v->x86->pio.size);
	return put_in_result(v, val);
}

static int out_done(struct hv_vcpu *v)
{
	if (hv_linear_rip(v) != v->x86->pio.rip)
		return 1;
	return hv_skip_insn(v);
}

static int exit_in(struct hv_vcpu *v, u16 port, unsigned size)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 val = 0;

	x->pio.size = (u8)size;
	x->pio.port = port;
	if (hv_iobus_read(v, HV_BUS_PIO, port, size, &val) == 0)
		return put_in_result(v, val);
	memset(v->pio_data, 0, size);
	x->pio.rip = hv_linear_rip(v);
	x->complete = in_answered;
	return exit_to_user(v, true, port, size, 1);
}

static int exit_out(struct hv_vcpu *v, u16 port, unsigned size)
{
	struct hv_vcpu_x86 *x = v->x86;
	u32 val = (u32)hv_get_gpr(v, X86_RAX) & size_mask(size);
	int r;

	trace_pio(v, false, port, size, 1, val);
	if (hv_iobus_write(v, HV_BUS_PIO, port, size, &val) == 0)
		return hv_skip_insn(v);
	memcpy(v->pio_data, &val, size);
	/* Old firmware resets by this port and wants RIP behind the OUT already. */
	if (port == QUIRK_PORT_7E && !(v->vm->disabled_quirks & KVM_X86_QUIRK_OUT_7E_INC_RIP)) {
		r = hv_skip_insn(v);
		if (r <= 0)
			return r;
		return exit_to_user(v, false, port, size, 1);
	}
	x->pio.rip = hv_linear_rip(v);
	x->complete = out_done;
	return exit_to_user(v, false, port, size, 1);
}

/* ---- INS and OUTS ---- */

/* Elements that the present iteration and those behind it may transfer in one go. */
static u32 string_batch(struct hv_vcpu *v, unsigned size)
{
	u64 q = v->x86->exit_qual, rcx = hv_get_gpr(v, X86_RCX);
	u32 asize = (u32)bits_get(vmcs_get(v, VMCS_EXIT_INSN_INFO), 9, 7);
	u64 lin = vmcs_get(v, VMCS_GUEST_LINEAR_ADDRESS);
	bool down = vmcs_get(v, VMCS_GUEST_RFLAGS) & BIT(10);
	u64 room;

	if (!(q & BIT(5)))
		return 1;
	if (asize == 0)
		rcx = (u16)rcx;
	else if (asize == 1)
		rcx = (u32)rcx;
	lin &= ~PAGE_MASK;
	room = down ? (lin + size) / size : (PAGE_SIZE - lin) / size;
	/* An element that crosses the page goes alone. */
	return (u32)max((u64)1, min(rcx, room));
}

enum x86_bus_result hv_pio_string_out(struct hv_vcpu *v, u16 port, unsigned size, u32 val)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (x->emul_kind != HV_EMUL_STRING || x->pio.in || port != x->pio.port || size != x->pio.size)
		return X86_BUS_ERROR;
	trace_pio(v, false, port, size, 1, val);
	if (hv_iobus_write(v, HV_BUS_PIO, port, size, &val) == 0)
		return X86_BUS_OK;
	memcpy((u8 *)v->pio_data + (size_t)x->pio.used * size, &val, size);
	x->pio.used++;
	return X86_BUS_OK;
}

enum x86_bus_result hv_pio_string_in(struct hv_vcpu *v, u16 port, unsigned size, u32 *val)
{
	struct hv_vcpu_x86 *x = v->x86;

	if (x->emul_kind != HV_EMUL_STRING || !x->pio.in || port != x->pio.port || size != x->pio.size)
		return X86_BUS_ERROR;
	*val = 0;
	if (x->pio.used < x->pio.count) {
		memcpy(val, (u8 *)v->pio_data + (size_t)x->pio.used * size, size);
		x->pio.used++;
		trace_pio(v, true, port, size, 1, *val);
		return X86_BUS_OK;
	}
	if (x->pio.count == 0 && hv_iobus_read(v, HV_BUS_PIO, port, size, val) == 0) {
		trace_pio(v, true, port, size, 1, *val);
		return X86_BUS_OK;
	}
	x->emul_user_exit = true;
	return X86_BUS_RETRY;
}

/* Does the instruction end here, or this round of it? Device memory takes one element at a time. */
static bool round_ends(struct hv_vcpu *v, u64 rip)
{
	struct hv_vcpu_x86 *x = v->x86;

	return x->exception.pending || x->emul_db_trap || x->mmio.n ||
	       vmcs_get(v, VMCS_GUEST_RIP) != rip;
}

static int outs_element_answered(struct hv_vcpu *v);

static int outs_round(struct hv_vcpu *v, u32 batch)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP);
	int r;

	do {
		r = hv_emul_step(v);
		if (r <= 0)
			return r;
		if (r == HV_EMUL_AGAIN) {
			/* The element is in device memory: send what came before it first. */
			if (x->pio.used)
				break;
			x->pio.rip = hv_linear_rip(v);
			x->complete = outs_element_answered;
			return 0;
		}
	} while (--batch && !round_ends(v, rip));
	if (!x->pio.used)
		return hv_emul_finish(v);
	x->complete = hv_emul_finish;
	return exit_to_user(v, false, x->pio.port, x->pio.size, x->pio.used);
}

static int outs_element_answered(struct hv_vcpu *v)
{
	if (hv_linear_rip(v) != v->x86->pio.rip)
		return 1;
	hv_mmio_read_done(v);
	return outs_round(v, 1);
}

/* Store what has arrived; iterations that fault leave the rest unread, as on a real bus. */
static int ins_answered(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP);
	int r = 1;

	if (hv_linear_rip(v) != x->pio.rip)
		return 1;
	while (x->pio.used < x->pio.count) {
		r = hv_emul_step(v);
		if (r <= 0 || r == HV_EMUL_AGAIN || round_ends(v, rip))
			break;
	}
	return r <= 0 ? r : hv_mmio_send_writes(v);
}

static int ins_round(struct hv_vcpu *v, u32 batch)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 rip = vmcs_get(v, VMCS_GUEST_RIP);
	u32 left = batch;
	int r;

	do {
		r = hv_emul_step(v);
		if (r <= 0)
			return r;
		if (r == HV_EMUL_AGAIN) {
			x->pio.count = left;
			x->pio.rip = hv_linear_rip(v);
			memset(v->pio_data, 0, (size_t)left * x->pio.size);
			x->complete = ins_answered;
			return exit_to_user(v, true, x->pio.port, x->pio.size, left);
		}
	} while (--left && !round_ends(v, rip));
	return hv_mmio_send_writes(v);
}

int hv_exit_io(struct hv_vcpu *v)
{
	struct hv_vcpu_x86 *x = v->x86;
	u64 q = x->exit_qual;
	unsigned size = (q & 7) + 1;
	u16 port = (u16)(q >> 16);
	bool in = q & BIT(3);

	if (likely(!(q & BIT(4))))
		return in ? exit_in(v, port, size) : exit_out(v, port, size);
	x->emul_kind = HV_EMUL_STRING;
	x->pio.port = port;
	x->pio.size = (u8)size;
	x->pio.in = in;
	x->pio.count = x->pio.used = 0;
	hv_mmio_begin(v);
	return in ? ins_round(v, string_batch(v, size)) : outs_round(v, string_batch(v, size));
}
