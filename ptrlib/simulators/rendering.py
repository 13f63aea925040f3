"""Cheap images of robosuite's scenes by MuJoCo's own renderer, on a machine without a GPU.

No multisampling, no reflections, and visual meshes thinned to a grid of 3 mm (less than a pixel) or, where a world
asks for it, to a share of their own size: four times as fast on a software renderer. Physics never sees visual meshes.
"""

from __future__ import annotations

import atexit
import os
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MESH_GRID = 0.003  # m; vertices of a visual mesh in one cell become one
HIDDEN_GROUP = 5  # a group of geoms that MuJoCo does not draw
RENDER_SETTINGS = {"multisampling": 0, "reflections": False, "mesh_grid": MESH_GRID}
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco reads it when it is first imported, here or elsewhere
os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's rasteriser: one thread a process


def make_renderer(model: Any, image_size: int, mesh_share: float = 0.0) -> Any:
    """A ``mujoco.Renderer`` of square images with the settings above; thins the meshes of ``model`` in place."""
    import mujoco

    model.vis.quality.offsamples = RENDER_SETTINGS["multisampling"]  # read, as meshes, by the context
    thin_visual_meshes(model, MESH_GRID, mesh_share)
    renderer = mujoco.Renderer(model, height=image_size, width=image_size)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = RENDER_SETTINGS["reflections"]
    atexit.register(renderer.close)  # before MuJoCo ends the display, which it does at exit too
    return renderer


def close_renderer(renderer: Any) -> None:
    """Free the graphics context."""
    atexit.unregister(renderer.close)
    renderer.close()


def render_camera(renderer: Any, model: Any, data: Any, name: str) -> NDArray[np.uint8]:
    """(size, size, 3). What the camera cannot see is hidden first: same pixels, sooner."""
    groups = model.geom_group.copy()
    model.geom_group[outside_view(model, data, name)] = HIDDEN_GROUP
    try:
        renderer.update_scene(data, camera=name, scene_option=_visible_geoms())
    finally:
        model.geom_group[:] = groups
    return renderer.render()


def render_provenance(image_size: int, mesh_share: float = 0.0) -> dict[str, Any]:
    """What determines the pixels, for the provenance of files and runs."""
    share = {"mesh_share": round(mesh_share, 4)} if mesh_share else {}
    return {**RENDER_SETTINGS, **share, "image_size": image_size, "backend": os.environ.get("MUJOCO_GL", "")}


def thin_visual_meshes(model: Any, grid: float, share: float = 0.0) -> None:
    """Merge the vertices of each purely visual mesh that share a cell, in place. Its cells are ``grid`` metres wide, or
    ``share`` of the mesh's longest side where that is more.

    A scene has 230,000 to 320,000 triangles for an image of 16,384 pixels, and a software renderer's time
    goes into their vertices. Triangles that collapse are dropped; the others keep their corners' normals and
    texture coordinates. Collision geometry and inertia were compiled from other arrays.
    """
    import mujoco

    drawn_only = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_contype == 0) \
        & (model.geom_conaffinity == 0)
    solid = set(model.geom_dataid[(model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & ~drawn_only])
    for mesh in set(model.geom_dataid[drawn_only]) - solid:
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        vertices = model.mesh_vert[start:start + count]
        width = max(grid, share * float(np.ptp(vertices, axis=0).max()))
        cell = np.floor(vertices / width).astype(np.int64)
        key = ((cell[:, 0] << 42) + (cell[:, 1] << 21) + cell[:, 2])
        _, first, cell_of_vertex = np.unique(key, return_index=True, return_inverse=True)
        start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = first[cell_of_vertex][model.mesh_face[start:start + count]]
        kept = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
        stop = start + int(kept.sum())
        for array in (model.mesh_facenormal, model.mesh_facetexcoord):
            array[start:stop] = array[start:start + count][kept]
        model.mesh_face[start:stop] = faces[kept]
        model.mesh_facenum[mesh] = stop - start


def outside_view(model: Any, data: Any, camera: str) -> NDArray[np.bool_]:
    """(geoms,) True where a geom's bounding sphere lies outside the camera's square field of view."""
    index = model.camera(camera).id
    position = (data.geom_xpos - data.cam_xpos[index]) @ data.cam_xmat[index].reshape(3, 3)
    radius = model.geom_rbound  # 0 for infinite planes
    slope = np.tan(np.deg2rad(model.cam_fovy[index]) / 2)
    sideways = np.abs(position[:, :2]).max(axis=1)
    outside = (sideways + position[:, 2] * slope) / np.hypot(1.0, slope) > radius  # it looks along -z
    return (radius > 0) & (outside | (position[:, 2] > radius))


@cache
def _visible_geoms() -> Any:
    """robosuite keeps collision geometry in group 0; only the visual one is shown."""
    import mujoco

    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    return option
