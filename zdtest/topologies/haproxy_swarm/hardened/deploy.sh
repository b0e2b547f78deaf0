#!/bin/bash
# That version runs in all tasks and users notice nothing, or the one before does and this exits 1.
# usage: deploy.sh TAG
set -euo pipefail

IMAGE=windowforsun/test-web:${1:?usage: deploy.sh TAG}
SERVICE=haproxydocker_webapp

told() { # FORMAT: what the swarm says of the service
  docker service inspect -f "$1" "$SERVICE"
}

before=$(told '{{.Spec.TaskTemplate.ContainerSpec.Image}}')
if [ "${before%@*}" = "$IMAGE" ]; then
  echo "$SERVICE is at $IMAGE"
  exit 0
fi
docker service update --detach --quiet --image "$IMAGE" "$SERVICE"

# `docker service update` by itself is content when all tasks run; an update may go back after that.
end=$((SECONDS + ${LIMIT:-600}))
while [ $SECONDS -lt $end ]; do
  state=$(told '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}')
  case $state in
    completed) echo "$SERVICE is at $IMAGE"; exit 0 ;;
    rollback_completed | paused | rollback_paused) break ;;
  esac
  sleep 0.5
done

echo "$SERVICE: $state: $(told '{{if .UpdateStatus}}{{.UpdateStatus.Message}}{{end}}')"
docker service ps --no-trunc --format '{{.Name}} {{.Image}}: {{.CurrentState}} {{.Error}}' "$SERVICE"
exit 1
