/* shard_clock.c: the time a leader gives to entries of its log (F31: a leader with a wrong clock must neither poison the times of records nor trim the shard).
 *
 * Every liveness record of a link carries the peer's wall clock. The leader takes the median over the replicas of the group, its own clock included: time = max(last time,
 * min(own clock, median + 5 s)). All are kept as distances from the leader's monotonic clock, which never steps: taken from its wall clock, the others' would step with it. A trim is proposed only while a majority of the clocks lies within a minute of the median. */
#include "proto/base.h"
#include "server/node_impl.h"
#include "server/shard.h"

enum { CLOCK_AHEAD_MS = 5000, CLOCK_AGREE_MS = 60000 };

static void look_at_clocks(struct shard *s)
{
    uint64_t now = env_now_ms(s->lane->env);
    if (s->clocks_seen_ms != 0 && now - s->clocks_seen_ms < LANE_TICK_MS) {
        return;
    }
    s->clocks_seen_ms = now;
    struct group_peer peers[REPLICAS_MAX + 2];
    unsigned n = group_peers(s->group, peers, ARRAY_LEN(peers));
    int64_t offsets[REPLICAS_MAX + 2];
    int64_t own = (int64_t)env_wall_ms(s->lane->env) - (int64_t)(env_clock_ns(s->lane->env) / 1000000u);
    unsigned known = 0;
    unsigned voters = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!peers[i].voter) {
            continue;
        }
        voters++;
        int64_t offset = own;
        if (peers[i].raft_id != s->raft_id && !links_clock_offset(groups_links(s->lane->groups), raft_id_node(peers[i].raft_id), &offset)) {
            continue;
        }
        unsigned at = known++;
        while (at > 0 && offsets[at - 1] > offset) {
            offsets[at] = offsets[at - 1];
            at--;
        }
        offsets[at] = offset;
    }
    s->median_clock_ms = known > 0 ? offsets[(known - 1) / 2] : own;
    unsigned agree = 0;
    for (unsigned i = 0; i < known; i++) {
        int64_t away = offsets[i] - s->median_clock_ms;
        agree += away >= -CLOCK_AGREE_MS && away <= CLOCK_AGREE_MS;
    }
    s->clocks_agree = 2 * agree > voters;
}

uint64_t shard_time(struct shard *s)
{
    look_at_clocks(s);
    int64_t bound = (int64_t)env_now_ms(s->lane->env) + s->median_clock_ms + CLOCK_AHEAD_MS;
    return max_u64(s->time_in_flight, bound > 0 ? min_u64(env_wall_ms(s->lane->env), (uint64_t)bound) : 0);
}

bool shard_clocks_agree(struct shard *s)
{
    look_at_clocks(s);
    return s->clocks_agree;
}
