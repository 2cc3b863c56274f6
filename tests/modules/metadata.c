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
#if NOTES > 1
/* Both in one object: between two, the compiler may leave room, which would be a note that is malformed. */
#undef HOT_MODULE_NOTE
#define HOT_MODULE_NOTE(toml)                                                                                          \
    struct notes {                                                                                                     \
        uint32_t owner_size, text_size, type;                                                                          \
        char owner[4];                                                                                                 \
        char text[(sizeof(toml) + 3) / 4 * 4];                                                                         \
        uint32_t second_owner_size, second_text_size, second_type;                                                     \
        char second_owner[4];                                                                                          \
        char second_text[4];                                                                                           \
    };                                                                                                                 \
    HOT_EXPORT __attribute__((section(HOT_NOTE_SECTION), aligned(4))) const struct notes hot_module_note = {           \
        4, (sizeof(toml) + 3) / 4 * 4, HOT_NOTE_TYPE, HOT_NOTE_OWNER, toml, 4, 4, HOT_NOTE_TYPE, HOT_NOTE_OWNER, "a=1"}
#endif
#define HOT_MODULE_METADATA(name, version, lines)                                                                      \
    HOT_MODULE_NOTE("format = 1\nname = \"" name "\"\nversion = \"" version "\"\n" ABI_LINE "\n" lines LINES)
#endif

#include "good.c"
