/* SPDX-License-Identifier: MIT */
/* Code memory: see code.h. What is put there belongs to the translators. */
#include "silicon/jit/code.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"

int jit_code_new(struct jit_code *c, size_t size)
{
	int fd = memfd_create("userkvm-jit", MFD_CLOEXEC), r;
	u8 *rw, *rx;

	if (fd < 0)
		return -errno;
	size = round_up(size, (size_t)PAGE_SIZE);
	if (ftruncate(fd, (off_t)size))
		goto fail;
	rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rw == MAP_FAILED)
		goto fail;
	rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (rx == MAP_FAILED) {
		r = -errno;
		munmap(rw, size);
		close(fd);
		return r;
	}
	close(fd);
	*c = (struct jit_code){ .rw = rw, .rx = rx, .size = size };
	return 0;
fail:
	r = -errno;
	close(fd);
	return r;
}

void jit_code_free(struct jit_code *c)
{
	if (!c->rw)
		return;
	munmap(c->rw, c->size);
	munmap(c->rx, c->size);
	*c = (struct jit_code){ 0 };
}
