"""The requests that wait, by priority and by what they can share a batch with.

Used under the lock of the Scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter

from modelkit.errors import Overloaded
from modelkit.serving.batching.requests import DEAD, DONE, IN_QUEUE, Key, Request

Requests = dict[Key, deque[Request]]


class Queue:
    """Requests in the order in which they came.

    `waiting` is the size of all, `deepest` the largest that was. `most` may wait.

    What no longer waits is counted out at once, and buried when it is passed by: a signal handler
    may raise in the main thread at any call, so what belongs together is changed without one in
    between.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = 0
        self.deepest = 0
        self._waiting_low = 0
        self._by_priority: tuple[Requests, Requests] = ({}, {})

    def full(self, size: int, *, low: bool) -> bool:
        """Whether the queue lacks room for a request of this size.

        An empty queue has room for one, however large. Requests of low priority do not take room
        from the rest.
        """
        ahead = self.waiting if low else self.waiting - self._waiting_low
        return ahead > 0 and ahead + size > self.most

    def put(self, request: Request, *, in_front: bool = False) -> None:
        """Queue a request, behind all others or before them."""
        queues = self._by_priority[request.low]
        queue = queues.setdefault(request.key, deque())
        if in_front:
            queue.appendleft(request)
        elif request.left:
            queues[request.key] = deque(shortest_first([*queue, request]))
        else:
            queue.append(request)
        request.state = IN_QUEUE
        self.waiting += request.size
        self._waiting_low += request.size * request.low
        self.deepest = max(self.deepest, self.waiting)

    def take(self, request: Request, state: str) -> None:
        """Count out one request that waits."""
        request.state = state
        self.waiting -= request.size
        self._waiting_low -= request.size * request.low

    def take_all(self, key: Key, requests: Iterable[Request], state: str) -> None:
        """Remove the requests with that key that wait, which are among the first."""
        taken = {request for request in requests if request.state is IN_QUEUE}
        for queues in self._by_priority:
            queue = queues.get(key, deque())
            kept: list[Request] = []
            while queue and (taken or queue[0].state is not IN_QUEUE):
                request = queue.popleft()
                if request in taken:
                    taken.remove(request)
                    self.take(request, state)
                elif request.state is IN_QUEUE:
                    kept.append(request)
            queue.extendleft(reversed(kept))

    def drop(self, request: Request) -> bool:
        """Mark a request that nobody waits for; false where it was answered or dropped before."""
        if request.state in (DONE, DEAD):
            return False
        if request.state is IN_QUEUE:
            self.take(request, DEAD)
        request.state = DEAD
        return True

    def oldest(self) -> deque[Request]:
        """The queue with the oldest request of the highest priority; the dead are buried."""
        for queues in self._by_priority:
            for key in [*queues]:
                queue = queues[key]
                while queue and queue[0].state is not IN_QUEUE:
                    queue.popleft()
                if not queue:
                    del queues[key]
            if queues:
                return min(queues.values(), key=lambda queue: queue[0].arrived)
        return deque()

    def clear(self, state: str) -> list[Request]:
        """Remove all requests."""
        waiting = []
        while requests := self.oldest():
            waiting.append(requests.popleft())
            self.take(waiting[-1], state)
        return waiting

    def alike(self, key: Key) -> Iterator[Request]:
        """The requests that can share a batch, the high priority first."""
        for queues in self._by_priority:
            for request in queues.get(key, ()):
                if request.state is IN_QUEUE:
                    yield request


def shortest_first(requests: list[Request]) -> Iterator[Request]:
    """Requests in their order, but the places of pieces go to the call that has the least left.

    Large calls that came together then end one after another, and not all of them at the end.
    """
    pieces = iter(sorted((each for each in requests if each.left), key=attrgetter("left")))
    for request in requests:
        yield next(pieces) if request.left else request


def overloaded(waiting: int, most: int) -> Overloaded:
    """The error for a call that finds no room in a queue."""
    return Overloaded(
        f"{waiting} wait already, and at most {most} may: try again later, or raise max_queue",
        queued=waiting,
        max_queue=most,
    )
