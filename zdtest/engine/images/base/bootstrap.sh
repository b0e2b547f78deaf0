#!/bin/sh
# Writes a small Debian bookworm as a tar, for where no registry answers. As root, by hand:
#   ./bootstrap.sh base.tar && docker import base.tar zdtest/base
set -eu

out=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

debootstrap --variant=minbase bookworm "$root"

# As in debian:bookworm-slim: no manuals, and none of packages that come later either.
cat > "$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
path-include /usr/share/doc/*/copyright
END
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/usr/share/man/* \
    "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log

tar --create --file "$out" --directory "$root" --one-file-system .
