#!/bin/sh
# What the document types to update the service. usage: deploy.sh TAG
docker service update --image windowforsun/test-web:$1 haproxydocker_webapp
