// SPDX-License-Identifier: MIT
/* Recorders in place of decode/, sys/ and vmx/: see mmu_fake.h. */
#include "silicon/x86/mmu/mmu_fake.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/log.h"
#include "silicon/vmx.h"
#include "silicon/x86/decode/codepage.h"
#include "silicon/x86/decode/decode.h"
#include "silicon/x86/jit/jit.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/intercept.h"

_Thread_local struct fake fake;

#define POOL_PAGES 8192u
static _Thread_local u8 *pool;
static _Thread_local unsigned pool_used;

u64 fake_pages(unsigned n, u64 align)
{
	u64 p;

	if (!pool) {
		pool = mmap(NULL, POOL_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		BUG_ON(pool == MAP_FAILED);
	}
	p = round_up((u64)pool + pool_used * PAGE_SIZE, align);
	pool_used = (unsigned)((p - (u64)pool) / PAGE_SIZE) + n;
	BUG_ON(pool_used > POOL_PAGES);
	memset((void *)p, 0, n * PAGE_SIZE);
	return p;
}

u64 fake_page(void)
{
	return fake_pages(1, PAGE_SIZE);
}

void fake_free(void)
{
	if (!fake.cpu)
		return;
	x86_mmu_free(fake.cpu);
	munmap(fake.cpu, sizeof(*fake.cpu));
	fake.cpu = NULL;
}

struct x86_cpu *fake_cpu(void)
{
	struct x86_cpu *cpu;

	fake_free();
	memset(&fake, 0, sizeof(fake));
	pool_used = 0;
	cpu = mmap(NULL, sizeof(*cpu), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	BUG_ON(cpu == MAP_FAILED);
	fake.cpu = cpu;
	fake.code_page = ~0ull;
	fake.ept_cap = BIT(0) | BIT(6) | BIT(7) | BIT(8) | BIT(14) | BIT(16) | BIT(17) | BIT(21) | BIT(22);
	cpu->physbits = 46;
	cpu->linbits = 57;
	cpu->cr0 = CR0_PE;
	cpu->mode = X86_MODE_PROT;
	cpu->lin_mask = 0xffffffff;
	cpu->feat[X86_FEAT_PDPE1GB / 32] |= 1u << (X86_FEAT_PDPE1GB % 32);
	cpu->tlb = &cpu->tlbs[X86_MMU_KERNEL];
	BUG_ON(x86_mmu_new(cpu));
	return cpu;
}

void x86_unwind(struct x86_cpu *cpu, enum x86_unwind kind)
{
	siglongjmp(*cpu->unwind, kind);
}

void x86_fault_code(struct x86_cpu *cpu, enum x86_vector vector, u32 error)
{
	cpu->fault.vector = (u8)vector;
	cpu->fault.error = error;
	x86_unwind(cpu, X86_UNWIND_FAULT);
}

void x86_page_fault(struct x86_cpu *cpu, u64 lin, u32 error)
{
	cpu->fault.payload = lin;
	x86_fault_code(cpu, X86_PF, error);
}

void x86_vmx_ept_exit(struct x86_cpu *cpu, u32 reason, u64 qual, u64 gpa, u64 lin, bool lin_valid)
{
	fake.ept_reason = reason;
	fake.ept_qual = qual;
	fake.ept_gpa = gpa;
	fake.ept_lin = lin;
	fake.ept_lin_valid = lin_valid;
	x86_unwind(cpu, X86_UNWIND_VMEXIT);
}

bool x86_vmx_apic_access(struct x86_cpu *cpu, u64 spa, unsigned size, bool write, bool fetch, u64 *val)
{
	fake.apic_accesses++;
	if (fake.apic_declines)
		return false;
	if (fetch)
		x86_unwind(cpu, X86_UNWIND_VMEXIT);
	if (write)
		fake.apic_value = *val;
	else
		*val = fake.apic_value;
	return true;
}

u64 x86_vmcs_get(struct x86_cpu *cpu, enum vmcs_field field)
{
	switch ((u32)field) {
	case VMCS_APIC_ACCESS_ADDR: return fake.vmcs_apic_page;
	case VMCS_PML_ADDR: return fake.vmcs_pml_addr;
	case VMCS_PML_INDEX: return fake.vmcs_pml_index;
	default: BUG();
	}
}

void x86_vmcs_set(struct x86_cpu *cpu, enum vmcs_field field, u64 val)
{
	BUG_ON(field != VMCS_PML_INDEX);
	fake.vmcs_pml_index = (u16)val;
}

bool x86_msr_read(struct x86_cpu *cpu, u32 msr, u64 *v)
{
	BUG_ON(msr != 0x48c);
	*v = fake.ept_cap;
	return true;
}

bool x86_codepage_test(u64 spa)
{
	return (spa & PAGE_MASK) == fake.code_page;
}

bool x86_codepage_may_write(u64 spa)
{
	return !x86_codepage_test(spa);
}

u64 x86_jit_fault_pc(struct x86_cpu *cpu, u64 pc)
{
	return 0;
}

void x86_codepage_store(struct x86_cpu *cpu, u64 spa, unsigned len)
{
	fake.code_stores++;
}

void x86_decode_flush(struct x86_cpu *cpu)
{
	fake.decode_flushes++;
}

void x86_decode_flush_nonglobal(struct x86_cpu *cpu, unsigned before)
{
	fake.decode_flushes++;
}

void x86_decode_flush_page(struct x86_cpu *cpu, u64 lin)
{
	fake.decode_flushes++;
}

void x86_check_watchpoint(struct x86_cpu *cpu, u64 lin, unsigned size, bool write)
{
	fake.watch_hits++;
	fake.watch_lin = lin;
	fake.watch_write = write;
}
