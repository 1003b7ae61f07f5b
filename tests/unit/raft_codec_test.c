/* Link records: what is encoded decodes to the same; whatever is broken is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "proto/frame.h"
#include "raft/group_impl.h"
#include "raft/link_codec.h"

static struct link_entry table[LINK_ENTRIES_MAX];

static size_t encode(struct link_message *m, const struct iovec *parts, unsigned n_parts, uint8_t *out)
{
    size_t head = link_record_size(m), at = head;
    link_record_encode(m, parts, n_parts, out);
    for (unsigned i = 0; i < n_parts; i++) {
        memcpy(out + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    return at;
}

static void round_trip(void **state)
{
    (void)state;
    struct link_entry entries[3] = {{.term = 7, .len = 3, .type = 1}, {.term = 8, .len = 0, .type = 2}, {.term = 9, .len = 5, .type = 3}};
    struct iovec parts[2] = {{(char *)"abc", 3}, {(char *)"defgh", 5}};
    struct link_message m = {.type = LINK_APPEND, .flags = 3, .group = 1, .from = 2, .to = 3, .term = 4, .a = 5, .b = 6, .c = 7, .d = 8, .entries = entries,
                             .n_entries = 3, .payload_len = 8}, out;
    uint8_t buf[512];
    size_t n = encode(&m, parts, 2, buf);
    assert_int_equal(n, LINK_HEADER_SIZE + 3 * LINK_ENTRY_SIZE + 8);
    assert_int_equal(link_record_decode(&out, buf, n, table), n);
    assert_int_equal(out.type, LINK_APPEND);
    assert_true(out.flags == 3 && out.group == 1 && out.from == 2 && out.to == 3 && out.term == 4 && out.a == 5 && out.b == 6 && out.c == 7 && out.d == 8);
    assert_int_equal(out.n_entries, 3);
    assert_true(out.entries[0].term == 7 && out.entries[0].len == 3 && out.entries[2].type == 3 && out.entries[2].len == 5);
    assert_int_equal(out.payload_len, 8);
    assert_memory_equal(out.payload, "abcdefgh", 8);
    for (size_t i = 0; i < n; i++) { /* every prefix is too short */
        assert_int_equal(link_record_decode(&out, buf, i, table), 0);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) { /* every flipped bit is seen (or asks for more bytes) */
        buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(link_record_decode(&out, buf, n, table) <= 0);
        buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* A checksum that is known stands for the bytes, large or small; one that is wrong is seen by the receiver. */
static void known_checksums(void **state)
{
    (void)state;
    static uint8_t bytes[30000], plain[40000], known[40000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    struct link_entry entries[3] = {{.term = 7, .len = 20000, .type = 1}, {.term = 8, .len = 10, .type = 1}, {.term = 9, .len = 9990, .type = 1}};
    struct iovec parts[3] = {{bytes, 20000}, {bytes + 20000, 10}, {bytes + 20010, 9990}};
    struct link_message m = {.type = LINK_APPEND, .group = 1, .from = 2, .to = 3, .term = 9, .entries = entries, .n_entries = 3, .payload_len = 30000}, out;
    size_t n = encode(&m, parts, 3, plain);
    for (unsigned i = 0; i < 3; i++) {
        entries[i].crc_known = true;
        entries[i].crc = crc32c(0, parts[i].iov_base, parts[i].iov_len);
    }
    assert_int_equal(encode(&m, parts, 3, known), n);
    assert_memory_equal(plain, known, n);
    entries[0].crc++; /* the bytes are not what they were when the checksum was taken */
    encode(&m, parts, 3, known);
    assert_int_equal(link_record_decode(&out, known, n, table), -SLUICE_E_CORRUPT);
}

static void reseal(uint8_t *p, size_t n)
{
    uint32_t crc = crc32c(0, p, 8);
    put_u32(p + 8, crc32c(crc, p + 12, n - 12));
}

static void refuses(void **state)
{
    (void)state;
    struct link_entry entries[1] = {{.term = 7, .len = 3, .type = 1}};
    struct iovec part = {(char *)"abc", 3};
    struct link_message m = {.type = LINK_APPEND, .entries = entries, .n_entries = 1, .payload_len = 3}, out;
    uint8_t buf[512];
    size_t n = encode(&m, &part, 1, buf);
    put_u32(buf + LINK_HEADER_SIZE + 8, 4); /* the entry claims more than there is */
    reseal(buf, n);
    assert_int_equal(link_record_decode(&out, buf, n, table), -SLUICE_E_PROTOCOL);
    n = encode(&m, &part, 1, buf);
    buf[4] = 99;
    reseal(buf, n);
    assert_int_equal(link_record_decode(&out, buf, n, table), -SLUICE_E_PROTOCOL);
    n = encode(&m, &part, 1, buf);
    put_u32(buf, LINK_RECORD_MAX + 1);
    assert_int_equal(link_record_decode(&out, buf, n, table), -SLUICE_E_TOO_LARGE);
    n = encode(&m, &part, 1, buf);
    put_u32(buf, 10);
    assert_int_equal(link_record_decode(&out, buf, n, table), -SLUICE_E_PROTOCOL);
    n = encode(&m, &part, 1, buf);
    put_u16(buf + 6, 5000);
    assert_int_equal(link_record_decode(&out, buf, n, table), -SLUICE_E_PROTOCOL);
}

/* The bytes of tests/golden/frame_link.hex: a frame's header carries the sender's journal position, its records follow. */
static void golden(void **state)
{
    (void)state;
    uint8_t want[FRAME_HEADER_SIZE + LINK_HEADER_SIZE], got[sizeof want];
    FILE *f = fopen(SLUICE_GOLDEN_DIR "/frame_link.hex", "r");
    assert_non_null(f);
    char line[200];
    size_t n = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned byte;
        int used;
        for (const char *p = line; sscanf(p, "%2x%n", &byte, &used) == 1; p += used) {
            assert_true(n < sizeof want);
            want[n++] = (uint8_t)byte;
        }
    }
    fclose(f);
    assert_int_equal(n, sizeof want);
    frame_header_encode(got, FRAME_LINK, 0x1122334455667788u, NULL, 0, LINK_HEADER_SIZE);
    link_record_encode(&(struct link_message){.type = LINK_ALIVE, .from = 1, .to = 2, .d = 0x0198a2b3c4d5u}, NULL, 0, got + FRAME_HEADER_SIZE);
    assert_memory_equal(got, want, n);
    struct frame_header h;
    struct link_message m;
    assert_int_equal(frame_header_decode(&h, want), 0);
    assert_true(frame_message_ok(want, NULL, 0) && h.kind == FRAME_LINK && h.correlation == 0x1122334455667788u && h.payload_len == LINK_HEADER_SIZE);
    assert_int_equal(link_record_decode(&m, want + FRAME_HEADER_SIZE, LINK_HEADER_SIZE, table), LINK_HEADER_SIZE);
    assert_true(m.type == LINK_ALIVE && m.from == 1 && m.to == 2 && m.d == 0x0198a2b3c4d5u);
}

/* What libraft leaves of malloc()'s memory behind a configuration goes neither to disk nor to peers. */
static void padding_is_zero(void **state)
{
    (void)state;
    mallopt(M_PERTURB, 0x5a);
    for (unsigned n = 1; n <= 5; n++) {
        struct group_member members[5];
        size_t used = 9;
        for (unsigned i = 0; i < n; i++) {
            members[i] = (struct group_member){.raft_id = 7 + i, .voter = true};
            used += 8 + 2 + 1; /* id, an address of one digit, role; those of two digits below */
            used += 7 + i > 9;
        }
        struct raft_buffer out;
        assert_int_equal(group_conf_encode_members(members, n, &out), 0);
        assert_true(out.len >= used && out.len < used + 8);
        for (const uint8_t *p = (uint8_t *)out.base + used; p < (uint8_t *)out.base + out.len; p++) {
            assert_int_equal(*p, 0);
        }
        struct raft_configuration c;
        assert_int_equal(group_conf_decode(out.base, out.len, &c), 0);
        assert_int_equal(c.n, n);
        raft_configuration_close(&c);
        raft_free(out.base);
    }
    mallopt(M_PERTURB, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(known_checksums), cmocka_unit_test(refuses), cmocka_unit_test(golden), cmocka_unit_test(padding_is_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
