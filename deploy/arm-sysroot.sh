#!/bin/sh
# Unpacks the arm64 libraries that tandem needs, and what they need, into a folder to compile and
# run against. usage: arm-sysroot.sh FOLDER
#
# apt resolves and verifies them by this machine's sources, with a state of its own inside the
# folder: the machine's packages and architectures stay as they are, and root is not needed.
# (Installed as foreign packages, libevent-dev would displace this machine's own.)
set -eu

want="libc6-dev libzmq3-dev libprotobuf-c-dev libyaml-dev libhwloc-dev libevent-dev libjansson-dev
      libxxhash-dev libncurses-dev libcmocka-dev"
mkdir -p "$1"
root=$(cd "$1" && pwd)
have=$root/.packages
# shellcheck disable=SC2086 # a list of words on purpose
set -- $want
if [ -f "$have" ] && [ "$(cat "$have")" = "$*" ]; then
    exit 0
fi

apt=$root/.apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
arm_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Acquire::Languages=none -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" \
        -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" "$@"
}
echo "fetching arm64 packages into $root"
arm_apt update
arm_apt install --download-only --no-install-recommends -y "$@" >/dev/null
for deb in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$root"
done
(cd "$root" && rm -rf .apt bin sbin etc var usr/bin usr/sbin usr/share)
# ld takes the target of a link as it is, outside of --sysroot.
find "$root" -type l -lname '/*' | while read -r link; do
    to=$(realpath -ms --relative-to="$(dirname "$link")" "$root$(readlink "$link")")
    ln -sfn "$to" "$link"
done
echo "$*" >"$have"
