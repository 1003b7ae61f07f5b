/* Encoding and decoding of the entries of feature level 2: what streams, consumers and accounts carry beside their shards. */
#include "server/controller_entry.h"

void out_long(struct out_buffer *out, const char *text)
{
    size_t n = strlen(text);
    sluice_assert(n <= UINT16_MAX);
    out_u16(out, (uint16_t)n);
    out_bytes(out, text, n);
}

char *cursor_long(struct cursor *c, size_t max, char **texts)
{
    size_t n = cursor_u16(c);
    const char *p = n <= max ? cursor_take(c, n) : NULL;
    if (p == NULL || memchr(p, 0, n) != NULL) {
        c->bad = true;
        return NULL;
    }
    char *text = *texts;
    memcpy(text, p, n);
    text[n] = '\0';
    *texts += n + 1;
    return text;
}

void map_tags_encode(const struct map_tag *tags, unsigned n, struct out_buffer *out)
{
    out_u16(out, (uint16_t)n);
    for (unsigned i = 0; i < n; i++) {
        out_long(out, tags[i].key);
        out_long(out, tags[i].value);
    }
}

unsigned map_tags_decode(struct map_tag *tags, struct cursor *c, char **texts)
{
    unsigned n = cursor_u16(c);
    c->bad |= n > TAGS_MAX;
    for (unsigned i = 0; i < n && !c->bad; i++) {
        tags[i].key = cursor_long(c, TAG_KEY_BYTES, texts);
        tags[i].value = cursor_long(c, TAG_VALUE_BYTES, texts);
        c->bad |= !c->bad && tags[i].key[0] == '\0';
    }
    return c->bad ? 0 : n;
}

void controller_entry_meta_encode(const struct controller_entry *e, struct out_buffer *out)
{
    switch (e->kind) {
    case CONTROLLER_LEVEL:
        out_u32(out, e->level);
        break;
    case CONTROLLER_STREAM_CREATE_WITH:
        out_u32(out, e->warm_mibps);
        map_tags_encode(e->tags, e->n_tags, out);
        controller_entry_create_encode(e, out);
        break;
    case CONTROLLER_STREAM_CHANGE:
        out_bytes(out, e->stream_id, 16);
        out_u32(out, e->retention_hours);
        out_u8(out, (uint8_t)e->way);
        out_u8(out, e->limits);
        out_u32(out, e->record_max);
        out_u8(out, (uint8_t)e->mode);
        out_u32(out, e->metrics_on);
        out_u32(out, e->metrics_off);
        out_u8(out, e->warm);
        out_u32(out, e->warm_mibps);
        break;
    case CONTROLLER_STREAM_DROP:
        out_bytes(out, e->stream_id, 16);
        break;
    case CONTROLLER_CONSUMER_REGISTER:
        out_bytes(out, e->stream_id, 16);
        out_text(out, e->name);
        map_tags_encode(e->tags, e->n_tags, out);
        break;
    case CONTROLLER_CONSUMER_REMOVE:
        out_bytes(out, e->stream_id, 16);
        out_u64(out, e->consumer);
        break;
    case CONTROLLER_RESOURCE:
        out_bytes(out, e->stream_id, 16);
        out_u64(out, e->consumer);
        map_tags_encode(e->tags, e->n_tags, out);
        out_u16(out, (uint16_t)e->n_untags);
        for (uint32_t i = 0; i < e->n_untags; i++) {
            out_long(out, e->untags[i].key);
        }
        out_u8(out, (uint8_t)e->policy_op);
        out_long(out, e->policy_op == POLICY_SET ? e->policy : "");
        break;
    case CONTROLLER_ACCOUNT:
        out_text(out, e->account);
        out_u8(out, e->commitment);
        break;
    case CONTROLLER_TOKEN_KEY:
        out_bytes(out, e->token_key, sizeof e->token_key);
        break;
    default:
        sluice_assert(false);
    }
}

/* Each text has its length before it, so what is left has room for all of them with their ends. */
static char *texts_begin(struct controller_entry *e, struct cursor *c)
{
    e->texts = xmalloc(c->left + 1);
    e->tags = xcalloc(TAGS_MAX, sizeof *e->tags);
    return e->texts;
}

static void decode_change(struct controller_entry *e, struct cursor *c)
{
    cursor_bytes(c, e->stream_id, 16);
    e->retention_hours = cursor_u32(c);
    uint8_t way = cursor_u8(c);
    e->limits = cursor_u8(c);
    e->record_max = cursor_u32(c);
    uint8_t mode = cursor_u8(c);
    e->metrics_on = cursor_u32(c);
    e->metrics_off = cursor_u32(c);
    e->warm = cursor_bool(c);
    e->warm_mibps = cursor_u32(c);
    c->bad |= way > RETENTION_DOWN || e->limits > 2 || mode > MODE_ON_DEMAND;
    e->way = way;
    e->mode = mode;
}

static void decode_resource(struct controller_entry *e, struct cursor *c)
{
    cursor_bytes(c, e->stream_id, 16);
    e->consumer = cursor_u64(c);
    char *texts = texts_begin(e, c);
    e->n_tags = map_tags_decode(e->tags, c, &texts);
    uint32_t n = cursor_u16(c);
    c->bad |= n > TAGS_MAX;
    e->untags = xcalloc(TAGS_MAX, sizeof *e->untags);
    for (uint32_t i = 0; i < n && !c->bad; i++) {
        e->untags[i].key = cursor_long(c, TAG_KEY_BYTES, &texts);
    }
    e->n_untags = c->bad ? 0 : n;
    uint8_t op = cursor_u8(c);
    e->policy = cursor_long(c, POLICY_BYTES, &texts);
    c->bad |= op > POLICY_DROP || (e->policy != NULL && (e->policy[0] != '\0') != (op == POLICY_SET));
    e->policy_op = op;
}

void controller_entry_meta_decode(struct controller_entry *e, struct cursor *c)
{
    char *texts;
    switch (e->kind) {
    case CONTROLLER_LEVEL:
        e->level = cursor_u32(c);
        c->bad |= e->level <= FEATURE_LEVEL_FIRST;
        break;
    case CONTROLLER_STREAM_CREATE_WITH:
        e->warm_mibps = cursor_u32(c);
        texts = texts_begin(e, c);
        e->n_tags = map_tags_decode(e->tags, c, &texts);
        controller_entry_create_decode(e, c);
        break;
    case CONTROLLER_STREAM_CHANGE:
        decode_change(e, c);
        break;
    case CONTROLLER_STREAM_DROP:
        cursor_bytes(c, e->stream_id, 16);
        break;
    case CONTROLLER_CONSUMER_REGISTER:
        cursor_bytes(c, e->stream_id, 16);
        cursor_text(c, e->name, sizeof e->name);
        texts = texts_begin(e, c);
        e->n_tags = map_tags_decode(e->tags, c, &texts);
        break;
    case CONTROLLER_CONSUMER_REMOVE:
        cursor_bytes(c, e->stream_id, 16);
        e->consumer = cursor_u64(c);
        break;
    case CONTROLLER_RESOURCE:
        decode_resource(e, c);
        break;
    case CONTROLLER_ACCOUNT:
        cursor_text(c, e->account, sizeof e->account);
        e->commitment = cursor_u8(c);
        c->bad |= e->commitment == 0 || e->commitment > 2;
        break;
    case CONTROLLER_TOKEN_KEY:
        cursor_bytes(c, e->token_key, sizeof e->token_key);
        break;
    default:
        c->bad = true;
    }
}
