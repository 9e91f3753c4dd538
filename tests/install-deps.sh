#!/bin/sh
# Installs what the tests need beside Go. On a Debian as root it installs; elsewhere it says what is missing.
set -eu

# program:package. The servers may be in /usr/sbin, which is not in everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin
needs='ip:iproute2 sshd:openssh-server ssh:openssh-client dropbear:dropbear-bin dropbearkey:dropbear-bin tcpdump:tcpdump
busybox:busybox setcap:libcap2-bin useradd:passwd ps:procps zsh:zsh tcsh:tcsh fish:fish
rc:rc elvish:elvish xonsh:xonsh bsd-csh:csh mksh:mksh ksh93:ksh93u+m yash:yash posh:posh
dumpcap:wireshark-common capinfos:wireshark-common tshark:tshark nft:nftables sudo:sudo doas:opendoas ping:iputils-ping iptables:iptables socat:socat gcc:gcc git:git gzip:gzip zstd:zstd groff:groff-base'

missing=
for need in $needs; do
	command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}"
done
# The race detector needs the headers of the C library, too.
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -n "$missing" ] || exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing for the tests: $missing(names of Debian's packages); what needs them is skipped" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Services that these bring along are not for us: the tests start their own.
printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$
chmod 755 /tmp/policy-rc.d.$$
if [ -e /usr/sbin/policy-rc.d ]; then
	rm /tmp/policy-rc.d.$$
else
	mv /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get install -y -qq --no-install-recommends $missing >/dev/null
