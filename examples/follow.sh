#!/bin/sh
# Port events, one line each: those that stand, then those that come.
#   follow.sh BROKER [NETWORK]
mosquitto_sub -h "$1" -p "${PORT:-1883}" -V 5 -q 1 -t "portwatch/v1/ports/${2:-+}/#" |
    jq --unbuffered -r '[.time, .type, .data.host, .data.port_id, .data.mac // "-", .data.status] | @tsv'
