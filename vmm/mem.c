// SPDX-License-Identifier: MIT
/* Guest RAM. */
#include "vmm/mem.h"

#include <errno.h>
#include <sys/mman.h>

#include "vmm/layout.h"

int mem_init(struct vmm_mem *m, u64 size)
{
	u64 low = min(size, (u64)LAYOUT_HOLE);

	memset(m, 0, sizeof(*m));
	/* Libc's own mapping: RAM is ordinary memory of this process. */
	m->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->host == MAP_FAILED) {
		m->host = NULL;
		return -errno;
	}
	m->size = size;
	m->region[0] = (struct vmm_mem_region){ .gpa = 0, .size = low, .host = m->host };
	m->nr_regions = 1;
	if (size > low) {
		m->region[1] = (struct vmm_mem_region){
			.gpa = LAYOUT_HIGH_RAM, .size = size - low, .host = m->host + low };
		m->nr_regions = 2;
	}
	return 0;
}

void mem_exit(struct vmm_mem *m)
{
	if (m->host)
		munmap(m->host, m->size);
	m->host = NULL;
	m->nr_regions = 0;
}

int mem_write(const struct vmm_mem *m, u64 gpa, const void *data, u64 len)
{
	void *p = mem_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	mem_dma(p, data, len);
	return 0;
}
