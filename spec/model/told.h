/* Says which steps and which declared transitions some execution took, so that a check which never tried something is noticed. */
#include <stdio.h>

static void told(const char *step) {
  printf("@@ told %s\n", step);
}

static void taken(int row) {
  static char before[256];
  if (!before[row]) { before[row] = 1; printf("@@ taken %d\n", row); }
}
