"""Screen a folder as most people would: OpenCV, torchvision, pytorch-grad-cam.

    python plain.py FOLDER OUT [--side 1024]

writes one JPEG with its heat map a film, and results.csv. The weights are random: speed does not
depend on them. No isolated decoding, guard, database, pages or resuming.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import pydicom
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchvision.models import mobilenet_v2

BATCH = 8
INPUT_PX = 224
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def read(path: Path) -> np.ndarray:
    """RGB uint8 (rows, columns, 3)."""
    if path.suffix != ".dcm":
        return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    pixels = pydicom.dcmread(path).pixel_array
    grey = cv2.normalize(pixels.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def overlay(film: np.ndarray, cam: np.ndarray, side: int) -> np.ndarray:
    """The film no longer than `side` with its heat map over it; at the input's size, a square."""
    if side == INPUT_PX:
        size = (side, side)
    else:
        scale = min(1, side / max(film.shape[:2]))
        size = (round(film.shape[1] * scale), round(film.shape[0] * scale))
    film = cv2.resize(film, size).astype(np.float32) / 255
    return show_cam_on_image(film, cv2.resize(cam, size), use_rgb=True)


def main() -> None:
    """Screen the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=INPUT_PX, help="of the overlays, pixels")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    paths = sorted(path for path in given.folder.rglob("*") if path.is_file())

    model = mobilenet_v2(num_classes=2).eval()
    with (
        GradCAM(model=model, target_layers=[model.features[-1]]) as cam,
        (given.out / "results.csv").open("w") as file,
    ):
        rows = csv.writer(file)
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            films = [read(path) for path in batch]
            inputs = [cv2.resize(film, (INPUT_PX, INPUT_PX)).astype(np.float32) for film in films]
            inputs = np.stack([(each / 255 - MEAN) / STD for each in inputs])
            tensor = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())

            maps = cam(input_tensor=tensor, targets=[ClassifierOutputTarget(1)] * len(batch))
            scores = torch.softmax(cam.outputs, dim=1)[:, 1].tolist()  # without a second pass

            for path, film, heat, score in zip(batch, films, maps, scores, strict=True):
                picture = overlay(film, heat, given.side)
                cv2.imwrite(str(given.out / f"{path.stem}.jpg"), picture[..., ::-1])
                rows.writerow([path, score])
            print(start + len(batch), flush=True)


if __name__ == "__main__":
    main()
