// SPDX-License-Identifier: MIT
/*
 * A vCPU apart from its architecture: the memory that it shares with the
 * client, requests, kicks, sleeping and signals.
 */
#include "kvm/hv.h"

#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kvm/stats.h"
#include "kvm/vcpu_life.h"

/* How often a sleeping vCPU with a signal mask of its own looks for pending signals, ns. */
#define SIGPENDING_POLL_NS 1000000u

static int shared_pages_new(struct hv_vcpu *v)
{
	size_t size = HV_DIRTY_RING_PAGE * PAGE_SIZE + v->vm->dirty_ring_bytes;
	void *p;

	v->memfd = memfd_create("kvm-vcpu", MFD_CLOEXEC);
	if (v->memfd < 0)
		return -errno;
	if (ftruncate(v->memfd, (off_t)size) < 0)
		return -errno;
	p = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, v->memfd, 0);
	if (p == MAP_FAILED)
		return -errno;
	v->run = p;
	v->pio_data = (u8 *)p + PAGE_SIZE;
	return hv_exit_stat_new(&v->exits, v->memfd, v->id);
}

void hv_vcpu_free(struct hv_vcpu *v)
{
	hv_x86_vcpu_free(v);
	if (v->run)
		munmap(v->run, 2 * PAGE_SIZE);
	if (v->memfd >= 0)
		close(v->memfd);
	hv_exit_stat_free(&v->exits);
	hv_stats_free(v->stats);
	pthread_mutex_destroy(&v->mutex);
	free(v);
}

static int vcpu_new_locked(struct hv_vm *vm, u32 id, struct hv_vcpu **out)
{
	unsigned idx = atomic_load(&vm->nr_vcpus);
	struct hv_vcpu *v;
	int r = -ENOMEM;

	if (id >= vm->max_vcpu_id || idx >= HV_MAX_VCPUS)
		return -EINVAL;
	if (hv_vcpu_by_id(vm, id))
		return -EEXIST;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->vm = vm;
	v->id = id;
	v->idx = idx;
	v->memfd = -1;
	pthread_mutex_init(&v->mutex, NULL);
	v->stats = hv_stats_new((int)id);
	if (!v->stats)
		goto fail;
	r = shared_pages_new(v);
	if (r < 0)
		goto fail;
	r = hv_x86_vcpu_new(v);
	if (r < 0)
		goto fail;
	atomic_store_explicit(&vm->vcpus[idx], v, memory_order_release);
	atomic_store(&vm->nr_vcpus, idx + 1);
	if (v->lapic)
		hv_apic_map_update(vm);
	*out = v;
	return 0;

fail:
	hv_vcpu_free(v);
	return r;
}

int hv_vcpu_new(struct hv_vm *vm, u32 id, struct hv_vcpu **out)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vcpu_new_locked(vm, id, out);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

void hv_vcpu_lock(struct hv_vcpu *v)
{
	pthread_mutex_lock(&v->mutex);
}

void hv_vcpu_unlock(struct hv_vcpu *v)
{
	pthread_mutex_unlock(&v->mutex);
}

int hv_vcpu_stats_fd(struct hv_vcpu *v)
{
	return hv_stats_fd(v->stats);
}

/* ---- Requests and kicks ---- */

static void futex_wake(_Atomic u32 *word)
{
	int saved = errno;	/* may run in a signal handler */

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

void hv_wake(struct hv_vcpu *v)
{
	atomic_fetch_add(&v->wait_word, 1);
	if (atomic_load(&v->waiting))
		futex_wake(&v->wait_word);
}

static void kick_out(struct hv_vcpu *v)
{
	int in = HV_IN_GUEST;

	/* Once per stay: a second interrupt would only make the next entry bounce. */
	if (atomic_compare_exchange_strong(&v->mode, &in, HV_EXITING_GUEST))
		x86_raise_intr(v->cpu, HV_KICK_VECTOR);
}

void hv_kick(struct hv_vcpu *v)
{
	hv_wake(v);
	kick_out(v);
}

void hv_request_all(struct hv_vm *vm, enum hv_request r, bool wait)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, vm) {
		hv_set_request(v, r);
		if (atomic_load(&v->mode) != HV_OUTSIDE_GUEST)
			kick_out(v);
		else if (!wait)
			hv_wake(v);
	}
	if (!wait)
		return;
	/*
	 * Whoever still has the request pending while in the guest entered it
	 * before the request was seen. The vCPU clears the bit outside the guest
	 * and acts on it before it enters again, so a cleared bit is as good as
	 * seeing it outside.
	 */
	hv_for_each_vcpu(i, v, vm) {
		while (atomic_load(&v->mode) != HV_OUTSIDE_GUEST &&
		       (atomic_load(&v->requests) >> r & 1))
			sched_yield();
	}
}

void hv_flush_remote_tlbs(struct hv_vm *vm)
{
	hv_vm_stat_add(vm, HV_VM_STAT_remote_tlb_flush_requests, 1);
	hv_request_all(vm, HV_REQ_TLB_FLUSH, true);
	hv_vm_stat_add(vm, HV_VM_STAT_remote_tlb_flush, 1);
}

/* ---- Signals and sleep ---- */

void hv_set_signal_mask(struct hv_vcpu *v, const u64 *mask)
{
	v->sigmask_set = mask != NULL;
	v->sigmask = mask ? *mask : 0;
}

bool hv_signal_pending(struct hv_vcpu *v)
{
	sigset_t pending;

	if (atomic_load_explicit(&v->signalled, memory_order_relaxed))
		return true;
	if (!v->sigmask_set)
		return false;
	/*
	 * Signals that the thread blocks but the client's KVM mask lets through:
	 * they end KVM_RUN, stay pending, and their handler does not run.
	 */
	if (sigpending(&pending) < 0)
		return false;
	for (int sig = 1; sig <= 64; sig++) {
		if (!(v->sigmask >> (sig - 1) & 1) && sigismember(&pending, sig) == 1)
			return true;
	}
	return false;
}

void hv_vcpu_sleep(struct hv_vcpu *v, u32 word, u64 deadline)
{
	struct timespec now, ts;
	u64 ns;

	if (v->sigmask_set) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		ns = (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec + SIGPENDING_POLL_NS;
		deadline = deadline ? min(deadline, ns) : ns;
	}
#ifdef __SANITIZE_THREAD__
	/*
	 * ThreadSanitizer holds signal handlers back until a call that it knows to
	 * block; a raw system call is none.
	 */
	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec + SIGPENDING_POLL_NS;
	deadline = deadline ? min(deadline, ns) : ns;
	poll(NULL, 0, 0);
#endif
	ts.tv_sec = (time_t)(deadline / 1000000000u);
	ts.tv_nsec = (long)(deadline % 1000000000u);
	/* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time. */
	if (syscall(SYS_futex, &v->wait_word, FUTEX_WAIT_BITSET_PRIVATE, word, deadline ? &ts : NULL,
		    NULL, FUTEX_BITSET_MATCH_ANY) < 0 && errno == EINTR)
		atomic_store(&v->signalled, true);
}
