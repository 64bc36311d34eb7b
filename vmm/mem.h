/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: at most two regions, below and above the PCI hole, in one host
 * mapping. Addresses come from guests: every access is checked.
 */
#ifndef VMM_MEM_H
#define VMM_MEM_H

#include <string.h>

#include "base/types.h"
#include "vmm/vmm.h"

struct vmm_mem_region {
	u64 gpa, size;
	u8 *host;
};

struct vmm_mem {
	struct vmm_mem_region region[2];
	unsigned nr_regions;
	u8 *host;
	u64 size;
};

/* Map @size bytes (a page multiple). Returns 0 or -errno. */
int mem_init(struct vmm_mem *m, u64 size);
void mem_exit(struct vmm_mem *m);

/* Host address of [gpa, gpa + len), or NULL unless all of it is RAM. */
static inline void *mem_ptr(const struct vmm_mem *m, u64 gpa, u64 len)
{
	for (unsigned i = 0; i < m->nr_regions; i++) {
		const struct vmm_mem_region *r = &m->region[i];
		u64 off = gpa - r->gpa;

		if (gpa >= r->gpa && off < r->size && len <= r->size - off)
			return r->host + off;
	}
	return NULL;
}

/*
 * Copy between a device and guest RAM that vCPUs use at the same time. Who may touch
 * what when is the guest's protocol with the device, ordered by its own barriers, which
 * are no synchronisation that ThreadSanitizer could see: it gets an opaque copy.
 */
static inline void mem_dma(void *to, const void *from, size_t len)
{
#ifdef __SANITIZE_THREAD__
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
#else
	memcpy(to, from, len);
#endif
}

/* Copy into guest RAM: 0, or -EFAULT with nothing written. */
int __must_check mem_write(const struct vmm_mem *m, u64 gpa, const void *data, u64 len);

/* End of the RAM below the PCI hole. */
static inline u64 mem_low_end(const struct vmm_mem *m)
{
	return m->region[0].size;
}

#endif
