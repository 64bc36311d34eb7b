// SPDX-License-Identifier: MIT
/*
 * IOTLB messages: the tables that a client fills, and how a parent hears of them.
 *
 * The node's lock covers tables and batch state, so writers are serial. A
 * parent with set_map gets whole tables, at the end of a batch or after each
 * change; one with dma_map gets each change at once, batch or not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdpa/vhost/vhost_priv.h"

#define MSG_SIZE 72		/* of both forms, and the result of a write */
#define MSG_HEAD 8
#define MSG_LEAST (MSG_HEAD + sizeof(struct vhost_iotlb_msg))

static int push_table(struct vhost_vdpa *v, u32 asid)
{
	int ret;

	vhost_dev_lock(v);
	ret = v->dev->ops->set_map(v->dev, asid, v->as[asid]);
	vhost_dev_unlock(v);
	return ret;
}

/* A new entry, in the table and with the parent, or in neither. */
static int map_piece(struct vhost_vdpa *v, u32 asid, const struct vdpa_map *m)
{
	const struct vdpa_config_ops *ops = v->dev->ops;
	int err = vdpa_iotlb_add(v->as[asid], m);

	if (err)
		return err;
	if (ops->dma_map) {
		vhost_dev_lock(v);
		err = ops->dma_map(v->dev, asid, m);
		vhost_dev_unlock(v);
	} else if (ops->set_map && !v->in_batch) {
		err = push_table(v, asid);
	}
	if (err)
		vdpa_iotlb_del(v->as[asid], m->start, m->last);
	return err;
}

static int unmap(struct vhost_vdpa *v, u32 asid, u64 start, u64 last)
{
	const struct vdpa_config_ops *ops = v->dev->ops;
	const struct vdpa_map *m;
	int err = 0;

	if (ops->dma_unmap) {
		while ((m = vdpa_iotlb_find(v->as[asid], start, last))) {
			u64 from = m->start, to = m->last;
			int ret;

			vhost_dev_lock(v);
			ret = ops->dma_unmap(v->dev, asid, from, to);
			vhost_dev_unlock(v);
			err = err ? err : ret;
			vdpa_iotlb_del(v->as[asid], from, to);
		}
		return err;
	}
	vdpa_iotlb_del(v->as[asid], start, last);
	return ops->set_map && !v->in_batch ? push_table(v, asid) : 0;
}

void vhost_unmap_all(struct vhost_vdpa *v)
{
	v->in_batch = false;
	for (u32 asid = 0; asid < v->dev->nas; asid++) {
		/* Nobody is there to hear of a failure; the memory goes either way. */
		if (v->as[asid] && vdpa_iotlb_count(v->as[asid]) && unmap(v, asid, 0, UINT64_MAX))
			v->in_batch = false;
		vdpa_iotlb_free(v->as[asid]);
		v->as[asid] = NULL;
	}
}

/* ---- UPDATE ---- */

static struct vdpa_mem *piece_mem(const struct vhost_vdpa *v, pid_t pid, const struct vhost_piece *p, u8 perm)
{
	bool write = perm & VDPA_WO;

	if (write && !p->writable) {
		errno = EFAULT;
		return NULL;
	}
	return p->fd >= 0 ? vdpa_mem_shared(p->fd, p->off, p->len, write) :
			    vdpa_mem_foreign(pid, p->uaddr, p->len, write);
}

static int map_pieces(struct vhost_vdpa *v, u32 asid, pid_t pid, const struct vhost_iotlb_msg *msg,
		      const struct vhost_piece *p, unsigned n)
{
	u64 at = msg->iova, left = msg->size;

	for (unsigned i = 0; i < n && left; i++) {
		struct vdpa_map m = { .start = at, .perm = msg->perm };
		struct vhost_piece part = p[i];
		int err;

		part.len = min(part.len, left);
		if (!part.len)
			continue;
		m.last = at + (part.len - 1);
		at += part.len;
		left -= part.len;
		/* Whoever hands files on has no use for other memory, and is not asked for it. */
		if (v->dev->use_va && part.fd < 0)
			continue;
		m.mem = piece_mem(v, pid, &part, msg->perm);
		err = m.mem ? map_piece(v, asid, &m) : -errno;
		if (m.mem)
			vdpa_mem_put(m.mem);
		if (err)
			return err;
	}
	return left ? -EFAULT : 0;
}

static int update(struct vhost_vdpa *v, u32 asid, pid_t pid, const struct vhost_iotlb_msg *msg,
		  const struct vhost_piece *p, unsigned n)
{
	const struct vhost_piece all = { .len = msg->size, .uaddr = msg->uaddr, .fd = -1, .writable = true };
	u64 last = msg->iova + (msg->size - 1);
	int err;

	if (msg->iova < v->first || last > v->last || last < msg->iova)
		return -EINVAL;
	if (!msg->perm || msg->perm > VDPA_RW)
		return -EINVAL;
	if (vdpa_iotlb_find(v->as[asid], msg->iova, last))
		return -EEXIST;
	err = n ? map_pieces(v, asid, pid, msg, p, n) : map_pieces(v, asid, pid, msg, &all, 1);
	/* What the message had mapped goes; that there was nothing before makes this exact. */
	if (err && vdpa_iotlb_find(v->as[asid], msg->iova, last) && unmap(v, asid, msg->iova, last))
		return err;
	return err;
}

/* ---- Messages ---- */

static int make_as(struct vhost_vdpa *v, u32 asid)
{
	if (asid >= v->dev->nas)
		return -EINVAL;
	if (!v->as[asid])
		v->as[asid] = vdpa_iotlb_new(VDPA_IOTLB_ENTRIES);
	return v->as[asid] ? 0 : -ENOMEM;
}

static int end_batch(struct vhost_vdpa *v, u32 asid)
{
	bool was = v->in_batch;

	v->in_batch = false;
	return was && v->dev->ops->set_map ? push_table(v, asid) : 0;
}

static int process(struct vhost_vdpa *v, u32 asid, pid_t pid, const struct vhost_iotlb_msg *msg,
		   const struct vhost_piece *p, unsigned n)
{
	if (!v->owner || v->owner != pid)
		return -EPERM;
	if (msg->type == VHOST_IOTLB_UPDATE || msg->type == VHOST_IOTLB_BATCH_BEGIN) {
		int err = make_as(v, asid);

		if (err)
			return err;
	}
	if (asid >= v->dev->nas || !v->as[asid] || (v->in_batch && asid != v->batch_asid))
		return -EINVAL;
	switch (msg->type) {
	case VHOST_IOTLB_UPDATE:
		return update(v, asid, pid, msg, p, n);
	case VHOST_IOTLB_INVALIDATE:
		return unmap(v, asid, msg->iova, msg->iova + (msg->size - 1));
	case VHOST_IOTLB_BATCH_BEGIN:
		v->in_batch = true;
		v->batch_asid = asid;
		return 0;
	case VHOST_IOTLB_BATCH_END:
		return end_batch(v, asid);
	default:
		return -EINVAL;
	}
}

long vhost_vdpa_write(struct vhost_vdpa *v, pid_t pid, const void *buf, size_t len,
		      const struct vhost_piece *pieces, unsigned n)
{
	struct vhost_iotlb_msg msg;
	u32 type, asid = 0;
	int err;

	if (len < MSG_LEAST)
		return -EINVAL;
	memcpy(&type, buf, sizeof(type));
	memcpy(&msg, (const u8 *)buf + MSG_HEAD, sizeof(msg));
	if (type != VHOST_IOTLB_MSG && type != VHOST_IOTLB_MSG_V2)
		return -EINVAL;
	if ((msg.type == VHOST_IOTLB_UPDATE || msg.type == VHOST_IOTLB_INVALIDATE) && !msg.size)
		return -EINVAL;
	pthread_mutex_lock(&v->lock);
	if (type == VHOST_IOTLB_MSG_V2 && v->backend_features & 1ull << VHOST_BACKEND_F_IOTLB_ASID)
		memcpy(&asid, (const u8 *)buf + sizeof(type), sizeof(asid));
	err = process(v, asid, pid, &msg, pieces, n);
	pthread_mutex_unlock(&v->lock);
	/* Linux tells no reasons here. */
	return err ? -EFAULT : MSG_SIZE;
}
