#!/bin/sh
# Installs the Debian packages that a goal needs and that are missing; says which.
# usage: install-deps.sh build|check|lint|arm|web...
# arm, for `make ARCH=aarch64` on another machine: the compiler, qemu and, into build/aarch64/sysroot,
# the libraries (arm-sysroot.sh).
set -eu

build="gcc make pkg-config libc6-dev libzmq3-dev libprotobuf-c-dev protobuf-c-compiler libyaml-dev
       libhwloc-dev libevent-dev libjansson-dev libxxhash-dev libncurses-dev"
check="libcmocka-dev curl jq procps tmux strace python3-jinja2
       openssh-server openssh-client iproute2 nftables util-linux
       systemd slurmctld slurmd slurm-client munge"
lint="clang-tidy cppcheck"
arm="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

here=$(cd "$(dirname "$0")" && pwd)
want=
sysroot=
for goal in "$@"; do
    case $goal in
    build) want="$want $build" ;;
    check) want="$want $check" ;;
    lint) want="$want $lint" ;;
    arm) want="$want $arm" sysroot=$here/../build/aarch64/sysroot ;;
    web) want="$want chromium fonts-dejavu-core" # and npm, wherever it is from
        command -v npm >/dev/null || want="$want nodejs npm" ;;
    *) echo "install-deps: unknown goal '$goal'; build, check, lint, arm or web" >&2; exit 2 ;;
    esac
done

missing=
for p in $want; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "install-deps: this is not Debian; install the equivalents of:$missing" >&2
        exit 1
    fi
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing with apt:$missing"
    exec 9>"${TMPDIR:-/tmp}/tandem-install-deps.lock"
    flock 9 # tests that run side by side may all need something
    $sudo apt-get update -qq
    # Only programs are wanted: no package is to start a daemon, now or (sshd) at the next boot.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap '$sudo rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
        $sudo chmod 755 $policy
    fi
    # shellcheck disable=SC2086 # a list of words on purpose
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
    case $missing in *openssh-server*) $sudo systemctl disable ssh.service >/dev/null 2>&1 || : ;; esac
fi
[ -z "$sysroot" ] || "$here/arm-sysroot.sh" "$sysroot"
