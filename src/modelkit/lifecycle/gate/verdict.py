"""The decision of a gate, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, final

from modelkit._internal import fields
from modelkit._internal.json import read_report, to_record
from modelkit.errors import PackageError
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.check import GateCheck
from modelkit.lifecycle.gate.page import LOOKS, STYLE, checks_table, junit_of
from modelkit.report import html

VERDICT_SCHEMA = "modelkit.verdict/1"
GateDecision = Literal["promote", "block", "inconclusive"]


@final
@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether a candidate may take the place of a champion, and why.

        verdict = mk.gate("new.mk", "churn.mk", X_test, y_test, margin=0.05)
        registry.register("new.mk", verdict=verdict)

    It stores no rows. It is about two models and labelled rows, whatever is attached to the
    packages:
    `candidate_digest` and `champion_digest` are values of `Manifest.model_digest`.

    Attributes:
        decision: "promote", "block" or "inconclusive".
        candidate: name and version of the candidate.
        candidate_digest: its model digest.
        champion: name and version of the champion.
        champion_digest: its model digest.
        generation: the number of the entry by which an alias of a registry named this champion when
            it was judged; None for a champion from elsewhere.
        alias: that alias, or "".
        kind: of task.
        metric: the name of the primary metric.
        positive: the class as text of which a binary task has its precision, recall, F1 and areas;
            empty for other tasks, and where the rows were not read.
        margins: by metric, how much worse the candidate may be.
        alpha: the probability, at most, of promoting a candidate that is worse than that, over all
            gates on these rows that the registry counted.
        spent: the part of alpha that this gate had.
        uses: how many different gates the registry had counted on these rows, with this one; 0
            where no registry counts.
        rows: how many rows both answered.
        independent: how many of them are: clusters or queries, where there are some.
        data_digest: of the rows and their truth, in whatever order; empty where they were not read.
        policy_digest: of all that was asked for: metrics, margins, alpha, slices, budgets.
        checks: every question and its answer.
        seed: of what was drawn at random.
        versions: of the libraries that computed it, by name.
        notes: what you have to know when you read it.
    """

    decision: GateDecision
    candidate: str
    candidate_digest: str
    champion: str
    champion_digest: str
    generation: int | None
    alias: str
    kind: TaskKind
    metric: str
    margins: dict[str, float]
    alpha: float
    spent: float
    uses: int
    rows: int
    independent: int
    data_digest: str
    policy_digest: str
    checks: tuple[GateCheck, ...]
    seed: int = 0
    versions: dict[str, str] | None = None
    notes: tuple[str, ...] = ()
    positive: str = ""

    def __bool__(self) -> bool:
        raise TypeError("a Verdict has three decisions: ask whether .decision == 'promote'")

    def __getitem__(self, name: str) -> GateCheck:
        """The check of this name. Raises KeyError for one that was not made."""
        return fields.item_named(self.checks, name, "check")

    @property
    def rows_needed(self) -> int | None:
        """How many rows would show what is unclear, if the candidate is as good as the champion.

        Each check is shown with a probability of .8, on rows that no gate has used. It is None where
        nothing is unclear, and where a floor is, or a metric with a margin of 0: the
        number then depends on how much better the candidate is, which these rows do not show. The text of the
        check says what as many rows would show.
        """
        lacking = self._lacking
        known = [check.rows_needed for check in lacking if check.rows_needed is not None]
        return max(known) if known and len(known) == len(lacking) else None

    @property
    def reason(self) -> str:
        """Why it was decided so, in a sentence."""
        failed = [check.name for check in self.checks if check.outcome == "fail"]
        if failed:
            return f"it fails {', '.join(failed)}"
        lacking = self._lacking
        if not lacking:
            return "everything required is shown, and no harm is shown"
        return f"not shown: {', '.join(check.name for check in lacking)}{self._what_would_show()}"

    @property
    def _lacking(self) -> list[GateCheck]:
        return [check for check in self.checks if check.required and check.outcome == "unclear"]

    @property
    def _title(self) -> str:
        return f"{self.candidate} in place of {self.champion}"

    def _what_would_show(self) -> str:
        needed = self.rows_needed
        if needed is None:
            return ""
        # What is independent is what has to be collected.
        units = "rows" if self.independent == self.rows else "clusters"
        wanted = f"{ceil(needed * self.independent / self.rows):,} {units}"
        if needed > self.rows:
            beyond = any((check.estimate or 0.0) < (check.bound or 0.0) for check in self._lacking)
            worse = ", and the candidate looks worse" if beyond else ""
            return f"; about {wanted} would show it, and these are {self.independent:,}{worse}"
        if any((check.estimate or 0.0) < 0 for check in self._lacking):
            return (
                f"; the candidate looks worse: {self.independent:,} {units} would be enough, were it as good as "
                "the champion"
            )
        return f"; about {wanted} that no gate has used would show it"

    def __str__(self) -> str:
        lines = [f"{self.decision.upper()}: {self._title}: {self.reason}", *map(str, self.checks)]
        lines += [f"note: {note}" for note in self.notes]
        return "\n  ".join(lines)

    __repr__ = fields.brief

    def to_json(self) -> str:
        """Everything, as one line of ASCII."""
        return to_record(self, VERDICT_SCHEMA)

    @staticmethod
    def from_json(text: str) -> Verdict:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        found = read_report(Verdict, text, VERDICT_SCHEMA, "a Verdict")
        if not found.checks:
            raise PackageError("this is not a Verdict: it lacks checks")
        if found.decision != decision_of(found.checks):
            raise PackageError(
                f"this is not a Verdict: its checks come to {decision_of(found.checks)!r}, and it says "
                f"{found.decision!r}"
            )
        return found

    def to_junit(self) -> str:
        """A JUnit report with a test case for each check, for Jenkins and its like."""
        facts = {
            "decision": self.decision,
            "reason": self.reason,
            "candidate_digest": self.candidate_digest,
            "champion_digest": self.champion_digest,
            "data_digest": self.data_digest,
            "policy_digest": self.policy_digest,
            "alpha": f"{self.alpha:g}",
            "spent": f"{self.spent:g}",
            "uses": str(self.uses),
            "rows": str(self.rows),
            "rows_needed": str(self.rows_needed or ""),
        }
        return junit_of(self._title, facts, self.checks)

    def to_html(self) -> str:
        """A page of its own, without scripts; it loads nothing."""
        reason = self.reason
        return html.page(
            f"Gate: {self._title}",
            html.summary(
                self.decision.upper(),
                f"{reason[0].upper()}{reason[1:]}.",
                html.bullets(self.notes),
                look=LOOKS[self.decision],
            ),
            checks_table(self.checks),
            html.part("About", html.table((), self._about())),
            style=STYLE,
        )

    def _about(self) -> list[tuple[str, str]]:
        """What the page says of the gate, beside its checks."""
        margins = ", ".join(f"{name} {margin:g}" for name, margin in self.margins.items())
        units = "" if self.independent == self.rows else f" in {self.independent:,} clusters"
        named = f", {self.alias} in generation {self.generation}" if self.alias else ""
        versions = sorted((self.versions or {}).items())
        return [
            ("task", f"{self.kind}, judged first by {self.metric}"),
            ("margins", margins),
            ("alpha", f"{self.alpha:g}, of which this gate had {self.spent:.3g}"),
            ("uses of these rows", f"{self.uses:,}" if self.uses else "not counted"),
            ("rows", f"{self.rows:,}{units}"),
            ("candidate", f"{self.candidate}, sha256:{self.candidate_digest}"),
            ("champion", f"{self.champion}, sha256:{self.champion_digest}{named}"),
            ("rows and truth", f"sha256:{self.data_digest}" if self.data_digest else "not read"),
            ("policy", f"sha256:{self.policy_digest}"),
            ("seed", str(self.seed)),
            ("computed by", ", ".join(f"{name} {one}" for name, one in versions)),
        ]

    def _repr_html_(self) -> str:
        facts = [("decision", self.decision.upper()), ("why", self.reason)]
        facts += [("note", note) for note in self.notes]
        rows = [(check.outcome, check.name, check.figure, check.text) for check in self.checks]
        return html.card(f"Gate: {self._title}", facts, ("", "check", "figure", ""), rows)


def decision_of(checks: Sequence[GateCheck]) -> GateDecision:
    """What the answers to all questions come to."""
    if any(check.outcome == "fail" for check in checks):
        return "block"
    if any(check.required and check.outcome == "unclear" for check in checks):
        return "inconclusive"
    return "promote"
