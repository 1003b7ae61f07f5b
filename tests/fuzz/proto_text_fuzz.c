/* Numbers that users type: sequence numbers and hash keys. What parses formats back to the very same text. */
#include "fuzz.h"

#include "proto/batch.h"
#include "proto/seqno.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    struct seqno s;
    if (seqno_parse(text, &s)) {
        char again[SEQNO_TEXT_MAX];
        seqno_format(&s, again);
        sluice_assert(strcmp(again, text) == 0);
        sluice_assert(seqno_compare_text(again, text) == 0);
    }
    struct hash128 h;
    if (hash_from_decimal(text, &h)) {
        char again[40];
        hash_to_decimal(&h, again);
        sluice_assert(strcmp(again, text) == 0);
    }
    free(text);
    return 0;
}
