"""The requests that wait, by priority and by what they can share a batch with. Used under the lock of the lane."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Iterator

from modelkit.batching.requests import DEAD, DONE, WAITING, Key, Request


class Queue:
    """Requests in the order in which they came.

    `waiting` is the size of all, `deepest` the largest that was. `most` may wait. `blocked` are locks of threads that
    wait for room.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = self.deepest = 0
        self.blocked: deque[_thread.LockType] = deque()
        self._by_priority: tuple[dict[Key, deque[Request]], dict[Key, deque[Request]]] = ({}, {})

    def __len__(self) -> int:
        return sum(len(queue) for queues in self._by_priority for queue in queues.values())

    def full(self, size: int) -> bool:
        """Whether there is no room for so much; one request finds room in an empty queue, however large it is."""
        return self.waiting > 0 and self.waiting + size > self.most

    def put(self, request: Request, *, in_front: bool = False) -> None:
        """Queue a request, behind all others or before them."""
        queue = self._by_priority[request.low].setdefault(request.key, deque())
        if in_front:
            queue.appendleft(request)
        else:
            queue.append(request)
        request.state = WAITING
        self.waiting += request.size
        self.deepest = max(self.deepest, self.waiting)

    def take(self, queue: deque[Request], state: str) -> Request:
        """Remove the first request of one of the queues."""
        request = queue.popleft()
        request.state = state
        self.waiting -= request.size
        return request

    def drop(self, request: Request) -> bool:
        """Mark a request that nobody waits for; false where it was answered or dropped before."""
        if request.state in (DONE, DEAD):
            return False
        if request.state is WAITING:
            self.waiting -= request.size
            self.admit_blocked()
        request.state = DEAD
        return True

    def admit_blocked(self) -> None:
        """Wake threads that wait for room, if there is some."""
        while self.blocked and not self.full(1):
            self.blocked.popleft().release()

    def oldest(self) -> deque[Request] | None:
        """The queue whose first request is the oldest of the highest priority; the dead are buried on the way."""
        for queues in self._by_priority:
            for key in [*queues]:
                queue = queues[key]
                while queue and queue[0].state is DEAD:
                    queue.popleft()
                if not queue:
                    del queues[key]
            if queues:
                return min(queues.values(), key=lambda queue: queue[0].arrived)
        return None

    def alike(self, key: Key) -> Iterator[deque[Request]]:
        """The queues of requests that can share a batch, the high priority first."""
        for queues in self._by_priority:
            if key in queues:
                yield queues[key]
