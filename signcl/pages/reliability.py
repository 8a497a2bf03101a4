"""The report's section on confidence: reliability curve, calibration error, and the gain from leaving out answers."""

from __future__ import annotations

from typing import Any

from signcl.pages.markup import Html, html, joined, key, table, text
from signcl.pages.page_words import Words
from signcl.pages.report_runs import RunFiles, command

__all__ = ["confidence_section"]

SIDE, LEFT, LOW = 260, 34, 30


def confidence_section(runs: list[RunFiles], say: Words) -> Html:
    """A table and the curves; empty if no run has confidences."""
    found = [(number, run, _of(run)) for number, run in enumerate(runs) if _of(run)]
    if not found:
        return Html()
    parts = []
    for _, run, said in found:
        if "bins" not in said:
            parts.append(html('<p class="gap">{}: {}.</p>', run.label, say.english(said["why_not"])))
        if note := said.get("calibration", {}).get("note"):
            parts.append(html('<p class="gap">{}: {}.</p>', run.label, say.english(note)))
    rows = [
        ("error", lambda d: say.decimals(d.get("ece"), 3)),
        ("mean", lambda d: say.decimals(d.get("mean_confidence"), 3)),
        ("quality", lambda d: say.decimals(d["mean_quality"], 3)),
        ("area", lambda d: say.decimals(d["risk_coverage"]["area"], 3)),
        ("chance", lambda d: say.decimals(d["risk_coverage"]["by_chance"], 3)),
        ("best", lambda d: say.decimals(d["risk_coverage"]["best"], 3)),
        ("unlike", lambda d: text(d.get("out_of_domain", {}).get("clips", "–"))),
        ("calibrated", lambda d: _calibrated_on(d, say)),
    ]
    cells = [[say(f"confidence.row_{name}"), *(cell(said) for _, _, said in found)] for name, cell in rows]
    header = [key(number, run.label) for number, run, _ in found]
    parts.append(
        table(header, cells, caption=say.plain("confidence.caption"), kind="narrow", name=say("report.confidence"))
    )
    drawn = [(number, run, said) for number, run, said in found if "bins" in said]
    if drawn:
        parts.append(_curve(drawn, say))
        parts.append(html('<p class="note">{}</p>', say("confidence.explained")))
    if missing := [run for run in runs if run.recipe.system.answers == "sentences" and not _of(run)]:
        parts += [
            say.gap(say("confidence.none", run=run.label, split=run.split), command("evaluate", run)) for run in missing
        ]
    return joined(parts)


def _of(run: RunFiles) -> dict[str, Any]:
    found: dict[str, Any] = (run.scores or {}).get("confidence") or {}
    return found


def _calibrated_on(said: dict[str, Any], say: Words) -> str:
    made = said.get("calibration")
    if made is None:
        return "–"
    way = "cross" if made["cross_fitted"] else "plain"
    return say(f"confidence.calibrated_{way}", clips=made["clips"], split=made["split"], kind=made["kind"])


def _curve(found: list[tuple[int, RunFiles, dict[str, Any]]], say: Words) -> Html:
    def at(x: float, y: float) -> tuple[str, str]:
        return f"{LEFT + SIDE * x:.1f}", f"{SIDE * (1 - y) + 6:.1f}"

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        parts.append(html('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>', x0, x1, y=y))
        parts.append(html('<line class="grid" x1="{x}" x2="{x}" y1="{}" y2="{}"/>', y0, y1, x=x))
        left = '<text x="{}" y="{}" text-anchor="end" dominant-baseline="middle">{}</text>'
        parts.append(html(left, LEFT - 5, y, say.localized(f"{tick:g}")))
        parts.append(
            html('<text x="{}" y="{}" text-anchor="middle">{}</text>', x, SIDE + 20, say.localized(f"{tick:g}"))
        )
    diagonal = '<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="var(--soft)" stroke-dasharray="4 4"/>'
    parts.append(html(diagonal, x0, y0, x1, y1))
    for number, run, said in found:
        points = [at(part["confidence"], part["quality"]) for part in said["bins"]]
        line = " ".join(",".join(point) for point in points)
        drawn = '<polyline points="{}" fill="none" stroke="var(--r{})" stroke-width="2"/>'
        parts.append(html(drawn, line, number))
        for (x, y), part in zip(points, said["bins"]):
            numbers = {"confidence": float(part["confidence"]), "quality": float(part["quality"])}
            tip = say("confidence.tip", run=run.label, count=part["count"], **numbers)
            dot = '<circle cx="{}" cy="{}" r="3.5" fill="var(--r{})"><title>{}</title></circle>'
            parts.append(html(dot, x, y, number, tip))
    across = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
    parts.append(html(across, LEFT + SIDE / 2, SIDE + LOW + 6, say("confidence.axis")))
    width, height = LEFT + SIDE + 12, SIDE + LOW + 12
    return html(
        '<figure class="reliability" style="max-width:{most}px"><figcaption>{label}</figcaption>'
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{parts}</svg></figure>',
        most=f"{width * 1.4:.0f}",
        label=say("confidence.label"),
        width=width,
        height=height,
        parts=joined(parts),
    )
