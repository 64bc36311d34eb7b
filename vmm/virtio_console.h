/* SPDX-License-Identifier: MIT */
/* Virtio console: one port, hvc0 in a Linux guest. */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "vmm/virtio.h"

#define CONSOLE_INPUT_MAX 4096

struct virtio_console {
	struct virtio_dev vdev;
	/* Called under the device's lock, in its thread. */
	void (*output)(void *ctx, const u8 *data, size_t len);
	void *output_ctx;
	u8 in[CONSOLE_INPUT_MAX];
	unsigned in_len;
};

int virtio_console_init(struct virtio_console *c, const struct vmm_mem *mem);
void virtio_console_exit(struct virtio_console *c);

/* As for serial ports: room, and input; returns the bytes taken. */
unsigned virtio_console_room(struct virtio_console *c);
unsigned virtio_console_input(struct virtio_console *c, const u8 *data, unsigned len);

#endif
