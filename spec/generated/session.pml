#define STATE_none 0
#define STATE_created 1
#define STATE_authenticated 2
#define STATE_connected 3
#define STATE_expired 4

#define EVENT_create 1
#define EVENT_authenticate 2
#define EVENT_reauthenticate 3
#define EVENT_connect 4
#define EVENT_disconnect 5
#define EVENT_refresh 6
#define EVENT_touch 7
#define EVENT_revoke 8
#define EVENT_expire 9

#define NEXT(state, event, alive, same_subject, below_connection_limit, known_connection, last_connection, rotation_current) ( \
  ((state) == STATE_none && (event) == EVENT_create) -> STATE_created : ( \
  ((state) == STATE_created && (event) == EVENT_authenticate && (alive)) -> STATE_authenticated : ( \
  ((state) == STATE_authenticated && (event) == EVENT_reauthenticate && (alive) && (same_subject)) -> STATE_authenticated : ( \
  ((state) == STATE_connected && (event) == EVENT_reauthenticate && (alive) && (same_subject)) -> STATE_connected : ( \
  ((state) == STATE_authenticated && (event) == EVENT_connect && (alive) && (below_connection_limit)) -> STATE_connected : ( \
  ((state) == STATE_connected && (event) == EVENT_connect && (alive) && (below_connection_limit)) -> STATE_connected : ( \
  ((state) == STATE_connected && (event) == EVENT_disconnect && (known_connection) && !(last_connection)) -> STATE_connected : ( \
  ((state) == STATE_connected && (event) == EVENT_disconnect && (known_connection) && (last_connection)) -> STATE_authenticated : ( \
  ((state) == STATE_created && (event) == EVENT_refresh && (alive) && (rotation_current)) -> STATE_created : ( \
  ((state) == STATE_authenticated && (event) == EVENT_refresh && (alive) && (rotation_current)) -> STATE_authenticated : ( \
  ((state) == STATE_connected && (event) == EVENT_refresh && (alive) && (rotation_current)) -> STATE_connected : ( \
  ((state) == STATE_created && (event) == EVENT_touch && (alive)) -> STATE_created : ( \
  ((state) == STATE_authenticated && (event) == EVENT_touch && (alive)) -> STATE_authenticated : ( \
  ((state) == STATE_connected && (event) == EVENT_touch && (alive)) -> STATE_connected : ( \
  ((state) == STATE_created && (event) == EVENT_revoke) -> STATE_expired : ( \
  ((state) == STATE_authenticated && (event) == EVENT_revoke) -> STATE_expired : ( \
  ((state) == STATE_connected && (event) == EVENT_revoke) -> STATE_expired : ( \
  ((state) == STATE_created && (event) == EVENT_expire && !(alive)) -> STATE_expired : ( \
  ((state) == STATE_authenticated && (event) == EVENT_expire && !(alive)) -> STATE_expired : ( \
  ((state) == STATE_connected && (event) == EVENT_expire && !(alive)) -> STATE_expired : ( \
  STATE_none )))))))))))))))))))))
