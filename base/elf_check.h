/* SPDX-License-Identifier: MIT */
/* Will a program load the preload object? Async-signal-safe, as all that may be asked between fork and exec. */
#ifndef BASE_ELF_CHECK_H
#define BASE_ELF_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Look at the program at @path, and behind '#!' at its interpreter. Returns 0,
 * or -ENOEXEC with one phrase in @why for what the dynamic linker of glibc on
 * x86-64 would not preload into; another negative errno if a file cannot be read.
 */
int elf_check_preload(const char *path, char *why, size_t size);

/*
 * True if the program @path seems to enter the kernel with syscall instructions of
 * its own, as runtimes without libc do: nobody sees calls made that way.
 */
bool elf_has_syscalls(const char *path);

/* True if @path is an ELF file that has the bytes of @text. */
bool elf_names(const char *path, const char *text);

#endif
