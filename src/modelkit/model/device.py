"""Devices, and where a Model runs, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelkit._internal import fields


@dataclass(frozen=True)
class Device:
    """A device, and whether it is usable here.

    Attributes:
        name: as `load` takes it, such as "cuda".
        provider: the provider of onnxruntime that runs it.
        usable: whether it ran a graph of one node.
        reason: why it is usable or not, in words.
    """

    name: str
    provider: str
    usable: bool
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.provider}): {'' if self.usable else 'not '}usable, {self.reason}"
        )


@dataclass(frozen=True)
class Placement:
    """Where a Model really runs.

    `threads` is the number of CPU threads in force; `split` says how they are used: each run split
    over all of them (True), or each run on one thread and the chunks of a bulk run spread over them
    (False), which keeps every row's answer independent of the number of threads.

    `nodes` counts the nodes of the graph by provider, where a device other than the CPU is used and
    the runtime counts them; it is empty on the CPU, where all of them run. `reason` says why this device,
    `threads_reason` why so many threads. `requested` is the device that was wanted first: another one
    than `device` only where it could not be had. `since` is when the model was loaded, in seconds
    since 1970, which two equal Placements may differ in.
    """

    provider: str
    device: str
    threads: int
    split: bool
    nodes: tuple[tuple[str, int], ...] = ()
    reason: str = ""
    threads_reason: str = ""
    requested: str = "cpu"
    since: float = field(default=0.0, compare=False, repr=False)

    __repr__ = fields.brief

    def __str__(self) -> str:
        how = (
            "each run split over them"
            if self.split
            else "one per run, chunks of a bulk run in parallel"
        )
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        text = f"{self.device} ({self.provider}), {threads}, {how}"
        if self.nodes:
            text += ", nodes: " + ", ".join(
                f"{count} on {provider}" for provider, count in self.nodes
            )
        return text
