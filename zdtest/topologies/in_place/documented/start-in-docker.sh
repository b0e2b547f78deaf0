#!/bin/bash
# The same old way where the server is a container. ../README.md says what differs.
echo "> now ing app container find!"
CURRENT=$(docker ps -q --filter "label=zdtest.run=$ZD_RUN" --filter "label=zdtest.instance=$APP_INSTANCE")
echo "$CURRENT"
if [ -z $CURRENT ]; then
  echo "> no ing app."
else
  echo "> docker kill $CURRENT"
  docker kill $CURRENT
  sleep 1
fi
echo "> new app deploy"
echo "> APP_VERSION: $APP_VERSION"
docker run -d --network host \
  --label "zdtest.run=$ZD_RUN" --label "zdtest.owner=$ZD_OWNER" --label "zdtest.kept=$ZD_KEPT" \
  --label "zdtest.instance=$APP_INSTANCE" --label "zdtest.version=$APP_VERSION" \
  -e PORT -e APP_INSTANCE -e APP_VERSION -e BOOT_SECONDS -e JOURNAL -v "$JOURNAL:$JOURNAL" \
  "$IMAGE"
sleep 1
