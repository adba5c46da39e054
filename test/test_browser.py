"""Pages in a real browser, headless: plots are drawn, nothing is complained of, nothing is fetched."""

from __future__ import annotations

import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bags import write_bag
from conftest import make_observation

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.latency.results_file import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of the browsers {', '.join(NAMES)} is installed")

# What the browser wants for itself, whatever page is open.
ITS_OWN = re.compile(r"(^|\.)(google|googleapis|gstatic|gvt1|googleusercontent)\.com$")
PUSH = "push the puck to the goal"


@dataclass(frozen=True)
class Opened:
    """A page after its scripts ran: its DOM as HTML, what the console said, hosts that were asked for."""

    dom: str
    console: list[str]
    hosts: set[str]

    @property
    def plots(self) -> list[str]:
        """HTML of each plot."""
        return re.split(r"<div[^>]*plotly-graph-div", self.dom)[1:]


class _Proxy(socketserver.StreamRequestHandler):
    """Notes the host of whatever is asked of it, and refuses."""

    def handle(self) -> None:
        words = self.rfile.readline().decode(errors="replace").split()
        if len(words) > 1:
            self.server.hosts.add(re.sub(r"^\w+://", "", words[1]).split("/")[0].split(":")[0])  # type: ignore[attr-defined]
        self.wfile.write(b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def open_page(page: Path, profile: Path) -> Opened:
    """Let the browser draw a page; every request of it goes to a proxy that refuses."""
    assert BROWSER is not None
    with _Server(("127.0.0.1", 0), _Proxy) as server:
        server.hosts = set()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-zygote", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={profile}",
            f"--proxy-server=127.0.0.1:{server.server_address[1]}",
            "--window-size=1200,2000", "--virtual-time-budget=8000", "--dump-dom", page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        server.shutdown()
        hosts = {host for host in server.hosts if not ITS_OWN.search(host)}  # type: ignore[attr-defined]
    assert "</html>" in done.stdout, done.stderr[-2000:]
    return Opened(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], hosts)


def assert_clean(page: Opened, plots: int) -> None:
    assert not page.console and not page.hosts
    assert len(page.plots) == plots
    for plot in page.plots:
        assert 'class="main-svg"' in plot
        assert re.search(
            r'<path class="js-line"[^>]* d="M\d|<g class="point"><path d="M\d|class="point"[^>]*d="M', plot
        ), "a plot without data"
    assert "NaN" not in "".join(re.findall(r' d="([^"]*)"', page.dom))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "bag"
    views: list[Any] = [make_observation(seed=i, stamp_ns=10**9 + i * 50_000_000) for i in range(6)]
    # The depth of one frame is lost, so that there is something in the plot of what was not used.
    write_bag(folder, [PUSH, *views[:3], PUSH, *views[3:]], lost=(2, "depth"), commands=True)
    return folder


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("control")
    page = folder / "page.html"
    page.write_text(
        "<!doctype html><html><body><img src='http://pictures.invalid/a.png'>"
        "<script>thereIsNoSuchFunction()</script></body></html>"
    )
    yield open_page(page, folder / "profile")


def test_faults_of_a_page_would_be_seen(control: Opened) -> None:
    assert control.hosts == {"pictures.invalid"}
    assert any("thereIsNoSuchFunction" in line for line in control.console)


def test_replay_page_is_drawn(bag: Path, tiny_policy_folder: Path, tmp_path: Path) -> None:
    arguments = ["--policy", str(tiny_policy_folder), "--keep", "0.35", "--no-annotated", "--out", str(tmp_path),
                 "--sync-tolerance-ms", "10"]  # fmt: skip
    assert main(["replay", str(bag), *arguments]) == 0
    page = open_page(tmp_path / "replay.html", tmp_path / "profile")
    assert_clean(page, plots=4)
    for words in (
        "share of 2D, % (the rest is 3D)",
        "mean error, in std of the action",
        "policy call, ms",
        "superseded",
    ):
        assert words in page.dom
    # All pictures were decoded, which the page says by none of them being shown by its words.
    assert page.dom.count('<img src="data:image') >= 5


def test_analysis_page_is_drawn(bag: Path, tiny_policy_folder: Path, tmp_path: Path) -> None:
    assert main(["analyze", str(bag), "--policy", str(tiny_policy_folder), "--out", str(tmp_path)]) == 0
    assert_clean(open_page(tmp_path / "analysis.html", tmp_path / "profile"), plots=5)


def test_bench_page_is_drawn(tmp_path: Path) -> None:
    same = {"subject": "base", "width": 384, "depth": 12, "visual_tokens": 512, "device": "cpu", "cpu": "a CPU",
            "threads": 2}  # fmt: skip
    rows = [
        {**same, "variant": name, "keep_ratio": keep, "policy_ms_p50": ms, "policy_ms_p99": 1.2 * ms,
         "backbone_ms_p50": 0.9 * ms, "floor_ms": 0.5 * ms, "speed_up": 100 / ms, "tokens": round(512 * keep)}
        for name, keep, ms in (("upstream", 1.0, 100.0), ("pruned_cached", 0.5, 20.0))
    ]  # fmt: skip
    write_page(rows, tmp_path / "latency.html")
    page = open_page(tmp_path / "latency.html", tmp_path / "profile")
    assert_clean(page, plots=1)
    assert "5.00 x, 256 tokens" in page.dom and "milliseconds" in page.dom
