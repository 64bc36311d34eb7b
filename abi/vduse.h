/* SPDX-License-Identifier: MIT */
/*
 * The VDUSE API's numbers and structs, in Linux spelling: the system's own
 * header (Debian 12: Linux 6.1, API version 0 with the umem calls of 6.0), and
 * what API version 1 adds: groups of virtqueues and address spaces. Version 1
 * gives meaning to reserved words; structs named _api1 are the same bytes.
 */
#ifndef ABI_VDUSE_H
#define ABI_VDUSE_H

#include <linux/ioctl.h>
#include <linux/vduse.h>

#define VDUSE_API_1 1

/* CREATE_DEV */
struct vduse_dev_config_api1 {
	char name[VDUSE_NAME_MAX];
	__u32 vendor_id;
	__u32 device_id;
	__u64 features;
	__u32 vq_num;
	__u32 vq_align;
	__u32 ngroups;
	__u32 nas;
	__u32 reserved[11];
	__u32 config_size;
};
_Static_assert(sizeof(struct vduse_dev_config_api1) == sizeof(struct vduse_dev_config), "the same bytes");
_Static_assert(__builtin_offsetof(struct vduse_dev_config_api1, ngroups) == 280, "A.3");

/* VQ_SETUP */
struct vduse_vq_config_api1 {
	__u32 index;
	__u16 max_size;
	__u16 reserved1;
	__u32 group;
	__u16 reserved2[10];
};
_Static_assert(sizeof(struct vduse_vq_config_api1) == sizeof(struct vduse_vq_config), "the same bytes");

/* IOTLB_REG_UMEM, IOTLB_DEREG_UMEM; IOTLB_GET_INFO has it at the same place. */
struct vduse_iova_umem_api1 {
	__u64 uaddr;
	__u64 iova;
	__u64 size;
	__u32 asid;
	__u32 reserved[5];
};
_Static_assert(sizeof(struct vduse_iova_umem_api1) == sizeof(struct vduse_iova_umem), "the same bytes");

struct vduse_iova_info_api1 {
	__u64 start;
	__u64 last;
	__u64 capability;
	__u32 asid;
	__u32 reserved[5];
};
_Static_assert(sizeof(struct vduse_iova_info_api1) == sizeof(struct vduse_iova_info), "the same bytes");

#ifndef VDUSE_IOTLB_GET_FD2
struct vduse_iotlb_entry_v2 {
	struct vduse_iotlb_entry v1;
	__u32 asid;
	__u32 reserved[12];
};

/* IOTLB_GET_FD of a given address space. */
#define VDUSE_IOTLB_GET_FD2 _IOWR(VDUSE_BASE, 0x1b, struct vduse_iotlb_entry_v2)

/* Type of a message: the group's queues now use that address space. */
#define VDUSE_SET_VQ_GROUP_ASID 3

/* What UPDATE_IOTLB and SET_VQ_GROUP_ASID carry, in the place of the request's union. */
struct vduse_iova_range_v2 {
	__u64 start;
	__u64 last;
	__u32 asid;
	__u32 padding;
};

struct vduse_vq_group_asid {
	__u32 group;
	__u32 asid;
};
#endif

#endif
