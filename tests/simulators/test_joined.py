"""Worlds joined into one: their tasks, scenes and robots are what they are when the worlds stand alone."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ptrlib.config import EvaluationConfig
from ptrlib.evaluation import evaluate_many
from ptrlib.policy.action_space import EMBODIMENTS
from ptrlib.simulators.protocol import world_named

SUITES = ("gantry", "two_link")


class Wanderer:
    """Random chunks from the episode's seed, in the dimensions of the episode's robot."""

    def __init__(self):
        self.slots, self.robots, self.views = {}, set(), set()

    def begin(self, slot, instruction, seed, embodiment=None):
        self.robots.add(embodiment)
        self.slots[slot] = np.random.default_rng(seed), len(EMBODIMENTS[embodiment].action_slots)

    def act(self, requests):
        self.views |= {tuple(observation.images) for _, observation in requests}
        return [generator.uniform(-1, 1, (8, size)).astype(np.float32)
                for generator, size in (self.slots[slot] for slot, _ in requests)]


class Idle(Wanderer):
    """Solves nothing."""

    def act(self, requests):
        return [np.zeros_like(chunk) for chunk in super().act(requests)]


def test_a_joined_suite_is_one_suite_after_the_other():
    world = world_named("tabletop+tabletop")
    alone = [world_named("tabletop").tasks(suite) for suite in SUITES]
    both = world.tasks("+".join(SUITES))
    assert [task.name for task in both] == [task.name for tasks in alone for task in tasks]
    assert [task.index for task in both] == list(range(len(both)))
    assert "gantry+two_link" in world.suites()
    first = world.make("gantry+two_link", len(alone[0]) + 1)
    assert (first.suite, first.task, first.embodiment) == ("two_link", alone[1][1], "tabletop_two_link")


def test_episodes_are_those_of_the_worlds_themselves():
    """Scenes, seeds and limits do not change with the world that a task is joined to."""
    settings = {"episodes_per_task": 2, "max_steps": 24, "workers": 1}
    agents, alone = {"a": Wanderer()}, []
    config = EvaluationConfig(world="tabletop+tabletop", suite="+".join(SUITES), **settings)
    joined = evaluate_many(agents, config, progress=False)["a"]
    assert agents["a"].robots == {"tabletop_gantry", "tabletop_two_link"}
    for suite in SUITES:
        config = EvaluationConfig(world="tabletop", suite=suite, **settings)
        alone.append(evaluate_many({"a": Wanderer()}, config, progress=False)["a"])
    assert joined.task_index.is_monotonic_increasing and joined.task_index.nunique() == 12
    for column in ("suite", "task", "init_state", "seed", "success", "steps"):
        assert joined[column].tolist() == [value for table in alone for value in table[column]], column


@pytest.mark.parametrize("world", ["tabletop", "tabletop+tabletop"])  # stepped together, and one by one
def test_a_tasks_own_limit_holds_where_it_is_shorter(world):
    """One number bounds all tasks of worlds whose own limits differ, and lengthens none."""
    suite = "easy" if world == "tabletop" else "easy+easy"
    for limit, steps in ((10_000, world_named("tabletop").make("easy", 0).time_limit), (7, 7)):
        config = EvaluationConfig(world=world, suite=suite, episodes_per_task=1, workers=1, max_steps=limit)
        assert evaluate_many({"a": Idle()}, config, tasks=[0], progress=False)["a"].steps.tolist() == [steps]


@pytest.mark.parametrize(("world", "suite", "sentence"), [
    ("tabletop+tabletop", "easy", "joins 2 worlds and suite 'easy' names 1; join one suite of each"),
    ("tabletop+nowhere", "", "there is no world 'nowhere'; choose from libero, robocasa, tabletop")])
def test_what_cannot_be_joined_is_one_sentence(world, suite, sentence):
    with pytest.raises(ValueError, match=sentence.replace("+", r"\+")):
        world_named(world).tasks(suite)


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("libero", "robocasa"))),
                    reason="LIBERO and RoboCasa are not installed; run `make simulators`")
def test_libero_and_robocasa_are_judged_in_one_evaluation():
    agent = Wanderer()
    config = EvaluationConfig(world="libero+robocasa", suite="libero_spatial+robocasa_short", episodes_per_task=1,
                              max_steps=8, workers=1)
    table = evaluate_many({"a": agent}, config, tasks=[0, 12], progress=False)["a"]
    assert table.suite.tolist() == ["libero_spatial", "robocasa_short"] and table.steps.tolist() == [8, 8]
    assert agent.robots == {"libero", "robocasa"}
    assert [found["world"] for found in table.attrs["simulators"]] == ["libero", "robocasa"]
    assert agent.views == {("agentview", "eye_in_hand"), ("agentview_left", "agentview_right", "eye_in_hand")}
