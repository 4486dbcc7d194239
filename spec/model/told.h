/* Says which steps some execution took, so that a check which never tried something is noticed. */
#include <stdio.h>

static void told(const char *step) {
  printf("@@ told %s\n", step);
}
