"""`modelkit rollout`: try a version of a registry on real calls, see where it stands, and decide."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from math import isinf
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    ROWS_HELP,
    Printed,
    add_action,
    add_actions,
    name_and_version,
    plain_fields,
    printed,
    read_text,
)
from modelkit.cli.registry import read_verdict
from modelkit.cli.rows import known_columns, read_rows
from modelkit.cli.tables import write_forms
from modelkit.errors import Conflict, UsageError

SPANS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
STAGE_HELP = (
    "SHARE[:TIME[:CALLS]], repeated for each stage, such as 0.05:1h:500: the candidate answers 5 "
    "%% of the calls, for an hour and 500 calls at least; a SHARE of 0 is shadow"
)


def add_rollout(verbs: Any) -> None:
    """The arguments of `modelkit rollout`."""
    actions = add_actions(verbs, "rollout", "try a version of a registry on real calls")
    _add_start(actions)
    about = "where it stands, or how the last one ended"
    named = "the name of the model"
    add_action(actions, "status", run_status, about, "--output", name=named)
    action = add_action(
        actions, "outcome", run_outcome, "post the losses of answers", "--extra", name=named
    )
    about = f"the losses of many calls, with the columns key and loss: {ROWS_HELP}"
    action.add_argument("rows", nargs="?", metavar="FILE", help=about)
    action.add_argument("--key", help="of the call that was answered")
    action.add_argument("--loss", type=float, help="from 0, right, to 1")
    for name, about in (
        ("promote", "let the candidate answer everything, whatever the evidence"),
        ("rollback", "let the champion answer everything"),
    ):
        action = add_action(actions, name, run_decide, about, "--reason", name=named)
        action.set_defaults(decision=name)


def _add_start(actions: Any) -> None:
    action = add_action(
        actions,
        "start",
        run_start,
        "let a candidate answer a share of the calls",
        "--verdict",
        "--reason",
        "--force",
        model="name and version of the candidate, such as churn@1.1.0",
    )
    how = action.add_mutually_exclusive_group(required=True)
    how.add_argument("--stage", action="append", help=STAGE_HELP)
    how.add_argument(
        "--policy", metavar="FILE", help="the whole policy, as RolloutPolicy.to_json writes it"
    )
    action.add_argument(
        "--guard", action="append", default=[], metavar="NAME[:FIELD=NUMBER]...",
        help="what is watched, such as errors:worse=1.5 or loss:margin=0.01; else the usual ones",
    )  # fmt: skip
    action.add_argument(
        "--alpha", type=float, help="the probability of a wrong decision; else 0.01"
    )
    action.add_argument("--horizon", metavar="TIME", help="the time after which it holds; else 7d")
    action.add_argument(
        "--key-calls", type=int, metavar="NUMBER",
        help="how many calls a key needs to count for a promotion; else 20",
    )  # fmt: skip


def run_start(args: argparse.Namespace) -> Printed:
    """Begin a rollout, of two versions that fit each other; show about how long it will take."""
    from modelkit.lifecycle.rollout.planning import RISKS, plan_of

    name, version = name_and_version(args.model, "1.1.0")
    policy = _policy(args)
    registry = mk.Registry(args.registry)
    rollout = registry.start_rollout(
        name,
        version,
        policy,
        reason=args.reason,
        force=args.force,
        verdict=read_verdict(args.verdict),
    )
    plan = plan_of(policy, {}, RISKS)
    line = f"{name} {rollout.candidate} is on trial, generation {rollout.generation}"
    by_requests = sorted(plan.needs, key=lambda need: need.requests)
    share = policy.stages[-1].share  # with which it ends
    slowest = {need.risk: need for need in by_requests if need.share == share}
    ends = [slowest[risk] for risk in (1.0, 2.0) if slowest]
    lines = [line, *map(str, (*policy.stages, *ends, *plan.notes))]
    lines.append(f"to see where it stands: modelkit rollout {args.registry} status {name}")
    needs = [_finite(asdict(need)) for need in plan.needs]
    return printed(args, {**plain_fields(rollout), "plan": needs}, lines)


def run_status(args: argparse.Namespace) -> Printed:
    """Where a rollout stands."""
    from modelkit.lifecycle.rollout.status import progress_afar

    progress = progress_afar(mk.Registry(args.registry), args.name)
    plain = asdict(progress)
    del plain["points"]
    for which in ("champion", "candidate"):
        identity = plain[which]
        plain[which] = None if identity is None else identity._asdict()
    forms = {"txt": progress.__str__, "json": lambda: json.dumps(plain), "html": progress.to_html}
    return write_forms(args, forms), 0


def run_outcome(args: argparse.Namespace) -> Printed:
    """Post the losses of answers; each process of the rollout then adds them up."""
    from modelkit.lifecycle.rollout.losses import post_outcomes

    outcomes = _outcomes(args)
    post_outcomes(mk.Registry(args.registry), args.name, outcomes)
    count = len(outcomes)
    return printed(args, {"posted": count}, [f"{count:,} posted"])


def _outcomes(args: argparse.Namespace) -> list[tuple[str, float]]:
    """The keys and losses of arguments. Raises UsageError unless there are some."""
    from modelkit.lifecycle.rollout.losses import check_loss

    one = (args.key, args.loss)
    if args.rows is not None:
        if one != (None, None):
            raise UsageError("the file has the keys and losses: leave out --key and --loss")
        return _read_outcomes(args.rows, args.extra)
    if None in one:
        raise UsageError("an outcome has --key and --loss; or name a file of many")
    check_loss(args.loss)
    return [one]


def _read_outcomes(path: str, extra: str) -> list[tuple[str, float]]:
    """The keys and losses in a file. Raises SignatureError for other rows."""
    key = mk.TensorSpec("key", "string", ("batch", 1), (mk.Column("key", "string"),))
    loss = mk.TensorSpec("loss", "float64", ("batch", 1), (mk.Column("loss"),))
    signature = mk.Signature((key, loss), (mk.TensorSpec("posted", "bool", ("batch",)),))
    columns = read_rows(path, signature)
    if extra == "ignore":
        columns = known_columns(columns, signature)
    keys, losses = (feed[:, 0].tolist() for feed in signature.coerce(columns).values())
    return list(zip(keys, losses, strict=True))


def run_decide(args: argparse.Namespace) -> Printed:
    """Promote or roll back by hand. Raises Conflict where somebody else decided meanwhile."""
    from modelkit.lifecycle.rollout.status import progress_afar

    registry = mk.Registry(args.registry)
    rollout = registry.state(args.name).rollout
    if rollout is None:
        registry.versions(args.name)  # raises NotFound
        raise Conflict(
            f"no rollout of {args.name} is under way; to let another version answer, use "
            f"modelkit registry {args.registry} alias {args.name}@champion VERSION --expected VERSION "
            "--reason REASON"
        )
    progress = progress_afar(registry, args.name)
    evidence = {guard.name: [guard.worse, guard.better] for guard in progress.guards}
    entry = registry.decide_rollout(
        args.name, rollout, args.decision, reason=args.reason, about={"shown": evidence}
    )
    return printed(args, plain_fields(entry), [str(entry)])


def _policy(args: argparse.Namespace) -> mk.RolloutPolicy:
    """The policy of arguments. Raises UsageError, and PackageError for a file that is none."""
    if args.policy is not None:
        others = (args.alpha, args.horizon, args.key_calls)
        if args.guard or others != (None, None, None):
            raise UsageError(
                "--policy says all of it: leave out --guard, --alpha, --horizon and --key-calls"
            )
        return mk.RolloutPolicy.from_json(read_text(args.policy), args.policy)
    from modelkit.lifecycle.rollout.guards import USUAL_GUARDS

    guards = tuple(map(_guard, args.guard)) or USUAL_GUARDS
    horizon = None if args.horizon is None else _seconds(args.horizon)
    given = {"alpha": args.alpha, "horizon": horizon, "key_calls": args.key_calls}
    options = {name: value for name, value in given.items() if value is not None}
    return mk.RolloutPolicy(tuple(map(_stage, args.stage)), guards, **options)


def _stage(text: str) -> mk.RolloutStage:
    share, _, rest = text.partition(":")
    time, _, calls = rest.partition(":")
    try:
        return mk.RolloutStage(
            float(share), seconds=_seconds(time) if time else 0.0, calls=int(calls or 0)
        )
    except ValueError as error:
        raise UsageError(f"--stage {text!r} is not SHARE[:TIME[:CALLS]]: {error}") from None


def _guard(text: str) -> mk.Guard:
    name, *settings = text.split(":")
    values: dict[str, Any] = {}
    for setting in settings:
        field, _, number = setting.partition("=")
        if field not in ("worse", "better", "floor", "above", "margin", "material", "tolerance"):
            raise UsageError(f"--guard {text!r}: unknown number {field!r}")
        try:
            values[field] = float(number)
        except ValueError:
            raise UsageError(f"--guard {text!r}: {number!r} is not a number") from None
    return mk.Guard(name, **values)


def _seconds(text: str) -> float:
    found = SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is not a time; write 600, 10m, 24h or 7d")
    return float(found[1]) * SPANS[found[2]]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON has: what no number of requests reaches is null."""
    return {
        name: None if isinstance(value, float) and isinf(value) else value
        for name, value in values.items()
    }
