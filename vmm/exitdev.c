// SPDX-License-Identifier: MIT
/* Debug exit port, POST code port, pvpanic. */
#include "vmm/exitdev.h"

#include <errno.h>
#include <string.h>

#include "vmm/layout.h"

#define PVPANIC_PANICKED 0x01
#define PVPANIC_CRASH_LOADED 0x02

static void debug_exit_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct exitdev *e = ctx;
	u32 v = 0;

	memcpy(&v, data, len);
	if (is_write)
		machine_end(e->vmm, VMM_END_EXIT, (int)((v << 1 | 1) & 0xff), "debug exit port");
	else
		memset(data, 0, len);
}

static void post_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct exitdev *e = ctx;

	if (is_write)
		e->post_code = data[0];
	else
		data[0] = e->post_code;
}

static void pvpanic_mmio(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct exitdev *e = ctx;

	if (off != 0)
		return;
	/* Reading tells which events are understood. */
	if (!is_write)
		data[0] = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
	else if (data[0] & PVPANIC_PANICKED)
		e->panicked(e->panicked_ctx);
}

int exitdev_init(struct exitdev *e, struct vmm *vmm, struct pci_bus *bus)
{
	static const struct pci_id id = { .vendor = 0x1b36, .device = 0x0011, .subvendor = 0x1af4,
		.subdevice = 0x1100, .class_rev = 0x088000 << 8 | 1 };
	int ret;

	e->vmm = vmm;
	e->post = (struct iobus_range){
		.start = PORT_POST, .len = 1, .width = 1, .fn = post_port, .ctx = e};
	e->debug_exit = (struct iobus_range){ .start = PORT_DEBUG_EXIT, .len = 4, .width = 4,
		.fn = debug_exit_port, .ctx = e };
	ret = iobus_add(&vmm->pio, &e->post);
	if (ret)
		return ret;
	ret = iobus_add(&vmm->pio, &e->debug_exit);
	if (ret)
		goto undo_post;
	pci_dev_init(&e->pvpanic, &id);
	pci_set_bar(&e->pvpanic, 0, PAGE_SIZE, 1, pvpanic_mmio, e);
	ret = pci_attach(bus, &e->pvpanic);
	if (ret)
		goto undo_exit;
	return 0;
undo_exit:
	iobus_remove(&vmm->pio, &e->debug_exit);
undo_post:
	iobus_remove(&vmm->pio, &e->post);
	return ret;
}

void exitdev_exit(struct exitdev *e)
{
	pci_detach(&e->pvpanic);
	iobus_remove(&e->vmm->pio, &e->debug_exit);
	iobus_remove(&e->vmm->pio, &e->post);
}
