#!/bin/bash
# That version takes over from what is live, or users notice nothing and this exits 1.
# usage: deploy.sh TAG
set -euo pipefail
cd "$(dirname "$0")"

export TAG=${1:?usage: deploy.sh TAG}
COMPOSE=${COMPOSE:-docker-compose}
PROJECT=${PROJECT:-app}

compose() { # COLOUR WORD...
  $COMPOSE -p "$PROJECT-$1" -f "docker-compose.$1.yml" "${@:2}"
}

port() { # COLOUR
  case $1 in blue) echo 8081 ;; green) echo 8082 ;; esac
}

within() { # SECONDS COMMAND...: it succeeds in that time
  local end=$((SECONDS + $1))
  until "${@:2}"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

healthy() { # COLOUR: its container says so in time, and has not ended
  local end=$((SECONDS + ${START_LIMIT:-60}))
  until [ $SECONDS -ge $end ]; do
    case $(docker inspect -f '{{.State.Running}} {{.State.Health.Status}}' "$PROJECT-$1") in
      "true healthy") return 0 ;;
      true*) sleep 0.2 ;;
      *) return 1 ;;
    esac
  done
  return 1
}

answers() { # TIMES URL PATTERN: so many answers in a row, and the pattern is in each
  local told
  told=$(docker exec "$PROJECT-nginx" curl -fsS --max-time 2 "$2?[1-$1]") &&
    [ "$(grep -o "$3" <<< "$told" | wc -l)" = "$1" ]
}

reload() { # nginx does what its files say, unless they are wrong
  docker exec "$PROJECT-nginx" nginx -c /etc/nginx/study-pot/nginx.conf -t &&
    docker exec "$PROJECT-nginx" nginx -c /etc/nginx/study-pot/nginx.conf -s reload
}

switch() { # TO FROM: the users' new requests go to the one, all at once; if it fails, to the other
  cp nginx/live.inc nginx/live.before
  {
    echo "server docker-network-ip:$(port "$1") max_fails=0;"
    echo "server docker-network-ip:$(port "$2") max_fails=0 backup;"
  } > nginx/live.new
  mv nginx/live.new nginx/live.inc
  if ! reload; then
    mv nginx/live.before nginx/live.inc
    return 1
  fi
}

retire() { # COLOUR SECONDS: so long it may answer what it has; then it is gone
  compose "$1" stop -t "$2"
  compose "$1" rm -f
}

give_up() { # WHY [SECONDS]
  echo "$1: $live stays"
  retire "$next" "${2:-1}"
  exit 1
}

# Two at a time would each take the other's new colour for a left one. The lock ends with the script
# and all that it started: one that was cut off may still have Compose at work.
exec 9> deploy.lock
flock -w 10 9 || { echo "another deploy is under way"; exit 1; }

# Who is live is what nginx was told, and no guess by what runs.
case $(grep -v backup nginx/live.inc) in
  *:8081*) live=blue next=green ;;
  *:8082*) live=green next=blue ;;
  *) echo "nginx/live.inc names no colour"; exit 1 ;;
esac
echo "$live is live, $next becomes $TAG"

# A deploy that was cut off has left it, and perhaps nginx as well with what it did before.
if docker inspect "$PROJECT-$next" > /dev/null 2>&1; then
  echo "$next is left of a deploy that was cut off"
  reload
  within 5 answers 20 http://127.0.0.1/api "\"instance\":\"$live\""
  retire "$next" 40
fi

compose "$next" up -d
wanted="\"version\":\"$TAG\",\"instance\":\"$next\""
healthy "$next" || give_up "$next is not healthy"
answers 10 "http://docker-network-ip:$(port "$next")/api" "$wanted" || give_up "$next is not well"
echo "$next is ready"

switch "$next" "$live" || give_up "nginx does not take it"
if ! within 5 answers 20 http://127.0.0.1/api "$wanted"; then
  switch "$live" "$next"
  give_up "users do not get $TAG" 40
fi
echo "$next has the users"
retire "$live" 40
echo "$live is gone"
