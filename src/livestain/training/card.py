"""The model's card: what it was made from, how, how good it is, and what it is not for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.errors import DataError
from livestain.training.teacher import teachers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.training.recipe import Recipe
    from livestain.training.run_folder import RunFolder

__all__ = ["read_scores", "write_card"]


def read_scores(paths: Sequence[Path | str]) -> list[dict[str, Any]]:
    """Read what `livestain evaluate --json` printed: one JSON object as the last line of a file.

    Raises
    ------
    DataError
        If a file is missing or is something else, or scores what no live run predicts.
    """
    found = []
    for path in map(Path, paths):
        try:
            scores = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
            found.append({"by_movie": dict(scores["by_movie"]), "bundle": str(scores["bundle"])})
            views = scores.get("views", 1)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{path} holds no scores. Expected the output of `livestain evaluate … --json`."
            ) from error
        if views != 1:
            raise DataError(
                f"The scores in {path} are of predictions averaged over {views} views, which no live run "
                "makes. Give those of `livestain evaluate` without --views."
            )
    return found


def write_card(
    run: RunFolder,
    *,
    title: str,
    licence: str,
    scores: Sequence[dict[str, Any]],
    parameters: int,
    recalibrated: int = 0,
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    run : RunFolder
        The training.
    title, licence : str
        As they are in the bundle.
    scores : sequence of dict
        As `read_scores` returns them; movies that the scored bundle was trained on are left out.
    parameters : int
        Number of the network's parameters.
    recalibrated : int
        Number of crops over which its batch normalisation was recalibrated; 0 where it was not.
    """
    recipe = run.recipe
    target = ", ".join(item.output.name for item in recipe.targets)
    source = " and ".join(item.kind for item in recipe.sources)
    movies = run.data["movies"]
    low, high = recipe.pixel_size_range_um
    lines = [
        f"# {title}",
        "",
        f"Predicts {target} from {source} at {recipe.pixel_size_um:g} um a pixel;",
        f"{low:g} to {high:g} um are resampled. {_window(recipe)}",
        *_spread_lines(recipe),
        "",
        "## Data",
        "",
        recipe.card.data or "Recorded by whoever trained this model.",
        "",
        "Trained on:",
        "",
        "| movie | pairs | SHA-256 of its pixels |",
        "|---|---|---|",
        *(f"| {name} | {facts['pairs']} | `{facts['sha256']}` |" for name, facts in movies.items()),
        "",
        "## Licence",
        "",
        f"{licence}.",
        "",
        "## Scores on held-out movies",
        "",
        *_score_lines(scores),
        "",
        *([recipe.card.evaluation, ""] if recipe.card.evaluation else []),
        "## Limits",
        "",
        recipe.card.limits or "Not validated beyond the scores above.",
        *_correction_lines(recipe),
        "",
        "## How it was made",
        "",
        *_network_lines(recipe, parameters),
        *_made_lines(run),
        *_recalibration_lines(recalibrated),
        "",
        "The test tensors and the picture come from livestain's simulated dish, not from the training data.",
        "",
    ]
    return "\n".join(lines)


def _score_lines(scores: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for item in scores:
        for name, movie in item["by_movie"].items():
            if movie["trained_on"]:
                continue
            interval, control, gain = (
                f"{movie[key][0]:.3f} to {movie[key][1]:.3f}"
                for key in ("interval", "control_interval", "gain_interval")
            )
            rows.append(
                f"| {name} | {item['bundle']} | {movie['n']} ({movie['frames']}) | "
                f"{movie['pearson']:.3f} ({interval}) | "
                f"{movie['control']:.3f} ({control}) | "
                f"{movie['pearson'] - movie['control']:+.3f} ({gain}) |"
            )
    if not rows:
        return ["None given: how well it does on cells it has not seen is not known."]
    return [
        "Pearson correlation with the recorded fluorescence, mean over images, each movie scored by a bundle",
        "whose recipe does not name that movie. In brackets: 95 % bootstrap intervals over the frames of the",
        "movie, which say nothing of the spread between movies. Control, without learning:",
        "|brightfield - median|, blurred by 6 pixels.",
        "",
        "| movie | scored bundle | images (frames) | Pearson | control | gain |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _window(recipe: Recipe) -> str:
    window = recipe.window
    if window.whole_stack:
        depth = "of any depth" if window.depth is None else f"of {window.depth} planes"
        return f"Takes whole stacks {depth}, {recipe.z_step_um:g} um apart."
    parts = []
    if window.n_z > 1:
        parts.append(f"{window.n_z} planes, {recipe.z_step_um:g} um apart")
    if window.past or window.future:
        parts.append(f"{window.past} time points before and {window.future} after")
    if recipe.normalisation.kind == "running":
        seen = recipe.normalisation.sees_past or "none"
        return (
            f"Reads {' and '.join(parts)}. The statistics of the time points up to the plane's own are "
            f"averaged to normalise it; of those before, the network itself sees {seen}."
        )
    return f"Looks at {' and '.join(parts)}." if parts else "Looks at single planes."


def _spread_lines(recipe: Recipe) -> list[str]:
    if not recipe.loss.predicts_spread:
        return []
    kind = (
        "standard deviation of a Gaussian"
        if recipe.loss.gaussian > 0
        else "scale of a Laplace distribution"
    )
    return [
        f"Beside each prediction comes its spread, the {kind}, as the network expects it: it knows of",
        "noise and of what it has seen, not of cells unlike those that it was trained on.",
    ]


def _correction_lines(recipe: Recipe) -> list[str]:
    """Say what a live run has to correct, where the training did."""
    corrected = [item for item in recipe.sources if item.flat_field or item.dark_frame]
    if not corrected:
        return []
    kinds = " and ".join(item.kind for item in corrected)
    return [
        "",
        f"It learnt from {kinds} corrected by a flat field or dark frame.",
        "A live run needs its own: `flat_field` and `dark_frame` in the settings of the virtual channel,",
        "or a camera whose planes come corrected.",
    ]


def _network_lines(recipe: Recipe, parameters: int) -> list[str]:
    spec = recipe.network_spec()
    options = ", ".join(f"{name} {value}" for name, value in spec.kwargs.items())
    loss = ", ".join(
        f"{name} {weight:g}"
        for name, weight in recipe.loss
        if isinstance(weight, (int, float)) and weight > 0 and name != "teacher_views"
    )
    if recipe.cycle is not None:
        weights = recipe.cycle
        loss = (
            f"two adversaries ({weights.adversarial.loss}), cycle {weights.cycle:g}, "
            f"identity {weights.identity:g}"
        )
    elif recipe.adversarial is not None:
        rival = recipe.adversarial
        loss += f"; an adversary ({rival.discriminator.name}, {rival.loss}), {rival.weight:g}"
    return [
        f"- Network: {spec.name} ({options}), {recipe.dims}-D, {parameters:,} parameters.",
        f"- Loss, by weight: {loss}. Pairing: {recipe.pairing}.",
    ]


def _recalibration_lines(crops: int) -> list[str]:
    if not crops:
        return []
    return [
        "- Statistics of its batch normalisation were computed again after the training, of these weights,",
        f"  over {crops} crops of what was trained on (Wu and Johnson 2021, arXiv:2105.07576).",
    ]


def _selection_lines(run: RunFolder) -> list[str]:
    recipe, finished = run.recipe, run.finished
    averaged = (
        "the running average of the weights" if recipe.ema_decay else "the weights themselves"
    )
    step = finished.get("weights_of_step", finished["steps"])
    lines = [f"- Of step {step}, {averaged}: {finished.get('why', 'the last step')}."]
    teachers = teachers_of(run.data)
    lines += [
        f"- {words} `{known['name']}` (rdf.yaml: SHA-256 `{known['sha256']}`)."
        for words, known in (
            ("Began with the weights of", run.data.get("start")),
            *(("Taught by", teacher) for teacher in teachers),
        )
        if known
    ]
    averaged_over = [
        *([f"these {len(teachers)} teachers"] if len(teachers) > 1 else []),
        *(["8 mirrored and quarter-turned views"] if recipe.loss.teacher_views == 8 else []),
    ]
    if averaged_over:
        lines.append(f"  What it was taught are means over {' and '.join(averaged_over)}.")
    if recipe.selection.weights == "best":
        lines.append(
            "  So the validation data chose, and its scores are no scores on held-out data."
        )
    split = run.data.get("split", {})
    held = [(part, split[part]) for part in ("validation", "test") if part in split]
    lines += [
        f"- Held back by {split['by'].replace('_', ' ')} for {part}: {', '.join(side['groups'])}."
        for part, side in held
    ]
    if "leaks" in split:
        lines.append(f"  {split['leaks']}")
    return lines


def _made_lines(run: RunFolder) -> list[str]:
    finished = run.finished
    versions = ", ".join(f"{name} {version}" for name, version in finished["versions"].items())
    commit = finished.get("commit")
    where = f"{finished['device']}, threads: {finished['threads']}"
    return [
        f"- Recipe: recipe.yaml in this folder (`{run.recipe.name}`), {finished['steps']} steps;",
        f"  {finished['seconds'] / 60:.1f} minutes ({where}).",
        *_selection_lines(run),
        f"- Code: {f'livestain at commit `{commit}`' if commit else 'an installed livestain'}; {versions}.",
        "- Again: `livestain train recipe.yaml --data DIR --out RUN`, then",
        "  `livestain export RUN --out BUNDLE`.",
    ]
