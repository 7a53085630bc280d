#!/usr/bin/env bash
# Installs what Stele needs to run and to be tested on Debian or Ubuntu, as far
# as it is not there: apt packages, the OCI runtime runc, and the CNI plugins.
# runc and the plugins are built from their modules, because distributions have
# older ones or none. Nothing is fetched but from apt and the Go module proxy.
#
# With the argument "test" it installs, too, what the tests compare Stele with, and
# with "bench" what the benchmarks do; gVisor and containerd, from their modules as well,
# take minutes to build.
#
# Run it as root, as often as you like: when all is there it is silent.
set -euo pipefail

runc_version=v1.5.2
cni_version=v1.9.1
containerd_version=v2.4.2
# Of the branch "go", which has what plain Go builds.
gvisor_version=v0.0.0-20260905035102-160fafc42237
cni_plugins=(main/bridge ipam/host-local meta/portmap main/loopback meta/bandwidth meta/firewall meta/tuning)

runc_dir=/usr/lib/stele/bin
cni_dir=/opt/cni/bin
containerd_dir=/usr/lib/stele/containerd

say() { echo "deps: $*"; }
fail() { echo "deps: $*" >&2; exit 1; }

# need PACKAGE TEST...: remember the package if the test fails.
packages=()
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || packages+=("$package")
}

# want PACKAGE TEST...: remember the package as one that the tests can do without.
wanted=()
want() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || wanted+=("$package")
}

# runc_serves PATH: it is 1.2 or newer and was built with seccomp.
runc_serves() {
	local text version major minor
	text=$("$1" --version 2>/dev/null) || return 1
	grep -q '^libseccomp:' <<<"$text" || return 1
	version=$(sed -n 's/^runc version //p' <<<"$text")
	IFS=. read -r major minor _ <<<"$version"
	[[ $major =~ ^[0-9]+$ && $minor =~ ^[0-9]+$ ]] || return 1
	((major > 1 || (major == 1 && minor >= 2)))
}

have_runc() {
	local candidate
	for candidate in "$(command -v runc || true)" "$runc_dir/runc"; do
		[[ -n $candidate ]] && runc_serves "$candidate" && return
	done
	return 1
}

# missing_plugins prints the paths, in the plugins' module, of those that are in
# no folder where Stele looks.
missing_plugins() {
	local plugin dir
	for plugin in "${cni_plugins[@]}"; do
		for dir in "${STELE_CNI_BIN:-$cni_dir}" "$cni_dir" /usr/lib/cni; do
			[[ -x $dir/${plugin##*/} ]] && continue 2
		done
		echo "$plugin"
	done
}

# find_chromium: the browser in which test/page looks at pages; 125 MB to fetch, 410 MB on
# disk. Where apt has none, those tests are skipped.
install_chromium=false
find_chromium() {
	local name
	for name in chromium chromium-browser google-chrome; do
		command -v "$name" >/dev/null && return
	done
	install_chromium=true
}

# have_containerd: exactly the version that is asked for, so that figures from two
# machines are about the same program.
have_containerd() {
	local program
	for program in containerd ctr containerd-shim-runc-v2; do
		grep -qwF "$containerd_version" <<<"$("$containerd_dir/$program" -v 2>/dev/null)" || return 1
	done
}

# have_gvisor: exactly the version that is asked for.
have_gvisor() { grep -qwF "$gvisor_version" <<<"$("$runc_dir/runsc" --version 2>/dev/null)"; }

# build_into DIR GO-INSTALL-ARGUMENTS...: a program appears in DIR whole or not
# at all.
build_into() {
	local dir=$1 staging
	shift
	mkdir -p "$dir"
	staging=$(mktemp -d "$dir/.staging.XXXXXX")
	if ! GOBIN=$staging GOFLAGS= go install -trimpath "$@"; then
		rm -rf "$staging"
		return 1
	fi
	mv -f "$staging"/* "$dir"
	rmdir "$staging"
}

install_packages() {
	command -v apt-get >/dev/null || fail "apt-get is missing; install by hand: ${packages[*]}"
	say "installing ${packages[*]}"
	local log
	log=$(mktemp)
	# A fresh machine's apt has no lists, an old one's are stale: both show as a
	# package that cannot be found or fetched.
	local install=(apt-get install -y --no-install-recommends "${packages[@]}")
	if ! DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$log" 2>&1; then
		if ! { apt-get update && DEBIAN_FRONTEND=noninteractive "${install[@]}"; } >"$log" 2>&1; then
			cat "$log" >&2
			rm -f "$log"
			fail "apt-get install failed"
		fi
	fi
	rm -f "$log"
}

[[ $EUID == 0 ]] || fail "must run as root"
command -v go >/dev/null || fail "Go is missing: install Go 1.26 or newer"

build_runc=false
have_runc || build_runc=true
mapfile -t plugins < <(missing_plugins)
build_containerd=false
build_gvisor=false

need iptables command -v iptables
need iproute2 command -v ip
need util-linux command -v nsenter
need busybox-static busybox true
need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
# The race detector links with a C compiler.
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
case ${1:-} in
test)
	need skopeo command -v skopeo
	need buildah command -v buildah
	# The emulated guest of test/vm; without it those tests are skipped.
	want qemu-system-x86 command -v qemu-system-x86_64
	want seabios test -e /usr/share/seabios/bios-256k.bin
	want mmdebstrap command -v mmdebstrap
	want e2fsprogs command -v mke2fs
	find_chromium
	have_gvisor || build_gvisor=true
	;;
bench)
	find_chromium
	need conmon command -v conmon
	need skopeo command -v skopeo
	have_containerd || build_containerd=true
	;;
esac
if $build_runc; then
	need libseccomp-dev test -e /usr/include/seccomp.h
	need pkg-config command -v pkg-config
fi
((${#packages[@]} == 0)) || install_packages
if ((${#wanted[@]} > 0)); then
	(packages=("${wanted[@]}") && install_packages) || say "without ${wanted[*]} nothing is seen of cgroup v2 and systemd"
fi

if $install_chromium; then
	(packages=(chromium) && install_packages) || say "without chromium no page is tested in a browser"
fi

if $build_runc; then
	say "building runc $runc_version into $runc_dir"
	CGO_ENABLED=1 build_into "$runc_dir" -tags 'seccomp netgo osusergo' \
		-ldflags '-s -w -linkmode=external -extldflags=-static' \
		"github.com/opencontainers/runc@$runc_version"
	runc_serves "$runc_dir/runc" || fail "the runc that was built does not serve: $("$runc_dir/runc" --version 2>&1)"
fi

if ((${#plugins[@]} > 0)); then
	say "building CNI plugins $cni_version into $cni_dir: ${plugins[*]##*/}"
	module=github.com/containernetworking/plugins
	plugins=("${plugins[@]/#/$module/plugins/}")
	CGO_ENABLED=0 build_into "$cni_dir" \
		-ldflags "-s -w -X $module/pkg/utils/buildversion.BuildVersion=$cni_version" \
		"${plugins[@]/%/@$cni_version}"
fi

if $build_containerd; then
	say "building containerd $containerd_version into $containerd_dir"
	module=github.com/containerd/containerd/v2
	# It is there to pull images into overlayfs and to serve the CRI, and to be asked by ctr.
	commands=(containerd ctr containerd-shim-runc-v2)
	commands=("${commands[@]/#/$module/cmd/}")
	CGO_ENABLED=0 build_into "$containerd_dir" -tags 'no_devmapper no_tracing no_zfs' \
		-ldflags "-s -w -X $module/version.Version=$containerd_version" \
		"${commands[@]/%/@$containerd_version}"
fi

# Without gVisor its test is skipped. There is no gVisor for other processors.
if $build_gvisor && [[ $(uname -m) == x86_64 || $(uname -m) == aarch64 ]]; then
	say "building gVisor $gvisor_version into $runc_dir"
	CGO_ENABLED=0 build_into "$runc_dir" \
		-ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$gvisor_version" \
		"gvisor.dev/gvisor/runsc@$gvisor_version" || say "without gVisor its test is skipped"
fi
