/* The built-in default: config/attnd.yaml itself, byte for byte. Compilers run in the root of the source tree, and the
 * Makefile builds this object anew when that file changes. */
#include "config/config.h"

__asm__(".pushsection .rodata\n"
        ".globl attnd_builtin_yaml\n"
        ".globl attnd_builtin_yaml_end\n"
        "attnd_builtin_yaml:\n"
        ".incbin \"config/attnd.yaml\"\n"
        "attnd_builtin_yaml_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char attnd_builtin_yaml[], attnd_builtin_yaml_end[];

const char *config_builtin_yaml(size_t *bytes)
{
    *bytes = (size_t)((uintptr_t)attnd_builtin_yaml_end - (uintptr_t)attnd_builtin_yaml);
    return attnd_builtin_yaml;
}
