// SPDX-License-Identifier: MIT
/*
 * Keyboard controller at ports 60H and 64H, and system control port A (92H).
 * Nothing is plugged in: interface tests fail and commands to devices time
 * out, so drivers stop asking quickly. It raises no interrupts.
 * Source: IBM PS/2 Hardware Interface Technical Reference "Keyboard and Auxiliary Device
 * Controller".
 */
#include "vmm/i8042.h"

#include "vmm/layout.h"

#define STATUS_OUT_FULL 0x01
#define STATUS_SYSTEM 0x04
#define STATUS_CMD 0x08
#define STATUS_UNLOCKED 0x10
#define STATUS_TIMEOUT 0x40

#define CONFIG_KBD_OFF 0x10
#define CONFIG_AUX_OFF 0x20
#define OUTPUT_NO_RESET 0x01
#define OUTPUT_A20 0x02
#define PORT92_RESET 0x01
#define REPLY_RESEND 0xfe
#define TEST_CLOCK_LOW 0x01

static void reply(struct i8042 *k, u8 v, u8 flags)
{
	k->out = v;
	k->status = (u8)((k->status & ~STATUS_TIMEOUT) | STATUS_OUT_FULL | flags);
}

/* Returns true if the reset line is to be pulsed. */
static bool command(struct i8042 *k, u8 cmd)
{
	k->pending_cmd = 0;
	k->status |= STATUS_CMD;
	switch (cmd) {
	case 0x20:
		reply(k, k->config, 0);
		break;
	case 0x60: case 0xd1: case 0xd2: case 0xd3: case 0xd4:
		k->pending_cmd = cmd;
		break;
	case 0xa7:
		k->config |= CONFIG_AUX_OFF;
		break;
	case 0xa8:
		k->config &= (u8)~CONFIG_AUX_OFF;
		break;
	case 0xa9: case 0xab:
		reply(k, TEST_CLOCK_LOW, 0);
		break;
	case 0xaa:
		k->status |= STATUS_SYSTEM;
		reply(k, 0x55, 0);
		break;
	case 0xad:
		k->config |= CONFIG_KBD_OFF;
		break;
	case 0xae:
		k->config &= (u8)~CONFIG_KBD_OFF;
		break;
	case 0xc0:
		reply(k, 0x80, 0);	/* input port: not locked */
		break;
	case 0xd0:
		reply(k, k->output_port, 0);
		break;
	case 0xf0: case 0xf2: case 0xf4: case 0xf6: case 0xf8: case 0xfa: case 0xfc: case 0xfe:
		/* Pulse output lines whose bits are 0; line 0 is the reset. */
		return true;
	}
	return false;
}

static bool data_write(struct i8042 *k, u8 v)
{
	u8 cmd = k->pending_cmd;

	k->pending_cmd = 0;
	k->status &= (u8)~STATUS_CMD;
	switch (cmd) {
	case 0x60:
		k->config = v;
		break;
	case 0xd1:
		k->output_port = v | OUTPUT_A20;
		return !(v & OUTPUT_NO_RESET);
	case 0xd2: case 0xd3:
		reply(k, v, 0);
		break;
	default:
		/* To the keyboard, or (D4H) to the mouse: nobody answers. */
		reply(k, REPLY_RESEND, STATUS_TIMEOUT);
		break;
	}
	return false;
}

static void i8042_port(struct i8042 *k, bool is_cmd, u8 *data, bool is_write)
{
	bool reset = false;

	pthread_mutex_lock(&k->lock);
	if (is_write) {
		reset = is_cmd ? command(k, data[0]) : data_write(k, data[0]);
	} else if (is_cmd) {
		data[0] = k->status;
	} else {
		data[0] = k->out;
		k->status &= (u8)~(STATUS_OUT_FULL | STATUS_TIMEOUT);
	}
	pthread_mutex_unlock(&k->lock);
	if (reset)
		k->reset(k->reset_ctx);
}

static void data_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	i8042_port(ctx, false, data, is_write);
}

static void cmd_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	i8042_port(ctx, true, data, is_write);
}

static void port92(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct i8042 *k = ctx;

	/* A20 is always open. */
	if (!is_write)
		data[0] = OUTPUT_A20;
	else if (data[0] & PORT92_RESET)
		k->reset(k->reset_ctx);
}

int i8042_init(struct i8042 *k, struct iobus *pio)
{
	int ret;

	pthread_mutex_init(&k->lock, NULL);
	k->status = STATUS_SYSTEM | STATUS_UNLOCKED;
	k->config = CONFIG_KBD_OFF | CONFIG_AUX_OFF;
	k->output_port = OUTPUT_NO_RESET | OUTPUT_A20;
	k->data = (struct iobus_range){
		.start = PORT_I8042_DATA, .len = 1, .width = 1, .fn = data_port, .ctx = k};
	k->cmd = (struct iobus_range){
		.start = PORT_I8042_CMD, .len = 1, .width = 1, .fn = cmd_port, .ctx = k};
	k->port92 = (struct iobus_range){
		.start = PORT_92, .len = 1, .width = 1, .fn = port92, .ctx = k};
	ret = iobus_add(pio, &k->data);
	if (ret)
		return ret;
	ret = iobus_add(pio, &k->cmd);
	if (ret)
		goto undo_data;
	ret = iobus_add(pio, &k->port92);
	if (ret)
		goto undo_cmd;
	return 0;
undo_cmd:
	iobus_remove(pio, &k->cmd);
undo_data:
	iobus_remove(pio, &k->data);
	return ret;
}

void i8042_exit(struct i8042 *k, struct iobus *pio)
{
	iobus_remove(pio, &k->data);
	iobus_remove(pio, &k->cmd);
	iobus_remove(pio, &k->port92);
	pthread_mutex_destroy(&k->lock);
}
