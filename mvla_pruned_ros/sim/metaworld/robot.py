"""Meta-World's arm: one task seen and driven as a real one would be.

Meta-World's own actions (1 = 1 cm a step) appear nowhere else.
"""

from __future__ import annotations

import numpy as np

from ...types import ArmState
from ..camera import OPTICAL, RgbdCamera, Shot, mujoco
from ..robot import Robot
from .experts import OWN_EXPERTS
from .tasks import TASKS, BallOnRay, MetaWorldTask
from .viewpoint import FIELD_OF_VIEW_DEG, POSITION, camera_pose

STEP_S = 0.0125  # Meta-World: 5 MuJoCo steps of 2.5 ms
MAX_SPEED = 0.01 / STEP_S  # m/s; Meta-World clips each axis to 1 cm a step


def _classes(task: MetaWorldTask) -> tuple[type, type]:
    """Environment and expert of a task."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    name = f"{task.environment}-v3"
    return ALL_V3_ENVIRONMENTS[name], OWN_EXPERTS.get(task.name) or ENV_POLICY_MAP[name]


class MetaWorldRobot(Robot):
    """One task, one camera, a hand that does not turn."""

    step_s, action_dim, max_speed, max_turn = STEP_S, 4, MAX_SPEED, 0.0
    views = ("image",)
    replan_steps = 4  # a camera of 20 Hz beside control steps of 12.5 ms
    record_every = 2

    def __init__(self, task: str | MetaWorldTask, image_size: int = 192) -> None:
        """Args: task: a name out of ``TASKS`` or a task. image_size: edge of the picture in pixels."""
        self.task: MetaWorldTask = TASKS[task] if isinstance(task, str) else task
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
        camera = model.camera("corner").id
        model.cam_pos[camera], model.cam_fovy[camera] = POSITION, FIELD_OF_VIEW_DEG
        self._pose = camera_pose()
        mujoco.mju_mat2Quat(model.cam_quat[camera], (self._pose[:3, :3] @ OPTICAL).ravel())
        self._camera = RgbdCamera(model, "corner", "image", image_size)
        self._partner: MetaWorldRobot | None = None
        self._seed, self._partner_seed = 0, -1
        self.steps = 0
        self.success = False
        self._state = np.zeros(39)

    def close(self) -> None:
        self._camera.close()

    @property
    def state(self) -> ArmState:
        """Position and gripper: the mocap weld that holds the hand leaves its orientation as it is."""
        position = self._state[:4].astype(np.float32)
        return ArmState(position[:3], float(position[3]))

    def reset(self, seed: int) -> None:
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
        self.success = False

    def step(self, command: np.ndarray) -> None:
        action = np.asarray(command, np.float64).copy()
        action[:3] /= MAX_SPEED
        # Meta-World refuses to step past its own horizon; ours is the task's and is judged by the caller.
        self._env.curr_path_length = 0
        self._state, _, _, _, info = self._env.step(np.clip(action, -1, 1).astype(np.float32))
        self.steps += 1
        done = bool(info["success"])
        if self.task.ball is not None:
            done = bool(np.linalg.norm(self._state[:3] - self._env._target_pos) <= self.task.ball.touch_m)
        self.success = self.success or done

    def _place_ball(self, ball: BallOnRay) -> None:
        rng = np.random.default_rng([self._seed, 2])
        pose = self._pose
        mean = 0.5 * (ball.nearest_m + ball.farthest_m)
        across = rng.uniform(-ball.spread_m, ball.spread_m, 2)
        ray = pose[:3, :3] @ np.array([across[0], across[1], mean])
        distance = rng.uniform(ball.nearest_m, ball.farthest_m)
        centre = pose[:3, 3] + distance * ray / np.linalg.norm(ray)
        site = self._env.model.site("goal")
        site.pos, site.size = centre, ball.radius_m * distance / mean
        self._env._target_pos = centre

    def expert_command(self) -> np.ndarray:
        action = np.clip(self._expert.get_action(self._state), -1, 1)
        action[:3] *= MAX_SPEED
        return action.astype(np.float32)

    def render(self) -> tuple[Shot, ...]:
        return (self._camera.render(self._env.data, self._pose),)

    def partner_success(self) -> bool:
        if self.task.partner is None:
            return super().partner_success()
        if self._partner is None:
            self._partner = MetaWorldRobot(self.task.partner)
        mine, theirs = self._env, self._partner._env
        if self._partner_seed != self._seed:  # same seed, same scene
            self._partner.reset(self._seed)
            self._partner_seed = self._seed
        theirs.data.qpos[:], theirs.data.qvel[:] = mine.data.qpos, 0
        mujoco.mj_forward(theirs.model, theirs.data)
        return bool(theirs.evaluate_state(theirs._get_obs(), np.zeros(4, np.float32))[1]["success"])
