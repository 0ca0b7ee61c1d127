#!/bin/sh
# A lamp made of mosquitto_pub and mosquitto_sub: it reports whether it is on and does
# what its shadow wants. Its last will says in the shadow that it is gone; when it is
# told to end (SIGTERM, SIGINT) it says so itself.
#
#   lamp.sh [THING]        MQTT_HOST and MQTT_PORT say where umbrad is
set -eu
thing=${1:-lamp}
host=${MQTT_HOST:-127.0.0.1}
port=${MQTT_PORT:-1883}
shadow="\$aws/things/$thing/shadow"

report() {
	mosquitto_pub -h "$host" -p "$port" -q 1 -t "$shadow/update" -m "{\"state\":{\"reported\":$1}}"
	echo "reported $1"
}

leave() {
	trap - EXIT
	if [ -n "${!-}" ]; then # mosquitto_sub, the only program in the background
		kill "$!" 2>/dev/null || : # it may have got the signal too
		wait "$!" || :
	fi
	report '{"connected":false}'
}
trap leave EXIT
trap 'exit 0' INT TERM

report '{"on":false,"connected":true}'

# The delta comes at once when something is wanted already, then at every change.
# The pipe is opened for both first: opening one end would wait for the other, and a
# signal would break that off.
dir=$(mktemp -d)
mkfifo "$dir/deltas"
exec 3<>"$dir/deltas" 4<"$dir/deltas"
rm -r "$dir"
mosquitto_sub -h "$host" -p "$port" -q 1 -i "$thing" -t "$shadow/update/delta" \
	--will-topic "$shadow/update" --will-qos 1 --will-payload '{"state":{"reported":{"connected":false}}}' \
	>&3 3>&- 4<&- &
exec 3>&-

while read -r delta <&4; do
	case $delta in
	*'"on":true'*) report '{"on":true}' ;;
	*'"on":false'*) report '{"on":false}' ;;
	esac
done
