#!/bin/sh
# Builds the image from an empty Debian, and runs its root file system as the guide runs it: read-only, as user 10001 without capabilities,
# as process 1 of its own process namespace. Needs root, debootstrap and buildah; BUILD_OPTIONS are passed to the build.
set -eu
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
port=18700

debootstrap --variant=minbase bookworm "$work/debian" >"$work/debootstrap.log"
empty=$(buildah from scratch)
buildah add --quiet "$empty" "$work/debian" / >/dev/null
buildah commit --quiet "$empty" docker.io/library/debian:bookworm-slim >/dev/null
buildah rm "$empty" >/dev/null

# Only what git knows, so that nothing built in the checkout gets into the image.
mkdir "$work/context"
(cd "$root" && git ls-files -z | tar --create --null --files-from=- ) | tar --extract --directory "$work/context"
# shellcheck disable=SC2086
(cd "$work/context" && buildah bud --quiet --pull-never --network host --format docker ${BUILD_OPTIONS:-} \
  --file docs/deploy/Dockerfile --tag interlock . >/dev/null)
container=$(buildah from --pull-never localhost/interlock)
image=$(buildah mount "$container")
test ! -e "$image/src"

install --directory --owner=10001 --group=10001 --mode=0700 "$work/data"
cat >"$work/run.sh" <<'END'
set -eu
mount --bind "$1" "$1"
mount --bind "$2" "$1/var/lib/interlock"
mount -o remount,ro,bind "$1"
mount -t proc proc "$1/proc"
exec setpriv --no-new-privs env -i PATH=/opt/interlock/bin:/usr/sbin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 \
  INTERLOCK_PORT="$3" INTERLOCK_DATA=/var/lib/interlock/data INTERLOCK_LOG_JSON=true \
  chroot --userspec=10001:10001 "$1" interlock serve
END
unshare --pid --fork --mount --ipc --uts sh "$work/run.sh" "$image" "$work/data" "$port" >"$work/log" 2>&1 &
outer=$!
curl --silent --retry 60 --retry-delay 1 --retry-connrefused --fail "http://127.0.0.1:$port/health/ready"
server=$(cat "/proc/$outer/task/$outer/children")
server=${server% }
grep -E '^(Uid|NSpid|CapEff|NoNewPrivs)' "/proc/$server/status"
kill -USR1 "$server"
curl --silent --fail --output /dev/null "http://127.0.0.1:$port/"
kill -TERM "$server"
wait "$outer"
grep --quiet server.stopped "$work/log"
du -sm "$image" | cut -f1
buildah rm "$container" >/dev/null
rm -rf "$work"
echo "the image works"
