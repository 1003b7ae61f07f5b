/* profiles.c: circumstances in which what a rule prevents becomes likely. Each holds with the rules on, too. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>

#define MS 1000000ull

enum { APART = FAULT_CUT | FAULT_PARTITION | FAULT_RESET, DEATHS = FAULT_KILL | FAULT_POWER };

static const struct world_profile profiles[] = {
    {.name = "", .text = "no profile", .reshard_ms = 2500},
    {.name = "slow-disk", .text = "votes and entries leave long before they are durable; power cuts",
     .faults = FAULT_POWER | FAULT_POWER_ALL | APART, .fixed = true, .nodes = 3, .shards = 16, .seconds = 30, .tick_ms = 20, .tick_spread_ms = 500,
     .restart_ms = 60, .sync_ns = {10 * MS, 150 * MS}},
    {.name = "slow-sync", .text = "disks whose syncs take 100 to 800 ms, 16 shards",
     .faults = FAULT_KILL | FAULT_POWER | FAULT_POWER_ALL | APART, .fixed = true, .nodes = 3, .shards = 16, .sync_ns = {100 * MS, 800 * MS}, .steady = true},
    {.name = "clocks", .text = "one node's wall clock steps by up to 100 days, there and back, while leaders change",
     .faults = FAULT_CLOCK | FAULT_KILL | FAULT_STOP | APART, .fixed = true, .nodes = 3, .shards = 4, .tick_ms = 20, .tick_spread_ms = 400, .restart_ms = 1000},
    {.name = "reshard", .text = "splits and merges all the time, nodes that die or are cut off at every step of them",
     .faults = DEATHS | FAULT_POWER_ALL | APART | FAULT_STOP | FAULT_PAUSE, .nodes = 3, .shards = 3, .operations = 100, .tick_ms = 20, .tick_spread_ms = 500, .restart_ms = 600,
     .keys = 16, .reshard_ms = 250},
    {.name = "reshard-cut", .text = "splits and merges while leaders of parents do not hear of them: links are cut one way; few keys, many writes",
     .faults = FAULT_CUT, .fixed = true, .nodes = 3, .shards = 4, .operations = 400, .tick_ms = 50, .tick_spread_ms = 300, .keys = 6, .reshard_ms = 300},
    {.name = "reshard-moves", .text = "splits and merges while replicas move between five nodes that die, lose their disks and are cut off",
     .faults = FAULT_DRAIN | FAULT_WIPE | FAULT_KILL | APART, .nodes = 5, .shards = 3, .snapshot_bytes = 2 << 10, .trailing_bytes = 512, .reshard_ms = 500},
    {.name = "push", .text = "registered consumers in every seed, over splits and merges; links that are cut, nodes that pause and die",
     .faults = DEATHS | APART | FAULT_PAUSE | FAULT_STOP | FAULT_NET | FAULT_CORRUPT_NET, .nodes = 3, .shards = 3, .operations = 100, .tick_ms = 50, .tick_spread_ms = 600,
     .restart_ms = 800, .reshard_ms = 1500, .subscribers = true},
    {.name = "full-disk", .text = "disks that are nearly full, much data",
     .faults = FAULT_NOSPACE | FAULT_KILL | APART, .nodes = 3, .shards = 2, .operations = 300},
    {.name = "installs", .text = "snapshots every few entries, nodes that lose their disks, slow disks, leaders that die",
     .faults = FAULT_WIPE | FAULT_KILL | APART | FAULT_SLOW_DISK | FAULT_PAUSE, .nodes = 3, .shards = 4, .sync_ns = {MS, 60 * MS},
     .snapshot_bytes = 2 << 10, .trailing_bytes = 1},
    {.name = "moves", .text = "replicas move between five nodes that die and are cut off",
     .faults = FAULT_DRAIN | FAULT_WIPE | FAULT_KILL | APART, .nodes = 5, .shards = 4, .seconds = 30, .snapshot_bytes = 2 << 10, .trailing_bytes = 512},
    {.name = "backlog", .text = "much data for a node that was away", .faults = FAULT_KILL, .fixed = true, .nodes = 3, .shards = 1, .seconds = 20,
     .operations = 60, .tick_ms = 4000, .tick_spread_ms = 4000, .restart_ms = 4000, .snapshot_bytes = 64 << 20, .trailing_bytes = 64 << 20,
     .record_bytes = 60000, .queued_max = 6 << 20},
    {.name = "sole", .text = "a controller group with one voter, whose node loses power all the time, and standbys",
     .faults = FAULT_POWER | FAULT_POWER_ALL | FAULT_KILL | FAULT_DRAIN, .fixed = true, .nodes = 3, .shards = 2, .controller_nodes = 1, .tick_ms = 20,
     .tick_spread_ms = 100, .restart_ms = 300, .sync_ns = {5 * MS, 200 * MS}},
    {.name = "power", .text = "two flushes in flight when the power fails, of one node or of all",
     .faults = FAULT_POWER | FAULT_POWER_ALL, .fixed = true, .nodes = 3, .shards = 4, .operations = 400, .sync_ns = {5 * MS, 40 * MS}},
    {.name = "kill-power", .text = "killed, restarted, then without power, again and again",
     .faults = FAULT_KILL | FAULT_POWER | FAULT_POWER_ALL, .fixed = true, .nodes = 3, .shards = 4, .operations = 100, .tick_ms = 20, .tick_spread_ms = 400,
     .restart_ms = 200, .sync_ns = {5 * MS, 40 * MS}},
    {.name = "recycle", .text = "replicas move, so segments become free; power cuts",
     .faults = FAULT_DRAIN | FAULT_POWER | FAULT_POWER_ALL, .fixed = true, .nodes = 5, .shards = 6, .seconds = 40, .operations = 100,
     .sync_ns = {5 * MS, 60 * MS}},
};

const struct world_profile *profile_find(const char *name)
{
    for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++) {
        if (strcmp(profiles[i].name, name) == 0) {
            return &profiles[i];
        }
    }
    return NULL;
}

void profiles_print(void)
{
    for (size_t i = 1; i < sizeof profiles / sizeof profiles[0]; i++) {
        fprintf(stderr, "  %-12s %s\n", profiles[i].name, profiles[i].text);
    }
}
