"""The simulated robot: one Meta-World task seen and driven as a real arm would be.

Commands are end-effector velocities in m/s and a gripper command; Meta-World's own actions (1 = 1 cm a step)
appear nowhere else.
"""

from __future__ import annotations

import functools

import numpy as np

from ..geometry.clouds import depth_to_points
from ..types import ArmState, CameraModel, Observation, View
from .camera import RgbdCamera, mujoco
from .experts import OWN_EXPERTS
from .tasks import BallOnRay, Task, task_named

STEP_S = 0.0125  # Meta-World: 5 MuJoCo steps of 2.5 ms
MAX_SPEED = 0.01 / STEP_S  # m/s; Meta-World clips each axis to 1 cm a step


def _classes(task: Task) -> tuple[type, type]:
    """Environment and expert of a task."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    name = f"{task.environment}-v3"
    return ALL_V3_ENVIRONMENTS[name], OWN_EXPERTS.get(task.name) or ENV_POLICY_MAP[name]


class SimulatedRobot:
    """One task. Keep it alive and ``reset`` it: with OSMesa a second context after a closed one reads garbage.

    Attributes:
        task: what is to be done.
        camera: model of its camera.
        steps: steps since the reset.
    """

    def __init__(self, task: str | Task, image_size: int = 192) -> None:
        """Args: task: a name out of ``TASKS`` or a task. image_size: edge of the picture in pixels."""
        self.task = task_named(task) if isinstance(task, str) else task
        environment, expert = _classes(self.task)
        self._env, self._expert = environment(), expert()
        self._env._set_task_called = True
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self._env._partially_observable = False
        self._env.__dict__.pop("sawyer_observation_space", None)
        if self.task.object_range is not None:
            space = self._env._random_reset_space
            space.low[0], space.high[0] = -self.task.object_range, self.task.object_range
        if self.task.ball is not None:
            self._env.hand_init_pos = np.array(self.task.ball.start)
            self._env.goal_space.low[:], self._env.goal_space.high[:] = -1, 1  # observed goals are clipped to it
        model = self._env.model
        for site in range(model.nsite):
            if model.site(site).name != self.task.goal_site:
                model.site_rgba[site, 3] = 0
        self._camera = RgbdCamera(model, image_size)
        self._partner: SimulatedRobot | None = None
        self._seed, self._partner_seed = 0, -1
        self.steps = 0
        self._state = np.zeros(39)
        self._success = False

    @property
    def camera(self) -> CameraModel:
        return self._camera.model

    @property
    def success(self) -> bool:
        """Whether the goal was reached at any step since the reset."""
        return self._success

    @property
    def time_ns(self) -> int:
        """Simulated time since the reset."""
        return round(self.steps * STEP_S * 1e9)

    @property
    def proprio(self) -> np.ndarray:
        """(4,) float32: end-effector x, y, z in metres, gripper opening 0..1."""
        return self._state[:4].astype(np.float32)

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same scene whatever came before."""
        self._env.seed(seed)
        self._seed = seed
        self._env.reset()
        # Meta-World moves bodies and markers at reset but lets the kinematics catch up only at the next step:
        # without these two the first picture shows the scene of the episode before.
        for name, position in self._env._target_site_config:
            self._env.model.site(name).pos = position
        if self.task.ball is not None:
            self._place_ball(self.task.ball)
        mujoco.mj_forward(self._env.model, self._env.data)
        self._env._prev_obs = self._env._get_curr_obs_combined_no_goal()
        self._state = self._env._get_obs()
        self.steps = 0
        self._success = False

    def step(self, command: np.ndarray) -> None:
        """Apply (4,) velocity x, y, z in m/s and gripper -1..1 for one step of ``STEP_S``."""
        action = np.asarray(command, np.float64).copy()
        action[:3] /= MAX_SPEED
        # Meta-World refuses to step past its own horizon; ours is the task's and is judged by the caller.
        self._env.curr_path_length = 0
        self._state, _, _, _, info = self._env.step(np.clip(action, -1, 1).astype(np.float32))
        self.steps += 1
        done = bool(info["success"])
        if self.task.ball is not None:
            done = bool(np.linalg.norm(self._state[:3] - self._env._target_pos) <= self.task.ball.touch_m)
        self._success = self._success or done

    def _place_ball(self, ball: BallOnRay) -> None:
        rng = np.random.default_rng([self._seed, 2])
        pose = self.camera.base_from_camera
        mean = 0.5 * (ball.nearest_m + ball.farthest_m)
        across = rng.uniform(-ball.spread_m, ball.spread_m, 2)
        ray = pose[:3, :3] @ np.array([across[0], across[1], mean])
        distance = rng.uniform(ball.nearest_m, ball.farthest_m)
        centre = pose[:3, 3] + distance * ray / np.linalg.norm(ray)
        site = self._env.model.site("goal")
        site.pos, site.size = centre, ball.radius_m * distance / mean
        self._env._target_pos = centre

    def expert_command(self) -> np.ndarray:
        """(4,) float32: what the scripted expert, which sees the true state, would command now."""
        action = np.clip(self._expert.get_action(self._state), -1, 1)
        action[:3] *= MAX_SPEED
        return action.astype(np.float32)

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """rgb (H, W, 3) uint8 and depth (H, W) float32 in metres, 0 where nothing was hit."""
        return self._camera.render(self._env.data)

    def observe(self, instruction: str | None = None) -> Observation:
        """What the sensors see now. instruction: defaults to the task's own."""
        rgb, depth = self.render()
        return Observation(
            stamp_ns=self.time_ns,
            views=(View("image", rgb, self.camera),),
            points=depth_to_points(depth, self.camera),
            state=ArmState(self.proprio[:3], float(self.proprio[3])),
            instruction=self.task.instruction if instruction is None else instruction,
        )

    def partner_success(self) -> bool:
        """Whether the present state fulfils the partner task, which shares this scene.

        Raises:
            ValueError: this task has no partner.
        """
        if self.task.partner is None:
            raise ValueError(f"task {self.task.name!r} has no partner task in the same scene")
        if self._partner is None:
            self._partner = SimulatedRobot(self.task.partner)
        mine, theirs = self._env, self._partner._env
        if self._partner_seed != self._seed:  # same seed, same scene
            self._partner.reset(self._seed)
            self._partner_seed = self._seed
        theirs.data.qpos[:], theirs.data.qvel[:] = mine.data.qpos, 0
        mujoco.mj_forward(theirs.model, theirs.data)
        return bool(theirs.evaluate_state(theirs._get_obs(), np.zeros(4, np.float32))[1]["success"])


@functools.cache
def robot_of(task: str, image_size: int = 192) -> SimulatedRobot:
    """The one robot of this process for a task: see ``SimulatedRobot`` on keeping them alive."""
    return SimulatedRobot(task, image_size)
