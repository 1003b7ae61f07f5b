/* Two looks as rates, in tables or as JSON. A rate that is not known is negative: at the first look, or when a shard's leader, who counts, has changed. */
#include <stdlib.h>

#include "client/cli/top.h"

struct rates { double in, in_bytes, out, out_bytes; };

static double rate(double before, double now, double seconds)
{
    return seconds > 0 && now >= before ? (now - before) / seconds : -1;
}

static void add_known(double *sum, double v)
{
    *sum = v < 0 ? *sum : *sum < 0 ? v : *sum + v;
}

static void rates_add(struct rates *sum, const struct rates *r)
{
    add_known(&sum->in, r->in);
    add_known(&sum->in_bytes, r->in_bytes);
    add_known(&sum->out, r->out);
    add_known(&sum->out_bytes, r->out_bytes);
}

static const struct rates unknown = {-1, -1, -1, -1};

static const struct top_shard *shard_find(const struct top_look *l, const char *stream, uint32_t shard)
{
    for (size_t i = 0; i < l->n_streams; i++) {
        for (size_t j = 0; strcmp(l->streams[i].name, stream) == 0 && j < l->streams[i].n; j++) {
            if (l->streams[i].shards[j].shard == shard) {
                return &l->streams[i].shards[j];
            }
        }
    }
    return NULL;
}

static struct rates shard_rates(const struct top_look *before, const struct top_look *now, const char *stream, const struct top_shard *s)
{
    const struct top_shard *was = shard_find(before, stream, s->shard);
    if (was == NULL || !was->answered || !s->answered) {
        return unknown;
    }
    double seconds = (double)(now->at_ns - before->at_ns) / 1e9;
    struct rates r = {.in = rate((double)was->end, (double)s->end, seconds), .in_bytes = -1, .out = -1, .out_bytes = -1};
    if (was->leader == s->leader) {
        r.in_bytes = rate((double)was->written_bytes, (double)s->written_bytes, seconds);
        r.out = rate((double)was->read_records, (double)s->read_records, seconds);
        r.out_bytes = rate((double)was->read_bytes, (double)s->read_bytes, seconds);
    }
    return r;
}

/* ---- streams --------------------------------------------------------------------------------------------------------------- */

struct sum { const struct top_stream *stream; struct rates rates; unsigned open, leaderless; uint64_t records, behind; };

static struct sum stream_sum(const struct top_look *before, const struct top_look *now, const struct top_stream *s)
{
    struct sum sum = {.stream = s, .rates = unknown};
    for (size_t i = 0; i < s->n; i++) {
        const struct top_shard *shard = &s->shards[i];
        struct rates r = shard_rates(before, now, s->name, shard);
        rates_add(&sum.rates, &r);
        sum.open += shard->open;
        sum.leaderless += shard->open && shard->leader == 0;
        sum.records += shard->answered ? shard->end - min_u64(shard->first, shard->end) : 0;
        sum.behind = max_u64(sum.behind, shard->behind);
    }
    return sum;
}

static int by_in(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    return x->rates.in < y->rates.in ? 1 : x->rates.in > y->rates.in ? -1 : strcmp(x->stream->name, y->stream->name);
}

static int by_out(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    return x->rates.out < y->rates.out ? 1 : x->rates.out > y->rates.out ? -1 : strcmp(x->stream->name, y->stream->name);
}

static int by_behind(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    return x->behind < y->behind ? 1 : x->behind > y->behind ? -1 : strcmp(x->stream->name, y->stream->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct sum *)a)->stream->name, ((const struct sum *)b)->stream->name);
}

static struct sum *sums(const struct top_look *before, const struct top_look *now, enum top_sort sort)
{
    static int (*const orders[])(const void *, const void *) = {[TOP_BY_NAME] = by_name, [TOP_BY_IN] = by_in, [TOP_BY_OUT] = by_out, [TOP_BY_BEHIND] = by_behind};
    struct sum *all = xcalloc(now->n_streams + 1, sizeof *all);
    for (size_t i = 0; i < now->n_streams; i++) {
        all[i] = stream_sum(before, now, &now->streams[i]);
    }
    qsort(all, now->n_streams, sizeof *all, orders[sort]);
    return all;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------------- */

struct load { double cores; struct rates rates; double p50_ms, p99_ms; };

static const struct top_node *node_find(const struct top_look *l, uint32_t id)
{
    for (size_t i = 0; i < l->n_nodes; i++) {
        if (l->nodes[i].id == id && l->nodes[i].known) {
            return &l->nodes[i];
        }
    }
    return NULL;
}

static struct load node_load(const struct top_look *before, const struct top_node *n)
{
    struct load l = {.cores = -1, .rates = unknown, .p50_ms = -1, .p99_ms = -1};
    const struct top_node *was = n->known ? node_find(before, n->id) : NULL;
    if (was == NULL || n->cpu_s < was->cpu_s) { /* or it was started anew */
        return l;
    }
    double seconds = (double)(n->at_ns - was->at_ns) / 1e9;
    l.cores = rate(was->cpu_s, n->cpu_s, seconds);
    l.rates = (struct rates){.in = rate(was->put_records, n->put_records, seconds), .in_bytes = rate(was->put_bytes, n->put_bytes, seconds),
                             .out = rate(was->fetch_records, n->fetch_records, seconds), .out_bytes = rate(was->fetch_bytes, n->fetch_bytes, seconds)};
    l.p50_ms = exposition_quantile(&was->put_latency, &n->put_latency, 0.5) * 1e3;
    l.p99_ms = exposition_quantile(&was->put_latency, &n->put_latency, 0.99) * 1e3;
    return l;
}

static const char *state_text(int state)
{
    static const char *const texts[] = {"alive", "dead", "draining", "removed", "joining"};
    return state >= 0 && state < (int)ARRAY_LEN(texts) ? texts[state] : "unknown";
}

/* ---- tables ---------------------------------------------------------------------------------------------------------------- */

static void cell(struct cli_table *t, double v, double factor, const char *format)
{
    if (v < 0) {
        cli_table_cell(t, "-");
    } else {
        char text[32];
        snprintf(text, sizeof text, format, v * factor);
        cli_table_cell(t, "%s", text);
    }
}

static void rate_cells(struct cli_table *t, const struct rates *r)
{
    cell(t, r->in, 1, "%.0f");
    cell(t, r->in_bytes, 1e-6, "%.2f");
    cell(t, r->out, 1, "%.0f");
    cell(t, r->out_bytes, 1e-6, "%.2f");
}

static void heads(struct cli_table *t, const char *const *names)
{
    for (unsigned i = 0; i < t->columns; i++) {
        cli_table_cell(t, "%s", names[i]);
    }
}

static void print_nodes(FILE *to, const struct top_look *before, const struct top_look *now)
{
    static const char *const names[] = {"NODE", "STATE", "ADDRESS", "CPU %", "RSS", "DISK FREE", "LEADERS", "REPLICAS", "IN/S", "IN MB/S", "OUT/S", "OUT MB/S", "P50 MS", "P99 MS"};
    struct cli_table t = {.columns = ARRAY_LEN(names)};
    heads(&t, names);
    for (size_t i = 0; i < now->n_nodes; i++) {
        const struct top_node *n = &now->nodes[i];
        struct load l = node_load(before, n);
        char resident[32], disk[32];
        cli_table_cell(&t, "%u", n->id);
        cli_table_cell(&t, "%s", state_text(n->state));
        cli_table_cell(&t, "%s", n->address);
        cell(&t, l.cores, 100, "%.1f");
        cli_table_cell(&t, "%s", n->known ? cli_bytes(n->resident, resident) : "-");
        cli_table_cell(&t, "%s", n->known ? cli_bytes(n->disk_free, disk) : "-");
        cli_table_cell(&t, "%u", n->leaders);
        cli_table_cell(&t, "%u", n->replicas);
        rate_cells(&t, &l.rates);
        cell(&t, l.p50_ms, 1, "%.2f");
        cell(&t, l.p99_ms, 1, "%.2f");
    }
    cli_table_print(&t, to);
}

static void print_streams(FILE *to, const struct top_look *before, const struct top_look *now, struct top_view view)
{
    static const char *const names[] = {"STREAM", "SHARD", "LEADER", "RECORDS", "IN/S", "IN MB/S", "OUT/S", "OUT MB/S", "BEHIND"};
    struct cli_table t = {.columns = ARRAY_LEN(names)};
    heads(&t, names);
    struct sum *all = sums(before, now, view.sort);
    for (size_t i = 0; i < now->n_streams; i++) {
        const struct top_stream *s = all[i].stream;
        cli_table_cell(&t, "%s", s->name);
        cli_table_cell(&t, "%u open", all[i].open);
        if (all[i].leaderless > 0) {
            cli_table_cell(&t, "%u lack one", all[i].leaderless);
        } else {
            cli_table_cell(&t, "all");
        }
        cli_table_cell(&t, "%llu", (unsigned long long)all[i].records);
        rate_cells(&t, &all[i].rates);
        cli_table_cell(&t, "%llu", (unsigned long long)all[i].behind);
        for (size_t j = 0; view.shards && j < s->n; j++) {
            const struct top_shard *shard = &s->shards[j];
            struct rates r = shard_rates(before, now, s->name, shard);
            cli_table_cell(&t, "  ");
            cli_table_cell(&t, "%u%s", shard->shard, shard->open ? "" : " closed");
            if (shard->leader != 0) {
                cli_table_cell(&t, "node %u", shard->leader);
            } else {
                cli_table_cell(&t, "none");
            }
            cell(&t, shard->answered ? (double)(shard->end - min_u64(shard->first, shard->end)) : -1, 1, "%.0f");
            rate_cells(&t, &r);
            cell(&t, shard->answered ? (double)shard->behind : -1, 1, "%.0f");
        }
    }
    free(all);
    cli_table_print(&t, to);
}

void top_print(FILE *to, const struct top_look *before, const struct top_look *now, struct top_view view)
{
    fprintf(to, "%u stream%s, %u shard%s, %u without a leader, %u under-replicated\n", now->n_streams_all, now->n_streams_all == 1 ? "" : "s", now->n_shards_all,
            now->n_shards_all == 1 ? "" : "s", now->leaderless, now->under_replicated);
    if (now->seen_by != 0) {
        fprintf(to, "the controller's leader did not answer: this is what node %u sees itself\n", now->seen_by);
    }
    fputc('\n', to);
    print_nodes(to, before, now);
    fputc('\n', to);
    print_streams(to, before, now, view);
    if (now->more) {
        fprintf(to, "(the first %d streams and %d shards)\n", TOP_STREAMS_MAX, TOP_SHARDS_MAX);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------------ */

static void set(json_t *o, const char *name, double v)
{
    json_object_set_new(o, name, v < 0 ? json_null() : json_real(v));
}

static void set_rates(json_t *o, const struct rates *r)
{
    set(o, "records_per_s", r->in);
    set(o, "bytes_per_s", r->in_bytes);
    set(o, "read_records_per_s", r->out);
    set(o, "read_bytes_per_s", r->out_bytes);
}

static json_t *node_json(const struct top_look *before, const struct top_node *n)
{
    struct load l = node_load(before, n);
    bool alive = n->state == SLUICE__NODE_INFO__STATE__ALIVE || n->state == SLUICE__NODE_INFO__STATE__DRAINING;
    json_t *o = json_pack("{s:I, s:s, s:b, s:s, s:i, s:i}", "node", (json_int_t)n->id, "state", state_text(n->state), "alive", alive, "address", n->address,
                          "leaders", (int)n->leaders, "replicas", (int)n->replicas);
    set(o, "cores", l.cores);
    set(o, "rss_bytes", n->known ? n->resident : -1);
    set(o, "disk_free_bytes", n->known ? n->disk_free : -1);
    set_rates(o, &l.rates);
    set(o, "put_p50_ms", l.p50_ms);
    set(o, "put_p99_ms", l.p99_ms);
    return o;
}

/* What its leader told, or null. */
static json_t *known(const struct top_shard *s, uint64_t v)
{
    return s->answered ? json_integer((json_int_t)v) : json_null();
}

static json_t *stream_json(const struct top_look *before, const struct top_look *now, const struct sum *s)
{
    json_t *shards = json_array();
    for (size_t i = 0; i < s->stream->n; i++) {
        const struct top_shard *shard = &s->stream->shards[i];
        struct rates r = shard_rates(before, now, s->stream->name, shard);
        json_t *o = json_pack("{s:I, s:b, s:o, s:o, s:o, s:o}", "shard", (json_int_t)shard->shard, "open", shard->open, "leader",
                              shard->leader != 0 ? json_integer(shard->leader) : json_null(), "first", known(shard, shard->first), "next", known(shard, shard->end),
                              "entries_behind", known(shard, shard->behind));
        set_rates(o, &r);
        json_array_append_new(shards, o);
    }
    json_t *o = json_pack("{s:s, s:i, s:i, s:I, s:I}", "stream", s->stream->name, "open_shards", (int)s->open, "without_leader", (int)s->leaderless, "records",
                          (json_int_t)s->records, "entries_behind", (json_int_t)s->behind);
    set_rates(o, &s->rates);
    json_object_set_new(o, "shards", shards);
    return o;
}

json_t *top_json(const struct top_look *before, const struct top_look *now)
{
    json_t *nodes = json_array(), *streams = json_array();
    for (size_t i = 0; i < now->n_nodes; i++) {
        json_array_append_new(nodes, node_json(before, &now->nodes[i]));
    }
    struct sum *all = sums(before, now, TOP_BY_NAME);
    for (size_t i = 0; i < now->n_streams; i++) {
        json_array_append_new(streams, stream_json(before, now, &all[i]));
    }
    free(all);
    return json_pack("{s:i, s:i, s:o, s:o}", "shards_without_leader", (int)now->leaderless, "under_replicated", (int)now->under_replicated, "nodes", nodes,
                     "streams", streams);
}
