/* SPDX-License-Identifier: MIT */
/* Copies from and to addresses that a client has given: 0 or -EFAULT, never a signal. */
#ifndef VFS_USER_H
#define VFS_USER_H

#include "base/types.h"

int __must_check vfs_user_read(void *dst, unsigned long user, size_t len);
int __must_check vfs_user_write(unsigned long user, const void *src, size_t len);

#endif
