"""What one search costs, and what a service holds: CPU seconds and memory of real ``regard`` processes.

    python benchmarks/light.py                         # ResNet-50, 321 pictures: a few minutes
    python benchmarks/light.py --label before          # the figures of an earlier checkout, beside those that are there

A gallery of made-up people crops is embedded with a network of random weights by torch, so that no export is kept. Then
``regard serve`` is begun, which makes one, is asked for twenty searches with photos of their own and why one matched,
and is left alone until the process that looks into pictures has ended; the memory that it and that process hold is read
after each. ``regard search`` runs by id and with a photo, each in a process of its own whose CPU seconds (user and
system, all threads, children too) and highest memory are read when it ends; the median of three counts. The same once
more as where neither ONNX Runtime nor OpenVINO is installed. Prints a table and writes benchmarks/results/light.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

RESULT = Path(__file__).resolve().parent / "results" / "light.json"
SIZE, SEARCHES = (256, 128), 20


def paint(folder: Path, count: int) -> list[Path]:
    """Write people crops of smooth noise."""
    folder.mkdir()
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (8, 4, 3), dtype=np.uint8))
        paths.append(folder / f"{number:04d}.jpg")
        small.resize((100, 220), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def regard(*words: str | Path, quiet: bool = True) -> tuple[float, float]:
    """Run a command; CPU seconds it took, and MiB it held at most."""
    command = [sys.executable, "-m", "regard", *map(str, words)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    with subprocess.Popen(command, **streams) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def cost(*words: str | Path) -> dict[str, float]:
    """CPU seconds and memory of a command, the middle of three."""
    taken = [regard(*words) for _ in range(3)]
    seconds, held = (median(each) for each in zip(*taken))
    return {"CPU s": round(seconds, 2), "MiB": round(held)}


def held(number: int) -> dict[str, float]:
    """MiB that a process holds now, and CPU seconds it has taken, with those of its children that have ended."""
    status = Path(f"/proc/{number}/status").read_text()
    ticks = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:15]
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return {"MiB": round(int(found[1]) / 1024), "CPU s": round(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 2)}


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, kind: str) -> Any:
    """The answer to a POST."""
    connection.request("POST", path, body, {"content-type": kind})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    if answer.status >= 300:
        raise SystemExit(f"{path} was answered {answer.status}: {content}")
    return content


def search(connection: http.client.HTTPConnection, photo: Path) -> tuple[str, str]:
    """Send a photo and search with it; the query and its best match."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\ncontent-disposition: form-data; name="photos"; filename="{photo.name}"\r\n\r\n'
    body = head.encode() + photo.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    query = ask(connection, "/api/queries", body, f"multipart/form-data; boundary={mark}")["query"]
    found = ask(connection, "/api/search", json.dumps({"query": query}).encode(), "application/json")
    return query, found["matches"][0]["record"]["id"]


def child_of(process: subprocess.Popen) -> int | None:
    """Number of a process that another one has started; None where there is none."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(place.read_text().rpartition(")")[2].split()[1]) == process.pid:
                return int(place.parent.name)
        except OSError:
            continue
    return None


def idle(process: subprocess.Popen) -> None:
    """Wait until a service has ended what it had started."""
    for _ in range(400):
        if child_of(process) is None:
            return
        time.sleep(1)
    raise SystemExit("the process that looks into pictures did not end")


def serve(gallery: Path, photos: list[Path]) -> dict[str, Any]:
    """What a service holds when it has begun, after searches, after it was asked why, and when it was left alone."""
    command = [sys.executable, "-m", "regard", "serve", str(gallery), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            address = re.search(r"http://([\d.:]+)/", process.stdout.readline())
            if address is None:
                raise SystemExit("regard serve did not start")
            found = {"begun": held(process.pid)}
            connection = http.client.HTTPConnection(address[1], timeout=300)
            for photo in photos[:SEARCHES]:
                query, match = search(connection, photo)
            found[f"after {SEARCHES} searches"] = held(process.pid)
            started = time.perf_counter()
            ask(connection, "/api/why", json.dumps({"query": query, "match": match}).encode(), "application/json")
            print(f"why took {time.perf_counter() - started:.1f} s the first time")
            found["after a why"] = held(process.pid)
            if (child := child_of(process)) is not None:
                found["the process that answers it"] = held(child)
                idle(process)
                found["left alone"] = held(process.pid)
            return found
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50", help="of the baseline (%(default)s)")
    parser.add_argument("--pictures", type=int, default=321, help="in the gallery (%(default)s)")
    parser.add_argument("--label", default="now", help="name of these figures (%(default)s)")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        photos, model, gallery = paint(home / "photos", arguments.pictures), home / "model", home / "people"
        make = "from regard.models import create_model; import sys; create_model('baseline', num_ids=751, "
        make += "backbone=sys.argv[1]).save(__import__('pathlib').Path(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", make, arguments.backbone, str(model)], check=True)
        regard("embed", home / "photos", "--model", model, "-o", gallery, "-q", "--engine", "torch")
        listed = [sys.executable, "-m", "regard", "gallery", "list", str(gallery)]
        first = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()[0]
        rows["gallery list"] = cost("gallery", "list", gallery)
        rows["search --id"] = cost("search", "--gallery", gallery, "--id", first)
        for what, facts in serve(gallery, photos).items():
            rows[f"serve, {what}"] = facts
        shutil.rmtree(model / "exports", ignore_errors=True)
        seconds, held_ = regard("search", photos[0], "--gallery", gallery)
        rows["search PHOTO, the first, which makes an export"] = {"CPU s": round(seconds, 2), "MiB": round(held_)}
        rows["search PHOTO"] = cost("search", photos[0], "--gallery", gallery)
        shutil.rmtree(model / "exports", ignore_errors=True)
        for name in ("onnxruntime", "openvino"):
            (home / "without").mkdir(exist_ok=True)
            (home / "without" / f"{name}.py").write_text("raise ImportError('left out')\n")
        os.environ["PYTHONPATH"] = f"{home / 'without'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        rows["search PHOTO, the network itself"] = cost("search", photos[0], "--gallery", gallery)
        for what, facts in serve(gallery, photos).items():
            rows[f"serve, the network itself, {what}"] = facts
    print(f"{'':<48}{'CPU s':>8}{'MiB':>8}")
    for what, facts in rows.items():
        print(f"{what:<48}{facts['CPU s']:>8.2f}{facts['MiB']:>8.0f}")
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    machine = {"date": date.today().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    facts = machine | {"backbone": arguments.backbone, "pictures": arguments.pictures, "rows": rows}
    RESULT.write_text(json.dumps(known | {arguments.label: facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
