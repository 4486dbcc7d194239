/* The disk: one writer's batches, fsync, and what a killed process, a power cut or a failed fsync leaves.
 *
 * Record k is bit k - 1. This models SQLite's write-ahead log as documented: frames count up to the last commit mark that is
 * reached without a gap. Read it beside server/surface/sqlite/writer.py, server/surface/sqlite/engine.py and
 * server/surface/head.py.
 */
#include "promises.pml"

#define BITS(k) ((1 << (k)) - 1)
#define BIT(k) (1 << ((k) - 1))

byte cached;      /* frames that a process sees when it reads the file (page cache) */
byte disk;        /* frames on the disk */
byte dirty;       /* frames that the kernel knows it must still write */
byte mark;        /* frames with a commit mark: a reader stops only at one */
byte boundary;    /* frames that end a batch: a batch is one command's records, all or none */

bool running, stopped;    /* `stopped`: fail-stop, nothing is acknowledged until a restart */
byte batch_end;   /* the last record of the batch being written; 0: none */
byte committed;   /* the last record that the running process believes is on disk */
byte told;        /* the newest record that was acknowledged to a caller */
byte head;        /* the newest record whose signed digest is stored outside the database */
byte restarts, cuts, failures;

byte upto_gap, k, found;

/* The last record that a reader of `frames` sees: the last mark reached without a gap. */
inline readable(frames, upto) {
  upto = 0;
  for (k : 1 .. RECORDS) {
    if
    :: upto_gap == 0 && !(frames & BIT(k)) -> upto_gap = k
    :: upto_gap == 0 && (frames & BIT(k)) && (mark & BIT(k)) -> upto = k
    :: else
    fi
  }
  upto_gap = 0; k = 0
}

proctype Writer() {
  do
  :: atomic { running && !stopped && batch_end == 0 && committed < RECORDS ->
       if :: batch_end = committed + 1 :: committed + 2 <= RECORDS -> batch_end = committed + 2 fi;
       TELL2(write_, committed + 1, batch_end);
       cached = cached | BITS(batch_end);
       dirty = dirty | (BITS(batch_end) & ~BITS(committed));
       boundary = (boundary & BITS(committed)) | BIT(batch_end);
#ifdef MUTANT_no_commit_mark
       mark = mark | (BITS(batch_end) & ~BITS(committed));
#else
       mark = mark | BIT(batch_end);
#endif
#ifdef MUTANT_ack_before_sync
       told = batch_end;
#endif
#ifdef MUTANT_head_before_sync
       head = batch_end;
#endif
       skip }
  :: atomic { running && batch_end != 0 ->
       if
       :: disk = disk | dirty; dirty = 0; committed = batch_end; TELL2(sync_, committed, 0)
       :: failures < FAILURES ->
            /* The kernel reports the error once and then treats the pages as clean. */
            failures++; dirty = 0; TELL2(sync_fails, batch_end, 0);
#ifdef MUTANT_no_fail_stop
            committed = batch_end
#else
            stopped = true
#endif
       fi;
       batch_end = 0 }
  :: atomic { running && told < committed -> told = committed; TELL2(tell, told, 0) }
  :: atomic { running && head < committed -> head = committed; TELL2(sign, head, 0) }
  od
}

/* A torn write: any part of the unwritten frames may have reached the disk. */
inline tear() {
  for (k : 1 .. RECORDS) {
    if
    :: (dirty & BIT(k)) -> if :: disk = disk | BIT(k) :: true fi
    :: else
    fi
  }
  k = 0
}

/* A start keeps what it can read, and writes all of it again before it acknowledges anything: after a failed fsync the file may
 * show what is not on the disk. */
inline start_again() {
  readable(cached, found);
  TELL2(restart_, found, head);
  PROMISE(durability, told <= found);
  PROMISE(durability, head <= found);
  PROMISE(durability, found == 0 || (boundary & BIT(found)));
  cached = cached & BITS(found);
  disk = disk & BITS(found); dirty = dirty & BITS(found); mark = mark & BITS(found);
#ifndef MUTANT_start_without_checkpoint
  disk = BITS(found); dirty = 0;
#endif
  committed = found; found = 0;
  running = true
}

proctype World() {
  do
  :: atomic { running && restarts < RESTARTS -> restarts++;
       /* Part of the batch may have been handed to the kernel. */
       if :: batch_end != 0 -> cached = cached & BITS(committed + 1); mark = mark & BITS(committed + 1) :: true fi;
       running = false; stopped = false; batch_end = 0; committed = 0; TELL2(kill_, 0, 0) }
  :: atomic { cuts < CUTS ->
       cuts++; tear();
       running = false; stopped = false; batch_end = 0; committed = 0; dirty = 0; cached = disk;
       TELL2(power_cut, disk, 0) }
  :: atomic { !running -> start_again() }
  od
}

init { atomic { running = true; run Writer(); run World() } }
