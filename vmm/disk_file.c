// SPDX-License-Identifier: MIT
/* Disks on raw files and block devices of the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/virtio_blk.h"

struct file_disk {
	int fd;
	bool can_punch;
};

/* Transfer all of @iov at @off; the host may take it in parts. */
static int transfer(int fd, const struct iovec *iov, unsigned nr, u64 off, bool is_write)
{
	for (unsigned i = 0; i < nr; i++) {
		u8 *p = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left) {
			ssize_t n = is_write ? pwrite(fd, p, left, (off_t)off)
					     : pread(fd, p, left, (off_t)off);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return -errno;
			if (n == 0) {
				/* The file shrank behind our back. */
				return -EIO;
			}
			p += n;
			left -= (size_t)n;
			off += (u64)n;
		}
	}
	return 0;
}

/* Zeroes where the host cannot punch holes. */
static int write_zeroes(int fd, u64 off, u64 len)
{
	static const u8 zeroes[65536];

	while (len) {
		struct iovec iov = {.iov_base = (void *)zeroes,
				    .iov_len = min(len, (u64)sizeof(zeroes))};
		int ret = transfer(fd, &iov, 1, off, true);

		if (ret)
			return ret;
		off += iov.iov_len;
		len -= iov.iov_len;
	}
	return 0;
}

static int file_size(int fd, u64 *size, bool *regular)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*regular = S_ISREG(st.st_mode);
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	if (!*regular)
		return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
	*size = (u64)st.st_size;
	return 0;
}

static void *file_open(const char *path, bool readonly, int cancel_fd, struct vmm_disk_info *info, char err[256])
{
	struct file_disk *f = calloc(1, sizeof(*f));
	int ret = -ENOMEM;

	if (!f)
		goto out;
	f->fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (f->fd < 0) {
		ret = -errno;
		goto out;
	}
	*info = (struct vmm_disk_info){.readonly = readonly, .flush = true, .discard = true, .change_fd = -1};
	ret = file_size(f->fd, &info->size, &f->can_punch);
	if (!ret)
		return f;
	close(f->fd);
out:
	free(f);
	snprintf(err, 256, "disk %s: %s%s", path,
		 ret == -ENOTBLK ? "neither a file nor a block device" : strerror(-ret),
		 !readonly && (ret == -EACCES || ret == -EROFS) ? " (read-only: add ',ro')" : "");
	errno = -ret;
	return NULL;
}

static void file_close(void *disk)
{
	struct file_disk *f = disk;

	close(f->fd);
	free(f);
}

static int file_rw(void *disk, const struct iovec *iov, unsigned nr, u64 off, bool is_write)
{
	return transfer(((struct file_disk *)disk)->fd, iov, nr, off, is_write);
}

static int file_flush(void *disk)
{
	return fdatasync(((struct file_disk *)disk)->fd) < 0 ? -errno : 0;
}

static int punch(const struct file_disk *f, u64 off, u64 len)
{
	if (!f->can_punch)
		return -EOPNOTSUPP;
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0 ? -errno : 0;
}

static int file_discard(void *disk, u64 off, u64 len)
{
	return punch(disk, off, len);
}

static int file_zero(void *disk, u64 off, u64 len, bool unmap)
{
	struct file_disk *f = disk;

	if (unmap && !punch(f, off, len))
		return 0;
	return write_zeroes(f->fd, off, len);
}

const struct vmm_disk_ops vmm_disk_file = {
	.open = file_open,
	.close = file_close,
	.rw = file_rw,
	.flush = file_flush,
	.discard = file_discard,
	.zero = file_zero,
};
