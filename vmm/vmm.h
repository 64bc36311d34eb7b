/* SPDX-License-Identifier: MIT */
/*
 * A PC-like virtual machine on top of the KVM API.
 *
 * The machine reaches KVM only through the calls of struct vmm_sys, so it runs
 * on userkvm's own KVM and on a real /dev/kvm alike. All other host services
 * (files, sockets, eventfds, threads) are libc's.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/types.h"

/* Results are values or negative errno, except mmap's MAP_FAILED with errno. */
struct vmm_sys {
	int (*open)(const char *path, int flags);
	long (*ioctl)(int fd, unsigned long req, unsigned long arg);
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t off);
	int (*munmap)(void *addr, size_t len);
	int (*close)(int fd);
	int (*sigaction)(int sig, const struct sigaction *act, struct sigaction *old);
};

/* A file in memory and the name to show in messages. */
struct vmm_blob {
	const char *name;
	const u8 *data;
	size_t len;
};

struct vmm_disk_info {
	u64 size;		/* bytes */
	bool readonly, flush, discard;
	int change_fd;		/* readable when the size may have changed, or -1 */
};

/* What a disk stands on. Each call may block; 0 or -errno. One call at a time. */
struct vmm_disk_ops {
	/*
	 * On failure NULL, errno, and one line in @err that names the disk and the cause. @cancel_fd: readable
	 * when the machine is to end already; whoever waits for others gives up then.
	 */
	void *(*open)(const char *path, bool readonly, int cancel_fd, struct vmm_disk_info *info, char err[256]);
	void (*close)(void *disk);
	/* Offsets and lengths are in bytes, whole sectors, and within the disk. */
	int (*rw)(void *disk, const struct iovec *iov, unsigned nr, u64 off, bool is_write);
	int (*flush)(void *disk);
	int (*discard)(void *disk, u64 off, u64 len);	/* a hint */
	int (*zero)(void *disk, u64 off, u64 len, bool unmap);
	/* Optional: change_fd became readable; the bytes that there are now. */
	int (*changed)(void *disk, u64 *size);
	/* Optional, beside another call: it and all later ones shall end soon, with an error if need be. */
	void (*abandon)(void *disk);
};

struct vmm_disk {
	const char *path;
	bool readonly;
	const struct vmm_disk_ops *ops;		/* NULL: a raw file or block device */
};

struct vmm_net_info {
	u8 mac[6];
	u16 mtu;		/* 0 = not told to the guest */
	bool link_up;
};

struct vmm_config;
struct pollfd;

/* What the network card is connected to. One call at a time. */
struct vmm_net_ops {
	/* On failure NULL, errno, and one line in @err that names the network and the cause. @cancel_fd: as a disk's. */
	void *(*open)(const struct vmm_config *cfg, int cancel_fd, struct vmm_net_info *info, char err[256]);
	void (*close)(void *net);
	/* A frame from the guest. False: there is no room; it is offered again. */
	bool (*send)(void *net, const void *frame, size_t len);
	/* The next frame for the guest: its length, 0: none. */
	size_t (*receive)(void *net, void *frame, size_t room);
	/*
	 * Before a wait: add at most @max descriptors, lower *@timeout_ms (-1: none yet), and return how
	 * many; @want: VMM_NET_RECEIVE, unless the guest has no buffer for what is there already;
	 * VMM_NET_SEND, if there was no room. And after it.
	 */
	unsigned (*poll_fill)(void *net, struct pollfd *fds, unsigned max, unsigned want, int *timeout_ms);
	void (*poll_done)(void *net, const struct pollfd *fds, unsigned nr, bool error);
	/* Optional: as of the last poll_done(). */
	bool (*link_up)(void *net);
};
#define VMM_NET_RECEIVE 1u
#define VMM_NET_SEND 2u

struct vmm_hostfwd {
	bool udp;
	u32 host_addr, guest_addr;	/* IPv4, network byte order; 0 = any, 0 = DHCP's first */
	u16 host_port, guest_port;
};

#define VMM_MAX_DISKS 8
#define VMM_MAX_HOSTFWDS 16
#define VMM_MAX_CPUS 254		/* 8-bit APIC ids, 255 is broadcast */
#define VMM_MIN_MEM (16ull << 20)
#define VMM_MAX_MEM (1ull << 40)

struct vmm_config {
	const struct vmm_sys *sys;
	const char *kvm_path;		/* "/dev/kvm" */
	struct vmm_blob kernel;
	struct vmm_blob initrd;		/* len 0 = none */
	/* Optional: both are in the machine, their data is not used any more. */
	void (*loaded)(void *ctx);
	void *loaded_ctx;
	const char *cmdline;
	unsigned cpus;			/* 1..VMM_MAX_CPUS */
	u64 mem;			/* bytes, multiple of the page size */
	struct vmm_disk disks[VMM_MAX_DISKS];
	unsigned nr_disks;
	bool net;
	const struct vmm_net_ops *net_ops;	/* NULL: the user-mode network */
	const char *net_name;			/* for net_ops */
	struct vmm_hostfwd hostfwds[VMM_MAX_HOSTFWDS];
	unsigned nr_hostfwds;
	bool virtio_console;		/* host console is hvc0 instead of ttyS0 */
	int in_fd, out_fd;		/* host console; in_fd -1 = no input */
	/*
	 * A command runs (--run): its output comes from COM2 and its status as
	 * "exit N" from COM3; COM1 goes to log_fd (-1 = nowhere).
	 */
	bool command;
	int log_fd;
	unsigned timeout;		/* seconds, 0 = none */
};

enum vmm_end {
	VMM_END_POWEROFF,
	VMM_END_REBOOT,
	VMM_END_EXIT,			/* exit device: status is valid */
	VMM_END_QUIT,			/* the user left the console */
	VMM_END_SIGNAL,			/* SIGINT, SIGTERM, SIGHUP: status is its number */
	VMM_END_TIMEOUT,
	VMM_END_PANIC,			/* text holds the kernel's words, if it had any */
	VMM_END_TRIPLE_FAULT,
	VMM_END_HALTED,			/* no processor can ever run again */
	VMM_END_ERROR,			/* text names the cause */
};

struct vmm_result {
	enum vmm_end end;
	int status;
	/* A vCPU thread did not stop: the process must end without another machine. */
	bool stuck;
	char text[512];
};

/*
 * Build the machine, run it to its end, take it apart. Always fills in
 * *@result; blocks. To be called from a thread with no other vmm_run() at
 * work: SIGINT, SIGTERM and SIGHUP are blocked meanwhile, the signal
 * SIGRTMIN + 3 is used to stop vCPU threads.
 */
void vmm_run(const struct vmm_config *cfg, struct vmm_result *result);

#endif
