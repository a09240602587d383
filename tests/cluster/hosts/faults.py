"""Injects a list of faults into short trainings on three hosts, and tells what came of each.

    python -m tests.cluster.hosts.faults FOLDER            goes on where it was stopped
    python -m tests.cluster.hosts.faults FOLDER --once     one fault of each kind
    python -m tests.cluster.hosts.faults FOLDER --summary  the table so far

A run is a whole job, into which several faults are injected one after another. FOLDER keeps
`faults.jsonl` and `runs.jsonl`, a line for each that is over. It needs root.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from stn_icnn.config import TrainConfig
from tests.cluster.hosts.injection import KINDS, Injector
from tests.cluster.hosts.rig import Rig, wait_for
from tests.cluster.hosts.services import train_workers
from tests.cluster.hosts.small_job import Figures, logged_twice, small_config
from tests.cluster.hosts.testbed import NUM_HOSTS, PROXY_PORT, StuckError, Testbed, WatchedJob

WANTED = dict(zip(KINDS, (20, 10, 10, 5, 5, 3, 10, 5, 5, 5, 1, 2), strict=True))
CHANGES_WORKERS = ("node never returns", "node returns late", "node told to go")
PER_RUN = {True: 2, False: 8}
"""The most faults of a run, where workers may be fewer and where not."""
SEEDS = (0, 1, 2)
EPOCHS = 8
SPREAD = "end_to_end/val/loss"
"""The figure by which a run whose number of workers changed is compared with undisturbed ones."""


class Record:
    """What is over, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def add(self, name: str, **entry: Any) -> None:
        with (self.folder / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(time.strftime("%H:%M:%S"), name, json.dumps(entry)[:400], flush=True)

    def left(self, wanted: dict[str, int]) -> Counter[str]:
        """The faults that are not injected yet, in runs that came to their end."""
        over = {run["run"] for run in self.read("runs")}
        done = Counter(one["fault"] for one in self.read("faults") if one["run"] in over)
        return Counter({kind: most - done[kind] for kind, most in wanted.items()}) + Counter()


def config_of(seed: int) -> TrainConfig:
    """The settings of all runs of a seed."""
    return replace(small_config(EPOCHS, checkpoint_every_steps=4), seed=seed)


def run_one(
    bed: Testbed, record: Record, name: str, job: WatchedJob, kinds: list[str], **facts: Any
) -> None:
    """Runs a job with some faults, and records them and its figures."""
    dice = random.Random(name)
    began = time.time()
    job.submit()
    stuck = None
    try:
        job.makes_progress()
        for kind in kinds:
            if not job.makes_progress():
                break
            at = time.time()
            told = Injector(bed, job, dice).inject(kind)
            record.add("faults", run=name, fault=kind, at=round(at - began), **told.as_dict())
        job.goes_on_until(lambda: False, "its end")
    except (StuckError, AssertionError, TimeoutError) as error:
        stuck = str(error)[-1000:]
        job.driver and job.driver.poll() is None and job.stop(9)
    figures: Figures = {} if stuck else bed.figures(job)
    record.add(
        "runs",
        run=name,
        seconds=round(time.time() - began),
        submitted=job.num_submitted,
        stuck=stuck,
        twice=logged_twice(figures),
        left_over=processes_left(bed),
        figures=figures,
        **facts,
    )
    bed.restore()


def processes_left(bed: Testbed) -> dict[str, list[int]]:
    """The training processes that outlive a job by half a minute."""
    try:
        wait_for(lambda: not train_workers(bed.rig), "the end of all workers", 30)
    except TimeoutError:
        return train_workers(bed.rig)
    return {}


def run_undisturbed(bed: Testbed, record: Record) -> None:
    """Three runs of each number of workers; those with all of them are compared bit by bit."""
    over = {run["run"] for run in record.read("runs")}
    for seed in SEEDS:
        for num in range(NUM_HOSTS, 0, -1):
            name = f"undisturbed-{num}-seed{seed}"
            if name not in over:
                options = {"--scaling.num-workers": str(num)}
                job = bed.job(name, config_of(seed), options)
                run_one(bed, record, name, job, [], num_workers=num, seed=seed)


def run_slow(bed: Testbed, record: Record, name: str) -> None:
    """A run whose services are reached through a proxy that delays and drops."""
    tracking = f"http://{bed.mlflow.address}:{PROXY_PORT}"
    options = {"--scaling.num-workers": str(NUM_HOSTS), "--tracking-uri": tracking}
    job = bed.job(name, config_of(0), options)
    job.environment["AWS_ENDPOINT_URL"] = f"http://{bed.s3.address}:{PROXY_PORT}"
    run_one(bed, record, name, job, [], num_workers=NUM_HOSTS, seed=0, slow=True)


def next_faults(left: Counter[str], changes: bool) -> list[str]:
    """The faults of the next run: as many kinds as there are, those first that are wanted most."""
    kinds = [k for k, _ in left.most_common() if (k in CHANGES_WORKERS) is changes]
    chosen: list[str] = []
    still = Counter(left)
    while len(chosen) < PER_RUN[changes] and any(still[kind] for kind in kinds):
        chosen += [kind for kind in kinds if still[kind]][: PER_RUN[changes] - len(chosen)]
        still = Counter(left) - Counter(chosen)
    return chosen


def run_all(bed: Testbed, record: Record, wanted: dict[str, int]) -> None:
    """Runs what is not over."""
    while left := record.left(wanted):
        for changes in (True, False):
            if kinds := next_faults(left, changes):
                run_faults(bed, record, kinds, changes)
    if not any(run.get("slow") for run in record.read("runs")):
        run_slow(bed, record, f"slow-{len(record.read('runs'))}")


def run_faults(bed: Testbed, record: Record, kinds: list[str], changes: bool) -> None:
    """A run with some faults; with those that change the number of workers, it may have fewer."""
    number = len(record.read("runs"))
    name, seed = f"run-{number}-{'elastic' if changes else 'fixed'}", SEEDS[number % len(SEEDS)]
    options = {"--scaling.num-workers": str(NUM_HOSTS)}
    if changes:
        options |= {"--scaling.min-workers": "1", "--scaling.resize-interval-s": "15"}
    job = bed.job(name, config_of(seed), options)
    run_one(bed, record, name, job, kinds, num_workers=NUM_HOSTS, seed=seed, elastic=changes)


def summary(record: Record, wanted: dict[str, int]) -> str:
    """The table of the issue, and how the runs' figures compare."""
    faults, runs = record.read("faults"), record.read("runs")
    lines = ["| fault | times | steps lost (most) | seconds to the next checkpoint (most) | what |"]
    lines += ["|---|---|---|---|---|"]
    for kind in wanted:
        of_kind = [one for one in faults if one["fault"] == kind]
        lost = [one["lost_steps"] for one in of_kind] or [0]
        seconds = sorted(one["seconds"] for one in of_kind) or [0]
        what = Counter(_shape(one["happened"]) for one in of_kind).most_common(2)
        shown = "; ".join(f"{num} x {text}" for text, num in what)
        times = f"{len(of_kind)} of {wanted[kind]}"
        mean = f"{sum(lost) / len(lost):.1f} ({max(lost)})"
        half = f"{seconds[len(seconds) // 2]:.0f} ({seconds[-1]:.0f})"
        lines.append(f"| {kind} | {times} | {mean} | {half} | {shown} |")
    return "\n".join([*lines, "", *_compared(runs)])


def _shape(happened: str) -> str:
    words = (word if not word[:1].isdigit() else "N" for word in happened.split())
    return " ".join("HOST" if word[:1] == "w" and word[1:2].isdigit() else word for word in words)


def _compared(runs: list[dict[str, Any]]) -> list[str]:
    undisturbed = [run for run in runs if run["run"].startswith("undisturbed")]
    whole = {run["seed"]: run["figures"] for run in undisturbed if run["num_workers"] == NUM_HOSTS}
    spread = [_last(run["figures"]) for run in undisturbed if run["figures"]]
    within = f"{min(spread):.4f} to {max(spread):.4f}" if spread else "none yet"
    lines = [f"undisturbed runs: {len(spread)}, {SPREAD} {within}"]
    for run in runs:
        if run in undisturbed:
            continue
        if run["stuck"]:
            verdict = f"STUCK {run['stuck'].splitlines()[-1][:120]}"
        elif run["figures"] == whole.get(run["seed"]):
            verdict = "equal"
        else:
            verdict = f"{SPREAD} {_last(run['figures']):.4f}"
        extra = f", twice {run['twice']}" * bool(run["twice"])
        extra += f", left {run['left_over']}" * bool(run["left_over"])
        lines.append(f"{run['run']}: {verdict}, submitted {run['submitted']} times{extra}")
    return lines


def _last(figures: Figures) -> float:
    return figures[f":{SPREAD}"][-1][1] if figures else float("nan")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    wanted = dict.fromkeys(WANTED, 1) if given.once else WANTED
    record = Record(given.folder)
    if given.summary:
        print(summary(record, wanted))
        return
    hosts = given.folder / "hosts"
    shutil.rmtree(hosts, ignore_errors=True)
    hosts.mkdir()
    with Rig(hosts, own_names_loop=True) as rig:
        bed = Testbed(rig)
        bed.start()
        print(time.strftime("%H:%M:%S"), "the testbed is there", flush=True)
        if not given.once:
            run_undisturbed(bed, record)
        run_all(bed, record, wanted)
    print(summary(record, wanted))


if __name__ == "__main__":
    sys.exit(main())
