/* Print which steps and declared transitions some execution took, so that a check that never tried one is noticed. */
#include <stdio.h>

static void told(const char *step) {
  printf("@@ told %s\n", step);
}

static void taken(int row) {
  static char before[256];
  if (!before[row]) { before[row] = 1; printf("@@ taken %d\n", row); }
}
