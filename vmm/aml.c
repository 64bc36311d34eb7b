// SPDX-License-Identifier: MIT
/* AML writer. */
#include "vmm/aml.h"

#include <string.h>

#include "base/log.h"

enum {
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_QWORD = 0x0e,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_DUAL_NAME = 0x2e,
	AML_MULTI_NAME = 0x2f,
	AML_EXT = 0x5b,
	AML_EXT_DEVICE = 0x82,
};

/* PkgLength in its three-byte form: up to 2^20, at a fixed size. */
#define PKG_LENGTH_BYTES 3
/* A buffer's size is an integer term; a word constant has a fixed size. */
#define BUFFER_SIZE_BYTES 3

void aml_byte(struct aml *a, u8 b)
{
	if (a->len == a->cap) {
		a->overflow = true;
		return;
	}
	a->buf[a->len++] = b;
}

void aml_le(struct aml *a, u64 v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		aml_byte(a, (u8)(v >> (8 * i)));
}

static void aml_segment(struct aml *a, const char *s, size_t len)
{
	BUG_ON(len == 0 || len > 4);
	for (size_t i = 0; i < 4; i++)
		aml_byte(a, i < len ? (u8)s[i] : '_');
}

void aml_name(struct aml *a, const char *name)
{
	unsigned segments = 1;

	while (*name == '\\' || *name == '^')
		aml_byte(a, (u8)*name++);
	for (const char *p = name; *p; p++)
		segments += *p == '.';
	if (segments == 2) {
		aml_byte(a, AML_DUAL_NAME);
	} else if (segments > 2) {
		aml_byte(a, AML_MULTI_NAME);
		aml_byte(a, (u8)segments);
	}
	for (;;) {
		size_t len = strcspn(name, ".");

		aml_segment(a, name, len);
		if (!name[len])
			break;
		name += len + 1;
	}
}

void aml_int(struct aml *a, u64 v)
{
	if (v <= 1) {
		aml_byte(a, (u8)v);	/* ZeroOp, OneOp */
	} else if (v <= 0xff) {
		aml_byte(a, AML_BYTE);
		aml_le(a, v, 1);
	} else if (v <= 0xffff) {
		aml_byte(a, AML_WORD);
		aml_le(a, v, 2);
	} else if (v <= 0xffffffff) {
		aml_byte(a, AML_DWORD);
		aml_le(a, v, 4);
	} else {
		aml_byte(a, AML_QWORD);
		aml_le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, AML_STRING);
	do {
		aml_byte(a, (u8)*s);
	} while (*s++);
}

static u32 hex_digit(char c)
{
	return c <= '9' ? (u32)(c - '0') : (u32)(c - 'A' + 10);
}

void aml_eisaid(struct aml *a, const char *id)
{
	u32 v = 0;

	/* Three letters of five bits, four hexadecimal digits, most significant byte first. */
	for (int i = 0; i < 3; i++)
		v = v << 5 | (u32)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	aml_byte(a, AML_DWORD);
	for (int i = 3; i >= 0; i--)
		aml_byte(a, (u8)(v >> (8 * i)));
}

void aml_named(struct aml *a, const char *name)
{
	aml_byte(a, AML_NAME);
	aml_name(a, name);
}

static void aml_open(struct aml *a)
{
	BUG_ON(a->depth == AML_MAX_DEPTH);
	a->open[a->depth++] = a->len;
	aml_le(a, 0, PKG_LENGTH_BYTES);
}

void aml_end(struct aml *a)
{
	size_t at, len;

	BUG_ON(a->depth == 0);
	at = a->open[--a->depth];
	if (a->overflow)
		return;
	/*
	 * The length counts its own bytes. Low four bits in the lead byte, which tells how many
	 * follow.
	 */
	len = a->len - at;
	a->buf[at] = (u8)((PKG_LENGTH_BYTES - 1) << 6 | (len & 0xf));
	a->buf[at + 1] = (u8)(len >> 4);
	a->buf[at + 2] = (u8)(len >> 12);
}

void aml_scope(struct aml *a, const char *name)
{
	aml_byte(a, AML_SCOPE);
	aml_open(a);
	aml_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	aml_byte(a, AML_EXT);
	aml_byte(a, AML_EXT_DEVICE);
	aml_open(a);
	aml_name(a, name);
}

void aml_package(struct aml *a, unsigned elements)
{
	aml_byte(a, AML_PACKAGE);
	aml_open(a);
	aml_byte(a, (u8)elements);
}

void aml_resources(struct aml *a)
{
	aml_byte(a, AML_BUFFER);
	aml_open(a);
	aml_byte(a, AML_WORD);
	aml_le(a, 0, 2);
}

void aml_resources_end(struct aml *a)
{
	size_t at = a->open[a->depth - 1] + PKG_LENGTH_BYTES, size;

	/* End tag; checksum 0 = not given. */
	aml_byte(a, 0x79);
	aml_byte(a, 0);
	size = a->len - (at + BUFFER_SIZE_BYTES);
	if (!a->overflow) {
		a->buf[at + 1] = (u8)size;
		a->buf[at + 2] = (u8)(size >> 8);
	}
	aml_end(a);
}

void aml_res_io(struct aml *a, u16 base, u8 len)
{
	aml_byte(a, 0x47);
	aml_byte(a, 1);		/* decodes 16 bits */
	aml_le(a, base, 2);
	aml_le(a, base, 2);
	aml_byte(a, 1);
	aml_byte(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
	/* Edge, active high, exclusive. */
	aml_byte(a, 0x22);
	aml_le(a, 1u << irq, 2);
}

/* Resource types and flags of address-space descriptors. */
enum { RES_MEM, RES_IO, RES_BUS };
#define RES_FIXED 0x0c		/* minimum and maximum fixed */

static void aml_res_window(struct aml *a, u8 tag, u8 type, u8 type_flags, u64 first, u64 last,
			   unsigned bytes)
{
	aml_byte(a, tag);
	aml_le(a, 3 + 5 * bytes, 2);
	aml_byte(a, type);
	aml_byte(a, RES_FIXED);
	aml_byte(a, type_flags);
	aml_le(a, 0, bytes);		/* granularity */
	aml_le(a, first, bytes);
	aml_le(a, last, bytes);
	aml_le(a, 0, bytes);		/* translation */
	aml_le(a, last - first + 1, bytes);
}

void aml_res_bus(struct aml *a, u16 first, u16 last)
{
	aml_res_window(a, 0x88, RES_BUS, 0, first, last, 2);
}

void aml_res_io_window(struct aml *a, u16 first, u16 last)
{
	aml_res_window(a, 0x88, RES_IO, 3, first, last, 2);	/* entire range */
}

void aml_res_mem(struct aml *a, u32 base, u32 len)
{
	aml_byte(a, 0x86);		/* 32-bit fixed memory range */
	aml_le(a, 9, 2);
	aml_byte(a, 1);			/* read-write */
	aml_le(a, base, 4);
	aml_le(a, len, 4);
}

void aml_res_mem_window(struct aml *a, u32 first, u32 last)
{
	aml_res_window(a, 0x87, RES_MEM, 1, first, last, 4);	/* not cacheable, read-write */
}
