// SPDX-License-Identifier: MIT
/*
 * Open files of the hub: a thread for each life, a thread for each channel.
 *
 * A file is released when its life is closed and the last call has returned;
 * channels are shut down for that, so no new call begins. All lists are under
 * one lock, which is not held across any operation.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "vdpa/hub/hub_priv.h"
#include "vdpa/vdpa.h"

/* Threads keep two messages on their stacks, and parents may need some more. */
#define STACK_SIZE (256 * 1024)
#define SETTLE_S 2

struct chan {
	struct open_file *file;
	int sock;
	struct list node;
};

struct open_file {
	struct hub_file f;
	struct list node;
	int life;
	struct list chans;
	struct vdpa_msg open;	/* the request, told to processes that got the descriptor later */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t chan_gone = PTHREAD_COND_INITIALIZER;
static const struct hub_file_ops *kinds[VDPA_FILE_KINDS];
static struct list files = LIST_INIT(files);
static pthread_cond_t file_gone = PTHREAD_COND_INITIALIZER;
static unsigned nfiles, nholds;

void hub_file_register(const struct hub_file_ops *ops)
{
	BUG_ON(ops->kind >= VDPA_FILE_KINDS || kinds[ops->kind]);
	kinds[ops->kind] = ops;
}

void hub_hold(void)
{
	pthread_mutex_lock(&lock);
	nholds++;
	pthread_mutex_unlock(&lock);
}

void hub_unhold(void)
{
	pthread_mutex_lock(&lock);
	BUG_ON(!nholds);
	nholds--;
	pthread_mutex_unlock(&lock);
}

bool hub_has_files(void)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = nfiles || nholds;
	pthread_mutex_unlock(&lock);
	return has;
}

void hub_reply(struct vdpa_msg *rep, const void *data, u32 len)
{
	BUG_ON(len > VDPA_MSG_DATA - rep->head.len);
	memcpy(rep->data + rep->head.len, data, len);
	rep->head.len += len;
}

void hub_reply_fd(struct vdpa_msg *rep, int fd)
{
	BUG_ON(rep->nfds == VDPA_MSG_FDS);
	rep->fds[rep->nfds++] = fd;
}

static int start_thread(void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t t;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	err = -pthread_create(&t, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return err;
}

/* ---- Channels ---- */

static void answer(struct open_file *of, struct vdpa_msg *req, struct vdpa_msg *rep)
{
	rep->head = (struct vdpa_msg_head){ .op = req->head.op };
	rep->nfds = 0;
	if (req->head.op == VDPA_OP_KIND) {
		hub_reply(rep, of->open.data, of->open.head.len);
		rep->head.value = of->f.ops->kind;
	} else {
		rep->head.value = of->f.ops->call(&of->f, req, rep);
	}
}

static void *serve_chan(void *arg)
{
	struct chan *c = arg;
	struct open_file *of = c->file;
	struct vdpa_msg req, rep;
	int err;

	vdpa_caller = c->sock;
	while (!(err = vdpa_msg_recv(c->sock, &req)) || err == -EPROTO) {
		if (err)
			continue;
		answer(of, &req, &rep);
		vdpa_msg_close_fds(&req);
		err = vdpa_msg_send(c->sock, &rep);
		vdpa_msg_close_fds(&rep);
		if (err)
			break;
	}
	pthread_mutex_lock(&lock);
	list_del(&c->node);
	pthread_cond_broadcast(&chan_gone);
	pthread_mutex_unlock(&lock);
	close(c->sock);
	free(c);
	return NULL;
}

static void add_chan(struct open_file *of, struct vdpa_msg *m)
{
	struct chan *c = m->nfds == 1 ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return;		/* the caller closes the descriptor, and the client sees that */
	c->file = of;
	c->sock = m->fds[0];
	pthread_mutex_lock(&lock);
	list_add_tail(&c->node, &of->chans);
	pthread_mutex_unlock(&lock);
	if (!start_thread(serve_chan, c)) {
		m->nfds = 0;
		return;
	}
	pthread_mutex_lock(&lock);
	list_del(&c->node);
	pthread_mutex_unlock(&lock);
	free(c);
}

static void end_chans(struct open_file *of)
{
	struct list *p;

	pthread_mutex_lock(&lock);
	list_for_each(p, &of->chans)
		shutdown(list_entry(p, struct chan, node)->sock, SHUT_RDWR);
	while (!list_empty(&of->chans))
		pthread_cond_wait(&chan_gone, &lock);
	pthread_mutex_unlock(&lock);
}

/* ---- Lives ---- */

void hub_file_end(struct hub_file *f)
{
	shutdown(container_of(f, struct open_file, f)->life, SHUT_RDWR);
}

/* Lock held. */
static bool any_closed(void)
{
	struct list *p;

	list_for_each(p, &files) {
		struct pollfd life = { .fd = list_entry(p, struct open_file, node)->life };

		if (poll(&life, 1, 0) > 0 && (life.revents & POLLHUP))
			return true;
	}
	return false;
}

void hub_settle(void)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SETTLE_S;
	pthread_mutex_lock(&lock);
	while (any_closed() && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&file_gone, &lock, &until);
	pthread_mutex_unlock(&lock);
}

/* The first message says what is wanted. 0, or -errno after having answered so. */
static int begin(struct open_file *of)
{
	struct vdpa_msg rep = { .nfds = 0 };
	int err;

	do
		err = vdpa_msg_recv(of->life, &of->open);
	while (err == -EPROTO);
	if (err)
		return err;
	rep.head = (struct vdpa_msg_head){ .op = VDPA_OP_OPEN };
	if (of->open.head.op != VDPA_OP_OPEN || of->open.head.value < 0 ||
	    of->open.head.value >= VDPA_FILE_KINDS || !kinds[of->open.head.value]) {
		err = -ENOTTY;
	} else {
		of->f.ops = kinds[of->open.head.value];
		err = of->f.ops->open(&of->f, &of->open, &rep);
	}
	vdpa_msg_close_fds(&of->open);
	rep.head.value = err;
	/* That the client is gone already shows when its life is read. */
	if (vdpa_msg_send(of->life, &rep))
		log_debug("vdpa: a client left while it was answered");
	vdpa_msg_close_fds(&rep);
	return err;
}

static void *serve_file(void *arg)
{
	struct open_file *of = arg;
	struct vdpa_msg m;
	int err;

	if (!begin(of)) {
		while (!(err = vdpa_msg_recv(of->life, &m)) || err == -EPROTO) {
			if (!err && m.head.op == VDPA_OP_ATTACH)
				add_chan(of, &m);
			if (!err)
				vdpa_msg_close_fds(&m);
		}
		end_chans(of);
		if (of->f.ops->release)
			of->f.ops->release(&of->f);
	}
	pthread_mutex_lock(&lock);
	nfiles--;
	list_del(&of->node);
	pthread_cond_broadcast(&file_gone);
	pthread_mutex_unlock(&lock);
	close(of->life);
	free(of);
	return NULL;
}

void hub_new_client(int sock)
{
	struct open_file *of = calloc(1, sizeof(*of));
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (of && !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.uid == geteuid()) {
		of->life = sock;
		of->f.pid = cred.pid;
		list_init(&of->chans);
		pthread_mutex_lock(&lock);
		nfiles++;
		list_add_tail(&of->node, &files);
		pthread_mutex_unlock(&lock);
		if (!start_thread(serve_file, of))
			return;
		pthread_mutex_lock(&lock);
		nfiles--;
		list_del(&of->node);
		pthread_mutex_unlock(&lock);
	}
	free(of);
	close(sock);
}
