"""The report of ``mvla demo`` as one page that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from ...policy.engine.machine import machine
from ...reports.style import BLUE, GREY, ORANGE, page, section, styled, table
from .report import Played, compared, flow, verdict

HOW_TO_READ = (
    "The columns of a policy played the same scenes, over DDS. Times are medians. A policy call is all from the "
    "observation to the actions. From image to actions is the time from the arrival of the image in the policy node "
    "until the actions are in place; the next command takes the one that is due. Calls that are possible are made one "
    "after another; those made here waited for the camera, which sends images as often as where the policies are "
    "evaluated. The first call of each episode keeps all tokens."
)


def draw_page(runs: Sequence[Played], filmed: bool) -> str:
    """HTML of the whole page, for one policy or several. filmed: whether demo.gif lies beside it."""
    head, rows = compared(runs)
    parts = [
        section("What pruning brought" if verdict(runs) else "What was played", verdict(runs)),
        table(head, rows),
        section("How to read it", HOW_TO_READ),
        section("Policy calls", "All calls of all episodes. Boxes: quartiles and median.", _calls(runs)),
        section("Episodes", "Those that were not solved are grey.", _episodes(runs)),
    ]
    film = "; demo.gif beside this page shows the first episode of each task" if filmed else ""
    return page("mvla demo", parts, note=f"{flow(runs)}; {machine()['cpu']}{film}.")


def _calls(runs: Sequence[Played]) -> go.Figure:
    drawn = go.Figure()
    for played in runs:
        for (way, logs), colour in zip(played.ways.items(), (BLUE, ORANGE)):
            calls = [call["policy_ms"] for log in logs for call in log.inferences]
            drawn.add_box(x=calls, name=f"{played.options.policy_name}, {way}", boxpoints=False, marker_color=colour)
    drawn.update_xaxes(title="ms", rangemode="tozero")
    drawn.update_yaxes(automargin=True, autorange="reversed")
    return styled(drawn, height=160 + 60 * len(drawn.data), showlegend=False, hovermode="closest")


def _episodes(runs: Sequence[Played]) -> go.Figure:
    drawn = go.Figure()
    for played in runs:
        policy = played.options.policy_name
        for (way, logs), colour in zip(played.ways.items(), (BLUE, ORANGE)):
            drawn.add_bar(
                x=[f"{policy}: {log.task}, seed {log.seed}" for log in logs],
                y=[log.steps for log in logs],
                marker_color=[colour if log.success else GREY for log in logs],
                name=f"{policy}, {way}",
            )
    drawn.update_xaxes(automargin=True)
    drawn.update_yaxes(title="steps until solved", rangemode="tozero")
    return styled(drawn, height=480, showlegend=False, hovermode="closest")
