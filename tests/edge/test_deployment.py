"""What operators start the hub with is well-formed, by its own validators, and names what the hub really has."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hub.config import load
from hub.permissions import ROUTES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "krin.yaml").read_text()))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
HUBS = ["hub-1", "hub-2"]


def manifest(kind: str, name: str | None = None) -> Any:
    return next(each for each in MANIFESTS if each["kind"] == kind and name in (None, each["metadata"]["name"]))


def role_of(variables: list[Any]) -> str:
    return str(next(each["value"] for each in variables if each["name"] == "KRIN_ROLE"))


@pytest.mark.parametrize("each", MANIFESTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_a_manifest_keeps_to_the_schema_of_kubernetes(each: Any) -> None:
    kubernetes_validate.validate(each, "1.31", strict=True)


def against_the_specification(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_keeps_to_the_schema_of_its_specification(tmp_path: Path) -> None:
    checked = against_the_specification(ROOT / "compose.yaml")
    assert checked.returncode == 0, checked.stdout
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["hub-1"]["health_check"] = wrong["services"]["hub-1"].pop("healthcheck", {})
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
    checked = against_the_specification(tmp_path / "compose.yaml")
    assert checked.returncode == 1
    assert "health_check" in checked.stdout


def test_everything_in_kubernetes_selects_the_pods_there_are() -> None:
    names = ["krin", "krin-worker"]
    labels = {name: manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"] for name in names}
    assert manifest("Service")["spec"]["selector"] == labels["krin"] != labels["krin-worker"]
    for name in names:
        for kind in ("Deployment", "PodDisruptionBudget"):
            assert manifest(kind, name)["spec"]["selector"]["matchLabels"] == labels[name]
    [allowed] = manifest("NetworkPolicy")["spec"]["podSelector"]["matchExpressions"]
    assert allowed == {"key": "app", "operator": "In", "values": [labels[name]["app"] for name in names]}


def test_gateways_are_as_many_as_the_load_wants_and_workers_two_who_differ_in_nothing_else() -> None:
    gateway, worker = (copy.deepcopy(manifest("Deployment", name)["spec"]) for name in ("krin", "krin-worker"))
    assert manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "krin"
    assert "replicas" not in gateway
    assert worker["replicas"] == COMPOSE["services"]["worker"]["scale"] == 2
    pods = [each["template"]["spec"] for each in (gateway, worker)]
    [[first], [second]] = [pod.pop("containers") for pod in pods]
    assert pods[0].pop("terminationGracePeriodSeconds") > 30
    assert pods[0] == pods[1]
    assert (role_of(first.pop("env")), role_of(second.pop("env"))) == ("gateway", "worker")
    first.pop("lifecycle")  # nobody is sent away by a worker
    assert first == second


def test_a_pod_has_time_to_drain_is_asked_by_doors_that_exist_and_may_do_little(tmp_path: Path) -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    [hub] = pod["containers"]
    before_s = int(hub["lifecycle"]["preStop"]["exec"]["command"][1])
    config = tmp_path / "krin.toml"
    config.write_text(manifest("ConfigMap")["data"]["krin.toml"])
    assert before_s + load(config).drain_timeout_s < pod["terminationGracePeriodSeconds"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f"GET {hub[probe]['httpGet']['path']}" in ROUTES
    assert (pod["securityContext"]["runAsNonRoot"], hub["securityContext"]["readOnlyRootFilesystem"]) == (True, True)


def test_the_autoscaler_asks_for_a_metric_that_the_hub_has() -> None:
    [metric] = manifest("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert f'"{metric["pods"]["metric"]["name"]}"' in (ROOT / "hub" / "bootstrap" / "learning.py").read_text()


def test_the_hubs_of_the_composition_differ_in_name_and_data_and_share_their_keys() -> None:
    hubs = [COMPOSE["services"][name] for name in HUBS]
    assert [each["environment"]["KRIN_NODE"] for each in hubs] == HUBS
    assert {each["environment"]["KRIN_ROLE"] for each in hubs} == {"gateway"}
    worker = COMPOSE["services"]["worker"]
    assert (worker["environment"]["KRIN_ROLE"], "keys:/data/keys" in worker["volumes"]) == ("worker", True)
    assert all(each["read_only"] and each["cap_drop"] == ["ALL"] for each in hubs)
    volumes = [set(each["volumes"]) for each in hubs]
    assert "keys:/data/keys" in volumes[0] & volumes[1]
    assert {f"{name}:/data" for name in HUBS} <= volumes[0] ^ volumes[1]


def test_what_the_composition_mounts_and_names_is_there() -> None:
    services = COMPOSE["services"]
    for each in services.values():
        for volume in each.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
        assert set(each.get("depends_on", ())) <= set(services)
    [scrape] = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"{name}:8000" for name in HUBS]}]
    assert [name for each in scrape["dns_sd_configs"] for name in each["names"]] == ["worker"]


def test_the_hub_trusts_the_proxy_of_the_composition() -> None:
    [network] = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert load(DEPLOY / "compose" / "krin.toml").security.trusted_proxies == (network["subnet"],)


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    if (nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin")) is None:
        pytest.skip("no nginx")
    text = (DEPLOY / "compose" / "nginx.conf").read_text()
    for name in HUBS:
        text = text.replace(f"{name}:8000", "127.0.0.1:8000")  # names of the composition's own network
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\n{text}")
    tested = subprocess.run([nginx, "-t", "-c", str(config)], capture_output=True, text=True, timeout=10)
    assert tested.returncode == 0, tested.stderr


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd")
    unit = tmp_path / "krin.service"
    installed = Path(sys.executable).parent / "krin"
    unit.write_text((DEPLOY / "krin.service").read_text().replace("/usr/local/bin/krin", str(installed)))
    tested = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=30)
    complaints = [line for line in tested.stderr.splitlines() if unit.name in line]
    assert (tested.returncode, complaints) == (0, []), tested.stderr
