/* SPDX-License-Identifier: MIT */
/*
 * The checks of a VM entry, in three groups: controls (VMfailValid 7), host
 * state (VMfailValid 8), guest state (entry failure 33). Nothing is changed here.
 *
 * SDM vol. 3C "Checks on VMX Controls and Host-State Area", "Checking and
 * Loading Guest State". A group is checked again only after a VMWRITE to a
 * field of it (struct vmcs.dirty): what a VM exit saved is a state that the
 * processor was in, so it passes. What changes at every exit, or depends on memory
 * or on the processor's present mode, is checked at every entry.
 */
#include "base/log.h"
#include "silicon/x86/sys/sys.h"
#include "silicon/x86/vmx/vmx_priv.h"

/* Name the rule that failed, for whoever debugs a hypervisor. */
#define REQUIRE(c) \
	do { \
		if (unlikely(!(c))) { \
			log_debug("VM entry: not (%s)", #c); \
			return false; \
		} \
	} while (0)
#define IMPLIES(a, b) (!(a) || (b))

static bool ctl_ok(u64 v, const struct vmx_ctl_cap *c)
{
	return (v & c->must) == c->must && !(v & ~(u64)c->may);
}

static bool list_ok(const struct x86_cpu *cpu, u64 count, u64 addr)
{
	if (!count)
		return true;
	return vmx_addr_ok(cpu, addr, 16) && !((addr + count * 16 - 1) >> vmx_addr_bits(cpu));
}

static bool pat_ok(u64 pat)
{
	return x86_pat_valid(pat);
}

static u64 efer_allowed(const struct x86_cpu *cpu)
{
	return (x86_has(cpu, X86_FEAT_SYSCALL) ? EFER_SCE : 0) |
	       (x86_has(cpu, X86_FEAT_LM) ? EFER_LME | EFER_LMA : 0) |
	       (x86_has(cpu, X86_FEAT_NX) ? EFER_NXE : 0);
}

/* ---- Controls ---- */

static bool check_exec_controls(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 pin = (u32)V(v, PIN_BASED_CTLS), proc = (u32)V(v, PROC_BASED_CTLS), proc2 = vmx_proc2(v);

	REQUIRE(ctl_ok(pin, &vmx_cap_pin));
	REQUIRE(ctl_ok(proc, &vmx_cap_proc));
	REQUIRE(ctl_ok(proc2, &vmx_cap_proc2));
	REQUIRE(V(v, CR3_TARGET_COUNT) <= VMX_CR3_TARGETS);
	REQUIRE(IMPLIES(proc & PROC_USE_IO_BITMAPS, vmx_addr_ok(cpu, V(v, IO_BITMAP_A), 4096) &&
						    vmx_addr_ok(cpu, V(v, IO_BITMAP_B), 4096)));
	REQUIRE(IMPLIES(proc & PROC_USE_MSR_BITMAPS, vmx_addr_ok(cpu, V(v, MSR_BITMAP), 4096)));
	REQUIRE(IMPLIES(!(pin & PIN_NMI_EXITING), !(pin & PIN_VIRTUAL_NMIS)));
	REQUIRE(IMPLIES(!(pin & PIN_VIRTUAL_NMIS), !(proc & PROC_NMI_WINDOW_EXITING)));

	REQUIRE(IMPLIES(proc & PROC_TPR_SHADOW, vmx_addr_ok(cpu, V(v, VIRT_APIC_ADDR), 4096)));
	REQUIRE(IMPLIES(!(proc & PROC_TPR_SHADOW),
			!(proc2 & (PROC2_VIRT_X2APIC | PROC2_APIC_REGISTER_VIRT | PROC2_VIRT_INTR_DELIVERY))));
	REQUIRE(IMPLIES(proc2 & PROC2_VIRT_APIC_ACCESSES, vmx_addr_ok(cpu, V(v, APIC_ACCESS_ADDR), 4096)));
	REQUIRE(IMPLIES(proc2 & PROC2_VIRT_X2APIC, !(proc2 & PROC2_VIRT_APIC_ACCESSES)));
	REQUIRE(IMPLIES(proc2 & PROC2_VIRT_INTR_DELIVERY, pin & PIN_EXT_INTR_EXITING));
	if (pin & PIN_POSTED_INTR) {
		REQUIRE(proc2 & PROC2_VIRT_INTR_DELIVERY);
		REQUIRE(V(v, EXIT_CTLS) & EXITC_ACK_INTR);
		REQUIRE(V(v, POSTED_INTR_VECTOR) <= 0xff);
		REQUIRE(vmx_addr_ok(cpu, V(v, POSTED_INTR_DESC_ADDR), 64));
	}

	REQUIRE(IMPLIES(proc2 & PROC2_VPID, V(v, VPID) != 0));
	REQUIRE(IMPLIES(proc2 & PROC2_EPT, vmx_eptp_ok(cpu, V(v, EPT_POINTER))));
	REQUIRE(IMPLIES(!(proc2 & PROC2_EPT),
			!(proc2 & (PROC2_PML | PROC2_UNRESTRICTED_GUEST | PROC2_MODE_BASED_EXEC))));
	REQUIRE(IMPLIES(proc2 & PROC2_PML, vmx_addr_ok(cpu, V(v, PML_ADDR), 4096)));
	if (proc2 & PROC2_VMFUNC) {
		REQUIRE(!(V(v, VMFUNC_CTLS) & ~VMX_VMFUNC_EPTP_SWITCHING));
		if (V(v, VMFUNC_CTLS) & VMX_VMFUNC_EPTP_SWITCHING) {
			REQUIRE(proc2 & PROC2_EPT);
			REQUIRE(vmx_addr_ok(cpu, V(v, EPTP_LIST_ADDR), 4096));
		}
	}
	REQUIRE(IMPLIES(proc2 & PROC2_VMCS_SHADOWING, vmx_addr_ok(cpu, V(v, VMREAD_BITMAP), 4096) &&
						      vmx_addr_ok(cpu, V(v, VMWRITE_BITMAP), 4096)));
	REQUIRE(IMPLIES(proc2 & PROC2_TSC_SCALING, V(v, TSC_MULTIPLIER) != 0));
	return true;
}

static bool check_exit_entry_controls(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 exitc = (u32)V(v, EXIT_CTLS);

	REQUIRE(ctl_ok(exitc, &vmx_cap_exit));
	REQUIRE(IMPLIES(!(V(v, PIN_BASED_CTLS) & PIN_PREEMPTION_TIMER), !(exitc & EXITC_SAVE_TIMER)));
	REQUIRE(list_ok(cpu, V(v, EXIT_MSR_STORE_COUNT), V(v, EXIT_MSR_STORE_ADDR)));
	REQUIRE(list_ok(cpu, V(v, EXIT_MSR_LOAD_COUNT), V(v, EXIT_MSR_LOAD_ADDR)));

	REQUIRE(ctl_ok(V(v, ENTRY_CTLS), &vmx_cap_entry));
	REQUIRE(list_ok(cpu, V(v, ENTRY_MSR_LOAD_COUNT), V(v, ENTRY_MSR_LOAD_ADDR)));
	return true;
}

/* Vectors that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
#define ERROR_VECTORS (1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17)

static bool check_injection(const struct vmcs *v)
{
	u32 info = (u32)V(v, ENTRY_INTR_INFO), type = INTR_TYPE(info), vector = info & 0xff;
	bool real_mode = (vmx_proc2(v) & PROC2_UNRESTRICTED_GUEST) && !(V(v, GUEST_CR0) & CR0_PE);
	bool need_error = type == INTR_HARD && vector < 32 && (ERROR_VECTORS >> vector & 1) && !real_mode;

	REQUIRE(type != 1);
	REQUIRE(IMPLIES(type == INTR_OTHER, vector == 0));
	REQUIRE(IMPLIES(type == INTR_NMI, vector == X86_NMI));
	REQUIRE(IMPLIES(type == INTR_HARD, vector <= 31));
	REQUIRE(!(info & BITS(30, 12)));
	REQUIRE(!!(info & INTR_ERROR) == need_error);
	REQUIRE(IMPLIES(info & INTR_ERROR, !(V(v, ENTRY_ERROR_CODE) >> 16)));
	REQUIRE(IMPLIES(type == INTR_SOFT_INT || type == INTR_INT1 || type == INTR_SOFT_EXC,
			V(v, ENTRY_INSN_LEN) <= 15));
	return true;
}

/* The threshold is compared with memory: every time. */
static bool check_tpr_threshold(struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 proc2 = vmx_proc2(v);

	if (proc2 & PROC2_VIRT_INTR_DELIVERY)
		return true;
	REQUIRE(!(V(v, TPR_THRESHOLD) & ~0xfull));
	REQUIRE(IMPLIES(!(proc2 & PROC2_VIRT_APIC_ACCESSES),
			V(v, TPR_THRESHOLD) <= (u64)(vmx_read8(V(v, VIRT_APIC_ADDR) + APIC_TPR) >> 4)));
	return true;
}

bool vmx_check_controls(struct x86_cpu *cpu, struct vmcs *v)
{
	if (v->dirty & VMCS_DIRTY_CTL) {
		if (!check_exec_controls(cpu, v) || !check_exit_entry_controls(cpu, v))
			return false;
		v->dirty &= ~VMCS_DIRTY_CTL;
	}
	if (V(v, PROC_BASED_CTLS) & PROC_TPR_SHADOW && !check_tpr_threshold(cpu, v))
		return false;
	return !(V(v, ENTRY_INTR_INFO) & INTR_VALID) || check_injection(v);
}

/* ---- Host state ---- */

static bool check_host_fields(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u64 cr0 = V(v, HOST_CR0), cr4 = V(v, HOST_CR4);
	u32 exitc = (u32)V(v, EXIT_CTLS);
	bool host64 = exitc & EXITC_HOST_64;

	REQUIRE((cr0 & VMX_CR0_FIXED0) == VMX_CR0_FIXED0 && !(cr0 & ~VMX_CR0_FIXED1));
	REQUIRE((cr4 & VMX_CR4_FIXED0) && !(cr4 & ~x86_cr4_allowed(cpu)));
	REQUIRE(!(V(v, HOST_CR3) >> vmx_addr_bits(cpu)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_SYSENTER_ESP)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_SYSENTER_EIP)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_FS_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_GS_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_TR_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_GDTR_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, HOST_IDTR_BASE)));
	REQUIRE(IMPLIES(exitc & EXITC_LOAD_PAT, pat_ok(V(v, HOST_PAT))));
	REQUIRE(IMPLIES(exitc & EXITC_LOAD_PERF_GLOBAL, x86_pmu_global_ctrl_ok(cpu, V(v, HOST_PERF_GLOBAL_CTRL))));
	if (exitc & EXITC_LOAD_EFER) {
		REQUIRE(!(V(v, HOST_EFER) & ~efer_allowed(cpu)));
		REQUIRE(!!(V(v, HOST_EFER) & EFER_LMA) == host64);
		REQUIRE(!!(V(v, HOST_EFER) & EFER_LME) == host64);
	}
	for (unsigned i = VS_HOST_ES_SEL; i <= VS_HOST_TR_SEL; i++)
		REQUIRE(!(v->f[i] & 7));
	REQUIRE(V(v, HOST_CS_SEL) && V(v, HOST_TR_SEL));
	REQUIRE(IMPLIES(!host64, V(v, HOST_SS_SEL)));
	if (host64) {
		unsigned width = cr4 & CR4_LA57 ? 57 : 48;

		REQUIRE(cr4 & CR4_PAE);
		REQUIRE((u64)sign_extend(V(v, HOST_RIP), width) == V(v, HOST_RIP));
	} else {
		REQUIRE(!(V(v, ENTRY_CTLS) & ENTRY_IA32E_GUEST));
		REQUIRE(!(cr4 & CR4_PCIDE));
		REQUIRE(!(V(v, HOST_RIP) >> 32));
	}
	return true;
}

bool vmx_check_host(struct x86_cpu *cpu, struct vmcs *v)
{
	REQUIRE(!!(V(v, EXIT_CTLS) & EXITC_HOST_64) == x86_lma(cpu));
	if (!(v->dirty & VMCS_DIRTY_HOST))
		return true;
	if (!check_host_fields(cpu, v))
		return false;
	v->dirty &= ~VMCS_DIRTY_HOST;
	return true;
}

/* ---- Guest state ---- */

static bool check_guest_registers(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u64 cr0 = V(v, GUEST_CR0), cr4 = V(v, GUEST_CR4), rflags = V(v, GUEST_RFLAGS);
	u32 entryc = (u32)V(v, ENTRY_CTLS), proc2 = vmx_proc2(v);
	bool ia32e = entryc & ENTRY_IA32E_GUEST;
	u64 must = VMX_CR0_FIXED0 & ~(proc2 & PROC2_UNRESTRICTED_GUEST ? CR0_PE | CR0_PG : 0);
	/* Without EPT guest page tables hold simulated physical addresses. */
	unsigned cr3_bits = proc2 & PROC2_EPT ? cpu->physbits : vmx_addr_bits(cpu);

	REQUIRE((cr0 & must) == must && !(cr0 & ~VMX_CR0_FIXED1));
	REQUIRE(IMPLIES(cr0 & CR0_PG, cr0 & CR0_PE));
	REQUIRE((cr4 & VMX_CR4_FIXED0) && !(cr4 & ~x86_cr4_allowed(cpu)));
	if (entryc & ENTRY_LOAD_DEBUG) {
		REQUIRE(!(V(v, GUEST_DEBUGCTL) & ~(DEBUGCTL_LBR | DEBUGCTL_BTF | DEBUGCTL_FREEZES)));
		REQUIRE(!(V(v, GUEST_DR7) >> 32));
	}
	REQUIRE(IMPLIES(ia32e, (cr0 & CR0_PG) && (cr4 & CR4_PAE)));
	REQUIRE(IMPLIES(!ia32e, !(cr4 & CR4_PCIDE)));
	REQUIRE(!(V(v, GUEST_CR3) >> cr3_bits));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_SYSENTER_ESP)));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_SYSENTER_EIP)));
	REQUIRE(IMPLIES(entryc & ENTRY_LOAD_PAT, pat_ok(V(v, GUEST_PAT))));
	REQUIRE(IMPLIES(entryc & ENTRY_LOAD_PERF_GLOBAL,
			x86_pmu_global_ctrl_ok(cpu, V(v, GUEST_PERF_GLOBAL_CTRL))));
	if (entryc & ENTRY_LOAD_EFER) {
		u64 efer = V(v, GUEST_EFER);

		REQUIRE(!(efer & ~efer_allowed(cpu)));
		REQUIRE(!!(efer & EFER_LMA) == ia32e);
		REQUIRE(IMPLIES(cr0 & CR0_PG, !!(efer & EFER_LME) == ia32e));
	}
	REQUIRE(!(rflags & (BITS(63, 22) | BIT(15) | BIT(5) | BIT(3))) && (rflags & RFLAGS_1));
	REQUIRE(IMPLIES(rflags & RFLAGS_VM, !ia32e && (cr0 & CR0_PE)));
	return true;
}

static bool granularity_ok(u32 ar, u32 limit)
{
	if ((limit & 0xfff) != 0xfff && (ar & X86_AR_G))
		return false;
	return !(limit >> 20) || (ar & X86_AR_G);
}

#define AR_RESERVED 0xfffe0f00u	/* 11:8 and 31:17 */

static bool check_vm86_segments(const struct vmcs *v)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++) {
		REQUIRE(V_SEG(v, BASE, i) == V_SEG(v, SEL, i) << 4);
		REQUIRE(V_SEG(v, LIMIT, i) == 0xffff);
		REQUIRE(V_SEG(v, AR, i) == 0xf3);
	}
	return true;
}

static bool check_code_and_data_segments(const struct x86_cpu *cpu, const struct vmcs *v)
{
	bool unrestricted = vmx_proc2(v) & PROC2_UNRESTRICTED_GUEST;
	bool ia32e = V(v, ENTRY_CTLS) & ENTRY_IA32E_GUEST;
	u32 cs = (u32)V(v, GUEST_CS_AR), ss = (u32)V(v, GUEST_SS_AR);
	u32 cs_type = cs & X86_AR_TYPE, ss_dpl = X86_AR_DPL(ss);

	REQUIRE(IMPLIES(!unrestricted, (V(v, GUEST_SS_SEL) & 3) == (V(v, GUEST_CS_SEL) & 3)));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_FS_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_GS_BASE)));

	switch (cs_type) {
	case 3:
		REQUIRE(unrestricted && X86_AR_DPL(cs) == 0);
		break;
	case 9: case 11:
		REQUIRE(X86_AR_DPL(cs) == ss_dpl);
		break;
	case 13: case 15:
		REQUIRE(X86_AR_DPL(cs) <= ss_dpl);
		break;
	default:
		REQUIRE(!"CS type");
	}
	REQUIRE(IMPLIES(!unrestricted, ss_dpl == (V(v, GUEST_SS_SEL) & 3)));
	REQUIRE(IMPLIES(cs_type == 3 || !(V(v, GUEST_CR0) & CR0_PE), ss_dpl == 0));
	REQUIRE(IMPLIES(ia32e && (cs & X86_AR_L), !(cs & X86_AR_DB)));
	REQUIRE(!(V(v, GUEST_CS_BASE) >> 32));

	for (unsigned i = X86_ES; i <= X86_GS; i++) {
		u32 ar = (u32)V_SEG(v, AR, i), type = ar & X86_AR_TYPE;

		if (i != X86_CS && (ar & X86_AR_UNUSABLE))
			continue;
		if (i != X86_FS && i != X86_GS)
			REQUIRE(!(V_SEG(v, BASE, i) >> 32));
		if (i == X86_SS) {
			REQUIRE(type == 3 || type == 7);
		} else if (i != X86_CS) {
			REQUIRE(type & 1);
			REQUIRE(IMPLIES(type & 8, type & 2));
			REQUIRE(IMPLIES(!unrestricted && type <= 11,
					X86_AR_DPL(ar) >= (V_SEG(v, SEL, i) & 3)));
		}
		REQUIRE((ar & X86_AR_S) && (ar & X86_AR_P));
		/* An unusable CS is checked like any other, so bit 16 is no fault. */
		REQUIRE(!(ar & AR_RESERVED));
		REQUIRE(granularity_ok(ar, (u32)V_SEG(v, LIMIT, i)));
	}
	return true;
}

static bool check_system_segments(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u32 tr = (u32)V(v, GUEST_TR_AR), ldtr = (u32)V(v, GUEST_LDTR_AR);
	bool ia32e = V(v, ENTRY_CTLS) & ENTRY_IA32E_GUEST;

	REQUIRE(!(V(v, GUEST_TR_SEL) & 4));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_TR_BASE)));
	REQUIRE((tr & X86_AR_TYPE) == 11 || ((tr & X86_AR_TYPE) == 3 && !ia32e));
	REQUIRE(!(tr & X86_AR_S) && (tr & X86_AR_P));
	REQUIRE(!(tr & AR_RESERVED) && !(tr & X86_AR_UNUSABLE));
	REQUIRE(granularity_ok(tr, (u32)V(v, GUEST_TR_LIMIT)));
	if (!(ldtr & X86_AR_UNUSABLE)) {
		REQUIRE(!(V(v, GUEST_LDTR_SEL) & 4));
		REQUIRE(x86_canonical_max(cpu, V(v, GUEST_LDTR_BASE)));
		REQUIRE((ldtr & X86_AR_TYPE) == 2);
		REQUIRE(!(ldtr & X86_AR_S) && (ldtr & X86_AR_P));
		REQUIRE(!(ldtr & AR_RESERVED));
		REQUIRE(granularity_ok(ldtr, (u32)V(v, GUEST_LDTR_LIMIT)));
	}
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_GDTR_BASE)));
	REQUIRE(x86_canonical_max(cpu, V(v, GUEST_IDTR_BASE)));
	REQUIRE(!(V(v, GUEST_GDTR_LIMIT) >> 16) && !(V(v, GUEST_IDTR_LIMIT) >> 16));
	return true;
}

static bool check_rip(const struct x86_cpu *cpu, const struct vmcs *v)
{
	u64 rip = V(v, GUEST_RIP);

	if (!(V(v, ENTRY_CTLS) & ENTRY_IA32E_GUEST) || !(V(v, GUEST_CS_AR) & X86_AR_L))
		REQUIRE(!(rip >> 32));
	else /* not "canonical": bit N-1 is free */
		REQUIRE(rip >> cpu->linbits == 0 || rip >> cpu->linbits == ~0ull >> cpu->linbits);
	return true;
}

/* May the event be injected in this activity state? */
static bool injection_in_activity(u32 activity, u32 info)
{
	u32 type = INTR_TYPE(info), vector = info & 0xff;

	switch (activity) {
	case X86_ACT_ACTIVE:
		return true;
	case X86_ACT_HLT:
		return type == INTR_EXT || type == INTR_NMI || type == INTR_OTHER ||
		       (type == INTR_HARD && (vector == X86_DB || vector == X86_MC));
	case X86_ACT_SHUTDOWN:
		return type == INTR_NMI || (type == INTR_HARD && vector == X86_MC);
	default:
		return false;
	}
}

static bool check_non_register(const struct vmcs *v)
{
	u32 activity = (u32)V(v, GUEST_ACTIVITY), block = (u32)V(v, GUEST_INTERRUPTIBILITY);
	u32 info = (u32)V(v, ENTRY_INTR_INFO);
	u64 pdb = V(v, GUEST_PENDING_DEBUG), rflags = V(v, GUEST_RFLAGS);
	bool inject = info & INTR_VALID;
	bool inject_ext = inject && INTR_TYPE(info) == INTR_EXT;
	bool inject_nmi = inject && INTR_TYPE(info) == INTR_NMI;

	REQUIRE(activity <= X86_ACT_WAIT_SIPI);
	REQUIRE(IMPLIES(activity == X86_ACT_HLT, X86_AR_DPL((u32)V(v, GUEST_SS_AR)) == 0));
	REQUIRE(IMPLIES(block & (BLOCK_STI | BLOCK_SS), activity == X86_ACT_ACTIVE));
	REQUIRE(IMPLIES(inject, injection_in_activity(activity, info)));

	REQUIRE(!(block & ~(BLOCK_STI | BLOCK_SS | BLOCK_NMI)));	/* no SMM, no enclaves */
	REQUIRE((block & (BLOCK_STI | BLOCK_SS)) != (BLOCK_STI | BLOCK_SS));
	REQUIRE(IMPLIES(block & BLOCK_STI, rflags & RFLAGS_IF));
	REQUIRE(IMPLIES(inject_ext, (rflags & RFLAGS_IF) && !(block & (BLOCK_STI | BLOCK_SS))));
	REQUIRE(IMPLIES(inject_nmi, !(block & BLOCK_SS)));
	REQUIRE(IMPLIES(inject_nmi && V(v, PIN_BASED_CTLS) & PIN_VIRTUAL_NMIS, !(block & BLOCK_NMI)));

	REQUIRE(!(pdb & (BITS(63, 15) | BIT(13) | BITS(11, 4))));
	if (block & (BLOCK_STI | BLOCK_SS) || activity == X86_ACT_HLT) {
		bool step = (rflags & RFLAGS_TF) && !(V(v, GUEST_DEBUGCTL) & DEBUGCTL_BTF);

		REQUIRE(!!(pdb & PDB_BS) == step);
	}
	return true;
}

static bool check_link_pointer(struct x86_cpu *cpu, const struct vmcs *v)
{
	u64 link = V(v, LINK_POINTER);
	u32 rev;

	if (link == ~0ull)
		return true;
	REQUIRE(vmx_addr_ok(cpu, link, 4096));
	REQUIRE(link != cpu->vmx.current);
	rev = vmx_read32(link);
	REQUIRE((rev & ~VMCS_SHADOW) == VMCS_REVISION);
	REQUIRE(!!(rev & VMCS_SHADOW) == !!(vmx_proc2(v) & PROC2_VMCS_SHADOWING));
	return true;
}

static bool check_pdptes(struct x86_cpu *cpu, const struct vmcs *v)
{
	bool ept = vmx_proc2(v) & PROC2_EPT;
	u64 reserved = BITS(63, ept ? cpu->physbits : vmx_addr_bits(cpu)) | BITS(8, 5) | BITS(2, 1);

	if (!(V(v, GUEST_CR0) & CR0_PG) || !(V(v, GUEST_CR4) & CR4_PAE) ||
	    V(v, ENTRY_CTLS) & ENTRY_IA32E_GUEST)
		return true;
	for (unsigned i = 0; i < 4; i++) {
		u64 e = ept ? v->f[VS_GUEST_PDPTE0 + i] :
			      vmx_read64((V(v, GUEST_CR3) & 0xffffffe0) + 8 * i);

		REQUIRE(IMPLIES(e & 1, !(e & reserved)));
	}
	return true;
}

/* Controls that the checks of the guest registers look at. */
static u64 guest_check_key(const struct vmcs *v)
{
	return V(v, ENTRY_CTLS) << 32 | (vmx_proc2(v) & (PROC2_UNRESTRICTED_GUEST | PROC2_EPT));
}

int vmx_check_guest(struct x86_cpu *cpu, struct vmcs *v)
{
	u64 key = guest_check_key(v);

	if (v->dirty & VMCS_DIRTY_GUEST || v->checked_with != key) {
		if (!check_guest_registers(cpu, v) || !check_system_segments(cpu, v))
			return 0;
		if (V(v, GUEST_RFLAGS) & RFLAGS_VM ? !check_vm86_segments(v) :
						     !check_code_and_data_segments(cpu, v))
			return 0;
		if (!check_pdptes(cpu, v))
			return 2;
		v->dirty &= ~VMCS_DIRTY_GUEST;
		v->checked_with = key;
	}
	if (!check_rip(cpu, v) || !check_non_register(v))
		return 0;
	return check_link_pointer(cpu, v) ? VMX_GUEST_OK : 4;
}
