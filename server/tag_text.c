/* The texts of tags and policies, checked where they enter the cluster. */
#include "server/tag_text.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "proto/base.h"
#include "server/cluster_map.h"
#include "server/tag_letters.h"

enum { KEY_CHARACTERS = 128, VALUE_CHARACTERS = 256 };

/* The code point at *p, which moves on; -1: no UTF-8 (too long a form, a surrogate, above U+10FFFF). */
static int32_t next(const uint8_t **p)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = *(*p)++;
    unsigned n = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
    if (n <= 1) {
        return n == 1 ? first : -1;
    }
    int32_t code = first & (0x7f >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((**p & 0xc0) != 0x80) {
            return -1; /* the end of the text, too */
        }
        code = code << 6 | (*(*p)++ & 0x3f);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? -1 : code;
}

static bool may_stand(int32_t code)
{
    if (code < 0x80) {
        char c = (char)code;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        return letter || (code > 0 && strchr(" \t\n\r_.:/=+-%@", c) != NULL);
    }
    unsigned low = 0;
    unsigned high = ARRAY_LEN(tag_letters); /* the first range that ends at or behind the code */
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (tag_letters[middle][1] < (uint32_t)code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < ARRAY_LEN(tag_letters) && tag_letters[low][0] <= (uint32_t)code;
}

static bool text_ok(const char *text, unsigned max)
{
    const uint8_t *p = (const uint8_t *)text;
    for (unsigned n = 0; *p != '\0'; n++) {
        if (n == max || !may_stand(next(&p))) {
            return false;
        }
    }
    return true;
}

bool tag_key_ok(const char *key) { return key[0] != '\0' && text_ok(key, KEY_CHARACTERS) && strncasecmp(key, "aws:", 4) != 0; }
bool tag_value_ok(const char *value) { return text_ok(value, VALUE_CHARACTERS); }

bool policy_ok(const char *policy)
{
    size_t n = strlen(policy);
    json_t *j = n <= POLICY_BYTES ? json_loadb(policy, n, 0, NULL) : NULL;
    bool ok = json_is_object(j);
    json_decref(j);
    return ok;
}
