/* SPDX-License-Identifier: MIT */
/*
 * Debug registers and what raises #DB: breakpoints on code, data and ports. The
 * order of traps against other events is in boundary.c.
 * SDM vol. 3B "Debug Registers", "Debug Exceptions".
 */
#include "silicon/x86/sys/sys_priv.h"

#define DR6_FIXED1 0xffff0ff0ull
#define DR6_WRITABLE (BITS(3, 0) | DR6_BD | DR6_BS | DR6_BT)
#define DR7_WRITABLE (BITS(31, 16) | DR7_GD | BIT(11) | BITS(9, 0))
#define DR7_FIXED1 BIT(10)
#define PENDING_ENABLED BIT(12)		/* of the VMCS' pending-debug format */

/* R/Wn of DR7. */
enum { BP_EXEC, BP_WRITE, BP_IO, BP_ACCESS };

static bool bp_enabled(const struct x86_cpu *cpu, unsigned n)
{
	return cpu->dr7 >> 2 * n & 3;
}

static unsigned bp_kind(const struct x86_cpu *cpu, unsigned n)
{
	return cpu->dr7 >> (16 + 4 * n) & 3;
}

static unsigned bp_len(const struct x86_cpu *cpu, unsigned n)
{
	static const u8 len[] = { 1, 2, 8, 4 };

	return len[cpu->dr7 >> (18 + 4 * n) & 3];
}

/* Does [@addr, @addr + @size) touch breakpoint @n? Its address is aligned to its length. */
static bool bp_overlaps(const struct x86_cpu *cpu, unsigned n, u64 addr, unsigned size)
{
	u64 len = bp_len(cpu, n), at = cpu->dr[n] & ~(len - 1);

	return addr - at < len || at - addr < size;
}

static void record(struct x86_cpu *cpu, u64 hits)
{
	if (!hits)
		return;
	cpu->pending_db |= hits | PENDING_ENABLED;
	cpu->slow |= X86_SLOW_DB_PENDING;
}

void x86_debug_update(struct x86_cpu *cpu)
{
	cpu->slow &= ~(u32)X86_SLOW_IBP;
	for (unsigned n = 0; n < 4; n++)
		if (bp_enabled(cpu, n) && bp_kind(cpu, n) == BP_EXEC)
			cpu->slow |= X86_SLOW_IBP;
	x86_tlb_watch_update(cpu);
}

void x86_check_watchpoint(struct x86_cpu *cpu, u64 lin, unsigned size, bool write)
{
	u64 hits = 0;

	for (unsigned n = 0; n < 4; n++) {
		unsigned kind = bp_kind(cpu, n);

		if (bp_enabled(cpu, n) && (kind == BP_ACCESS || (kind == BP_WRITE && write)) &&
		    bp_overlaps(cpu, n, lin, size))
			hits |= BIT(n);
	}
	record(cpu, hits);
}

void x86_check_io_watchpoint(struct x86_cpu *cpu, u16 port, unsigned size)
{
	u64 hits = 0;

	if (likely(!(cpu->dr7 & 0xff)) || !(cpu->cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++)
		if (bp_enabled(cpu, n) && bp_kind(cpu, n) == BP_IO && bp_overlaps(cpu, n, port, size))
			hits |= BIT(n);
	record(cpu, hits);
}

void x86_check_insn_breakpoint(struct x86_cpu *cpu)
{
	u64 lin = (cpu->seg_base[X86_CS] + cpu->rip) & cpu->lin_mask;
	u64 hits = 0;

	if (cpu->rflags & RFLAGS_RF)
		return;
	for (unsigned n = 0; n < 4; n++)
		if (bp_enabled(cpu, n) && bp_kind(cpu, n) == BP_EXEC && bp_overlaps(cpu, n, lin, 1))
			hits |= BIT(n);
	if (hits)
		x86_debug_fault(cpu, hits);
}

void debug_enter(struct x86_cpu *cpu, u64 dr6)
{
	cpu->dr6 = (cpu->dr6 & ~BITS(3, 0)) | (dr6 & DR6_WRITABLE);
	cpu->dr7 &= ~DR7_GD;
	cpu->debugctl &= ~DEBUGCTL_BTF;
}

u64 x86_get_dr(struct x86_cpu *cpu, unsigned n)
{
	return n < 4 ? cpu->dr[n] : n == 6 ? cpu->dr6 : cpu->dr7;
}

void x86_set_dr(struct x86_cpu *cpu, unsigned n, u64 v)
{
	if (n < 4)
		cpu->dr[n] = v;
	else if (n == 6)
		cpu->dr6 = (v & DR6_WRITABLE) | DR6_FIXED1;
	else
		cpu->dr7 = (v & DR7_WRITABLE) | DR7_FIXED1;
	if (n != 6)
		x86_debug_update(cpu);
}
