// SPDX-License-Identifier: MIT
/*
 * Memory calls: those that change or remove mappings are told to the VMs, which
 * may have guest memory there. libc's allocator makes its own calls; memory from
 * malloc() is therefore no good as guest memory, which holds for KVM in general.
 */
#include "shim/real.h"

#include <stdarg.h>
#include <sys/mman.h>

#include "vfs/vfs.h"

#define MMAP(name) \
	void *shim_##name(void *addr, size_t len, int prot, int flags, int fd, off_t off) \
		SHIM_EXPORT(name); \
	void *shim_##name(void *addr, size_t len, int prot, int flags, int fd, off_t off) \
	{ \
		shim_resolve(); \
		return vfs_mmap(addr, len, prot, flags, fd, off); \
	}
MMAP(mmap)
MMAP(mmap64)

int shim_munmap(void *addr, size_t len) SHIM_EXPORT(munmap);
int shim_munmap(void *addr, size_t len)
{
	shim_resolve();
	return shim_ret(vfs_munmap(addr, len));
}

void *shim_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...) SHIM_EXPORT(mremap);
void *shim_mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
	void *new_addr = NULL;
	va_list ap;

	va_start(ap, flags);
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		new_addr = va_arg(ap, void *);
	va_end(ap);
	shim_resolve();
	return vfs_mremap(addr, old_len, new_len, flags, new_addr);
}

int shim_mprotect(void *addr, size_t len, int prot) SHIM_EXPORT(mprotect);
int shim_mprotect(void *addr, size_t len, int prot)
{
	shim_resolve();
	return shim_ret(vfs_mprotect(addr, len, prot));
}

int shim_madvise(void *addr, size_t len, int advice) SHIM_EXPORT(madvise);
int shim_madvise(void *addr, size_t len, int advice)
{
	shim_resolve();
	return shim_ret(vfs_madvise(addr, len, advice));
}
