#!/bin/sh
# Installs the servers and the browser that tests talk to, where it may; else says in one line what will be skipped.
set -eu
missing=""
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v faketime >/dev/null || missing="$missing faketime"
command -v influxd >/dev/null || missing="$missing influxdb"
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || missing="$missing nginx-light"
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v mbpoll >/dev/null || missing="$missing mbpoll"
command -v socat >/dev/null || missing="$missing socat"
command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
[ -e /usr/include/modbus/modbus.h ] || missing="$missing libmodbus-dev"
command -v chromium >/dev/null || missing="$missing chromium"
fc-list :lang=zh 2>/dev/null | grep -q . || missing="$missing fonts-noto-cjk"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 - a list of names
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null || echo "apt-get failed"
else
  for part in $missing; do echo "not installed: $part; tests that need it are skipped"; done
fi
