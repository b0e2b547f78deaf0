#!/bin/bash
# Document 001, the old way: end what runs, start what was built. ../README.md lists every mend.
echo "> now ing app pid find!"
CURRENT_PID=$(cat app.pid 2>/dev/null)
grep -qs sample_app "/proc/$CURRENT_PID/cmdline" || CURRENT_PID=
echo "$CURRENT_PID"
if [ -z $CURRENT_PID ]; then
  echo "> no ing app."
else
  echo "> kill -9 $CURRENT_PID"
  kill -9 $CURRENT_PID
  sleep 1
fi
echo "> new app deploy"
echo "> APP_VERSION: $APP_VERSION"
nohup ${PYTHON:-python3} -m sample_app &
echo $! > app.pid
sleep 1
