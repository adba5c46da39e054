"""LIBERO's Panda: one task of one suite, an outside and a wrist camera, a hand that turns.

LIBERO's own actions (1 = 5 cm or 0.5 rad a step) appear nowhere else. Positions are in the frame of the robot's base.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ...types import ArmState
from ..camera import RgbdCamera, Shot
from ..robot import Robot
from .expert import Expert, has_room
from .scenes import exchanged_landmarks, exchanged_slots
from .tasks import LIBERO_TASKS, LiberoTask, instructions_of, thing_of

CAMERAS = {"image": "agentview", "image_1": "robot0_eye_in_hand"}  # view: camera of LIBERO
FARTHEST_M = 3.0  # depth beyond it is not seen
FINGER_M = 0.04  # way of each finger
SETTLING_STEPS, SLIDING_STEPS = 5, 20  # things fall into place; and have slid off one another where they do
SLID_M = 0.03  # a bowl tilts over the rim of the ramekin by half of that, and is still on it
SCENES = 20  # to try
STEP_S = 0.05
# LIBERO's action 1 sets the goal of its controller 5 cm and half a radian ahead. The hand has gone a quarter of that
# way when the next step sets another goal (measured: 0.249 along x, y and z, 0.24 to 0.26 about them).
REACHED = 0.25
LARGEST = np.array([0.05 * REACHED / STEP_S] * 3 + [0.5 * REACHED / STEP_S] * 3 + [1.0])  # m/s, rad/s
HOLD = np.array([0.0] * 6 + [-1.0])


class LiberoRobot(Robot):
    """One task; see ``LiberoTask`` for which scene a seed gives."""

    step_s, action_dim, max_speed, max_turn = STEP_S, 7, float(LARGEST[0]), float(LARGEST[3])
    views = tuple(CAMERAS)
    replan_steps = 8  # 0.4 s: policies that are asked more often tend to stall at a grasp
    record_every = 4

    def __init__(self, task: str, image_size: int = 192) -> None:
        """
        Args:
            task: a name out of ``LIBERO_TASKS``. image_size: edge of the pictures in pixels.

        Raises:
            ValueError: the LIBERO that is installed has another task of this name.
        """
        self.task: LiberoTask = LIBERO_TASKS[task]
        with _quiet():
            self._env, self._states = _environment(self.task)
        # Building the scene anew at each reset takes a second or more; what else it would do, ``reset`` does.
        self._env.env.hard_reset = False
        self._cameras: list[RgbdCamera] = []
        for view, name in CAMERAS.items():
            beside = self._cameras[0] if self._cameras else None
            camera = RgbdCamera(
                self._model, name, view, image_size, visual_only=True, farthest_m=FARTHEST_M, beside=beside
            )
            self._cameras.append(camera)
        self.steps, self.success = 0, False
        self._seen: dict[str, np.ndarray] = {}
        self._base = np.eye(4)  # base_from_world
        self._expert: Expert | None = None
        self._wanted: str | None = None

    @property
    def _model(self) -> Any:
        return self._env.env.sim.model._model

    @property
    def _data(self) -> Any:
        return self._env.env.sim.data._data

    @property
    def state(self) -> ArmState:
        fingers = self._seen["robot0_gripper_qpos"]
        return ArmState(
            self.place_of("robot0_eef").astype(np.float32),
            float(np.clip((fingers[0] - fingers[1]) / (2 * FINGER_M), 0, 1)),
            self._turned(self._seen["robot0_eef_quat"]),
            np.asarray(self._seen["robot0_joint_pos"], np.float32),
        )

    def close(self) -> None:
        self._cameras[0].close()
        self._env.close()

    def place_of(self, thing: str) -> np.ndarray:
        """(3,) where a thing of the scene is, or the hand, ``robot0_eef``; metres, base frame."""
        return self._base[:3, :3] @ self._seen[f"{thing}_pos"] + self._base[:3, 3]

    def turn_of(self, thing: str) -> Rotation:
        """How a thing of the scene is turned, in the base frame."""
        return Rotation.from_quat(self._turned(self._seen[f"{thing}_quat"]))

    @property
    def goal(self) -> tuple[str, str]:
        """The thing that is moved and the thing in or on which it shall be."""
        _, thing, place = self._env.env.parsed_problem["goal_state"][0]
        return self._wanted or thing, place.removesuffix("_contain_region")

    @property
    def things(self) -> tuple[str, ...]:
        """Names of what can be moved in the scene."""
        return tuple(self._env.env.objects_dict)

    @property
    def errands(self) -> dict[str, str]:
        if self.task.suite != "libero_object":
            return super().errands
        things = {instruction: thing_of(instruction) for instruction in instructions_of(self.task.suite)}
        return {instruction: thing for instruction, thing in things.items() if thing in self.things}

    def send_for(self, thing: str) -> None:
        self._wanted = thing
        self._expert = Expert(self)

    def extent_of(self, thing: str) -> np.ndarray:
        """(2, 3) lower and upper corner of the box about a thing's shapes; metres, base frame."""
        model, data = self._model, self._data
        body = model.body(self._env.env.objects_dict[thing].root_body).id
        corners = []
        for geom in np.flatnonzero((model.body_rootid[model.geom_bodyid] == body) & (model.geom_contype != 0)):
            centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
            signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
            corners.append(data.geom_xpos[geom] + (centre + signs * half) @ data.geom_xmat[geom].reshape(3, 3).T)
        points = np.concatenate(corners) @ self._base[:3, :3].T + self._base[:3, 3]
        return np.stack([points.min(0), points.max(0)])

    def reset(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(SCENES):
            index = int(rng.integers(len(self._states))) if self.task.scattered else seed % len(self._states)
            self._begin(seed, index)
            if not self.task.scattered or self._scatter(rng):
                break
        else:
            raise RuntimeError(
                f"{self.task.name}, seed {seed}: in none of {SCENES} scenes is there room for all things, and they stay"
            )
        self.steps, self.success = 0, False
        self._expert = Expert(self)

    def _begin(self, seed: int, index: int) -> None:
        """Lay one of the benchmark's scenes out."""
        self._env.seed(seed % 2**31)
        self._env.reset()  # the controller forgets what it was at
        gripper = self._env.env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # where its fingers were on their way to
        self._seen = self._env.set_init_state(self._states[index])
        body = self._model.body("robot0_base").id
        turn = self._data.xmat[body].reshape(3, 3).T
        self._base[:3, :3], self._base[:3, 3] = turn, -turn @ self._data.xpos[body]
        self._wanted = None
        if not self.task.scattered:
            self._settle(SETTLING_STEPS)

    def _settle(self, steps: int) -> None:
        for _ in range(steps):
            self._seen, *_ = self._env.step(HOLD)

    def _scatter(self, rng: np.random.Generator) -> bool:
        """Whether a scene was found in which everything stays where it was put, as what stands on something may fall,
        and the hand gets at what is meant."""
        data = self._env.env.sim.data
        joints = {name: thing.joints[0] for name, thing in self._env.env.objects_dict.items()}
        poses = {name: np.array(data.get_joint_qpos(joint)) for name, joint in joints.items()}
        if self.task.suite == "libero_object":
            places = exchanged_slots({n: p[:3] for n, p in poses.items() if n != "basket_1"}, rng)
        else:
            between = self.task.number == 0
            places = exchanged_landmarks({name: pose[:3] for name, pose in poses.items()}, between, rng)
        if not places:
            return False
        for name, place in places.items():
            poses[name][:2] = place
            data.set_joint_qpos(joints[name], poses[name])
        self._env.env.sim.forward()
        self._settle(SLIDING_STEPS)
        stays = all(float(np.linalg.norm(self._seen[f"{n}_pos"][:2] - p)) < SLID_M for n, p in places.items())
        return stays and (self.task.suite != "libero_object" or has_room(self))

    def step(self, command: np.ndarray) -> None:
        # Commands are in the base frame, as LIBERO's actions are.
        action = np.clip(np.asarray(command, np.float64) / LARGEST, -1, 1)
        self._seen, *_ = self._env.step(action)
        self.steps += 1
        self.success = self.success or bool(self._env.check_success())

    def expert_command(self) -> np.ndarray:
        assert self._expert is not None, "reset first"
        return np.clip(self._expert.command(), -LARGEST, LARGEST).astype(np.float32)

    def render(self) -> tuple[Shot, ...]:
        return tuple(c.render(self._data, self._base @ c.pose(self._data)) for c in self._cameras)

    def _turned(self, quaternion: np.ndarray) -> np.ndarray:
        """Quaternion x y z w of the world in the base frame."""
        return (Rotation.from_matrix(self._base[:3, :3]) * Rotation.from_quat(quaternion)).as_quat()


def _environment(task: LiberoTask) -> tuple[Any, np.ndarray]:
    """LIBERO's environment of a task and its (50, n) initial states."""
    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs.env_wrapper import ControlEnv

    suite = benchmark.get_benchmark_dict()[task.suite]()
    known = suite.get_task(task.number)
    if known.language != task.instruction:
        raise ValueError(f"LIBERO's task {task.name} is {known.language!r}, not {task.instruction!r}: another version")
    bddl = os.path.join(get_libero_path("bddl_files"), known.problem_folder, known.bddl_file)
    env = ControlEnv(
        bddl_file_name=bddl, use_camera_obs=False, has_renderer=False, has_offscreen_renderer=False, ignore_done=True
    )
    return env, np.asarray(suite.get_task_init_states(task.number))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """robosuite and LIBERO print and warn of what does not matter here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
