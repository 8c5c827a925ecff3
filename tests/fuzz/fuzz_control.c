/* libFuzzer target: any bytes as a control request, as each control reply, as a faults frame, as telemetry. A request that is taken
 * is within its bounds, and is the same after it was encoded and decoded again.
 * Build: clang -fsanitize=fuzzer,address,undefined; seeds in tests/fuzz/corpus/control. */
#include "wire/control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request_twice(const uint8_t *data, size_t size)
{
    static struct control_request first, second;
    struct fault fault = {0};
    int err = control_decode_request(data, size, &first, &fault);
    if (err) {
        free(first.config);
        if (fault.err != err || fault.text[0] == '\0')
            abort();
        return;
    }
    if (first.op == CONTROL_OPEN && (shape_check(&first.shape, NULL) || !isfinite(first.shape.scale) || first.name[0] == '\0'))
        abort();
    char *text = control_encode_request(&first);
    if (!text || control_decode_request(text, strlen(text), &second, NULL))
        abort();
    free(text);
    if (!first.config != !second.config || (first.config && strcmp(first.config, second.config) != 0))
        abort();
    free(first.config);
    free(second.config);
    first.config = second.config = NULL;
    if (first.op == CONTROL_RELOAD)
        memcpy(second.file, first.file, sizeof first.file); /* said only beside a text */
    /* Decoding clears the struct first, so that its padding compares too. */
    const unsigned char *a = (const unsigned char *)&first, *b = (const unsigned char *)&second;
    if (memcmp(a, b, sizeof first) != 0)
        abort();
}

static void replies(const uint8_t *data, size_t size)
{
    static struct control_hello hello;
    static struct control_open open;
    struct control_close close;
    struct control_telemetry telemetry;
    struct part_fault faults[4];
    struct fault fault;
    uint64_t id;
    size_t n;
    if (control_decode_hello(data, size, &id, &hello, &fault) == 0 &&
        (hello.n_outputs > CONTROL_ENDPOINTS_MAX || hello.n_telemetry > CONTROL_ENDPOINTS_MAX))
        abort();
    if (control_decode_open(data, size, &id, &open, &fault) == 0 && open.n_layers > SHAPE_LAYERS_MAX)
        abort();
    struct control_reload reload;
    control_decode_reload(data, size, &id, &reload, &fault);
    control_decode_close(data, size, &id, &close, &fault);
    free(control_decode_status(data, size, &id, &fault));
    control_peek_id(data, size, &id);
    control_decode_telemetry(data, size, &telemetry);
    if (control_decode_faults(data, size, faults, 4, &n) == 0 && n > 4)
        abort();
    for (size_t i = 0; i < n; i++)
        if (faults[i].fault.err >= 0)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    request_twice(data, size);
    replies(data, size);
    return 0;
}
