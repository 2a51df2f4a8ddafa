"""Stores that misbehave as those of the world do: they lose answers, hide files, and let others be faster."""

from __future__ import annotations

from modelkit.store.store import MOST_BYTES


class Memory:
    """The files of a store, in memory."""

    url = "memory://"
    concurrent = 1

    def __init__(self):
        self.files = {}

    def create(self, name, data):
        return self.files.setdefault(name, data) == data

    def read(self, name, most=MOST_BYTES):
        return self.files.get(name)

    def names(self, folder, after=""):
        found = [name.removeprefix(f"{folder}/") for name in self.files if name.startswith(folder)]
        return sorted(name for name in found if name > after)

    def path(self, name):
        return None


class Troubled(Memory):
    """A store of which each creation meets with the next trouble of a list, and then with none.

    "lost": the file is made, and the answer says that it was not. "rival": somebody else's file
    takes the name first. "hidden": it does, and cannot be seen for three reads.
    """

    def __init__(self, troubles):
        super().__init__()
        self.troubles = list(troubles)
        self.hidden = {}
        self.rivals = []

    def create(self, name, data):
        trouble = self.troubles.pop(0) if self.troubles else "none"
        if trouble in ("rival", "hidden") and name not in self.files:
            self.rivals.append(self.rival(name, len(self.rivals)))
            self.files[name] = self.rivals[-1]
            self.hidden[name] = 3 if trouble == "hidden" else 0
        made = super().create(name, data)
        return made and trouble != "lost"

    def read(self, name, most=MOST_BYTES):
        if self.hidden.get(name, 0) > 0:
            self.hidden[name] -= 1
            return None
        return super().read(name)

    def rival(self, name, count):
        """What somebody else writes under a name."""
        return b"rival %d" % count
