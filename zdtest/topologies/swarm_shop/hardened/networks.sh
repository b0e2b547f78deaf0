#!/bin/sh
# usage: networks.sh, once
docker network create -d overlay --attachable backend
