#!/bin/bash

REPOSITORY=${REPOSITORY:-/home/ec2-user/app/travis/build/} # --- 1
DOCKER_REPOSITORY=${DOCKER_REPOSITORY:-/home/ec2-user/study-pot/nginx/}

echo "JAR_FILE REPOSITORY = $REPOSITORY"
echo "---"
echo "DOCKER_REPOSITORY = $DOCKER_REPOSITORY"

JAR_FILE=$(ls $REPOSITORY |grep 'study-pot-api.jar') # --- 2

echo "goes to the compose files"
cd $DOCKER_REPOSITORY
COMPOSE=${COMPOSE:-docker-compose} APP=${PROJECT:-app}
APP_BLUE=$($COMPOSE -p $APP-blue -f docker-compose.blue.yml ps | grep Up); # --- 3

FIND=""; # --- 4
CHECK_URL="${CHECK_URL:-DOMAIN/health}";

if [ -z "$APP_BLUE" ]; then # --- 5.1
  echo "brings up blue";
  echo "$COMPOSE -p $APP-blue -f docker-compose.blue.yml up -d";
  $COMPOSE -p $APP-blue -f docker-compose.blue.yml up -d # --- 6
  sleep ${BOOT_WAIT:-30} # --- 7.1
  for count in {1..5}
  do
    CHECK_BLUE=$(curl -s CHECK_URL | grep blue); # --- 8.1
    if [ -z "$CHECK_BLUE" ]; then # --- 8.2
      echo "loading... $count"
    else
      echo "it is up"
      FIND="FIND" # --- 8.3
      break
    fi
    sleep ${RETRY_WAIT:-5} # --- 7.2
  done
  if [ -z "$FIND" ]; then # --- 9.1
    echo "it did not start, green stays"
    $COMPOSE -p $APP-blue -f docker-compose.blue.yml down # --- 9.2
  else
    echo "it has started, green goes"
    echo "$COMPOSE -p $APP-green -f docker-compose.green.yml down"
    $COMPOSE -p $APP-green -f docker-compose.green.yml down # --- 9.3
  fi
else # --- 5.2
  echo "brings up green";
  echo "$COMPOSE -p $APP-green -f docker-compose.green.yml up -d";
  $COMPOSE -p $APP-green -f docker-compose.green.yml up -d
  sleep ${BOOT_WAIT:-30}
  for count in {1..5}
  do
    CHECK_GREEN=$(curl -s CHECK_URL | grep green);
    if [ -z "$CHECK_GREEN" ]; then
      echo "loading... $count"
    else
      echo "it is up"
      FIND="FIND"
      break
    fi
    sleep ${RETRY_WAIT:-5}
  done
  if [ -z "$FIND" ]; then
    echo "it did not start, blue stays"
    $COMPOSE -p $APP-green -f docker-compose.green.yml down
  else
    echo "it has started, blue goes"
    echo "$COMPOSE -p $APP-blue -f docker-compose.blue.yml down"
    $COMPOSE -p $APP-blue -f docker-compose.blue.yml down
  fi
fi
