#!/bin/sh
# Installs the Debian packages that a goal needs and that are missing; says which.
# usage: install-deps.sh build|check|lint...
set -eu

build="gcc make pkg-config libc6-dev libzmq3-dev libprotobuf-c-dev protobuf-c-compiler libyaml-dev
       libhwloc-dev libevent-dev libjansson-dev libxxhash-dev"
check="libcmocka-dev curl jq procps python3-jinja2"
lint="clang-tidy cppcheck"

want=
for goal in "$@"; do
    case $goal in
    build) want="$want $build" ;;
    check) want="$want $check" ;;
    lint) want="$want $lint" ;;
    *) echo "install-deps: unknown goal '$goal'; build, check or lint" >&2; exit 2 ;;
    esac
done

missing=
for p in $want; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "install-deps: this is not Debian; install the equivalents of:$missing" >&2
    exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing with apt:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words on purpose
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
