"""Documents match the tree: links resolve, the files they name exist, lists of commands and parameters are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mvla_pruned_ros.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mvla_pruned_ros"
PUBLIC = {"mvla_pruned_ros", *(f"mvla_pruned_ros.{part}" for part in ("policy", "pruning", "messages"))}
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *PACKAGE.glob("models/*/README.md")])


def text_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`((?:[\w.]+/)+\w+\.(?:py|yaml|xml|json|md|sh))[`:]", text_of(page)))
    homes = (ROOT, PACKAGE, PACKAGE / "pruning", page.parent)
    elsewhere = ("out/", "build/", "RUN/")  # written by commands

    def is_there(path: str) -> bool:
        return "NAME" in path or path.startswith(elsewhere) or any((home / path).exists() for home in homes)

    assert [path for path in sorted(named) if not is_there(path)] == []


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=name_of)
def test_examples_import_public_names_only(page: Path) -> None:
    modules = re.findall(r"^(?:from|import) (mvla_pruned_ros[\w.]*)", page.read_text(), re.MULTILINE)
    assert modules and set(modules) <= PUBLIC


def test_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(16, 4) ")


def test_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_page_of_the_command_names_every_subcommand() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in COMMANDS if f"`mvla {name}`" not in page] == []


def test_page_of_parameters_names_every_parameter() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.node.parameters import PRUNING, SPECS

    named = set(re.findall(r"`([\w.]+)`", (ROOT / "docs" / "parameters.md").read_text()))
    assert {name for name in SPECS if not name.startswith(PRUNING)} <= named


def test_page_of_topics_names_every_stream() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.node.parameters import SPECS, Settings
    from mvla_pruned_ros.node.subscriptions import input_topics

    page = (ROOT / "docs" / "topics.md").read_text()
    for changes in (
        {},
        {"image_transport": "compressed", "depth_transport": "compressedDepth", "depth_registered": False},
        {"cloud_source": "points"},
    ):
        settings = Settings.of({**{name: spec.default for name, spec in SPECS.items()}, **changes})
        missing = [topic for _, topic in input_topics(settings).values() if f"`{topic}`" not in page]
        assert not missing
