"""The slots of one lane, as pure counters. A slot is the right to run a batch."""

from __future__ import annotations

from modelkit.serving.batching.policy import BatchPlan, opens


class Slots:
    """Counts the slots that are held, and the size of what is run with them.

    A slot is held by a thread that runs a batch, by a thread that was promoted and wakes up, or by
    a runner that wakes up or is to be started.

    `active` slots are held, `starting` of them by runners that are to be started. `running` is the
    size of what is run, and `usual` the running mean of what waits and runs together. `returning`
    runners have no slot and are about to look for work. Nobody waits for the end of the runs that
    are `overdue`, of the size `overdue_size`: they take far longer than runs do, as on a device
    that hangs. `runs` are the runs under way: by thread, their size and when they began.

    Used under the lock of the lane. A signal handler may raise when a function is entered, and not
    between the lines of one, so each method changes the counts as a whole or not at all.
    """

    __slots__ = (
        "active",
        "overdue",
        "overdue_size",
        "returning",
        "running",
        "runs",
        "starting",
        "usual",
    )

    def __init__(self) -> None:
        self.active = 0
        self.running = 0
        self.starting = 0
        self.returning = 0
        self.usual = 1.0
        self.overdue = 0
        self.overdue_size = 0
        self.runs: dict[int, tuple[int, float]] = {}

    def opens(self, size: int, plan: BatchPlan) -> bool:
        """Whether a batch of `size` should be run now, beside those that are run."""
        if not self.active:
            return True
        if self.active >= plan.slots:
            return False
        active = max(0, self.active - self.overdue)
        running = max(0, self.running - self.overdue_size)
        return opens(size, running, active, self.usual, plan)

    def take(self, size: int = 0) -> None:
        """Take a slot, to run a batch of `size`; 0 where the batch is put together later."""
        self.active += 1
        self.running += size

    def give(self, size: int) -> None:
        """Give a slot back, with which a batch of `size` was run."""
        self.active -= 1
        self.running -= size
        # Which of them ended is not known: at the latest when all have, none is overdue.
        if self.overdue > self.active:
            self.overdue = self.active
            self.overdue_size = self.running

    def wait_no_longer(self) -> None:
        """Let no batch wait for the end of what is run now."""
        self.overdue = self.active
        self.overdue_size = self.running

    def note(self, work: int) -> None:
        """Note in the mean that work of this size waits beside what is run."""
        self.usual += (work + self.running - self.usual) / 8
