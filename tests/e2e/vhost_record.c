// SPDX-License-Identifier: MIT
/*
 * Preloaded in front of userkvm's object: writes the names of a program's
 * vhost calls, in order, to the file that VHOST_RECORD names.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/vhost.h"

static const struct { unsigned long req; const char *name; } names[] = {
#define N(x) { VHOST_##x, #x }
	N(GET_FEATURES), N(SET_FEATURES), N(SET_OWNER), N(SET_VRING_NUM), N(SET_VRING_ADDR), N(SET_VRING_BASE),
	N(GET_VRING_BASE), N(SET_VRING_KICK), N(SET_VRING_CALL), N(SET_VRING_ERR), N(SET_BACKEND_FEATURES),
	N(GET_BACKEND_FEATURES), N(VDPA_GET_DEVICE_ID), N(VDPA_GET_STATUS), N(VDPA_SET_STATUS), N(VDPA_GET_CONFIG),
	N(VDPA_SET_CONFIG), N(VDPA_SET_VRING_ENABLE), N(VDPA_GET_VRING_NUM), N(VDPA_SET_CONFIG_CALL),
	N(VDPA_GET_IOVA_RANGE), N(VDPA_GET_CONFIG_SIZE), N(VDPA_GET_AS_NUM), N(VDPA_GET_VRING_GROUP),
	N(VDPA_SET_GROUP_ASID), N(VDPA_SUSPEND), N(VDPA_GET_VQS_COUNT), N(VDPA_GET_GROUP_NUM),
#undef N
};

static void record(const char *what, long arg, long ret)
{
	const char *path = getenv("VHOST_RECORD");
	char line[128];
	int fd, len;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	len = snprintf(line, sizeof(line), arg >= 0 ? "%s %ld = %ld\n" : "%s = %ld\n", what,
		       arg >= 0 ? arg : ret, ret);
	(void)!syscall(SYS_write, fd, line, len);
	close(fd);
}

int ioctl(int fd, unsigned long req, ...)
{
	static int (*next)(int fd, unsigned long req, void *arg);
	const char *name = "?";
	long arg = -1;
	va_list ap;
	void *p;
	int ret;

	va_start(ap, req);
	p = va_arg(ap, void *);
	va_end(ap);
	if (!next)
		next = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
	if (_IOC_TYPE(req) != VHOST_VIRTIO)
		return next(fd, req, p);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].req == req)
			name = names[i].name;
	if (req == VHOST_VDPA_SET_STATUS)
		arg = *(unsigned char *)p;
	if (req == VHOST_SET_BACKEND_FEATURES)
		arg = *(long *)p;
	ret = next(fd, req, p);
	if (req == VHOST_VDPA_GET_STATUS)
		arg = *(unsigned char *)p;
	record(name, arg, ret);
	return ret;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	static ssize_t (*next)(int fd, const void *buf, size_t len);
	static const char *const what[] = { "?", "MISS", "UPDATE", "INVALIDATE", "ACCESS_FAIL", "BATCH_BEGIN", "BATCH_END" };
	const struct vhost_msg_v2 *m = buf;
	ssize_t ret;

	if (!next)
		next = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	ret = next(fd, buf, len);
	if (len == sizeof(*m) && m->type == VHOST_IOTLB_MSG_V2 && m->iotlb.type < 7)
		record(what[m->iotlb.type], -1, ret);
	return ret;
}

static void *(*next_mmap)(void *addr, size_t len, int prot, int flags, int fd, off64_t off);

static void __attribute__((constructor)) find_mmap(void)
{
	next_mmap = (void *(*)(void *, size_t, int, int, int, off64_t))dlsym(RTLD_NEXT, "mmap64");
}

void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off)
{
	void *p;

	/* Before the constructor nothing is mapped that others care for. */
	if (!next_mmap)
		return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
	p = next_mmap(addr, len, prot, flags, fd, off);
	/* Only doorbells are mapped for writing alone. */
	if (prot == PROT_WRITE && flags == MAP_SHARED)
		record(p == MAP_FAILED ? "NO DOORBELL" : "DOORBELL", -1, 0);
	return p;
}
