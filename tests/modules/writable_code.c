/* A module with a section that is writable and executable. */
#include "good.c"

__asm__(".pushsection .both,\"awx\",@progbits\n.quad 0\n.popsection");
