/* DATA/formation: its bytes, and the texts of addresses. Pure. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/crc32c.h"
#include "proto/error.h"
#include "server/controller_entry.h"
#include "server/formation.h"

enum { FILE_MAGIC = 0x31464c53, FILE_VERSION = 1 };

void formation_file_encode(const struct formation_file *f, struct out_buffer *out)
{
    out_u32(out, FILE_MAGIC);
    out_u8(out, FILE_VERSION);
    out_u8(out, (uint8_t)f->step);
    out_u8(out, f->opened);
    out_u8(out, 0);
    out_bytes(out, f->cluster_id, 16);
    out_u64(out, f->join_incarnation);
    out_u32(out, f->generation);
    out_u16(out, (uint16_t)f->n_nodes);
    for (unsigned i = 0; i < f->n_nodes; i++) {
        map_node_encode(&f->nodes[i], out);
    }
    out_u32(out, crc32c(0, out->data, out->len));
}

bool formation_file_decode(struct formation_file *f, const void *data, size_t n)
{
    memset(f, 0, sizeof *f);
    struct cursor c = {.p = data, .left = n};
    c.bad |= cursor_u32(&c) != FILE_MAGIC;
    c.bad |= cursor_u8(&c) != FILE_VERSION;
    uint8_t step = cursor_u8(&c);
    c.bad |= step > FORMATION_JOINED;
    f->step = step;
    f->opened = cursor_bool(&c);
    c.bad |= cursor_u8(&c) != 0;
    cursor_bytes(&c, f->cluster_id, 16);
    f->join_incarnation = cursor_u64(&c);
    f->generation = cursor_u32(&c);
    f->n_nodes = cursor_u16(&c);
    if (c.bad || f->n_nodes > NODES_MAX) {
        return false;
    }
    for (unsigned i = 0; i < f->n_nodes; i++) {
        map_node_decode(&f->nodes[i], &c);
    }
    size_t before = n - c.left;
    uint32_t crc = cursor_u32(&c);
    return !c.bad && c.left == 0 && crc == crc32c(0, data, before);
}

bool formation_parse_address(const char *text, char host[64], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    const char *from = text;
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') { /* IPv6 */
        from++;
        n -= 2;
    } else if (memchr(text, ':', n) != NULL) {
        return false;
    }
    size_t digits = strlen(colon + 1);
    if (n == 0 || n >= 64 || digits == 0 || digits > 5 || strspn(colon + 1, "0123456789") != digits) {
        return false;
    }
    unsigned long value = strtoul(colon + 1, NULL, 10);
    if (value > 65535) {
        return false;
    }
    memcpy(host, from, n);
    host[n] = '\0';
    *port = (uint16_t)value;
    return true;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct map_node *x = a;
    const struct map_node *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

int formation_parse_cluster(const char *text, struct map_node *out, unsigned max, char err[256])
{
    unsigned n = 0;
    while (*text != '\0') {
        const char *end = strchr(text, ',');
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        char part[128];
        char *address = NULL;
        unsigned long id = 0;
        if (len < sizeof part) {
            memcpy(part, text, len);
            part[len] = '\0';
            address = isdigit((unsigned char)part[0]) ? strchr(part, '=') : NULL;
            id = address != NULL ? strtoul(part, NULL, 10) : 0;
        }
        if (n == max) {
            snprintf(err, 256, "cluster: more than %u nodes", max);
            return -SLUICE_E_INVALID;
        }
        memset(&out[n], 0, sizeof out[n]);
        if (address == NULL || id == 0 || id > 65535 || strspn(part, "0123456789") != (size_t)(address - part)
            || !formation_parse_address(address + 1, out[n].host, &out[n].port) || out[n].port == 0) {
            snprintf(err, 256, "cluster: \"%.*s\" is not number=host:port", (int)(len < 100 ? len : 100), text);
            return -SLUICE_E_INVALID;
        }
        out[n].id = (uint32_t)id;
        for (unsigned i = 0; i < n; i++) {
            if (out[i].id == id) {
                snprintf(err, 256, "cluster: node %lu is there twice", id);
                return -SLUICE_E_INVALID;
            }
        }
        n++;
        text += len;
        if (*text == ',' && *++text == '\0') {
            snprintf(err, 256, "cluster: it ends with a comma");
            return -SLUICE_E_INVALID;
        }
    }
    qsort(out, n, sizeof *out, compare_nodes);
    return (int)n;
}
