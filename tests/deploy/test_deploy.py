"""What is in deploy/ names what there is in the product, and holds together with its settings."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
import yaml

from proxy import config
from proxy.app import OTHER_FILES
from proxy.cli import main
from proxy.gateway.health import LIVE, READY
from proxy.metrics.listener import PATH as METRICS
from proxy.policy.granting import GRANTS_FILE, LOCKDOWN_FILE
from proxy.policy.rules import MODEL
from proxy.review.check import check
from proxy.settings import Settings
from proxy.snapshot import FILES
from proxy.workers import supervisor
from tests.harness import process, sales
from tests.harness.background import Background
from tests.harness.pki import Authority
from tests.harness.process import ROOT, Served
from tests.harness.proxy import Home, stage
from tests.harness.store import Page, Store

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/counterfoil.service"
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
BEYOND_DRAIN = 5
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
"""From linux/prctl.h."""


@pytest.fixture
def store():
    background = Background()
    running = Store(background)
    yield running
    running.close()
    background.close()


def unit() -> dict[str, list[str]]:
    """Directive -> its values; the sections have no directive in common."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def one(kind: str, name: str = "counterfoil") -> dict:
    (found,) = [m for m in MANIFESTS if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def settings_of(text: str, folder: Path, **environment: str) -> config.Config:
    (folder / "counterfoil.yaml").write_text(text)
    return config.load(folder / "counterfoil.yaml", environment)


def understood(words: list[str]) -> click.Context:
    """The command line takes these words; raises UsageError where not."""
    context = main.make_context("counterfoil", list(words))
    name, command, rest = main.resolve_command(context, [*context._protected_args, *context.args])
    made = command.make_context(name, rest, parent=context)
    if isinstance(command, click.Group):
        name, command, rest = command.resolve_command(made, [*made._protected_args, *made.args])
        made = command.make_context(name, rest, parent=made)
    return made


def stops_within(seconds: int, settings: Settings) -> bool:
    return seconds >= settings.limits.drain_seconds + supervisor._PATIENCE + BEYOND_DRAIN


def test_what_is_taken_out_of_the_config_map_is_taken_out_of_the_folder():
    """Every policy file but the server's own and the model goes before those of the config map are copied."""
    (init,) = one("Deployment")["spec"]["template"]["spec"]["initContainers"]
    (line,) = [line for line in init["args"][0].splitlines() if line.startswith("rm -f ")]
    own = {"model.conf", GRANTS_FILE, LOCKDOWN_FILE}
    assert set(line.split()[2:]) == {f"policies/{name}" for name in set(FILES) - own}


def test_the_unit_goes_with_its_settings(tmp_path):
    """Command line, credential, folders, time to stop, open files: each is what the settings beside it need."""
    said = unit()
    made = settings_of((DEPLOY / "systemd/counterfoil.yaml").read_text(), tmp_path)
    settings = made.settings
    ((program, *words),) = [line.split() for line in said["ExecStart"]]
    assert program.endswith("/counterfoil")
    assert understood(words).params["file"] == Path("/etc/counterfoil/counterfoil.yaml")
    assert said["ExecReload"] == ["/bin/kill -HUP $MAINPID"] and said["KillSignal"] == ["SIGTERM"]
    assert stops_within(int(said["TimeoutStopSec"][0]), settings)
    assert (
        settings.keyring.key_encryption_key
        == f"credential:{said['LoadCredential'][0].split(':')[0]}"
    )
    state, cache = (
        f"/var/lib/{said['StateDirectory'][0]}",
        f"/var/cache/{said['CacheDirectory'][0]}",
    )
    assert {str(Path(settings.log).parent), str(Path(settings.keyring.file).parent)} == {state}
    assert settings.spool == cache
    assert said["ReadWritePaths"] == [f"/etc/counterfoil/{settings.policies}"]
    needed = settings.limits.connections + settings.stores.connections + OTHER_FILES
    assert int(said["LimitNOFILE"][0]) >= needed and said["LimitCORE"] == ["0"]


def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path):
    """`systemd-analyze verify` says nothing, and `security` gives it at most 2 of 10."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = Path(sys.executable).with_name("counterfoil")
    text = UNIT.read_text().replace("/opt/counterfoil/bin/counterfoil", str(program))
    assert str(program) in text
    copy = tmp_path / "counterfoil.service"
    copy.write_text(text)
    environment = {**os.environ, "SYSTEMD_LOG_TARGET": "console", "SYSTEMD_COLORS": "0"}
    verified = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(copy)],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert verified.returncode == 0 and "counterfoil.service" not in verified.stderr, (
        verified.stderr
    )
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", str(copy)],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-500:] + judged.stderr


def test_the_proxy_works_where_no_memory_is_both_written_and_run(store, tmp_path, monkeypatch):
    """As `MemoryDenyWriteExecute=yes` has it: it decodes, transforms, encodes; and a keyring under a handed over credential."""
    if (
        not sys.platform.startswith("linux")
        or ctypes.CDLL(None).prctl(PR_SET_MDWE + 1, 0, 0, 0, 0) < 0
    ):
        pytest.skip("this kernel cannot deny it (prctl PR_SET_MDWE, Linux 6.3)")
    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    handed = tmp_path / "credentials"
    handed.mkdir(mode=0o700)
    (home.folder / "kek").rename(handed / "kek")
    (handed / "kek").chmod(0o440)  # as the access list of systemd makes it look
    text = home.settings.read_text()
    home.settings.write_text(text.replace('"file:kek"', '"credential:kek"'))
    denied = f"import ctypes; ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0)\n"
    monkeypatch.setattr(process, "LAUNCH", denied + process.LAUNCH)
    environment = dict(each.split("=", 1) for each in unit()["Environment"])
    with Served(home, CREDENTIALS_DIRECTORY=str(handed), **environment) as served:
        assert served.get(READY).status == 200
        token = home.issuer.token("alice", groups=("analysts",))
        csv, json = "/sales/daily.csv", "/sales/daily.json"
        store.pages[csv] = Page(sales.as_csv(sales.rows(500)))
        store.pages[json] = Page(sales.as_json(sales.rows(500)), "application/json")
        assert [served.get(path, token=token).status for path in (csv, json)] == [200, 200]
    assert "Traceback" not in served.output


def test_the_cluster_s_settings_and_policies_can_be_taken(tmp_path):
    """The config maps are a counterfoil.yaml and a folder of policies without a fault."""
    secret = one("Secret")["stringData"]
    made = settings_of(one("ConfigMap")["data"]["counterfoil.yaml"], tmp_path, **secret)
    assert made.settings.metrics is not None
    files = {
        name: text.encode()
        for name, text in one("ConfigMap", "counterfoil-policies")["data"].items()
    }
    checked = check({**files, "model.conf": MODEL.encode()})
    assert not checked.faults and checked.snapshot is not None
    named = re.findall(r"env:([A-Z_]+)", str(one("ConfigMap")["data"]) + str(files))
    assert named and {*named} == {*secret}


def test_the_cluster_s_proxy_goes_with_its_settings(tmp_path):
    """Ports, paths, folders, secrets and deadlines of the manifests are those of settings and product."""
    settings = settings_of(one("ConfigMap")["data"]["counterfoil.yaml"], tmp_path).settings
    assert settings.metrics is not None
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert understood(container["args"]).params["file"] == Path("/etc/counterfoil/counterfoil.yaml")
    (job,) = one("Job", "counterfoil-keys-init")["spec"]["template"]["spec"]["containers"]
    assert understood(job["args"]).info_name == "init"
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"https": settings.listen.port, "metrics": settings.metrics.port}
    (service,) = one("Service")["spec"]["ports"]
    assert service["targetPort"] == "https"
    opened = [p["port"] for rule in one("NetworkPolicy")["spec"]["ingress"] for p in rule["ports"]]
    assert opened == [settings.listen.port, settings.metrics.port]
    for name, path in (("startupProbe", LIVE), ("livenessProbe", LIVE), ("readinessProbe", READY)):
        assert container[name]["httpGet"] == {"path": path, "port": "https", "scheme": "HTTPS"}
    assert METRICS == "/metrics"
    assert stops_within(pod["terminationGracePeriodSeconds"], settings)
    assert one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    mounted = {each["mountPath"]: each.get("readOnly", False) for each in container["volumeMounts"]}
    listen = settings.listen
    for path in (settings.log, settings.keyring.file, settings.policies, f"{settings.spool}/x"):
        assert mounted[str(Path(path).parent)] is False
    for path in (listen.certificate, listen.key):
        assert mounted[str(Path(path or "").parent)] is True
    (spool,) = [each for each in pod["volumes"] if each["name"] == "spool"]
    size = int(spool["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30
    assert size > settings.limits.spools_bytes + settings.limits.kept_bytes


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_cluster_s_containers_may_do_little(kind):
    """Not root, nothing written but in volumes, no capability, no token of the cluster, the image's own user."""
    name = "counterfoil" if kind == "Deployment" else "counterfoil-keys-init"
    pod = one(kind, name)["spec"]["template"]["spec"]
    uid = re.search(r"USER (\d+):(\d+)", (ROOT / "Dockerfile").read_text())
    assert uid is not None
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"] == {
        "type": "RuntimeDefault"
    }
    assert (context["runAsUser"], context["runAsGroup"]) == (int(uid[1]), int(uid[2]))
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["automountServiceAccountToken"] is False
    volumes = {each["name"] for each in pod["volumes"]}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
        assert "memory" in container["resources"]["limits"]


def test_the_manifests_name_each_other():
    """Every selector selects the pods, every config map, secret and claim that is used is there."""
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for found in (
        one("Deployment")["spec"]["selector"]["matchLabels"],
        one("Service")["spec"]["selector"],
        one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert found == labels
    there = {(m["kind"], m["metadata"]["name"]) for m in MANIFESTS}
    pods = [m["spec"]["template"]["spec"] for m in MANIFESTS if m["kind"] in ("Deployment", "Job")]
    for pod in pods:
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert (
                    "PersistentVolumeClaim",
                    volume["persistentVolumeClaim"]["claimName"],
                ) in there
        for container in pod["containers"]:
            for each in container["envFrom"]:
                assert ("Secret", each["secretRef"]["name"]) in there


def test_what_the_init_container_runs_makes_a_folder_of_policies(tmp_path):
    """Its own script, on folders of this test: what is left is what `policy check` takes, grants kept."""
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    given, state = tmp_path / "given", tmp_path / "state"
    given.mkdir()
    (state / "policies").mkdir(parents=True)
    for name, text in one("ConfigMap", "counterfoil-policies")["data"].items():
        (given / name).write_text(text)
    (state / "policies/grants.csv").write_text("")
    (state / "policies/people.csv").write_text("of a time before\n")
    (script,) = container["args"]
    script = script.replace("/etc/counterfoil-policies", str(given)).replace(
        "/var/lib/counterfoil", str(state)
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [*container["command"], script],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, check=True, timeout=60,
    )  # fmt: skip
    left = {each.name: each.read_bytes() for each in (state / "policies").iterdir()}
    assert "people.csv" not in left and left.pop("grants.csv") == b""
    assert left["model.conf"] == MODEL.encode() and not check(left).faults


def test_the_image_is_given_what_it_is_built_from():
    """All that the Dockerfile copies is there, and .dockerignore lets it through; nothing else is."""
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for words in copied for source in words.split()}
    assert all((ROOT / source).exists() for source in sources)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line[0] == "!"} == {s.split("/")[0] for s in sources}


def test_the_images_own_check_tells_whether_the_proxy_answers(tmp_path):
    """Through no proxy for the way out, which Docker's clients put into the environment."""
    found = re.search(
        r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert found is not None
    python, option, script = json.loads(found[1])
    assert (python, option) == ("python", "-c") and "8443" in script
    listen = Authority().listening(tmp_path)
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (
        _,
        proxy,
    ):
        port = str(urlsplit(proxy.url).port)
        words = [sys.executable, "-c", script.replace("8443", port)]
        environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9"}
        assert subprocess.run(words, env=environment, check=False).returncode == 0
    gone = subprocess.run(words, env=environment, check=False, stderr=subprocess.DEVNULL)
    assert gone.returncode == 1
