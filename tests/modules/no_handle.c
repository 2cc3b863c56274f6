/* Has a route, and no function that could answer what comes on it. */
#include "probe.h"

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start};
