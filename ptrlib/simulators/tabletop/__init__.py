"""Tabletop: a planar manipulation world in pure torch, batched, with three robots, pictures and demonstrators.

``robots``, ``tasks`` and ``scenes`` say what there is, ``dynamics`` how it moves, ``raster`` how it looks,
``demonstrators`` how it is done and ``world`` how the rest of the package meets it.
"""

from ptrlib.simulators.protocol import World
from ptrlib.simulators.tabletop.demonstrators import Demonstrators
from ptrlib.simulators.tabletop.dynamics import Tables
from ptrlib.simulators.tabletop.raster import Camera
from ptrlib.simulators.tabletop.recording import record, record_for
from ptrlib.simulators.tabletop.robots import NAMES
from ptrlib.simulators.tabletop.tasks import SUITES, TUNING_SCENES
from ptrlib.simulators.tabletop.world import IMAGE_SIZE, TabletopBatch, TabletopSimulator, tasks

__all__ = ["SUITES", "TUNING_SCENES", "WORLD", "Camera", "Demonstrators", "TabletopBatch", "TabletopSimulator",
           "Tables", "record", "record_for"]

WORLD = World("tabletop", lambda: list(SUITES), tasks, TabletopSimulator, make_batch=TabletopBatch,
              record=record, record_for=record_for, image_size=IMAGE_SIZE, embodiments=NAMES)
