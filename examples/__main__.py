"""Runs the examples one by one, prints what each shows, and then a table: `make examples`, `python examples [NAME]...`.

Exits with 1 if one of them did not show what it should.
"""

import subprocess
import sys
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent


def main(names: list[str]) -> int:
    """Run the examples of these names, or all."""
    scripts = [HERE / name / "show.py" for name in names] or sorted(HERE.glob("*/show.py"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for title in ("example", "seconds", "result"):
        table.add_column(title)
    failed = 0
    for script in scripts:
        print(f"\n== {script.parent.name}: {_title(script.parent)}\n", flush=True)
        began = time.monotonic()
        code = subprocess.run([sys.executable, str(script)], check=False).returncode  # noqa: S603 - our own scripts
        failed += code != 0
        table.add_row(script.parent.name, f"{time.monotonic() - began:.0f}", "failed" if code else "ok")
    print()
    Console(highlight=False).print(table)
    return 1 if failed else 0


def _title(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
