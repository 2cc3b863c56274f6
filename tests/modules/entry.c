/* A module whose table is what it should not be: KIND 0 is missing, 1 a function, 2 smaller than it says, 3 of another
 * ABI than the metadata. */
#define hot_module hot_module_that_is_good
#include "good.c"
#undef hot_module

#if KIND == 1
HOT_EXPORT void hot_module(void) {}
#elif KIND == 2
HOT_EXPORT const uint32_t hot_module[4] = {HOT_ABI, sizeof(hot_table)};
#elif KIND == 3
HOT_EXPORT const hot_table hot_module = {.abi = 9, .size = sizeof(hot_table), .start = start, .handle = handle};
#endif
