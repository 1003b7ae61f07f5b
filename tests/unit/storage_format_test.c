/* Bytes of a segment: tests/golden/segment.hex is what a tiny journal leaves on the disk (GOLDEN_UPDATE=1 writes it anew), and decoders take anything. */
#include "storage/identity.h"
#include "storage_fixture.h"

static void fixed_random(uint8_t *p, size_t n, uint64_t *x)
{
    for (size_t i = 0; i < n; i++) {
        *x = *x * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (uint8_t)(*x >> 56);
    }
}

/* "00002000  53 4c ..." for every line of 16 bytes that is not all zeros. */
static char *dump(const uint8_t *p, size_t n)
{
    static const uint8_t zeros[16];
    char *text = xcalloc(1, n / 16 * 64 + 1), *at = text;
    for (size_t i = 0; i + 16 <= n; i += 16) {
        if (memcmp(p + i, zeros, 16) != 0) {
            at += sprintf(at, "%08zx ", i);
            for (size_t k = 0; k < 16; k++) {
                at += sprintf(at, " %02x", p[i + k]);
            }
            at += sprintf(at, "\n");
        }
    }
    return text;
}

static void story_golden(uint64_t seed)
{
    struct world *w = world_new(seed);
    world_start(w);
    put_term(w, 7, 3, 2);
    put_entry(w, 7, 3, 40, 2);
    put_truncate_at(w, 7, 1);
    world_run_ms(w, 100);
    CHECK(w->acks == 3);
    uint8_t *bytes = xcalloc(1, 65536);
    ssize_t n = sim_disk_read(w->host, DIR_NAME "/seg-0000000000000001", bytes, 65536, 0);
    CHECK(n == JF_DATA + 4096);
    char *text = dump(bytes, (size_t)n);
    const char *path = SLUICE_GOLDEN_DIR "/segment.hex";
    if (getenv("GOLDEN_UPDATE") != NULL) {
        FILE *f = fopen(path, "w");
        CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    }
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    char *want = xcalloc(1, 65536);
    CHECK(fread(want, 1, 65535, f) > 0);
    CHECK(strcmp(want, text) == 0);
    /* And back: the decoders find there what was written. */
    struct jf_segment_header h, h2;
    CHECK(jf_segment_header_decode(bytes, 4096, &h) && jf_segment_header_decode(bytes + 4096, 4096, &h2));
    uint8_t again[2][4096]; /* compared as bytes on disk: the structs have padding */
    jf_segment_header_encode(again[0], &h);
    jf_segment_header_encode(again[1], &h2);
    CHECK(memcmp(again[0], again[1], 4096) == 0 && h.number == 1 && h.node_id == 1 && h.size == 65536 && h.incarnation == 1 && h.first_seq == 1);
    struct jf_block_header b, t;
    CHECK(jf_block_header_decode(bytes + JF_DATA, 4096, h.salt, false, &b) && b.n_records == 4 && b.length == 4096 && b.seq == 1);
    CHECK(jf_block_header_decode(bytes + JF_DATA + 4096 - 96, 96, h.salt, true, &t) && t.seq == 1);
    CHECK(!jf_block_header_decode(bytes + JF_DATA, 4096, h.salt + 1, false, &b));
    struct jf_dirent d, r;
    jf_dirent_decode(bytes + JF_DATA + b.dir_pos + 2 * JF_DIRENT_SIZE, &d);
    CHECK(d.kind == JOURNAL_ENTRY && d.group == 7 && d.index == 1 && d.term == 3 && d.b == 2 && d.c == 10 && d.len == 40);
    CHECK(jf_record_header_decode(bytes + d.pos - JF_RECORD_HEADER_SIZE, JF_RECORD_HEADER_SIZE, h.salt, &r));
    jf_dirent_encode(again[0], &d);
    jf_dirent_encode(again[1], &r);
    CHECK(memcmp(again[0], again[1], JF_DIRENT_SIZE) == 0);
    CHECK(crc32c(0, bytes + d.pos, d.len) == d.crc);
}

static void test_golden(void **state)
{
    (void)state;
    run_story(story_golden, 42);
}

/* No byte string crashes a decoder, short input is refused, and every flipped bit of a header is seen. */
static void test_decoders(void **state)
{
    (void)state;
    uint64_t x = 1;
    uint8_t *buf = xmalloc(4096);
    struct jf_segment_header h = {.version = 1, .number = 9, .salt = 77}, h2;
    struct jf_block_header b = {.salt = 77, .seq = 5, .length = 8192, .n_records = 3, .dir_pos = 200, .kind = JF_BLOCK_DATA}, b2;
    struct jf_dirent d = {.group = 1, .jseq = 5, .len = 10, .kind = JOURNAL_ENTRY}, d2;
    struct identity id = {.node_id = 3}, id2;
    for (int i = 0; i < 2000; i++) {
        size_t n = i % 4096u;
        fixed_random(buf, 4096, &x);
        assert_false(jf_segment_header_decode(buf, n, &h2));
        assert_false(jf_block_header_decode(buf, n, x, i & 1, &b2));
        assert_false(jf_record_header_decode(buf, n, x, &d2));
        assert_int_not_equal(identity_decode(buf, n, &id2), 0);
    }
    jf_segment_header_encode(buf, &h);
    assert_true(jf_segment_header_decode(buf, 4096, &h2));
    assert_false(jf_segment_header_decode(buf, 4095, &h2));
    for (unsigned bit = 0; bit < 4096 * 8; bit += 61) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(jf_segment_header_decode(buf, 4096, &h2));
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    jf_block_header_encode(buf, &b, false);
    assert_true(jf_block_header_decode(buf, 96, 77, false, &b2));
    assert_false(jf_block_header_decode(buf, 96, 77, true, &b2));
    assert_false(jf_block_header_decode(buf, 95, 77, false, &b2));
    for (unsigned bit = 0; bit < 96 * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(jf_block_header_decode(buf, 96, 77, false, &b2));
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Lengths that lead out of the block are refused although the checksum is right. */
    b.n_records = 200;
    jf_block_header_encode(buf, &b, false);
    assert_false(jf_block_header_decode(buf, 96, 77, false, &b2));
    jf_record_header_encode(buf, 77, &d);
    assert_true(jf_record_header_decode(buf, 80, 77, &d2));
    assert_false(jf_record_header_decode(buf, 79, 77, &d2));
    assert_false(jf_record_header_decode(buf, 80, 78, &d2));
    for (unsigned bit = 0; bit < 80 * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(jf_record_header_decode(buf, 80, 77, &d2));
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    identity_encode(buf, &id);
    assert_int_equal(identity_decode(buf, 4096, &id2), 0);
    assert_int_equal(id2.node_id, 3);
    for (unsigned bit = 0; bit < 4096 * 8; bit += 61) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(identity_decode(buf, 4096, &id2), 0);
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_decoders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
