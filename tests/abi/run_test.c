// SPDX-License-Identifier: MIT
/* KVM_RUN end to end: tiny guests and the exits that they cause. */
#include <string.h>

#include "tests/abi/vmtest.h"

static void real_mode_out(void **state)
{
	/* mov al,'x'; out 0x10,al; mov ax,0x1234; mov dx,0x3f8; out dx,ax; hlt */
	static const u8 code[] = { 0xb0, 'x', 0xe6, 0x10, 0xb8, 0x34, 0x12, 0xba, 0xf8, 0x03, 0xef, 0xf4 };
	struct vm vm;

	vm_new(&vm, 0);
	vm_real(&vm, code, sizeof(code));
	assert_int_equal(vm_out(&vm, 0x10, 1), 'x');
	assert_int_equal(vm_out(&vm, 0x3f8, 2), 0x1234);
	vm_run(&vm, KVM_EXIT_HLT);
	assert_int_equal(vm_regs(&vm).rip, VM_CODE + sizeof(code));
	vm_free(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
