"""Coverage-guided fuzzing of model folders and flux tables.

Run ``python tests/fuzz/fuzz_model.py -max_total_time=20 [folder of inputs]`` with atheris installed.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["batchflow"]):
    from targets import flux_table, model, model_folder, table_bytes

    # Much is imported when it is first needed: what is imported out of this block is not followed.
    model(model_folder(), restamp=True)
    flux_table(table_bytes())


def one(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    kind = given.PickValueInList(["weights.safetensors", "model.json", "table"])
    content = bytearray(table_bytes() if kind == "table" else model_folder()[kind])
    for _ in range(given.ConsumeIntInRange(0, 8)):
        place = given.ConsumeIntInRange(0, len(content) - 1)
        content[place : place + given.ConsumeIntInRange(0, 8)] = given.ConsumeBytes(8)
    if kind == "table":
        flux_table(bytes(content))
    else:
        model(model_folder() | {kind: bytes(content)}, restamp=given.ConsumeBool())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
