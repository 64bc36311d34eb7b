// SPDX-License-Identifier: MIT
/* Bounce and coherent memory of in-process drivers: the file and the coherent half. */
#include "vdpa/vduse/domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "vdpa/iotlb.h"

static u64 pages(const struct vdpa_domain *m)
{
	return (m->iova_size - m->bounce_size) >> PAGE_SHIFT;
}

int vdpa_domain_init(struct vdpa_domain *m, u64 bounce, u64 iova)
{
	int ret;

	memset(m, 0, sizeof(*m));
	m->bounce_size = bounce;
	m->iova_size = iova;
	m->fd = memfd_create("vdpa-domain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, (off_t)iova) < 0 ||
	    fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	m->mem = vdpa_mem_shared(m->fd, 0, iova, true);
	if (!m->mem)
		goto fail;
	m->used = calloc((pages(m) + 63) / 64, sizeof(u64));
	if (!m->used) {
		vdpa_mem_put(m->mem);
		errno = ENOMEM;
		goto fail;
	}
	return 0;
fail:
	ret = -errno;
	close(m->fd);
	m->fd = -1;
	return ret;
}

void vdpa_domain_exit(struct vdpa_domain *m)
{
	free(m->used);
	vdpa_mem_put(m->mem);
	close(m->fd);
	memset(m, 0, sizeof(*m));
	m->fd = -1;
}

int vdpa_domain_bounce(struct vdpa_domain *m, struct vdpa_iotlb *t)
{
	int ret;

	if (m->bounce_live)
		return 0;
	ret = vdpa_iotlb_add(t, &(struct vdpa_map){.last = m->bounce_size - 1, .perm = VDPA_RW, .mem = m->mem});
	m->bounce_live = !ret;
	return ret;
}

void vdpa_domain_unbounce(struct vdpa_domain *m, struct vdpa_iotlb *t)
{
	if (m->bounce_live)
		vdpa_iotlb_del(t, 0, m->bounce_size - 1);
	m->bounce_live = false;
}

static bool page_used(const struct vdpa_domain *m, u64 n)
{
	return m->used[n / 64] & BIT(n % 64);
}

static void mark(struct vdpa_domain *m, u64 first, u64 n, bool used)
{
	for (u64 i = first; i < first + n; i++) {
		if (used)
			m->used[i / 64] |= BIT(i % 64);
		else
			m->used[i / 64] &= ~BIT(i % 64);
	}
}

int vdpa_domain_alloc(struct vdpa_domain *m, struct vdpa_iotlb *t, u64 size, u64 *iova)
{
	u64 n, run = 0, at;
	int ret;

	if (!size)
		return -EINVAL;
	if (size > m->iova_size - m->bounce_size)
		return -ENOMEM;
	n = round_up(size, PAGE_SIZE) >> PAGE_SHIFT;
	for (at = 0; at < pages(m) && run < n; at++)
		run = page_used(m, at) ? 0 : run + 1;
	if (run < n)
		return -ENOMEM;
	at -= n;
	*iova = m->bounce_size + (at << PAGE_SHIFT);
	/* Zeroes now and not when it was freed: a driver whose device was taken away may still look there. */
	if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)*iova, (off_t)(n << PAGE_SHIFT)) < 0)
		return -errno;
	ret = vdpa_iotlb_add(t, &(struct vdpa_map){
			.start = *iova, .last = *iova + (n << PAGE_SHIFT) - 1, .perm = VDPA_RW,
			.mem = m->mem, .off = *iova});
	if (!ret)
		mark(m, at, n, true);
	return ret;
}

int vdpa_domain_free(struct vdpa_domain *m, struct vdpa_iotlb *t, u64 iova, u64 size)
{
	const struct vdpa_map *e;
	u64 len;

	if (!size || iova < m->bounce_size || iova >= m->iova_size || size > m->iova_size - iova)
		return -EINVAL;
	len = round_up(size, PAGE_SIZE);
	e = vdpa_iotlb_find(t, iova, iova);
	if (!e || e->start != iova || e->last != iova + len - 1 || e->mem != m->mem)
		return -EINVAL;
	vdpa_iotlb_del(t, iova, iova);
	mark(m, (iova - m->bounce_size) >> PAGE_SHIFT, len >> PAGE_SHIFT, false);
	return 0;
}
