#!/bin/sh
# What makes a Debian root file system the tests' guest: recipe early|late ROOT.
set -eu
root=$2

if [ "$1" = early ]; then
	# A small initrd is unpacked fast under emulation: just what finds the disk.
	mkdir -p "$root/etc/initramfs-tools/conf.d"
	printf 'MODULES=list\nBUSYBOX=n\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/guest"
	mkdir -p "$root/usr/share/initramfs-tools/modules.d"
	printf "virtio_pci\nvirtio_blk\next4\n" >"$root/usr/share/initramfs-tools/modules.d/guest"
	exit
fi

echo guest >"$root/etc/hostname"
echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
echo 6d1b7f0e2c5a4d3f9b8a7c6d5e4f3a2b >"$root/etc/machine-id"
: >"$root/etc/fstab"
for module in virtio_console overlay br_netfilter veth bridge; do echo $module; done >"$root/etc/modules-load.d/guest.conf"
echo 'net.ipv4.ip_forward=1' >"$root/etc/sysctl.d/90-guest.conf"

# The agent comes on a disk of its own, so that the guest outlives its versions.
cat >"$root/etc/systemd/system/agent.service" <<'UNIT'
[Unit]
Description=what the tests of the host ask for
After=dbus.service systemd-modules-load.service systemd-udev-trigger.service

[Service]
SELinuxContext=system_u:system_r:unconfined_t:s0
ExecStartPre=/bin/sh -c 'test -x /payload/agent || { mkdir -p /payload && tar -xf /dev/disk/by-id/virtio-payload -C /payload; }'
ExecStart=/payload/agent
Delegate=yes
KillMode=process
OOMScoreAdjust=-999
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl -q enable agent.service
# Nothing of a long-lived node is of use here, and each costs seconds of emulation.
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
	e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service getty@tty1.service serial-getty@ttyS0.service \
	systemd-random-seed.service systemd-update-utmp.service systemd-journal-flush.service systemd-hwdb-update.service
mkdir -p "$root/etc/systemd/journald.conf.d"
# A reboot waits for what does not end: containers' first processes get no SIGTERM.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStopSec=5s\n' >"$root/etc/systemd/system.conf.d/guest.conf"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/guest.conf"

# SELinux, for boots that ask for it: the policy with the types of containers, and every file's
# label, which mke2fs keeps.
cp "${0%/*}/container.cil" "$root/tmp/container.cil"
chroot "$root" semodule -n -s default -i /tmp/container.cil
mkdir -p "$root/usr/share/containers/selinux"
cat >"$root/usr/share/containers/selinux/contexts" <<'CONTEXTS'
process = "system_u:system_r:container_t:s0"
init_process = "system_u:system_r:container_init_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file = "system_u:object_r:container_ro_file_t:s0"
CONTEXTS
rm "$root/tmp/container.cil"
chroot "$root" setfiles -F -m -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /

# Under fixed names.
mv "$root"/boot/vmlinuz-* "$root/boot/vmlinuz"
mv "$root"/boot/initrd.img-* "$root/boot/initrd.img"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists
