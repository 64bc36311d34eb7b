// SPDX-License-Identifier: MIT
/* Virtio device core: status, features, the device's thread. */
#include "vmm/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

u64 virtio_offered(const struct virtio_dev *d)
{
	return d->features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
	       BIT(VIRTIO_RING_F_EVENT_IDX);
}

bool virtio_running(const struct virtio_dev *d)
{
	return (d->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

bool virtio_has(const struct virtio_dev *d, unsigned feature)
{
	return d->driver_features & BIT(feature);
}

static void virtio_reset(struct virtio_dev *d)
{
	d->status = 0;
	d->driver_features = 0;
	for (unsigned i = 0; i < d->ops->nr_queues; i++)
		virtq_reset(&d->vq[i], d->ops->queue_size);
	if (d->ops->reset)
		d->ops->reset(d);
}

void virtio_set_status(struct virtio_dev *d, u8 status)
{
	const u8 ours = VIRTIO_CONFIG_S_NEEDS_RESET;

	if (!status) {
		virtio_reset(d);
		return;
	}
	/* Bits are set one after the other and leave only by reset. */
	status |= d->status;
	status = (u8)((status & ~ours) | (d->status & ours));
	/* "Device Initialization": refuse the choice by not keeping FEATURES_OK. */
	if ((status & VIRTIO_CONFIG_S_FEATURES_OK) && !(d->status & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((d->driver_features & ~virtio_offered(d)) || !virtio_has(d, VIRTIO_F_VERSION_1)))
		status &= (u8)~VIRTIO_CONFIG_S_FEATURES_OK;
	if ((status & VIRTIO_CONFIG_S_DRIVER_OK) && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		status &= (u8)~VIRTIO_CONFIG_S_DRIVER_OK;
	if ((status & ~d->status) & VIRTIO_CONFIG_S_DRIVER_OK) {
		d->status = status;
		/* Buffers may have been made available before. */
		for (unsigned i = 0; i < d->ops->nr_queues; i++)
			if (d->vq[i].enabled)
				eventfd_write(d->kick_fd[i], 1);
	}
	d->status = status;
}

void virtio_broken(struct virtio_dev *d, const char *why)
{
	if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	log_warn("virtio-%s: the guest's driver broke the rules: %s; device stopped", d->ops->name,
		 why);
	d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK)
		d->raise(d, -1);
}

bool virtio_pop(struct virtio_dev *d, unsigned q, struct virtq_chain *c)
{
	const char *why;
	int ret;

	if (!virtio_running(d) || !d->vq[q].enabled || atomic_load(&d->stop))
		return false;
	ret = virtq_pop(&d->vq[q], d->mem, c, &why);
	/* Empty: look again after asking for notifications, or one could be missed. */
	if (ret == 0 && virtq_set_notify(&d->vq[q], true))
		ret = virtq_pop(&d->vq[q], d->mem, c, &why);
	if (ret < 0)
		virtio_broken(d, why);
	return ret > 0;
}

void virtio_push(struct virtio_dev *d, unsigned q, const struct virtq_chain *c, u32 len)
{
	virtq_push(&d->vq[q], c->head, len);
}

void virtio_flush(struct virtio_dev *d, unsigned q)
{
	if (d->vq[q].enabled && virtq_want_irq(&d->vq[q]))
		d->raise(d, (int)q);
}

static void *virtio_thread(void *arg)
{
	struct virtio_dev *d = arg;
	const unsigned nq = d->ops->nr_queues;
	struct pollfd fds[VIRTIO_MAX_POLLFDS];

	while (!atomic_load(&d->stop)) {
		unsigned n = 0;
		int timeout = -1, ret;

		for (unsigned i = 0; i < nq; i++)
			fds[i] = (struct pollfd){ .fd = d->kick_fd[i], .events = POLLIN };
		fds[nq] = (struct pollfd){ .fd = d->stop_fd, .events = POLLIN };
		if (d->ops->poll_fill) {
			pthread_mutex_lock(&d->lock);
			n = d->ops->poll_fill(d, fds + nq + 1, VIRTIO_MAX_POLLFDS - nq - 1,
					      &timeout);
			pthread_mutex_unlock(&d->lock);
		}
		ret = poll(fds, nq + 1 + n, timeout);
		if (ret < 0 && errno != EINTR)
			log_error("virtio-%s: poll: %s", d->ops->name, strerror(errno));
		pthread_mutex_lock(&d->lock);
		for (unsigned i = 0; i < nq && ret > 0; i++) {
			eventfd_t count;

			if (!(fds[i].revents & POLLIN) || eventfd_read(d->kick_fd[i], &count))
				continue;
			if (virtio_running(d) && d->vq[i].enabled)
				d->ops->notify(d, i);
		}
		if (d->ops->poll_done)
			d->ops->poll_done(d, fds + nq + 1, n, ret < 0);
		pthread_mutex_unlock(&d->lock);
	}
	return NULL;
}

int virtio_init(struct virtio_dev *d)
{
	int ret;

	pthread_mutex_init(&d->lock, NULL);
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		d->kick_fd[i] = -1;
	d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->stop_fd < 0)
		goto fail;
	for (unsigned i = 0; i < d->ops->nr_queues; i++) {
		virtq_reset(&d->vq[i], d->ops->queue_size);
		d->kick_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->kick_fd[i] < 0)
			goto fail;
	}
	return 0;
fail:
	ret = -errno;
	virtio_exit(d);
	return ret;
}

int virtio_start(struct virtio_dev *d)
{
	sigset_t all, old;
	int ret;

	/* Signals belong to the machine's own thread and to vCPUs. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = pthread_create(&d->thread, NULL, virtio_thread, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	d->started = ret == 0;
	return -ret;
}

void virtio_stop(struct virtio_dev *d)
{
	if (!d->started)
		return;
	atomic_store(&d->stop, true);
	eventfd_write(d->stop_fd, 1);
	if (d->ops->abandon) {
		struct timespec until;

		/* Not pthread_clockjoin_np(): ThreadSanitizer does not know it and reports a leak. */
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += VIRTIO_STOP_MS / 1000;
		if (!pthread_timedjoin_np(d->thread, NULL, &until)) {
			d->started = false;
			return;
		}
		d->ops->abandon(d);
	}
	pthread_join(d->thread, NULL);
	d->started = false;
}

void virtio_exit(struct virtio_dev *d)
{
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		if (d->kick_fd[i] >= 0)
			close(d->kick_fd[i]);
	if (d->stop_fd >= 0)
		close(d->stop_fd);
	pthread_mutex_destroy(&d->lock);
}
