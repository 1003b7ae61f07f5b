/* client_load.h: numbered records put by a producer into the fake cluster: each is completed once; what became of it is compared with the store. */
#ifndef SLUICE_CLIENT_LOAD_H
#define SLUICE_CLIENT_LOAD_H

#include "client_fake.h"

enum { KEYS = 16, RECORDS_MAX = 20000 };

struct load {
    struct fake *fake;
    struct sluice_client *client;
    struct sluice_producer *producer;
    uint32_t total, next, completed, acked, failed, unknown;
    uint32_t seen[RECORDS_MAX];       /* how often record i is in the store */
    int outcome[RECORDS_MAX];         /* -1 not completed, else enum sluice_outcome */
    uint64_t last_offset[FAKE_SHARDS];
    bool any[FAKE_SHARDS];
    unsigned max_attempts;
    int last_code;
    int64_t last_of_key[KEYS];
    uint64_t in_store;
    bool busy_seen;
    bool put_again; /* a rejected record is put again from within its callback, so order is not what it was */
    unsigned again;
};

struct ref { struct load *load; uint32_t i; };
static struct ref refs[RECORDS_MAX];

static inline void put_done(const struct sluice_put_result *r, void *user)
{
    struct ref *ref = user;
    struct load *l = ref->load;
    assert_int_equal(l->outcome[ref->i], -1); /* completed once */
    if (l->put_again && r->outcome == SLUICE_REJECTED) {
        char key[16], data[64];
        int key_len = snprintf(key, sizeof key, "k%u", ref->i % KEYS), data_len = snprintf(data, sizeof data, "%u", ref->i);
        const struct sluice_record rec = {.key = key, .key_len = (size_t)key_len, .data = data, .data_len = (size_t)data_len};
        assert_int_equal(sluice_producer_put(l->producer, &rec, put_done, ref), 0);
        l->again++;
        return;
    }
    l->outcome[ref->i] = (int)r->outcome;
    l->completed++;
    l->acked += r->outcome == SLUICE_DONE;
    l->failed += r->outcome == SLUICE_REJECTED;
    l->unknown += r->outcome == SLUICE_UNKNOWN;
    if (r->code == 0) {
        assert_true(!l->any[r->shard] || r->offset > l->last_offset[r->shard]);
        l->any[r->shard] = true;
        l->last_offset[r->shard] = r->offset;
        assert_int_equal(r->shard_created_s, 1000 + r->shard);
    } else {
        l->last_code = r->code;
    }
    l->max_attempts = r->attempts > l->max_attempts ? r->attempts : l->max_attempts;
    if (l->completed == l->total) {
        env_stop(l->fake->env);
    }
}

static inline void feed(struct load *l)
{
    while (l->next < l->total) {
        char key[16], data[64];
        int key_len = snprintf(key, sizeof key, "k%u", l->next % KEYS);
        int data_len = snprintf(data, sizeof data, "%u", l->next);
        refs[l->next] = (struct ref){l, l->next};
        l->outcome[l->next] = -1;
        const struct sluice_record r = {.key = key, .key_len = (size_t)key_len, .data = data, .data_len = (size_t)data_len};
        int code = sluice_producer_put(l->producer, &r, put_done, &refs[l->next]);
        if (code == SLUICE_E_BUSY) {
            l->busy_seen = true;
            return;
        }
        assert_int_equal(code, 0);
        l->next++;
    }
}

static inline void writable(struct sluice_producer *p, void *user)
{
    struct load *l = user;
    if (sluice_producer_error(p, NULL) == 0) {
        feed(l);
    } else {
        env_stop(l->fake->env);
    }
}

static inline struct load *load_open(struct fake *f, uint32_t total, const struct sluice_producer_options *options, const struct sluice_client_options *co)
{
    struct load *l = xcalloc(1, sizeof *l);
    l->fake = f;
    l->total = total;
    l->client = fake_client(f, co);
    struct sluice_producer_options o = options != NULL ? *options : (struct sluice_producer_options){.batch_bytes = 512};
    o.writable = writable;
    o.user = l;
    assert_int_equal(sluice_producer_open(l->client, "s", &o, &l->producer), 0);
    feed(l);
    return l;
}

static inline void see(const struct batch_record *r, void *arg)
{
    struct load *l = arg;
    char text[32] = "";
    assert_true(r->data_len < sizeof text);
    memcpy(text, r->data, r->data_len);
    unsigned i = (unsigned)atoi(text);
    assert_true(i < l->total);
    l->seen[i]++;
    l->in_store++;
    unsigned key = i % KEYS;
    assert_true(l->put_again || (int64_t)i > l->last_of_key[key]); /* in the order of the puts */
    l->last_of_key[key] = i;
}

static inline void look(struct load *l)
{
    for (unsigned k = 0; k < KEYS; k++) {
        l->last_of_key[k] = -1;
    }
    for (uint32_t s = 0; s < FAKE_SHARDS; s++) {
        fake_each(l->fake, s, see, l);
    }
    for (uint32_t i = 0; i < l->total; i++) {
        if (l->outcome[i] == SLUICE_DONE) {
            assert_int_equal(l->seen[i], 1);
        } else if (l->outcome[i] == SLUICE_REJECTED) {
            assert_int_equal(l->seen[i], 0);
        } else {
            assert_true(l->seen[i] <= 1);
        }
    }
}

static inline void load_close(struct load *l)
{
    sluice_producer_close(l->producer);
    sluice_client_close(l->client, NULL, NULL);
    fake_run(l->fake, 20);
    fake_close(l->fake);
    free(l);
}

#endif
