#!/bin/sh
# Starts a Docker Engine in a container; the arguments are dockerd's. With $SHARED, a folder that the
# container and its machine both have, /run/zdtest leads there, however long its name is.
set -eu

[ -z "${SHARED:-}" ] || ln -sfn "$SHARED" /run/zdtest

# Write-protected without --privileged; who runs containers sets their limits and networks there.
for path in /proc/sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q "$path"; then
        mount -o remount,bind,rw "$path"
    fi
done

# In cgroups v2 a group that limits groups below it has no processes itself: ours move down.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/node
    while read -r pid; do
        echo "$pid" > /sys/fs/cgroup/node/cgroup.procs || :
    done < /sys/fs/cgroup/cgroup.procs
    sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
fi

# What runs here was loaded into it. A name that is no container's is nobody's, and that is answered
# at once, to the engine that looks for a registry as well: never asked of a server that may be
# there on one machine, and on another takes ten seconds to be missed.
address=$(hostname -i)
dnsmasq --listen-address "$address" --bind-interfaces --no-resolv --no-hosts --local=/#/ \
    --user=nobody --group=nogroup
echo "nameserver $address" > /etc/resolv.conf
# A client's settings may have brought some, and nodes would ask each other by way of them.
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy

exec dockerd --bridge none --storage-driver overlay2 --log-level warn \
    --host unix:///var/run/docker.sock "$@"
