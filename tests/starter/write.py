#!/usr/bin/env python3
"""Writes the starter datasets to config/gates/cases: `python3 tests/starter/write.py`.

A dataset is made of families: contents that differ in meaning, and a few forms. Right answers are computed where they can
be. The seed chooses the numbers and which form goes with which content; the files are the same on every machine.
"""

import json
import pathlib
import random

import facts
import harm
import inject
import tasks
import topics

SEED = 20_261_129
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "config" / "gates" / "cases"
DATASETS = {
    "consistency": facts.consistency, "quality": topics.quality, "safety": harm.safety, "jailbreak": harm.jailbreak, "injection": inject.injection,
    "over-refusal": harm.over_refusal, "pii": inject.pii, "calibration": facts.calibration, "tools": tasks.tools, "judge": facts.judge,
}


def main():
    for name, cases in DATASETS.items():
        lines = [json.dumps(case, ensure_ascii=False) for case in cases(random.Random(f"{SEED} {name}"))]
        (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines)} cases")


if __name__ == "__main__":
    main()
