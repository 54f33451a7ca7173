"""What cannot be run here, put before the tools that read it: containers, Kubernetes, scripts, Prometheus."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.deploy
ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted([*ROOT.glob("deploy/**/*.sh"), *ROOT.glob("jobs/*.sh"), ROOT / ".ci" / "run"])


def tool(name: str) -> str:
    """A program of the virtual environment, or of the system; skips where it is not installed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def output_of(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_finds_nothing_in_the_containerfile(tmp_path):
    linter = tool("hadolint")
    output_of(linter, str(ROOT / "deploy" / "Containerfile"))
    bad = tmp_path / "Containerfile"
    bad.write_text("FROM debian\nRUN apt-get install curl\n")
    assert subprocess.run([linter, str(bad)], capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script(path):
    output_of(tool("shellcheck"), "--severity=warning", str(path))


@pytest.mark.parametrize("how", [[], ["--stages", "separate"], ["--single-allocation"]], ids=str)
def test_shellcheck_finds_nothing_in_what_submit_writes(how, tmp_path):
    linter = tool("shellcheck")
    job, site = str(ROOT / "jobs" / "quickstart.toml"), str(ROOT / "deploy" / "sites" / "slurm.toml")
    options = ["--set", f"cluster.site={site}", "--set", f"output={tmp_path / 'run'}", *how]
    printed = output_of(sys.executable, "-m", "batchflow", "submit", job, "--dry-run", *options)
    scripts = [text.split("\n", 1)[1] for text in re.split(r"^### ", printed, flags=re.M)[1:]]
    assert scripts
    for script in scripts:
        # SC2088: batchflow itself expands ~ and $TMPDIR, on the node where they are needed.
        output_of(linter, "--shell=bash", "--severity=warning", "--exclude=SC2088", "-", text=script)


def kinds() -> list[tuple[str, dict[str, object]]]:
    """Kubernetes objects; Dask's own kinds are checked by the pods and services that they hold."""
    yaml = pytest.importorskip("yaml")
    found = []
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            if not document["apiVersion"].startswith("kubernetes.dask.org/"):
                found.append((path.name, document))
                continue
            spec = document["spec"]
            for part in filter(None, (spec.get("worker"), spec.get("scheduler"))):
                for kind, inner in (("Pod", part["spec"]), ("Service", part.get("service"))):
                    whole = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": inner}
                    found += [(path.name, whole)] if inner else []
    return found


def test_kubernetes_takes_the_manifests():
    kubernetes = pytest.importorskip("kubernetes_validate")
    objects = kinds()
    assert {inner["kind"] for _, inner in objects} >= {"Pod", "Service", "Job", "PersistentVolumeClaim"}
    for name, inner in objects:
        assert kubernetes.validate(inner, kubernetes.latest_version(), strict=True), name
    broken = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": 1}}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(broken, kubernetes.latest_version(), strict=True)


def test_promtool_takes_the_settings_and_the_metrics():
    from batchflow.dashboard.metrics import metrics_text
    from batchflow.dashboard.state import RunState

    promtool = tool("promtool")
    output_of(promtool, "check", "config", str(ROOT / "deploy" / "prometheus.yml"))
    state = RunState("a run")
    state.begin("mocks", 10, 4)
    output_of(promtool, "check", "metrics", text=metrics_text(state, {"cpu-0": 1.0}))


@pytest.fixture
def prometheus(tmp_path):
    """A function that starts a real Prometheus, on loopback, for a target; ends it at the end of the test."""
    program = tool("prometheus")
    with contextlib.ExitStack() as stack:

        def start(target: str) -> str:
            settings = (ROOT / "deploy" / "prometheus.yml").read_text()
            assert '"127.0.0.1:8787"' in settings
            config = tmp_path / "prometheus.yml"
            config.write_text(settings.replace("127.0.0.1:8787", target).replace("5s", "1s"))
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            places = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
            process = subprocess.Popen(
                [program, *places, f"--web.listen-address=127.0.0.1:{port}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            return f"http://127.0.0.1:{port}"

        yield start


def test_prometheus_reads_a_run_and_every_panel_of_the_board_has_an_answer(prometheus, tmp_path):
    from batchflow.cluster import connect
    from batchflow.dashboard.state import reset
    from batchflow.settings.cluster import ClusterSettings

    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    asked = {target["expr"] for panel in board["panels"] for target in panel.get("targets", [])}
    assert asked
    state = reset("a run")
    state.begin("mocks", 10, 4).done = 8
    state.hear({"fraction": 0.5, "train_loss": -1.0, "held_out_loss": -1.1})
    state.count_galaxies(["A/p0"], [])
    settings = ClusterSettings(cpu_workers=1, dashboard="127.0.0.1:0")
    with connect(settings, tmp_path / "scratch") as client:
        server = prometheus(urllib.parse.urlsplit(client.dashboard_link).netloc)
        ends = time.monotonic() + 60
        left = set(asked)
        while left and time.monotonic() < ends:
            time.sleep(1)
            left = {expression for expression in left if not answer(server, expression)}
    assert left == set()


def answer(server: str, expression: str) -> list[object]:
    """What Prometheus says of an expression; nothing where it is not there yet."""
    url = f"{server}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            found: list[object] = json.load(reply)["data"]["result"]
            return found
    except (urllib.error.URLError, ConnectionError):
        return []
