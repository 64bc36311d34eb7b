/* SPDX-License-Identifier: MIT */
/* Replay: guest/run smp_stress   (or: userkvm boot -i none -c 4 -k build/guest/smp_stress) */
/* Four processors: locked operations, IPI storms, timer interrupts, TLB shoot-downs, store ordering. */
#include "kit/kit.h"

#define CPUS 4
#define VEC_FLUSH 0x61
#define VEC_PING 0x62
#define VEC_TIMER 0x63

static volatile u64 counter, plain;
static volatile u32 lock, timers, stop, wrong;
static volatile u32 pings[CPUS], acked;
static u8 frames[2][4096] __attribute__((aligned(4096)));
static u8 window[4096] __attribute__((aligned(4096)));

/* ---- Locked operations ---- */

static void count(void *arg)
{
	for (u32 i = 0; i < 20000; i++) {
		asm volatile("lock incq %0" : "+m"(counter) :: "memory");
		while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
			pause();
		plain++;
		__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
	}
}

static void everywhere(void (*fn)(void *), void *arg)
{
	for (u32 i = 1; i < CPUS; i++)
		run_on(i, fn, arg);
	fn(arg);
	for (u32 i = 1; i < CPUS; i++)
		wait_idle(i);
}

/* ---- Interrupts ---- */

static void on_ping(struct frame *f)
{
	__atomic_add_fetch(&pings[this_cpu()->id], 1, __ATOMIC_RELAXED);
	apic_eoi();
}

static void on_timer(struct frame *f)
{
	__atomic_add_fetch(&timers, 1, __ATOMIC_RELAXED);
	apic_eoi();
}

/* Everybody pings its neighbour 500 times under its own periodic timer. */
static void storm(void *arg)
{
	u32 me = this_cpu()->id, next = (me + 1) % CPUS;

	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, VEC_TIMER | LVT_PERIODIC);
	apic_write(APIC_TMICT, 200000);
	for (u32 i = 1; i <= 500; i++) {
		apic_ipi(cpus[next].apic_id, VEC_PING);
		if (!wait_for(pings[next] >= i)) {
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
			break;
		}
	}
	apic_write(APIC_TMICT, 0);
	apic_write(APIC_LVTT, LVT_MASKED);
}

/* ---- TLB shoot-down ---- */

static void on_flush(struct frame *f)
{
	invlpg(window);
	__atomic_add_fetch(&acked, 1, __ATOMIC_SEQ_CST);
	apic_eoi();
}

/* A reader must never see the old frame once it has acknowledged. */
static void reader(void *arg)
{
	while (!stop) {
		u32 value;

		/* Interrupts off: the read and the check belong together. */
		value = *(volatile u32 *)window;
		if (value != *(volatile u32 *)(window + 8) - 1)
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
		let_in();
		pause();
	}
}

static void shoot_down(void)
{
	u64 *pte = pte_of(window);

	stop = wrong = 0;
	for (u32 k = 0; k < 2; k++) {
		*(volatile u32 *)frames[k] = k * 100;
		*(volatile u32 *)(frames[k] + 8) = k * 100 + 1;
	}
	*pte = (u64)frames[0] | PTE_RW;
	write_cr3(read_cr3());
	acked = 0;
	apic_ipi(0, ICR_OTHERS | VEC_FLUSH);
	wait_for(acked == CPUS - 1);
	for (u32 i = 1; i < CPUS; i++)
		run_on(i, reader, NULL);
	for (u32 round = 1; round <= 300; round++) {
		u8 *now = frames[round & 1], *old = frames[~round & 1];

		*pte = (u64)now | PTE_RW;
		invlpg(window);
		acked = 0;
		apic_ipi(0, ICR_OTHERS | VEC_FLUSH);
		if (!wait_for(acked == CPUS - 1)) {
			wrong++;
			break;
		}
		/* Nobody may look at the old frame now: spoil it, then make it good again. */
		*(volatile u32 *)(old + 8) = 0xdead;
		for (u32 i = 0; i < 200; i++)
			pause();
		*(volatile u32 *)(old + 8) = *(volatile u32 *)old + 1;
	}
	stop = 1;
	for (u32 i = 1; i < CPUS; i++)
		wait_idle(i);
	report("TLB shoot-down", wrong == 0);
}

/* ---- Store ordering: message passing must work without fences on x86 ---- */

static volatile u64 message, flag, bad_messages;

static void receive(void *arg)
{
	for (u64 i = 1; i <= 20000; i++) {
		while (flag < i)
			pause();
		if (message < i)
			bad_messages++;
		message = 0;
		flag = 0;
	}
}

static void message_passing(void)
{
	run_on(1, receive, NULL);
	for (u64 i = 1; i <= 20000; i++) {
		message = i;
		asm volatile("" ::: "memory");
		flag = i;
		while (flag)
			pause();
	}
	wait_idle(1);
	report("message passing", bad_messages == 0);
}

int main(void)
{
	set_handler(VEC_FLUSH, on_flush);
	set_handler(VEC_PING, on_ping);
	set_handler(VEC_TIMER, on_timer);
	kit_patience *= 20;
	report("four processors", start_cpus(CPUS));
	if (nr_online < CPUS)
		return 0;
	everywhere(count, NULL);
	report("locked increments", counter == CPUS * 20000);
	report("a spin lock", plain == CPUS * 20000);
	everywhere(storm, NULL);
	report("IPI storm", wrong == 0);
	report("timers ran meanwhile", timers > 0);
	shoot_down();
	message_passing();
	return 0;
}
