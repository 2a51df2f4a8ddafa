"""What a Monitor may watch: the refusals, and the profile in the package."""

from __future__ import annotations

from numbers import Real

from modelkit.drift.profile import PROFILE_NAME, Profile, check_profile
from modelkit.drift.units import BATCH_UNIT
from modelkit.errors import UsageError
from modelkit.model.model import Model
from modelkit.model.wrapper import check_is_model, has_several_versions


def watched_profile(model: Model, profile: Profile | None, budget: float) -> Profile:
    """The profile that a Monitor compares with: the one given, or else that in the package.

    Raises TypeError and UsageError for a model, a profile or a budget that does not fit.
    """
    check_is_model(model, "a Monitor")
    if has_several_versions(model):
        raise UsageError(
            "a Monitor compares one version with its own past, and a Rollout has several: put "
            "one into each, as by Rollout(registry, name, wrap=mk.Monitor) or "
            "Rollout(mk.Monitor(champion), mk.Monitor(candidate), ...)"
        )
    if not isinstance(budget, Real) or not budget >= 0:
        raise UsageError(f"budget is in rows a second, 0 or more; got {budget!r}")
    if profile is None:
        profile = packaged(model)
    profile = check_profile(profile).without(model.signature.ignored)
    if profile.unit == BATCH_UNIT:
        raise UsageError(
            "a Monitor sees calls, which may be parts of a batch: use a profile with unit='day' "
            "or 'week', or show whole batches to a Detector"
        )
    profile.check(model.signature)
    return profile


def packaged(model: Model) -> Profile:
    """The profile in a model's package. Raises UsageError without one."""
    data = model.attachments.get(PROFILE_NAME)
    if data is None:
        raise UsageError(
            "the model's package has no profile: store one with mk.save(..., "
            "profile=mk.Profile.fit(X_train, reference=X_holdout)), or pass Monitor(model, profile)"
        )
    return Profile.from_bytes(data)
