/* A module with an address in its code, which the loader would have to write there. */
#include "good.c"

__asm__(".pushsection .text\n.balign 8\n.quad hot_module\n.popsection");
