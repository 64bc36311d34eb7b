/* SPDX-License-Identifier: MIT */
/* Between emulate.c, mmio.c, mov.c and pio.c. */
#ifndef KVM_X86_EMULATE_H
#define KVM_X86_EMULATE_H

#include "kvm/x86/x86.h"

/*
 * Device memory as an instruction under emulation sees it. mmio_begin() starts
 * a new instruction; an access answers from what is known, from a device of the
 * hypervisor, or (reads) leaves the run page filled and returns X86_BUS_RETRY.
 */
void hv_mmio_begin(struct hv_vcpu *v);
enum x86_bus_result hv_mmio_read(struct hv_vcpu *v, u64 gpa, void *buf, unsigned len);
enum x86_bus_result hv_mmio_write(struct hv_vcpu *v, u64 gpa, const void *buf, unsigned len);
/* User space has answered the read that was asked for. */
void hv_mmio_read_done(struct hv_vcpu *v);
/*
 * Hand the queued writes to user space, one exit each; @then runs after the
 * last (NULL: enter the guest). As an exit handler.
 */
int hv_mmio_send_writes(struct hv_vcpu *v);

/* A plain MOV between a register and @gpa. -EOPNOTSUPP: not that simple; else as an exit handler. */
int hv_mov_mmio(struct hv_vcpu *v, u64 gpa);

/* String I/O on the emulating processor: ports of one execution. pio.c */
enum x86_bus_result hv_pio_string_in(struct hv_vcpu *v, u16 port, unsigned size, u32 *val);
enum x86_bus_result hv_pio_string_out(struct hv_vcpu *v, u16 port, unsigned size, u32 val);

/*
 * Execute one instruction on the emulating processor and put the result into
 * the guest. Returns as an exit handler, or HV_EMUL_AGAIN when the bus wants
 * user space to answer first (the run page is filled).
 */
#define HV_EMUL_AGAIN 2
int hv_emul_step(struct hv_vcpu *v);
/* After the writes of an instruction have been sent: single step due? */
int hv_emul_finish(struct hv_vcpu *v);

#endif
