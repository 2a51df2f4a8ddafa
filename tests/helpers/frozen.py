"""What changes of an object, put into another one as a state does."""

from modelkit.drift.codec import freeze, pack, thaw, unpack


def thawed(value, fresh):
    arrays = {}
    plain = freeze(value, arrays)
    about, found = unpack("test/1", pack("test/1", {"value": plain}, arrays), "value")
    return thaw(fresh, about["value"], found)
