"""Stand-ins for the appliances that the library has no file of: sink, stove, microwave, coffee machine.

Each faces -y and has the joints, buttons, sites and regions that its RoboCasa class looks up by name. Sizes are
those of ordinary kitchens; what differs from the official models is where controls sit: the stove's knobs are on
a raised panel behind the burners, and the faucet's lever swings sideways.
"""

from __future__ import annotations

from ptrlib.simulators.robocasa_kitchen.shapes import (
    BLACK,
    CHARCOAL,
    DARK_STEEL,
    STEEL,
    WHITE,
    Part,
    body,
    box,
    geoms,
    hinge,
    model,
    region,
    site,
)

SINK_SIZE = (0.62, 0.50, 0.20)
STOVE_SIZE = (0.76, 0.66, 0.92)
MICROWAVE_SIZE = (0.52, 0.38, 0.32)
COFFEE_MACHINE_SIZE = (0.24, 0.32, 0.38)
WATER, FLAME = (0.55, 0.75, 0.95), (1.0, 0.35, 0.10)


def files() -> dict[str, bytes]:
    """Path below the asset root -> content."""
    models = {"sinks/basin": sink(), "stoves/range": stove(), "microwaves/plain": microwave(),
              "coffee_machines/plain": coffee_machine()}
    return {f"fixtures/{name}/model.xml": content for name, content in models.items()}


def sink() -> bytes:
    """A single basin let into the counter, a faucet on the ledge behind it and a lever to its right."""
    width, depth, height = SINK_SIZE
    top, wall, ledge = height / 2, 0.02, 0.10
    inner_back = depth / 2 - ledge
    shell = [
        box((width, depth, wall), (0, 0, -top + wall / 2), STEEL),
        box((wall, depth, height), (-width / 2 + wall / 2, 0, 0), STEEL),
        box((wall, depth, height), (width / 2 - wall / 2, 0, 0), STEEL),
        box((width, wall, height), (0, -depth / 2 + wall / 2, 0), STEEL),
        box((width, ledge, height), (0, depth / 2 - ledge / 2, 0), STEEL),
        Part("cylinder", (0.03, 0.002), (0, -0.04, -top + wall + 0.002), CHARCOAL, solid=False),
        Part("cylinder", (0.024, 0.02), (0, depth / 2 - 0.05, top + 0.02), DARK_STEEL),
    ]
    spout = [
        Part("cylinder", (0.013, 0.115), (0, 0, 0.115), STEEL),
        Part("capsule", (0.013, 0.095), (0, -0.095, 0.225), STEEL, euler=(1.5708, 0, 0)),
        Part("cylinder", (0.013, 0.02), (0, -0.19, 0.205), STEEL),
    ]
    lever = [
        Part("cylinder", (0.018, 0.03), (0, 0, 0.03), DARK_STEEL),
        box((0.022, 0.13, 0.018), (0, -0.055, 0.069), STEEL),
    ]
    return model("sink", [
        geoms(shell),
        region("main", (-width / 2, -depth / 2, -top), (width / 2, depth / 2, top)),
        region("basin", (-width / 2 + wall, -depth / 2 + wall, -top + wall), (width / 2 - wall, inner_back, top)),
        body("spout", spout, [hinge("spout_joint", "0 0 1", (-1.4, 1.4)),
                              site("water", (0, -0.19, 0.085), (0.009, 0.10), WATER, 10)],
             (0, depth / 2 - 0.05, top + 0.04)),
        body("handle", lever, [hinge("handle_joint", "0 0 1", (0.0, 1.2)),
                               hinge("handle_temp_joint", "1 0 0", (-0.01, 0.01), damping=5.0, friction=2.0)],
             (0.17, depth / 2 - 0.05, top)),
    ])


def stove() -> bytes:
    """A free-standing range with four burners; a panel behind them, within the arm's reach, has a knob for each."""
    width, depth, height = STOVE_SIZE
    top, panel = height / 2, 0.12
    burners = {"front_left": (-0.19, -0.20), "front_right": (0.19, -0.20),
               "rear_left": (-0.19, 0.05), "rear_right": (0.19, 0.05)}
    shell = [
        box((width, depth - 0.02, height), (0, 0.01, 0), WHITE),
        box((width - 0.02, depth - panel - 0.03, 0.004), (0, -panel / 2, top + 0.002), BLACK, solid=False),
        box((width - 0.12, 0.012, 0.42), (0, -depth / 2 + 0.008, -0.02), BLACK),
        Part("capsule", (0.011, 0.28), (0, -depth / 2 - 0.03, 0.22), STEEL, euler=(0, 1.5708, 0)),
        box((0.02, 0.04, 0.02), (-0.25, -depth / 2 - 0.01, 0.22), STEEL),
        box((0.02, 0.04, 0.02), (0.25, -depth / 2 - 0.01, 0.22), STEEL),
        box((width, panel, 0.28), (0, depth / 2 - panel / 2, top + 0.14), WHITE),
    ]
    shell += [Part("cylinder", (0.085, 0.001), (x, y, top + 0.004), DARK_STEEL, solid=False)
              for x, y in burners.values()]
    # flames stay below the bottom of a pan, which is 8 mm thick
    sites = [site(f"burner_on_{name}", (x, y, top + 0.0055), (0.07, 0.001), FLAME)
             for name, (x, y) in burners.items()]
    knob = [
        Part("cylinder", (0.028, 0.006), (0, -0.006, 0), DARK_STEEL, euler=(1.5708, 0, 0)),
        box((0.016, 0.034, 0.056), (0, -0.028, 0), CHARCOAL),
        box((0.004, 0.036, 0.020), (0, -0.029, 0.019), WHITE, solid=False),
    ]
    places = {"front_left": -0.225, "rear_left": -0.075, "rear_right": 0.075, "front_right": 0.225}
    knobs = [body(f"knob_{name}", knob,
                  [hinge(f"knob_{name}_joint", "0 1 0", (0.0, 1.5708), damping=0.02, friction=0.02)],
                  (x, depth / 2 - panel, top + 0.18)) for name, x in places.items()]
    return model("stove", [
        geoms(shell), *sites,
        region("main", (-width / 2, -depth / 2, -top), (width / 2, depth / 2, top)), *knobs])


def microwave() -> bytes:
    """A box with a cavity, a door hinged on the left, and a start and a stop button on the right."""
    width, depth, height = MICROWAVE_SIZE
    x, y, z, wall, panel = width / 2, depth / 2, height / 2, 0.02, 0.13
    inside = width - panel - wall  # of the cavity
    middle = -x + wall + inside / 2
    shell = [
        box((width, depth - 0.03, wall), (0, 0.015, -z + wall / 2), CHARCOAL),
        box((width, depth - 0.03, wall), (0, 0.015, z - wall / 2), CHARCOAL),
        box((width, wall, height), (0, y - wall / 2, 0), CHARCOAL),
        box((wall, depth - 0.03, height), (-x + wall / 2, 0.015, 0), CHARCOAL),
        box((panel, depth, height), (x - panel / 2, 0, 0), DARK_STEEL),
        box((0.09, 0.002, 0.04), (x - panel / 2, -y - 0.001, 0.10), BLACK, solid=False),
        box((inside - 0.01, depth - 0.06, 0.004), (middle, 0, -z + wall + 0.002), WHITE, solid=False),
        box((0.05, 0.024, 0.044), (x - panel / 2, -y - 0.012, 0.02), (0.20, 0.65, 0.25), name="start_button"),
        box((0.05, 0.024, 0.044), (x - panel / 2, -y - 0.012, -0.07), (0.80, 0.20, 0.15), name="stop_button"),
    ]
    door_width = width - panel - 0.006
    door = [
        box((door_width, 0.025, height - 0.006), (door_width / 2, 0.0125, 0), CHARCOAL),
        box((door_width - 0.10, 0.002, height - 0.10), (door_width / 2 - 0.02, -0.001, 0), BLACK, solid=False),
        Part("capsule", (0.011, 0.09), (door_width - 0.035, -0.045, 0), STEEL, name="door_handle_main"),
        box((0.016, 0.045, 0.016), (door_width - 0.035, -0.022, 0.075), STEEL),
        box((0.016, 0.045, 0.016), (door_width - 0.035, -0.022, -0.075), STEEL),
    ]
    return model("microwave", [
        geoms(shell),
        region("main", (-x, -y, -z), (x, y, z)),
        region("tray", (-x + wall, -y + 0.04, -z + wall), (x - panel, y - wall, z - wall)),
        body("door", door, [hinge("microjoint", "0 0 1", (-1.5708, 0.0), damping=0.3, friction=0.1)],
             (-x + 0.003, -y, 0)),
    ])


def coffee_machine() -> bytes:
    """A base, a column and a head with a start button on its front; the cup stands between base and head."""
    width, depth, height = COFFEE_MACHINE_SIZE
    x, y, z = width / 2, depth / 2, height / 2
    base, head = 0.03, 0.13
    parts = [
        box((width, depth, base), (0, 0, -z + base / 2), CHARCOAL),
        box((width, 0.12, height), (0, y - 0.06, 0), CHARCOAL),
        box((width, depth - 0.02, head), (0, 0.01, z - head / 2), STEEL),
        Part("cylinder", (0.012, 0.012), (0, -0.06, z - head - 0.012), BLACK),
        Part("cylinder", (0.055, 0.002), (0, -0.06, -z + base + 0.001), DARK_STEEL, solid=False),
        box((0.04, 0.024, 0.034), (0, -y + 0.008, z - 0.06), (0.80, 0.20, 0.15), name="start_button"),
    ]
    return model("coffee_machine", [
        geoms(parts),
        region("main", (-x, -y, -z), (x, y, z)),
        site("receptacle_place_site", (0, -0.06, -z + base), (0.03, 0.001), DARK_STEEL),
        site("coffee_liquid", (0, -0.06, -0.04), (0.004, 0.10), (0.25, 0.15, 0.08)),
    ])
