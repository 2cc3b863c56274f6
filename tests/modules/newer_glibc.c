/* A module that uses a function in a version that no glibc has yet. */
#include "good.c"

extern void newest(void);

HOT_EXPORT void uses(void) { newest(); }
