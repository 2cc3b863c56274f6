/* Reads through a null pointer while it is loaded. */
#include "zoo.h"

static volatile const int *volatile nothing;

__attribute__((constructor)) static void fall(void) { (void)*nothing; }

ZOO(probe_start, zoo_handle, NULL);
