/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues, device side. Everything in guest memory is hostile and
 * may change at any moment: each value is read once, then checked.
 */
#ifndef VMM_VIRTQ_H
#define VMM_VIRTQ_H

#include <sys/uio.h>

#include "base/types.h"
#include "vmm/mem.h"

#define VIRTQ_MAX_SIZE 256

struct virtq {
	u16 size;
	bool enabled;
	u64 desc, avail, used;		/* guest addresses, as the driver set them */
	/* Host addresses, from virtq_enable(). */
	const u8 *desc_p, *avail_p;
	u8 *used_p;
	u16 last_avail;			/* next entry of the available ring */
	u16 used_idx;
	u16 signalled;			/* used_idx at the last decision about an interrupt */
	bool indirect, event_idx;	/* negotiated */
};

/* One request: device-readable parts first, then device-writable ones. */
struct virtq_chain {
	u16 head;
	unsigned nr_out, nr_in;
	u64 out_len, in_len;
	struct iovec iov[VIRTQ_MAX_SIZE];
};

/* Back to the state after reset, with @max entries. */
void virtq_reset(struct virtq *q, u16 max);
/*
 * Start with the ring addresses and size that the driver set. Returns NULL, or
 * in words what is wrong with them.
 */
const char *virtq_enable(struct virtq *q, const struct vmm_mem *mem);

/* Returns 1 with a chain, 0 if the ring is empty, -1 with *@why if it is invalid. */
int virtq_pop(struct virtq *q, const struct vmm_mem *mem, struct virtq_chain *c, const char **why);
/* Undo the last pop. */
void virtq_unpop(struct virtq *q);
void virtq_push(struct virtq *q, u16 head, u32 len);
/* Does the driver want an interrupt for what was pushed since the last call? */
bool virtq_want_irq(struct virtq *q);
/*
 * Ask for (or give up) notifications. Asking returns true if buffers came
 * meanwhile, which the driver may not notify.
 */
bool virtq_set_notify(struct virtq *q, bool on);

/*
 * Copy out of the readable part at @off, into the writable part at @off; the bytes that were there.
 */
size_t virtq_read(const struct virtq_chain *c, u64 off, void *buf, size_t len);
size_t virtq_write(const struct virtq_chain *c, u64 off, const void *buf, size_t len);

#endif
