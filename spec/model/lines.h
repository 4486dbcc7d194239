/* The lines of a trace as numbers, read from the file that INTERLOCK_LINES names, and the furthest line that any execution took.
 *
 * The file: the number of sessions; for each its header and, for each of two nodes, the number of lines and the lines,
 * FIELDS numbers each in the order of spec/model/trace/numbers.py's Numbers.
 */
#include <stdio.h>
#include <stdlib.h>

enum { FIELDS = 14 };
#define LOOK_0 look(0, now.session, now.taken[0])
#define LOOK_1 look(1, now.session, now.taken[1])
#define FINISHED finished(now.session, now.taken[0], now.taken[1])
#define ALL_TAKEN (now.session >= session_count())

typedef struct { int header; int count[2]; int *line[2]; } Session;

extern unsigned char kind, l_event, l_tab, l_command, l_source, l_target, l_alive, l_claim, l_late, l_first, l_elsewhere, l_fresh, header;
extern short l_version, l_view;

static Session *sessions;
static int session_total = -1;
static int best_session, best_taken[2];
static const char *best_reason = "";
static int accepted;

static int number(FILE *file) {
  int value;
  if (fscanf(file, "%d", &value) != 1) { printf("@@ unreadable\n"); exit(3); }
  return value;
}

static void report(void) {
  if (accepted) printf("@@ accepted %d\n", session_total);
  else printf("@@ stuck %d %d %d %s\n", best_session, best_taken[0], best_taken[1], best_reason);
}

static void load(void) {
  const char *path = getenv("INTERLOCK_LINES");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) { printf("@@ unreadable\n"); exit(3); }
  session_total = number(file);
  sessions = calloc(session_total + 1, sizeof(Session));
  for (int s = 0; s < session_total; s++) {
    sessions[s].header = number(file);
    for (int n = 0; n < 2; n++) {
      int count = sessions[s].count[n] = number(file);
      sessions[s].line[n] = calloc(count * FIELDS + 1, sizeof(int));
      for (int i = 0; i < count * FIELDS; i++) sessions[s].line[n][i] = number(file);
    }
  }
  fclose(file);
  atexit(report);
}

static int session_count(void) {
  if (session_total < 0) load();
  return session_total;
}

/* Return whether node n has another line; if so, make it the current line. */
static int look(int n, int s, int taken) {
  if (s >= session_count() || taken >= sessions[s].count[n]) return 0;
  const int *line = sessions[s].line[n] + taken * FIELDS;
  kind = line[0]; l_event = line[1]; l_tab = line[2]; l_command = line[3]; l_version = line[4]; l_view = line[5];
  l_source = line[6]; l_target = line[7]; l_alive = line[8]; l_claim = line[9]; l_late = line[10]; l_first = line[11];
  l_elsewhere = line[12]; l_fresh = line[13];
  header = sessions[s].header;
  return 1;
}

static int finished(int s, int taken0, int taken1) {
  return s < session_count() && taken0 == sessions[s].count[0] && taken1 == sessions[s].count[1];
}

static int is_further(int s, int taken0, int taken1) {
  if (s != best_session) return s > best_session;
  return taken0 + taken1 > best_taken[0] + best_taken[1];
}

static void taken_one(int s, int taken0, int taken1) {
  if (is_further(s, taken0, taken1)) {
    best_session = s; best_taken[0] = taken0; best_taken[1] = taken1; best_reason = "";
  }
}

/* Remember why the furthest execution could not take another line. */
static void blocked(const char *promise, int s, int taken0, int taken1) {
  if (s == best_session && taken0 == best_taken[0] && taken1 == best_taken[1] && !*best_reason) best_reason = promise;
}

static void accept(void) { accepted = 1; }
