# SPDX-License-Identifier: Apache-2.0
"""Wrong values are refused, with a message that names them and says what to do."""

import re

import pytest

import chart

HEX = "07" * 32

# (id, values on top of a key, what Helm must say)
SCHEMA = [
    ("unknown value at the top", {"relays": 3}, r"relays is not allowed"),
    ("misspelt value in a part", {"relay": {"replica": 3}}, r"replica is not allowed"),
    ("misspelt value deep inside", {"relay": {"storage": {"sise": "1Gi"}}}, r"sise is not allowed"),
    ("port out of range", {"relay": {"ports": {"udp": 262100}}}, r"relay\.ports\.udp.*65535"),
    ("port zero", {"relay": {"ports": {"grpc": 0}}}, r"relay\.ports\.grpc.*1"),
    ("port as text", {"service": {"port": "26211"}}, r"service\.port.*Expected: integer"),
    ("no relay at all", {"relay": {"replicas": 0}}, r"relay\.replicas.*1"),
    ("more relays than a host's table", {"relay": {"replicas": 65}}, r"relay\.replicas.*64"),
    ("group that is no multicast address", {"relay": {"group": "10.1.2.3"}}, r"relay\.group"),
    ("group beyond multicast", {"relay": {"group": "240.0.0.1"}}, r"relay\.group"),
    ("octet out of range", {"relay": {"group": "239.192.68.300"}}, r"relay\.group"),
    ("more lanes than the format has", {"relay": {"lanes": 65}}, r"relay\.lanes.*64"),
    ("IPv6 address that is no group", {"relay": {"group6": "fe80::1"}}, r"relay\.group6"),
    ("log level of another program", {"relay": {"logLevel": "verbose"}}, r"relay\.logLevel"),
    ("log format of another program", {"relay": {"logFormat": "logfmt"}}, r"relay\.logFormat"),
    ("memory in the units of Kubernetes", {"relay": {"memory": "256Mi"}}, r"relay\.memory"),
    ("anti-affinity by another name", {"relay": {"antiAffinity": "required"}},
     r"relay\.antiAffinity"),
    ("size without a unit that exists", {"relay": {"storage": {"size": "100GB"}}},
     r"relay\.storage\.size"),
    ("digest cut short", {"image": {"digest": "sha256:abc"}}, r"image\.digest"),
    ("key as a list", {"key": {"value": ["1 " + HEX]}}, r"key\.value.*Expected: string"),
    ("dump level beyond all bits", {"host": {"dumpLevel": 32}}, r"host\.dumpLevel.*31"),
    ("relay by name, which a panicked host cannot resolve", {"host": {"relays": ["relay-0"]}},
     r"host\.relays\.0"),
    ("relay with a port of its own", {"host": {"relays": ["10.0.0.1:26210"]}}, r"host\.relays\.0"),
    ("one device twice", {"host": {"devices": ["eth0", "eth0"]}}, r"host\.devices.*unique"),
    ("device name with a slash", {"host": {"devices": ["../eth0"]}}, r"host\.devices\.0"),
    ("module that is no module", {"host": {"module": "/opt/dumpcast"}}, r"host\.module"),
    ("path mode that does not exist", {"host": {"pathMode": "bond"}}, r"host\.pathMode"),
    ("network without a prefix", {"networkPolicy": {"hostCIDRs": ["10.0.0.0"]}},
     r"networkPolicy\.hostCIDRs\.0"),
    ("empty client, which would allow everybody", {"networkPolicy": {"clients": [{}]}},
     r"networkPolicy\.clients\.0"),
    ("label that is a number", {"commonLabels": {"build": 7}}, r"commonLabels\.build"),
]

UNICAST = {"relay": {"hostPort": True},
           "host": {"enabled": True, "devices": ["eth0"], "relays": ["10.0.0.1"]}}

TOGETHER = [
    ("two keys", {"key": {"value": "1 " + HEX}},
     "key.existingSecret and key.value are both set"),
    ("no key", {"key": {"existingSecret": ""}}, "no cluster key: set key.existingSecret"),
    ("a key, and none wanted", {"key": {"allowUnauthenticated": True}},
     "key.allowUnauthenticated is true although there is a key"),
    ("a key cut short", {"key": {"existingSecret": "", "value": "# first\n1 " + HEX[:-1]}},
     'key.value, line 2: wanted "EPOCH HEX64"'),
    ("a key without its epoch", {"key": {"existingSecret": "", "value": HEX}},
     'key.value, line 1: wanted "EPOCH HEX64"'),
    ("two relays on one node's ports", {"relay": {"hostNetwork": True, "antiAffinity": "none"}},
     "relay.hostNetwork takes ports of the node"),
    ("two relays on one node's UDP port", {"relay": {"hostPort": True, "antiAffinity": "none"}},
     "relay.hostPort takes ports of the node"),
    ("spread over zones, but ports are taken on nodes",
     {"relay": {"hostPort": True, "antiAffinity": "soft", "topologyKey": "zone"}},
     "set relay.topologyKey to kubernetes.io/hostname"),
    ("hostPort on the node's network", {"relay": {"hostNetwork": True, "hostPort": True}},
     "relay.hostNetwork and relay.hostPort are both set"),
    ("policy that binds nobody",
     {"relay": {"hostNetwork": True}, "networkPolicy": {"enabled": True}},
     "networkPolicy.enabled has no effect"),
    ("policy that shuts every host out", {"networkPolicy": {"enabled": True, "hostCIDRs": []}},
     "networkPolicy.hostCIDRs is empty"),
    ("store that cannot be written", {"relay": {"storage": {"accessModes": ["ReadOnlyMany"]}}},
     "relay.storage.accessModes is only ReadOnlyMany"),
    ("drain that may take all", {"relay": {"podDisruptionBudget": {"maxUnavailable": 3}}},
     "maxUnavailable is 3 of 3 relays"),
    ("hosts without a device", chart.merged(UNICAST, {"host": {"devices": []}}),
     "host.devices is empty"),
    ("multicast that no relay hears", chart.merged(UNICAST, {"host": {"relays": []}}),
     "host.relays is empty, so hosts send to the group 239.192.68.67"),
    ("neither group nor relays",
     chart.merged(UNICAST, {"host": {"relays": []}, "relay": {"group": "none"}}),
     "hosts would have nowhere to send to"),
    ("relays of two families on one path",
     chart.merged(UNICAST, {"host": {"relays": ["10.0.0.1", "fd00::1"]}}),
     "host.relays mixes IPv4 and IPv6"),
    ("more commits than relays", chart.merged(UNICAST, {"host": {"commits": 4}}),
     "host.commits is 4, but there are 3 relays"),
    ("stripe over one device", chart.merged(UNICAST, {"host": {"pathMode": "stripe"}}),
     "host.pathMode is stripe with 1 device"),
]


def refusal(values):
    with pytest.raises(chart.Refused) as caught:
        chart.render(values)
    return str(caught.value)


@pytest.mark.parametrize("values, said", [row[1:] for row in SCHEMA], ids=[row[0] for row in SCHEMA])
def test_schema_refuses(values, said):
    text = refusal(values)
    assert "don't meet the specifications of the schema" in text
    assert re.search(said, text), text


@pytest.mark.parametrize("values, said", [row[1:] for row in TOGETHER],
                         ids=[row[0] for row in TOGETHER])
def test_validate_values_refuses(values, said):
    text = refusal(values)
    assert "1 of the values do not fit together" in text, text
    assert said in text, text


def test_every_message_comes_at_once():
    text = refusal({"key": {"existingSecret": ""},
                    "relay": {"hostNetwork": True, "hostPort": True},
                    "networkPolicy": {"enabled": True}})
    assert "3 of the values do not fit together" in text
    for said in ("no cluster key", "are both set", "has no effect"):
        assert said in text


def test_schema_is_strict_everywhere():
    """Every object with named properties refuses other names; `global` is Helm's own."""
    import json
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
    loose = []

    def walk(node, where):
        if isinstance(node, dict):
            if "properties" in node and isinstance(node["properties"], dict) and \
                    node.get("type") == "object" and node.get("additionalProperties") is not False:
                loose.append(where)
            for name, child in node.items():
                walk(child, f"{where}/{name}")
        elif isinstance(node, list):
            for index, child in enumerate(node):
                walk(child, f"{where}/{index}")
    walk(schema, "")
    assert not loose


def test_every_default_is_in_the_schema_and_the_other_way_round():
    """A value without a default, or a default that the schema has forgotten, is a mistake."""
    import json

    import yaml
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))

    def names(node, values, where=""):
        known = set(node["properties"]) - {"global"}
        assert known == set(values), f"{where or 'top'}: {known ^ set(values)}"
        for name in known:
            child = node["properties"][name]
            if "properties" in child:
                names(child, values[name], f"{where}.{name}")
    names(schema, defaults)
