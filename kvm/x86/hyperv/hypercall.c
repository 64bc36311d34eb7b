// SPDX-License-Identifier: MIT
/*
 * Hypercalls of Hyper-V's interface. TLFS "Hypercall Interface": a 64-bit input value
 * with the call's code and counts; parameters in guest memory, or in registers (the
 * "fast" kind, which some calls extend into XMM registers). Connections to eventfds.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "kvm/hv.h"
#include "kvm/mem.h"
#include "kvm/stats.h"
#include "kvm/x86/hyperv/hyperv_priv.h"

enum call {
	FLUSH_SPACE = 0x02, FLUSH_LIST = 0x03, LONG_SPIN_WAIT = 0x08, SEND_IPI = 0x0b,
	FLUSH_SPACE_EX = 0x13, FLUSH_LIST_EX = 0x14, SEND_IPI_EX = 0x15,
	POST_MESSAGE = 0x5c, SIGNAL_EVENT = 0x5d,
	POST_DEBUG_DATA = 0x69, RETRIEVE_DEBUG_DATA = 0x6a, RESET_DEBUG_SESSION = 0x6b,
};

enum status {
	SUCCESS = 0, INVALID_CODE = 2, INVALID_INPUT = 3, INVALID_ALIGNMENT = 4, ACCESS_DENIED = 6,
	OPERATION_DENIED = 8, INVALID_PORT_ID = 17,
};

#define INPUT_CODE(in) ((u16)(in))
#define INPUT_FAST BIT(16)
#define INPUT_VARHEAD(in) ((unsigned)((in) >> 17 & 0x3ff))
#define INPUT_REP_COUNT(in) ((unsigned)((in) >> 32 & 0xfff))
#define INPUT_REP_START(in) ((unsigned)((in) >> 48 & 0xfff))
#define INPUT_RESERVED (BITS(31, 27) | BITS(47, 44) | BITS(63, 60))
#define RESULT_REPS_SHIFT 32

/* CPUID 40000003h EBX, EDX; 40000004h EAX. */
#define FEATURE_B_POST_MESSAGES BIT(4)
#define FEATURE_B_SIGNAL_EVENTS BIT(5)
#define FEATURE_B_DEBUGGING BIT(11)
#define FEATURE_D_XMM_INPUT BIT(4)
#define RECOMMEND_TLB_FLUSH BIT(2)
#define RECOMMEND_CLUSTER_IPI BIT(10)
#define RECOMMEND_EX_MASKS BIT(11)
#define SYNDBG_BY_HYPERCALL BIT(2)

#define FLUSH_ALL_PROCESSORS 1u
#define VP_SET_SPARSE 0u
#define VP_SET_BANKS 64u

struct hypercall {
	u64 input, in, out;	/* parameters: addresses, or (fast) the first two words */
	u16 code;
	bool fast;
	unsigned varhead, reps, rep_start;
	u64 xmm[12];		/* fast: the words behind */
};

/* ---- Parameters ---- */

static bool extends_to_xmm(u16 code)
{
	switch (code) {
	case FLUSH_SPACE:
	case FLUSH_LIST:
	case FLUSH_SPACE_EX:
	case FLUSH_LIST_EX:
	case SEND_IPI_EX:
		return true;
	default:
		return false;
	}
}

static void read_xmm(struct hv_vcpu *v, struct hypercall *c)
{
	_Alignas(64) u8 area[4096];

	/* SDM "FXSAVE Area": XMM0 at byte 160. */
	BUG_ON(x86_xsave_size(v->cpu) > sizeof(area));
	x86_xsave_area(v->cpu, area, 3);
	memcpy(c->xmm, area + 160, sizeof(c->xmm));
}

/* @n words of the input from word @at on. */
static bool read_words(struct hv_vcpu *v, const struct hypercall *c, unsigned at, u64 *to, unsigned n)
{
	if (!c->fast)
		return !hv_read_guest(v->vm, 0, c->in + 8ull * at, to, 8ull * n);
	for (unsigned i = 0; i < n; i++) {
		unsigned word = at + i;

		if (word >= 2 + ARRAY_SIZE(c->xmm))
			return false;
		to[i] = word == 0 ? c->in : word == 1 ? c->out : c->xmm[word - 2];
	}
	return true;
}

/* Processors that a call names. */
struct targets {
	bool all;
	u64 valid;			/* banks of 64 that have a mask */
	u64 bank[VP_SET_BANKS];		/* the masks of those, in order */
};

static bool is_target(const struct targets *t, struct hv_vcpu *v)
{
	u32 vp = hyperv_of(v)->vp_index, bank = vp / 64;

	if (t->all)
		return true;
	if (bank >= VP_SET_BANKS || !(t->valid >> bank & 1))
		return false;
	bank = (u32)__builtin_popcountll(t->valid & (BIT(bank) - 1));
	return t->bank[bank] >> (vp % 64) & 1;
}

/* HV_VP_SET from word @at on: format, banks, masks. */
static bool read_vp_set(struct hv_vcpu *v, const struct hypercall *c, unsigned at, struct targets *t)
{
	u64 head[2];
	unsigned n;

	if (!read_words(v, c, at, head, 2))
		return false;
	t->all = head[0] != VP_SET_SPARSE;
	t->valid = head[1];
	n = (unsigned)__builtin_popcountll(t->valid);
	if (c->varhead != n)
		return false;
	return t->all || !n || read_words(v, c, at + 2, t->bank, n);
}

/* ---- Calls ---- */

static enum status flush(struct hv_vcpu *v, const struct hypercall *c)
{
	bool ex = c->code == FLUSH_SPACE_EX || c->code == FLUSH_LIST_EX;
	struct targets t = { 0 };
	struct hv_vcpu *to;
	unsigned i;
	u64 word[3];

	/* Address space, flags, then the processors. */
	if (ex) {
		if (!read_vp_set(v, c, 2, &t))
			return INVALID_INPUT;
	} else {
		if (!read_words(v, c, 0, word, 3))
			return INVALID_INPUT;
		/* No processor at all is what guests send who mean everybody. */
		t.all = (word[1] & FLUSH_ALL_PROCESSORS) || !word[2];
		t.valid = 1;
		t.bank[0] = word[2];
	}
	/* The whole of each TLB goes, which covers every address space and list. */
	hv_for_each_vcpu(i, to, v->vm) {
		if (is_target(&t, to)) {
			hv_request_all(v->vm, HV_REQ_TLB_FLUSH, true);
			break;
		}
	}
	return SUCCESS;
}

static enum status send_ipi(struct hv_vcpu *v, const struct hypercall *c)
{
	struct targets t = { 0 };
	struct hv_vcpu *to;
	unsigned i;
	u64 word[2];

	/* The vector has 32 bits; behind it flags of another partition level, which is none. */
	if (c->code == SEND_IPI) {
		if (!read_words(v, c, 0, word, 2) || word[0] >> 32)
			return INVALID_INPUT;
		t.valid = 1;
		t.bank[0] = word[1];
	} else {
		if (!read_words(v, c, 0, word, 1) || !read_vp_set(v, c, 1, &t))
			return INVALID_INPUT;
		if (!t.all && !t.valid)
			return SUCCESS;
	}
	if ((u32)word[0] < 16 || (u32)word[0] > 255)
		return INVALID_INPUT;
	hv_for_each_vcpu(i, to, v->vm) {
		if (is_target(&t, to) && to->lapic)
			hv_lapic_fixed(to, (u8)word[0]);
	}
	return SUCCESS;
}

struct connection {
	struct list link;
	u32 id;
	int fd;
};

static enum status signal_event(struct hv_vcpu *v, const struct hypercall *c)
{
	struct hyperv_vm *h = v->vm->hyperv;
	enum status r = INVALID_PORT_ID;
	u64 id = c->in;
	struct list *p;

	if (!c->fast) {
		if ((c->in & 7) || (c->in & ~PAGE_MASK) + 8 > PAGE_SIZE)
			return INVALID_ALIGNMENT;
		if (hv_read_guest(v->vm, 0, c->in, &id, sizeof(id)))
			return INVALID_ALIGNMENT;
	}
	/* Bits 47:32: flags of a port with several. None of ours has any. */
	if (id & BITS(47, 32))
		return INVALID_PORT_ID;
	if (id & ~(u64)KVM_HYPERV_CONN_ID_MASK)
		return INVALID_INPUT;
	pthread_mutex_lock(&h->lock);
	list_for_each(p, &h->eventfds) {
		struct connection *e = list_entry(p, struct connection, link);

		if (e->id != id)
			continue;
		eventfd_write(e->fd, 1);
		r = SUCCESS;
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* ---- To user space ---- */

static int complete(struct hv_vcpu *v, u64 result)
{
	hv_stat_inc(v, HV_STAT_hypercalls);
	trace(kvm_hv_hypercall_done, "result 0x%llx", (unsigned long long)result);
	if (hv_is_64bit(v)) {
		hv_set_gpr(v, X86_RAX, result);
	} else {
		hv_set_gpr(v, X86_RDX, result >> 32);
		hv_set_gpr(v, X86_RAX, (u32)result);
	}
	return hv_skip_insn(v);
}

static int answered(struct hv_vcpu *v)
{
	return complete(v, v->run->hyperv.u.hcall.result);
}

static int ask_user(struct hv_vcpu *v, const struct hypercall *c)
{
	v->run->exit_reason = KVM_EXIT_HYPERV;
	v->run->hyperv = (struct kvm_hyperv_exit){
		.type = KVM_EXIT_HYPERV_HCALL,
		.u.hcall = { .input = c->input, .params = { c->in, c->out } },
	};
	v->x86->complete = answered;
	return 0;
}

/* ---- The instruction ---- */

static bool allowed(struct hv_vcpu *v, u16 code)
{
	const struct hyperv_vcpu *h = hyperv_of(v);
	u64 need;

	if (!h->enforce)
		return true;
	switch (code) {
	case LONG_SPIN_WAIT:
		return h->spin_retries && h->spin_retries != UINT32_MAX;
	case POST_MESSAGE:
		return h->features_b & FEATURE_B_POST_MESSAGES;
	case SIGNAL_EVENT:
		return h->features_b & FEATURE_B_SIGNAL_EVENTS;
	case POST_DEBUG_DATA:
	case RETRIEVE_DEBUG_DATA:
	case RESET_DEBUG_SESSION:
		/* Without the debugger the call does not exist, which says more. */
		return !hyperv_syndbg_on(v) || (h->features_b & FEATURE_B_DEBUGGING);
	case FLUSH_SPACE:
	case FLUSH_LIST:
		return h->recommended_a & RECOMMEND_TLB_FLUSH;
	case FLUSH_SPACE_EX:
	case FLUSH_LIST_EX:
		need = RECOMMEND_TLB_FLUSH | RECOMMEND_EX_MASKS;
		return (h->recommended_a & need) == need;
	case SEND_IPI:
		return h->recommended_a & RECOMMEND_CLUSTER_IPI;
	case SEND_IPI_EX:
		need = RECOMMEND_CLUSTER_IPI | RECOMMEND_EX_MASKS;
		return (h->recommended_a & need) == need;
	default:
		return true;
	}
}

/* The status, or -1: user space answers. */
static int dispatch(struct hv_vcpu *v, const struct hypercall *c)
{
	bool rep = c->reps || c->rep_start;
	enum status s;

	switch (c->code) {
	case LONG_SPIN_WAIT:
		if (rep || c->varhead)
			return INVALID_INPUT;
		sched_yield();
		return SUCCESS;
	case SIGNAL_EVENT:
		if (rep || c->varhead)
			return INVALID_INPUT;
		s = signal_event(v, c);
		if (s != INVALID_PORT_ID)
			return s;
		/* Perhaps user space knows the port. */
		/* fallthrough */
	case POST_MESSAGE:
		return rep || c->varhead || !hyperv_of(v)->synic ? (int)INVALID_INPUT : -1;
	case FLUSH_LIST:
		if (c->varhead)
			return INVALID_INPUT;
		/* fallthrough */
	case FLUSH_LIST_EX:
		return !c->reps || c->rep_start ? INVALID_INPUT : flush(v, c);
	case FLUSH_SPACE:
		if (c->varhead)
			return INVALID_INPUT;
		/* fallthrough */
	case FLUSH_SPACE_EX:
		return rep ? INVALID_INPUT : flush(v, c);
	case SEND_IPI:
		if (c->varhead)
			return INVALID_INPUT;
		/* fallthrough */
	case SEND_IPI_EX:
		return rep ? INVALID_INPUT : send_ipi(v, c);
	case POST_DEBUG_DATA:
	case RETRIEVE_DEBUG_DATA:
		if (c->fast)
			return INVALID_INPUT;
		/* fallthrough */
	case RESET_DEBUG_SESSION:
		if (!hyperv_syndbg_on(v))
			return INVALID_CODE;
		return v->vm->hyperv->syndbg_options & SYNDBG_BY_HYPERCALL ? -1 : (int)OPERATION_DENIED;
	default:
		return INVALID_CODE;
	}
}

bool hyperv_takes_hypercalls(struct hv_vcpu *v)
{
	return hyperv_of(v)->enabled && v->vm->hyperv->guest_os_id;
}

static u64 pair(struct hv_vcpu *v, unsigned high, unsigned low)
{
	return hv_get_gpr(v, high) << 32 | (u32)hv_get_gpr(v, low);
}

int hyperv_hypercall(struct hv_vcpu *v)
{
	struct hypercall c;
	int status;

	/* TLFS "Legal Hypercall Environments": CPL 0 of protected mode. */
	if (hv_get_cpl(v) != 0 || !hv_is_prot(v)) {
		hv_queue_ud(v);
		return 1;
	}
	if (hv_is_64bit(v)) {
		c.input = hv_get_gpr(v, X86_RCX);
		c.in = hv_get_gpr(v, X86_RDX);
		c.out = hv_get_gpr(v, X86_R8);
	} else {
		c.input = pair(v, X86_RDX, X86_RAX);
		c.in = pair(v, X86_RBX, X86_RCX);
		c.out = pair(v, X86_RDI, X86_RSI);
	}
	c.code = INPUT_CODE(c.input);
	c.fast = c.input & INPUT_FAST;
	c.varhead = INPUT_VARHEAD(c.input);
	c.reps = INPUT_REP_COUNT(c.input);
	c.rep_start = INPUT_REP_START(c.input);
	trace(kvm_hv_hypercall, "code 0x%x %s var_cnt 0x%x rep_cnt 0x%x idx 0x%x in 0x%llx out 0x%llx", c.code,
	      c.fast ? "fast" : "slow", (u32)c.varhead, (u32)c.reps, (u32)c.rep_start, (unsigned long long)c.in,
	      (unsigned long long)c.out);
	if (!allowed(v, c.code))
		return complete(v, ACCESS_DENIED);
	if (c.input & INPUT_RESERVED)
		return complete(v, INVALID_INPUT);
	if (c.fast && extends_to_xmm(c.code)) {
		if (hyperv_of(v)->enforce && !(hyperv_of(v)->features_d & FEATURE_D_XMM_INPUT)) {
			hv_queue_ud(v);
			return 1;
		}
		read_xmm(v, &c);
	}
	status = dispatch(v, &c);
	if (status < 0)
		return ask_user(v, &c);
	return complete(v, (u64)status | (status == SUCCESS ? (u64)c.reps << RESULT_REPS_SHIFT : 0));
}

/* ---- KVM_HYPERV_EVENTFD ---- */

static struct connection *find(struct hyperv_vm *h, u32 id)
{
	struct list *p;

	list_for_each(p, &h->eventfds) {
		if (list_entry(p, struct connection, link)->id == id)
			return list_entry(p, struct connection, link);
	}
	return NULL;
}

static void forget(struct connection *e)
{
	list_del(&e->link);
	close(e->fd);
	free(e);
}

static int connect_eventfd(struct hyperv_vm *h, u32 id, int fd)
{
	struct connection *e = calloc(1, sizeof(*e));
	int r = -EEXIST;

	if (!e)
		return -ENOMEM;
	e->id = id;
	e->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (e->fd < 0) {
		r = -errno;
		free(e);
		return r;
	}
	pthread_mutex_lock(&h->lock);
	if (!find(h, id)) {
		list_add_tail(&e->link, &h->eventfds);
		e = NULL;
		r = 0;
	}
	pthread_mutex_unlock(&h->lock);
	if (e) {
		close(e->fd);
		free(e);
	}
	return r;
}

int hyperv_eventfd(struct hv_vm *vm, const struct kvm_hyperv_eventfd *k)
{
	struct hyperv_vm *h = vm->hyperv;
	struct connection *e;

	if ((k->flags & ~(u32)KVM_HYPERV_EVENTFD_DEASSIGN) ||
	    (k->conn_id & ~(u32)KVM_HYPERV_CONN_ID_MASK))
		return -EINVAL;
	if (!(k->flags & KVM_HYPERV_EVENTFD_DEASSIGN))
		return connect_eventfd(h, k->conn_id, k->fd);
	pthread_mutex_lock(&h->lock);
	e = find(h, k->conn_id);
	if (e)
		forget(e);
	pthread_mutex_unlock(&h->lock);
	return e ? 0 : -ENOENT;
}

void hyperv_vm_free(struct hv_vm *vm)
{
	struct hyperv_vm *h = vm->hyperv;
	struct list *p, *n;

	if (!h)
		return;
	list_for_each_safe(p, n, &h->eventfds)
		forget(list_entry(p, struct connection, link));
	pthread_mutex_destroy(&h->lock);
	free(h);
}
