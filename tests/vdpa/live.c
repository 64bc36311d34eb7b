// SPDX-License-Identifier: MIT
/*
 * VDUSE with Debian's unmodified qemu-storage-daemon: the hub runs in a thread
 * of this program, the daemon is a process with the preload object, the driver
 * talks to the hub over its socket as any consumer does.
 *
 *   live USERKVM SHIM DAEMON [-n ROUNDS] [TEST...]
 *
 * Each test ends with nothing left behind: no process, no device, no file.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "tests/vdpa/daemon.h"
#include "vdpa/vdpa.h"
#include "vdpa/vduse/test_daemon.h"
#include "vdpa/vduse/vduse.h"
#include "vdpa/blk.h"
#include "vdpa/virtio/session.h"

#define DISK (64u << 20)

static unsigned rounds = 10;
static char *vhost_blk;		/* beside this program */

/* ---- Reporting ---- */

static char why[512];

#define CHECK(c) \
	do { \
		if (!(c)) { \
			snprintf(why, sizeof(why), "%s:%d: %s", __func__, __LINE__, #c); \
			return false; \
		} \
	} while (0)

static struct vblk *open_blk(const char *name, const struct vblk_cfg *cfg)
{
	struct vdpa_session *s = vdpa_session_remote();

	if (!s) {
		snprintf(why, sizeof(why), "session: %s", strerror(errno));
		return NULL;
	}
	return vblk_open(s, name, cfg, why);
}

#define run(...) run_for(30000, __VA_ARGS__)

/* ---- Daemons ---- */

#define NODE_MAX 256

/* A new, empty file as a block node. */
static bool file_node(char node[NODE_MAX])
{
	int fd = open(path("disk"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && !ftruncate(fd, DISK);

	close(fd);
	snprintf(node, NODE_MAX, "driver=file,filename=%s", path("disk"));
	return ok;
}

/* A daemon whose device "d" is on the bus, and the end of both. */
static bool up(struct qsd *q, const char *node, bool writable)
{
	qsd_start(q, "d", node, writable);
	CHECK(!attach("d"));
	return true;
}

static bool down(struct qsd *q)
{
	CHECK(!vdpa_delete("d"));
	CHECK(qsd_stop(q));
	return true;
}

/* ---- Load that verifies ---- */

struct worker {
	pthread_t thread;
	struct vblk *b;
	u16 queue;
	u64 first, last;
	_Atomic u64 done;
	int ret;
};

static _Atomic bool stop;

static void fill(u64 *p, size_t len, u64 seed)
{
	for (size_t i = 0; i < len / 8; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = seed;
	}
}

static void *verify(void *arg)
{
	static const u32 sizes[] = {4096, 512, 65536, 20480, 1 << 20};
	struct worker *w = arg;
	u64 *out = malloc(1 << 20), *in = malloc(1 << 20);

	for (u64 i = 0; !atomic_load(&stop) && !w->ret; i++) {
		u32 len = sizes[i % ARRAY_SIZE(sizes)];
		u64 off = w->first + i * 7919 % ((w->last - w->first - len) / 512 + 1) * 512;

		fill(out, len, off + i);
		w->ret = vblk_io(w->b, w->queue, VBLK_WRITE, out, off, len, 0);
		if (!w->ret)
			w->ret = vblk_io(w->b, w->queue, VBLK_READ, in, off, len, 0);
		if (!w->ret && memcmp(out, in, len))
			w->ret = -EBADMSG;
		atomic_fetch_add(&w->done, 1);
	}
	free(out);
	free(in);
	return NULL;
}

static void load_start(struct worker *w, unsigned n, struct vblk *b, u16 queues)
{
	atomic_store(&stop, false);
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct worker){.b = b, .queue = (u16)(i % queues), .first = DISK / n * i, .last = DISK / n * (i + 1)};
		pthread_create(&w[i].thread, NULL, verify, &w[i]);
	}
}

static int load_stop(struct worker *w, unsigned n)
{
	int ret = 0;

	atomic_store(&stop, true);
	for (unsigned i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		if (w[i].ret)
			ret = w[i].ret;
	}
	return ret;
}

/* ---- Tests ---- */

static bool have(const char *program)
{
	char p[128];

	snprintf(p, sizeof(p), "/usr/bin/%s", program);
	return !access(p, X_OK);
}

/* Says why a test cannot be run here. */
static bool skip(const char *what)
{
	snprintf(why, sizeof(why), "SKIP %s", what);
	return true;
}

static bool t_start(void)
{
	struct qsd q;

	if (!up(&q, "driver=null-co,size=67108864", true))
		return false;
	CHECK(!vdpa_delete("d"));
	CHECK(qsd_stop(&q));
	CHECK(!vduse_count());
	return true;
}

/* Write, read back, discard, zero, flush, serial, on one kind of node. */
static bool exercise(const char *blockdev)
{
	const struct vblk_cfg cfg = { 0 };
	struct worker w[8];
	struct vblk_info i;
	struct vblk *b;
	struct qsd q;
	u8 buf[8192], id[VBLK_ID_LEN];
	int ret;

	if (!up(&q, blockdev, true))
		return false;
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	vblk_info(b, &i);
	CHECK(i.size == DISK && i.queues == 16 && i.depth == 128 && i.discard && i.flush && !i.readonly);
	load_start(w, 8, b, 8);
	usleep(700000);
	ret = load_stop(w, 8);
	CHECK(!ret);
	CHECK(!vblk_io(b, 15, VBLK_FLUSH, NULL, 0, 0, 0));
	CHECK(!vblk_io(b, 0, VBLK_WRITE_ZEROES, NULL, 4096, 1 << 20, VBLK_UNMAP));
	memset(buf, 1, sizeof(buf));
	CHECK(!vblk_io(b, 0, VBLK_READ, buf, 4096, sizeof(buf), 0));
	for (unsigned n = 0; n < sizeof(buf); n++)
		CHECK(!buf[n]);
	CHECK(!vblk_io(b, 0, VBLK_DISCARD, NULL, 0, 1 << 20, 0));
	CHECK(!vblk_io(b, 0, VBLK_GET_ID, id, 0, sizeof(id), 0));
	vblk_close(b);
	return down(&q);
}

static bool t_file(void)
{
	char b[NODE_MAX];

	CHECK(file_node(b));
	return exercise(b);
}

static bool t_qcow2(void)
{
	char b[NODE_MAX];

	if (!have("qemu-img"))
		return skip("no qemu-utils");
	CHECK(run("qemu-img", "create", "-q", "-f", "qcow2", path("disk.qcow2"), "64M", NULL));
	snprintf(b, sizeof(b), "driver=qcow2,file.driver=file,file.filename=%s", path("disk.qcow2"));
	return exercise(b);
}

/* A file of that name is there. */
static bool appears(const char *name)
{
	struct stat st;

	for (unsigned i = 0; i < 1000; i++) {
		if (!stat(path(name), &st))
			return true;
		usleep(10000);
	}
	return false;
}

static bool t_nbd(void)
{
	const char *argv[] = {"nbdkit", "-f", "-U", path("nbd.sock"), "memory", "64M", NULL};
	char b[NODE_MAX];
	pid_t pid;
	bool ok;

	if (!have("nbdkit"))
		return skip("no nbdkit");
	pid = spawn(NULL, argv);
	CHECK(appears("nbd.sock"));
	snprintf(b, sizeof(b), "driver=nbd,server.type=unix,server.path=%s", path("nbd.sock"));
	ok = exercise(b);
	kill(pid, SIGTERM);
	reap(pid, 5000);
	return ok;
}

static bool t_readonly(void)
{
	const struct vblk_cfg cfg = {.queues = 1};
	struct vblk_info i;
	struct vblk *b;
	struct qsd q;
	u8 buf[512];

	if (!up(&q, "driver=null-co,size=67108864,read-zeroes=on", false))
		return false;
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	vblk_info(b, &i);
	CHECK(i.readonly);
	CHECK(vblk_io(b, 0, VBLK_WRITE, buf, 0, 512, 0) == -EROFS);
	CHECK(!vblk_io(b, 0, VBLK_READ, buf, 0, 512, 0));
	vblk_close(b);
	return down(&q);
}

/* G.A 11 */
static bool t_kill(void)
{
	const struct vblk_cfg cfg = {.queues = 4};
	struct worker w[4];
	struct vblk *b;
	char node[NODE_MAX];
	struct qsd q;
	u64 slowest = 0;
	int ret;

	CHECK(file_node(node));
	if (!up(&q, node, true))
		return false;
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	load_start(w, 4, b, 4);
	for (unsigned i = 0; i < rounds; i++) {
		u64 before, start, end;

		usleep(1000 * (20 + (unsigned)random() % 80));
		kill(q.pid, SIGKILL);
		CHECK(reap(q.pid, 20000) >= 0);
		before = atomic_load(&w[0].done);
		start = now_ms();
		qsd_start(&q, "d", node, true);
		for (end = start + 10000; atomic_load(&w[0].done) < before + 2 && now_ms() < end;)
			usleep(1000);
		CHECK(atomic_load(&w[0].done) >= before + 2);
		slowest = max(slowest, now_ms() - start);
	}
	ret = load_stop(w, 4);
	CHECK(!ret);
	printf("# %u kills, slowest recovery (new process to second request) %llu ms\n", rounds,
	       (unsigned long long)slowest);
	vblk_close(b);
	return down(&q);
}

/* G.A 12 */
static bool t_stopped(void)
{
	const struct vblk_cfg cfg = {.queues = 1};
	struct qsd q, other;
	struct vblk *b;
	u64 start;
	u8 buf[512];

	qsd_start(&q, "d", "driver=null-co,size=67108864", true);
	qsd_start(&other, "e", "driver=null-co,size=67108864", true);
	CHECK(!attach("d"));
	CHECK(!attach("e"));
	CHECK(!vduse_set_msg_timeout("d", 1));
	kill(q.pid, SIGSTOP);
	start = now_ms();
	CHECK(!open_blk("d", &cfg));
	CHECK(errno == EIO);
	CHECK(now_ms() - start >= 1000 && now_ms() - start < 3000);
	start = now_ms();
	CHECK(!open_blk("d", &cfg));
	CHECK(now_ms() - start < 500);
	b = open_blk("e", &cfg);
	CHECK(b);
	CHECK(!vblk_io(b, 0, VBLK_READ, buf, 0, 512, 0));
	vblk_close(b);
	CHECK(!vdpa_delete("d"));
	CHECK(!vdpa_delete("e"));
	kill(q.pid, SIGKILL);
	kill(q.pid, SIGCONT);
	CHECK(reap(q.pid, 20000) >= 0);
	CHECK(qsd_stop(&other));
	/* The killed one left its device: the next of that name would find it broken. */
	{
		struct vduse_control ctl = { 0 };
		char name[VDUSE_NAME_MAX] = "d";
		u64 end = now_ms() + 2000;
		long ret;

		do
			ret = vduse_control_ioctl(&ctl, VDUSE_DESTROY_DEV, name, sizeof(name));
		while (ret == -EBUSY && now_ms() < end);
		CHECK(!ret);
	}
	return t_start();
}

/* One QMP command; the answer has "return". */
static bool qmp(const char *name, const char *command)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char buf[4096], line[512];
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t n;
	bool ok;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s.qmp", live.dir, name);
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return false;
	n = read(s, buf, sizeof(buf));	/* greeting */
	snprintf(line, sizeof(line), "{\"execute\":\"qmp_capabilities\"}\n");
	ok = n > 0 && write(s, line, strlen(line)) > 0 && read(s, buf, sizeof(buf)) > 0;
	snprintf(line, sizeof(line), "%s\n", command);
	ok = ok && write(s, line, strlen(line)) > 0;
	n = ok ? read(s, buf, sizeof(buf) - 1) : 0;
	buf[max(n, (ssize_t)0)] = '\0';
	close(s);
	return strstr(buf, "\"return\"");
}

/* G.A 20 */
static bool t_resize(void)
{
	const struct vblk_cfg cfg = {.queues = 1};
	struct vblk_info i;
	struct pollfd p;
	struct vblk *b;
	char node[NODE_MAX];
	struct qsd q;

	CHECK(file_node(node));
	if (!up(&q, node, true))
		return false;
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	p = (struct pollfd){.fd = vblk_config_fd(b), .events = POLLIN};
	CHECK(!poll(&p, 1, 0));
	CHECK(qmp("d", "{\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"disk0\",\"size\":134217728}}"));
	CHECK(poll(&p, 1, 5000) == 1);
	CHECK(vblk_update(b) == 1);
	vblk_info(b, &i);
	CHECK(i.size == 128u << 20);
	CHECK(!poll(&p, 1, 100));
	vblk_close(b);
	return down(&q);
}

static bool have_export(void)
{
	char plugin[4096];

	snprintf(plugin, sizeof(plugin), "%.*s/nbdkit-userkvm-plugin.so", (int)(strrchr(live.userkvm, '/') - live.userkvm),
		 live.userkvm);
	return have("nbdkit") && have("nbdinfo") && have("nbdcopy") && have("qemu-img") && !access(plugin, R_OK);
}

/* The disk as an NBD export, used by clients that know nothing of us. */
static bool t_export(void)
{
	const char *argv[] = {live.userkvm, "vdpa", "nbd", "d", "--socket", path("export.sock"), NULL};
	char node[NODE_MAX], uri[256];
	struct qsd q;
	pid_t pid;

	if (!have_export())
		return skip("no nbdkit with its header, libnbd-bin or qemu-utils");
	CHECK(file_node(node));
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path("export.sock"));
	CHECK(run("sh", "-c", "head -c 67108864 /dev/urandom >\"$1\"", "sh", path("random"), NULL));
	if (!up(&q, node, true))
		return false;
	pid = spawn(NULL, argv);
	CHECK(appears("export.sock"));
	CHECK(run("sh", "-c", "test \"$(nbdinfo --size \"$1\")\" = 67108864", "sh", uri, NULL));
	CHECK(run("sh", "-c", "nbdinfo --can trim \"$1\" && nbdinfo --can zero \"$1\" && nbdinfo --can multi-conn \"$1\"",
		  "sh", uri, NULL));
	/* Four connections, 64 requests each. */
	CHECK(run("nbdcopy", "--connections=4", "--requests=64", path("random"), uri, NULL));
	CHECK(run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", path("random"), uri, NULL));
	CHECK(run("cmp", path("random"), path("disk"), NULL));
	CHECK(run("nbdcopy", uri, path("back"), NULL));
	CHECK(run("cmp", path("random"), path("back"), NULL));
	/* Requests of odd sizes; zeroes and trims. */
	CHECK(run("qemu-io", "-f", "raw", "-c", "write -P 7 1 1000", "-c", "read -P 7 1 1000", "-c", "write -z 1M 1M", "-c",
		  "read -P 0 1M 1M", "-c", "discard 4M 1M", "-c", "flush", uri, NULL));
	/* A server that lives keeps its socket, one that was killed does not. */
	CHECK(!run(live.userkvm, "vdpa", "nbd", "d", "--socket", path("export.sock"), NULL));
	CHECK(run("nbdinfo", "--size", uri, NULL));
	kill(pid, SIGKILL);
	CHECK(reap(pid, 5000) >= 0 && !access(path("export.sock"), F_OK));
	argv[5] = path("export.sock");	/* the older one's buffer was used again */
	pid = spawn(NULL, argv);
	for (unsigned i = 0; i < 100 && !run("nbdinfo", "--size", uri, NULL); i++)
		usleep(100000);
	CHECK(run("nbdinfo", "--size", uri, NULL));
	kill(pid, SIGTERM);
	CHECK(reap(pid, 5000) >= 0);
	CHECK(access(path("export.sock"), F_OK) < 0);
	return down(&q);
}

/*
 * One request at a time in a queue of several threads, at every distance from each other: a daemon may look for the
 * next one in the place of an interrupt, the driver for the end in the place of a kick. A kick that is lost stays
 * lost; an interrupt that is lost shows as a sleep of a second.
 */
struct lone { pthread_t thread; struct vblk *b; unsigned nr, n, slow; int ret; };

static void *lone_requests(void *arg)
{
	struct lone *l = arg;
	u8 buf[4096];

	for (unsigned i = 0; i < l->n && !l->ret; i++) {
		u64 start = now_ms();

		l->ret = vblk_io(l->b, 0, VBLK_READ, buf, 0, sizeof(buf), 0);
		l->slow += now_ms() - start >= 900;
		for (unsigned k = (i * 2654435761u >> 16) % 400 * (l->nr + i / 1000 % 2); k; k--)
			__builtin_ia32_pause();
	}
	return NULL;
}

static bool t_lone(void)
{
	const struct vblk_cfg cfg = {.queues = 1};
	struct lone l[3];
	struct vblk *b;
	struct qsd q;

	if (!up(&q, "driver=null-co,size=67108864", true))
		return false;
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	for (unsigned n = 1; n <= ARRAY_SIZE(l); n++) {
		unsigned slow = 0;

		for (unsigned i = 0; i < n; i++) {
			l[i] = (struct lone){.b = b, .nr = i, .n = rounds * 1500};
			pthread_create(&l[i].thread, NULL, lone_requests, &l[i]);
		}
		for (unsigned i = 0; i < n; i++) {
			pthread_join(l[i].thread, NULL);
			CHECK(!l[i].ret);
			slow += l[i].slow;
		}
		printf("# %u threads, %u requests, %u of a second\n", n, n * rounds * 1500, slow);
		/* A busy machine makes some. */
		CHECK(slow <= 5);
	}
	vblk_close(b);
	return down(&q);
}

/* A machine's disk: the guest reads what is in the file, and what it writes arrives there. */
static bool t_boot(void)
{
	static const char run_in_guest[] =
		"md5sum /dev/vda >/tmp/a; dd if=/dev/zero of=/dev/vda bs=64k count=16 2>/dev/null; "
		"dd if=/dev/vda of=/dev/vda bs=1M skip=8 seek=16 count=4 conv=fsync 2>/dev/null; cat /tmp/a";
	char kernel[256], node[256], cmd[1024];
	struct qsd q;

	snprintf(kernel, sizeof(kernel), "%s/.cache/userkvm/guest/current/vmlinuz", getenv("HOME") ? getenv("HOME") : "");
	if (access(kernel, R_OK))
		return skip("scripts/fetch-guest has not been run");
	CHECK(run("sh", "-c", "head -c 67108864 /dev/urandom >\"$1\"", "sh", path("disk"), NULL));
	CHECK(run("sh", "-c", "md5sum <\"$1\" | cut -c1-32 >\"$2\"", "sh", path("disk"), path("sum"), NULL));
	snprintf(node, sizeof(node), "driver=file,filename=%s", path("disk"));
	if (!up(&q, node, true))
		return false;
	snprintf(cmd, sizeof(cmd), "exec %s boot -m 256 --timeout 900 -d vdpa:d --run '%s' >%s/out", live.userkvm, run_in_guest,
		 live.dir);
	CHECK(run_for(1000000, "sh", "-c", cmd, NULL));
	CHECK(run("sh", "-c", "grep -q \"$(cat \"$1\")\" \"$2\"", "sh", path("sum"), path("out"), NULL));
	CHECK(run("sh", "-c", "head -c 1048576 \"$1\" | cmp -n 1048576 - /dev/zero", "sh", path("disk"), NULL));
	CHECK(run("cmp", "-n", "4194304", "-i", "8388608:16777216", path("disk"), path("disk"), NULL));
	return down(&q);
}

/* The machine's console says @word within @ms. */
static bool said(const char *word, u64 ms)
{
	u64 end = now_ms() + ms;

	while (now_ms() < end) {
		if (run("grep", "-qs", word, path("out"), NULL))
			return true;
		usleep(50000);
	}
	return false;
}

/* The process has blocked SIGTERM, so it is ours to take it. */
static bool takes_sigterm(pid_t pid, u64 ms)
{
	u64 end = now_ms() + ms;

	while (now_ms() < end) {
		unsigned long long blocked = 0;
		char p[64], line[128];
		FILE *f;

		snprintf(p, sizeof(p), "/proc/%d/status", pid);
		f = fopen(p, "re");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
				break;
		if (f)
			fclose(f);
		if (blocked & BIT(SIGTERM - 1))
			return true;
		usleep(20000);
	}
	return false;
}

struct silence {
	const char *name, *command;	/* in the guest; "going": now */
	bool open;			/* the daemon is stopped before its device is opened */
	bool given_up;			/* a request is */
};

static bool end_silent(const struct silence *c, struct qsd *q)
{
	char cmd[1024];
	int status;
	pid_t pid;
	u64 start;

	snprintf(cmd, sizeof(cmd), "exec %s boot -m 256 --timeout 900 -d vdpa:d --run '%s' >%s 2>&1", live.userkvm, c->command,
		 path("out"));
	unlink(path("out"));
	if (c->open)
		kill(q->pid, SIGSTOP);
	pid = spawn(NULL, (const char *[]){"sh", "-c", cmd, NULL});
	CHECK(c->open ? takes_sigterm(pid, 60000) : said("going", 600000));
	kill(q->pid, SIGSTOP);
	/* Time for a request that waits. */
	usleep(300000);
	start = now_ms();
	kill(pid, SIGTERM);
	status = reap(pid, 60000);
	printf("# %s: status %#x after %llu ms\n", c->name, (unsigned)status, (unsigned long long)(now_ms() - start));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM);
	CHECK(said("given up", 1) == c->given_up);
	kill(q->pid, SIGCONT);
	return true;
}

/* A machine whose disk's daemon is stopped ends all the same, whatever it is at. */
static bool t_silent(void)
{
	static const struct silence cases[] = {
		{"busy", "while :; do dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null; echo going; done", false, true},
		{"idle", "dd if=/dev/vda of=/dev/null count=1; echo going; sleep 1000", false, false},
		{"registers", "(while :; do dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null; done) & "
			      "while :; do cat /sys/bus/virtio/devices/*/status >/dev/null; echo going; done", false, true},
		{"opening", "true", true, false},
	};
	char kernel[256];

	snprintf(kernel, sizeof(kernel), "%s/.cache/userkvm/guest/current/vmlinuz", getenv("HOME") ? getenv("HOME") : "");
	if (access(kernel, R_OK))
		return skip("scripts/fetch-guest has not been run");
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qsd q;

		if (!up(&q, "driver=null-co,size=67108864,read-zeroes=on", true) || !end_silent(&cases[i], &q) || !down(&q))
			return false;
	}
	return true;
}

/* The export ends although the daemon is stopped: while its device is opened, idle, and with a request at it. */
static bool t_nbd_silent(void)
{
	const char *export[] = {live.userkvm, "vdpa", "nbd", "d", "--socket", path("export.sock"), NULL};
	enum { OPENING, IDLE, REQUEST, CASES };
	char uri[256];

	if (!have_export())
		return skip("no nbdkit with its header, libnbd-bin or qemu-utils");
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path("export.sock"));
	for (unsigned i = 0; i < CASES; i++) {
		const char *reader[] = {"qemu-io", "-r", "-f", "raw", "-c", "read 0 1M", uri, NULL};
		pid_t pid, io = 0;
		struct qsd q;
		int status;
		u64 start;

		if (!up(&q, "driver=null-co,size=67108864,read-zeroes=on", true))
			return false;
		if (i == OPENING)
			kill(q.pid, SIGSTOP);
		pid = spawn(NULL, export);
		CHECK(appears("export.sock"));
		/* The socket is there before the device is open; then it is answered. */
		if (i != OPENING)
			CHECK(run("sh", "-c", "test \"$(nbdinfo --size \"$1\")\" = 67108864", "sh", uri, NULL));
		kill(q.pid, SIGSTOP);
		if (i == REQUEST)
			io = spawn(NULL, reader);
		/* It opens the device, or has the request. */
		usleep(500000);
		start = now_ms();
		kill(pid, SIGTERM);
		status = reap(pid, 20000);
		printf("# case %u: status %#x after %llu ms\n", i, (unsigned)status, (unsigned long long)(now_ms() - start));
		CHECK(WIFEXITED(status));
		CHECK(access(path("export.sock"), F_OK) < 0);
		if (io)
			CHECK(reap(io, 20000) > 0);
		kill(q.pid, SIGCONT);
		if (!down(&q))
			return false;
	}
	return true;
}

/* Device "d" becomes a node, which @argv drives to its end within @ms. */
static bool drive_vhost(const char *const argv[], u64 ms)
{
	struct vdpa_device *d = vdpa_find("d");
	int ret = vdpa_bind(d, VDPA_DRIVER_VHOST);

	vdpa_put(d);
	CHECK(!ret);
	CHECK(argv[0]);
	CHECK(reap(spawn(live.shim, argv), ms) == 0);
	return true;
}

/* G.A 9, 10: another process drives the device through a vhost-vdpa node, while its mappings change. */
static bool t_vhost(void)
{
	char node[NODE_MAX];
	struct qsd q;

	CHECK(file_node(node));
	if (!up(&q, node, true))
		return false;
	CHECK(drive_vhost((const char *[]){vhost_blk, "1000", NULL}, 60000));
	return down(&q);
}

/* G.A 10: the same with mappings that change under requests, which a daemon of ours stands. */
static bool t_remap(void)
{
	static struct test_daemon td;

	td_create(&td, "d", 4, 128, DISK, 0);
	td_start(&td);
	CHECK(!td_attach("d"));
	CHECK(drive_vhost((const char *[]){vhost_blk, "10000", "load", NULL}, 200000));
	CHECK(atomic_load(&td.updates) >= 10000);
	CHECK(!vdpa_delete("d"));
	td_destroy(&td);
	return true;
}

/* G.A 18, in small: two daemons, attach and detach under load of the other. */
static bool t_two(void)
{
	const struct vblk_cfg cfg = {.queues = 2};
	struct worker w[8];
	struct vblk *b, *c;
	struct qsd q, other;
	char node[NODE_MAX];
	int ret;

	CHECK(file_node(node));
	qsd_start(&q, "d", node, true);
	qsd_start(&other, "e", "driver=null-co,size=67108864,read-zeroes=on", true);
	CHECK(!attach("d"));
	b = open_blk("d", &cfg);
	if (!b)
		return false;
	load_start(w, 8, b, 2);
	for (unsigned i = 0; i < rounds * 3; i++) {
		u8 buf[4096];

		CHECK(!attach("e"));
		c = open_blk("e", &cfg);
		if (!c)
			return false;
		CHECK(!vblk_io(c, 0, VBLK_READ, buf, 0, sizeof(buf), 0));
		vblk_close(c);
		CHECK(!vdpa_delete("e"));
	}
	ret = load_stop(w, 8);
	CHECK(!ret);
	vblk_close(b);
	CHECK(!vdpa_delete("d"));
	CHECK(qsd_stop(&q));
	CHECK(qsd_stop(&other));
	return true;
}

static const struct {
	const char *name, *what;
	bool (*fn)(void);
} tests[] = {
	{"start", "G.A 2: the well-known command line, exit 0 on SIGTERM", t_start},
	{"file", "G.A 7: a file", t_file},
	{"qcow2", "G.A 7: qcow2", t_qcow2},
	{"nbd", "G.A 7: an NBD server", t_nbd},
	{"readonly", "G.A 7: read-only export", t_readonly},
	{"vhost", "G.A 9, 10: through vhost-vdpa, with mappings that change", t_vhost},
	{"remap", "G.A 10: 10^4 changes of the mappings under load", t_remap},
	{"kill", "G.A 11: kill -9 under verify load", t_kill},
	{"stopped", "G.A 12: SIGSTOP", t_stopped},
	{"lone", "one request at a time, from several threads", t_lone},
	{"two", "G.A 18: attach and detach beside load", t_two},
	{"export", "NBD export: nbdinfo, nbdcopy, qemu-img, qemu-io", t_export},
	{"boot", "userkvm boot -d vdpa:NAME", t_boot},
	{"silent", "userkvm boot -d vdpa:NAME ends although the daemon is stopped", t_silent},
	{"nbd-silent", "userkvm vdpa nbd ends although the daemon is stopped", t_nbd_silent},
	{"resize", "G.A 20: block_resize", t_resize},
};

static bool wanted(int argc, char **argv, int from, const char *name)
{
	for (int i = from; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return from >= argc;
}

int main(int argc, char **argv)
{
	unsigned n = 0, failed = 0;
	int from = 4;

	if (argc < 4) {
		fprintf(stderr, "usage: %s USERKVM SHIM DAEMON [-n ROUNDS] [TEST...]\n", argv[0]);
		return 2;
	}
	if (argc > 5 && !strcmp(argv[4], "-n")) {
		rounds = (unsigned)atoi(argv[5]);
		from = 6;
	}
	if (access(argv[3], X_OK)) {
		printf("1..0 # SKIP no %s\n", argv[3]);
		return 0;
	}
	if (asprintf(&vhost_blk, "%s_vhost_blk", argv[0]) < 0 || !live_begin(argv[1], argv[2], argv[3]))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
		u64 start = now_ms();
		bool ok;

		if (!wanted(argc, argv, from, tests[i].name))
			continue;
		why[0] = '\0';
		ok = tests[i].fn();
		/* Refusals that a test has asked for leave their words here. */
		if (ok && strncmp(why, "SKIP ", 5))
			why[0] = '\0';
		printf("%sok %u - %s%s%s\n", ok ? "" : "not ", ++n, tests[i].what, ok && *why ? " # " : "", ok ? why : "");
		printf("# %llu ms%s%s\n", (unsigned long long)(now_ms() - start), ok ? "" : "; ", ok ? "" : why);
		if (!ok) {
			/* Whatever still runs belongs to a test that is lost. */
			failed++;
			break;
		}
	}
	printf("1..%u\n", n);
	if (!failed)
		live_end();
	return failed ? 1 : 0;
}
