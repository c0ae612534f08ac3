"""Scheduling policies: what a walk of the device list does after a device has returned.

The loop asks and does not know the names. Numbers are those of :data:`migkit.kernels.parameters.POLICIES`.
"""

from __future__ import annotations

from migkit.kernels.options import kernel

SERIALIZED, UNSERIALIZED = 0, 1


@kernel
def goes_on(policy, returned):
    """Whether the walk goes on to the next device.

    ``serialized`` goes on only after a device that returned 1, "finished" (QEMU up to 8.2,
    ``migration/savevm.c:qemu_savevm_state_iterate``); ``unserialized`` always does (9.0, commit 4e1871c450).
    That the walk also ends when the window's budget is used up is the loop's rule, not the policy's.

    Parameters
    ----------
    policy : int
        0 serialized, 1 unserialized.
    returned : int
        What the device returned: 1 finished, 0 not.
    """
    if policy == SERIALIZED:
        return returned == 1
    return True
