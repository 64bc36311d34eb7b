/* SPDX-License-Identifier: MIT */
/* Raising: fills cpu->fault and unwinds to the run loop. Delivery is sys/'s. */
#include "silicon/x86/fault.h"

#define TYPE_HW_EXCEPTION 3	/* VMCS interruption-information numbering */

static _Noreturn void raise_exception(struct x86_cpu *cpu, enum x86_vector vector, bool has_error,
				      u32 error, u64 payload)
{
	cpu->fault.vector = (u8)vector;
	cpu->fault.type = TYPE_HW_EXCEPTION;
	cpu->fault.has_error = has_error;
	cpu->fault.error = error;
	cpu->fault.payload = payload;
	x86_unwind(cpu, X86_UNWIND_FAULT);
}

void x86_fault(struct x86_cpu *cpu, enum x86_vector vector)
{
	raise_exception(cpu, vector, false, 0, 0);
}

void x86_fault_code(struct x86_cpu *cpu, enum x86_vector vector, u32 error)
{
	raise_exception(cpu, vector, true, error, 0);
}

void x86_page_fault(struct x86_cpu *cpu, u64 lin, u32 error)
{
	raise_exception(cpu, X86_PF, true, error, lin);
}

void x86_debug_fault(struct x86_cpu *cpu, u64 dr6)
{
	raise_exception(cpu, X86_DB, false, 0, dr6);
}

void x86_unwind(struct x86_cpu *cpu, enum x86_unwind kind)
{
	cpu->fault.kind = (u8)kind;
	siglongjmp(*cpu->unwind, (int)kind);
}
