// SPDX-License-Identifier: MIT
/*
 * libc's syscall(), by which some programs make calls that have a function too.
 * Numbers about files and memory come here; all others go on to libc as they
 * came, with the caller's stack: clone() and vfork() return there twice.
 * Programs with syscall instructions of their own are not seen at all.
 */
#include "shim/real.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vfs/vfs.h"

#pragma GCC visibility push(hidden)
long shim_syscall_file(long nr, long a, long b, long c, long d, long e, long f);
long shim_syscall_early(long nr, long a, long b, long c, long d, long e, long f);
extern const u64 shim_syscall_ours[8];
#pragma GCC visibility pop

#define ROW(nr, word) ((u64)((nr) / 64 == (word)) << (nr) % 64)
#define WORD(w) \
	(ROW(SYS_open, w) | ROW(SYS_openat, w) | ROW(SYS_read, w) | ROW(SYS_write, w) | \
	 ROW(SYS_close, w) | ROW(SYS_close_range, w) | ROW(SYS_ioctl, w) | ROW(SYS_fcntl, w) | \
	 ROW(SYS_dup, w) | ROW(SYS_dup2, w) | ROW(SYS_dup3, w) | ROW(SYS_mmap, w) | \
	 ROW(SYS_munmap, w) | ROW(SYS_mremap, w) | ROW(SYS_mprotect, w) | ROW(SYS_madvise, w))
const u64 shim_syscall_ours[8] = { WORD(0), WORD(1), WORD(2), WORD(3), WORD(4), WORD(5), WORD(6), WORD(7) };

__asm__(".pushsection .text\n"
	".globl syscall\n.type syscall, @function\n"
	"syscall:\n"
	"	endbr64\n"
	"	cmpq $512, %rdi\n"
	"	jae 1f\n"
	"	leaq shim_syscall_ours(%rip), %rax\n"
	"	btq %rdi, (%rax)\n"
	"	jc shim_syscall_file\n"
	"1:	movq shim_real_syscall(%rip), %rax\n"
	"	testq %rax, %rax\n"
	"	jz shim_syscall_early\n"
	"	jmp *%rax\n"
	".size syscall, . - syscall\n"
	".popsection");

/* A constructor before ours. */
long shim_syscall_early(long nr, long a, long b, long c, long d, long e, long f)
{
	shim_resolve();
	return shim_real_syscall(nr, a, b, c, d, e, f);
}

long shim_syscall_file(long nr, long a, long b, long c, long d, long e, long f)
{
	bool path_first = nr == SYS_open;
	const char *path = (const char *)(path_first ? a : b);

	shim_resolve();
	switch (nr) {
	case SYS_open:
	case SYS_openat:
		if (path && path[0] == '/' && vfs_is_node(path))
			return shim_ret(vfs_open(path, (int)(path_first ? b : c)));
		break;
	case SYS_close:
		if (vfs_is_file((int)a) || vfs_is_watched((int)a))
			return shim_ret(vfs_close((int)a));
		break;
	case SYS_close_range:
		return shim_ret(vfs_close_range((unsigned)a, (unsigned)b, (int)c));
	case SYS_mmap:
		return (long)vfs_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
	case SYS_munmap:
		return shim_ret(vfs_munmap((void *)a, (size_t)b));
	case SYS_mremap:
		return (long)vfs_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e);
	case SYS_mprotect:
		return shim_ret(vfs_mprotect((void *)a, (size_t)b, (int)c));
	case SYS_madvise:
		return shim_ret(vfs_madvise((void *)a, (size_t)b, (int)c));
	case SYS_dup2:
		if (vfs_is_file((int)a) || vfs_is_file((int)b) || vfs_is_watched((int)b))
			return shim_ret(vfs_dup_to((int)a, (int)b, 0));
		break;
	case SYS_dup3:
		if (a != b && (vfs_is_file((int)a) || vfs_is_file((int)b) || vfs_is_watched((int)b)))
			return shim_ret(vfs_dup_to((int)a, (int)b, (int)c));
		break;
	default:
		if (!vfs_is_file((int)a))
			break;
		if (nr == SYS_ioctl)
			return shim_ret(vfs_ioctl((int)a, (unsigned long)b, (unsigned long)c));
		if (nr == SYS_read)
			return shim_ret_size(vfs_read((int)a, (void *)b, (size_t)c));
		if (nr == SYS_write)
			return shim_ret_size(vfs_write((int)a, (const void *)b, (size_t)c));
		if (nr == SYS_dup)
			return shim_ret(vfs_dup((int)a, 0, false));
		if (nr == SYS_fcntl && (b == F_DUPFD || b == F_DUPFD_CLOEXEC))
			return shim_ret(vfs_dup((int)a, (int)c, b == F_DUPFD_CLOEXEC));
		break;
	}
	return shim_real_syscall(nr, a, b, c, d, e, f);
}
