#!/bin/sh
# What the document types once. The front's stack calls `backend` its frontend: nothing uses the other.
docker network create -d overlay --attachable backend
docker network create -d overlay --attachable frontend
