// SPDX-License-Identifier: MIT
/* Entropy device. Source: VIRTIO 1.1 "Entropy Device". */
#include "vmm/virtio_rng.h"

#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/random.h>

#define QUEUE_SIZE 8
/* A guest that asks for more gets a short answer and asks again. */
#define MAX_REPLY 4096

static void rng_notify(struct virtio_dev *d, unsigned q)
{
	struct virtq_chain c;
	u8 buf[MAX_REPLY];

	while (virtio_pop(d, q, &c)) {
		ssize_t n = getrandom(buf, min(sizeof(buf), (size_t)c.in_len), 0);

		if (!c.in_len) {
			virtio_broken(d, "request without a writable buffer");
			return;
		}
		/* Up to 256 bytes cannot fail or be short; more may be cut by a signal. */
		if (n < 0)
			n = 0;
		virtq_write(&c, 0, buf, (size_t)n);
		virtio_push(d, q, &c, (u32)n);
	}
	virtio_flush(d, q);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00 << 8,
	.nr_queues = 1,
	.queue_size = QUEUE_SIZE,
	.notify = rng_notify,
};

int virtio_rng_init(struct virtio_rng *r, const struct vmm_mem *mem)
{
	memset(r, 0, sizeof(*r));
	r->vdev.ops = &rng_ops;
	r->vdev.mem = mem;
	return virtio_init(&r->vdev);
}

void virtio_rng_exit(struct virtio_rng *r)
{
	virtio_exit(&r->vdev);
}
