/* The blocking layer: a handle with a loop of its own, run until the answer is there. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_impl.h"
#include "storage/env_uv.h"

struct named_producer { struct named_producer *next; struct sluice_producer *producer; char name[]; };

struct sluice {
    struct env *env;
    struct sluice_client *client;
    struct named_producer *producers; /* one per stream that was put to */
    struct env_task wake;
    char message[256];
    int code;
    bool done;
};

static void stop_task(struct env_task *t)
{
    struct sluice *s = container_of(t, struct sluice, wake);
    env_stop(s->env);
}

/* The loop's time stood still while the caller was away: one empty turn brings it up to date. */
static void enter(struct sluice *s)
{
    s->done = false;
    s->code = 0;
    s->message[0] = '\0';
    env_defer(s->env, &s->wake, stop_task);
    env_uv_run(s->env);
}

static void finish(struct sluice *s, int code, const char *message)
{
    s->done = true;
    s->code = code;
    snprintf(s->message, sizeof s->message, "%s", message);
    env_stop(s->env);
}

static int run(struct sluice *s)
{
    while (!s->done) {
        env_uv_run(s->env);
    }
    return s->code;
}

int sluice_connect(const char *endpoints, struct sluice **out)
{
    struct sluice *s = xcalloc(1, sizeof *s);
    if (env_uv_open(&s->env) != 0) {
        free(s);
        return SLUICE_E_MEMORY;
    }
    const struct sluice_client_options o = {.endpoints = endpoints};
    int code = sluice_client_open(s->env, &o, &s->client);
    if (code != 0) {
        env_uv_close(s->env);
        free(s);
        return code;
    }
    *out = s;
    return 0;
}

static void closed(void *user)
{
    finish(user, 0, "");
}

void sluice_disconnect(struct sluice *s)
{
    enter(s);
    for (struct named_producer *p; (p = s->producers) != NULL;) {
        s->producers = p->next;
        sluice_producer_close(p->producer);
        free(p);
    }
    sluice_client_close(s->client, closed, s);
    run(s);
    env_uv_close(s->env);
    free(s);
}

struct env *sluice_env(struct sluice *s)
{
    return s->env;
}

struct sluice_client *sluice_handle(struct sluice *s)
{
    return s->client;
}

const char *sluice_message(const struct sluice *s)
{
    return s->message;
}

/* ---- requests -------------------------------------------------------------------------------------------------------------- */

struct wanted { struct sluice *s; ProtobufCMessage **reply; };

static void request_ended(const struct sluice_result *r, void *user)
{
    struct wanted *w = user;
    if (r->code == 0 && w->reply != NULL) {
        size_t n;
        uint8_t *packed = message_pack(r->reply, &n);
        *w->reply = protobuf_c_message_unpack(r->reply->descriptor, NULL, n, packed);
        free(packed);
    }
    finish(w->s, r->code, r->message);
}

int sluice_request(struct sluice *s, enum frame_kind kind, const ProtobufCMessage *message, const struct sluice_call_options *o,
                   ProtobufCMessage **reply)
{
    enter(s);
    struct wanted w = {.s = s, .reply = reply};
    if (reply != NULL) {
        *reply = NULL;
    }
    int code = sluice_call(s->client, kind, message, o, request_ended, &w);
    return code != 0 ? code : run(s);
}

int sluice_create(struct sluice *s, const char *stream, uint32_t shards)
{
    Sluice__StreamCreate m = SLUICE__STREAM_CREATE__INIT;
    m.name = (char *)(uintptr_t)stream;
    m.shards = shards;
    return sluice_request(s, FRAME_STREAM_CREATE, &m.base, NULL, NULL);
}

/* ---- put ------------------------------------------------------------------------------------------------------------------- */

static void writable(struct sluice_producer *p, void *user)
{
    (void)p;
    finish(user, 0, "");
}

static struct sluice_producer *producer_of(struct sluice *s, const char *stream)
{
    for (struct named_producer *p = s->producers; p != NULL; p = p->next) {
        if (strcmp(p->name, stream) == 0) {
            return p->producer;
        }
    }
    size_t name_size = strlen(stream) + 1;
    struct named_producer *p = xcalloc(1, sizeof *p + name_size);
    memcpy(p->name, stream, name_size);
    const struct sluice_producer_options o = {.writable = writable, .user = s};
    if (sluice_producer_open(s->client, stream, &o, &p->producer) != 0) {
        free(p);
        return NULL;
    }
    p->next = s->producers;
    s->producers = p;
    return p->producer;
}

static void producer_forget(struct sluice *s, struct sluice_producer *producer)
{
    for (struct named_producer **at = &s->producers; *at != NULL; at = &(*at)->next) {
        struct named_producer *p = *at;
        if (p->producer == producer) {
            *at = p->next;
            sluice_producer_close(producer);
            free(p);
            return;
        }
    }
}

struct put_wait { struct sluice *s; char *sequence; };

static void put_ended(const struct sluice_put_result *r, void *user)
{
    struct put_wait *w = user;
    if (r->code == 0 && w->sequence != NULL) {
        sluice_put_sequence(r, w->sequence);
    }
    finish(w->s, r->code, r->message);
}

int sluice_put(struct sluice *s, const char *stream, const void *key, size_t key_len, const void *data, size_t data_len, char *sequence)
{
    enter(s);
    struct sluice_producer *p = producer_of(s, stream);
    if (p == NULL) {
        return SLUICE_E_INVALID;
    }
    struct put_wait w = {.s = s, .sequence = sequence};
    const struct sluice_record r = {.key = key, .key_len = key_len, .data = data, .data_len = data_len};
    int code = sluice_producer_put(p, &r, put_ended, &w);
    while (code == SLUICE_E_BUSY) {
        run(s); /* `writable` ends it */
        s->done = false;
        code = sluice_producer_put(p, &r, put_ended, &w);
    }
    if (code == 0) {
        return run(s);
    }
    const char *message = "";
    if (sluice_producer_error(p, &message) != 0) {
        snprintf(s->message, sizeof s->message, "%s", message);
        producer_forget(s, p); /* the stream may be made later */
    }
    return code;
}

/* ---- get ------------------------------------------------------------------------------------------------------------------- */

struct get_wait { struct sluice *s; bool (*each)(const struct sluice_records *batch, size_t i, void *user); void *user; };

static void get_records(struct sluice_reader *r, const struct sluice_records *batch, void *user)
{
    (void)r;
    struct get_wait *w = user;
    for (size_t i = 0; i < batch->n && !w->s->done; i++) {
        if (!w->each(batch, i, w->user)) {
            finish(w->s, 0, "");
        }
    }
    if (w->s->done) {
        sluice_reader_pause(r, true);
    }
}

static void get_ended(struct sluice_reader *r, const struct sluice_read_end *end, void *user)
{
    (void)r;
    struct get_wait *w = user;
    if (!w->s->done) {
        finish(w->s, end->code, end->message);
    }
}

int sluice_get(struct sluice *s, const char *stream, uint32_t shard, const struct sluice_position *from,
               bool (*each)(const struct sluice_records *batch, size_t i, void *user), void *user)
{
    enter(s);
    struct get_wait w = {.s = s, .each = each, .user = user};
    const struct sluice_reader_options o = {.no_follow = true, .timeout_ms = 30000, .records = get_records, .ended = get_ended, .user = &w};
    struct sluice_reader *r;
    int code = sluice_reader_open(s->client, stream, shard, from, &o, &r);
    if (code != 0) {
        return code;
    }
    code = run(s);
    sluice_reader_close(r);
    return code;
}
