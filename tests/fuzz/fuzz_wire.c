/* libFuzzer target: any bytes as frame 0 of a data message. What decodes is what the encoder writes: there is one way to say a thing.
 * Build: clang -fsanitize=fuzzer,address,undefined; seeds in tests/fuzz/corpus/wire. */
#include "wire/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { ROOM = 8 };
    struct wire_header header;
    struct wire_part parts[ROOM];
    struct fault fault = {0};
    int err = wire_decode(data, size, &header, parts, ROOM, &fault);
    if (err) {
        if (err != ERR_MALFORMED && err != ERR_VERSION && err != ERR_TOO_LARGE)
            abort();
        if (fault.err != err || fault.text[0] == '\0')
            abort();
        return 0;
    }
    unsigned char again[WIRE_HEADER_BYTES + ROOM * WIRE_PART_BYTES];
    if (header.n_parts > ROOM || wire_encoded_bytes(header.n_parts) != size)
        abort();
    wire_encode(&header, parts, again);
    if (memcmp(again, data, size) != 0)
        abort();
    for (size_t i = 0; i < header.n_parts; i++)
        if (parts[i].first_token + parts[i].n_tokens < parts[i].first_token ||
            (header.type == WIRE_REQUEST && parts[i].n_tokens == 0))
            abort();
    return 0;
}
