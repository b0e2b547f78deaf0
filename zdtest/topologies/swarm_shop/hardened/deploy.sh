#!/bin/bash
# That version runs in all tasks of these stacks, one stack after the other, and users notice nothing;
# or the one before does, and this exits 1 with what the tasks say. A manager that is away is waited
# for; what takes longer than WITHIN seconds is taken back. usage: deploy.sh TAG prod|coupon|front...
set -euo pipefail

export IMG_TAG=${1:?usage: deploy.sh TAG STACK...}
shift
WITHIN=${WITHIN:-300}
set -a
. ./shop.env
set +a

# Asks the manager; fails where it does not answer.
service() { timeout 5 docker service "$@"; }

# Prints what the update has come to, nothing as long as it goes on; fails where nobody answers.
came_to() {
  local state others
  state=$(service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "$1_app") || return
  case $state in
    updating | rollback_started) return ;;
    ?*) echo "$state" && return ;;
  esac
  # It has not begun yet, or there was nothing to do.
  others=$(service ps --filter desired-state=running --format '{{.Image}}' "$1_app") || return
  if ! grep -qv ":$IMG_TAG\$" <<< "$others"; then echo completed; fi
}

# Has `came` say what the update has come to; nothing where it still goes on then.
await() {
  local end=$((SECONDS + WITHIN))
  came=
  while [ -z "$came" ] && [ $SECONDS -lt $end ]; do
    came=$(came_to "$1" 2> /dev/null) || came=
    sleep 0.2
  done
}

# Prints what the tasks say, and why the update did not go on.
told() {
  service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.Message}}{{end}}' "$1_app"
  service ps --no-trunc --format '{{.Name}} {{.Image}} {{.CurrentState}} {{.Error}}' "$1_app"
}

for stack; do
  (cd "${stack}_service" && docker stack deploy --resolve-image never -c docker-stack.yml "$stack")
  await "$stack"
  if [ -z "$came" ]; then
    echo "${stack}_app: not within $WITHIN s"
    told "$stack"
    service rollback --detach "${stack}_app"
    await "$stack"
    echo "${stack}_app: ${came:-still on its way back}"
    exit 1
  fi
  if [ "$came" != completed ]; then
    echo "${stack}_app: $came"
    told "$stack"
    exit 1
  fi
done
