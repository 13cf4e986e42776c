"""Train the zoo's runs while every peer watches, and write ``benchmarks/results/peers.json``.

Figures are of the half on which nothing was chosen; DeepFD, which is fitted, is so on the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..environment import machine, versions
from .roster import ABSENT, PEERS
from .runs import from_zoo
from .score import FLATLINE, Row, Run, Verdicts, judge, row, table

OUTPUT = Path(__file__).parents[1] / "results" / "peers.json"


def rows_of(verdicts: Verdicts, runs: Sequence[Run]) -> list[Row]:
    """A row for each peer and for flatline, over the reported half."""
    reported = [run for run in runs if not run.choose]
    names = [*(peer.name for peer in PEERS), *FLATLINE]
    return [row(name, verdicts[name], reported) for name in names if name in verdicts]


def document(verdicts: Verdicts, runs: Sequence[Run], arguments: Sequence[str]) -> dict[str, Any]:
    """All that is written."""
    return {
        "command": " ".join(["python -m benchmarks.peers", *arguments]),
        "versions": versions(),
        "machine": machine(),
        "peers": {
            peer.name: {
                "source": peer.source,
                "blind": peer.blind,
                "codes": {what: sorted(codes) for what, codes in peer.codes.items()},
            }
            for peer in PEERS
        },
        "absent": ABSENT,
        "figures": [found.to_dict() for found in rows_of(verdicts, runs)],
        "runs": [
            {
                "name": run.name,
                "sick": run.sick,
                "codes": sorted(run.codes),
                "half": "choose" if run.choose else "report",
                "said": {
                    peer: by_run[run.name].said
                    for peer, by_run in verdicts.items()
                    if run.name in by_run and by_run[run.name].alarm
                },
            }
            for run in runs
        ],
    }


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name has it")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], runs: Sequence[Run] | None = None) -> int:
    args = parsed(arguments)
    torch.set_num_threads(args.threads)
    chosen = [run for run in (from_zoo() if runs is None else runs) if args.only in run.name]
    if not chosen:
        print(f"expected runs whose name has {args.only!r}, found none", file=sys.stderr)
        return 2
    done = iter(range(1, len(chosen) + 1))
    verdicts = judge(
        chosen, lambda run: print(f"{next(done)}/{len(chosen)} {run.name}", flush=True)
    )
    print(table(rows_of(verdicts, chosen)))
    print("\nNo rule to run:", *(f"  {name}: {why}" for name, why in ABSENT.items()), sep="\n")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(document(verdicts, chosen, arguments), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
