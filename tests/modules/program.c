/* A program that is a module as well. */
#include "good.c"

int main(void) { return 0; }
