"""What of a short training's scores is lost because BatchNorm's running statistics have not settled."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.bundle import find_bundle
from livestain.training.recalibrate import batch_norms
from study.options import livestain, recalibrated_file, result_file, write_result
from study.running import licence_of, training_data
from study.scoring import scored

if TYPE_CHECKING:
    from study.cell import Cell
    from study.options import Options

__all__ = ["recalibrate_cell"]


def recalibrate_cell(cell: Cell, options: Options) -> dict[str, Any]:
    """Score a trained cell's model with statistics that `livestain export --recalibrate` computed again.

    Parameters
    ----------
    cell : Cell
        Its training, its model and its result are there.
    options : Options

    Returns
    -------
    dict
        What is written to `recalibrated_file`: scores as a result file has them, but for those against
        targets free of noise; none of a network without batch normalisation.

    Raises
    ------
    RuntimeError
        If a verb of livestain did not end well.
    """
    trained = json.loads(result_file(cell, options).read_text(encoding="utf-8"))
    scores = {}
    network: Any = find_bundle(options.bundle(cell)).load_module().network
    if batch_norms(network):
        with tempfile.TemporaryDirectory(dir=options.runs) as scratch:
            bundle = Path(scratch) / cell.name
            words = ["--out", str(bundle), "--recalibrate", str(training_data(cell, options))]
            words += ["--licence", licence_of(cell), "--no-onnx"]
            livestain("export", str(options.run(cell)), *words)
            as_seen = [one for one in cell.scorings if not one.label.endswith(" truth")]
            for scoring in as_seen:
                scores[scoring.label], _ = scored(cell, scoring, options, bundle=bundle)
    result = {
        "cell": cell.name,
        "study": cell.study,
        "scale": options.scale,
        # By which the page knows that this is of the training whose result it has.
        "as_trained": {label: trained["scores"][label]["pearson"]["mean"] for label in scores},
        "scores": scores,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
    }
    write_result(recalibrated_file(cell, options), result)
    return result
