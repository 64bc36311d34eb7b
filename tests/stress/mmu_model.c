// SPDX-License-Identifier: MIT
/*
 * The protocol of table entries as a small transition system, explored
 * exhaustively: two vCPUs and a controller, one table of two entries. Each
 * step below is one atomic access of the real code; every interleaving is
 * visited.
 *
 * vCPUs: entry handshake, TLB, hardware walk with the D flag by
 * compare-and-exchange, the fault's fast path (W restored without the lock)
 * and slow path (shared lock). Controller, by scenario: dirty-log collection
 * by write protection or by D flags; removal of the memory with its table,
 * flush, grace period, free.
 *
 * Invariants: a freed table is never read; memory that was given back is never
 * written; no write is missing from the dirty log; the statistics agree with
 * the entries, that is, each change was accounted for once.
 *
 * Each known defect (enum defect) must be found, else the model proves little.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/types.h"

enum entry { EMPTY, FROZEN, RO, RW, RWD };	/* RW: writable, clean */
enum table { LINKED, DETACHED, FREED };
enum scenario { PROTECT, D_FLAGS, REMOVE, NR_SCENARIOS };

enum defect {
	NONE,
	NO_FLUSH,		/* removal does not flush */
	FLUSH_NO_WAIT,		/* requests are set, nobody waits for them */
	MODE_AFTER_CHECK,	/* entry: requests are looked at before the mode is set */
	NO_GRACE,		/* the table is freed at once */
	FREE_BEFORE_FLUSH,	/* ... and the memory is given back before the flush */
	FROZEN_REPLACED,	/* a fault stores into its entry without looking again */
	PLAIN_STORE,		/* the collector stores what it computed from an old read */
	PROTECT_FIRST,		/* the collector protects, then takes the bits */
	MARK_FIRST,		/* a fault sets the bit, then makes the page writable */
	NO_REREAD,		/* after a failed exchange the collector goes on as if it had succeeded */
	NR_DEFECTS
};
static const char *const defect_name[] = {
	"none", "no flush", "flush without waiting", "mode set after the check", "no grace period",
	"memory given back before the flush", "frozen entry replaced", "plain store", "protect before taking bits",
	"mark before making writable", "no re-read after a failed exchange",
};

#define VCPUS 2
#define CTL 2	/* the controller's thread number */
#define DONE 255

struct state {
	u8 parent;		/* 1 = leads to the table */
	u8 table;
	u8 e[2];
	u8 tlb[VCPUS][2];	/* 1 = writable translation */
	u8 in_guest[VCPUS], request[VCPUS], section[VCPUS];
	u8 readers, writer;
	u8 slot, given_back;
	u8 bits, version[2], copied[2];
	s8 leaves;
	u8 pc[3], seen[3], left[VCPUS];	/* seen: last entry read; left: accesses to go */
	u8 snap, idle;
};

static enum scenario scenario;
static enum defect defect;
static const char *broken;

static void check(bool ok, const char *what)
{
	if (!ok && !broken)
		broken = what;
}

static bool present(u8 e)
{
	return e >= RO;
}

/* Entry @i is touched by somebody who found the table earlier. */
static u8 *entry(struct state *s, unsigned i)
{
	check(s->table != FREED, "freed table used");
	return &s->e[i];
}

/* ---- vCPU ---- */

/* Which page access number @left of vCPU @v writes. */
static unsigned target(unsigned v, unsigned left)
{
	return (v + left + 1) & 1;
}

static void write_page(struct state *s, unsigned i)
{
	check(!s->given_back, "write to memory that was given back");
	s->version[i]++;
}

enum {
	V_MODE, V_CHECK, V_TLB, V_SECTION, V_PARENT, V_ENTRY, V_SET_D, V_FILL, V_FAULT, V_FAST, V_FAST_ENTRY,
	V_FAST_CAS, V_FAST_MARK, V_LOCK, V_SLOW, V_SLOW_ENTRY, V_SLOW_PREMARK, V_SLOW_CAS, V_SLOW_MARK, V_UNLOCK,
};

static void unlock_read(struct state *s, unsigned v)
{
	s->readers--;
	s->section[v] = 0;
}

/* False: blocked. */
static bool vcpu_step(struct state *s, unsigned v)
{
	unsigned i = target(v, s->left[v]);
	u8 *pc = &s->pc[v], *seen = &s->seen[v];

	switch (*pc) {
	case V_MODE:
		if (!s->left[v]) {
			*pc = DONE;
			break;
		}
		if (defect == MODE_AFTER_CHECK) {
			if (s->request[v]) {
				s->request[v] = 0;
				s->tlb[v][0] = s->tlb[v][1] = 0;
			}
			*pc = V_CHECK;
			break;
		}
		s->in_guest[v] = 1;
		*pc = V_CHECK;
		break;
	case V_CHECK:
		if (defect == MODE_AFTER_CHECK) {
			s->in_guest[v] = 1;
			*pc = V_TLB;
			break;
		}
		if (s->request[v]) {
			s->in_guest[v] = 0;
			s->request[v] = 0;
			s->tlb[v][0] = s->tlb[v][1] = 0;
			*pc = V_MODE;
		} else {
			*pc = V_TLB;
		}
		break;
	case V_TLB:
		if (s->tlb[v][i]) {
			write_page(s, i);
			s->left[v]--;
			/* The second vCPU stays in the guest and polls; the first enters for each access. */
			if (v && s->left[v] && !s->request[v])
				break;
			s->in_guest[v] = 0;
			*pc = V_MODE;
		} else {
			*pc = V_SECTION;
		}
		break;
	case V_SECTION:
		s->section[v] = 1;
		*pc = V_PARENT;
		break;
	case V_PARENT:
		if (s->parent) {
			*pc = V_ENTRY;
		} else {
			s->section[v] = 0;
			*pc = V_FAULT;
		}
		break;
	case V_ENTRY:
		*seen = *entry(s, i);
		if (*seen == RWD) {
			*pc = V_FILL;
		} else if (*seen == RW) {
			*pc = V_SET_D;
		} else {
			s->section[v] = 0;
			*pc = V_FAULT;
		}
		break;
	case V_SET_D:
		if (*entry(s, i) == RW) {
			*entry(s, i) = RWD;
			*pc = V_FILL;
		} else {
			*pc = V_ENTRY;
		}
		break;
	case V_FILL:
		s->tlb[v][i] = 1;
		s->section[v] = 0;
		*pc = V_TLB;
		break;
	case V_FAULT:
		s->in_guest[v] = 0;
		*pc = scenario == D_FLAGS ? V_LOCK : V_FAST;
		break;
	case V_FAST:
		s->section[v] = 1;
		if (!s->parent) {
			s->section[v] = 0;
			*pc = V_LOCK;
		} else {
			*pc = V_FAST_ENTRY;
		}
		break;
	case V_FAST_ENTRY:
		*seen = *entry(s, i);
		if (*seen == RO) {
			if (defect == MARK_FIRST)
				s->bits |= 1 << i;
			*pc = V_FAST_CAS;
		} else {
			s->section[v] = 0;
			*pc = V_LOCK;
		}
		break;
	case V_FAST_CAS:
		if (*entry(s, i) == RO) {
			*entry(s, i) = RWD;
			*pc = V_FAST_MARK;
		} else {
			s->section[v] = 0;
			*pc = V_LOCK;
		}
		break;
	case V_FAST_MARK:
		if (defect != MARK_FIRST)
			s->bits |= 1 << i;
		s->section[v] = 0;
		*pc = V_MODE;
		break;
	case V_LOCK:
		if (s->writer)
			return false;
		s->readers++;
		s->section[v] = 1;
		*pc = V_SLOW;
		break;
	case V_SLOW:
		/* No memory there any more, or no table: the access is over, as MMIO. */
		if (!s->slot || !s->parent) {
			unlock_read(s, v);
			s->left[v]--;
			*pc = V_MODE;
		} else {
			*pc = V_SLOW_ENTRY;
		}
		break;
	case V_SLOW_ENTRY:
		*seen = *entry(s, i);
		if (*seen == EMPTY || *seen == RO)
			*pc = defect == MARK_FIRST ? V_SLOW_PREMARK : V_SLOW_CAS;
		else
			*pc = V_UNLOCK;
		break;
	case V_SLOW_PREMARK:
		s->bits |= 1 << i;
		*pc = V_SLOW_CAS;
		break;
	case V_SLOW_CAS: {
		/* By D flags the page stays clean until hardware dirties it. */
		u8 *e = entry(s, i), new = scenario == D_FLAGS ? RW : RWD;

		if (*e == *seen || defect == FROZEN_REPLACED) {
			s->leaves += *seen == EMPTY;
			*e = new;
			*pc = V_SLOW_MARK;
		} else {
			*pc = V_UNLOCK;
		}
		break;
	}
	case V_SLOW_MARK:
		if (scenario != D_FLAGS && defect != MARK_FIRST)
			s->bits |= 1 << i;
		*pc = V_UNLOCK;
		break;
	case V_UNLOCK:
		unlock_read(s, v);
		*pc = V_MODE;
		break;
	}
	return true;
}

/* ---- Controller ---- */

static bool request_flush(struct state *s)
{
	for (unsigned v = 0; v < VCPUS; v++)
		s->request[v] = 1;
	return true;
}

static bool flushed(const struct state *s)
{
	if (defect == FLUSH_NO_WAIT)
		return true;
	for (unsigned v = 0; v < VCPUS; v++)
		if (s->in_guest[v] && s->request[v])
			return false;
	return true;
}

enum { C_TAKE, C_LOCK, C_READ0, C_CAS0, C_READ1, C_CAS1, C_UNLOCK, C_TAKE_LATE, C_FLUSH, C_WAIT, C_COPY };

/* One entry of a collection: read, then exchange. */
static void collect_entry(struct state *s, unsigned i, bool cas, u8 read_pc)
{
	u8 *seen = &s->seen[CTL], *pc = &s->pc[CTL], clean = scenario == D_FLAGS ? RW : RO;
	bool work = scenario == D_FLAGS ? *seen == RWD : *seen >= RW;

	if (!cas) {
		*seen = *entry(s, i);
		work = scenario == D_FLAGS ? *seen == RWD : *seen >= RW;
		if (scenario != D_FLAGS && !(s->snap >> i & 1) && defect != PROTECT_FIRST)
			work = false;
		/* Also a plain store writes back what it takes for clean. */
		if (defect == PLAIN_STORE && *seen >= RW)
			work = true;
		*pc = (u8)(work ? read_pc + 1 : read_pc + 2);
		return;
	}
	if (*entry(s, i) == *seen || defect == PLAIN_STORE) {
		if (scenario == D_FLAGS && *seen == RWD)
			s->snap |= 1 << i;
		*entry(s, i) = clean;
	} else if (defect != NO_REREAD) {
		*pc = read_pc;
		return;
	} else if (scenario == D_FLAGS && work) {
		s->snap |= 1 << i;
	}
	*pc = (u8)(read_pc + 2);
}

static bool collect_step(struct state *s)
{
	u8 *pc = &s->pc[CTL];

	switch (*pc) {
	case C_TAKE:
		if (scenario != D_FLAGS && defect != PROTECT_FIRST) {
			s->snap = s->bits;
			s->bits = 0;
		}
		break;
	case C_LOCK:
		s->readers++;
		break;
	case C_READ0:
		collect_entry(s, 0, false, C_READ0);
		return true;
	case C_CAS0:
		collect_entry(s, 0, true, C_READ0);
		return true;
	case C_READ1:
		collect_entry(s, 1, false, C_READ1);
		return true;
	case C_CAS1:
		collect_entry(s, 1, true, C_READ1);
		return true;
	case C_UNLOCK:
		s->readers--;
		break;
	case C_TAKE_LATE:
		if (defect == PROTECT_FIRST) {
			s->snap = s->bits;
			s->bits = 0;
		}
		break;
	case C_FLUSH:
		if (defect != NO_FLUSH)
			request_flush(s);
		break;
	case C_WAIT:
		if (defect != NO_FLUSH && !flushed(s))
			return false;
		break;
	case C_COPY:
		for (unsigned i = 0; i < 2; i++)
			if (s->snap >> i & 1)
				s->copied[i] = s->version[i];
		*pc = DONE;
		return true;
	}
	(*pc)++;
	return true;
}

enum { R_SLOT, R_LOCK, R_PARENT, R_E0, R_E1, R_FLUSH, R_WAIT, R_UNLOCK, R_GRACE, R_FREE };

static bool remove_step(struct state *s)
{
	u8 *pc = &s->pc[CTL];

	switch (*pc) {
	case R_SLOT:
		s->slot = 0;
		break;
	case R_LOCK:
		if (s->readers)
			return false;
		s->writer = 1;
		break;
	case R_PARENT:
		s->parent = 0;
		s->table = DETACHED;
		if (defect == NO_GRACE)
			s->table = FREED;
		break;
	case R_E0:
	case R_E1: {
		u8 *e = &s->e[*pc - R_E0];

		s->leaves -= present(*e);
		*e = FROZEN;
		break;
	}
	case R_FLUSH:
		if (defect == FREE_BEFORE_FLUSH)
			s->given_back = 1;
		if (defect != NO_FLUSH)
			request_flush(s);
		break;
	case R_WAIT:
		if (defect != NO_FLUSH && !flushed(s))
			return false;
		break;
	case R_UNLOCK:
		s->given_back = 1;
		s->writer = 0;
		break;
	case R_GRACE:
		/* Every other thread was seen outside a section once. */
		for (unsigned v = 0; v < VCPUS; v++)
			if (!s->section[v])
				s->idle |= 1 << v;
		if (s->idle != (1 << VCPUS) - 1)
			return false;
		break;
	case R_FREE:
		s->table = FREED;
		*pc = DONE;
		return true;
	}
	(*pc)++;
	return true;
}

static bool step(struct state *s, unsigned t)
{
	if (s->pc[t] == DONE)
		return false;
	if (t < VCPUS)
		return vcpu_step(s, t);
	return scenario == REMOVE ? remove_step(s) : collect_step(s);
}

/* ---- Exploration ---- */

#define HASH_BITS 21
static struct state *states;
static u32 *table;
static u32 nr_states;

static u64 hash(const struct state *s)
{
	const u8 *b = (const u8 *)s;
	u64 h = 14695981039346656037ull;

	for (unsigned i = 0; i < sizeof(*s); i++)
		h = (h ^ b[i]) * 1099511628211ull;
	return h ^ h >> 29;
}

static void add(const struct state *s)
{
	u64 h = hash(s);

	for (;; h++) {
		u32 *slot = &table[h & ((1u << HASH_BITS) - 1)];

		if (!*slot) {
			BUG_ON(nr_states >= (1u << HASH_BITS) / 2);
			states[nr_states] = *s;
			*slot = ++nr_states;
			return;
		}
		if (!memcmp(&states[*slot - 1], s, sizeof(*s)))
			return;
	}
}

static void check_end(const struct state *s)
{
	int n = present(s->e[0]) + present(s->e[1]);

	check(s->leaves == n, "statistics disagree with the entries");
	for (unsigned i = 0; i < 2 && scenario != REMOVE; i++) {
		bool dirty = scenario == D_FLAGS ? s->e[i] == RWD : s->bits >> i & 1;

		check(dirty || s->copied[i] == s->version[i], "write missing from the dirty log");
	}
}

/* What breaks, or NULL. */
static const char *explore(void)
{
	struct state s = {
		/* Three accesses come back to the first page, with what the TLB has of it. */
		.parent = 1, .slot = 1, .left = { 3, 2 },
		/* One page is writable (hence marked, but by D flags), one is not mapped at all. */
		.e = { RW, EMPTY }, .leaves = 1, .bits = scenario == D_FLAGS ? 0 : 1,
	};

	memset(table, 0, sizeof(*table) << HASH_BITS);
	nr_states = 0;
	broken = NULL;
	add(&s);
	for (u32 i = 0; i < nr_states && !broken; i++) {
		bool any = false, all_done = true;

		for (unsigned t = 0; t < 3; t++) {
			struct state n = states[i];

			all_done &= n.pc[t] == DONE;
			if (step(&n, t)) {
				any = true;
				add(&n);
			}
		}
		if (all_done)
			check_end(&states[i]);
		else
			/* Waiting for a grace period may go on without a change of state. */
			check(any, "deadlock");
	}
	return broken;
}

int main(void)
{
	/* Defects that a scenario does not have steps for are no defects there. */
	static const struct { enum defect d; enum scenario s; } rows[] = {
		{ NO_FLUSH, REMOVE }, { FLUSH_NO_WAIT, REMOVE }, { MODE_AFTER_CHECK, REMOVE }, { NO_GRACE, REMOVE },
		{ FREE_BEFORE_FLUSH, REMOVE }, { FROZEN_REPLACED, PROTECT }, { PLAIN_STORE, D_FLAGS },
		{ PROTECT_FIRST, PROTECT }, { MARK_FIRST, PROTECT }, { NO_REREAD, PROTECT },
		{ NO_FLUSH, PROTECT }, { FLUSH_NO_WAIT, PROTECT }, { NO_FLUSH, D_FLAGS }, { FLUSH_NO_WAIT, D_FLAGS },
		{ MODE_AFTER_CHECK, PROTECT }, { MODE_AFTER_CHECK, D_FLAGS },
	};
	static const char *const scenario_name[] = { "protect", "D flags", "remove" };
	unsigned bad = 0, n = 0;

	states = calloc((1u << HASH_BITS) / 2, sizeof(*states));
	table = calloc(1u << HASH_BITS, sizeof(*table));
	BUG_ON(!states || !table);
	printf("1..%u\n", (unsigned)(NR_SCENARIOS + ARRAY_SIZE(rows)));
	for (scenario = 0; scenario < NR_SCENARIOS; scenario++) {
		const char *what = explore();

		bad += !!what;
		printf("%sok %u - %s: %u states%s%s\n", what ? "not " : "", ++n, scenario_name[scenario], nr_states,
		       what ? ": " : "", what ? what : "");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *what;

		scenario = rows[i].s;
		defect = rows[i].d;
		what = explore();
		bad += !what;
		printf("%sok %u - %s, %s: %s\n", what ? "" : "not ", ++n, scenario_name[scenario], defect_name[defect],
		       what ? what : "not found");
	}
	free(states);
	free(table);
	return bad != 0;
}
