// SPDX-License-Identifier: MIT
/*
 * The block path measured beside its peers, all with the same daemon program
 * and node, one job, one queue: VDUSE through our driver; vhost-user-blk
 * through the same driver; the daemon's NBD export through a client that keeps
 * the depth; plain pread on the file. Processor time is this process's and the
 * daemon's (for NBD and vhost-user the same two). Prints figures, asserts nothing.
 *
 *   bench USERKVM SHIM DAEMON [quick] [ROW]
 *
 * ROW: only rows whose names end so, such as "depth 1"; on null-co only. Or "memory": copies and mappings only.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/vdpa/daemon.h"
#include "tests/vdpa/vhost_user.h"
#include "vdpa/blk.h"
#include "vdpa/vdpa.h"
#include "vdpa/virtio/dma.h"
#include "vdpa/virtio/session.h"

#define DISK (256u << 20)
#define MAX_DEPTH 128

static unsigned rounds = 5, round_ms = 500;
static const char *only = "";

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* User and system time of a process, in seconds. */
static double cpu_of(pid_t pid)
{
	unsigned long user = 0, sys = 0;
	char p[64];
	FILE *f;

	snprintf(p, sizeof(p), "/proc/%d/stat", pid);
	f = fopen(p, "re");
	if (f && fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
		user = sys = 0;
	if (f)
		fclose(f);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

struct load {
	bool write, seq;
	u32 bs;
	unsigned depth;
};

struct figure { double iops, cpu_us; };

static u64 next_off(const struct load *l, u64 *state)
{
	u64 blocks = DISK / l->bs;

	if (l->seq)
		return (*state)++ % blocks * l->bs;
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (*state >> 33) % blocks * l->bs;
}

/* ---- Our driver ---- */

static struct vblk_req *finished[MAX_DEPTH];
static unsigned nr_finished;

static void done(struct vblk_req *r)
{
	finished[nr_finished++] = r;
}

static u64 drive_vblk(struct vblk *b, const struct load *l, double seconds)
{
	static struct vblk_req reqs[MAX_DEPTH];
	static struct iovec iov[MAX_DEPTH];
	static u8 *mem;
	u64 count = 0, state = 1;
	unsigned flying = 0;
	double end = now_s() + seconds;
	bool stop = false;

	if (!mem)
		mem = malloc(MAX_DEPTH << 20);
	nr_finished = 0;
	for (unsigned i = 0; i < l->depth; i++) {
		iov[i] = (struct iovec){mem + ((size_t)i << 20), l->bs};
		reqs[i] = (struct vblk_req){.op = l->write ? VBLK_WRITE : VBLK_READ, .len = l->bs, .iov = &iov[i],
					    .nr_iov = 1, .done = done};
		finished[nr_finished++] = &reqs[i];
	}
	while (!stop || flying) {
		int n;

		stop = stop || now_s() > end;
		while (nr_finished && !stop) {
			struct vblk_req *r = finished[--nr_finished];

			r->off = next_off(l, &state);
			n = vblk_post(b, 0, r);
			if (n) {
				finished[nr_finished++] = r;
				if (n != -EAGAIN) {
					fprintf(stderr, "post: %s\n", strerror(-n));
					return 0;
				}
				break;
			}
			flying++;
		}
		vblk_kick(b, 0);
		if (stop)
			nr_finished = 0;
		n = vblk_reap(b, 0, flying);
		if (n < 0) {
			fprintf(stderr, "reap: %s\n", strerror(-n));
			return 0;
		}
		flying -= (unsigned)n;
		count += (unsigned)n;
	}
	return count;
}

/* ---- NBD ---- */

static bool all(int s, void *p, size_t len, bool out)
{
	while (len) {
		ssize_t n = out ? send(s, p, len, MSG_NOSIGNAL) : recv(s, p, len, MSG_WAITALL);

		if (n <= 0)
			return false;
		p = (u8 *)p + n;
		len -= (size_t)n;
	}
	return true;
}

static int nbd_connect(const char *sock, const char *export)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct { u64 magic; u32 opt, len; } __attribute__((packed)) o = {
		htobe64(0x49484156454F5054), htobe32(1), htobe32((u32)strlen(export))};
	u32 flags = htobe32(3);
	u8 buf[32];

	strncpy(a.sun_path, sock, sizeof(a.sun_path) - 1);
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 || !all(s, buf, 18, false) || !all(s, &flags, 4, true) ||
	    !all(s, &o, sizeof(o), true) || !all(s, (void *)(uintptr_t)export, strlen(export), true) ||
	    !all(s, buf, 10, false)) {
		close(s);
		return -1;
	}
	return s;
}

static bool nbd_send(int s, const struct load *l, u64 handle, u64 *state, u8 *mem)
{
	struct { u32 magic; u16 flags, type; u64 handle, off; u32 len; } __attribute__((packed)) q = {
		htobe32(0x25609513), 0, htobe16(l->write), handle, htobe64(next_off(l, state)), htobe32(l->bs)};

	return all(s, &q, sizeof(q), true) && (!l->write || all(s, mem, l->bs, true));
}

static u64 drive_nbd(int s, const struct load *l, double seconds)
{
	static u8 *mem;
	u64 count = 0, state = 1;
	unsigned flying = 0;
	double end = now_s() + seconds;

	if (!mem)
		mem = malloc(1 << 20);
	while (flying < l->depth)
		if (!nbd_send(s, l, flying++, &state, mem))
			return 0;
	while (flying) {
		struct { u32 magic, error; u64 handle; } __attribute__((packed)) r;

		if (!all(s, &r, sizeof(r), false) || r.error || (!l->write && !all(s, mem, l->bs, false)))
			return 0;
		count++;
		flying--;
		if (now_s() < end && nbd_send(s, l, r.handle, &state, mem))
			flying++;
	}
	return count;
}

static u64 drive_file(int fd, const struct load *l, double seconds)
{
	static u8 mem[1 << 20];
	u64 count = 0, state = 1;
	double end = now_s() + seconds;

	for (; now_s() < end; count++) {
		off_t off = (off_t)next_off(l, &state);

		if ((l->write ? pwrite(fd, mem, l->bs, off) : pread(fd, mem, l->bs, off)) != (ssize_t)l->bs)
			return 0;
	}
	return count;
}

/* ---- Targets ---- */

enum { VDUSE, VDUSE_SLEEP, VHOST_USER, VHOST_USER_SLEEP, NBD, PLAIN, TARGETS };
static const char *const target_names[] = {"vduse", "vduse, asleep", "vhost-user", "vhost-user, asleep", "nbd", "pread"};

struct target {
	pid_t pid;
	struct vblk *b;
	int fd;
};

static int compare(const void *a, const void *b)
{
	double x = ((const struct figure *)a)->iops, y = ((const struct figure *)b)->iops;

	return (x > y) - (x < y);
}

/* Median of the rounds; *@spread: (most - least) / median. */
static struct figure measure(int kind, struct target *t, const struct load *l, double *spread)
{
	struct figure f[16];

	for (unsigned i = 0; i < rounds; i++) {
		struct rusage before, after;
		double daemon = t->pid ? cpu_of(t->pid) : 0, start = now_s(), cpu;
		u64 n;

		getrusage(RUSAGE_SELF, &before);
		n = kind <= VHOST_USER_SLEEP ? drive_vblk(t->b, l, round_ms / 1e3) :
		    kind == NBD ? drive_nbd(t->fd, l, round_ms / 1e3) : drive_file(t->fd, l, round_ms / 1e3);
		getrusage(RUSAGE_SELF, &after);
		cpu = (t->pid ? cpu_of(t->pid) - daemon : 0) +
		      (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
		      (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
			       before.ru_stime.tv_usec) / 1e6;
		f[i] = (struct figure){(double)n / (now_s() - start), n ? cpu * 1e6 / (double)n : 0};
	}
	qsort(f, rounds, sizeof(f[0]), compare);
	*spread = f[rounds / 2].iops > 0 ? (f[rounds - 1].iops - f[0].iops) / f[rounds / 2].iops : 0;
	return f[rounds / 2];
}

static pid_t export_daemon(const char *node, const char *export, const char *server)
{
	char blockdev[256];
	const char *argv[12] = {live.daemon, "--blockdev", blockdev, "--export", export};

	/* In the order of the command line: the server first. */
	if (server)
		memcpy(argv + 3, (const char *[]){"--nbd-server", server, "--export", export}, 4 * sizeof(*argv));

	snprintf(blockdev, sizeof(blockdev), "%s,node-name=disk0", node);
	return spawn(NULL, argv);
}

static bool wait_for(const char *sock)
{
	struct stat st;

	for (unsigned i = 0; i < 500 && stat(sock, &st); i++)
		usleep(10000);
	usleep(50000);
	return !stat(sock, &st);
}

static bool open_target(int kind, struct target *t, const char *node, struct qsd *q)
{
	struct vblk_cfg cfg = {.queues = 1, .no_spin = kind == VDUSE_SLEEP || kind == VHOST_USER_SLEEP};
	struct vdpa_session *s;
	char arg[256], server[256], err[256];

	*t = (struct target){.fd = -1};
	switch (kind) {
	case VDUSE:
	case VDUSE_SLEEP:
		qsd_start(q, "d", node, true);
		t->pid = q->pid;
		if (attach("d"))
			return false;
		t->b = vblk_open_device("d", &cfg, err);
		return t->b;
	case VHOST_USER:
	case VHOST_USER_SLEEP:
		snprintf(arg, sizeof(arg), "type=vhost-user-blk,id=e,node-name=disk0,addr.type=unix,addr.path=%s,writable=on",
			 path("vu.sock"));
		t->pid = export_daemon(node, arg, NULL);
		if (!wait_for(path("vu.sock")))
			return false;
		s = vhost_user_session(path("vu.sock"), 1, 128);
		t->b = s ? vblk_open(s, "vhost-user", &cfg, err) : NULL;
		if (!t->b)
			fprintf(stderr, "%s\n", err);
		return t->b;
	case NBD:
		snprintf(server, sizeof(server), "addr.type=unix,addr.path=%s", path("nbd.sock"));
		t->pid = export_daemon(node, "type=nbd,id=e,node-name=disk0,name=x,writable=on", server);
		if (!wait_for(path("nbd.sock")))
			return false;
		t->fd = nbd_connect(path("nbd.sock"), "x");
		return t->fd >= 0;
	default:
		t->fd = open(path("disk"), O_RDWR | O_CLOEXEC);
		return t->fd >= 0;
	}
}

static void close_target(int kind, struct target *t)
{
	if (t->b)
		vblk_close(t->b);
	if (t->fd >= 0)
		close(t->fd);
	if (kind <= VDUSE_SLEEP && vdpa_delete("d"))
		fprintf(stderr, "delete failed\n");
	if (t->pid) {
		kill(t->pid, SIGTERM);
		reap(t->pid, 5000);
	}
	unlink(path("vu.sock"));
	unlink(path("nbd.sock"));
}

static const struct { struct load l; const char *name; } rows[] = {
	{{false, false, 4096, 1}, "read  4K depth 1"},	    {{true, false, 4096, 1}, "write 4K depth 1"},
	{{false, false, 4096, 32}, "read  4K depth 32"},    {{true, false, 4096, 32}, "write 4K depth 32"},
	{{false, false, 4096, 128}, "read  4K depth 128"},  {{true, false, 4096, 128}, "write 4K depth 128"},
	{{false, true, 131072, 8}, "read  128K depth 8"},   {{true, true, 131072, 8}, "write 128K depth 8"},
	{{false, true, 1 << 20, 8}, "read  1M depth 8"},    {{true, true, 1 << 20, 8}, "write 1M depth 8"},
};

static bool wanted(const char *name)
{
	size_t n = strlen(name), end = strlen(only);

	return n >= end && !strcmp(name + n - end, only);
}

static void print_row(const char *name, const struct load *l, const struct figure *f, const double *spread, bool file)
{
	printf("  %-19s", name);
	for (int k = 0; k < TARGETS; k++) {
		if (k == PLAIN && !file)
			continue;
		if (l->bs > 4096)
			printf(" | %6.0f MB/s %5.1f us ±%2.0f%%", f[k].iops * l->bs / 1e6, f[k].cpu_us, spread[k] * 50);
		else
			printf(" | %6.1f k/s %5.1f us ±%2.0f%%", f[k].iops / 1e3, f[k].cpu_us, spread[k] * 50);
	}
	printf(" | %.2f %.2f\n", f[VDUSE].iops / max(f[VHOST_USER].iops, 1.0), f[VDUSE].iops / max(f[NBD].iops, 1.0));
}

static void bench_node(const char *title, const char *node, bool file)
{
	static struct figure f[ARRAY_SIZE(rows)][TARGETS];
	static double spread[ARRAY_SIZE(rows)][TARGETS];

	for (int k = 0; k < TARGETS; k++) {
		struct target t;
		struct qsd q;

		if (k == PLAIN && !file)
			continue;
		if (!open_target(k, &t, node, &q)) {
			fprintf(stderr, "%s: cannot open\n", target_names[k]);
			close_target(k, &t);
			continue;
		}
		for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
			if (wanted(rows[i].name))
				f[i][k] = measure(k, &t, &rows[i].l, &spread[i][k]);
		close_target(k, &t);
	}
	printf("%s: requests, processor time a request (driver and daemon), half the spread; last: vduse to vhost-user, to nbd\n"
	       "  %-19s", title, "");
	for (int k = 0; k < TARGETS; k++)
		if (k != PLAIN || file)
			printf(" | %-23s", target_names[k]);
	putchar('\n');
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (wanted(rows[i].name))
			print_row(rows[i].name, &rows[i].l, f[i], spread[i], file);
}

/* For 0.3 s. The clock costs as much as half a copy of 4 KiB, so it is asked now and then. */
static bool goes_on(unsigned n, double start)
{
	return n % 64 || now_s() - start < 0.3;
}

/* @nr buffers of @len, one after the other; mapped together, as requests in flight are. */
static void bench_copies(struct vdma *m, size_t len, unsigned nr)
{
	static u8 from[1 << 20] __attribute__((aligned(4096))), to[1 << 20] __attribute__((aligned(4096)));
	double t, direct, bounced;
	u64 iova[MAX_DEPTH];
	unsigned n;

	for (n = 0, t = now_s(); goes_on(n, t); n++) {
		for (unsigned i = 0; i < nr; i++) {
			memcpy(to + i * len, from + i * len, len);
			__asm__ volatile("" : : "r"(to) : "memory");
		}
	}
	direct = n * (double)len * nr / (now_s() - t);
	for (n = 0, t = now_s(); goes_on(n, t); n++) {
		for (unsigned i = 0; i < nr; i++) {
			const struct iovec iov = {from + i * len, len};

			iova[i] = vdma_map(m, &iov, 1, len, VDMA_TO_DEVICE);
		}
		for (unsigned i = 0; i < nr; i++)
			vdma_unmap(m, iova[i], NULL, 0, len, VDMA_TO_DEVICE);
	}
	bounced = n * (double)len * nr / (now_s() - t);
	printf("bounce %2u x %4zu KiB: %6.1f GB/s, memcpy %6.1f GB/s, ratio %.2f\n", nr, len >> 10, bounced / 1e9, direct / 1e9,
	       bounced / direct);
}

/* Copies in and out of bounce memory beside memcpy, mappings a second, attach time. */
static void bench_memory(void)
{
	const struct vdpa_virtio_req open_q = {.op = VDPA_VIRTIO_OPEN, .data = "d"};
	struct vdpa_session *s;
	struct vdpa_virtio_rep r;
	struct vdma *m;
	struct qsd q;
	double t;
	unsigned n;

	qsd_start(&q, "d", "driver=null-co,size=67108864", true);
	if (attach("d"))
		return;
	s = vdpa_session_remote();
	if (s->call(s, &open_q, -1, &r))
		return;
	m = vdma_new(s, r.fds[0]);
	close(r.fds[0]);
	close(r.fds[1]);
	for (size_t len = 4096; len <= 1 << 20; len *= 16)
		bench_copies(m, len, 1);
	bench_copies(m, 4096, 32);
	for (n = 0, t = now_s(); goes_on(n, t); n++) {
		u64 iova = vdma_map(m, NULL, 0, 4096, VDMA_FROM_DEVICE);

		vdma_unmap(m, iova, NULL, 0, 4096, VDMA_TO_DEVICE);
	}
	printf("map and unmap of 4 KiB without copy: %.1f million/s\n", n / (now_s() - t) / 1e6);
	vdma_free(m);
	s->close(s);
	if (vdpa_delete("d"))
		return;
	for (n = 0, t = now_s(); n < 50; n++)
		if (attach("d") || vdpa_delete("d"))
			return;
	printf("attach to the bus and delete: %.2f ms\n", (now_s() - t) / n * 1e3);
	if (attach("d"))
		return;
	for (n = 0, t = now_s(); n < 50; n++) {
		const struct vblk_cfg cfg = { 0 };
		char err[256];
		struct vblk *b = vblk_open_device("d", &cfg, err);

		if (!b)
			return;
		vblk_close(b);
	}
	printf("open and close by the driver, 16 queues: %.2f ms\n", (now_s() - t) / n * 1e3);
	if (!vdpa_delete("d"))
		qsd_stop(&q);
}

int main(int argc, char **argv)
{
	char node[256];

	if (argc < 4)
		return 2;
	if (argc > 4 && !strcmp(argv[4], "quick")) {
		rounds = 3;
		round_ms = 150;
	}
	if (argc > 4 && strcmp(argv[argc - 1], "quick"))
		only = argv[argc - 1];
	if (access(argv[3], X_OK) || !live_begin(argv[1], argv[2], argv[3])) {
		fprintf(stderr, "vdpa bench: no %s (Debian package qemu-system-common)\n", argv[3]);
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!*only || !strcmp(only, "memory"))
		bench_memory();
	if (!strcmp(only, "memory")) {
		live_end();
		return 0;
	}
	bench_node("null-co", "driver=null-co,size=268435456", false);
	if (*only) {
		live_end();
		return 0;
	}
	if (!run_for(60000, "sh", "-c", "head -c 268435456 /dev/urandom >\"$1\"", "sh", path("disk"), NULL))
		return 1;
	snprintf(node, sizeof(node), "driver=file,filename=%s", path("disk"));
	bench_node("file in the page cache", node, true);
	live_end();
	return 0;
}
