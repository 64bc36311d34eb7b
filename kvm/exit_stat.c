// SPDX-License-Identifier: MIT
/* Counting exits by reason, MMIO by address, port I/O by port: the vCPU's side. */
#include "kvm/exit_stat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kvm/x86/x86.h"

_Static_assert(HV_EXIT_STAT_PAGE * PAGE_SIZE + HV_EXIT_STAT_BYTES <= 64 * PAGE_SIZE,
	       "the area ends before the dirty ring");

/* A file of @folder for this vCPU; several VMs of a process have vCPUs of the same number. */
static int own_file(const char *folder, u32 vcpu)
{
	static _Atomic unsigned serial;
	char path[512];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/%d.%u.%u", folder, (int)getpid(), serial++, vcpu) >=
	    sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)HV_EXIT_STAT_BYTES) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

int hv_exit_stat_new(struct hv_exit_stat *s, int memfd, u32 vcpu)
{
	const char *folder = getenv("USERKVM_STAT");
	int own = folder && *folder ? own_file(folder, vcpu) : -1;
	struct hv_exit_area *a;

	/* Where the folder is gone, nobody reads there any more. */
	a = mmap(NULL, HV_EXIT_STAT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, own >= 0 ? own : memfd,
		 own >= 0 ? 0 : (off_t)(HV_EXIT_STAT_PAGE * PAGE_SIZE));
	if (own >= 0)
		close(own);
	if (a == MAP_FAILED)
		return -errno;
	a->pid = (u32)getpid();
	a->vcpu = vcpu;
	a->magic = HV_EXIT_STAT_MAGIC;
	atomic_store(&a->wanted, own >= 0);
	s->area = a;
	return 0;
}

void hv_exit_stat_free(struct hv_exit_stat *s)
{
	if (s->area)
		munmap(s->area, HV_EXIT_STAT_BYTES);
}

const char *hv_exit_stat_reason(u32 reason)
{
	return hv_vmx_exit_name(reason);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* A new reader, or the same for a new span of time. */
static void start_over(struct hv_exit_stat *s, u32 wanted)
{
	struct hv_exit_area *a = s->area;

	memset(a->vmexit, 0, sizeof(a->vmexit));
	memset(a->mmio, 0, sizeof(a->mmio));
	memset(a->ioport, 0, sizeof(a->ioport));
	memset(a->lost, 0, sizeof(a->lost));
	memset(s->open, 0, sizeof(s->open));
	atomic_store_explicit(&a->counting, wanted, memory_order_release);
}

void hv_exit_stat_begin(struct hv_exit_stat *s, enum hv_exit_event what, u64 key)
{
	u32 wanted = atomic_load_explicit(&s->area->wanted, memory_order_relaxed);

	if (wanted != atomic_load_explicit(&s->area->counting, memory_order_relaxed))
		start_over(s, wanted);
	s->open[what].key = key;
	s->open[what].start = now_ns();
}

static struct hv_exit_row *find_row(struct hv_exit_row *rows, unsigned n, u64 key)
{
	/* Few keys and most in the first places: no hash is worth it. */
	for (unsigned i = 0; i < n; i++) {
		if (rows[i].count && rows[i].key == key)
			return &rows[i];
		if (!rows[i].count) {
			rows[i].key = key;
			return &rows[i];
		}
	}
	return NULL;
}

/* The reader may look at any time: a row counts once its count says so. */
static void count(struct hv_exit_row *r, u64 ns)
{
	u128 sq = ((u128)r->sq_hi << 64 | r->sq_lo) + (u128)ns * ns;

	r->sum += ns;
	r->sq_lo = (u64)sq;
	r->sq_hi = (u64)(sq >> 64);
	r->min = r->count ? min(r->min, ns) : ns;
	r->max = max(r->max, ns);
	__atomic_store_n(&r->count, r->count + 1, __ATOMIC_RELEASE);
}

static void close_event(struct hv_exit_stat *s, enum hv_exit_event what, u64 now)
{
	struct hv_exit_area *a = s->area;
	u64 key = s->open[what].key, ns = now - s->open[what].start;
	struct hv_exit_row *r = NULL;

	s->open[what].start = 0;
	switch (what) {
	case HV_EVENT_VMEXIT:
		if (key < HV_EXIT_STAT_REASONS) {
			r = &a->vmexit[key];
			r->key = key;
		}
		break;
	case HV_EVENT_MMIO:
		r = find_row(a->mmio, HV_EXIT_STAT_KEYS, key);
		break;
	case HV_EVENT_IOPORT:
		r = find_row(a->ioport, HV_EXIT_STAT_KEYS, key);
		break;
	case HV_NR_EXIT_EVENTS:
		break;
	}
	if (r)
		count(r, ns);
	else
		a->lost[what]++;
}

void hv_exit_stat_mmio_read(struct hv_exit_stat *s, u64 gpa)
{
	s->open[HV_EVENT_MMIO].key = HV_EXIT_KEY(gpa, false);
	s->open[HV_EVENT_MMIO].start = s->open[HV_EVENT_VMEXIT].start;
	if (s->open[HV_EVENT_MMIO].start)
		close_event(s, HV_EVENT_MMIO, now_ns());
}

void hv_exit_stat_entry(struct hv_exit_stat *s)
{
	u64 now = now_ns();

	for (unsigned what = 0; what < HV_NR_EXIT_EVENTS; what++) {
		if (s->open[what].start)
			close_event(s, what, now);
	}
}
