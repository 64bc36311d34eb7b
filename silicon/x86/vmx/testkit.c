/* SPDX-License-Identifier: MIT */
/* See testkit.h. */
#include "silicon/x86/vmx/testkit.h"

#include <sys/mman.h>

#define MSR_VMX_BASIC 0x480

static void *pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static void put64(struct tk *t, u64 gpa, u64 val)
{
	memcpy(t->mem + gpa, &val, 8);
}

static void build_guest_tables(struct tk *t)
{
	put64(t, TK_PML4, 0x2000 | 7);
	put64(t, 0x2000, TK_PD | 7);
	put64(t, TK_PD, 0x0 | 0x87);
	put64(t, TK_PD + 8, 0x200000 | 0x87);

	put64(t, TK_GDT + TK_CS, 0x00af9b000000ffff);
	put64(t, TK_GDT + TK_SS, 0x00cf93000000ffff);
	put64(t, TK_GDT + (TK_CS3 & ~7), 0x00affb000000ffff);
	put64(t, TK_GDT + (TK_SS3 & ~7), 0x00cff3000000ffff);
	put64(t, TK_GDT + TK_CS32, 0x00cf9b000000ffff);
	put64(t, TK_GDT + TK_TR, 0x00008b0060000067);
	put64(t, TK_TSS + 4, TK_STACK);			/* RSP0 */
	put64(t, TK_TSS + 102, 0xffff);			/* no I/O permission map */
	for (unsigned n = 0; n < 256; n++) {
		u64 h = TK_HANDLER(n);

		put64(t, TK_IDT + 16 * n, (h & 0xffff) | TK_CS << 16 | 0x8e0000000000 | (h >> 16 & 0xffff) << 48);
		t->mem[h] = 0xf4;
	}
}

static void build_ept(struct tk *t)
{
	u64 table[5];

	t->ept = pages(5 * 4096);
	for (unsigned i = 0; i < 5; i++)
		table[i] = (u64)t->ept + i * 4096;
	t->ept[0] = table[1] | 7;
	t->ept[512] = table[2] | 7;
	t->ept[1024] = table[3] | 7;
	t->ept[1025] = table[4] | 7;
	for (u64 i = 0; i < TK_MEM / 4096; i++)
		t->ept[1536 + i] = ((u64)t->mem + i * 4096) | 6 << 3 | 7;
}

u64 *tk_epte(struct tk *t, u64 gpa)
{
	return &t->ept[1536 + gpa / 4096];
}

static void enter_root(struct tk *t)
{
	struct x86_state s;
	u64 basic;

	x86_get_state(t->cpu, &s);
	s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP | CR0_MP;
	s.cr4 = CR4_PAE | CR4_VMXE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	s.seg[X86_CS].ar = TK_AR_CODE64;
	s.seg[X86_SS].ar = TK_AR_DATA;
	x86_set_state(t->cpu, &s);
	assert_int_equal(x86_rdmsr(t->cpu, MSR_VMX_BASIC, &basic), 0);
	memcpy(t->vmxon, &basic, 4);
	memcpy(t->vmcs, &basic, 4);
	assert_int_equal(x86_vmxon(t->cpu, SPA((u64)t->vmxon)), VMX_OK);
	assert_int_equal(x86_vmclear(t->cpu, SPA((u64)t->vmcs)), VMX_OK);
	assert_int_equal(x86_vmptrld(t->cpu, SPA((u64)t->vmcs)), VMX_OK);
}

static void set_controls(struct tk *t)
{
	tk_set(t, VMCS_PIN_BASED_CTLS, vmx_cap_pin.must);
	tk_set(t, VMCS_PROC_BASED_CTLS, vmx_cap_proc.must | PROC_HLT_EXITING | PROC_ACTIVATE_SECONDARY |
					PROC_USE_MSR_BITMAPS);
	tk_set(t, VMCS_PROC_BASED_CTLS2, PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED_GUEST | PROC2_RDTSCP |
					 PROC2_INVPCID | PROC2_XSAVES);
	tk_set(t, VMCS_EXIT_CTLS, vmx_cap_exit.must | EXITC_HOST_64 | EXITC_SAVE_EFER | EXITC_LOAD_EFER |
				  EXITC_ACK_INTR | EXITC_SAVE_DEBUG);
	tk_set(t, VMCS_ENTRY_CTLS, vmx_cap_entry.must | ENTRY_IA32E_GUEST | ENTRY_LOAD_EFER | ENTRY_LOAD_DEBUG);
	tk_set(t, VMCS_EPT_POINTER, (u64)t->ept | 3 << 3 | 6);
	tk_set(t, VMCS_VPID, 1);
	tk_set(t, VMCS_MSR_BITMAP, (u64)t->msr_bitmap);
	tk_set(t, VMCS_IO_BITMAP_A, (u64)t->io_a);
	tk_set(t, VMCS_IO_BITMAP_B, (u64)t->io_b);
	tk_set(t, VMCS_VIRT_APIC_ADDR, (u64)t->vapic);
	tk_set(t, VMCS_APIC_ACCESS_ADDR, (u64)t->apic_access);
	tk_set(t, VMCS_LINK_POINTER, ~0ull);
	tk_set(t, VMCS_TSC_MULTIPLIER, 1ull << 48);
}

static void set_host(struct tk *t)
{
	struct x86_state s;

	x86_get_state(t->cpu, &s);
	tk_set(t, VMCS_HOST_CR0, s.cr0);
	tk_set(t, VMCS_HOST_CR4, s.cr4);
	tk_set(t, VMCS_HOST_EFER, s.efer);
	tk_set(t, VMCS_HOST_CS_SEL, 8);
	tk_set(t, VMCS_HOST_SS_SEL, 16);
	tk_set(t, VMCS_HOST_TR_SEL, 24);
	tk_set(t, VMCS_HOST_RIP, TK_HOST_RIP);
	tk_set(t, VMCS_HOST_RSP, TK_HOST_RSP);
}

static void set_segment(struct tk *t, unsigned seg, u16 sel, u32 ar)
{
	enum vmcs_field sel_f = (enum vmcs_field)(VMCS_GUEST_ES_SEL + 2 * seg);

	tk_set(t, sel_f, sel);
	tk_set(t, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + 2 * seg), ar & X86_AR_G ? 0xffffffff : 0xffff);
	tk_set(t, (enum vmcs_field)(VMCS_GUEST_ES_AR + 2 * seg), ar);
	tk_set(t, (enum vmcs_field)(VMCS_GUEST_ES_BASE + 2 * seg), 0);
}

static void set_guest(struct tk *t)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		set_segment(t, i, TK_SS, TK_AR_DATA);
	set_segment(t, X86_CS, TK_CS, TK_AR_CODE64);
	set_segment(t, X86_LDTR, 0, X86_AR_UNUSABLE);
	set_segment(t, X86_TR, TK_TR, 0x8b);
	tk_set(t, VMCS_GUEST_TR_BASE, TK_TSS);
	tk_set(t, VMCS_GUEST_TR_LIMIT, 0x67);
	tk_set(t, VMCS_GUEST_GDTR_BASE, TK_GDT);
	tk_set(t, VMCS_GUEST_GDTR_LIMIT, TK_TR + 15);
	tk_set(t, VMCS_GUEST_IDTR_BASE, TK_IDT);
	tk_set(t, VMCS_GUEST_IDTR_LIMIT, 0xfff);
	tk_set(t, VMCS_GUEST_CR0, CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP | CR0_MP);
	tk_set(t, VMCS_GUEST_CR3, TK_PML4);
	tk_set(t, VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_DE);
	tk_set(t, VMCS_GUEST_EFER, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
	tk_set(t, VMCS_GUEST_DR7, 0x400);
	tk_set(t, VMCS_GUEST_RFLAGS, RFLAGS_1);
	tk_set(t, VMCS_GUEST_RIP, TK_CODE);
	tk_set(t, VMCS_GUEST_RSP, TK_STACK);
}

struct tk *tk_new(void)
{
	struct tk *t = test_calloc(1, sizeof(*t));
	u8 *p;

	t->cpu = x86_cpu_new(x86_model_find("intel"), 0);
	assert_non_null(t->cpu);
	t->mem = pages(TK_MEM);
	p = pages(8 * 4096);
	t->vmxon = p;
	t->vmcs = p + 0x1000;
	t->io_a = p + 0x2000;
	t->io_b = p + 0x3000;
	t->msr_bitmap = p + 0x4000;
	t->vapic = p + 0x5000;
	t->apic_access = p + 0x6000;
	t->scratch = p + 0x7000;
	build_guest_tables(t);
	build_ept(t);
	enter_root(t);
	set_controls(t);
	set_host(t);
	set_guest(t);
	return t;
}

void tk_free(struct tk *t)
{
	x86_cpu_free(t->cpu);
	munmap(t->mem, TK_MEM);
	munmap(t->vmxon, 8 * 4096);
	munmap(t->ept, 5 * 4096);
	if (t->root)
		munmap(t->root, 4 * 4096);
	test_free(t);
}

void tk_code(struct tk *t, const void *bytes, size_t len)
{
	memcpy(t->mem + TK_CODE, bytes, len);
	/* As after DMA to memory that was executed: make the processor look again. */
	assert_int_equal(x86_invept(t->cpu, 2, (u64[2]){ 0 }), VMX_OK);
}

u64 tk_get(struct tk *t, enum vmcs_field field)
{
	u64 v;

	assert_int_equal(x86_vmread(t->cpu, (u32)field, &v), VMX_OK);
	return v;
}

void tk_set(struct tk *t, enum vmcs_field field, u64 val)
{
	assert_int_equal(x86_vmwrite(t->cpu, (u32)field, val), VMX_OK);
}

void tk_or(struct tk *t, enum vmcs_field field, u64 bits)
{
	tk_set(t, field, tk_get(t, field) | bits);
}

void tk_clear(struct tk *t, enum vmcs_field field, u64 bits)
{
	tk_set(t, field, tk_get(t, field) & ~bits);
}

int tk_try(struct tk *t)
{
	spa_t bad;
	int r = x86_vmenter(t->cpu, !t->launched, &bad);

	if (r == VMX_OK && !(tk_get(t, VMCS_EXIT_REASON) & VMX_EXIT_ENTRY_FAILURE))
		t->launched = true;
	return r;
}

void tk_enter(struct tk *t)
{
	assert_int_equal(tk_try(t), VMX_OK);
}

void tk_expect_at(struct tk *t, u32 reason, const char *file, int line)
{
	u32 got = (u32)tk_get(t, VMCS_EXIT_REASON);

	if (got == reason)
		return;
	print_error("exit reason %u (want %u), qualification %#llx, interruption %#llx, RIP %#llx\n", got, reason,
		    (unsigned long long)tk_get(t, VMCS_EXIT_QUALIFICATION),
		    (unsigned long long)tk_get(t, VMCS_EXIT_INTR_INFO),
		    (unsigned long long)tk_get(t, VMCS_GUEST_RIP));
	_fail(file, line);
}

void tk_again(struct tk *t)
{
	tk_set(t, VMCS_GUEST_RIP, TK_CODE);
	tk_enter(t);
}

void tk_user(struct tk *t)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		set_segment(t, i, TK_SS3, TK_AR_DATA | 3 << 5);
	set_segment(t, X86_CS, TK_CS3, TK_AR_CODE64 | 3 << 5);
}

void tk_protected(struct tk *t)
{
	tk_clear(t, VMCS_ENTRY_CTLS, ENTRY_IA32E_GUEST);
	tk_set(t, VMCS_GUEST_CR0, CR0_PE | CR0_NE | CR0_ET);
	tk_set(t, VMCS_GUEST_EFER, 0);
	set_segment(t, X86_CS, TK_CS32, TK_AR_CODE32);
}

void tk_real(struct tk *t)
{
	tk_protected(t);
	tk_set(t, VMCS_GUEST_CR0, CR0_NE | CR0_ET);
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		set_segment(t, i, 0, 0x93);
	set_segment(t, X86_CS, TK_CODE >> 4, 0x9b);
	tk_set(t, VMCS_GUEST_CS_BASE, TK_CODE);
	tk_set(t, VMCS_GUEST_RIP, 0);
	tk_set(t, VMCS_GUEST_RSP, TK_STACK);
}

void tk_root_code(struct tk *t, const void *code, size_t len, unsigned n)
{
	struct x86_state s;

	if (!t->root) {
		u64 *pt = pages(4 * 4096);

		t->root = pt;
		pt[0] = (u64)(pt + 512) | 7;
		pt[512] = (u64)(pt + 1024) | 7;
		pt[1024] = (u64)(pt + 1536) | 7;
		for (u64 i = 0; i < 512; i++)
			pt[1536 + i] = ((u64)t->mem + i * 4096) | 7;
	}
	tk_code(t, code, len);
	x86_get_state(t->cpu, &s);
	s.cr3 = (u64)t->root;
	s.rip = TK_CODE;
	s.gpr[X86_RSP] = TK_STACK;
	s.gdtr = (struct x86_dtable){ .base = TK_GDT, .limit = TK_TR + 15 };
	s.idtr = (struct x86_dtable){ .base = TK_IDT, .limit = 0xfff };
	x86_set_state(t->cpu, &s);
	x86_run(t->cpu, n);
}

void tk_inject(struct tk *t, u8 type, u8 vector, bool has_error, u32 error)
{
	tk_set(t, VMCS_ENTRY_INTR_INFO, INTR_VALID | (u32)type << 8 | vector | (has_error ? INTR_ERROR : 0));
	tk_set(t, VMCS_ENTRY_ERROR_CODE, error);
}
