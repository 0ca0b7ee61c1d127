#!/bin/sh
# Switches a lamp and waits until it has obeyed, by MQTT 5 request and response.
#
#   app.sh true|false [THING]        MQTT_HOST and MQTT_PORT say where umbrad is
set -eu
on=${1:?true or false}
thing=${2:-lamp}
host=${MQTT_HOST:-127.0.0.1}
port=${MQTT_PORT:-1883}
shadow="\$aws/things/$thing/shadow"

request() { # request TOPIC PAYLOAD: prints the answer
	mosquitto_rr -V 5 -h "$host" -p "$port" -q 1 -W 5 -e "app/$$/answers" -t "$1" -m "$2"
}

request "$shadow/update" "{\"state\":{\"desired\":{\"on\":$on}}}"

tries=0
until request "$shadow/get" '{}' | grep -q "\"reported\":{[^}]*\"on\":$on"; do
	tries=$((tries + 1))
	if [ "$tries" -gt 50 ]; then
		echo "app.sh: $thing has not obeyed" >&2
		exit 1
	fi
	sleep 0.2
done
echo "done"
