# SPDX-License-Identifier: Apache-2.0
"""What is rendered, for each file of ci/ and for the values that change most."""

import pytest
import yaml

import chart

FILES = chart.ci_files()
HEX = "07" * 32
HOSTS = {"relay": {"hostNetwork": True}, "host": {"enabled": True, "devices": ["eth0", "eth1"]}}


@pytest.fixture(params=FILES, ids=[path.name for path in FILES])
def release(request):
    """(values file, its objects)."""
    return request.param, chart.render(file=request.param)


def test_the_matrix_is_there():
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_lint_finds_nothing(path):
    chart.run("lint", "--strict", "--quiet", str(chart.CHART), "--values", str(path))


def test_every_name_is_unique_and_fits_dns(release):
    _, objects = release
    names = [(item["kind"], item["metadata"]["name"]) for item in objects.all]
    assert len(names) == len(set(names))
    for kind, name in names:
        # A StatefulSet's pods get "-N" and a revision label of 11 characters more.
        assert len(name) <= (52 if kind == "StatefulSet" else 63), name
    assert all(item["metadata"]["namespace"] == chart.NAMESPACE for item in objects.all)


def test_selectors_find_their_pods_and_no_others(release):
    _, objects = release
    pods = {kind: objects.one(kind)["spec"]["template"]["metadata"]["labels"]
            for kind in ("StatefulSet", "DaemonSet") if objects.of(kind)}
    relay = pods["StatefulSet"]

    def selects(selector, labels):
        return selector.items() <= labels.items()
    assert selects(objects.one("StatefulSet")["spec"]["selector"]["matchLabels"], relay)
    for service in objects.of("Service"):
        assert selects(service["spec"]["selector"], relay)
    for budget in objects.of("PodDisruptionBudget"):
        assert selects(budget["spec"]["selector"]["matchLabels"], relay)
    if "DaemonSet" in pods:
        host = pods["DaemonSet"]
        assert selects(objects.one("DaemonSet")["spec"]["selector"]["matchLabels"], host)
        for service in objects.of("Service"):
            assert not selects(service["spec"]["selector"], host)


def test_services_point_at_ports_that_the_pod_opens(release):
    _, objects = release
    ports = {(port["name"], port["protocol"])
             for port in objects.pod("StatefulSet")["containers"][0]["ports"]}
    for service in objects.of("Service"):
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["protocol"]) in ports


def test_every_mount_has_its_volume(release):
    _, objects = release
    for kind in ("StatefulSet", "DaemonSet"):
        if not objects.of(kind):
            continue
        pod = objects.pod(kind)
        volumes = {volume["name"] for volume in pod["volumes"]}
        for claim in objects.one(kind)["spec"].get("volumeClaimTemplates", []):
            volumes.add(claim["metadata"]["name"])
        used = {mount["name"] for container in pod["containers"] + pod.get("initContainers", [])
                for mount in container["volumeMounts"]}
        assert used == volumes


def test_relays_are_confined(release):
    _, objects = release
    pod = objects.pod("StatefulSet")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_peers_have_a_name_each_also_before_they_are_ready(release):
    _, objects = release
    stateful = objects.one("StatefulSet")
    service = objects.one("Service", stateful["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    peers = peers_of(objects)
    assert len(peers) == stateful["spec"]["replicas"] == len(set(peers))
    for index, peer in enumerate(peers):
        pod, domain = peer.split(".", 1)
        assert pod == f"{stateful['metadata']['name']}-{index}"
        assert domain.startswith(f"{stateful['spec']['serviceName']}.{chart.NAMESPACE}.svc.")


def peers_of(objects):
    env = {item["name"]: item for item in objects.pod("StatefulSet")["containers"][0]["env"]}
    return env["DUMPCAST_PEERS"]["value"].split(",")


def test_each_relay_has_a_volume_of_its_own():
    objects = chart.render({"relay": {"storage": {"size": "7Gi", "storageClass": "fast"}}})
    claim, = objects.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "7Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    mounts = objects.pod("StatefulSet")["containers"][0]["volumeMounts"]
    path, = [mount["mountPath"] for mount in mounts if mount["name"] == claim["metadata"]["name"]]
    assert objects.relay_config()["store"].startswith(path)


@pytest.mark.parametrize("given, rendered", [("", None), ("-", ""), ("x", "x")])
def test_storage_class_default_none_or_named(given, rendered):
    claim, = chart.render({"relay": {"storage": {"storageClass": given}}}) \
        .one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"].get("storageClassName") == rendered


def test_probes_ask_the_grpc_port():
    objects = chart.render({"relay": {"ports": {"grpc": 7001, "udp": 7002, "metrics": 7003}}})
    container = objects.pod("StatefulSet")["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        # Not the health of the whole: a relay whose disk is full can be read.
        assert container[probe]["grpc"] == {"port": 7001, "service": "dumpcast.v1.Dumps"}
    assert all(peer.endswith(":7001") for peer in peers_of(objects))
    assert {port["containerPort"] for port in container["ports"]} == {7001, 7002, 7003}


def test_key_is_mounted_for_its_owner_alone():
    pod = chart.render().pod("StatefulSet")
    secret, = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "key-secret"]
    assert secret["secretName"] == "cluster-key"
    copy, = pod["initContainers"]
    assert copy["command"][:3] == ["install", "-m", "0400"]
    relay = pod["containers"][0]
    assert "key-secret" not in {mount["name"] for mount in relay["volumeMounts"]}
    config = chart.render().relay_config()
    assert "/run/dumpcast-key/key" in config.values()


def test_key_text_becomes_a_secret():
    text = f"# first\n1 {HEX}\n"
    objects = chart.render({"key": {"existingSecret": "", "value": text}})
    secret = objects.one("Secret")
    assert secret["stringData"]["cluster.key"] == text
    volume, = [volume["secret"] for volume in objects.pod("StatefulSet")["volumes"]
               if volume["name"] == "key-secret"]
    assert volume["secretName"] == secret["metadata"]["name"]
    assert not chart.render().of("Secret")


def test_without_key_nothing_of_it_is_left():
    objects = chart.render({"key": {"existingSecret": "", "allowUnauthenticated": True}})
    pod = objects.pod("StatefulSet")
    assert "initContainers" not in pod
    assert not [volume for volume in pod["volumes"] if "key" in volume["name"]]
    assert not [value for value in objects.relay_config().values() if "key" in str(value)]


def test_anti_affinity_hard_soft_none():
    def rules(kind):
        return chart.render({"relay": {"antiAffinity": kind}}).pod("StatefulSet").get("affinity", {})
    hard = rules("hard")["podAntiAffinity"]
    assert hard["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"] == \
        "kubernetes.io/hostname"
    assert "preferredDuringSchedulingIgnoredDuringExecution" in rules("soft")["podAntiAffinity"]
    assert rules("none") == {}


def test_host_network_for_multicast():
    pod = chart.render({"relay": {"hostNetwork": True}}).pod("StatefulSet")
    assert pod["hostNetwork"] is True
    assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert "hostNetwork" not in chart.render().pod("StatefulSet")


def test_host_port_only_when_asked():
    def udp(values):
        ports = chart.render(values).pod("StatefulSet")["containers"][0]["ports"]
        return [port for port in ports if port["protocol"] == "UDP"][0]
    assert udp({"relay": {"hostPort": True}})["hostPort"] == 26210
    assert "hostPort" not in udp({})


def test_a_changed_configuration_restarts_relays():
    def checksum(values):
        template = chart.render(values).one("StatefulSet")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]
    assert checksum({}) != checksum({"relay": {"logLevel": "debug"}})
    assert checksum({}) == checksum({})


def test_network_policy_lets_in_peers_hosts_and_clients_by_port():
    objects = chart.render({"networkPolicy": {"enabled": True, "hostCIDRs": ["10.0.0.0/8"]}})
    peers, hosts, clients, scrapers = objects.one("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in peers["ports"]} == {26210, 26211}
    assert [(port["port"], port["protocol"]) for port in hosts["ports"]] == [(26210, "UDP")]
    assert hosts["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert [(port["port"], port["protocol"]) for port in clients["ports"]] == [(26211, "TCP")]
    assert [(port["port"], port["protocol"]) for port in scrapers["ports"]] == [(26212, "TCP")]
    assert not chart.render().of("NetworkPolicy")


def test_hosts_are_left_alone_unless_asked():
    assert not chart.render().of("DaemonSet")
    assert len(chart.render().of("ConfigMap")) == 1


def test_host_pod_can_arm():
    pod = chart.render(HOSTS).pod("DaemonSet")
    container, = pod["containers"]
    assert pod["hostNetwork"] is True
    assert container["securityContext"]["privileged"] is True
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert {"/sys/kernel/config", "/lib/modules", "/etc/machine-id"} <= paths


def test_host_has_a_path_for_each_device():
    multicast = chart.render(HOSTS).host_config()
    assert [path["device"] for path in multicast["path"]] == ["eth0", "eth1"]
    assert all(path["destinations"] == ["239.192.68.67"] for path in multicast["path"])
    unicast = chart.render(chart.merged(HOSTS, {"host": {"relays": ["10.0.0.1", "10.0.0.2"]},
                                                "relay": {"ports": {"udp": 7002}}})).host_config()
    assert [path["destinations"] for path in unicast["path"]] == [["10.0.0.1", "10.0.0.2"]] * 2
    assert [path["port"] for path in unicast["path"]] == [7002] * 2


def test_hosts_and_relays_agree_on_lanes():
    objects = chart.render(chart.merged(HOSTS, {"relay": {"lanes": 7}}))
    assert objects.relay_config()["lanes"] == objects.host_config()["lanes"] == 7


def test_service_variables_do_not_become_flags(release):
    """A Service named dumpcast would set DUMPCAST_PORT=tcp://... in each pod."""
    _, objects = release
    for kind in ("StatefulSet", "DaemonSet"):
        if objects.of(kind):
            assert objects.pod(kind)["enableServiceLinks"] is False


def test_tls_asks_for_a_port_only():
    """The kubelet's gRPC check shows no certificate and would never pass."""
    objects = chart.render({"relay": {"tls": {"existingSecret": "relay-tls"}}})
    container = objects.pod("StatefulSet")["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["tcpSocket"]["port"] == 26211
        assert "grpc" not in container[probe]
    config = objects.relay_config()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for key, file in (("tls-cert", "tls.crt"), ("tls-key", "tls.key"), ("tls-ca", "ca.crt")):
        assert config[key] == f"{mounts['tls']}/{file}"


def test_image_by_tag_version_or_digest():
    def image(values):
        return chart.render({"image": values}).pod("StatefulSet")["containers"][0]["image"]
    version = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert image({}) == f"dumpcast/relay:{version}"
    assert image({"tag": "t1"}) == "dumpcast/relay:t1"
    digest = "sha256:" + "0" * 64
    assert image({"tag": "t1", "digest": digest}) == f"dumpcast/relay@{digest}"


def test_notes_warn_when_nothing_is_authenticated():
    loud = chart.notes({"key": {"allowUnauthenticated": True}})
    assert "WARNING: no cluster key" in loud
    quiet = chart.notes(chart.KEY)
    assert "WARNING" not in quiet
    assert "rollout status statefulset/rel-dumpcast-relay" in quiet
