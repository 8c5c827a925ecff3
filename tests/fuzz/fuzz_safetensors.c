/* libFuzzer target: any bytes as a safetensors file. What opens must be readable to the last element.
 * Build: clang -fsanitize=fuzzer,address,undefined; seeds in tests/fuzz/corpus/safetensors. */
#include "io/safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct safetensors *file;
    struct fault fault;
    if (safetensors_open(&file, path, &fault) == 0) {
        for (size_t i = 0; i < safetensors_count(file); i++) {
            const struct tensor *t = safetensors_at(file, i);
            double *array = NULL;
            if (t->bytes > size || safetensors_find(file, t->name) != t)
                abort();
            if (tensor_to_f64(t, &array, &fault) != 0)
                abort();
            free(array);
        }
        safetensors_metadata(file, "format");
        safetensors_close(file);
    }
    close(fd);
    return 0;
}
