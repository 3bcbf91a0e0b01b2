"""Which ports there are, kept up to date over plain MQTT: follow.py BROKER [PORT]. Needs paho-mqtt 2."""

import json
import sys

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage

ports: dict[str, dict[str, str]] = {}


def heard(_client: Client, _userdata: object, message: MQTTMessage) -> None:
    """Every event has the port's whole state; an empty message, or a `removed`, ends it."""
    event = json.loads(message.payload) if message.payload else None
    if event is None or event["type"] == "portwatch.port.removed":
        ports.pop(message.topic, None)
    else:
        ports[message.topic] = event["data"]
    print(sorted(f"{port['host']}/{port['port_id']} {port['status']}" for port in ports.values()), flush=True)


client = Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda client, *_: client.subscribe("portwatch/v1/ports/#", qos=1)
client.on_message = heard
client.connect(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1883)
client.loop_forever()
