"""Several networks trained on the same images, whose outputs are averaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cellseg_engine.errors import SettingsError
from cellseg_engine.io.staging import remove_stale, staged
from cellseg_engine.train.dataset import Remark
from cellseg_engine.train.options import TrainingOptions, model_name
from cellseg_engine.train.prepare import Prepared, prepare, prepare_data
from cellseg_engine.train.record import finished_model, read_record, refuse_others
from cellseg_engine.train.run import train_prepared
from cellseg_engine.train.state import TrainingProgress

Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True)
class EnsembleResult:
    """What came out.

    Attributes
    ----------
    folder
        For the ``model`` setting: it holds the weights of all networks and no others.
    files
        The weights files in it.
    remarks
        What was left out or changed.
    """

    folder: Path
    files: tuple[Path, ...]
    remarks: tuple[Remark, ...] = ()


def train_ensemble(
    options: TrainingOptions,
    n_networks: int,
    report: Report = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> EnsembleResult:
    """Train networks that differ in their seed only; goes on where it was.

    Each has a folder ``network_1``, ``network_2`` ... in ``options.out``, as of
    `cellseg_engine.train.run.train`. The same images are held out for all of them, so scores of
    the ensemble on those are as good as scores of its networks. At the end copies of all weights
    lie in ``options.out``.

    Parameters
    ----------
    options
        The first network has its seed, the next ones those that follow.
    n_networks
        2 or more.
    report
        Called as by `train`, with the steps of all networks.

    Raises
    ------
    CellSegError
        As `train`.
    """
    if n_networks < 2:
        raise SettingsError(f"n_networks = {n_networks}: an ensemble has at least 2 networks.")
    if options.recipe.epochs == 0:
        raise SettingsError(
            "With 0 epochs all networks of an ensemble are the same.",
            hint="Give --epochs, or leave --networks out.",
        )
    options = replace(options, flow_cache=options.flow_cache or options.out / "flows")
    name = model_name(options)
    targets = tuple(options.out / f"{name}_{n + 1}.safetensors" for n in range(n_networks))
    members = [
        replace(options, name=name, out=options.out / f"network_{n + 1}", seed=options.seed + n)
        for n in range(n_networks)
    ]
    remove_stale(options.out)
    # The record of a member says whose copy lies here; one of another plan is refused by `train`.
    known = {
        target.name
        for member, target in zip(members, targets, strict=True)
        if options.overwrite or read_record(member.out) is not None
    }
    refuse_others(options.out, known, "ensemble")
    first = prepare(options, report)
    files = [
        _train_member(member, first, number, n_networks, report, warn)
        for number, member in enumerate(members)
    ]
    with staged(options.out) as stage:
        for file, target in zip(files, targets, strict=True):
            shutil.copyfile(file, stage.path(target.name))
    return EnsembleResult(options.out, targets, tuple(first.data.remarks))


def _train_member(
    options: TrainingOptions,
    first: Prepared,
    number: int,
    n_networks: int,
    report: Report,
    warn: Callable[[str], None],
) -> Path:
    prepared = prepare_data(options, first.start, first.data, first.threads)
    done = None if options.overwrite else finished_model(options.out, prepared.fingerprint)
    if done is not None:
        return done
    torch.set_num_threads(first.threads)

    def report_all(progress: TrainingProgress) -> None:
        if not progress.n_epochs:
            report(progress)
            return
        n_epochs = progress.n_epochs
        report(
            replace(
                progress,
                done=progress.done + number * progress.total,
                total=progress.total * n_networks,
                epoch=progress.epoch + number * n_epochs,
                n_epochs=n_epochs * n_networks,
            )
        )

    def warn_once(text: str) -> None:
        if number == 0:
            warn(text)

    return train_prepared(options, prepared, report_all, warn_once).model
