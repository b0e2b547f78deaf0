#!/bin/bash

# find build file
echo "> the build (jar)"
JAR_NAME=$(ls |grep 'back-end' | tail -n 1) # (1)

# find IDLE PROFILE
echo "> which profile runs"
CURRENT_PROFILE=$(curl -k https://localhost/profiles) # (2)

if [ $CURRENT_PROFILE == was1 ]; then
  IDLE_PROFILE=was2
  IDLE_PORT=8082
elif [ $CURRENT_PROFILE == was2 ]; then
  IDLE_PROFILE=was1
  IDLE_PORT=8081
else
  IDLE_PROFILE=was1
  IDLE_PORT=8081
fi

# deploy in IDLE_PORT
IDLE_PID=$(pgrep -f $IDLE_PROFILE)
echo "> on $IDLE_PORT runs PID $IDLE_PID"
if [ -z $IDLE_PID ]; then
  echo "> nothing to end on $IDLE_PORT"
else
  echo "> kill -9 $IDLE_PID"
  kill -9 $IDLE_PID
  sleep 5
fi
echo "> starts $IDLE_PROFILE on $IDLE_PORT"
nohup java -jar -Dspring.profiles.active=$IDLE_PROFILE $JAR_NAME & # (3)

# health checking
echo "> health check begins"
echo "> curl -s http://localhost:$IDLE_PORT/healths"
sleep 1

for retry_count in {1..100} # (4)
do
  response=$(curl -s http://localhost:$IDLE_PORT/healths)
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
  sleep 1
done

# nginx $service_url switching
docker exec -it proxy sh /scripts/switch-serve.sh ${IDLE_PORT} # (5)
docker exec -it proxy service nginx reload

curl -k https://localhost/profiles
PROXY_PORT=$(curl -k https://localhost/profiles)
echo "> Nginx Current Proxy Port: $PROXY_PORT"
sleep 1
