// SPDX-License-Identifier: MIT
/* Enters the kernel with an instruction of its own, which nobody can preload anything in front of. */
#include <sys/syscall.h>

int main(void)
{
	long ret;

	__asm__ volatile("movl %1, %%eax\n\tsyscall" : "=&a"(ret) : "i"(SYS_getpid) : "rcx", "r11", "memory");
	return ret <= 0;
}
