"""A textured OBJ model to pictures of 64 by 64 pixels with alpha, off-screen, from keyed viewpoints and
lights.

A model is rendered in a process of its own with a time limit: one model of the source ends the process that
reads it. `python -m object_pairs.render REQUEST OUT` is that process.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from object_pairs.furniture import Model
from object_pairs.mesh import Part, read_parts
from sempairs import keyed
from sempairs.errors import UserError
from sempairs.files import atomic_write, sha256_bytes

SIZE = 64
# Where the camera stands, 45 degrees apart, left and right as seen by who stands before the object.
SIDES = ("front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left")
SEED = 0
# Longest side of the object in the picture, in pixels; what is left is margin.
_SIDE = 60
# Each pixel is the mean of 4 x 4 rendered ones.
_FINE = 4
# Values kept of a channel. The finest steps of shading are seen by no one and hold much of a file's size.
LEVELS = 48
_VIEW_ANGLE = 28.0
_SECONDS = 120
# Kept pictures are of this way of rendering; any other number makes them anew.
_CODE = 3


@dataclass(frozen=True)
class View:
    """From where an object is seen and lit; degrees. Azimuth 0 looks at its front, 90 at its right side; the
    light's angles are from the camera's direction and from the ground."""

    azimuth: float
    elevation: float
    light_azimuth: float
    light_elevation: float
    light: float


# The view in which pictures of two objects are held against each other: the same for all.
PLAIN = View(30.0, 25.0, -35.0, 45.0, 0.6)


def views_of(name: str) -> list[View]:
    """One view of an object from each of SIDES, within half the way to the next. Every draw is a function of
    the object's name and the side alone."""
    key = keyed.text_key(SEED, "object-views", [f"{name} {side}" for side in SIDES])
    draw = keyed.uniform(SEED, "object-views", occurrence=(key >> np.uint64(33)).astype(np.int64), n=5)
    part = 360.0 / len(SIDES)
    return [
        View(
            azimuth=round(float(part * (k + u[0] - 0.5)) % 360.0, 2),
            elevation=round(float(8 + 37 * u[1]), 2),
            light_azimuth=round(float(140 * u[2] - 70), 2),
            light_elevation=round(float(20 + 50 * u[3]), 2),
            light=round(float(0.45 + 0.3 * u[4]), 3),
        )
        for k, u in enumerate(draw)
    ]


def render_apart(
    model: Path, rotation: Sequence[float] | None, views: Sequence[View], place: Path
) -> np.ndarray:
    """Pictures (V, SIZE, SIZE, 4 uint8 RGBA) of one model, rendered by another process.

    model: an .obj file, beside it its materials and textures. rotation: nine numbers, rows of a matrix that
    stands the model upright, front to +z. place: a folder for files in between.
    Raises: UserError if the process fails, ends early or takes longer than two minutes.
    """
    request, out = place / "request.json", place / "pictures.npy"
    asked = {"model": str(model), "rotation": rotation, "views": [asdict(view) for view in views]}
    request.write_text(json.dumps(asked))
    out.unlink(missing_ok=True)
    paths = [str(Path(__file__).resolve().parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), "LP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "object_pairs.render", str(request), str(out)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"model {model.stem}", f"takes longer than {_SECONDS} s to render") from None
    if done.returncode != 0 or not out.is_file():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(f"model {model.stem}", f"cannot be rendered ({said[-1]})")
    return np.load(out)


def pictures_of(model: Model, cache: Path | None) -> np.ndarray:
    """The pictures of a model from SIDES, and last its PLAIN one: (len(SIDES) + 1, SIZE, SIZE, 4) uint8 RGBA.

    cache: a folder where pictures are kept by what they are made of; None: nothing is kept.
    Raises: UserError if the model cannot be rendered, or one of the pictures is empty.
    """
    views = [*views_of(model.key), PLAIN]
    made_of = [model.fingerprint(), [asdict(view) for view in views], _CODE]
    kept = cache and cache / f"{sha256_bytes(json.dumps(made_of).encode())}.npy"
    if kept and kept.is_file():
        return np.load(kept)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        place.mkdir()
        for name, data in model.files.items():
            (place / name).write_bytes(data)
        pictures = render_apart(place / model.obj, model.rotation, views, Path(folder))
    if not pictures[..., 3].any((1, 2)).all():
        raise UserError(f"model {model.key}", "gives an empty picture")
    if kept:
        with atomic_write(kept) as file:
            np.save(file, pictures)
    return pictures


def render(model: Path, rotation: Sequence[float] | None, views: Sequence[View]) -> np.ndarray:
    """What `render_apart` says, in this process. Raises: ValueError if the model has nothing to see."""
    from vtkmodules import vtkRenderingOpenGL2  # noqa: F401 (registers the renderer)
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow

    window, renderer = vtkRenderWindow(), vtkRenderer()
    window.SetOffScreenRendering(1)
    window.SetSize(SIZE * _FINE, SIZE * _FINE)
    window.SetMultiSamples(0)
    window.SetAlphaBitPlanes(1)
    window.AddRenderer(renderer)
    # Black and clear: colours come out multiplied by alpha.
    renderer.SetBackground(0, 0, 0)
    renderer.SetBackgroundAlpha(0)
    renderer.SetUseDepthPeeling(1)
    renderer.SetMaximumNumberOfPeels(8)
    parts = read_parts(model)
    turn = np.eye(3) if rotation is None else np.asarray(rotation, np.float64).reshape(3, 3)
    points = [part.points @ turn.T for part in parts]
    low, high = (np.array([limit(p, axis=0) for p in points]) for limit in (np.min, np.max))
    centre = (low.min(0) + high.max(0)) / 2 if parts else np.zeros(3)
    radius = float(np.linalg.norm(high.max(0) - low.min(0))) / 2 if parts else 0.0
    if not np.isfinite(radius) or radius == 0:
        raise ValueError("it has nothing to see")
    points = [(p - centre) / radius for p in points]
    for part, placed in zip(parts, points, strict=True):
        normals = None if part.normals is None else part.normals @ turn.T
        renderer.AddActor(_actor(replace(part, points=placed, normals=normals), model.parent))
    return np.stack([_picture(window, renderer, np.concatenate(points), view) for view in views])


def _actor(part: Part, folder: Path) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper, vtkTexture

    points, cells, surface = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(part.points, deep=1))
    offsets = np.concatenate([[0], np.cumsum(part.sizes)])
    cells.SetData(
        numpy_to_vtkIdTypeArray(offsets.astype(np.int64), deep=1),
        numpy_to_vtkIdTypeArray(part.faces.astype(np.int64), deep=1),
    )
    surface.SetPoints(points)
    surface.SetPolys(cells)
    if part.uv is not None:
        surface.GetPointData().SetTCoords(numpy_to_vtk(part.uv.astype(np.float32), deep=1))
    if part.normals is not None:
        surface.GetPointData().SetNormals(numpy_to_vtk(part.normals.astype(np.float32), deep=1))
    else:  # those of the faces, smooth over edges under 40 degrees
        smooth = vtkPolyDataNormals()
        smooth.SetInputData(surface)
        smooth.SetFeatureAngle(40.0)
        smooth.ConsistencyOff()
        smooth.Update()
        surface = smooth.GetOutput()
    mapper, actor = vtkPolyDataMapper(), vtkActor()
    mapper.SetInputData(surface)
    actor.SetMapper(mapper)
    image = part.material.texture(folder) if part.uv is not None else None
    look = actor.GetProperty()
    # Textures carry the colour: the material's own grey would only darken them. Its ambient colour is full
    # white in most of these files and is passed over.
    look.SetColor(*(part.material.colour if image is None else (0.95, 0.95, 0.95)))
    look.SetAmbient(0.35)
    look.SetDiffuse(1.0)
    look.SetSpecularColor(1, 1, 1)
    look.SetSpecular(0.2 * part.material.shine)
    look.SetSpecularPower(part.material.hardness)
    look.SetOpacity(part.material.opacity)
    if image is not None:
        values = image if (image[..., 3] < 255).any() else image[..., :3]
        if values.shape[-1] == 4 and part.material.opacity == 1:
            # Leaves and nets are there or not: thousands of layers of them would take minutes a view.
            values = values.copy()
            values[..., 3] = np.where(values[..., 3] < 128, 0, 255)
            actor.ForceOpaqueOn()
        grid, texture = vtkImageData(), vtkTexture()
        grid.SetDimensions(image.shape[1], image.shape[0], 1)
        flat = np.ascontiguousarray(values[::-1]).reshape(-1, values.shape[-1])
        grid.GetPointData().SetScalars(numpy_to_vtk(flat, deep=1))
        texture.SetInputData(grid)
        texture.InterpolateOn()
        texture.MipmapOff()  # with them, Mesa's software renderer never ends on some views
        texture.RepeatOn()
        actor.SetTexture(texture)
    return actor


def _picture(window: Any, renderer: Any, points: np.ndarray, view: View) -> np.ndarray:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkLight, vtkWindowToImageFilter

    camera = renderer.GetActiveCamera()
    distance = 1.02 / np.sin(np.radians(_VIEW_ANGLE / 2))
    camera.SetFocalPoint(0, 0, 0)
    camera.SetPosition(*(distance * _direction(view.azimuth, view.elevation)))
    camera.SetViewUp(0, 1, 0)
    camera.SetViewAngle(_VIEW_ANGLE)
    camera.SetClippingRange(max(distance - 1.05, 0.05), distance + 1.05)
    camera.SetWindowCenter(0, 0)
    # The object fills the picture: its outline in the camera's plane is measured, then centred and enlarged.
    whole = camera.GetCompositeProjectionTransformMatrix(1.0, -1, 1)
    matrix = np.array([[whole.GetElement(i, j) for j in range(4)] for i in range(4)])
    flat = np.c_[points, np.ones(len(points))] @ matrix.T
    flat = flat[:, :2] / flat[:, 3:]
    low, high = flat.min(0), flat.max(0)
    zoom = 2 * _SIDE / SIZE / max(float((high - low).max()), 1e-3)
    camera.SetViewAngle(2 * np.degrees(np.arctan(np.tan(np.radians(_VIEW_ANGLE / 2)) / zoom)))
    camera.SetWindowCenter(*((low + high) / 2 * zoom))
    renderer.RemoveAllLights()
    for azimuth, elevation, strength in (
        (view.light_azimuth, view.light_elevation, view.light),
        (-view.light_azimuth, 15.0, 0.25),
    ):
        light = vtkLight()
        light.SetLightTypeToSceneLight()
        light.SetPositional(0)
        light.SetFocalPoint(0, 0, 0)
        light.SetPosition(*_direction(view.azimuth + azimuth, elevation))
        light.SetIntensity(strength)
        renderer.AddLight(light)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.SetInputBufferTypeToRGBA()
    grab.ReadFrontBufferOff()
    grab.Update()
    values = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    side = SIZE * _FINE
    return _reduced(np.ascontiguousarray(values.reshape(side, side, 4)[::-1]))


def _reduced(premultiplied: np.ndarray) -> np.ndarray:
    """The rendered picture (RGB times alpha) at SIZE, plain RGBA, LEVELS values a channel, RGB 0 where
    clear."""
    small = premultiplied.reshape(SIZE, _FINE, SIZE, _FINE, 4).astype(np.float64).mean((1, 3))
    alpha = small[..., 3:]
    plain = np.divide(small[..., :3] * 255, alpha, out=np.zeros_like(small[..., :3]), where=alpha > 0)
    picture = np.concatenate([plain.clip(0, 255), alpha], -1) / 255
    kept = np.rint(np.rint(picture * (LEVELS - 1)) * 255 / (LEVELS - 1)).astype(np.uint8)
    kept[kept[..., 3] == 0] = 0
    return kept


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector of degrees: azimuth from +z (the front) towards +x, elevation from the ground."""
    a, e = np.radians([azimuth, elevation])
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def encode(picture: np.ndarray) -> bytes:
    """Lossless WebP that keeps every RGBA value; the same bytes for the same Pillow and libwebp."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", lossless=True, quality=90, method=6, exact=True)
    return out.getvalue()


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    pictures = render(Path(asked["model"]), asked["rotation"], [View(**view) for view in asked["views"]])
    np.save(sys.argv[2], pictures)
