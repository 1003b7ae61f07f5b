#include "storage/journal_format.h"

#include "proto/base.h"
#include "proto/crc32c.h"

void jf_segment_header_encode(uint8_t *buf, const struct jf_segment_header *h)
{
    memset(buf, 0, JF_SEGMENT_HEADER_SIZE);
    put_u64(buf, JF_SEGMENT_MAGIC);
    put_u32(buf + 8, h->version);
    memcpy(buf + 16, h->cluster_id, 16);
    put_u32(buf + 32, h->node_id);
    put_u32(buf + 36, h->lane);
    put_u64(buf + 40, h->number);
    put_u64(buf + 48, h->salt);
    put_u64(buf + 56, h->size);
    put_u64(buf + 64, h->position);
    put_u64(buf + 72, h->incarnation);
    put_u64(buf + 80, h->prior);
    put_u64(buf + 88, h->prior_end);
    put_u64(buf + 96, h->first_seq);
    put_u64(buf + 104, h->first_jseq);
    put_u64(buf + 112, h->rewrites);
    put_u32(buf + 12, crc32c(crc32c(0, buf, 12), buf + 16, JF_SEGMENT_HEADER_SIZE - 16));
}

bool jf_segment_header_decode(const uint8_t *buf, size_t len, struct jf_segment_header *h)
{
    if (len < JF_SEGMENT_HEADER_SIZE || get_u64(buf) != JF_SEGMENT_MAGIC ||
        get_u32(buf + 12) != crc32c(crc32c(0, buf, 12), buf + 16, JF_SEGMENT_HEADER_SIZE - 16)) {
        return false;
    }
    h->version = get_u32(buf + 8);
    memcpy(h->cluster_id, buf + 16, 16);
    h->node_id = get_u32(buf + 32);
    h->lane = get_u32(buf + 36);
    h->number = get_u64(buf + 40);
    h->salt = get_u64(buf + 48);
    h->size = get_u64(buf + 56);
    h->position = get_u64(buf + 64);
    h->incarnation = get_u64(buf + 72);
    h->prior = get_u64(buf + 80);
    h->prior_end = get_u64(buf + 88);
    h->first_seq = get_u64(buf + 96);
    h->first_jseq = get_u64(buf + 104);
    h->rewrites = get_u64(buf + 112);
    return true;
}

static uint32_t salted(uint64_t salt, const uint8_t *p, size_t n)
{
    uint8_t seed[8];
    put_u64(seed, salt);
    return crc32c(crc32c(0, seed, sizeof seed), p, n);
}

static uint32_t block_header_crc(const uint8_t *buf)
{
    return crc32c(salted(get_u64(buf + 8), buf, 4), buf + 8, JF_BLOCK_HEADER_SIZE - 8);
}

uint32_t jf_block_header_encode(uint8_t *buf, const struct jf_block_header *h, bool trailer)
{
    memset(buf, 0, JF_BLOCK_HEADER_SIZE);
    put_u32(buf, trailer ? JF_TRAILER_MAGIC : JF_BLOCK_MAGIC);
    put_u64(buf + 8, h->salt);
    put_u64(buf + 16, h->seq);
    put_u64(buf + 24, h->position);
    put_u64(buf + 32, h->vouched);
    put_u64(buf + 40, h->incarnation);
    put_u64(buf + 48, h->first_jseq);
    put_u32(buf + 56, h->length);
    put_u32(buf + 60, h->n_records);
    put_u32(buf + 64, h->dir_pos);
    put_u32(buf + 68, h->dir_crc);
    put_u32(buf + 72, h->prev_crc);
    put_u16(buf + 76, h->kind);
    uint32_t crc = block_header_crc(buf);
    put_u32(buf + 4, crc);
    return crc;
}

bool jf_block_header_decode(const uint8_t *buf, size_t len, uint64_t salt, bool trailer, struct jf_block_header *h)
{
    if (len < JF_BLOCK_HEADER_SIZE || get_u32(buf) != (trailer ? JF_TRAILER_MAGIC : JF_BLOCK_MAGIC) || get_u64(buf + 8) != salt ||
        get_u32(buf + 4) != block_header_crc(buf)) {
        return false;
    }
    h->crc = get_u32(buf + 4);
    h->salt = salt;
    h->seq = get_u64(buf + 16);
    h->position = get_u64(buf + 24);
    h->vouched = get_u64(buf + 32);
    h->incarnation = get_u64(buf + 40);
    h->first_jseq = get_u64(buf + 48);
    h->length = get_u32(buf + 56);
    h->n_records = get_u32(buf + 60);
    h->dir_pos = get_u32(buf + 64);
    h->dir_crc = get_u32(buf + 68);
    h->prev_crc = get_u32(buf + 72);
    h->kind = get_u16(buf + 76);
    /* A header that passes its checksum is ours, so the rest cannot be wrong; it is checked all the same, since lengths are followed. */
    if (h->length == 0 || h->length % JF_ALIGN != 0 || h->dir_pos < JF_BLOCK_HEADER_SIZE || h->dir_pos % 8 != 0) {
        return false;
    }
    return (uint64_t)h->dir_pos + (uint64_t)h->n_records * JF_DIRENT_SIZE + JF_BLOCK_HEADER_SIZE <= h->length;
}

void jf_dirent_encode(uint8_t *buf, const struct jf_dirent *d)
{
    put_u64(buf, d->group);
    put_u64(buf + 8, d->index);
    put_u64(buf + 16, d->term);
    put_u64(buf + 24, d->a);
    put_u64(buf + 32, d->b);
    put_u64(buf + 40, d->c);
    put_u64(buf + 48, d->jseq);
    put_u32(buf + 56, d->pos);
    put_u32(buf + 60, d->len);
    put_u32(buf + 64, d->crc);
    buf[68] = d->kind;
    buf[69] = d->type;
    put_u16(buf + 70, d->flags);
}

void jf_dirent_decode(const uint8_t *buf, struct jf_dirent *d)
{
    d->group = get_u64(buf);
    d->index = get_u64(buf + 8);
    d->term = get_u64(buf + 16);
    d->a = get_u64(buf + 24);
    d->b = get_u64(buf + 32);
    d->c = get_u64(buf + 40);
    d->jseq = get_u64(buf + 48);
    d->pos = get_u32(buf + 56);
    d->len = get_u32(buf + 60);
    d->crc = get_u32(buf + 64);
    d->kind = buf[68];
    d->type = buf[69];
    d->flags = get_u16(buf + 70);
}

uint32_t jf_directory_crc(uint64_t salt, const uint8_t *buf, size_t len)
{
    return salted(salt, buf, len);
}

void jf_record_header_encode(uint8_t *buf, uint64_t salt, const struct jf_dirent *d)
{
    put_u32(buf, JF_RECORD_MAGIC);
    jf_dirent_encode(buf + 8, d);
    put_u32(buf + 4, salted(salt, buf + 8, JF_DIRENT_SIZE));
}

bool jf_record_header_decode(const uint8_t *buf, size_t len, uint64_t salt, struct jf_dirent *d)
{
    if (len < JF_RECORD_HEADER_SIZE || get_u32(buf) != JF_RECORD_MAGIC || get_u32(buf + 4) != salted(salt, buf + 8, JF_DIRENT_SIZE)) {
        return false;
    }
    jf_dirent_decode(buf + 8, d);
    return true;
}
