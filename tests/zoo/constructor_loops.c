/* Never ends to be loaded, and burns a core over it. */
#include "zoo.h"

__attribute__((constructor)) static void loop(void) {
    for (volatile int forever = 1; forever;) {
    }
}

ZOO(probe_start, zoo_handle, NULL);
