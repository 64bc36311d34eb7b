// SPDX-License-Identifier: MIT
/*
 * 16550A serial port. A line without speed: what is sent leaves at once, what
 * is received waits for the guest. Source: National Semiconductor PC16550D
 * data sheet, "Registers".
 */
#include "vmm/serial.h"

#include <linux/serial_reg.h>
#include <string.h>

/* A guest that reads the line status so often in a row waits for input. */
#define POLLS_THAT_LISTEN 64

/*
 * Input reaches the chip only while somebody listens: a driver that starts up
 * clears the FIFO and reads stray bytes away, and what was typed before a
 * guest's shell is there is meant for the shell.
 */
static void rx_refill(struct serial *s)
{
	/* OUT2 tells a driver at work from a probe that tries out IER's bits. */
	bool listening = ((s->ier & UART_IER_RDI) && (s->mcr & UART_MCR_OUT2)) ||
			 s->idle_polls >= POLLS_THAT_LISTEN;
	unsigned size = s->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO : 1;

	if (!listening || (s->mcr & UART_MCR_LOOP))
		return;
	while (s->in_len && s->fifo_len < size) {
		s->fifo[s->fifo_len++] = s->in[s->in_head];
		s->in_head = (s->in_head + 1) % SERIAL_RING;
		s->in_len--;
	}
}

/* Clearing the FIFO drops what was looped back; what was typed is as if it came later. */
static void rx_clear(struct serial *s)
{
	while (s->fifo_len) {
		s->fifo_len--;
		if (s->mcr & UART_MCR_LOOP)
			continue;
		s->in_head = (s->in_head + SERIAL_RING - 1) % SERIAL_RING;
		s->in[s->in_head] = s->fifo[s->fifo_len];
		s->in_len++;
	}
}

static u8 rx_get(struct serial *s)
{
	u8 v = 0;

	if (s->fifo_len) {
		v = s->fifo[0];
		memmove(s->fifo, s->fifo + 1, --s->fifo_len);
	}
	return v;
}

static u8 irq_source(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) && s->lsr_errors)
		return UART_IIR_RLSI;
	if ((s->ier & UART_IER_RDI) && s->fifo_len) {
		static const u8 trigger[] = { 1, 4, 8, 14 };

		/* Below the trigger level the timeout interrupt comes; here without the wait. */
		if ((s->fcr & UART_FCR_ENABLE_FIFO) && s->fifo_len < trigger[s->fcr >> 6])
			return UART_IIR_RX_TIMEOUT;
		return UART_IIR_RDI;
	}
	if ((s->ier & UART_IER_THRI) && s->thr_pending)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && s->msr_delta)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* OUT2 gates the interrupt on a PC; in loopback mode the pin is disconnected. */
static void irq_update(struct serial *s)
{
	bool level = irq_source(s) != UART_IIR_NO_INT && (s->mcr & UART_MCR_OUT2) &&
		     !(s->mcr & UART_MCR_LOOP);

	if (level == s->irq_level)
		return;
	s->irq_level = level;
	s->irq(s->irq_ctx, level);
}

static u8 modem_status(const struct serial *s)
{
	u8 v = 0;

	if (!(s->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	/* Looped back: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD. */
	v |= s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0;
	v |= s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0;
	v |= s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0;
	v |= s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	return v;
}

static void write_mcr(struct serial *s, u8 v)
{
	u8 before = modem_status(s), changed;

	s->mcr = v & 0x1f;
	changed = before ^ modem_status(s);
	/* Each status bit has its delta four below; RI only counts its trailing edge. */
	s->msr_delta |= (u8)((changed >> 4) & (UART_MSR_DDCD | UART_MSR_DDSR | UART_MSR_DCTS));
	if ((changed & UART_MSR_RI) && !(modem_status(s) & UART_MSR_RI))
		s->msr_delta |= UART_MSR_TERI;
}

static void transmit(struct serial *s, u8 v)
{
	if (s->mcr & UART_MCR_LOOP) {
		if (s->fifo_len < SERIAL_FIFO)
			s->fifo[s->fifo_len++] = v;
		else
			s->lsr_errors |= UART_LSR_OE;
	} else {
		s->output(s->output_ctx, v);
	}
	s->idle_polls = 0;
	/* The byte has left already: empty again. */
	s->thr_pending = true;
}

static void reg_write(struct serial *s, unsigned reg, u8 v)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = v;
		else
			transmit(s, v);
		break;
	case UART_IER:
		if (dlab) {
			s->dlm = v;
			break;
		}
		/* Enabling the interrupt while the transmitter is empty raises it. */
		if ((v & UART_IER_THRI) && !(s->ier & UART_IER_THRI))
			s->thr_pending = true;
		s->ier = v & 0x0f;
		break;
	case UART_FCR:
		/* A change of the enable bit clears the FIFOs too. */
		if ((v & UART_FCR_CLEAR_RCVR) || ((v ^ s->fcr) & UART_FCR_ENABLE_FIFO))
			rx_clear(s);
		s->fcr = v & (UART_FCR_ENABLE_FIFO | UART_FCR_DMA_SELECT | 0xc0);
		break;
	case UART_LCR:
		s->lcr = v;
		break;
	case UART_MCR:
		write_mcr(s, v);
		break;
	case UART_SCR:
		s->scr = v;
		break;
	}
}

static u8 reg_read(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;
	u8 v = 0;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : rx_get(s);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		v = irq_source(s);
		if (v == UART_IIR_THRI)
			s->thr_pending = false;
		return v | (s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		if (s->idle_polls < POLLS_THAT_LISTEN)
			s->idle_polls++;
		rx_refill(s);
		v = UART_LSR_THRE | UART_LSR_TEMT | s->lsr_errors | (s->fifo_len ? UART_LSR_DR : 0);
		s->lsr_errors = 0;
		return v;
	case UART_MSR:
		v = modem_status(s) | s->msr_delta;
		s->msr_delta = 0;
		return v;
	default:
		return s->scr;
	}
}

static void serial_port(void *ctx, u64 off, u8 *data, unsigned len, bool is_write)
{
	struct serial *s = ctx;

	pthread_mutex_lock(&s->lock);
	if (is_write)
		reg_write(s, (unsigned)off, data[0]);
	else
		data[0] = reg_read(s, (unsigned)off);
	rx_refill(s);
	irq_update(s);
	pthread_mutex_unlock(&s->lock);
}

int serial_init(struct serial *s, struct iobus *pio)
{
	pthread_mutex_init(&s->lock, NULL);
	s->mcr = 0;
	/* 9600 baud after reset; nobody looks, but 0 would be no speed. */
	s->dll = 12;
	s->range = (struct iobus_range){
		.start = s->port, .len = 8, .width = 1, .fn = serial_port, .ctx = s};
	return iobus_add(pio, &s->range);
}

void serial_exit(struct serial *s, struct iobus *pio)
{
	iobus_remove(pio, &s->range);
	pthread_mutex_destroy(&s->lock);
}

unsigned serial_room(struct serial *s)
{
	unsigned room;

	pthread_mutex_lock(&s->lock);
	room = s->in_len < SERIAL_INPUT_MAX ? SERIAL_INPUT_MAX - s->in_len : 0;
	pthread_mutex_unlock(&s->lock);
	return room;
}

unsigned serial_input(struct serial *s, const u8 *data, unsigned len)
{
	unsigned n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < len && s->in_len < SERIAL_INPUT_MAX) {
		s->in[(s->in_head + s->in_len) % SERIAL_RING] = data[n++];
		s->in_len++;
	}
	rx_refill(s);
	irq_update(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}
