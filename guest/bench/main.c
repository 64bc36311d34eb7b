// SPDX-License-Identifier: MIT
/*
 * The measuring program, both as init of a guest (then output goes straight to
 * the serial port) and as a program of the host. It finds how often a workload
 * must be repeated; the time is taken by whoever reads the marks, by the host's
 * clock. A line each:
 *
 *   @c NAME SUM       checksum of the fixed run
 *   @b NAME           a timed run begins ...
 *   @e                ... has ended
 *   @n NAME N CPU     and was N repetitions that took CPU nanoseconds of processor time
 *   @v NAME VALUE     a figure of its own
 *   @x NAME REASON    not measured
 *   @end
 *
 * usage: bench [-c] [-l] [-r RUNS] [-t MS] [NAME,NAME...]
 *   -c checksums only; -l the table of workloads; -t of one timed run
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest/bench/bench.h"

#define COM1 0x3f8
#define LSR_EMPTY 0x20

enum { COMPUTE = 1, GUEST = 2, SMP = 4, NOSUM = 8, AVX2 = 16 };

static const struct workload {
	const char *name, *unit;
	double per;
	u64 check;
	unsigned flags;
	double must, moonshot;
	u64 (*run)(u64 n);
} workloads[] = {
#define W(n, unit, per, check, flags, must, moonshot) \
	{ #n, unit, per, check, flags, must, moonshot, bench_##n },
#include "guest/bench/workloads.def"
#undef W
};

#define NR (sizeof(workloads) / sizeof(workloads[0]))

const char *bench_self = "/proc/self/exe";
static bool guest;
static const struct workload *now;

/* ---- Output ---- */

static void put(const char *s, size_t len)
{
	if (!guest) {
		while (len) {
			ssize_t n = write(STDOUT_FILENO, s, len);

			if (n <= 0)
				_exit(1);
			s += n;
			len -= (size_t)n;
		}
		return;
	}
	while (len--) {
		while (!(inb(COM1 + 5) & LSR_EMPTY))
			;
		outb((u8)*s++, COM1);
	}
}

static __attribute__((format(printf, 1, 2))) void say(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	put(line, (size_t)n);
}

void bench_value(const char *name, double v)
{
	say("@v %s %.4g\n", name, v);
}

void bench_skip(const char *why)
{
	say("@x %s %s\n", now->name, why);
	_exit(0);
}

/* ---- What workloads need ---- */

u64 bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

void *bench_shared(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		bench_skip("no memory");
	return p;
}

u8 *bench_arena(void)
{
	static u8 *arena;

	if (!arena) {
		arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (arena == MAP_FAILED)
			bench_skip("no memory");
	}
	return arena;
}

void bench_pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int bench_spawn(unsigned cpu, void (*fn)(void *), void *arg)
{
	int pid = fork();

	if (pid < 0)
		bench_skip("fork");
	if (pid)
		return pid;
	bench_pin(cpu);
	fn(arg);
	_exit(0);
}

void bench_join(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

/* Of this process and of the children that it waited for. */
static u64 cpu_time(void)
{
	struct timespec t;
	struct rusage u;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	getrusage(RUSAGE_CHILDREN, &u);
	return (u64)(t.tv_sec + u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 + (u64)t.tv_nsec +
	       (u64)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

/* ---- Measuring ---- */

static u64 once(const struct workload *w, u64 n)
{
	u64 t = bench_now();

	w->run(n);
	return bench_now() - t;
}

/* Repetitions that take about @ms. A long run counts only if the next is long too: other load is about. */
static u64 how_often(const struct workload *w, unsigned ms)
{
	u64 n = 1, want = ms * 1000000ull;

	for (;;) {
		u64 t = once(w, n), by;

		if (t >= want / 4) {
			u64 again = t < 4 * want ? once(w, n) : t;

			t = again < t ? again : t;
			if (t >= want / 4)
				return n * want / t ? n * want / t : 1;
		}
		by = t ? want / t : 16;
		n *= by > 16 ? 16 : by < 2 ? 2 : by;
	}
}

static void measure(const struct workload *w, bool check_only, unsigned runs, unsigned ms)
{
	u64 sum, n;

	if (w->flags & AVX2 && !__builtin_cpu_supports("avx2"))
		bench_skip("no AVX2");
	if (w->flags & SMP && get_nprocs() < 2)
		bench_skip("needs two processors");
	if (w->flags & GUEST && !guest)
		bench_skip("needs a machine of its own");
	bench_pin(0);
	if (!(w->flags & NOSUM) || !check_only) {
		sum = w->run(w->check);
		if (!(w->flags & NOSUM))
			say("@c %s %016llx\n", w->name, (unsigned long long)sum);
	}
	if (check_only)
		return;
	n = how_often(w, ms);
	while (runs--) {
		u64 cpu;

		say("@b %s\n", w->name);
		cpu = cpu_time();
		w->run(n);
		put("@e\n", 3);
		cpu = cpu_time() - cpu;
		say("@n %s %llu %llu\n", w->name, (unsigned long long)n, (unsigned long long)cpu);
	}
}

/* In a process of its own: memory is given back, and a crash costs one row. */
static void one(const struct workload *w, bool check_only, unsigned runs, unsigned ms)
{
	int status, pid = fork();

	now = w;
	if (!pid) {
		measure(w, check_only, runs, ms);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		say("@x %s ended badly: status %x\n", w->name, status);
}

static bool wanted(const char *name, const char *list)
{
	size_t len = strlen(name);

	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, len) && (p[len] == ',' || !p[len]))
			return true;
	return !list;
}

static void become_init(void)
{
	guest = true;
	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	klogctl(6, NULL, 0);	/* no kernel messages between ours */
	if (iopl(3))
		reboot(RB_POWER_OFF);
	put("\n", 1);		/* firmware and kernel may have left a line open */
}

int main(int argc, char **argv)
{
	bool check_only = false, list = false;
	unsigned runs = 3, ms = 100;
	int o;

	if (argc > 1 && !strcmp(argv[1], "-x"))
		return 7;
	if (getpid() == 1)
		become_init();
	while ((o = getopt(argc, argv, "clr:t:")) != -1) {
		switch (o) {
		case 'c': check_only = true; break;
		case 'l': list = true; break;
		case 'r': runs = (unsigned)atoi(optarg); break;
		case 't': ms = (unsigned)atoi(optarg); break;
		default: say("@x options unknown\n"); break;
		}
	}
	for (size_t i = 0; i < NR; i++) {
		const struct workload *w = &workloads[i];

		if (list)
			say("%s %s %.0f %u %g %g\n", w->name, w->unit, w->per, w->flags, w->must, w->moonshot);
		else if (wanted(w->name, argv[optind]))
			one(w, check_only, runs, ms);
	}
	if (!list)
		put("@end\n", 5);
	if (guest)
		reboot(RB_POWER_OFF);
	return 0;
}
