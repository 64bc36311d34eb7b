// SPDX-License-Identifier: MIT
/* Two processors on one word. */
#include "guest/bench/bench.h"

struct word {
	u64 counter;
	u8 pad[120];
	u32 turn;
	u64 n;
};

static void add(struct word *w)
{
	for (u64 i = 0; i < w->n * 100; i++)
		__atomic_fetch_add(&w->counter, 3, __ATOMIC_SEQ_CST);
}

static void add_child(void *arg)
{
	add(arg);
}

u64 bench_par_xadd(u64 n)
{
	struct word *w = bench_shared(sizeof(*w));
	int child;

	*w = (struct word){ .n = n };
	child = bench_spawn(1, add_child, w);
	add(w);
	bench_join(child);
	return w->counter;
}

/* Each waits for the other's half of the step. */
static void steps(struct word *w, u32 me)
{
	for (u32 i = 0; i < w->n * 10; i++) {
		while (__atomic_load_n(&w->turn, __ATOMIC_ACQUIRE) != 2 * i + me)
			__builtin_ia32_pause();
		__atomic_store_n(&w->turn, 2 * i + me + 1, __ATOMIC_RELEASE);
	}
}

static void steps_child(void *arg)
{
	steps(arg, 1);
}

u64 bench_barrier(u64 n)
{
	struct word *w = bench_shared(sizeof(*w));
	int child;

	*w = (struct word){ .n = n };
	child = bench_spawn(1, steps_child, w);
	steps(w, 0);
	bench_join(child);
	return w->turn;
}
