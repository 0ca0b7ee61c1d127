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

sub= # the process id of mosquitto_sub
leave() {
	trap - EXIT
	if [ -n "$sub" ]; then
		kill "$sub" 2>/dev/null || : # it may have got the signal too
		wait "$sub" || :
	fi
	report '{"connected":false}'
}
trap leave EXIT
trap 'exit 0' INT TERM

report '{"on":false,"connected":true}'

# The delta comes at once when something is wanted already, then at every change.
dir=$(mktemp -d)
mkfifo "$dir/deltas"
mosquitto_sub -h "$host" -p "$port" -q 1 -i "$thing" -t "$shadow/update/delta" \
	--will-topic "$shadow/update" --will-qos 1 --will-payload '{"state":{"reported":{"connected":false}}}' \
	>"$dir/deltas" &
sub=$!
exec 3<"$dir/deltas"
rm -r "$dir"

while read -r delta <&3; do
	case $delta in
	*'"on":true'*) report '{"on":true}' ;;
	*'"on":false'*) report '{"on":false}' ;;
	esac
done
