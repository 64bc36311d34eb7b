// SPDX-License-Identifier: MIT
/* How machines end, and how they fail to begin. */
#include "vmm/fake_kvm.h"

#include <elf.h>
#include <fcntl.h>

#include "base/log.h"
#include "vmm/layout.h"

static struct {
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	u8 body[16];
} kernel;

static struct vmm_config base_config(void)
{
	struct vmm_config cfg = {
		.sys = &fake_sys,
		.kvm_path = "/dev/kvm",
		.cmdline = "",
		.cpus = 2,
		.mem = 64ull << 20,
		.kernel = {"test", (const u8 *)&kernel, sizeof(kernel)},
		.in_fd = -1,
		.log_fd = -1,
	};

	memcpy(kernel.eh.e_ident, ELFMAG, SELFMAG);
	kernel.eh.e_ident[EI_CLASS] = ELFCLASS64;
	kernel.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	kernel.eh.e_type = ET_EXEC;
	kernel.eh.e_machine = EM_X86_64;
	kernel.eh.e_phoff = sizeof(kernel.eh);
	kernel.eh.e_phentsize = sizeof(kernel.ph);
	kernel.eh.e_phnum = 1;
	kernel.ph = (Elf64_Phdr){.p_type = PT_LOAD,
				 .p_offset = sizeof(kernel.eh) + sizeof(kernel.ph),
				 .p_paddr = 0x100000,
				 .p_filesz = 16,
				 .p_memsz = 16};
	memset(&fake, 0, sizeof(fake));
	fake.missing_cap = ~0ul;
	fake.vcpu0 = -1;
	return cfg;
}

#define OUT(port_, size_, data_)                                                                   \
	{                                                                                          \
		.reason = KVM_EXIT_IO, .port = (port_), .size = (size_), .data = (data_)           \
	}

static const struct fake_exit nothing[] = { { 0 } };

static void test_ends(void **state)
{
	static const struct {
		const char *what;
		struct fake_exit script[3];
		enum vmm_end end;
		int status;
	} rows[] = {
		{"debug exit", {OUT(PORT_DEBUG_EXIT, 1, 0x10)}, VMM_END_EXIT, 0x21},
		{"debug exit, 32 bits", {OUT(PORT_DEBUG_EXIT, 4, 0)}, VMM_END_EXIT, 1},
		{"power-off",
		 {OUT(PORT_PM1_CNT, 2, SLP_TYP_S5 << 10 | 0x2000)},
		 VMM_END_POWEROFF,
		 0},
		{"power-off, two writes",
		 {OUT(PORT_PM1_CNT, 2, SLP_TYP_S5 << 10),
		  OUT(PORT_PM1_CNT, 2, SLP_TYP_S5 << 10 | 0x2000)},
		 VMM_END_POWEROFF,
		 0},
		{"keyboard controller", {OUT(PORT_I8042_CMD, 1, 0xfe)}, VMM_END_REBOOT, 0},
		{"output port",
		 {OUT(PORT_I8042_CMD, 1, 0xd1), OUT(PORT_I8042_DATA, 1, 2)},
		 VMM_END_REBOOT,
		 0},
		{"reset control",
		 {OUT(PORT_RESET, 1, 2), OUT(PORT_RESET, 1, 6)},
		 VMM_END_REBOOT,
		 0},
		{"port 92h", {OUT(PORT_92, 1, 1)}, VMM_END_REBOOT, 0},
		{"triple fault", {{.reason = KVM_EXIT_SHUTDOWN}}, VMM_END_TRIPLE_FAULT, 0},
		{"entry failed", {{.reason = KVM_EXIT_FAIL_ENTRY}}, VMM_END_ERROR, 0},
		{"internal error", {{.reason = KVM_EXIT_INTERNAL_ERROR}}, VMM_END_ERROR, 0},
		{"HLT", {{.reason = KVM_EXIT_HLT}}, VMM_END_ERROR, 0},
		{"unknown exit", {{.reason = 999}}, VMM_END_ERROR, 0},
		{"signal", {{.reason = KVM_EXIT_INTR, .sig = SIGTERM}}, VMM_END_SIGNAL, SIGTERM},
	};
	struct vmm_result r;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmm_config cfg = base_config();

		fake.script = rows[i].script;
		vmm_run(&cfg, &r);
		if (r.end != rows[i].end || r.status != rows[i].status)
			fail_msg("%s: end %d, status %d: %s", rows[i].what, r.end, r.status,
				 r.text);
		assert_true(strlen(r.text) > 0);
		assert_false(r.stuck);
	}
}

static void test_timeout(void **state)
{
	struct vmm_config cfg = base_config();
	struct vmm_result r;

	fake.script = nothing;
	cfg.timeout = 1;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_TIMEOUT);
}

/* Halted with interrupts off: found out by probing, without any timeout. */
static void test_dead(void **state)
{
	struct vmm_config cfg = base_config();
	struct vmm_result r;

	fake.script = nothing;
	fake.dead = true;
	cfg.timeout = 20;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_HALTED);
}

/* The kernel's words are the result, however the machine ends after them. */
static void test_panic(void **state)
{
	static const struct fake_exit reset[] = { OUT(PORT_I8042_CMD, 1, 0xfe), { 0 } };
	struct vmm_config cfg = base_config();
	struct vmm_result r;

	cfg.out_fd = open("/dev/null", O_WRONLY);
	fake.script = nothing;
	fake.text =
		"[    1.0] Hello\r\n[    2.0] Kernel panic - not syncing: no \x1b[2Jroot\r\nmore\n";
	fake.after = reset;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_PANIC);
	assert_string_equal(r.text, "no ?[2Jroot");
	close(cfg.out_fd);
}

static void test_command(void **state)
{
	static const struct fake_exit script[] = {
		OUT(PORT_COM1, 1, 'k'), OUT(PORT_COM2, 1, 'h'),	 OUT(PORT_COM2, 1, 'i'),
		OUT(PORT_COM3, 1, 'e'), OUT(PORT_COM3, 1, 'x'),	 OUT(PORT_COM3, 1, 'i'),
		OUT(PORT_COM3, 1, 't'), OUT(PORT_COM3, 1, ' '),	 OUT(PORT_COM3, 1, '4'),
		OUT(PORT_COM3, 1, '2'), OUT(PORT_COM3, 1, '\n'), {0},
	};
	struct vmm_config cfg = base_config();
	struct vmm_result r;
	char buf[8];
	int p[2];

	assert_int_equal(pipe(p), 0);
	cfg.command = true;
	cfg.out_fd = p[1];
	fake.script = script;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_EXIT);
	assert_int_equal(r.status, 42);
	close(p[1]);
	assert_int_equal(read(p[0], buf, sizeof(buf)), 2);
	assert_memory_equal(buf, "hi", 2);
	close(p[0]);
}

/* Nobody reads the console any more: an end, no SIGPIPE. */
static void test_broken_pipe(void **state)
{
	struct vmm_config cfg = base_config();
	struct vmm_result r;
	int p[2];

	assert_int_equal(pipe(p), 0);
	close(p[0]);
	cfg.out_fd = p[1];
	fake.script = nothing;
	fake.text = "x";
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	assert_non_null(strstr(r.text, "Broken pipe"));
	close(p[1]);
}

static void test_input(void **state)
{
	struct vmm_config cfg = base_config();
	struct vmm_result r;
	int p[2];

	/* Input arrives while the guest does not listen; end of input is no end of the machine. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "hello", 5), 5);
	close(p[1]);
	cfg.in_fd = p[0];
	cfg.timeout = 1;
	fake.script = nothing;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_TIMEOUT);
	close(p[0]);
}

static void test_refusals(void **state)
{
	static const struct {
		unsigned long req;
		int ret;
		const char *words;
	} rows[] = {
		{ KVM_GET_API_VERSION, 11, "version 11" },
		{ KVM_CREATE_VM, -ENOMEM, "KVM_CREATE_VM" },
		{ KVM_SET_TSS_ADDR, -EINVAL, "KVM_SET_TSS_ADDR" },
		{ KVM_CREATE_IRQCHIP, -EEXIST, "KVM_CREATE_IRQCHIP" },
		{ KVM_CREATE_PIT2, -EEXIST, "KVM_CREATE_PIT2" },
		{ KVM_SET_USER_MEMORY_REGION, -EINVAL, "KVM_SET_USER_MEMORY_REGION" },
		{ KVM_GET_SUPPORTED_CPUID, -E2BIG, "KVM_GET_SUPPORTED_CPUID" },
		{ KVM_CREATE_VCPU, -EINVAL, "KVM_CREATE_VCPU" },
		{ KVM_SET_CPUID2, -EINVAL, "KVM_SET_CPUID2" },
		{ KVM_SET_MSRS, 1, "KVM_SET_MSRS" },
		{ KVM_SET_LAPIC, -EINVAL, "KVM_SET_LAPIC" },
		{ KVM_SET_SREGS, -EINVAL, "KVM_SET_SREGS" },
		{ KVM_SET_REGS, -EINVAL, "KVM_SET_REGS" },
		{ KVM_RUN, -EFAULT, "KVM_RUN" },
	};
	static const struct {
		unsigned long cap;
		const char *words;
	} caps[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	};
	struct vmm_config cfg;
	struct vmm_result r;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		cfg = base_config();
		fake.script = nothing;
		fake.fail_req = rows[i].req;
		fake.fail_ret = rows[i].ret;
		vmm_run(&cfg, &r);
		assert_int_equal(r.end, VMM_END_ERROR);
		if (!strstr(r.text, rows[i].words))
			fail_msg("'%s' does not name %s", r.text, rows[i].words);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		cfg = base_config();
		fake.script = nothing;
		fake.missing_cap = caps[i].cap;
		vmm_run(&cfg, &r);
		assert_int_equal(r.end, VMM_END_ERROR);
		assert_non_null(strstr(r.text, caps[i].words));
	}
	cfg = base_config();
	cfg.cpus = 9;	/* the fake has 8 */
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	cfg = base_config();
	cfg.mem = 1 << 20;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	cfg = base_config();
	cfg.disks[0].path = "/nonexistent/disk";
	cfg.nr_disks = 1;
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	assert_non_null(strstr(r.text, "/nonexistent/disk"));
	cfg.disks[0].path = "/";
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	cfg.disks[0].path = "/dev/null";
	vmm_run(&cfg, &r);
	assert_int_equal(r.end, VMM_END_ERROR);
	assert_non_null(strstr(r.text, "neither a file nor a block device"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_dead),
		cmocka_unit_test(test_panic),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_broken_pipe),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
