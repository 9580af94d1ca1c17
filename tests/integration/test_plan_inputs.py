"""What a run takes for its inputs, and how it names what it makes of them."""

from __future__ import annotations

import csv
import multiprocessing
import os
from pathlib import Path

import pytest

from cellseg_engine.batch import summary
from cellseg_engine.batch.plan import Job, make_plan
from cellseg_engine.batch.results import JobResult
from cellseg_engine.batch.summary import write_summary
from cellseg_engine.errors import ReadError, WriteError
from cellseg_engine.io.process_lock import ProcessLock
from tests.integration.cli import Cli, draw, listing

OPTIONS = ("--diameter-px", 24, "--device", "cpu", "--outputs", "labels")


def names(*paths: Path) -> list[str]:
    return [job.name for job in make_plan([str(path) for path in paths]).jobs]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_results_given_one_by_one_are_left_out(cli: Cli, tmp_path: Path) -> None:
    image = draw(tmp_path / "a.tif")
    cli("segment", image, "--out", tmp_path, *OPTIONS)
    labels = tmp_path / "a_labels.tif"
    again = cli("segment", image, labels, "--out", tmp_path, *OPTIONS)
    assert again.code == 0
    assert f"{labels} is left out: it is a result of an earlier run." in again.err
    assert sorted(listing(tmp_path)) == ["a.tif", "a_labels.tif", "a_run.json", "summary.csv"]
    assert len(rows(tmp_path)) == 1
    with pytest.raises(ReadError, match=r"no image to segment: .*a_labels\.tif is left out"):
        make_plan([str(labels)])


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    draw(tmp_path / "real/b.tif")
    draw(tmp_path / "in/a.tif")
    try:
        (tmp_path / "in/linked").symlink_to(tmp_path / "real", target_is_directory=True)
        (tmp_path / "real/back").symlink_to(tmp_path / "in", target_is_directory=True)
    except OSError as error:
        pytest.skip(f"no links here: {error}")
    assert names(tmp_path / "in") == ["a", "linked/b"]


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in/a.tif")
    draw(tmp_path / "in/closed/b.tif")
    real = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ReadError, match=r"folder .*closed cannot be read: Permission denied"):
        make_plan([str(tmp_path / "in")])


def test_names_that_still_clash_do_not_depend_on_other_images(tmp_path: Path) -> None:
    for name in ("x.tif", "x.ome.tif", "x_tif.tif", "x_ome_tif.tif", "b.tif"):
        draw(tmp_path / name)
    before = names(tmp_path)
    assert len({name.casefold() for name in before}) == 5
    assert "b" in before
    draw(tmp_path / "a.tif")
    assert sorted(names(tmp_path)) == sorted([*before, "a"])


def test_wells_whose_fields_join_alike_keep_their_own_files(tmp_path: Path) -> None:
    for well_and_site in ("A_1-1", "A-1_1"):
        for channel in ("dapi", "actin"):
            (tmp_path / f"{well_and_site}-{channel}.tif").touch()
    jobs = make_plan([str(tmp_path)], pattern="{well}-{site}-{channel}").jobs
    assert len({job.name.casefold() for job in jobs}) == len(jobs) == 2
    assert all(job.name.startswith("A_1_1_") for job in jobs)


def test_names_that_are_alike_all_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("x.ome.tif", "x.tif", "x_tif.tif"):
        draw(tmp_path / name)
    taken = names(tmp_path)[1]
    assert taken.startswith("x_tif_")
    draw(tmp_path / f"{taken}.tif")
    with pytest.raises(ReadError, match=f"would both be called {taken}"):
        names(tmp_path)


def result(path: Path, status: str = "ok", n_objects: int = 3) -> JobResult:
    return JobResult(Job(path.stem, (path,)), status, n_objects, 10.0)


def test_an_image_has_one_row_however_its_path_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "A/a.tif")
    draw(tmp_path / "B/a.tif")
    monkeypatch.chdir(tmp_path / "A")
    write_summary(tmp_path, [result(Path("a.tif"))])
    write_summary(tmp_path, [result(tmp_path / "A/a.tif", n_objects=5)])
    monkeypatch.chdir(tmp_path / "B")
    write_summary(tmp_path, [result(Path("a.tif"), "failed")])
    found = {row["image"]: (row["status"], row["objects"]) for row in rows(tmp_path)}
    assert found == {
        str(tmp_path / "A/a.tif"): ("ok", "5"),
        str(tmp_path / "B/a.tif"): ("failed", ""),
    }


def test_images_of_plates_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for plate in ("p1", "p2"):
        files = (tmp_path / plate / "A1_w1.tif", tmp_path / plate / "A1_w2.tif")
        write_summary(tmp_path, [JobResult(Job("A1", files), "ok", 4)])
    assert [row["image"] for row in rows(tmp_path)] == [
        str(tmp_path / "p1/A1_w1.tif"),
        str(tmp_path / "p2/A1_w1.tif"),
    ]


def test_a_summary_that_excel_saved_is_read(tmp_path: Path) -> None:
    write_summary(tmp_path, [result(tmp_path / "a.tif")])
    table = tmp_path / "summary.csv"
    table.write_text(table.read_text(encoding="utf-8"), encoding="utf-8-sig")
    write_summary(tmp_path, [result(tmp_path / "b.tif")])
    assert [Path(row["image"]).name for row in rows(tmp_path)] == ["a.tif", "b.tif"]


def test_the_label_images_are_named_by_whole_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = JobResult(Job("a", (Path("a.tif"),)), "ok", outputs={"labels": "out/a_labels.tif"})
    write_summary(tmp_path, [found])
    (row,) = rows(tmp_path)
    assert row["labels"] == str(tmp_path / "out/a_labels.tif")


def test_the_summary_of_a_run_in_which_all_failed(cli: Cli, tmp_path: Path) -> None:
    path, out = draw(tmp_path / "a.tif"), tmp_path / "out"
    assert cli("segment", path, "--out", out, "--diameter-px", 24).code == 0
    for summary_is_there in (True, False):
        outcome = cli("segment", path, "--out", out, "--diameter-px", 30)
        assert outcome.code == 1
        assert f"Results: {out}\nSummary: " in outcome.out
        (row,) = rows(out)
        if summary_is_there:  # the results of the first run stay, and so does their row
            assert (row["status"], row["labels"]) == ("ok", str(out / "a_labels.tif"))
            (out / "summary.csv").unlink()
    assert (row["status"], row["labels"]) == ("failed", "")
    assert "other settings" in row["error"]
    (tmp_path / "b.tif").write_text("not an image")
    outcome = cli("segment", tmp_path / "b.tif", "--out", tmp_path / "none")
    assert "1 failed; 0 objects in all. Nothing was written.\n" in outcome.out
    assert "Summary" not in outcome.out


def write_many(out: Path, number: int) -> None:
    for n in range(10):
        write_summary(out, [result(Path(f"{number}_{n}.tif"))])


def test_runs_at_once_lose_no_rows(tmp_path: Path) -> None:
    tmp_path.joinpath("out").mkdir()
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=write_many, args=(tmp_path / "out", n)) for n in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
        assert run.exitcode == 0
    assert len(rows(tmp_path / "out")) == 30
    assert [path.name for path in tmp_path.joinpath("out").iterdir()] == ["summary.csv"]


def hold(path: Path, is_held: object, is_over: object) -> None:
    lock = ProcessLock(path)
    assert lock.acquire()
    is_held.set()  # type: ignore[attr-defined]
    is_over.wait(60)  # type: ignore[attr-defined]
    lock.release(remove=True)


def test_a_table_that_is_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "LOCK_TIMEOUT_S", 0.2)
    context = multiprocessing.get_context("spawn")
    is_held, is_over = context.Event(), context.Event()
    lock = tmp_path / ".cellseg-summary.lock"
    other = context.Process(target=hold, args=(lock, is_held, is_over))
    other.start()
    assert is_held.wait(60)
    with pytest.raises(WriteError, match=r"Another run was writing .*summary\.csv for more than"):
        write_summary(tmp_path, [result(Path("a.tif"))])
    assert not (tmp_path / "summary.csv").exists()
    is_over.set()
    other.join(60)
    write_summary(tmp_path, [result(Path("a.tif"))])
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]
