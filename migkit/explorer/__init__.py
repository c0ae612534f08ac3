"""The explorer: sliders in a notebook that move one migration, under both policies, and its place on the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migkit.explorer.widget import Explorer
    from migkit.scenario.scenario import Scenario

__all__ = ["explore"]


def explore(scenario: Scenario) -> Explorer:
    """Move a scenario by sliders and see, under both policies, how the migration ends.

    To be the last line of a cell in JupyterLab. There are sliders for the dirty rate and the hot set (of the first
    region), link, max-bandwidth, downtime-limit, and number and initial data of the VFIO devices (of the first VFIO
    entry), and menus for profile and policy. A move redraws both timelines and the point on the map of dirty rate
    against link. When anything else than those two or the policy was moved the map is computed again, coarse first
    and then finer, between moves. Values that do not fit together are told in one sentence, and everything else stays.

    Parameters
    ----------
    scenario : Scenario
        Where to start. Each slider can be put back to the value it has here. A scenario without a region gets one
        that nobody writes to, one without a VFIO device gets an entry with a count of 0: that is the same migration,
        and every slider has something to move.

    Returns
    -------
    Explorer
        The widget; its attribute ``scenario`` is the scenario that is shown.

    Raises
    ------
    ScenarioError
        If `scenario` is no scenario.
    ImportError
        If ipywidgets is missing, which ``pip install "migkit[notebook]"`` brings.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, explore
    >>> explorer = explore(Scenario(
    ...     guest=Guest(ram="1 GiB", regions=[Region(size="64 MiB", write_rate="100 MB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ... ))
    >>> explorer.controls["link"].value = "25 Gbit/s"
    >>> explorer.scenario.link.bandwidth
    25 Gbit/s
    """
    from migkit.scenario.errors import ScenarioError
    from migkit.scenario.scenario import Scenario

    if not isinstance(scenario, Scenario):
        raise ScenarioError("is not a Scenario: make one with migkit.Scenario or Scenario.from_toml", value=scenario)
    try:
        import ipywidgets  # noqa: F401  (only this one: other missing packages have their own messages)
    except ImportError:
        raise ImportError('migkit.explore needs ipywidgets: pip install "migkit[notebook]"') from None
    from migkit.explorer.widget import Explorer

    return Explorer(scenario)
