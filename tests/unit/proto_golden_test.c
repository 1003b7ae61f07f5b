/* golden bytes: what the code writes and reads is what tests/golden says, and proto/README.md shows those very files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/base.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "proto/seqno.h"
#include "sluice.pb-c.h"

struct golden {
    char *text;
    uint8_t bytes[1024];
    size_t n;
};

static char *read_text(const char *name)
{
    char path[1000];
    snprintf(path, sizeof(path), "%s/%s", SLUICE_GOLDEN_DIR, name);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        fail_msg("cannot open %s", path);
    }
    char *text = calloc(1, 1 << 20);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

/* Hex bytes separated by spaces; '#' begins a remark. */
static struct golden load(const char *name)
{
    char file[100];
    snprintf(file, sizeof(file), "%s.hex", name);
    struct golden g = {.text = read_text(file)};
    for (const char *p = g.text; *p != '\0';) {
        if (*p == '#') {
            p += strcspn(p, "\n");
        } else if (*p == ' ' || *p == '\n') {
            p++;
        } else {
            unsigned v;
            assert_int_equal(sscanf(p, "%2x", &v), 1);
            assert_true(g.n < sizeof(g.bytes));
            g.bytes[g.n++] = (uint8_t)v;
            p += 2;
        }
    }
    return g;
}

static void assert_golden(const char *name, const void *bytes, size_t n)
{
    struct golden g = load(name);
    assert_int_equal(n, g.n);
    assert_memory_equal(bytes, g.bytes, n);
    free(g.text);
}

static uint8_t stream_id[16];
static uint8_t producer_id[16];

static struct hash128 own_hash(void) { return (struct hash128){{[0] = 0x80, [15] = 0x2a}}; }

/* The two records of batch_plain. */
static void *make_plain(size_t *n)
{
    struct batch_builder b;
    batch_builder_init(&b);
    struct hash128 hash;
    hash_key_of("key", 3, &hash);
    assert_int_equal(batch_builder_add(&b, "key", 3, "hello", 5, &hash, false), 0);
    hash = own_hash();
    assert_int_equal(batch_builder_add(&b, "k2", 2, NULL, 0, &hash, true), 0);
    const struct batch_identity id = {
        .stream_id = stream_id, .shard = 7, .producer_id = producer_id, .producer_epoch = 3, .producer_sequence = 41};
    void *out;
    assert_int_equal(batch_builder_finish(&b, &id, false, &out, n), 0);
    batch_builder_deinit(&b);
    return out;
}

static void test_frames(void **state)
{
    (void)state;
    uint8_t ping[FRAME_HEADER_SIZE];
    frame_header_encode(ping, FRAME_PING, 0x1122334455667788, NULL, 0, 0);
    assert_golden("frame_ping", ping, sizeof(ping));

    Sluice__Hello hello = SLUICE__HELLO__INIT;
    hello.version_min = 1;
    hello.version_max = 1;
    hello.agent = (char *)"sluice-cli/0.1";
    size_t n;
    uint8_t *frame = frame_encode(FRAME_HELLO, 1, &hello, 0, &n);
    assert_golden("frame_hello", frame, n);
    free(frame);

    size_t batch_len;
    void *batch = make_plain(&batch_len);
    Sluice__Put put = SLUICE__PUT__INIT;
    put.stream_id = (ProtobufCBinaryData){16, stream_id};
    put.shard = 7;
    frame = frame_encode(FRAME_PUT, 2, &put, (uint32_t)batch_len, &n);
    frame = realloc(frame, n + batch_len);
    memcpy(frame + n, batch, batch_len);
    assert_golden("frame_put", frame, n + batch_len);
    free(frame);
    free(batch);
}

/* The golden bytes, read back through the stream reader. */
static void test_read_golden_put(void **state)
{
    (void)state;
    struct golden g = load("frame_put");
    struct frame_reader r;
    frame_reader_init(&r, 1000, 1000);
    void *base;
    assert_true(frame_reader_buffer(&r, &base) >= g.n);
    memcpy(base, g.bytes, g.n);
    frame_reader_fed(&r, g.n);
    struct frame f;
    assert_int_equal(frame_reader_next(&r, &f), 1);
    assert_int_equal(f.kind, FRAME_PUT);
    assert_int_equal(f.correlation, 2);
    Sluice__Put *put = sluice__put__unpack(NULL, f.message_len, f.message);
    assert_non_null(put);
    assert_int_equal(put->shard, 7);
    assert_int_equal(put->stream_id.len, 16);
    sluice__put__free_unpacked(put, NULL);
    assert_golden("batch_plain", f.payload, f.payload_len);
    frame_reader_deinit(&r);
    free(g.text);
}

static void test_batches(void **state)
{
    (void)state;
    size_t n;
    void *batch = make_plain(&n);
    assert_golden("batch_plain", batch, n);
    batch_stamp(batch, 1000, 1700000000123, 77, 5);
    assert_golden("batch_stamped", batch, n);
    free(batch);
}

/* LZ4 may find other matches in another version of the library: only the reading is fixed. */
static void test_lz4_batch(void **state)
{
    (void)state;
    struct golden g = load("batch_lz4");
    void *scratch = NULL;
    size_t scratch_size = 0;
    struct batch_header h;
    assert_int_equal(batch_check(g.bytes, g.n, 100, &scratch, &scratch_size, &h, NULL), SLUICE_E_OK);
    assert_int_equal(h.codec, BATCH_LZ4);
    struct batch_reader r;
    assert_int_equal(batch_reader_open(&r, g.bytes, g.n, &scratch, &scratch_size, NULL), SLUICE_E_OK);
    struct batch_record rec;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(batch_reader_next(&r, &rec), 1);
        assert_int_equal(rec.key[0], 'k');
        assert_int_equal(rec.data_len, 64);
        for (size_t k = 0; k < 64; k++) {
            assert_int_equal(rec.data[k], 'a');
        }
    }
    assert_int_equal(batch_reader_next(&r, &rec), 0);
    free(scratch);
    free(g.text);
}

static void test_seqno(void **state)
{
    (void)state;
    struct golden g = load("seqno");
    const struct seqno s = {.shard_created_s = 1700000000, .shard = 7, .offset = 1000, .time_s = 1700000123};
    char text[SEQNO_TEXT_MAX];
    seqno_format(&s, text);
    assert_non_null(strstr(g.text, text));
    uint8_t bytes[24] = {0};
    for (const char *p = text; *p != '\0'; p++) {
        unsigned carry = (unsigned)(*p - '0');
        for (size_t i = sizeof(bytes); i-- > 0;) {
            carry += bytes[i] * 10u;
            bytes[i] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    assert_int_equal(g.n, sizeof(bytes));
    assert_memory_equal(bytes, g.bytes, sizeof(bytes));
    free(g.text);
}

static void test_readme_shows_the_golden_files(void **state)
{
    (void)state;
    char *readme = read_text("../../proto/README.md");
    const char *names[] = {"frame_ping", "frame_hello", "frame_put", "batch_plain", "batch_stamped", "batch_lz4", "seqno"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct golden g = load(names[i]);
        size_t size = strlen(g.text) + 100;
        char *block = malloc(size);
        snprintf(block, size, "```hex %s\n%s```\n", names[i], g.text);
        if (strstr(readme, block) == NULL) {
            fail_msg("proto/README.md does not show tests/golden/%s.hex as it is", names[i]);
        }
        free(block);
        free(g.text);
    }
    free(readme);
}

int main(void)
{
    for (uint8_t i = 0; i < 16; i++) {
        stream_id[i] = (uint8_t)(0xa0 + i);
        producer_id[i] = (uint8_t)(0x10 + i);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_read_golden_put),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_lz4_batch),
        cmocka_unit_test(test_seqno),
        cmocka_unit_test(test_readme_shows_the_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
