// SPDX-License-Identifier: MIT
/*
 * The self-describing statistics file: header, id, descriptors, values, laid
 * out as the KVM API document "KVM_GET_STATS_FD" says. Counters live in a
 * private page until a descriptor is asked for; then the same address becomes
 * a shared mapping of a memfd, so a plain read() sees live values. An increment
 * that races with that one switch may be lost.
 */
#include "kvm/stats.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <errno.h>

#define NAME_SIZE 48u
#define STATS_MAP_SIZE 8192u	/* all of it: header, descriptors, values */

#define KIND_CUMULATIVE (KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)
#define KIND_INSTANT (KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)
#define KIND_PEAK (KVM_STATS_TYPE_PEAK | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10)
#define KIND_NS (KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10)
#define KIND_BOOL (KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN | KVM_STATS_BASE_POW10)
#define EXPONENT_CUMULATIVE 0
#define EXPONENT_INSTANT 0
#define EXPONENT_PEAK 0
#define EXPONENT_NS (-9)
#define EXPONENT_BOOL 0

struct stat_desc {
	const char *name;
	u32 flags;
	s16 exponent;
};

static const struct stat_desc vm_descs[] = {
#define VM_STAT(name, kind) { #name, KIND_##kind, EXPONENT_##kind },
#include "kvm/stats.def"
};
static const struct stat_desc vcpu_descs[] = {
#define VCPU_STAT(name, kind) { #name, KIND_##kind, EXPONENT_##kind },
#include "kvm/stats.def"
};

#define DESC_BYTES (sizeof(struct kvm_stats_desc) + NAME_SIZE)
#define DESC_OFFSET (sizeof(struct kvm_stats_header) + NAME_SIZE)

_Static_assert(sizeof(struct kvm_stats_header) == 24, "ABI");
_Static_assert(sizeof(struct kvm_stats_desc) == 16, "ABI");
_Static_assert(DESC_OFFSET + HV_NR_VCPU_STATS * (DESC_BYTES + 8) <= STATS_MAP_SIZE, "map too small");
_Static_assert(DESC_OFFSET + HV_NR_VM_STATS * (DESC_BYTES + 8) <= STATS_MAP_SIZE, "map too small");

static void describe(struct hv_stats *s)
{
	const struct stat_desc *d = s->of_vm ? vm_descs : vcpu_descs;
	u32 n = s->of_vm ? ARRAY_SIZE(vm_descs) : ARRAY_SIZE(vcpu_descs);
	struct kvm_stats_header h = {
		.name_size = NAME_SIZE, .num_desc = n, .id_offset = sizeof(h),
		.desc_offset = DESC_OFFSET, .data_offset = s->data_offset,
	};

	memcpy(s->map, &h, sizeof(h));
	memcpy(s->map + sizeof(h), s->id, NAME_SIZE);
	for (u32 i = 0; i < n; i++) {
		struct kvm_stats_desc k = {
			.flags = d[i].flags, .exponent = d[i].exponent, .size = 1, .offset = i * 8,
		};
		u8 *p = s->map + DESC_OFFSET + i * DESC_BYTES;

		memcpy(p, &k, sizeof(k));
		strncpy((char *)p + sizeof(k), d[i].name, NAME_SIZE - 1);
	}
}

struct hv_stats *hv_stats_new(int vcpu)
{
	struct hv_stats *s = calloc(1, sizeof(*s));
	void *map;

	if (!s)
		return NULL;
	map = mmap(NULL, STATS_MAP_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) {
		free(s);
		return NULL;
	}
	s->fd = -1;
	s->of_vm = vcpu < 0;
	s->map = map;
	s->data_offset = (u32)(DESC_OFFSET +
			       (s->of_vm ? (u32)HV_NR_VM_STATS : (u32)HV_NR_VCPU_STATS) * DESC_BYTES);
	s->count = (_Atomic u64 *)(s->map + s->data_offset);
	if (s->of_vm)
		snprintf(s->id, sizeof(s->id), "kvm-%d", (int)getpid());
	else
		snprintf(s->id, sizeof(s->id), "kvm-%d/vcpu-%d", (int)getpid(), vcpu);
	return s;
}

void hv_stats_free(struct hv_stats *s)
{
	if (!s)
		return;
	munmap(s->map, STATS_MAP_SIZE);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static int share(struct hv_stats *s)
{
	int fd = memfd_create("kvm-stats", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	describe(s);
	if (write(fd, s->map, STATS_MAP_SIZE) != (ssize_t)STATS_MAP_SIZE ||
	    mmap(s->map, STATS_MAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		int err = errno ? -errno : -ENOSPC;

		close(fd);
		return err;
	}
	s->fd = fd;
	return 0;
}

int hv_stats_fd(struct hv_stats *s)
{
	char path[64];
	int fd, r;

	if (s->fd < 0) {
		r = share(s);
		if (r < 0)
			return r;
	}
	/* Opened anew: dup() would share the file offset with other readers. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
