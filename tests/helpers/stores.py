"""Stores that misbehave as those of the world do: they lose answers, hide files, and let others be faster."""

from __future__ import annotations

import modelkit as mk
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


class Hiding(Memory):
    """A store whose creations meet with the troubles of a list; files may stay hidden for some reads."""

    def __init__(self, troubles):
        super().__init__()
        self.troubles = list(troubles)
        self.hidden = {}  # how many more reads do not see a file

    def read(self, name, most=MOST_BYTES):
        if self.hidden.get(name, 0) > 0:
            self.hidden[name] -= 1
            return None
        return super().read(name)


class Troubled(Hiding):
    """A store of which each creation meets with the next trouble of a list, and then with none.

    "lost": the file is made, and the answer says that it was not. "rival": somebody else's file
    takes the name first. "hidden": it does, and cannot be seen for three reads.
    """

    def __init__(self, troubles):
        super().__init__(troubles)
        self.rivals = []

    def create(self, name, data):
        trouble = self.troubles.pop(0) if self.troubles else "none"
        if trouble in ("rival", "hidden") and name not in self.files:
            self.rivals.append(self.rival(name, len(self.rivals)))
            self.files[name] = self.rivals[-1]
            self.hidden[name] = 3 if trouble == "hidden" else 0
        made = super().create(name, data)
        return made and trouble != "lost"

    def rival(self, name, count):
        """What somebody else writes under a name."""
        return b"rival %d" % count


class Unsure(Hiding):
    """A store of which each creation meets with the next trouble of a list, and then with none.

    "lost": the file is made, and the answer says that it was not. "error": it is made, and the answer
    never comes. "late": it is made, and cannot be seen for three reads.
    """

    def create(self, name, data):
        is_new = name not in self.files
        made = super().create(name, data)
        trouble = self.troubles.pop(0) if self.troubles and is_new else "none"
        if trouble == "error":
            raise OSError("no answer")
        self.hidden[name] = 3 if trouble == "late" else 0
        return made and trouble != "lost"

    def folders(self, folder):
        within = [name for name in self.files if name.startswith(f"{folder}/")]
        return sorted({name.removeprefix(f"{folder}/").partition("/")[0] for name in within})


class Killed(BaseException):
    """The process ends here."""


class Deadly:
    """A store of which one creation, by its number, ends the process: before the file is made, or after."""

    def __init__(self, store, number, *, made):
        self.store = store
        self.left = number
        self.made = made
        self.is_dead = False

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, name, data):
        self.left -= 1
        if self.left == 0 and self.made:
            self.store.create(name, data)
        self.is_dead |= self.left == 0
        if self.is_dead:
            raise Killed
        return self.store.create(name, data)


def deadly(url, number, *, made):
    """A registry, and the store by which its process ends; with number 0 it does not."""
    registry = mk.Registry(url)
    store = registry._store = registry._versions._store = Deadly(registry._store, number, made=made)
    return registry, store
