// SPDX-License-Identifier: MIT
/*
 * Stress of guest memory: the silicon's EPT walker and TLB on vCPU threads
 * against everything that the hypervisor does to the tables. Meant for
 * ThreadSanitizer and AddressSanitizer as well.
 *
 *	mmu_stress [seconds [vcpus [seed]]]
 *
 * Every vCPU owns one word in each page of RAM and knows what it wrote there.
 * A controller thread meanwhile deletes, creates and moves memslots, switches
 * logging, fetches and clears dirty logs, takes host pages away and gives them
 * back, kills roots, and looks at ages without a lock.
 *
 * What must hold:
 *  - an access in a quiet moment has the outcome that the layout says, and a
 *    read finds what this vCPU wrote last, wherever the slot was moved;
 *  - an access during a change has one of the outcomes of before and after,
 *    and a write landed in a page that it may have landed in, or nowhere;
 *  - a copy of the logged slot that is kept by its dirty log alone, as a live
 *    migration would, equals the slot whenever the vCPUs rest;
 *  - no vCPU needs more than a bounded number of faults for one access;
 *  - no change takes long although all vCPUs keep running.
 *
 * kvm/ and silicon/ are real but for what the fakes replace: run loop, VMCS,
 * decoding. mutate.sh applies known defects and names the test that catches each.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "kvm/x86/mmu/mmu.h"
#include "silicon/vmx.h"
#include "silicon/x86/mmu/mmu_fake.h"

#define MB (1ull << 20)
#define SLOT_SIZE (2 * MB)
#define SLOT_PAGES (SLOT_SIZE / PAGE_SIZE)
#define NR_SLOTS 4
#define WINDOWS 8		/* guest-physical places of 2 MiB and a page each */
#define WINDOW_SIZE (3 * MB)
#define MAX_VCPUS 8
#define NOWHERE (~0ull)

#define LOGGED 0		/* never moved: its log is checked; also in address space 1 */
#define HOLED 3			/* loses host pages now and then */

struct layout {
	u64 gpa[NR_SLOTS];	/* or NOWHERE */
	bool readonly[NR_SLOTS];
	u64 hole;		/* page index in RAM that is inaccessible, or NOWHERE */
};

struct vcpu {
	struct hv_vcpu v;
	struct x86_cpu *cpu;
	unsigned index;
	u32 seed;
	u64 counter;
	u64 *shadow;		/* per page of RAM: what this vCPU wrote there last */
	u64 recent[16];		/* where it was lately: what its TLB knows */
	unsigned max_faults;
	u64 accesses, unstable, mmio, efault;
	pthread_t thread;
};

static struct hv_vm *vm;
static u8 *ram, *copy;		/* copy: of the logged slot, by its log */
static struct vcpu vcpus[MAX_VCPUS];
static unsigned nr_vcpus = 3;
static _Atomic bool stop, failed, pausing;
static _Atomic unsigned paused;

/* Odd while the controller changes the layout. */
static _Atomic u64 layout_seq;
static struct layout layout;
static pthread_mutex_t layout_lock = PTHREAD_MUTEX_INITIALIZER;	/* vCPUs copy, the controller changes */
static struct layout next_layout;	/* while odd: what it becomes */

static void complain(const char *what, struct vcpu *c, u64 gpa, u64 a, u64 b)
{
	if (atomic_exchange(&failed, true))
		return;
	fprintf(stderr, "mmu_stress: %s: vcpu %u gpa %llx: %llx, want %llx\n", what, c ? c->index : 99,
		(unsigned long long)gpa, (unsigned long long)a, (unsigned long long)b);
	atomic_store(&stop, true);
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static u32 rnd(u32 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	return *seed ^= *seed << 5;
}

static u64 word(u64 ram_page, unsigned owner)
{
	return (u64)ram + ram_page * PAGE_SIZE + owner * 8;
}

/* ---- What the fakes leave open of kvm/ and silicon/ ---- */

unsigned x86_model_physbits(const struct x86_model *model)
{
	return 46;
}

void vfs_notifier_register(struct vfs_notifier *n)
{
}

void vfs_notifier_unregister(struct vfs_notifier *n)
{
}

void hv_request_all(struct hv_vm *m, enum hv_request r, bool wait)
{
	struct hv_vcpu *v;
	unsigned i;

	hv_for_each_vcpu(i, v, m)
		hv_set_request(v, r);
	hv_for_each_vcpu(i, v, m)
		while (wait && atomic_load(&v->mode) != HV_OUTSIDE_GUEST && (atomic_load(&v->requests) >> r & 1))
			sched_yield();
}

void hv_flush_remote_tlbs(struct hv_vm *m)
{
	hv_request_all(m, HV_REQ_TLB_FLUSH, true);
}

/* ---- vCPUs ---- */

enum outcome { DONE, MMIO, EFAULT_, STUCK };

/* One access, as KVM_RUN would go about it. */
static enum outcome access_guest(struct vcpu *c, unsigned as, u64 gpa, bool write, u64 *val)
{
	unsigned faults = 0;

	for (;; faults++) {
		u64 eptp = hv_mmu_load(&c->v, as);
		volatile u64 got = 0;
		enum hv_fault f;
		int kind;

		if (faults > 2000000)
			return STUCK;
		BUG_ON(!eptp);
		if (eptp != c->cpu->vmx.eptp) {
			c->cpu->vmx.eptp = eptp;
			x86_tlb_switch(c->cpu);
		}
		if (atomic_exchange(&c->v.requests, 0) >> HV_REQ_TLB_FLUSH & 1)
			x86_tlb_flush_ept(c->cpu, c->cpu->vmx.eptp);
		atomic_store(&c->v.mode, HV_IN_GUEST);
		if (atomic_load(&c->v.requests)) {
			atomic_store(&c->v.mode, HV_OUTSIDE_GUEST);
			continue;
		}
		kind = FAKE_RUN(
			if (write)
				x86_store64(c->cpu, X86_DS, gpa, *val);
			else
				got = x86_load64(c->cpu, X86_DS, gpa));
		atomic_store(&c->v.mode, HV_OUTSIDE_GUEST);
		c->max_faults = max(c->max_faults, faults);
		switch (kind) {
		case X86_UNWIND_NONE:
			if (!write)
				*val = got;
			return DONE;
		case X86_UNWIND_BUS_ERROR:
			hv_mmu_bus_error(&c->v, c->cpu->fault.payload);
			return EFAULT_;
		default:
			BUG_ON(kind != X86_UNWIND_VMEXIT);
		}
		if (fake.ept_reason == VMX_EXIT_EPT_MISCONFIG)
			f = hv_mmu_misconfig(&c->v, gpa);
		else
			f = hv_mmu_fault(&c->v, gpa, fake.ept_qual);
		if (f == HV_FAULT_MMIO)
			return MMIO;
		if (f == HV_FAULT_EFAULT)
			return EFAULT_;
		if (faults > 50)
			sched_yield();
	}
}

/* Page of RAM that is at @gpa, or NOWHERE; *@ro. */
static u64 ram_page_at(const struct layout *l, u64 gpa, bool *ro)
{
	for (unsigned s = 0; s < NR_SLOTS; s++) {
		if (l->gpa[s] != NOWHERE && gpa >= l->gpa[s] && gpa < l->gpa[s] + SLOT_SIZE) {
			*ro = l->readonly[s];
			return s * SLOT_PAGES + (gpa - l->gpa[s]) / PAGE_SIZE;
		}
	}
	return NOWHERE;
}

static enum outcome expected(const struct layout *l, u64 gpa, bool write, u64 *page)
{
	bool ro = false;

	*page = ram_page_at(l, gpa, &ro);
	if (*page == NOWHERE || (ro && write))
		return MMIO;
	return *page == l->hole ? EFAULT_ : DONE;
}

static u64 host_word(u64 page, unsigned owner)
{
	u64 v = 0;

	/* The controller may have taken the page away just now. */
	if (x86_phys_read(SPA(word(page, owner)), &v, 8))
		return NOWHERE;
	return v;
}

/* A place where a vCPU touches no guest memory: stay here as long as the controller wants them at rest. */
static void rest_if_asked(void)
{
	if (!atomic_load(&pausing))
		return;
	atomic_fetch_add(&paused, 1);
	while (atomic_load(&pausing) && !atomic_load(&stop))
		sched_yield();
	atomic_fetch_sub(&paused, 1);
}

static void one_access(struct vcpu *c)
{
	struct layout before, after;
	unsigned as = rnd(&c->seed) % 512 == 0;
	bool write = rnd(&c->seed) & 1;
	u64 gpa, page[2], seq, val;
	enum outcome want[2], r;

	pthread_mutex_lock(&layout_lock);
	seq = atomic_load(&layout_seq);
	before = layout;
	after = seq & 1 ? next_layout : layout;
	pthread_mutex_unlock(&layout_lock);
	if (as)
		/* Address space 1 has the logged slot only, where space 0 has it. */
		gpa = before.gpa[LOGGED] + rnd(&c->seed) % SLOT_PAGES * PAGE_SIZE;
	else
		gpa = rnd(&c->seed) % (WINDOWS * WINDOW_SIZE / PAGE_SIZE) * PAGE_SIZE;
	/* Mostly memory, and pages that everybody uses. */
	if (!as && rnd(&c->seed) % 8) {
		unsigned s = rnd(&c->seed) % NR_SLOTS;

		if (after.gpa[s] != NOWHERE)
			gpa = after.gpa[s] + rnd(&c->seed) % (rnd(&c->seed) & 1 ? SLOT_PAGES : 8) * PAGE_SIZE;
	}
	if (!as && rnd(&c->seed) & 1)
		gpa = c->recent[rnd(&c->seed) % ARRAY_SIZE(c->recent)];
	c->recent[rnd(&c->seed) % ARRAY_SIZE(c->recent)] = gpa;
	gpa += c->index * 8;
	val = (u64)(c->index + 1) << 56 | ++c->counter;
	want[0] = expected(&before, gpa, write, &page[0]);
	want[1] = expected(&after, gpa, write, &page[1]);
	{
		u64 written = val;

		r = access_guest(c, as, gpa, write, &val);
		if (write)
			val = written;
	}
	c->accesses++;
	c->mmio += r == MMIO;
	c->efault += r == EFAULT_;
	if (r == STUCK) {
		complain("no progress", c, gpa, 0, 0);
		return;
	}

	if (atomic_load(&layout_seq) == seq && !(seq & 1)) {
		if (r != want[0])
			complain("outcome", c, gpa, r, want[0]);
		else if (r == DONE && !write && val != c->shadow[page[0]])
			complain("read", c, gpa, val, c->shadow[page[0]]);
		else if (r == DONE && write)
			c->shadow[page[0]] = val;
		return;
	}

	/* Something changed meanwhile: settle it when it is over. */
	c->unstable++;
	while (atomic_load(&layout_seq) & 1 && !atomic_load(&stop))
		sched_yield();
	if (atomic_load(&stop) || r != DONE)
		return;
	if (write) {
		/* Only this vCPU writes this word, so wherever it is it is for good. */
		for (u64 p = 0; p < NR_SLOTS * SLOT_PAGES; p++) {
			if ((p == page[0] || p == page[1] || seq != (atomic_load(&layout_seq) & ~1ull)) &&
			    host_word(p, c->index) == val) {
				c->shadow[p] = val;
				return;
			}
		}
		/* Unless its page is the one that is out of reach for now: find out later. */
		for (bool all_seen = false; !all_seen && !atomic_load(&stop);) {
			all_seen = true;
			for (u64 p = 0; p < NR_SLOTS * SLOT_PAGES; p++) {
				u64 there = host_word(p, c->index);

				if (there == val) {
					c->shadow[p] = val;
					return;
				}
				all_seen &= there != NOWHERE;
			}
			rest_if_asked();	/* the controller may want to check before it fills the hole */
			sched_yield();
		}
		if (!atomic_load(&stop))
			complain("write lost", c, gpa, val, 0);
		return;
	}
	for (u64 p = 0; p < NR_SLOTS * SLOT_PAGES; p++)
		if (c->shadow[p] == val)
			return;
	complain("read of something never written", c, gpa, val, 0);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *c = arg;

	c->cpu = fake_cpu();
	c->cpu->vmx.non_root = true;
	x86_access_begin(c->cpu);
	while (!atomic_load(&stop)) {
		rest_if_asked();
		one_access(c);
	}
	x86_access_end(c->cpu, NULL);
	fake_free();
	return NULL;
}

/* ---- Controller ---- */

static u32 seed = 1;
static u64 changes, worst_ns;

static void set_slot(unsigned s, unsigned as, u64 gpa, u32 flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = s | as << 16, .flags = flags, .guest_phys_addr = gpa == NOWHERE ? 0 : gpa,
		.memory_size = gpa == NOWHERE ? 0 : SLOT_SIZE, .userspace_addr = (u64)ram + s * SLOT_SIZE,
	};
	u64 begin = now_ns();
	int ret = hv_set_memory_region(vm, &r);

	worst_ns = max(worst_ns, now_ns() - begin);
	if (ret)
		complain("set_memory_region", NULL, gpa, (u64)(s64)ret, 0);
	changes++;
}

static void begin_change(void)
{
	pthread_mutex_lock(&layout_lock);
	next_layout = layout;
}

static void announce_change(void)
{
	atomic_fetch_add(&layout_seq, 1);
	pthread_mutex_unlock(&layout_lock);
}

static void end_change(void)
{
	pthread_mutex_lock(&layout_lock);
	layout = next_layout;
	atomic_fetch_add(&layout_seq, 1);
	pthread_mutex_unlock(&layout_lock);
}

/* A place for slot @s that overlaps no other: aligned or off by a page, so large or small pages. */
static u64 free_place(unsigned s)
{
	for (;;) {
		u64 gpa = rnd(&seed) % (WINDOWS * WINDOW_SIZE / (4 * MB)) * 4 * MB + (rnd(&seed) & 1 ? PAGE_SIZE : 0);
		bool hit = gpa + SLOT_SIZE > WINDOWS * WINDOW_SIZE;

		for (unsigned o = 0; o < NR_SLOTS; o++)
			hit |= o != s && layout.gpa[o] != NOWHERE && gpa < layout.gpa[o] + SLOT_SIZE &&
			       layout.gpa[o] < gpa + SLOT_SIZE;
		if (!hit)
			return gpa;
	}
}

static void change_slot(void)
{
	unsigned s = 1 + rnd(&seed) % (NR_SLOTS - 1);
	bool there = layout.gpa[s] != NOWHERE;
	u32 flags = 0;
	u64 gpa = NOWHERE;

	begin_change();
	if (!there || rnd(&seed) % 2)
		gpa = free_place(s);
	if (there && gpa != NOWHERE && layout.readonly[s])
		flags = KVM_MEM_READONLY;
	if (!there && rnd(&seed) % 4 == 0)
		flags = KVM_MEM_READONLY;
	next_layout.gpa[s] = gpa;
	next_layout.readonly[s] = flags;
	announce_change();
	set_slot(s, 0, gpa, flags);
	end_change();
}

static void change_hole(void)
{
	u64 page = HOLED * SLOT_PAGES + rnd(&seed) % SLOT_PAGES;
	u64 at;

	begin_change();
	next_layout.hole = layout.hole == NOWHERE ? page : NOWHERE;
	at = word(layout.hole == NOWHERE ? page : layout.hole, 0);
	announce_change();
	if (next_layout.hole != NOWHERE)
		vm->mm_notifier.invalidate(&vm->mm_notifier, at, at + PAGE_SIZE);
	BUG_ON(mprotect((void *)at, PAGE_SIZE, next_layout.hole != NOWHERE ? PROT_NONE : PROT_READ | PROT_WRITE));
	end_change();
}

static bool logging;
static u64 bits[2][SLOT_PAGES / 64];

static void copy_page(u64 p)
{
	for (unsigned o = 0; o < MAX_VCPUS; o++) {
		u64 v = __atomic_load_n((u64 *)word(p, o), __ATOMIC_RELAXED);

		memcpy(copy + p * PAGE_SIZE + o * 8, &v, 8);
	}
}

/* Fetch the logs of both address spaces and copy what they name. */
static void collect_log(void)
{
	bool manual = vm->manual_dirty_protect;

	for (unsigned as = 0; as < 2; as++) {
		struct kvm_dirty_log l = { .slot = LOGGED | as << 16, .dirty_bitmap = bits[as] };
		struct kvm_clear_dirty_log cl = { .slot = LOGGED | as << 16, .dirty_bitmap = bits[as] };

		BUG_ON(hv_get_dirty_log(vm, &l));
		for (u64 p = 0; manual && p < SLOT_PAGES; p += 128) {
			cl.first_page = p;
			cl.num_pages = 128;
			cl.dirty_bitmap = &bits[as][p / 64];
			BUG_ON(hv_clear_dirty_log(vm, &cl));
		}
		for (u64 p = 0; p < SLOT_PAGES; p++)
			if (bits[as][p / 64] >> (p % 64) & 1)
				copy_page(p);
	}
}

static void toggle_logging(void)
{
	logging = !logging;
	if (logging)
		vm->manual_dirty_protect = rnd(&seed) % 3 == 0 ? 0 :
			KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | (rnd(&seed) & 1 ? KVM_DIRTY_LOG_INITIALLY_SET : 0);
	for (unsigned as = 0; as < 2; as++)
		set_slot(LOGGED, as, layout.gpa[LOGGED], logging ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	if (logging)
		for (u64 p = 0; p < SLOT_PAGES; p++)
			copy_page(p);
}

static void pause_vcpus(void)
{
	atomic_store(&pausing, true);
	while (atomic_load(&paused) < nr_vcpus && !atomic_load(&stop))
		sched_yield();
}

static void resume_vcpus(void)
{
	atomic_store(&pausing, false);
	while (atomic_load(&paused) && !atomic_load(&stop))
		sched_yield();
}

/* At rest: one last collection, then the copy must be the slot. */
static void check_copy(void)
{
	pause_vcpus();
	if (!atomic_load(&stop)) {
		collect_log();
		for (u64 p = 0; p < SLOT_PAGES; p++)
			if (memcmp((void *)word(p, 0), copy + p * PAGE_SIZE, MAX_VCPUS * 8))
				complain("dirty page not logged", NULL, p * PAGE_SIZE, 0, 0);
	}
	resume_vcpus();
}

/* What an idle-page tracker would do: look and clear A, without any lock. */
static void age(void)
{
	struct tdp_table *root = tdp_next_root(vm->mmu, NULL, 0);
	struct tdp_iter it;

	if (!root)
		return;
	epoch_enter();
	tdp_for_each(&it, root, 1, 0, WINDOWS * WINDOW_SIZE / PAGE_SIZE) {
		while (spte_leaf(it.e.old, it.e.level) && (it.e.old & SPTE_A))
			if (tdp_change(&it.e, it.e.old & ~SPTE_A))
				break;
	}
	epoch_exit();
	tdp_put_root(root);
}

static void one_change(void)
{
	u64 begin = now_ns();

	switch (rnd(&seed) % 16) {
	case 0: case 1: case 2: case 3: case 4:
		change_slot();
		break;
	case 5: case 6: case 7:
		change_hole();
		break;
	case 8:
		toggle_logging();
		break;
	case 9: case 10:
		if (logging)
			collect_log();
		break;
	case 11:
		if (logging)
			check_copy();
		break;
	case 12:
		hv_mmu_invalidate_roots(vm);
		break;
	case 13:
		age();
		break;
	default:
		usleep(rnd(&seed) % 2000);
		return;
	}
	worst_ns = max(worst_ns, now_ns() - begin);
}

int main(int argc, char **argv)
{
	u64 seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2;
	u64 end, total = 0, unstable = 0, mmio = 0, efault = 0;
	unsigned max_faults = 0;
	u8 *raw;

	if (argc > 2)
		nr_vcpus = min((unsigned)strtoul(argv[2], NULL, 10), (unsigned)MAX_VCPUS);
	if (argc > 3)
		seed = (u32)strtoul(argv[3], NULL, 10) | 1;
	BUG_ON(x86_install_fault_handler());
	raw = mmap(NULL, (NR_SLOTS + 1) * SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(raw == MAP_FAILED);
	ram = (u8 *)round_up((u64)raw, SLOT_SIZE);
	copy = calloc(SLOT_PAGES, PAGE_SIZE);
	vm = calloc(1, sizeof(*vm));
	BUG_ON(!copy || !vm);
	pthread_mutex_init(&vm->slots_lock, NULL);
	BUG_ON(hv_mmu_vm_new(vm));
	layout = (struct layout){ .gpa = { 0, NOWHERE, NOWHERE, NOWHERE }, .hole = NOWHERE };
	set_slot(LOGGED, 0, 0, 0);
	set_slot(LOGGED, 1, 0, 0);
	for (unsigned i = 0; i < nr_vcpus; i++) {
		struct vcpu *c = &vcpus[i];

		c->index = i;
		c->seed = seed * 7919 + i * 104729 + 1;
		c->shadow = calloc(NR_SLOTS * SLOT_PAGES, sizeof(u64));
		c->v.vm = vm;
		c->v.idx = i;
		BUG_ON(!c->shadow || hv_mmu_vcpu_new(&c->v));
		atomic_store(&vm->vcpus[i], &c->v);
		atomic_store(&vm->nr_vcpus, i + 1);
	}
	for (unsigned i = 0; i < nr_vcpus; i++)
		BUG_ON(pthread_create(&vcpus[i].thread, NULL, vcpu_thread, &vcpus[i]));
	end = now_ns() + seconds * 1000000000;
	while (now_ns() < end && !atomic_load(&stop))
		one_change();
	if (logging)
		check_copy();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < nr_vcpus; i++) {
		struct vcpu *c = &vcpus[i];

		pthread_join(c->thread, NULL);
		total += c->accesses;
		unstable += c->unstable;
		mmio += c->mmio;
		efault += c->efault;
		max_faults = max(max_faults, c->max_faults);
		hv_mmu_vcpu_free(&c->v);
		free(c->shadow);
	}
	atomic_store(&vm->nr_vcpus, 0);
	hv_mmu_vm_free(vm);
	free(vm);
	free(copy);
	munmap(raw, (NR_SLOTS + 1) * SLOT_SIZE);
	printf("%s: %llu accesses (%llu mmio, %llu efault, %llu across a change), %llu slot changes, "
	       "most faults of one access %u, longest change %llu us\n",
	       atomic_load(&failed) ? "FAILED" : "ok", (unsigned long long)total, (unsigned long long)mmio,
	       (unsigned long long)efault, (unsigned long long)unstable, (unsigned long long)changes, max_faults,
	       (unsigned long long)worst_ns / 1000);
	return atomic_load(&failed);
}
