/*
 * A module whose metadata is what it should not be. Settings besides those of probe.h: NOTES (1) how many notes,
 * ABI_LINE ("abi = 0"), LINES ("") further lines.
 */
#include "hot_module.h"

#ifndef NOTES
#define NOTES 1
#endif
#ifndef LINES
#define LINES ""
#endif
#ifndef ABI_LINE
#define ABI_LINE "abi = 0"
#endif

#undef HOT_MODULE_METADATA
#if NOTES == 0
#define HOT_MODULE_METADATA(name, version, lines) extern int no_metadata
#else
#define HOT_MODULE_METADATA(name, version, lines)                                                                      \
    HOT_MODULE_NOTE("format = 1\nname = \"" name "\"\nversion = \"" version "\"\n" ABI_LINE "\n" lines LINES)
#endif

#include "good.c"

#if NOTES > 1
HOT_EXPORT __attribute__((section(HOT_NOTE_SECTION), aligned(4))) const struct hot_note second_note = {
    4, 4, HOT_NOTE_TYPE, HOT_NOTE_OWNER, "a=1"};
#endif
