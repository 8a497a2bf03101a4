"""The report's section on confidence: the reliability curve of each run, its error, and what leaving out would gain."""

from __future__ import annotations

from typing import Any

from signcl.pages.markup import decimals, gap, key, table, text
from signcl.pages.report_runs import RunFiles, command

__all__ = ["confidence_section"]

SIDE, LEFT, LOW = 260, 34, 30


def confidence_section(runs: list[RunFiles]) -> str:
    """A table and the curves; empty where no run answers sentences with a probability."""
    found = [(number, run, _of(run)) for number, run in enumerate(runs) if _of(run)]
    if not found:
        return ""
    parts = []
    for _, run, said in found:
        if "bins" not in said:
            parts.append(f'<p class="gap">{text(run.label)}: {text(said["why_not"])}.</p>')
        if note := said.get("calibration", {}).get("note"):
            parts.append(f'<p class="gap">{text(run.label)}: {text(note)}.</p>')
    rows = [
        ("Expected calibration error", lambda d: decimals(d.get("ece"), 3)),
        ("Mean confidence", lambda d: decimals(d.get("mean_confidence"), 3)),
        ("Mean sentence chrF / 100", lambda d: decimals(d["mean_quality"], 3)),
        ("Area under risk-coverage", lambda d: decimals(d["risk_coverage"]["area"], 3)),
        ("… in an order by chance", lambda d: decimals(d["risk_coverage"]["by_chance"], 3)),
        ("… in the best order", lambda d: decimals(d["risk_coverage"]["best"], 3)),
        ("Clips unlike those of training", lambda d: text(d.get("out_of_domain", {}).get("clips", "–"))),
        ("Calibrated on", _calibrated_on),
    ]
    cells = [[text(name), *(cell(said) for _, _, said in found)] for name, cell in rows]
    header = [key(number, run.label) for number, run, _ in found]
    parts.append(table(header, cells, caption="Confidence of each run", kind="narrow", name="Confidence"))
    drawn = [(number, run, said) for number, run, said in found if "bins" in said]
    if drawn:
        parts.append(_curve(drawn))
        parts.append(
            '<p class="note">A point holds a tenth of the sentences, in order of confidence: what was promised '
            "(across) and what came (up). On the line both are the same; under it the run promises too much. Risk is "
            "1 − sentence chrF / 100 of the sentences that are kept when the least sure ones are left out.</p>"
        )
    if missing := [run for run in runs if run.recipe.system.answers == "sentences" and not _of(run)]:
        parts += [gap(f"{run.label}: no confidence on the {run.split} split.", command("evaluate", run))
                  for run in missing]  # fmt: skip
    return "".join(parts)


def _of(run: RunFiles) -> dict[str, Any]:
    found: dict[str, Any] = (run.scores or {}).get("confidence", {})
    return found


def _calibrated_on(said: dict[str, Any]) -> str:
    made = said.get("calibration")
    if made is None:
        return "–"
    return text(f"{made['clips']} clips of {made['split']}, {made['kind']}{', cross-fitted' * made['cross_fitted']}")


def _curve(found: list[tuple[int, RunFiles, dict[str, Any]]]) -> str:
    def at(x: float, y: float) -> tuple[str, str]:
        return f"{LEFT + SIDE * x:.1f}", f"{SIDE * (1 - y) + 6:.1f}"

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        x0, y0 = at(0, 0)
        x1, y1 = at(1, 1)
        parts.append(f'<line class="grid" x1="{x0}" x2="{x1}" y1="{y}" y2="{y}"/>')
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{y0}" y2="{y1}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y}" text-anchor="end" dominant-baseline="middle">{tick:g}</text>')
        parts.append(f'<text x="{x}" y="{SIDE + 20}" text-anchor="middle">{tick:g}</text>')
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="var(--soft)" stroke-dasharray="4 4"/>')
    for number, run, said in found:
        points = [at(part["confidence"], part["quality"]) for part in said["bins"]]
        line = " ".join(",".join(point) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="var(--r{number})" stroke-width="2"/>')
        for (x, y), part in zip(points, said["bins"]):
            count = part["count"]
            numbers = f"confidence {part['confidence']:.2f}, quality {part['quality']:.2f}"
            tip = f"<title>{text(f'{run.label}: {count} sentences, {numbers}')}</title>"
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="var(--r{number})">{tip}</circle>')
    parts.append(f'<text x="{LEFT + SIDE / 2}" y="{SIDE + LOW + 6}" text-anchor="middle">confidence</text>')
    label = "Reliability: mean sentence chrF / 100 by confidence"
    width, height = LEFT + SIDE + 12, SIDE + LOW + 12
    return (
        f'<figure class="reliability" style="max-width:{width * 1.4:.0f}px"><figcaption>{text(label)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg></figure>'
    )
