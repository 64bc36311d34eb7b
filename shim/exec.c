// SPDX-License-Identifier: MIT
/*
 * Programs that the program starts. One into which nothing can be preloaded has no
 * /dev/kvm of ours: where its file names the device, that is said, once each time.
 * Most such programs want nothing of it, so none is refused here. What libc starts
 * itself (system(), popen()) is a shell, which comes here with what it starts.
 */
#include "shim/real.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/elf_check.h"

#pragma GCC visibility push(hidden)
void shim_exec_path(const char *path);
void shim_exec_name(const char *name);
#pragma GCC visibility pop

/* The caller's arguments, a variable number of them maybe, go on as they came. */
#define EXEC(name, arg, look) \
	__asm__(".pushsection .text\n" \
		".globl " #name "\n.type " #name ", @function\n" #name ":\n" \
		"	endbr64\n" \
		"	pushq %rdi\n	pushq %rsi\n	pushq %rdx\n	pushq %rcx\n" \
		"	pushq %r8\n	pushq %r9\n	pushq %rax\n" \
		"	movq %" #arg ", %rdi\n" \
		"	call " #look "\n" \
		"	popq %rax\n	popq %r9\n	popq %r8\n" \
		"	popq %rcx\n	popq %rdx\n	popq %rsi\n	popq %rdi\n" \
		"	jmp *shim_real_" #name "(%rip)\n" \
		".size " #name ", . - " #name "\n.popsection")

EXEC(execve, rdi, shim_exec_path);
EXEC(execv, rdi, shim_exec_path);
EXEC(execl, rdi, shim_exec_path);
EXEC(execle, rdi, shim_exec_path);
EXEC(execvp, rdi, shim_exec_name);
EXEC(execvpe, rdi, shim_exec_name);
EXEC(execlp, rdi, shim_exec_name);
EXEC(posix_spawn, rsi, shim_exec_path);
EXEC(posix_spawnp, rsi, shim_exec_name);

/* Between fork and exec, so with system calls only: the log has a lock. */
void shim_exec_path(const char *path)
{
	char why[256], line[1024];
	int err = errno, n;

	shim_resolve();
	if (path && !access(path, X_OK) && elf_check_preload(path, why, sizeof(why)) == -ENOEXEC &&
	    elf_names(path, "/dev/kvm")) {
		n = snprintf(line, sizeof(line), "userkvm: warning: %s gets no /dev/kvm: %s\n", path, why);
		if (n > 0)
			(void)!write(STDERR_FILENO, line, min((size_t)n, sizeof(line) - 1));
	}
	errno = err;
}

/* As execvp() searches. */
void shim_exec_name(const char *name)
{
	const char *p = getenv("PATH"), *end;
	char path[4096];

	if (!name || strchr(name, '/')) {
		shim_exec_path(name);
		return;
	}
	for (p = p ? p : "/bin:/usr/bin"; p; p = *end ? end + 1 : NULL) {
		int err = errno, found;

		end = strchrnul(p, ':');
		snprintf(path, sizeof(path), "%.*s%s%s", (int)(end - p), p, end == p ? "" : "/", name);
		found = !access(path, X_OK);
		errno = err;
		if (found) {
			shim_exec_path(path);
			return;
		}
	}
}
