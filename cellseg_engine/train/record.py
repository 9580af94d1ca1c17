"""What a training leaves beside its model: training.json and the list of what was left out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.train.dataset import IMAGE_LEFT_OUT, Remark, TrainingImage
from cellseg_engine.train.sources import Found
from cellseg_engine.zoo.paths import weights_in

RECORD, LEFT_OUT = "training.json", "left_out.csv"


def read_record(folder: Path) -> dict[str, Any] | None:
    """Give the record of an earlier training in a folder, None if there is none.

    Raises
    ------
    ReadError
        There is one and it cannot be read.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(content, dict) or not {"fingerprint", "complete", "plan"} <= content.keys():
        raise _damaged(path)
    return content


def find_earlier(
    folder: Path, plan: dict[str, Any], fingerprint: str, *, overwrite: bool
) -> dict[str, Any] | None:
    """Give the record of an earlier training that may go on or be replaced; None if there is none.

    Parameters
    ----------
    overwrite
        It is to be replaced, whatever it is; a damaged record then counts as none.

    Raises
    ------
    SettingsError
        It is finished or cannot go on, or is one of other images or settings.
    ReadError
        There is a record and it cannot be read.
    """
    try:
        earlier = read_record(folder)
    except ReadError:
        if not overwrite:
            raise
        return None
    if earlier is None or overwrite:
        return earlier
    if earlier["fingerprint"] != fingerprint:
        before = earlier["plan"]
        changed = [name for name in plan if not _is_as_before(plan[name], before.get(name))]
        raise SettingsError(
            f"{folder} holds a training with other images or settings (different: "
            f"{', '.join(changed) or 'the version'}).",
            hint="Give another --out, or replace it with --overwrite.",
        )
    if earlier["complete"]:
        raise SettingsError(
            f"The training in {folder} is finished: {earlier.get('model')}.",
            hint="Use the model, give another --out, or train again with --overwrite.",
        )
    if earlier.get("stopped"):
        raise SettingsError(
            f"The training in {folder} cannot go on. {earlier['stopped']}",
            hint="Train again with a smaller --learning-rate, with --overwrite or another --out, "
            "and look for images with extreme pixels.",
        )
    return earlier


def _is_as_before(now: Any, before: Any) -> bool:
    """Compare a value of two plans; of images an earlier version noted the first facts only."""
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return all(one[: len(other)] == other for one, other in zip(now, before, strict=True))
    return bool(now == before)


def weights_of(record: Mapping[str, Any] | None) -> set[str]:
    """Give the names of the weights files that belong to a training, or that it replaces."""
    if record is None:
        return set()
    return {f"{record['plan'].get('name')}.safetensors", *record.get("replaced", ())}


def refuse_others(folder: Path, known: Collection[str], what: str = "model") -> None:
    """Make sure that a folder, which stands for a model, holds no other weights.

    Raises
    ------
    SettingsError
        It does.
    """
    others = [path for path in weights_in(folder) if path.name not in known]
    if others:
        raise SettingsError(
            f"{others[0]} would be taken for a network of the {what} in {folder}.",
            hint="Give another --out, or take the file away.",
        )


def finished_model(folder: Path, fingerprint: str) -> Path | None:
    """Give the model of a folder if it is that of the same training, finished.

    Raises
    ------
    ReadError
        There is a record and it cannot be read.
    """
    earlier = read_record(folder)
    if earlier is None or not earlier["complete"] or earlier["fingerprint"] != fingerprint:
        return None
    model = folder / str(earlier["model"])
    return model if model.is_file() else None


def write_record(folder: Path, content: dict[str, Any]) -> None:
    """Write training.json, replacing an earlier one."""
    with staged(folder) as stage:
        stage.path(RECORD).write_text(to_json(content), encoding="utf-8")


def to_json(content: dict[str, Any]) -> str:
    """Give the record as text."""
    return json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"


def all_remarks(found: Found, remarks: Sequence[Remark]) -> list[Remark]:
    """Give what was left out or changed, files without partner among it."""
    return [
        *(
            Remark(str(path), IMAGE_LEFT_OUT, "no annotation")
            for path in found.images_without_annotation
        ),
        *(
            Remark(str(path), "annotation left out", "no image")
            for path in found.annotations_without_image
        ),
        *remarks,
    ]


def write_left_out(folder: Path, remarks: Sequence[Remark]) -> None:
    """Write the table of what was left out or changed, and why."""
    with staged(folder) as stage:
        write_table(
            stage.path(LEFT_OUT), ("image", "what", "reason"), [asdict(one) for one in remarks]
        )


def identify(image: TrainingImage) -> list[Any]:
    """Give what a training depends on of an image: its hash, its kind and its diameter."""
    return [image.sha256, image.kind, round(float(image.diameter_px), 3)]


def describe_images(images: Sequence[TrainingImage]) -> list[dict[str, Any]]:
    """Give the facts of images for the record."""
    return [
        {
            "name": image.name,
            "kind": image.kind,
            "group": image.group,
            "objects": image.n_objects,
            "diameter_px": round(image.diameter_px, 2),
            "sha256": image.sha256,
        }
        for image in images
    ]


def _damaged(path: Path) -> ReadError:
    return ReadError(
        f"{path} is damaged or was not written by `cellseg train`.",
        hint="Give another --out, or replace it with --overwrite.",
    )
