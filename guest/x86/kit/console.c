/* SPDX-License-Identifier: MIT */
/* Serial output, TAP, the way out. */
#include "kit.h"

#define COM1 0x3f8
#define EXIT_PORT 0xf4

static volatile int lock;
static u32 nr_tests, nr_failed;

void *memcpy(void *d, const void *s, size_t n)
{
	void *r = d;

	asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) :: "memory");
	return r;
}

void *memset(void *d, int c, size_t n)
{
	void *r = d;

	asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return r;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

static void put(char c)
{
	/* A line-status register that never gets ready must not hang us. */
	for (int i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
		pause();
	outb(COM1, (u8)c);
}

static void put_number(u64 v, unsigned base, int width, char pad)
{
	char buf[24];
	int n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	for (; width > n; width--)
		put(pad);
	while (n)
		put(buf[--n]);
}

static void format(const char *p, va_list ap)
{
	for (; *p; p++) {
		bool is_long = false;
		char pad = ' ';
		int width = 0;

		if (*p != '%') {
			put(*p);
			continue;
		}
		p++;
		if (*p == '0')
			pad = *p++;
		for (; *p >= '0' && *p <= '9'; p++)
			width = width * 10 + *p - '0';
		for (; *p == 'l'; p++)
			is_long = true;
		switch (*p) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put((char)va_arg(ap, int));
			break;
		case 'd': {
			long v = is_long ? va_arg(ap, long) : va_arg(ap, int);

			if (v < 0)
				put('-');
			put_number(v < 0 ? -(u64)v : (u64)v, 10, width, pad);
			break;
		}
		case 'u':
			put_number(is_long ? va_arg(ap, u64) : va_arg(ap, u32), 10, width, pad);
			break;
		case 'x':
			put_number(is_long ? va_arg(ap, u64) : va_arg(ap, u32), 16, width, pad);
			break;
		default:
			put(*p);
		}
	}
}

static void take_lock(void)
{
	while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
		pause();
}

static void drop_lock(void)
{
	__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

void printf(const char *fmt, ...)
{
	va_list ap;

	take_lock();
	va_start(ap, fmt);
	format(fmt, ap);
	va_end(ap);
	drop_lock();
}

void report(const char *what, bool pass)
{
	u32 n = __atomic_add_fetch(&nr_tests, 1, __ATOMIC_RELAXED);

	if (!pass)
		__atomic_add_fetch(&nr_failed, 1, __ATOMIC_RELAXED);
	printf("%sok %u - %s\n", pass ? "" : "not ", n, what);
}

void skip(const char *what, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", __atomic_add_fetch(&nr_tests, 1, __ATOMIC_RELAXED), what, why);
}

bool on_tcg(void)
{
	struct cpuid c = cpuid(0x40000000, 0);

	return (cpuid(1, 0).c >> 31) && c.b == 0x54474354 && c.c == 0x43544743 && c.d == 0x47435447;
}

void report_deviant(const char *what, const char *tcg, bool pass)
{
	if (!pass && on_tcg())
		skip(what, tcg);
	else
		report(what, pass);
}

_Noreturn void finish(void)
{
	printf("1..%u\n", nr_tests);
	cli();
	outl(EXIT_PORT, nr_failed || !nr_tests ? 1 : 0);
	for (;;)
		asm volatile("cli; hlt");
}

_Noreturn void die(const char *fmt, ...)
{
	va_list ap;

	put('#');
	put(' ');
	va_start(ap, fmt);
	format(fmt, ap);
	va_end(ap);
	put('\n');
	report("the program ran to its end", false);
	finish();
}
