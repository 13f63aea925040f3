"""RoboCasa (Nasiriany et al., 2024) behind :mod:`ptrlib.simulators.protocol`: the paper's 24 kitchen tasks.

Works with any distribution whose import name is ``robocasa``; the pinned one is in
``requirements/simulators.txt``. The environments, their success checks and their time limits are the library's.
Its 5 GB of assets are used where they are; otherwise the tasks run in the kitchen that
:mod:`ptrlib.simulators.robocasa_kitchen` generates, and the provenance of every file and run says which.

Images are rendered only on request, as :mod:`ptrlib.simulators.rendering` does, and every scene is a function of
its seed alone, bit for bit.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ptrlib.simulators import rendering
from ptrlib.simulators.protocol import SimulatorMissing, TaskSpec, World, choose_tasks
from ptrlib.simulators.robocasa_kitchen import CATEGORIES, LAYOUTS, OBJECT_REGISTRY, STYLES, build_kitchen
from ptrlib.simulators.robosuite_simulator import CONTROL_FREQUENCY, RobosuiteSimulator, quiet, versions
from ptrlib.simulators.seeding import numpy_seed

ROBOT = "PandaOmron"
CAMERAS = {"agentview_left": "robot0_agentview_left", "agentview_right": "robot0_agentview_right",
           "eye_in_hand": "robot0_eye_in_hand"}  # ours -> the model's
EVALUATION_EPISODES = 50  # trials per task (Section 5.1), over five scenes
EVALUATION_SEED = 20250601  # evaluation scene k is drawn from this and k
ASSETS_VARIABLE = "PTRLIB_ROBOCASA_ASSETS"  # "auto", "minimal" or "full" for commands that have no such option
DOWNLOAD = "python -m robocasa.scripts.download_kitchen_assets"
ASSET_FOLDERS = ("textures", "generative_textures", *(f"fixtures/{name}" for name in (
    "coffee_machines", "dishwashers", "fridges", "hoods", "microwaves", "ovens", "sinks", "stoves", "toasters")),
    "objects/objaverse", "objects/lightwheel")  # what the download adds to the package, an archive each or in one
DISTRIBUTIONS = ("praxis-robocasa", "robocasa", "praxis-robosuite", "robosuite", "mujoco", "numpy")
PICK_PLACE, DOOR_DRAWER, OTHERS = "robocasa_pick_place", "robocasa_door_drawer", "robocasa_others"
ALL = "robocasa_all"  # the suite of the 24
SHORT = "robocasa_short"  # the suite of those whose demonstrations take less than 150 steps on average
SIX = "robocasa_six"  # six of these, judged in new scenes of the kitchens that demonstrations come from
PASSING = "robocasa_passing"  # those whose demonstrators succeed in 80 % of the report's scenes, judged likewise


@dataclass(frozen=True)
class KitchenTask:
    """One of the paper's tasks, by its name there (RoboCasa 0.1), and what it is called now."""

    name: str
    category: str
    environment: str  # class of the installed library
    instruction: str  # in general words; every scene has a sentence of its own
    fixture: str = ""  # FixtureType that the class is made with


TASKS = (
    KitchenTask("PnPCounterToCab", PICK_PLACE, "PickPlaceCounterToCabinet",
                "pick the object from the counter and place it in the cabinet"),
    KitchenTask("PnPCabToCounter", PICK_PLACE, "PickPlaceCabinetToCounter",
                "pick the object from the cabinet and place it on the counter"),
    KitchenTask("PnPCounterToSink", PICK_PLACE, "PickPlaceCounterToSink",
                "pick the object from the counter and place it in the sink"),
    KitchenTask("PnPSinkToCounter", PICK_PLACE, "PickPlaceSinkToCounter",
                "pick the object from the sink and place it on the plate located on the counter"),
    KitchenTask("PnPCounterToMicrowave", PICK_PLACE, "PickPlaceCounterToMicrowave",
                "pick the object from the counter and place it in the microwave"),
    KitchenTask("PnPMicrowaveToCounter", PICK_PLACE, "PickPlaceMicrowaveToCounter",
                "pick the object from the microwave and place it on the plate located on the counter"),
    KitchenTask("PnPCounterToStove", PICK_PLACE, "PickPlaceCounterToStove",
                "pick the object from the plate and place it in the pan"),
    KitchenTask("PnPStoveToCounter", PICK_PLACE, "PickPlaceStoveToCounter",
                "pick the object from the pan and place it on the plate"),
    KitchenTask("OpenSingleDoor", DOOR_DRAWER, "OpenCabinet", "open the cabinet door", "CABINET_SINGLE_DOOR"),
    KitchenTask("CloseSingleDoor", DOOR_DRAWER, "CloseCabinet", "close the cabinet door", "CABINET_SINGLE_DOOR"),
    KitchenTask("OpenDoubleDoor", DOOR_DRAWER, "OpenCabinet", "open the cabinet doors", "CABINET_DOUBLE_DOOR"),
    KitchenTask("CloseDoubleDoor", DOOR_DRAWER, "CloseCabinet", "close the cabinet doors", "CABINET_DOUBLE_DOOR"),
    KitchenTask("OpenDrawer", DOOR_DRAWER, "OpenDrawer", "open the drawer"),
    KitchenTask("CloseDrawer", DOOR_DRAWER, "CloseDrawer", "close the drawer"),
    KitchenTask("TurnOnStove", OTHERS, "TurnOnStove", "turn on the burner of the stove"),
    KitchenTask("TurnOffStove", OTHERS, "TurnOffStove", "turn off the burner of the stove"),
    KitchenTask("TurnOnSinkFaucet", OTHERS, "TurnOnSinkFaucet", "turn on the sink faucet"),
    KitchenTask("TurnOffSinkFaucet", OTHERS, "TurnOffSinkFaucet", "turn off the sink faucet"),
    KitchenTask("TurnSinkSpout", OTHERS, "TurnSinkSpout", "turn the sink spout"),
    KitchenTask("CoffeeSetupMug", OTHERS, "CoffeeSetupMug",
                "pick the mug from the counter and place it under the coffee machine dispenser"),
    KitchenTask("CoffeeServeMug", OTHERS, "CoffeeServeMug",
                "pick the mug from under the coffee machine dispenser and place it on the counter"),
    KitchenTask("CoffeePressButton", OTHERS, "StartCoffeeMachine", "press the button on the coffee machine"),
    KitchenTask("TurnOnMicrowave", OTHERS, "TurnOnMicrowave", "press the start button on the microwave"),
    KitchenTask("TurnOffMicrowave", OTHERS, "TurnOffMicrowave", "press the stop button on the microwave"),
)
_SHORT = ("CloseSingleDoor", "OpenDrawer", "CloseDrawer", "TurnOnStove", "TurnOffStove", "TurnOnSinkFaucet",
          "TurnOffSinkFaucet", "TurnSinkSpout", "CoffeePressButton", "TurnOnMicrowave", "TurnOffMicrowave")
_SIX = ("CloseSingleDoor", "OpenDrawer", "CloseDrawer",  # of Door/Drawer those of the short tasks
        "TurnSinkSpout", "TurnOnMicrowave", "TurnOffMicrowave")  # of Others the three shortest
_FAILING = ("OpenSingleDoor", "OpenDoubleDoor", "CoffeeSetupMug")
SUITES = {ALL: TASKS, **{category: tuple(task for task in TASKS if task.category == category)
                         for category in (PICK_PLACE, DOOR_DRAWER, OTHERS)},
          **{suite: tuple(task for task in TASKS if task.name in names)
             for suite, names in ((SHORT, _SHORT), (SIX, _SIX))},
          PASSING: tuple(task for task in TASKS if task.name not in _FAILING)}
IN_SEEN_KITCHENS = (SIX, PASSING)


@dataclass(frozen=True)
class Assets:
    """A folder of assets, the scenes in it and the objects that it offers.

    Scenes are pairs of a layout's and a style's number. Those of evaluation are never drawn for demonstrations,
    nor are the object instances that evaluation uses. (Suites ``IN_SEEN_KITCHENS`` take the scenes of training.)
    """

    kind: str  # "minimal" | "full"
    root: Path
    layouts: dict[str, int]  # name -> number
    registries: tuple[str, ...]
    training_scenes: tuple[tuple[int, int], ...]
    evaluation_scenes: tuple[tuple[int, int], ...]

    def provenance(self) -> dict[str, str]:
        """Which kitchen this is; the name of the generated one is a hash of its content."""
        return {"assets": self.kind, "kitchen": self.root.name if self.kind == "minimal" else "official"}

    def scenes_of(self, layouts: Sequence[str] | None, evaluation: bool) -> list[tuple[int, int]]:
        """The scenes of evaluation or training, in the named layouts only if names are given.

        Raises:
            ValueError: no such layout, or no evaluation scene in any of them.
        """
        for name in layouts or ():
            if name not in self.layouts:
                raise ValueError(f"the {self.kind} kitchen has no layout {name!r}; it has {', '.join(self.layouts)}")
        numbers = {self.layouts[name] for name in layouts or self.layouts}
        scenes = [scene for scene in (self.evaluation_scenes if evaluation else self.training_scenes)
                  if scene[0] in numbers]
        if not scenes:
            raise ValueError(f"no {'evaluation' if evaluation else 'training'} scene of the {self.kind} kitchen has "
                             f"layout {' or '.join(layouts or ())}; choose other layouts")
        return scenes


class RobocasaSimulator(RobosuiteSimulator):
    """One of the 24 tasks; see :class:`ptrlib.simulators.protocol.Simulator`.

    State (11,): end-effector position (m) 3 and axis-angle (rad) 3 in the frame of the mobile base, finger joint
    positions (m) 2, base position (m, world) 3. Action (12,) in [-1, 1]: end-effector position delta 3 (5 cm) and
    rotation delta 3 (0.5 rad) in the frame of the base, gripper (-1 open), base velocity 3, torso, mode (above 0
    the base moves, else the arm).

    ``task.instruction`` is the present scene's; ``env`` and ``sim`` change at every reset, as the scene is another one.
    """

    embodiment = "robocasa"
    model_cameras = CAMERAS
    mesh_share = 1 / 20  # the robot's meshes are most of what an image costs

    def __init__(self, suite: str, task: TaskSpec, assets: Assets, *, image_size: int = 128, render: bool = True,
                 layouts: Sequence[str] | None = None) -> None:
        super().__init__(suite, task, image_size=image_size, render=render)
        self.kitchen_task = task_named(task.name)
        self.assets = assets
        self.layouts = tuple(layouts) if layouts else None
        assets.scenes_of(self.layouts, evaluation=False)
        self.env = _make_environment(self.kitchen_task, assets)
        self.time_limit = _time_limit(self.kitchen_task)

    def reset(self, *, init_state: int | None = None, seed: int | None = None) -> None:
        """Evaluation scene ``init_state`` (its kitchen is the ``init_state``-th in turn), or a draw by ``seed``."""
        self._check_reset(init_state, seed, self.task.init_states)
        if init_state is not None:
            seen = self.suite in IN_SEEN_KITCHENS
            scenes = in_turn(self._possible(evaluation=False)) if seen else self._possible(evaluation=True)
            self._draw_scene([scenes[init_state % len(scenes)]], "target", _scene_seed(init_state))
        elif seed is not None:
            self._draw_scene(self._possible(evaluation=False), "pretrain", seed)
        self.task = replace(self.task, instruction=self.env.get_ep_meta()["lang"])

    def state(self) -> NDArray[np.float32]:
        """(11,) end-effector pose in the base frame, finger positions and base position."""
        position, rotation = self.end_effector_pose()
        base_position, base_rotation = self.base_pose()
        relative = base_rotation.T @ (position - base_position)
        turned = Rotation.from_matrix(base_rotation.T @ rotation).as_rotvec()
        return np.concatenate([relative, turned, self.gripper_positions(), base_position]).astype(np.float32)

    def step(self, action: NDArray[np.floating[Any]]) -> bool:
        """One 20 Hz control step of the (12,) action; True when the task is solved."""
        _, solved, _, _ = self.env.step(np.asarray(action, dtype=np.float64))
        return bool(solved)

    def end_effector_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Grip site position (3,) in metres and hand rotation (3, 3), in the world."""
        robot = self.env.robots[0]
        body = self.sim.model.body_name2id(robot.robot_model.eef_name["right"])
        return (self.sim.data.site_xpos[robot.eef_site_id["right"]].copy(),
                self.sim.data.body_xmat[body].reshape(3, 3).copy())

    def base_pose(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) in metres and rotation (3, 3) of the mobile base, in the world."""
        base = self.env.robots[0].robot_model.base
        site = self.sim.model.site_name2id(base.correct_naming("center"))
        return self.sim.data.site_xpos[site].copy(), self.sim.data.site_xmat[site].reshape(3, 3).copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """(7,) arm joint angles in radians."""
        robot = self.env.robots[0]
        return self.sim.data.qpos[robot._ref_arm_joint_pos_indexes].copy()

    def recorded_extras(self) -> dict[str, NDArray[np.float64]]:
        """What RoboCasa's files hold beyond state and images: arm joints and the pose of the base."""
        position, rotation = self.base_pose()
        return {"joint_states": self.joint_positions(), "base_pose": np.concatenate([position, rotation.ravel()])}

    def scene(self) -> dict[str, Any]:
        """The present scene as the library describes it (its ``ep_meta``), JSON-serialisable."""
        return self.env.get_ep_meta()

    def file_attributes(self) -> dict[str, Any]:
        """Attributes of the ``data`` group, those of RoboCasa's own files and ``provenance``."""
        return {"env_args": {"type": 1, "env_name": self.kitchen_task.environment,
                             "env_kwargs": {"robots": [ROBOT], "control_freq": CONTROL_FREQUENCY,
                                            "camera_names": list(CAMERAS.values()),
                                            "camera_heights": self.image_size, "camera_widths": self.image_size}},
                "provenance": self.provenance()}

    def provenance(self) -> dict[str, Any]:
        """Everything that determines physics and pixels."""
        return {
            "world": "robocasa",
            **self.assets.provenance(),
            "layouts": list(self.layouts or self.assets.layouts),
            "versions": versions(DISTRIBUTIONS),
            "render_settings": rendering.render_provenance(self.image_size, self.mesh_share),
            "control_frequency": CONTROL_FREQUENCY,
        }

    def _possible(self, evaluation: bool) -> list[tuple[int, int]]:
        """Scenes in which the library allows this task."""
        scenes = self.assets.scenes_of(self.layouts, evaluation)
        return [(layout, style) for layout, style in scenes
                if layout not in self.env.EXCLUDE_LAYOUTS and style not in self.env.EXCLUDE_STYLES]

    def _draw_scene(self, scenes: list[tuple[int, int]], split: str, seed: int) -> None:
        """Build one of ``scenes`` with object instances of ``split``."""
        self._close_renderer()
        robocasa = _robocasa()
        robocasa.models.assets_root = str(self.assets.root)
        self.env.layout_and_style_ids = scenes
        self.env.obj_instance_split = split
        self.env.rng = np.random.default_rng(seed)
        self.env.unset_ep_meta()
        try:
            with numpy_seed(seed):  # colours of hidden geometry come from NumPy's global generator
                self.env.reset()
        except (OSError, ValueError) as error:  # MuJoCo's, for a file that it cannot open
            if self.assets.kind != "full":
                raise
            raise SimulatorMissing(
                f"RoboCasa's official assets in {self.assets.root} do not make this scene "
                f"({str(error).splitlines()[0]}); if a file is missing, download them again with `{DOWNLOAD}`, or use "
                f"the generated kitchen: {ASSETS_VARIABLE}=minimal") from error
        self.env._observables.clear()  # they would be computed at each of a step's 25 substeps, for nobody


def suites() -> list[str]:
    """All 24 tasks, the paper's three categories, the short tasks, and those that policies learn."""
    return list(SUITES)


def tasks(suite: str) -> list[TaskSpec]:
    """The tasks of ``suite`` in the paper's order."""
    if suite not in SUITES:
        raise ValueError(f"RoboCasa has no suite {suite!r}; it has {', '.join(SUITES)}")
    return [TaskSpec(task.name, task.instruction, index, EVALUATION_EPISODES)
            for index, task in enumerate(SUITES[suite])]


def in_turn(scenes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """``scenes`` (pairs of a layout and a style) with every layout once before any comes again, and so on."""
    layouts, styles = (sorted({scene[part] for scene in scenes}) for part in (0, 1))
    diagonals = [(layout, styles[(number + shift) % len(styles)]) for shift in range(len(styles))
                 for number, layout in enumerate(layouts)]
    possible = set(scenes)
    return [scene for scene in diagonals if scene in possible]


def task_named(name: str) -> KitchenTask:
    """The task that the paper calls ``name``.

    Raises:
        ValueError: it has no such task.
    """
    for task in TASKS:
        if task.name == name:
            return task
    raise ValueError(f"RoboCasa has no task {name!r}; it has {', '.join(task.name for task in TASKS)}")


def make(suite: str, task_index: int, *, image_size: int = 128, render: bool = True, assets: str | None = None,
         layouts: Sequence[str] | None = None) -> RobocasaSimulator:
    """A simulator of task ``task_index`` of ``suite``, not yet reset.

    ``assets`` is "full", "minimal" or "auto" (what is there; None asks the variable PTRLIB_ROBOCASA_ASSETS);
    ``layouts`` restricts scenes to the named ones.

    Raises:
        ValueError: no such suite, task, layout or kind of assets.
        SimulatorMissing: RoboCasa, or assets that were asked for, are not installed.
    """
    [task] = choose_tasks(WORLD, suite, [task_index])
    chosen = find_assets(assets or os.environ.get(ASSETS_VARIABLE, "auto"))
    return RobocasaSimulator(suite, task, chosen, image_size=image_size, render=render, layouts=layouts)


WORLD = World(name="robocasa", suites=suites, tasks=tasks, make=make,
              embodiments=(RobocasaSimulator.embodiment,))


@cache
def find_assets(kind: str = "auto") -> Assets:
    """The official assets or the generated kitchen.

    Raises:
        ValueError: ``kind`` is none of "auto", "minimal", "full".
        SimulatorMissing: "full" and something is missing, or "auto" and only a part of it is there.
    """
    if kind not in ("auto", "minimal", "full"):
        raise ValueError(f"RoboCasa's assets are 'auto', 'minimal' or 'full', got {kind!r}")
    if kind == "minimal":
        return _minimal_assets()
    root = _package_assets()
    missing = [folder for folder in ASSET_FOLDERS if not any((root / folder).glob("*"))]
    if not missing:
        return _full_assets(root)
    if kind == "auto" and len(missing) == len(ASSET_FOLDERS):
        return _minimal_assets()
    raise SimulatorMissing(f"RoboCasa's assets in {root} lack {', '.join(missing)}; download them with `{DOWNLOAD}` "
                           f"(5 GB), or use the generated kitchen: {ASSETS_VARIABLE}=minimal")


def check_assets(run: str, demonstrated_in: Sequence[Mapping[str, str]]) -> None:
    """Raise ValueError if the policy of ``run`` learned in a kitchen of another kind than would be used now;
    ``demonstrated_in`` is what its demonstrations say (:func:`ptrlib.data.hdf5.recorded_in`)."""
    learned = {entry["assets"] for entry in demonstrated_in if entry.get("world") == "robocasa" and "assets" in entry}
    if not learned:
        return
    kind = find_assets(os.environ.get(ASSETS_VARIABLE, "auto")).kind
    if learned != {kind}:
        raise ValueError(f"{run} learned from demonstrations in RoboCasa's {' and '.join(sorted(learned))} assets and "
                         f"would be judged in the {kind} ones; set {ASSETS_VARIABLE} to what it learned in")


def _minimal_assets() -> Assets:
    root = build_kitchen(_package_assets())
    _register_objects(root)
    layouts, styles = sorted(LAYOUTS.values()), sorted(STYLES.values())
    evaluation = tuple(zip(layouts, styles, strict=True))
    training = tuple((layout, style) for layout in layouts for style in styles if (layout, style) not in evaluation)
    return Assets("minimal", root, LAYOUTS, (OBJECT_REGISTRY,), training, evaluation)


def _full_assets(root: Path) -> Assets:
    """The official scenes: 11 to 60 for demonstrations, and the five evaluation scenes of RoboCasa 0.1."""
    training = tuple((layout, style) for layout in range(11, 61) for style in range(11, 61))
    evaluation = ((1, 1), (2, 2), (4, 4), (6, 9), (7, 10))
    layouts = {f"layout{number:03d}": number for number in range(1, 61)}
    return Assets("full", root, layouts, ("objaverse", "lightwheel"), training, evaluation)


def _register_objects(root: Path) -> None:
    """Make the generated objects a registry of the library's, with each category's own properties."""
    _robocasa()
    objects = importlib.import_module("robocasa.models.objects.kitchen_object_utils")
    properties = ("types", "graspable", "washable", "microwavable", "cookable", "fridgable", "freezable",
                  "dishwashable", "solimp", "solref", "density", "friction", "priority")
    for name in CATEGORIES:
        category = next(iter(objects.OBJ_CATEGORIES[name].values()))
        objects.OBJ_CATEGORIES[name][OBJECT_REGISTRY] = objects.ObjCat(
            name=name, reg_type=OBJECT_REGISTRY, model_folders=[str(root / "objects" / OBJECT_REGISTRY / name)],
            **{key: getattr(category, key) for key in properties})


def stock_environment(task: KitchenTask, assets: Assets) -> Any:
    """The library's own environment with its default settings (three images at every step), for comparisons."""
    _robocasa().models.assets_root = str(assets.root)
    create = importlib.import_module("robocasa.utils.env_utils").create_env
    return create(env_name=task.environment, layout_and_style_ids=list(assets.evaluation_scenes),
                  obj_registries=assets.registries, obj_instance_split="target", seed=0, **_fixture(task))


def _make_environment(task: KitchenTask, assets: Assets) -> Any:
    """The library's environment without cameras. It builds a scene when it is reset."""
    _robocasa()
    controllers = importlib.import_module("robosuite.controllers")
    return importlib.import_module("robosuite").make(
        env_name=task.environment, robots=ROBOT,
        controller_configs=controllers.load_composite_controller_config(controller=None, robot=ROBOT),
        use_camera_obs=False, has_renderer=False, has_offscreen_renderer=False, ignore_done=True,
        control_freq=CONTROL_FREQUENCY, layout_and_style_ids=list(assets.training_scenes),
        obj_registries=assets.registries, seed=0, **_fixture(task))


def _fixture(task: KitchenTask) -> dict[str, Any]:
    """The kind of fixture that the environment's class is asked for, where one class serves several tasks."""
    kinds = importlib.import_module("robocasa.models.fixtures").FixtureType
    return {"fixture_id": kinds[task.fixture]} if task.fixture else {}


def _time_limit(task: KitchenTask) -> int:
    """Steps after which the library's own evaluation gives up."""
    return int(importlib.import_module("robocasa.utils.dataset_registry_utils").get_task_horizon(task.environment))


@cache
def _scene_seed(init_state: int) -> int:
    return int(np.random.SeedSequence([EVALUATION_SEED, init_state]).generate_state(1)[0])


@cache
def _robocasa() -> Any:
    """Import RoboCasa, quietly."""
    if importlib.util.find_spec("robocasa") is None:
        raise SimulatorMissing("RoboCasa is not installed; run `make simulators`")
    quiet()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what optional packages it misses
        package: Any = importlib.import_module("robocasa")
    # A counter lists its parts in the order of a set of XML elements, which differs from process to process, and
    # draws one of them: a dict keeps the order in which they were built.
    importlib.import_module("robocasa.models.fixtures.counter").set = dict.fromkeys  # type: ignore[attr-defined]
    # Half of a reset goes into parsing the same YAML forty times over: libyaml's loader gives the same, sooner.
    loader = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for module in ("scene_utils", "kitchen_arena"):
        importlib.import_module(f"robocasa.models.scenes.{module}").yaml = (  # type: ignore[attr-defined]
            SimpleNamespace(safe_load=loader))
    return package


def _package_assets() -> Path:
    """The folder that the library's package brings along, where downloads go too."""
    return Path(_robocasa().__file__).parent / "models" / "assets"
