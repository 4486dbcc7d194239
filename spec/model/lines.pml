/* Where a matcher stands in the lines that servers wrote: lifecycle.pml takes those of a session, execution.pml those of an
 * intent. spec/model/trace/numbers.py has the order of the numbers. */
c_decl {
\#include "lines.h"
};
/* The current line, set by LOOK. It is not part of the state. */
hidden byte kind, l_event, l_tab, l_command, l_source, l_target;
hidden byte l_alive, l_claim, l_late, l_first, l_elsewhere, l_fresh;
hidden short l_version, l_view;
hidden byte header;

int session;                     /* the session or intent whose lines are read */
int taken[2];                    /* how many lines of each node were taken */
bool possible = true;
