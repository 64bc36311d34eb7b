// SPDX-License-Identifier: MIT
/*
 * Programs that a client starts: they get their arguments whichever of libc's
 * functions is used, and one that cannot have a /dev/kvm, but names it, is told of.
 * Replay: build/userkvm run -- build/tests/shim/shim_started build/tests/shim/shim_static_kvm \
 *   build/tests/shim/shim_static
 */
#include <errno.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *client, *other;
static char said[2048];

#define ARGS "prog", "one", "two"
static char *const argv3[] = { (char *)"prog", (char *)"one", (char *)"two", NULL };
static char *const given[] = { (char *)"GIVEN=1", (char *)"PATH=/nonexistent", NULL };

static void by_execv(const char *p) { execv(p, argv3); }
static void by_execve(const char *p) { execve(p, argv3, given); }
static void by_execvp(const char *p) { execvp(p, argv3); }
static void by_execvpe(const char *p) { execvpe(p, argv3, given); }
static void by_execl(const char *p) { execl(p, ARGS, (char *)NULL); }
static void by_execlp(const char *p) { execlp(p, ARGS, (char *)NULL); }
static void by_execle(const char *p) { execle(p, ARGS, (char *)NULL, given); }

static void wait_for(pid_t pid)
{
	int status;

	_exit(waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static void by_posix_spawn(const char *p)
{
	pid_t pid;

	if (!posix_spawn(&pid, p, NULL, NULL, argv3, given))
		wait_for(pid);
}

static void by_posix_spawnp(const char *p)
{
	pid_t pid;

	if (!posix_spawnp(&pid, p, NULL, NULL, argv3, given))
		wait_for(pid);
}

/* The exit status; @said has what came on standard error. */
static int start(void (*way)(const char *), const char *program)
{
	int pair[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (!pid) {
		dup2(pair[1], STDERR_FILENO);
		close(pair[0]);
		close(pair[1]);
		way(program);
		_exit(errno == ENOENT ? 98 : 97);
	}
	close(pair[1]);
	while ((got = read(pair[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = 0;
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const struct {
	void (*fn)(const char *);
	int env, searches;
} ways[] = {
	{ by_execv, 0, 0 }, { by_execve, 1, 0 }, { by_execvp, 0, 1 }, { by_execvpe, 1, 1 }, { by_execl, 0, 0 },
	{ by_execlp, 0, 1 }, { by_execle, 1, 0 }, { by_posix_spawn, 1, 0 }, { by_posix_spawnp, 1, 1 },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void named_with_a_slash(void **state)
{
	char want[512];

	snprintf(want, sizeof(want), "userkvm: warning: %s gets no /dev/kvm: it is statically linked, so it loads no "
		 "preload objects\n", client);
	for (unsigned i = 0; i < WAYS; i++) {
		assert_int_equal(start(ways[i].fn, client), 30 + ways[i].env);
		assert_string_equal(said, want);
		/* Nothing about what does not look for KVM, nor about what gets one. */
		assert_int_equal(start(ways[i].fn, other), 0);
		assert_string_equal(said, "");
		assert_int_equal(start(ways[i].fn, "/bin/true"), 0);
		assert_string_equal(said, "");
		assert_int_equal(start(ways[i].fn, "/nonexistent/x"), 98);
		assert_string_equal(said, "");
	}
}

static void found_by_path(void **state)
{
	char folder[512], path[1024];
	const char *name = strrchr(client, '/') + 1;

	snprintf(folder, sizeof(folder), "%.*s", (int)(name - 1 - client), client);
	snprintf(path, sizeof(path), "/nonexistent:%s:/bin", folder);
	setenv("PATH", path, 1);
	for (unsigned i = 0; i < WAYS; i++) {
		int status = start(ways[i].fn, name);

		assert_int_equal(status, ways[i].searches ? 30 + ways[i].env : 98);
		assert_int_equal(!!strstr(said, "gets no /dev/kvm"), ways[i].searches);
	}
}

/* A shell between. */
static void started_by_a_shell(void **state)
{
	char line[600];
	FILE *shell;
	size_t n;

	snprintf(line, sizeof(line), "exec 2>&1; %s a b", client);
	shell = popen(line, "r");
	assert_non_null(shell);
	n = fread(said, 1, sizeof(said) - 1, shell);
	said[n] = 0;
	assert_int_equal(WEXITSTATUS(pclose(shell)), 30);
	assert_non_null(strstr(said, "gets no /dev/kvm"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(named_with_a_slash),
		cmocka_unit_test(started_by_a_shell),
		cmocka_unit_test(found_by_path),
	};

	if (argc < 3)
		return 2;
	client = realpath(argv[1], NULL);
	other = realpath(argv[2], NULL);
	return cmocka_run_group_tests_name("started", tests, NULL, NULL);
}
