"""Whether the numbers that policies keep have settled, so that a verdict on a loop that repeats is final; not QEMU's.

A policy without numbers answers alike in laps that are alike. One with numbers does so if these do not bring in what
was long before, in one of two ways:

- They go round: in rounds of some ten iterations and a lap the same few sets of numbers come again and no other. A
  pointer to the device that comes next does that, or a flag that is set once; a counter does not.
- They forget (numbers of the rule which bandwidth to believe): a second set of them, begun anew with zeros and brought
  up to date by the same windows, has come a thousand times closer to the first one, or the first one has not changed.
  An average does that, or the largest of some windows; a counter stays as far away as it began.
"""

from __future__ import annotations

from migkit.kernels.options import kernel
from migkit.kernels.state import BANDWIDTH_OWN, KINDS, OWN, POLICY_NUMBERS, SYNC_OWN

ROUND = 32  # iterations, at least
ROUNDS = 2  # in a row that are like the one before
FORGOTTEN = 1e-3  # of what the two sets were apart
UNCHANGED = 1e-12  # relative: an average of equal windows changes by its rounding


@kernel
def begin_memory(s, lap):
    """Begin to look, when something else has changed."""
    if s.case.policies_remember == 0:
        return
    lap.noted, lap.kinds, lap.new_kinds = 0, 0, 0
    lap.kinds_before, lap.rounds_alike = -1, 0
    begin_anew(s.state, lap)


@kernel
def begin_anew(state, lap):
    """Begin the second set of numbers."""
    for k in range(POLICY_NUMBERS):
        here = state.bandwidth_own[k]
        state.bandwidth_anew[k] = 0.0
        lap.apart[k] = abs(here)
        lap.lowest[k], lap.highest[k] = here, here


@kernel
def number(state, k):
    """Number ``k`` of the walk and the rule when to sync together."""
    return state.own[k] if k < POLICY_NUMBERS else state.sync_own[k - POLICY_NUMBERS]


@kernel
def place_of(state, numbers, kinds):
    """Which of some sets of numbers the policies have, -1 for none of them."""
    for kind in range(kinds):
        k = 0
        while k < 2 * POLICY_NUMBERS and numbers[2 * POLICY_NUMBERS * kind + k] == number(state, k):
            k += 1
        if k == 2 * POLICY_NUMBERS:
            return kind
    return -1


@kernel
def note_memory(s, lap):
    """Take the numbers after an iteration into the round."""
    case, state = s.case, s.state
    if case.policies_remember == 0:
        return
    if case.policy == OWN or case.sync_policy == SYNC_OWN:
        lap.noted += 1
        if lap.kinds <= KINDS and place_of(state, lap.now, lap.kinds) < 0:
            if lap.kinds < KINDS:
                for k in range(2 * POLICY_NUMBERS):
                    lap.now[2 * POLICY_NUMBERS * lap.kinds + k] = number(state, k)
                if place_of(state, lap.before, min(lap.kinds_before, KINDS)) < 0:
                    lap.new_kinds += 1
            lap.kinds += 1
    if case.bandwidth_policy == BANDWIDTH_OWN:
        for k in range(POLICY_NUMBERS):
            lap.lowest[k] = min(lap.lowest[k], state.bandwidth_own[k])
            lap.highest[k] = max(lap.highest[k], state.bandwidth_own[k])


@kernel
def end_memory(s, lap):
    """At the end of a lap: end the round if it was long enough, and say whether all numbers have settled."""
    case, state = s.case, s.state
    if case.policies_remember == 0:
        return True
    if lap.noted >= ROUND:
        alike = lap.kinds <= KINDS and lap.kinds == lap.kinds_before and lap.new_kinds == 0
        lap.rounds_alike = lap.rounds_alike + 1 if alike else 0
        for k in range(2 * POLICY_NUMBERS * min(lap.kinds, KINDS)):
            lap.before[k] = lap.now[k]
        lap.kinds_before = lap.kinds
        lap.noted, lap.kinds, lap.new_kinds = 0, 0, 0
    if (case.policy == OWN or case.sync_policy == SYNC_OWN) and lap.rounds_alike < ROUNDS:
        return False
    return case.bandwidth_policy != BANDWIDTH_OWN or forgotten(state, lap)


@kernel
def forgotten(state, lap):
    """Whether the rule which bandwidth to believe no longer depends on what was before its second set began."""
    for k in range(POLICY_NUMBERS):
        here = state.bandwidth_own[k]
        if lap.highest[k] - lap.lowest[k] <= UNCHANGED * abs(here):
            continue
        if lap.apart[k] == 0.0:
            begin_anew(state, lap)  # it was 0 like the second one, which shows nothing
            return False
        if abs(here - state.bandwidth_anew[k]) > FORGOTTEN * lap.apart[k]:
            return False
    return True
