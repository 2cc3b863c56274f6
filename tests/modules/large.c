/* A large file: MIB (1) MiB of numbers that look random, of which it answers with the first. */
#include "probe.h"

#ifndef MIB
#define MIB 1
#endif

/* The assembler writes them: a compiler would take minutes over so long an array. */
__asm__(".section .rodata\n.global large_numbers\n.hidden large_numbers\n.balign 8\nlarge_numbers:\n.set seed, 1\n"
        ".rept " /* one for each eight bytes */ "131072 * " /* MiB */
#define STRING(x) #x
#define TEXT_OF(x) STRING(x)
        TEXT_OF(MIB) "\n.set seed, seed * 6364136223846793005 + 1442695040888963407\n.quad seed\n.endr\n.previous\n");
extern const uint64_t large_numbers[];

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, large_numbers[0] != 0 ? 200 : 500);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
