"""Real people to test on: crops of PETS 2009 S2.L1, view 1, by a table of boxes; they are nobody's to hand on.

  python benchmarks/pets.py vtest.avi boxes.csv pets       # the video as Debian's opencv-doc has it; needs OpenCV
  regard eval regard-s --data table=pets/table.csv

The boxes have the columns ``frame, person, visit, x0, y0, x1, y1, split``; a visit stands for a camera. The pictures
are of the University of Reading, free for research that names it.
"""

import csv
import sys
from pathlib import Path

import cv2


def main(video: Path, boxes: Path, folder: Path) -> None:
    rows = list(csv.DictReader(boxes.open(encoding="utf-8")))
    wanted = {int(row["frame"]) for row in rows}
    film, frames = cv2.VideoCapture(str(video)), {}
    for number in range(max(wanted) + 1):
        read, frame = film.read()
        if not read:
            raise SystemExit(f"{video} ends at frame {number}, wanted {max(wanted)}")
        if number in wanted:
            frames[number] = frame
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,pid,camid,split,frame"]
    for place, row in enumerate(rows):
        x0, y0, x1, y1 = (max(0, round(float(row[side]))) for side in ("x0", "y0", "x1", "y1"))
        name = f"{place:04}.png"
        cv2.imwrite(str(folder / name), frames[int(row["frame"])][y0:y1, x0:x1])
        lines.append(f"{name},{row['person']},{row['visit']},{row['split']},{row['frame']}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
