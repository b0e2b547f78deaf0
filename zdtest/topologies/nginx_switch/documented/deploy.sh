#!/bin/bash
# Document 001: the new build on the idle port, then the switch. ../README.md lists every mend.
URL=${URL:-http://localhost} WAS_HOST=${WAS_HOST:-localhost}
WAS1_PORT=${WAS1_PORT:-8081} WAS2_PORT=${WAS2_PORT:-8082}
INCLUDED=${SPRING_PROFILES_INCLUDE:+$SPRING_PROFILES_INCLUDE,}
S=${SECOND:-1} # how long one of the document's seconds takes

# find build file
echo "> the build (jar)"
echo "> APP_VERSION: $APP_VERSION"

# find IDLE PROFILE
echo "> which profile runs"
CURRENT_PROFILE=$(curl -k $URL/profiles)

if [ $CURRENT_PROFILE == was1 ]; then
  IDLE_PROFILE=was2
  IDLE_PORT=$WAS2_PORT
elif [ $CURRENT_PROFILE == was2 ]; then
  IDLE_PROFILE=was1
  IDLE_PORT=$WAS1_PORT
else
  IDLE_PROFILE=was1
  IDLE_PORT=$WAS1_PORT
fi

# deploy in IDLE_PORT
IDLE_PID=$(cat $IDLE_PROFILE.pid 2>/dev/null)
grep -qs sample_app "/proc/$IDLE_PID/cmdline" || IDLE_PID=
echo "> on $IDLE_PORT runs PID $IDLE_PID"
if [ -z $IDLE_PID ]; then
  echo "> nothing to end on $IDLE_PORT"
else
  echo "> kill -9 $IDLE_PID"
  kill -9 $IDLE_PID
  sleep $S $S $S $S $S
fi
echo "> starts $IDLE_PROFILE on $IDLE_PORT"
export PORT=$IDLE_PORT PROFILE=$INCLUDED$IDLE_PROFILE APP_INSTANCE=$IDLE_PROFILE
nohup ${PYTHON:-python3} -m sample_app &
echo $! > $IDLE_PROFILE.pid

# health checking
echo "> health check begins"
echo "> curl -s http://$WAS_HOST:$IDLE_PORT/healths"
sleep $S

for retry_count in {1..100}
do
  response=$(curl -s http://$WAS_HOST:$IDLE_PORT/healths)
  up_count=$(echo $response | grep 'UP' | wc -l)

  if [ $up_count -ge 1 ]
  then
    echo "> healthy"
    break
  else
    echo "> Health check: ${response}"
  fi

  if [ $retry_count -eq 100 ]
  then
    echo "> not healthy"
    echo "> gives up, nginx stays as it was"
    exit 1
  fi

  echo "> no answer, again ..."
  sleep $S
done

# nginx $service_url switching
$IN_PROXY sh scripts/switch-serve.sh ${IDLE_PORT}
$IN_PROXY nginx -p . -c nginx.conf -s reload

curl -k $URL/profiles
PROXY_PORT=$(curl -k $URL/profiles)
echo "> Nginx Current Proxy Port: $PROXY_PORT"
sleep $S
