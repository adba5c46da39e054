#!/usr/bin/env python3
"""Draw docs/benchmarks/latency.svg from latency.json: how long pruned calls take, as a share of unpruned ones.

scripts/latency_picture.py [--rows docs/benchmarks/latency.json] [--out docs/benchmarks/latency.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mvla_pruned_ros.evaluation.latency.results_file import read_rows

HERE = Path(__file__).parents[1] / "docs" / "benchmarks"
# Title; subject, width and visual tokens; variants without and with pruning.
GROUPS = (
    ("medium: width 192, 260 visual tokens, one pass", ("medium", 192, 260), "cached", "pruned_cached"),
    ("panda: width 256, 520 visual tokens, one pass", ("panda", 256, 520), "cached", "pruned_cached"),
    ("base: width 384, 512 visual tokens, eight steps on one prefix", ("base", 384, 512), "cached", "pruned_cached"),
    ("base: each of the eight steps recomputes all, as MLA does", ("base", 384, 512), "upstream", "pruned"),
    ("base at width 1024: each step recomputes all", ("base", 1024, 512), "upstream", "pruned"),
)
LEFT, WIDE, BAR, STEP, HEAD = 110, 560, 15, 20, 28  # pixels


def picture(rows: list[dict[str, Any]]) -> str:
    """The drawing as SVG."""
    parts, y = [], 12
    for title, key, without, pruned in GROUPS:
        of = [r for r in rows if (r["subject"], r["width"], r["visual_tokens"]) == key]
        (full,) = (r for r in of if r["variant"] == without)
        parts.append(f'<text x="{LEFT}" y="{y + 16}" font-weight="bold">{title}</text>')
        y += HEAD
        for r in [full, *sorted((r for r in of if r["variant"] == pruned), key=lambda r: -r["keep_ratio"])]:
            # Both have been timed against the first variant of one run, round by round.
            share = full["speed_up"] / r["speed_up"]
            colour, times = ("#9ab3d5", "") if r is full else ("#3266ad", f" · {1 / share:.2f} times as fast")
            parts += [
                f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">keep {r["keep_ratio"]:g}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{WIDE * share:.1f}" height="{BAR}" fill="{colour}"/>',
                f'<text x="{LEFT + WIDE * share + 6:.1f}" y="{y + 12}">{r["policy_ms_p50"]:.0f} ms{times}</text>',
            ]
            y += STEP
        y += 10
    size = f'viewBox="0 0 920 {y}" width="920" height="{y}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="font: 12px sans-serif; fill: #222">',
            f'<rect width="920" height="{y}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Read and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=HERE / "latency.json", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "latency.svg", help="default: %(default)s")
    args = parser.parse_args()
    args.out.write_text(picture(read_rows(args.rows)["rows"]), encoding="utf-8")
    print(f"drew {args.out}")


if __name__ == "__main__":
    main()
