#!/bin/bash
# That version runs in all tasks of these stacks, one stack after the other, and users notice nothing;
# or the one before does, and this exits 1. usage: deploy.sh TAG prod|coupon|front...
set -euo pipefail

export IMG_TAG=${1:?usage: deploy.sh TAG STACK...}
shift
set -a
. ./shop.env
set +a

# Prints what the update has come to: nothing, as long as it goes on.
came_to() {
  local state others
  state=$(docker service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "$1_app")
  case $state in
    updating | rollback_started) return ;;
    ?*) echo "$state" && return ;;
  esac
  # It has not begun yet, or there was nothing to do.
  others=$(docker service ps --filter desired-state=running --format '{{.Image}}' "$1_app" |
    grep -cv ":$IMG_TAG\$" || :)
  if [ "$others" = 0 ]; then echo completed; fi
}

for stack; do
  (cd "${stack}_service" && docker stack deploy --resolve-image never -c docker-stack.yml "$stack")
  while came=$(came_to "$stack") && [ -z "$came" ]; do sleep 0.2; done
  if [ "$came" != completed ]; then
    echo "${stack}_app: $came"
    docker service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.Message}}{{end}}' "${stack}_app"
    docker service ps --no-trunc --format '{{.Name}} {{.Image}} {{.CurrentState}} {{.Error}}' "${stack}_app"
    exit 1
  fi
done
