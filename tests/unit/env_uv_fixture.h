/* env_uv_fixture.h: what the tests of env_uv share: a loop with a deadline, and folders of their own. */
#ifndef SLUICE_ENV_UV_FIXTURE_H
#define SLUICE_ENV_UV_FIXTURE_H

#include "proto/base.h"
#include "storage/env_uv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN_MS_MAX 20000u

static inline struct env *open_loop(void)
{
    struct env *env;
    assert_int_equal(env_uv_open(&env), 0);
    return env;
}

static inline void too_late(struct env_timer *t)
{
    (void)t;
    fprintf(stderr, "the loop was not stopped in time\n");
    abort();
}

/* Runs until a callback stops the loop; a test that hangs fails instead. */
static inline void run_loop(struct env *env)
{
    struct env_timer deadline;
    assert_int_equal(env_timer_init(env, &deadline, too_late), 0);
    env_timer_start_ms(&deadline, RUN_MS_MAX);
    env_uv_run(env);
    env_timer_close(&deadline);
}

/* A fresh folder under the build's temporary files; the caller removes it by remove_dir(). */
static inline void make_dir(char path[64])
{
    snprintf(path, 64, "/tmp/sluice-env-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void remove_dir(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", path, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

#endif
