/* A small simulated world for the env_sim tests. */
#ifndef SLUICE_ENV_SIM_FIXTURE_H
#define SLUICE_ENV_SIM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "proto/base.h"
#include "storage/env_sim.h"

#define MS 1000000u
#define SEC 1000000000u

static inline struct sim_options world_options(uint64_t seed)
{
    return (struct sim_options){
        .seed = seed,
        .net = { .delay_ns = { 100000, 2 * MS } },
        .disk = { .sync_ns = { 1 * MS, 4 * MS }, .write_ns = { 10000, 100000 }, .read_ns = { 50000, 200000 } },
    };
}

/* Runs the world by another ms. */
static inline void run_ms(struct sim *s, uint64_t ms) { sim_run_until(s, sim_now_ns(s) + ms * MS); }

/* main of a process that only hands out its env. */
static inline void keep_env(struct env *env, void *arg) { *(struct env **)arg = env; }

#endif
