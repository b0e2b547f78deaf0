#!/bin/sh
# What the document types, in each of these folders. usage: deploy.sh TAG prod|coupon|front...
export IMG_TAG=$1
shift
for stack; do
  (cd ${stack}_service && docker stack deploy -c=docker-stack.yml $MORE $stack) || exit
done
