// SPDX-License-Identifier: MIT
/*
 * Eventfds at both ends of a VM: irqfd (a count in an eventfd becomes an
 * interrupt) and ioeventfd (a guest's write becomes a count).
 *
 * We keep duplicates; which descriptors mean the same eventfd is told by its id
 * in /proc/self/fdinfo. An irqfd ends with its eventfd, which must not live on by
 * us: so once the program has closed its last descriptor (vfs_watch()), we hold
 * the eventfd by an epoll set of its own, which does not keep it alive but hears
 * of writes by whoever else has it. The count is not taken then.
 *
 * One thread per VM waits for all irqfds, from the first one on; it blocks all
 * signals. Locks: @lock for irqfds, under which interrupts are raised, outside
 * the chips' locks; @io_lock for ioeventfds, outside slots_lock.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "kvm/x86/irq/chip.h"

struct irqfd {
	struct list link;
	int fd, resample;	/* duplicates; resample -1: edge */
	int client;		/* the program's descriptor, or one of them */
	int weak;		/* once it has none, the epoll set instead of @fd; else -1 */
	u64 id;			/* of the eventfd */
	u64 cookie;		/* ours; never used twice */
	u32 gsi;
};

struct ioeventfd {
	struct list link;
	struct hv_iodev dev;
	enum hv_bus bus;
	int fd;
	u64 id;
	u64 addr, datamatch;
	u32 len;
	bool any_value;
};

struct hv_irqfds {
	struct hv_vm *vm;
	pthread_mutex_t lock;
	struct list list;
	u64 next_cookie;
	_Atomic unsigned nr_resample;
	int epoll, quit;	/* quit: eventfd that ends the thread; -1 while there is none */
	pthread_t thread;
	struct vfs_notifier notifier;

	pthread_mutex_t io_lock;	/* vm->ioeventfds */
};

/* ---- Descriptors ---- */

static int fdinfo(int fd, char *text, size_t size)
{
	char path[48];
	ssize_t n;
	int f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = open(path, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return -errno;
	n = read(f, text, size - 1);
	close(f);
	if (n < 0)
		return -EBADF;
	text[n] = 0;
	return 0;
}

/* -EBADF, or -EINVAL if @fd is no eventfd. */
static int eventfd_id(int fd, u64 *id)
{
	char text[512];
	char *p;
	int err;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	err = fdinfo(fd, text, sizeof(text));
	if (err)
		return err;
	if (!strstr(text, "eventfd-count:"))
		return -EINVAL;
	/* Before Linux 5.2 there is no id: then the number has to do. */
	p = strstr(text, "eventfd-id:");
	*id = p ? strtoull(p + strlen("eventfd-id:"), NULL, 10) : BIT(63) | (u64)fd;
	return 0;
}

/* Another descriptor of the program for the eventfd, which is watched then; -1: it has none. */
static int other_descriptor(u64 id)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;
	int found = -1;
	u64 other;

	/* Cannot tell: as if it had. */
	if (!dir)
		return INT_MAX;
	while (found < 0 && (d = readdir(dir))) {
		char target[32] = "";
		int fd = atoi(d->d_name);

		if (d->d_name[0] == '.' || vfs_is_kept(fd) ||
		    readlinkat(dirfd(dir), d->d_name, target, sizeof(target) - 1) < 0 ||
		    strcmp(target, "anon_inode:[eventfd]") || eventfd_id(fd, &other) || other != id)
			continue;
		/* It may be closed before it is watched. */
		vfs_watch(fd);
		if (!eventfd_id(fd, &other) && other == id)
			found = fd;
	}
	closedir(dir);
	return found;
}

/*
 * Take the count. Never blocks, though the client may have made a blocking eventfd and may read it
 * too.
 */
static bool consume(int fd)
{
	u64 count;
	struct iovec io = { &count, sizeof(count) };

	return preadv2(fd, &io, 1, -1, RWF_NOWAIT) == sizeof(count);
}

static int signal_fd(int fd)
{
	u64 one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

static void descriptor_closed(struct vfs_notifier *n, int fd);

/* The VM's record of eventfds, made at first use. */
static struct hv_irqfds *get_irqfds(struct hv_vm *vm)
{
	struct hv_irqfds *s;
	bool made = false;

	pthread_mutex_lock(&vm->irq_lock);
	s = atomic_load(&vm->irqfds);
	if (!s) {
		s = calloc(1, sizeof(*s));
		made = s;
	}
	if (made) {
		s->vm = vm;
		s->epoll = s->quit = -1;
		pthread_mutex_init(&s->lock, NULL);
		pthread_mutex_init(&s->io_lock, NULL);
		list_init(&s->list);
		s->notifier.closed = descriptor_closed;
		atomic_store(&vm->irqfds, s);
	}
	pthread_mutex_unlock(&vm->irq_lock);
	if (made)
		vfs_notifier_register(&s->notifier);
	return s;
}

/* ---- irqfd ---- */

static void fire(struct hv_irqfds *s, const struct irqfd *i)
{
	if (i->resample >= 0) {
		hv_irq_line(s->vm, i->gsi, 1, HV_IRQ_RESAMPLE);
	} else {
		hv_irq_line(s->vm, i->gsi, 1, HV_IRQ_USER);
		hv_irq_line(s->vm, i->gsi, 0, HV_IRQ_USER);
	}
}

/* Of an eventfd that we do not have: since the last time. */
static bool was_written(const struct irqfd *i)
{
	struct epoll_event ev;

	return epoll_wait(i->weak, &ev, 1, 0) == 1;
}

/* The event may be of an irqfd that is gone by now: look it up by its cookie. */
static void handle(struct hv_irqfds *s, u64 cookie)
{
	struct list *p;

	pthread_mutex_lock(&s->lock);
	list_for_each(p, &s->list) {
		struct irqfd *i = list_entry(p, struct irqfd, link);

		if (i->cookie == cookie) {
			if (i->weak < 0 ? consume(i->fd) : was_written(i))
				fire(s, i);
			break;
		}
	}
	pthread_mutex_unlock(&s->lock);
}

static void *irqfd_main(void *arg)
{
	struct hv_irqfds *s = arg;
	struct epoll_event ev[32];

	prctl(PR_SET_NAME, "userkvm-irqfd");
	for (;;) {
		int n = epoll_wait(s->epoll, ev, ARRAY_SIZE(ev), -1);

		for (int i = 0; i < n; i++) {
			if (!ev[i].data.u64)
				return NULL;
			handle(s, ev[i].data.u64);
		}
	}
}

/* Lock held. Cookie 0 is the end of the thread. */
static int start_thread(struct hv_irqfds *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	sigset_t all, old;
	int err;

	if (s->quit >= 0)
		return 0;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->quit = eventfd(0, EFD_CLOEXEC);
	err = -errno;
	if (s->epoll < 0 || s->quit < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->quit, &ev))
		goto fail;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&s->thread, NULL, irqfd_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		return 0;
fail:
	close(s->epoll);
	close(s->quit);
	s->epoll = s->quit = -1;
	return err;
}

static void irqfd_free(struct hv_irqfds *s, struct irqfd *i)
{
	int held = i->weak < 0 ? i->fd : i->weak;

	if (i->link.next)
		list_del(&i->link);
	/* By name, since a forked child may have it too. */
	if (held >= 0 && s->epoll >= 0)
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, held, NULL);
	if (i->resample >= 0) {
		vfs_drop(i->resample);
		atomic_fetch_sub(&s->nr_resample, 1);
	}
	if (i->weak >= 0)
		close(i->weak);
	if (i->fd >= 0)
		vfs_drop(i->fd);
	free(i);
}

static bool resampled(struct hv_irqfds *s, u32 gsi)
{
	struct list *p;

	list_for_each(p, &s->list) {
		struct irqfd *i = list_entry(p, struct irqfd, link);

		if (i->gsi == gsi && i->resample >= 0)
			return true;
	}
	return false;
}

/* Lock held. */
static void detach(struct hv_irqfds *s, struct irqfd *i)
{
	bool was = i->resample >= 0;
	u32 gsi = i->gsi;

	irqfd_free(s, i);
	/* Nobody is left to lower the line. */
	if (was && !resampled(s, gsi))
		hv_irq_line(s->vm, gsi, 0, HV_IRQ_RESAMPLE);
}

/* ---- The program lets go of an eventfd ---- */

/* Lock held. Hold it weakly from now on, unless that cannot be. */
static void weaken(struct hv_irqfds *s, struct irqfd *i)
{
	struct epoll_event write = { .events = EPOLLIN | EPOLLET };
	struct epoll_event any = { .events = EPOLLIN, .data.u64 = i->cookie };
	int set = epoll_create1(EPOLL_CLOEXEC);

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, i->fd, &write) ||
	    epoll_ctl(s->epoll, EPOLL_CTL_ADD, set, &any)) {
		if (set >= 0)
			close(set);
		return;
	}
	/* Only what is written from here on is the set's. */
	if (consume(i->fd))
		fire(s, i);
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, i->fd, NULL);
	vfs_drop(i->fd);
	i->fd = -1;
	i->weak = set;
}

/* Lock held. Of those held weakly, end what nobody has any more. */
static void detach_dead(struct hv_irqfds *s)
{
	struct list *p, *n;
	char text[512];

	list_for_each_safe(p, n, &s->list) {
		struct irqfd *i = list_entry(p, struct irqfd, link);

		/* The set lists its files while they live. */
		if (i->weak >= 0 && !fdinfo(i->weak, text, sizeof(text)) && !strstr(text, "tfd:"))
			detach(s, i);
	}
}

static void descriptor_closed(struct vfs_notifier *n, int fd)
{
	struct hv_irqfds *s = container_of(n, struct hv_irqfds, notifier);
	struct list *p;

	pthread_mutex_lock(&s->lock);
	list_for_each(p, &s->list) {
		struct irqfd *i = list_entry(p, struct irqfd, link);

		if (i->client != fd || i->weak >= 0)
			continue;
		i->client = other_descriptor(i->id);
		if (i->client < 0)
			weaken(s, i);
	}
	detach_dead(s);
	pthread_mutex_unlock(&s->lock);
}

/* ---- Assign and deassign ---- */

static int irqfd_assign(struct hv_irqfds *s, const struct kvm_irqfd *f, u64 id)
{
	struct irqfd *i = calloc(1, sizeof(*i));
	struct epoll_event ev = { .events = EPOLLIN };
	struct list *p;
	u64 unused;
	int err;

	if (!i)
		return -ENOMEM;
	i->resample = i->weak = -1;
	i->client = f->fd;
	i->fd = vfs_keep(f->fd);
	i->id = id;
	i->gsi = f->gsi;
	pthread_mutex_lock(&s->lock);
	err = i->fd < 0 ? i->fd : 0;
	if (!err && (f->flags & KVM_IRQFD_FLAG_RESAMPLE)) {
		err = eventfd_id(f->resamplefd, &unused);
		if (!err)
			i->resample = vfs_keep(f->resamplefd);
		if (i->resample >= 0)
			atomic_fetch_add(&s->nr_resample, 1);
		else if (!err)
			err = i->resample;
	}
	/* An id is used again when its eventfd is gone. */
	detach_dead(s);
	list_for_each(p, &s->list) {
		if (list_entry(p, struct irqfd, link)->id == id && !err)
			err = -EBUSY;
	}
	if (!err)
		err = start_thread(s);
	if (err)
		goto fail;
	i->cookie = ev.data.u64 = ++s->next_cookie;
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, i->fd, &ev)) {
		err = -errno;
		goto fail;
	}
	list_add_tail(&i->link, &s->list);
	vfs_watch(i->client);
	/* What was counted before counts. */
	if (consume(i->fd))
		fire(s, i);
	pthread_mutex_unlock(&s->lock);
	return 0;
fail:
	irqfd_free(s, i);
	pthread_mutex_unlock(&s->lock);
	return err;
}

static int irqfd_deassign(struct hv_irqfds *s, u32 gsi, u64 id)
{
	struct list *p, *n;

	pthread_mutex_lock(&s->lock);
	detach_dead(s);
	list_for_each_safe(p, n, &s->list) {
		struct irqfd *i = list_entry(p, struct irqfd, link);

		if (i->id == id && i->gsi == gsi)
			detach(s, i);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int hv_irqfd(struct hv_vm *vm, const struct kvm_irqfd *f)
{
	struct hv_irqfds *s;
	u64 id;
	int err;

	if (vm->irqchip_mode == HV_IRQCHIP_NONE ||
	    (f->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)))
		return -EINVAL;
	/* Who completes an interrupt is only known of our own chips. */
	if ((f->flags & KVM_IRQFD_FLAG_RESAMPLE) && vm->irqchip_mode != HV_IRQCHIP_KERNEL)
		return -EINVAL;
	err = eventfd_id(f->fd, &id);
	if (err)
		return err;
	s = get_irqfds(vm);
	if (!s)
		return -ENOMEM;
	if (f->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return irqfd_deassign(s, f->gsi, id);
	return irqfd_assign(s, f, id);
}

void hv_irqfd_acked(struct hv_vm *vm, u32 gsi)
{
	struct hv_irqfds *s = atomic_load(&vm->irqfds);
	struct list *p;

	if (!s || !atomic_load(&s->nr_resample))
		return;
	pthread_mutex_lock(&s->lock);
	if (resampled(s, gsi)) {
		hv_irq_line(vm, gsi, 0, HV_IRQ_RESAMPLE);
		list_for_each(p, &s->list) {
			struct irqfd *i = list_entry(p, struct irqfd, link);

			if (i->gsi == gsi && i->resample >= 0)
				signal_fd(i->resample);
		}
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- ioeventfd ---- */

static int ioeventfd_write(struct hv_iodev *d, struct hv_vcpu *v, u64 addr, unsigned len,
			   const void *data)
{
	struct ioeventfd *e = container_of(d, struct ioeventfd, dev);
	u64 val = 0;

	if (addr != e->addr || (e->len && len != e->len))
		return -EOPNOTSUPP;
	if (!e->any_value) {
		memcpy(&val, data, min(len, 8u));
		if (val != e->datamatch)
			return -EOPNOTSUPP;
	}
	signal_fd(e->fd);
	return 0;
}

static bool same_trigger(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->bus == b->bus && a->addr == b->addr &&
	       (!a->len || !b->len ||
		(a->len == b->len &&
		 (a->any_value || b->any_value || a->datamatch == b->datamatch)));
}

static void ioeventfd_free(struct hv_vm *vm, struct ioeventfd *e)
{
	hv_iobus_del(vm, e->bus, &e->dev);
	if (!e->len && e->bus == HV_BUS_MMIO)
		hv_iobus_del(vm, HV_BUS_FAST_MMIO, &e->dev);
	if (e->fd >= 0)
		vfs_drop(e->fd);
	free(e);
}

static int ioeventfd_assign(struct hv_irqfds *s, const struct ioeventfd *like, int fd)
{
	struct ioeventfd *e = malloc(sizeof(*e));
	unsigned flags = HV_IODEV_SHARED | HV_IODEV_UNCOUNTED;
	struct list *p;
	int err = 0;

	if (!e)
		return -ENOMEM;
	*e = *like;
	e->dev = (struct hv_iodev){ .write = ioeventfd_write };
	e->fd = vfs_keep(fd);
	if (e->fd < 0) {
		err = e->fd;
		free(e);
		return err;
	}
	pthread_mutex_lock(&s->io_lock);
	list_for_each(p, &s->vm->ioeventfds) {
		if (same_trigger(e, list_entry(p, struct ioeventfd, link)))
			err = -EEXIST;
	}
	if (!err)
		err = hv_iobus_add(s->vm, e->bus, e->addr, e->len, flags, &e->dev);
	/*
	 * Any length: it can be recognized from the address alone, before the instruction is
	 * decoded.
	 */
	if (!err && !e->len && e->bus == HV_BUS_MMIO)
		err = hv_iobus_add(s->vm, HV_BUS_FAST_MMIO, e->addr, 0, flags, &e->dev);
	if (!err)
		list_add_tail(&e->link, &s->vm->ioeventfds);
	pthread_mutex_unlock(&s->io_lock);
	if (err)
		ioeventfd_free(s->vm, e);
	return err;
}

static int ioeventfd_deassign(struct hv_irqfds *s, const struct ioeventfd *like)
{
	struct ioeventfd *found = NULL;
	struct list *p;

	pthread_mutex_lock(&s->io_lock);
	list_for_each(p, &s->vm->ioeventfds) {
		struct ioeventfd *e = list_entry(p, struct ioeventfd, link);

		if (e->id == like->id && e->bus == like->bus && e->addr == like->addr &&
		    e->len == like->len && e->any_value == like->any_value &&
		    (e->any_value || e->datamatch == like->datamatch)) {
			list_del(&e->link);
			found = e;
			break;
		}
	}
	pthread_mutex_unlock(&s->io_lock);
	if (!found)
		return -ENOENT;
	ioeventfd_free(s->vm, found);
	return 0;
}

int hv_ioeventfd(struct hv_vm *vm, const struct kvm_ioeventfd *f)
{
	const u32 known =
		KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN;
	struct ioeventfd like = {
		.bus = f->flags & KVM_IOEVENTFD_FLAG_PIO ? HV_BUS_PIO : HV_BUS_MMIO,
		.addr = f->addr, .len = f->len,
		.any_value = !(f->flags & KVM_IOEVENTFD_FLAG_DATAMATCH), .datamatch = f->datamatch,
	};
	struct hv_irqfds *s;
	int err;

	if ((f->flags & ~known) || f->len > 8 || (f->len & (f->len - 1)) ||
	    f->addr + f->len < f->addr)
		return -EINVAL;
	if (!f->len && !like.any_value)
		return -EINVAL;
	err = eventfd_id(f->fd, &like.id);
	if (err)
		return err;
	s = get_irqfds(vm);
	if (!s)
		return -ENOMEM;
	return f->flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? ioeventfd_deassign(s, &like) :
							ioeventfd_assign(s, &like, f->fd);
}

/* ---- End of the VM ---- */

void hv_eventfds_free(struct hv_vm *vm)
{
	struct hv_irqfds *s = atomic_load(&vm->irqfds);
	struct list *p, *n;

	if (!s)
		return;
	vfs_notifier_unregister(&s->notifier);
	if (s->quit >= 0) {
		signal_fd(s->quit);
		pthread_join(s->thread, NULL);
	}
	list_for_each_safe(p, n, &s->list)
		irqfd_free(s, list_entry(p, struct irqfd, link));
	list_for_each_safe(p, n, &s->vm->ioeventfds) {
		list_del(p);
		ioeventfd_free(vm, list_entry(p, struct ioeventfd, link));
	}
	if (s->quit >= 0) {
		close(s->epoll);
		close(s->quit);
	}
	atomic_store(&vm->irqfds, NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->io_lock);
	free(s);
}
