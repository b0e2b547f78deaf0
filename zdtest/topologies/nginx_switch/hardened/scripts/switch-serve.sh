#!/bin/sh
# Says who gets the users, run in the proxy: switch-serve.sh PORT=WEIGHT..., `backup` for a weight
# where only those shall come whom the others fail. On return no new request goes by what was said
# before. Exits 1, with everything as it was, where nginx does not take it.
set -eu
cd "$(dirname "$0")/.."

for each in "$@"; do
  case ${each#*=} in
    backup) how=backup ;;
    *) how="weight=${each#*=}" ;;
  esac
  echo "server ${WAS_HOST:-172.17.0.1}:${each%%=*} max_fails=1 fail_timeout=2s $how;"
done > switch/new.inc
cp switch/live.inc switch/before.inc
mv switch/new.inc switch/live.inc

if ! nginx -t -q -p . -c nginx.conf; then
  mv switch/before.inc switch/live.inc
  echo "> nginx does not take it: users stay where they are"
  exit 1
fi

old=$(sh scripts/workers.sh accepting)
nginx -p . -c nginx.conf -s reload
for _ in $(seq 500); do
  accepting=$(sh scripts/workers.sh accepting)
  still=
  for pid in $old; do
    case " $(echo $accepting) " in *" $pid "*) still=$pid ;; esac
  done
  [ -n "$accepting" ] && [ -z "$still" ] && exit 0
  sleep 0.02
done
mv switch/before.inc switch/live.inc
nginx -p . -c nginx.conf -s reload
echo "> nginx has not reloaded: users stay where they are"
exit 1
