"""The goal of each of RoboCasa's 24 tasks, set by hand of God: joints, switches and objects, without a robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reach_goal(simulator: Any) -> None:
    """Change the present scene into one in which the simulator's task is done; the robot stays where it is."""
    GOALS[simulator.task.name](simulator, simulator.env)
    simulator.sim.forward()


def _doors(fixture: str, share: float) -> Callable[[Any, Any], None]:
    """Open all doors or drawers of the task's fixture to ``share`` of their range: 0 is closed, 1 open."""
    def set_joints(simulator: Any, env: Any) -> None:
        for joint in getattr(env, fixture).door_joint_names:
            low, high = simulator.sim.model.jnt_range[simulator.sim.model.joint_name2id(joint)]
            simulator.sim.data.set_joint_qpos(joint, share * (high if abs(high) > abs(low) else low))
    return set_joints


def _turned(fixture: str, joint: str, angle: float) -> Callable[[Any, Any], None]:
    """Turn a joint to ``angle`` (rad); "{knob}" in its name is the task's burner."""
    def set_joint(simulator: Any, env: Any) -> None:
        name = getattr(env, fixture).naming_prefix + joint.format(knob=getattr(env, "knob", ""))
        simulator.sim.data.set_joint_qpos(name, angle)
    return set_joint


def _spout(simulator: Any, env: Any) -> None:
    _turned("sink", "spout_joint", {"left": -1.0, "right": 1.0, "center": 0.0}[env.behavior])(simulator, env)


def _switched(fixture: str, on: bool) -> Callable[[Any, Any], None]:
    """What the library notes when the gripper has touched a button."""
    def switch(simulator: Any, env: Any) -> None:
        getattr(env, fixture)._turned_on = on
    return switch


def _inside(fixture: str) -> Callable[[Any, Any], None]:
    """Put the object into the middle of the first of the fixture's inner regions."""
    def put(simulator: Any, env: Any) -> None:
        corner, *ends = next(iter(getattr(env, fixture).get_int_sites(relative=False).values()))
        _put(simulator, corner + sum(end - corner for end in ends) / 2)
    return put


def _under_the_dispenser(simulator: Any, env: Any) -> None:
    site = simulator.sim.model.site_name2id(f"{env.coffee_machine.naming_prefix}receptacle_place_site")
    _put(simulator, simulator.sim.data.site_xpos[site])


def _onto_the_container(simulator: Any, env: Any) -> None:
    _lower(simulator, simulator.object_pose("container")[0])


def _onto_the_counter(simulator: Any, env: Any) -> None:
    """Onto the largest of the geoms that its top is made of."""
    model, data, prefix = simulator.sim.model._model, simulator.sim.data._data, f"{env.counter.naming_prefix}top"
    tops = [number for number in range(model.ngeom) if model.geom(number).name.startswith(prefix)
            and model.geom_contype[number]]
    _lower(simulator, data.geom_xpos[max(tops, key=lambda number: np.prod(model.geom_size[number][:2]))])


def _put(simulator: Any, position: NDArray[np.float64]) -> None:
    """Move the object, which keeps its rotation, to a position (3,) in the world."""
    joint = simulator.env.objects["obj"].joints[0]
    pose = simulator.sim.data.get_joint_qpos(joint).copy()
    simulator.sim.data.set_joint_qpos(joint, np.concatenate([position, pose[3:]]))


def _lower(simulator: Any, onto: NDArray[np.float64]) -> None:
    """Lower the object from 0.3 m above ``onto`` (3,) until the task is done, to that height at most."""
    for height in np.arange(0.3, 0.0, -0.002):
        _put(simulator, onto + [0.0, 0.0, height])
        simulator.sim.forward()
        if simulator.success():
            return


GOALS: dict[str, Callable[[Any, Any], None]] = {
    "PnPCounterToCab": _inside("cab"), "PnPCabToCounter": _onto_the_counter,
    "PnPCounterToSink": _inside("sink"), "PnPSinkToCounter": _onto_the_container,
    "PnPCounterToMicrowave": _onto_the_container, "PnPMicrowaveToCounter": _onto_the_container,
    "PnPCounterToStove": _onto_the_container, "PnPStoveToCounter": _onto_the_container,
    "OpenSingleDoor": _doors("fxtr", 1.0), "CloseSingleDoor": _doors("fxtr", 0.0),
    "OpenDoubleDoor": _doors("fxtr", 1.0), "CloseDoubleDoor": _doors("fxtr", 0.0),
    "OpenDrawer": _doors("drawer", 1.0), "CloseDrawer": _doors("drawer", 0.0),
    "TurnOnStove": _turned("stove", "knob_{knob}_joint", 1.0),
    "TurnOffStove": _turned("stove", "knob_{knob}_joint", 0.0),
    "TurnOnSinkFaucet": _turned("sink", "handle_joint", 0.45),
    "TurnOffSinkFaucet": _turned("sink", "handle_joint", 0.0), "TurnSinkSpout": _spout,
    "CoffeeSetupMug": _under_the_dispenser, "CoffeeServeMug": _onto_the_counter,
    "CoffeePressButton": _switched("coffee_machine", True),
    "TurnOnMicrowave": _switched("microwave", True), "TurnOffMicrowave": _switched("microwave", False),
}
