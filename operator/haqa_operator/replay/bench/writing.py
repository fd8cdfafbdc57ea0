"""A benchmark's figures as tables: one row a strategy, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from haqa_operator.replay.bench.measures import WITHIN, Figure, Summary

Cells = tuple[str, ...]


def heading_cells(summaries: Sequence[Summary]) -> Cells:
    after = summaries[0].share
    noise = summaries[0].false_wins is not None
    return (
        "strategy",
        *(f"share at {n}" for n in after),
        *(f"regret at {n}" for n in after),
        *(f"trials to {name}" for name in WITHIN),
        "wasted",
        "own trials",
        "tokens",
        "slowest proposal",
        *(("wrong winners", "false wins") if noise else ()),
    )


def summary_cells(summary: Summary) -> Cells:
    noise = [summary.wrong_winners, summary.false_wins] if summary.false_wins is not None else []
    return (
        summary.strategy + (f" ({summary.errors} failed)" if summary.errors else ""),
        *(_figure(figure) for figure in summary.share.values()),
        *(_figure(figure) for figure in summary.regret.values()),
        *(
            f"{figure.value:.1f}" + (f" ({summary.never[name]:.0%} never)" if summary.never[name] else "")
            for name, figure in summary.trials_to.items()
        ),
        f"{summary.wasted.value:.0%}",
        f"{summary.own_trials:.1f}",
        f"{summary.tokens:,.0f}" if summary.tokens else "0",
        f"{1000 * summary.slowest_proposal_seconds:.0f} ms",
        *(f"{share:.1%}" for share in noise if share is not None),
    )


def short_heading(summaries: Sequence[Summary]) -> Cells:
    """For a terminal: shares of the best, trials to within 5 %, waste."""
    noise = ("false wins",) if summaries[0].false_wins is not None else ()
    return ("strategy", *(f"at {n}" for n in summaries[0].share), "to 5 %", "wasted", "tokens", *noise)


def short_cells(summary: Summary) -> Cells:
    false_wins = () if summary.false_wins is None else (f"{summary.false_wins:.1%}",)
    return (
        summary.strategy,
        *(f"{figure.value:.3f}" for figure in summary.share.values()),
        f"{summary.trials_to['within 5 %'].value:.1f}",
        f"{summary.wasted.value:.0%}",
        f"{summary.tokens:,.0f}",
        *false_wins,
    )


def markdown(groups: Mapping[str, Sequence[Summary]], about: Sequence[str]) -> str:
    """A page: what was run, then a table for each group of problems.

    Args:
        groups: Title -> its summaries.
        about: Sentences above the tables.
    """
    parts = ["# Strategies on tables of measurements", "\n".join(f"- {line}" for line in about)]
    for title, summaries in groups.items():
        if not summaries:
            continue
        heading = heading_cells(summaries)
        rows = [heading, ("---",) * len(heading), *map(summary_cells, summaries)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        problems, searches = summaries[0].problems, sum(one.searches for one in summaries)
        parts.append(f"## {title}\n\n{problems} problems, {searches} searches\n\n{table}")
    return "\n\n".join(parts) + "\n"


LEGEND = (
    "share: of the best feasible value, found after so many own trials after the baseline (1 = the best)",
    "regret: distance to the best on the scale from the best (0) to the worst feasible value, or none at all (1)",
    "trials to: until within so much of the best; a search that never came there counts as one trial more than allowed",
    "wasted: own trials that failed or broke a limit",
    "in brackets: bootstrap interval of 95 % over families of problems and their searches",
)


def _figure(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.2f}-{figure.high:.2f})"
