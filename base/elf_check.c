// SPDX-License-Identifier: MIT
/*
 * Programs into which nothing can be preloaded, by what their files say. Every
 * byte is untrusted: a file is read in pieces with pread(), none of it mapped.
 */
#include "base/elf_check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/types.h"

#define MAX_SCRIPTS 5		/* as deep as the kernel follows */
#define MAX_PHDRS 4096
#define LOADER "ld-linux-x86-64.so.2"

struct check {
	int fd;
	char *why;
	size_t size;
};

static int __printf(2, 3) refuse(struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, c->size, fmt, ap);
	va_end(ap);
	return -ENOEXEC;
}

/* A program that gets rights by its file runs in the linker's secure mode. */
static int check_rights(struct check *c)
{
	struct stat st;

	if (fstat(c->fd, &st) < 0)
		return -errno;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return refuse(c, "it is set-user-ID, and such programs load no preload objects");
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		return refuse(c, "it is set-group-ID, and such programs load no preload objects");
	if (getuid() && fgetxattr(c->fd, "security.capability", NULL, 0) > 0)
		return refuse(c, "its file has capabilities, and such programs load no preload objects");
	return 0;
}

static int check_interp(struct check *c, const Elf64_Phdr *p)
{
	char name[256];
	size_t len = min(p->p_filesz, sizeof(name) - 1);
	const char *base;

	if (pread(c->fd, name, len, (off_t)p->p_offset) != (ssize_t)len)
		return refuse(c, "its program header is damaged");
	name[len] = 0;
	base = strrchr(name, '/');
	if (strcmp(base ? base + 1 : name, LOADER))
		return refuse(c, "its dynamic linker is %s, not glibc's " LOADER, name);
	return 0;
}

static int check_elf(struct check *c)
{
	Elf64_Ehdr e;
	Elf64_Phdr p;

	/* The leading bytes are the same in both classes. */
	memset(&e, 0, sizeof(e));
	if (pread(c->fd, &e, sizeof(e), 0) < (ssize_t)sizeof(Elf32_Ehdr))
		return refuse(c, "its ELF header is cut off");
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB ||
	    e.e_machine != EM_X86_64)
		return refuse(c, "it is no program for 64-bit x86 (ELF machine %u, class %u)", e.e_machine,
			      e.e_ident[EI_CLASS]);
	if (e.e_phentsize != sizeof(p) || e.e_phnum > MAX_PHDRS)
		return refuse(c, "its program header is damaged");
	for (unsigned i = 0; i < e.e_phnum; i++) {
		if (pread(c->fd, &p, sizeof(p), (off_t)(e.e_phoff + i * sizeof(p))) != (ssize_t)sizeof(p))
			return refuse(c, "its program header is cut off");
		if (p.p_type == PT_INTERP)
			return check_interp(c, &p);
	}
	return refuse(c, "it is statically linked, so it loads no preload objects");
}

/* The interpreter of a "#!" line into @out, or an empty string if this is no script. */
static int script_interp(struct check *c, char *out, size_t size)
{
	ssize_t n = pread(c->fd, out, size - 1, 0);
	char *start, *end;

	if (n < 0)
		return -errno;
	out[n] = 0;
	if (n < 2 || out[0] != '#' || out[1] != '!') {
		out[0] = 0;
		return 0;
	}
	start = out + 2 + strspn(out + 2, " \t");
	end = start + strcspn(start, " \t\n");
	*end = 0;
	if (!*start)
		return refuse(c, "its first line names no interpreter");
	memmove(out, start, (size_t)(end - start) + 1);
	return 0;
}

static int check_file(struct check *c, char *interp, size_t size)
{
	char magic[SELFMAG] = "";
	int ret = check_rights(c);

	if (!ret)
		ret = script_interp(c, interp, size);
	if (ret || interp[0])
		return ret;
	if (pread(c->fd, magic, SELFMAG, 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG))
		return refuse(c, "it is neither an ELF program nor a '#!' script");
	return check_elf(c);
}

int elf_check_preload(const char *path, char *why, size_t size)
{
	char name[2][256];
	struct check c = { .why = why, .size = size };

	for (unsigned depth = 0; depth < MAX_SCRIPTS; depth++) {
		char *interp = name[depth & 1];
		int ret;

		c.fd = open(path, O_RDONLY | O_CLOEXEC);
		if (c.fd < 0)
			return -errno;
		ret = check_file(&c, interp, sizeof(name[0]));
		close(c.fd);
		if (ret || !interp[0])
			return ret;
		path = interp;
	}
	return refuse(&c, "its interpreter is a script of a script, and so on");
}

/*
 * SYSCALL with the number put into EAX shortly before: MOV EAX, imm32 below 512. The
 * two bytes alone stand in every large program somewhere.
 */
static bool has_syscall(const u8 *p, size_t len)
{
	for (size_t i = 1; i + 1 < len; i++) {
		if (p[i] != 0x0f || p[i + 1] != 0x05)
			continue;
		for (size_t at = i > 24 ? i - 24 : 0; at + 5 <= i; at++) {
			if (p[at] == 0xb8 && p[at + 2] < 2 && !p[at + 3] && !p[at + 4])
				return true;
		}
	}
	return false;
}

bool elf_has_syscalls(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	u8 piece[16384];
	bool found = false;
	Elf64_Ehdr e;
	Elf64_Phdr p;

	if (fd < 0)
		return false;
	if (pread(fd, &e, sizeof(e), 0) != sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG))
		e.e_phnum = 0;
	for (unsigned i = 0; i < e.e_phnum && !found; i++) {
		if (pread(fd, &p, sizeof(p), (off_t)(e.e_phoff + i * sizeof(p))) != (ssize_t)sizeof(p))
			break;
		if (p.p_type != PT_LOAD || !(p.p_flags & PF_X))
			continue;
		/* Pieces overlap, so that no pair is cut. */
		for (u64 off = 0; off < p.p_filesz && !found; off += sizeof(piece) - 32) {
			ssize_t n = pread(fd, piece, min(sizeof(piece), p.p_filesz - off),
					  (off_t)(p.p_offset + off));

			if (n <= 0)
				break;
			found = has_syscall(piece, (size_t)n);
		}
	}
	close(fd);
	return found;
}

bool elf_names(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = strlen(text);
	char piece[16384];
	bool found = false;
	off_t off = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	if (pread(fd, piece, SELFMAG, 0) == SELFMAG && !memcmp(piece, ELFMAG, SELFMAG)) {
		/* Pieces overlap here too. */
		while (!found && (n = pread(fd, piece, sizeof(piece), off)) >= (ssize_t)len) {
			found = memmem(piece, (size_t)n, text, len);
			off += n - (ssize_t)len + 1;
		}
	}
	close(fd);
	return found;
}
