/* Every message of sluice.proto: the first byte says which. What unpacks packs again to the size that was announced.
 * (It need not unpack once more: protobuf-c keeps unknown fields word for word, some of which it then refuses.) */
#include "fuzz.h"

#include "sluice.pb-c.h"

static const ProtobufCMessageDescriptor *const messages[] = {
    &sluice__hello__descriptor,
    &sluice__hello_reply__descriptor,
    &sluice__error__descriptor,
    &sluice__empty__descriptor,
    &sluice__put__descriptor,
    &sluice__put_reply__descriptor,
    &sluice__fetch__descriptor,
    &sluice__fetch_reply__descriptor,
    &sluice__position__descriptor,
    &sluice__position_reply__descriptor,
    &sluice__resolve__descriptor,
    &sluice__resolve_reply__descriptor,
    &sluice__stream_create__descriptor,
    &sluice__stream_update__descriptor,
    &sluice__stream_delete__descriptor,
    &sluice__stream_list__descriptor,
    &sluice__stream_describe__descriptor,
    &sluice__node_change__descriptor,
    &sluice__transfer__descriptor,
    &sluice__shard_info__descriptor,
    &sluice__stream_info__descriptor,
    &sluice__stream_reply__descriptor,
    &sluice__stream_list_reply__descriptor,
    &sluice__node_info__descriptor,
    &sluice__cluster_status_reply__descriptor,
    &sluice__forward__descriptor,
    &sluice__forward_reply__descriptor,
    &sluice__replica_report__descriptor,
    &sluice__replica_progress__descriptor,
    &sluice__report__descriptor,
    &sluice__report_reply__descriptor,
    &sluice__replica_order__descriptor,
    &sluice__form__descriptor,
    &sluice__form_reply__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *type = messages[data[0] % ARRAY_LEN(messages)];
    uint8_t *p = fuzz_copy(data + 1, size - 1);
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, size - 1, p);
    free(p);
    if (m == NULL) {
        return 0;
    }
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = malloc(n > 0 ? n : 1);
    sluice_assert(protobuf_c_message_pack(m, packed) == n);
    ProtobufCMessage *m2 = protobuf_c_message_unpack(type, NULL, n, packed);
    if (m2 != NULL) {
        protobuf_c_message_free_unpacked(m2, NULL);
    }
    protobuf_c_message_free_unpacked(m, NULL);
    free(packed);
    return 0;
}
