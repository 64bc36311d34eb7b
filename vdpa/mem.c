// SPDX-License-Identifier: MIT
/*
 * Memory of others, mapped or reached across processes, and copies that
 * survive its owner.
 *
 * The accesses that may fault are the few instructions below, written in
 * assembly so that the fault handler knows them by address: it continues at
 * their recovery point and nothing has to be set up before an access. This
 * also keeps sanitizers out of memory that other processes write at will.
 */
#include "vdpa/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"

struct vdpa_mem {
	unsigned refs;
	u64 size;
	bool writable;
	/* Shared: the file, offset of the first byte in it, and where that is here. */
	int fd;
	u64 off;
	char *base;
	void *mapping;
	size_t mapped;
	/* Foreign */
	pid_t pid;
	u64 uaddr;
};

/* ---- Accesses that may fault ---- */

/* int vdpa_guarded_*(to, from, len): 0, or 1 after a fault. The labels are where a fault may happen. */
int vdpa_guarded_copy(void *to, const void *from, size_t len) __attribute__((visibility("hidden")));
int vdpa_guarded_load16(u16 *to, const void *from) __attribute__((visibility("hidden")));
int vdpa_guarded_store16(void *to, u64 v) __attribute__((visibility("hidden")));
extern const char vdpa_guarded_copy_at[] __attribute__((visibility("hidden")));
extern const char vdpa_guarded_load16_at[] __attribute__((visibility("hidden")));
extern const char vdpa_guarded_store16_at[] __attribute__((visibility("hidden")));
extern const char vdpa_guarded_failed[] __attribute__((visibility("hidden")));

#define FN(name) ".globl " name "\n.hidden " name "\n.type " name ", @function\n" name ":\n\tendbr64\n"
#define AT(name) ".globl " name "\n.hidden " name "\n" name ":\n"

__asm__(".pushsection .text\n"
	FN("vdpa_guarded_copy")
	"	mov %rdx, %rcx\n"
	AT("vdpa_guarded_copy_at")
	"	rep movsb\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	FN("vdpa_guarded_load16")
	AT("vdpa_guarded_load16_at")
	"	movzwl (%rsi), %eax\n"
	"	mov %ax, (%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	FN("vdpa_guarded_store16")
	AT("vdpa_guarded_store16_at")
	"	mov %si, (%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	AT("vdpa_guarded_failed")
	"	mov $1, %eax\n"
	"	ret\n"
	".popsection\n");

static struct sigaction before[NSIG];

static bool is_guarded(u64 rip)
{
	return rip == (u64)vdpa_guarded_copy_at || rip == (u64)vdpa_guarded_load16_at ||
	       rip == (u64)vdpa_guarded_store16_at;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *prev = &before[sig];
	ucontext_t *uc = context;

	if (info->si_code > 0 && is_guarded((u64)uc->uc_mcontext.gregs[REG_RIP])) {
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)vdpa_guarded_failed;
		return;
	}
	if (prev->sa_flags & SA_SIGINFO)
		prev->sa_sigaction(sig, info, context);
	else if (prev->sa_handler != SIG_DFL && prev->sa_handler != SIG_IGN)
		prev->sa_handler(sig);
	else
		/* Again, and then it ends the program as it would have. */
		signal(sig, SIG_DFL);
}

static int install(int sig)
{
	struct sigaction prev, ours = {
		.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK,
	};

	sigemptyset(&ours.sa_mask);
	if (sigaction(sig, NULL, &prev) < 0)
		return -errno;
	if ((prev.sa_flags & SA_SIGINFO) && prev.sa_sigaction == on_fault)
		return 0;
	before[sig] = prev;
	return sigaction(sig, &ours, NULL) < 0 ? -errno : 0;
}

int vdpa_mem_init(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int err;

	pthread_mutex_lock(&lock);
	err = install(SIGSEGV);
	if (!err)
		err = install(SIGBUS);
	pthread_mutex_unlock(&lock);
	return err;
}

int vdpa_copy_guarded(void *to, const void *from, size_t len)
{
	return vdpa_guarded_copy(to, from, len) ? -EFAULT : 0;
}

/* ---- Objects ---- */

static struct vdpa_mem *new_mem(u64 size, bool writable)
{
	struct vdpa_mem *m = calloc(1, sizeof(*m));

	if (m) {
		m->refs = 1;
		m->size = size;
		m->writable = writable;
		m->fd = -1;
	}
	return m;
}

struct vdpa_mem *vdpa_mem_shared(int fd, u64 off, u64 size, bool writable)
{
	u64 slack = off & ~PAGE_MASK;
	struct vdpa_mem *m;
	int err;

	if (!size || size > SIZE_MAX / 2 || off + size < off) {
		errno = EINVAL;
		return NULL;
	}
	m = new_mem(size, writable);
	if (!m)
		return NULL;
	m->off = off;
	m->mapped = size + slack;
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (m->fd < 0)
		goto fail;
	m->mapping = mmap(NULL, m->mapped, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, m->fd,
			  (off_t)(off - slack));
	if (m->mapping == MAP_FAILED)
		goto fail;
	m->base = (char *)m->mapping + slack;
	return m;
fail:
	err = errno;
	if (m->fd >= 0)
		close(m->fd);
	free(m);
	errno = err;
	return NULL;
}

struct vdpa_mem *vdpa_mem_foreign(pid_t pid, u64 uaddr, u64 size, bool writable)
{
	struct vdpa_mem *m;

	if (pid <= 0 || !size || uaddr + size < uaddr) {
		errno = EINVAL;
		return NULL;
	}
	m = new_mem(size, writable);
	if (m) {
		m->pid = pid;
		m->uaddr = uaddr;
	}
	return m;
}

struct vdpa_mem *vdpa_mem_get(struct vdpa_mem *m)
{
	__atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
	return m;
}

void vdpa_mem_put(struct vdpa_mem *m)
{
	if (__atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (m->base) {
		munmap(m->mapping, m->mapped);
		close(m->fd);
	}
	free(m);
}

int vdpa_mem_file(const struct vdpa_mem *m, u64 at, u64 *off)
{
	if (!m->base || at >= m->size)
		return -EINVAL;
	*off = m->off + at;
	return m->fd;
}

u64 vdpa_mem_size(const struct vdpa_mem *m)
{
	return m->size;
}

/* ---- Access ---- */

static bool outside(const struct vdpa_mem *m, u64 at, size_t len)
{
	return at > m->size || len > m->size - at;
}

static int foreign(const struct vdpa_mem *m, u64 at, void *buf, size_t len, bool write)
{
	while (len) {
		struct iovec here = { buf, len }, there = { (void *)(m->uaddr + at), len };
		ssize_t n = write ? process_vm_writev(m->pid, &here, 1, &there, 1, 0) :
				    process_vm_readv(m->pid, &here, 1, &there, 1, 0);

		if (n <= 0)
			return -EFAULT;
		buf = (char *)buf + n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int vdpa_mem_read(struct vdpa_mem *m, u64 at, void *buf, size_t len)
{
	if (outside(m, at, len))
		return -EFAULT;
	return m->base ? vdpa_copy_guarded(buf, m->base + at, len) : foreign(m, at, buf, len, false);
}

int vdpa_mem_write(struct vdpa_mem *m, u64 at, const void *buf, size_t len)
{
	if (outside(m, at, len) || !m->writable)
		return -EFAULT;
	return m->base ? vdpa_copy_guarded(m->base + at, buf, len) :
			 foreign(m, at, (void *)(uintptr_t)buf, len, true);
}

/* The processor orders loads before later accesses and stores after earlier ones: the compiler must too. */
int vdpa_mem_load16(struct vdpa_mem *m, u64 at, u16 *v)
{
	int err;

	if (outside(m, at, sizeof(*v)))
		return -EFAULT;
	if (m->base)
		err = vdpa_guarded_load16(v, m->base + at) ? -EFAULT : 0;
	else
		err = foreign(m, at, v, sizeof(*v), false);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return err;
}

int vdpa_mem_store16(struct vdpa_mem *m, u64 at, u16 v)
{
	if (outside(m, at, sizeof(v)) || !m->writable)
		return -EFAULT;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (m->base)
		return vdpa_guarded_store16(m->base + at, v) ? -EFAULT : 0;
	return foreign(m, at, &v, sizeof(v), true);
}
