// SPDX-License-Identifier: MIT
/* Console device. Source: VIRTIO 1.1 "Console Device". */
#include "vmm/virtio_console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define QUEUE_SIZE 64
enum { RX, TX };

static struct virtio_console *of_dev(struct virtio_dev *d)
{
	return container_of(d, struct virtio_console, vdev);
}

/* Hand waiting input to the guest, as far as it has buffers. */
static void console_fill(struct virtio_console *c)
{
	struct virtq_chain chain;

	while (c->in_len && virtio_pop(&c->vdev, RX, &chain)) {
		size_t n = virtq_write(&chain, 0, c->in, c->in_len);

		memmove(c->in, c->in + n, c->in_len - n);
		c->in_len -= (unsigned)n;
		virtio_push(&c->vdev, RX, &chain, (u32)n);
	}
	virtio_flush(&c->vdev, RX);
}

static void console_notify(struct virtio_dev *d, unsigned q)
{
	struct virtio_console *c = of_dev(d);
	struct virtq_chain chain;

	if (q == RX) {
		console_fill(c);
		return;
	}
	while (virtio_pop(d, TX, &chain)) {
		for (unsigned i = 0; i < chain.nr_out; i++)
			c->output(c->output_ctx, chain.iov[i].iov_base, chain.iov[i].iov_len);
		virtio_push(d, TX, &chain, 0);
	}
	virtio_flush(d, TX);
}

static void console_reset(struct virtio_dev *d)
{
	of_dev(d)->in_len = 0;
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000 << 8,
	.nr_queues = 2,
	.queue_size = QUEUE_SIZE,
	/* Size and ports are features that are not offered: all zero. */
	.config_len = sizeof(struct virtio_console_config),
	.notify = console_notify,
	.reset = console_reset,
};

int virtio_console_init(struct virtio_console *c, const struct vmm_mem *mem)
{
	memset(c, 0, sizeof(*c));
	c->vdev.ops = &console_ops;
	c->vdev.mem = mem;
	return virtio_init(&c->vdev);
}

void virtio_console_exit(struct virtio_console *c)
{
	virtio_exit(&c->vdev);
}

unsigned virtio_console_room(struct virtio_console *c)
{
	unsigned room;

	pthread_mutex_lock(&c->vdev.lock);
	room = virtio_running(&c->vdev) ? CONSOLE_INPUT_MAX - c->in_len : 0;
	pthread_mutex_unlock(&c->vdev.lock);
	return room;
}

unsigned virtio_console_input(struct virtio_console *c, const u8 *data, unsigned len)
{
	unsigned n;

	pthread_mutex_lock(&c->vdev.lock);
	n = min(len, CONSOLE_INPUT_MAX - c->in_len);
	memcpy(c->in + c->in_len, data, n);
	c->in_len += n;
	console_fill(c);
	pthread_mutex_unlock(&c->vdev.lock);
	return n;
}
