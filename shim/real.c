// SPDX-License-Identifier: MIT
/*
 * libc's own functions.
 *
 * The layers below us, linked into the same object, call close() and the like
 * as any code does. The linker is told (--wrap) to send those calls to
 * __wrap_close: a jump to the real function. So nothing of ours can enter our
 * own exported functions, whatever thread or signal handler it runs in, and no
 * "are we inside" flag is needed.
 */
#include "shim/real.h"

#include <dlfcn.h>

#include "base/log.h"

bool shim_resolved;

/* A tail jump keeps arguments, variadic ones included. */
#define CALL(name, result, params) \
	result (*shim_real_##name) params; \
	__asm__(".pushsection .text\n" \
		".globl __wrap_" #name "\n.hidden __wrap_" #name "\n" \
		".type __wrap_" #name ", @function\n" \
		"__wrap_" #name ":\n\tendbr64\n\tjmp *shim_real_" #name "(%rip)\n" \
		".size __wrap_" #name ", . - __wrap_" #name "\n.popsection");
#include "shim/calls.def"
#undef CALL

void shim_resolve_all(void)
{
	/* A name that this libc lacks stays NULL: nobody can be linked to it either. */
#define CALL(name, result, params) *(void **)&shim_real_##name = dlsym(RTLD_NEXT, #name);
#include "shim/calls.def"
#undef CALL
	BUG_ON(!shim_real_open || !shim_real_ioctl || !shim_real_close || !shim_real_mmap ||
	       !shim_real_sigaction);
	__atomic_store_n(&shim_resolved, true, __ATOMIC_RELEASE);
}
