#!/bin/sh
# Prints the pids of this nginx's workers, run where it runs: `workers.sh accepting` of those that
# take connections, `workers.sh leaving` of those that only answer what they have.
cd "$(dirname "$0")/.." || exit 1
for pid in $(grep -ls "^PPid:[[:space:]]*$(cat nginx.pid)\$" /proc/[0-9]*/status | cut -d/ -f3); do
  does=accepting
  grep -qs 'shutting down' "/proc/$pid/cmdline" && does=leaving
  [ "$does" = "$1" ] && echo "$pid"
done
exit 0
