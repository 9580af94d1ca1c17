"""Write everything that is made from the settings, or check that it is up to date.

python tools/render_contract.py            write the files below
python tools/render_contract.py --check    say which of them differ, and exit with 1
python tools/render_contract.py --release  also keep the present orders as released for ever

Run it in the project's environment. cellseg_engine/settings.py declares the settings,
bridges/contract/orders.toml the order in which each host keeps them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bridges"), str(ROOT)]

from cellseg_service.wire import CONTRACT_VERSION, WIRE, contract  # noqa: E402
from tools.rendering import cellprofiler, fiji, reference  # noqa: E402
from tools.rendering.orders import (  # noqa: E402
    Order,
    OrderError,
    check_complete,
    check_released,
    read_orders,
    released_form,
)
from tools.rendering.setting import Setting, pick, read_settings  # noqa: E402

ORDERS = ROOT / "bridges/contract/orders.toml"
GOLDEN = ROOT / "tests/contract/golden"
FIJI_SCRIPTS = ("Segment_Cells.py", "Segment_Folder.py", "Preview_Cells.py")


def main(argv: list[str] | None = None) -> int:
    """Write or check; give the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say what differs")
    parser.add_argument("--release", action="store_true", help="freeze the present orders")
    options = parser.parse_args(argv)
    settings = read_settings(contract()["settings"])
    orders = read_orders(ORDERS)
    try:
        files = render(settings, orders, GOLDEN)
    except OrderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check:
        return check(files)
    for name, text in files.items():
        (ROOT / name).write_text(text, encoding="utf-8", newline="\n")
    if options.release:
        release(settings, orders)
    return 0


def render(settings: dict[str, Setting], orders: dict[str, Order], golden: Path) -> dict[str, str]:
    """Give the text of every generated file by its path in the project.

    Raises
    ------
    OrderError
        An order is incomplete, or contradicts a released one.
    """
    for order in orders.values():
        check_complete(order, settings)
        check_released(order, settings, golden)
    host = orders["cellprofiler"]
    shown = pick(settings, host.names)
    in_fiji = pick(settings, orders["fiji"].names)
    return {
        "bridges/contract/settings.schema.json": json.dumps(contract(), indent=2) + "\n",
        "cellprofiler_modules/_cellseg/settings.py": cellprofiler.render(
            host, shown, WIRE, CONTRACT_VERSION
        ),
        "bridges/contract/fiji_header.txt": fiji.render(in_fiji),
        "fiji_scripts/cellseg_jy/settings.py": fiji.render_table(in_fiji),
        **{
            f"fiji_scripts/{name}": fiji.fill(
                (ROOT / "fiji_scripts" / name).read_text(encoding="ascii"), fiji.render(in_fiji)
            )
            for name in FIJI_SCRIPTS
        },
        "docs/settings.md": reference.render(settings.values(), orders.values()),
    }


def check(files: dict[str, str]) -> int:
    """Compare the committed files with what would be written; give the exit status."""
    status = 0
    for name, text in files.items():
        path = ROOT / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there == text:
            continue
        status = 1
        print(
            f"error: {name} is not what the settings make; run python tools/render_contract.py "
            "and commit it.",
            file=sys.stderr,
        )
        sys.stderr.writelines(
            difflib.unified_diff(there.splitlines(True), text.splitlines(True), "there", "made")
        )
    return status


def release(settings: dict[str, Setting], orders: dict[str, Order]) -> None:
    """Keep the present orders as those of this contract version."""
    for host, order in orders.items():
        path = GOLDEN / f"{host}-{CONTRACT_VERSION}.json"
        if path.exists():
            print(f"{path.relative_to(ROOT)} is released already; raise CONTRACT_VERSION.")
            continue
        lines = ",\n".join(json.dumps(entry) for entry in released_form(order, settings))
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
