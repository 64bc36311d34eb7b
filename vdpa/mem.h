/* SPDX-License-Identifier: MIT */
/*
 * Memory that belongs to somebody else: what an IOTLB entry leads to.
 *
 * Two kinds. Shared: a file (memfd, shared-memory or hugetlbfs file) that the
 * owner has mapped MAP_SHARED; it is mapped here too, so access is direct, and
 * the file can be handed on to a VDUSE daemon. Foreign: private memory of
 * another process, reached by process_vm_readv(2) and process_vm_writev(2);
 * it cannot be handed on.
 *
 * The owner is not trusted: it may truncate the file, unmap, or die. Every
 * access can therefore fail with -EFAULT and never raises a signal.
 */
#ifndef VDPA_MEM_H
#define VDPA_MEM_H

#include <sys/types.h>

#include "base/types.h"

struct vdpa_mem;

/*
 * [@off, @off + @size) of @fd, which is duplicated. @writable: map for writing too.
 * NULL and errno. The new object has one reference.
 */
struct vdpa_mem *vdpa_mem_shared(int fd, u64 off, u64 size, bool writable);
/* [@uaddr, @uaddr + @size) of process @pid. NULL and errno. */
struct vdpa_mem *vdpa_mem_foreign(pid_t pid, u64 uaddr, u64 size, bool writable);
struct vdpa_mem *vdpa_mem_get(struct vdpa_mem *m);
void vdpa_mem_put(struct vdpa_mem *m);

/* The file and the offset in it of byte @at, or -EINVAL for foreign memory. The descriptor stays @m's. */
int vdpa_mem_file(const struct vdpa_mem *m, u64 at, u64 *off);
u64 vdpa_mem_size(const struct vdpa_mem *m);

/* 0 or -EFAULT; @at + @len beyond the end is -EFAULT. */
int __must_check vdpa_mem_read(struct vdpa_mem *m, u64 at, void *buf, size_t len);
int __must_check vdpa_mem_write(struct vdpa_mem *m, u64 at, const void *buf, size_t len);
/* Ring indexes and flags, aligned: single accesses, acquire and release. Little endian as the host. */
int __must_check vdpa_mem_load16(struct vdpa_mem *m, u64 at, u16 *v);
int __must_check vdpa_mem_store16(struct vdpa_mem *m, u64 at, u16 v);

/*
 * A copy between plain memory of ours and memory that may vanish (SIGBUS, SIGSEGV):
 * 0 or -EFAULT. Needs vdpa_mem_init().
 */
int __must_check vdpa_copy_guarded(void *to, const void *from, size_t len);
/*
 * Before the first shared memory: installs the fault handler, chaining. Harmless when it is in
 * place; again after somebody else (cmocka, per test) has taken the signals. 0 or -errno.
 */
int vdpa_mem_init(void);

#endif
