# Shell functions shared by the scripts in this folder. Sourced, never run.
# Everything here works with the system's Node 20 and npm; the pinned Node is what it fetches.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="$root/.cache"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# host_arch -> x64 | arm64, in npm's words.
host_arch() {
  case "$(uname -m)" in
    x86_64) echo x64 ;;
    aarch64) echo arm64 ;;
    *) die "this machine is $(uname -m); edgemesh builds on x86_64 and aarch64 only" ;;
  esac
}

# ensure_commands COMMAND=PACKAGE ...: installs the Debian packages of missing commands (files, when the
# name holds a slash); without root it names them and stops.
ensure_commands() {
  local missing=() pair
  for pair in "$@"; do
    case "${pair%%=*}" in
      */*) [ -e "${pair%%=*}" ] || missing+=("${pair#*=}") ;;
      *) command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}") ;;
    esac
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" = 0 ] || die "missing Debian packages; run: sudo apt-get install --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null 2>&1 || die "missing commands, and no apt-get to install them: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

# Commands of the build; `strip` takes the Node binaries below the size limit, `gcc` compiles our native addon.
ensure_build_commands() {
  ensure_commands git=git strip=binutils gcc=gcc /usr/include/unistd.h=libc6-dev
}
ensure_cross_build_commands() {
  ensure_build_commands
  case "$(host_arch)" in
    x64)
      ensure_commands aarch64-linux-gnu-strip=binutils-aarch64-linux-gnu \
        aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/include/unistd.h=libc6-dev-arm64-cross
      ;;
    arm64)
      ensure_commands x86_64-linux-gnu-strip=binutils-x86-64-linux-gnu \
        x86_64-linux-gnu-gcc=gcc-x86-64-linux-gnu /usr/x86_64-linux-gnu/include/unistd.h=libc6-dev-amd64-cross
      ;;
  esac
}
# Commands of the lab: network namespaces and real clients.
ensure_lab_commands() {
  ensure_commands ip=iproute2 nft=nftables iptables=iptables curl=curl dig=bind9-dnsutils ps=procps unshare=util-linux
}
# Commands of the tests against a real kube-apiserver. Kubernetes' own programs are unpacked from ../shared/envtest, or
# found through KUBEBUILDER_ASSETS, by the tests themselves.
ensure_envtest_commands() {
  ensure_commands openssl=openssl
  [ "${EDGEMESH_WITHOUT_ENVTEST:-}" = 1 ] && return 0
  ensure_commands xz=xz-utils
  [ -x "${KUBEBUILDER_ASSETS:-}/etcd" ] || ensure_commands etcd=etcd-server
}
ensure_emulation_commands() {
  [ "$(host_arch)" = arm64 ] && return 0
  ensure_commands qemu-aarch64-static=qemu-user-static \
    /usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1=libc6-arm64-cross \
    /usr/aarch64-linux-gnu/lib/libstdc++.so.6=libstdc++6-arm64-cross
}

# npm_ci DIR [ARGS]: `npm ci`, skipped while the lock file is the one installed last time.
npm_ci() {
  local dir=$1 stamp
  shift
  stamp="$dir/node_modules/.installed"
  if [ -f "$stamp" ] && cmp -s "$dir/package-lock.json" "$stamp"; then return 0; fi
  say "npm ci in ${dir#"$root"/}"
  local log
  log=$(mktemp)
  if ! (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund "$@") >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "npm ci failed in $dir"
  fi
  rm -f "$log"
  mkdir -p "$dir/node_modules"
  cp "$dir/package-lock.json" "$stamp"
}

# toolchain_dir ARCH: where the pinned Node of that architecture is installed; each has its own copy of
# scripts/toolchain because npm keeps only the packages of one platform in a node_modules folder.
toolchain_dir() { echo "$cache/toolchain-$1"; }

ensure_node() {
  local arch=$1 dir
  dir=$(toolchain_dir "$arch")
  mkdir -p "$dir"
  cp "$root/scripts/toolchain/package.json" "$root/scripts/toolchain/package-lock.json" "$dir/"
  npm_ci "$dir" --os=linux --cpu="$arch"
  [ -x "$dir/node_modules/node-linux-$arch/bin/node" ] || die "the pinned Node for $arch is not in $dir"
}

# Puts the pinned Node and the project's own tools first in PATH.
use_pinned_node() {
  ensure_node "$(host_arch)"
  npm_ci "$root"
  PATH="$(toolchain_dir "$(host_arch)")/node_modules/node-linux-$(host_arch)/bin:$root/node_modules/.bin:$PATH"
  export PATH
}
