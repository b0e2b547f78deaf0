#!/bin/bash
# Starts the new version beside the old one, proves it, gives it the users and waits until the old
# one has none left. Whatever goes wrong leaves the users where they are. ../README.md says why each
# line is there.
set -euo pipefail
cd "$(dirname "$0")"
URL=${URL:-http://localhost} WAS_HOST=${WAS_HOST:-localhost}
WAS1_PORT=${WAS1_PORT:-8081} WAS2_PORT=${WAS2_PORT:-8082}
S=${SECOND:-1} TRIES=${TRIES:-100} IN_PROXY=${IN_PROXY:-}

fail() {
  echo "> $*"
  exit 1
}

version_at() { # URL: the version that answers 200 there, nothing where none does
  local head
  head=$(curl -fs --max-time 2 -o /dev/null -D - "$1/ready") &&
    sed -n 's/^x-app-version: \([^[:cntrl:]]*\).*/\1/Ip' <<< "$head"
}

proven_at() { # URL: three times in a row it was the new version
  for _ in 1 2 3; do
    [ "$(version_at "$1")" = "$APP_VERSION" ] || return 1
  done
}

drained() { # no worker of before answers anybody any more
  while [ -n "$($IN_PROXY sh scripts/workers.sh leaving)" ]; do sleep 0.1; done
}

runs() { grep -qs sample_app "/proc/$1/cmdline"; }

stop() { # PROFILE: SIGTERM, and 40 s to answer what it has
  local pid
  pid=$(cat "$1.pid" 2>/dev/null) && runs "$pid" || return 0
  kill "$pid"
  for _ in $(seq 400); do
    runs "$pid" || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}

# Two at a time would stop each other's. The lock ends with this process and what it is running.
exec 9> deploy.lock
flock -n 9 || fail "another deploy is under way"

# Who has the users is what nginx was told, and no guess by an answer that may come from anywhere.
mapfile -t live < <(sed -nE '/ (backup|down);/d; s/^server .*:([0-9]+) .*/\1/p' switch/live.inc)
case ${#live[@]}:${live[*]} in
  0:) LIVE= LIVE_PORT= NEW=was1 NEW_PORT=$WAS1_PORT ;;
  1:"$WAS1_PORT") LIVE=was1 LIVE_PORT=$WAS1_PORT NEW=was2 NEW_PORT=$WAS2_PORT ;;
  1:"$WAS2_PORT") LIVE=was2 LIVE_PORT=$WAS2_PORT NEW=was1 NEW_PORT=$WAS1_PORT ;;
  *) fail "switch/live.inc gives the users to ${live[*]}: expected $WAS1_PORT or $WAS2_PORT alone" ;;
esac
echo "> ${LIVE:-nobody} has the users, $NEW is next"
if [ -n "$LIVE" ] && [ -z "$(version_at "http://$WAS_HOST:$LIVE_PORT")" ] &&
  [ -n "$(version_at "http://$WAS_HOST:$NEW_PORT")" ]; then
  fail "$LIVE is down and $NEW has its users: first switch-serve.sh $NEW_PORT=100"
fi

# What would not start again is not deployed on.
$IN_PROXY nginx -t -q -p . -c nginx.conf || fail "nginx.conf is broken"

# nginx does what live.inc says, whatever became of a deploy before, and nobody needs the idle one.
[ -z "$LIVE" ] || $IN_PROXY sh scripts/switch-serve.sh "$LIVE_PORT=100"
drained
stop "$NEW"

undo() {
  local status=$?
  [ "$status" = 0 ] && return
  [ -z "${switched:-}" ] || [ -z "$LIVE" ] || $IN_PROXY sh scripts/switch-serve.sh "$LIVE_PORT=100"
  stop "$NEW"
  echo "> undone: ${LIVE:-nobody} has the users"
}
trap undo EXIT

export PORT=$NEW_PORT PROFILE=${SPRING_PROFILES_INCLUDE:+$SPRING_PROFILES_INCLUDE,}$NEW APP_INSTANCE=$NEW
nohup "${PYTHON:-python3}" -m sample_app 9>&- &
echo $! > "$NEW.pid"
for try in $(seq "$TRIES"); do
  kill -0 $! || fail "$NEW has ended before it was ready"
  proven_at "http://$WAS_HOST:$NEW_PORT" && break
  [ "$try" -lt "$TRIES" ] || fail "$NEW is not ready"
  sleep "$S"
done
echo "> $NEW is ready"

switched=yes
$IN_PROXY sh scripts/switch-serve.sh "$NEW_PORT=100" ${LIVE:+"$LIVE_PORT=backup"}
echo "> $NEW has the users"
proven_at "$URL" || fail "users do not get $APP_VERSION"
drained
[ -z "$LIVE" ] || echo "> $LIVE has nobody left, and stays as the way back"
