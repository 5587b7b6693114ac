#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The VM's first process. Reads from the kernel command line:
#   vmmod=NAME,NAME...                   modules to load, in order
#   vmnet=NAME,MAC,ADDR/LEN,ADDR6/LEN,MTU  one per network card
#   vmroot=DEVICE                        a disk with Debian on it, whose systemd is to go on and start
#                                        this program with the argument `serve`
# and then serves commands on ttyS1, one a line:
#   ID BASE64   answered by "BEGIN ID", the output in base64, "END ID STATUS"

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root

serve() {
	stty -F /dev/ttyS1 raw -echo
	exec 3</dev/ttyS1 4>/dev/ttyS1
	echo READY >&4
	while read -r id text <&3; do
		echo "$text" | base64 -d >/run/command
		sh /run/command >/run/output 2>&1 </dev/null 3<&- 4>&-
		status=$?
		{
			echo "BEGIN $id"
			base64 /run/output
			echo "END $id $status"
		} >&4
	done
}

while [ "${1:-}" = serve ]; do
	serve
	sleep 1
done

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
exec </dev/null >/dev/console 2>&1
hostname vmtest
ln -sf /proc/mounts /etc/mtab
# Same guest, same machine-id: the host's identity must survive a reboot.
[ -f /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id

set_address() {
	name=$1 mac=$2 v4=$3 v6=$4 mtu=$5
	for path in /sys/class/net/*; do
		[ "$(cat "$path/address")" = "$mac" ] || continue
		ip link set dev "${path##*/}" down
		ip link set dev "${path##*/}" name "$name" 2>/dev/null
		echo 0 >"/proc/sys/net/ipv6/conf/$name/accept_dad"
		[ "$mtu" = 1500 ] || ip link set dev "$name" mtu "$mtu"
		ip link set dev "$name" up
		[ -z "$v4" ] || ip -4 addr add "$v4" dev "$name"
		[ -z "$v6" ] || ip -6 addr add "$v6" dev "$name"
		# e1000 cards find their link a while after they were set up.
		tries=100
		while [ "$(cat "/sys/class/net/$name/carrier")" != 1 ] && [ $tries -gt 0 ]; do
			sleep 0.1
			tries=$((tries - 1))
		done
		return 0
	done
	echo "vmtest: no network card with address $mac"
}

ip link set lo up
for word in $(cat /proc/cmdline); do
	case $word in
	vmmod=*)
		for module in $(echo "${word#vmmod=}" | tr , ' '); do
			modprobe "$module" || echo "vmtest: modprobe $module failed"
		done
		;;
	esac
done
grep -q configfs /proc/filesystems && mount -t configfs configfs /sys/kernel/config
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
for word in $(cat /proc/cmdline); do
	case $word in
	vmnet=*)
		# Word splitting is wanted: the fields become the arguments.
		# shellcheck disable=SC2046
		set_address $(echo "${word#vmnet=}" | tr , ' ')
		;;
	esac
done

for word in $(cat /proc/cmdline); do
	case $word in
	vmroot=*)
		modprobe virtio_blk
		modprobe ext4
		mkdir /sysroot
		mount "${word#vmroot=}" /sysroot || exit 1
		for place in proc sys dev run; do
			mount -o move "/$place" "/sysroot/$place"
		done
		exec switch_root /sysroot /sbin/init
		;;
	esac
done
echo "vmtest: ready"
exec "$0" serve
