/* env_uv.h: the real world behind env.h: libuv loops, helper threads, files and TCP sockets. */
#ifndef SLUICE_ENV_UV_H
#define SLUICE_ENV_UV_H

#include "env.h"

/* Opens the first loop of a process; standard files that are closed are taken by /dev/null, unusable. *out is freed by env_uv_close(). 0 or -errno. */
int env_uv_open(struct env **out);
/* Runs until env_stop(); returns 0. */
int env_uv_run(struct env *env);
/* After env_uv_run() returned. Ends helper threads; handles left open are abandoned. */
void env_uv_close(struct env *env);
/* How long a loop polls without blocking while traffic is on (microseconds; 0, the default: not at all). A loop that was
 * idle for 1 ms blocks, so that an idle node takes no processor time. */
void env_uv_set_spin(struct env *env, unsigned spin_us);

#endif
