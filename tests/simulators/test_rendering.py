"""Visual meshes are thinned to a grid, or to a share of their own size."""

from __future__ import annotations

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from ptrlib.simulators.rendering import MESH_GRID, render_provenance, thin_visual_meshes  # noqa: E402

LARGE, SMALL = 0.5, 0.04  # m, radius of two spheres


def model_of_two_spheres():
    """Two visual meshes with the same 4000 corners, one large and one small."""
    corners = np.random.default_rng(0).normal(size=(4000, 3))
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    text = {name: " ".join(f"{value:.6f}" for value in (radius * corners).ravel())
            for name, radius in (("large", LARGE), ("small", SMALL))}
    meshes = "".join(f'<mesh name="{name}" vertex="{vertices}"/>' for name, vertices in text.items())
    geoms = "".join(f'<geom type="mesh" mesh="{name}" contype="0" conaffinity="0"/>' for name in text)
    return mujoco.MjModel.from_xml_string(f"<mujoco><asset>{meshes}</asset><worldbody>{geoms}</worldbody></mujoco>")


def test_the_share_thins_large_meshes_and_leaves_small_ones_to_the_grid():
    plain, shared = model_of_two_spheres(), model_of_two_spheres()
    before = plain.mesh_facenum.copy()
    thin_visual_meshes(plain, MESH_GRID)
    thin_visual_meshes(shared, MESH_GRID, share=1 / 30)
    assert plain.mesh_facenum[0] > 0.9 * before[0]  # its corners are centimetres apart
    assert 0 < shared.mesh_facenum[0] < 0.6 * plain.mesh_facenum[0]
    assert shared.mesh_facenum[1] == plain.mesh_facenum[1]  # a thirtieth of 8 cm is below 3 mm


def test_what_is_left_lies_within_a_cell_of_the_surface():
    model = model_of_two_spheres()
    thin_visual_meshes(model, MESH_GRID, share=1 / 20)
    start, count = model.mesh_faceadr[0], model.mesh_facenum[0]
    corners = model.mesh_vert[model.mesh_vertadr[0] + model.mesh_face[start:start + count]].reshape(-1, 3)
    assert np.allclose(np.linalg.norm(corners, axis=1), LARGE, atol=0.02)


def test_the_provenance_names_the_share_where_there_is_one():
    assert render_provenance(64, 1 / 20)["mesh_share"] == 0.05
    assert "mesh_share" not in render_provenance(64)
