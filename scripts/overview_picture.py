#!/usr/bin/env python3
"""Draw docs/overview.png: what the package does, on a real call of the shipped policy in the simulated robot.

scripts/overview_picture.py [--task peg-unplug-side] [--seed 3] [--steps 32] [--keep 0.35] [--out docs/overview.png]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "osmesa")

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.models import policy_folder
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.preprocess import group_points, square_image
from mvla_pruned_ros.policy.runtime import Inference, PolicyRuntime
from mvla_pruned_ros.policy.source import load_policy
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.reports.overlay import draw_overlay
from mvla_pruned_ros.sim.robot import robot_of
from mvla_pruned_ros.types import CameraModel, Observation

SIDE, GAP, TOP, BOTTOM = 384, 76, 52, 96  # pixels
INK, PALE = (30, 34, 42), (120, 126, 138)
AXES = {"x": (50, 102, 173), "y": (217, 95, 2), "z": (27, 158, 119)}
BESIDE = look_at(np.array([-0.75, 0.25, 0.75]), np.array([-0.02, 0.66, 0.14]))  # where the cloud is looked at from


def drive(task: str, seed: int, steps: int, keep: float) -> tuple[Observation, Inference]:
    """The call after ``steps`` control steps of an episode, and what it saw."""
    policy = load_policy(policy_folder("small"))
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", keep, TriStageConfig.of_policy(policy_folder("small"))))
    robot = robot_of(task, 2 * policy.config.image_size)  # the policy resamples; a picture wants more
    robot.reset(seed)
    while True:
        seen = robot.observe()
        inference = runtime.infer(seen)
        if robot.steps >= steps:
            return seen, inference
        for action in inference.chunk.actions[: robot.replan_steps]:
            robot.step(action)


def draw_cloud(seen: Observation) -> Image.Image:
    """The cloud of the workspace and the centres of its groups, from beside the camera."""
    cloud = group_points(seen.points, MVLAConfig.load(policy_folder("small") / "config.json"))
    camera = CameraModel(SIDE, SIDE, 1.75 * SIDE, 1.75 * SIDE, SIDE / 2, SIDE / 2, BESIDE)
    picture = Image.new("RGB", (SIDE, SIDE), (24, 27, 33))
    draw = ImageDraw.Draw(picture)
    for points, radius, bright in ((cloud.points, 1.6, 0.75), (cloud.centres, 4.0, 1.0)):
        uv, depth = camera.project(points)
        for i in np.argsort(-depth):
            share = float(np.clip(points[i, 2] / 0.3, 0, 1))
            colour = tuple(int(bright * c) for c in (70 + 185 * share, 150 + 60 * share, 255 - 190 * share))
            u, v = uv[i]
            draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=colour)
    return picture


def draw_chunk(inference: Inference) -> Image.Image:
    """Velocities of the action chunk over its steps."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    actions = inference.chunk.actions[:, :3]
    top, left, largest = 44, 14, float(np.abs(actions).max()) or 1.0
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=(200, 204, 212))
    middle = (top + SIDE) / 2
    draw.line((left, middle, SIDE - left, middle), fill=(200, 204, 212))
    width = (SIDE - 2 * left) / len(actions)
    for number, (name, colour) in enumerate(AXES.items()):
        line = []
        for step, value in enumerate(actions[:, number]):
            y = middle - 0.9 * (SIDE - top) / 2 * float(value) / largest
            line += [(left + step * width, y), (left + (step + 1) * width, y)]
        draw.line(line, fill=colour, width=4, joint="curve")
        draw.text((left + 110 * number, 14), f"velocity {name}", fill=colour, font=font)
    return picture


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="peg-unplug-side")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32, help="into the episode")
    parser.add_argument("--keep", type=float, default=0.35)
    parser.add_argument("--out", type=Path, default=Path("docs/overview.png"))
    args = parser.parse_args()
    seen, inference = drive(args.task, args.seed, args.steps, args.keep)
    image, camera = square_image(seen.views[0].image, seen.views[0].camera, SIDE)
    selection, layout = inference.selection, inference.layout
    kept_image, kept_points = len(selection.image_kept), len(selection.points_kept)
    panels = [
        (Image.fromarray(image), "2D: camera image", f"{selection.num_image} patches"),
        (draw_cloud(seen), "3D: point cloud", f"{layout.num_points} groups of points"),
        (
            Image.fromarray(draw_overlay([(image, camera)], selection, layout, scale=1)),
            "pruned, before anything is encoded",
            f"{kept_image} patches (bright) and {kept_points} groups (dots:\nred robot, yellow object, green rest)",
        ),
        (draw_chunk(inference), "commands", f"a chunk of {len(inference.chunk.actions)} actions for"
                                            f'\n"{seen.instruction}"'),
    ]  # fmt: skip
    picture = Image.new("RGB", (len(panels) * (SIDE + GAP), TOP + SIDE + BOTTOM), "white")
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(22), ImageFont.load_default(17)
    for number, (panel, title, caption) in enumerate(panels):
        x = GAP // 2 + number * (SIDE + GAP)
        picture.paste(panel, (x, TOP))
        draw.text((x, 14), title, fill=INK, font=large)
        draw.multiline_text((x, TOP + SIDE + 10), caption, fill=PALE, font=small, spacing=6)
        if number:
            middle, tip = TOP + SIDE // 2, x - 14
            if number == 1:
                draw.text((x - GAP // 2 - 10, middle - 22), "+", fill=INK, font=ImageFont.load_default(40))
            else:
                draw.line((tip - 44, middle, tip - 12, middle), fill=INK, width=6)
                draw.polygon(((tip, middle), (tip - 18, middle - 13), (tip - 18, middle + 13)), fill=INK)
    picture.save(args.out, optimize=True)
    print(f"wrote {args.out}: {args.task}, seed {args.seed}, step {args.steps}, keep {args.keep:g}")


if __name__ == "__main__":
    main()
