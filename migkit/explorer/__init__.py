"""An interactive view of one migration for notebooks: sliders, the timelines of both policies, a convergence map."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migkit.explorer.widget import Explorer
    from migkit.scenario.scenario import Scenario

__all__ = ["explore"]


def explore(scenario: Scenario) -> Explorer:
    """Explore a scenario with sliders, under both policies.

    Use it as the last line of a cell in JupyterLab. Sliders set the dirty rate and the size of the first region, the
    link, max-bandwidth, downtime-limit, and the number and initial data of the first VFIO entry; menus set the profile
    and the policy. Each change redraws the timelines of both policies and the scenario's point on a map of convergence
    over dirty rate and link. A change of any other field than these two and the policy recomputes the map, coarse
    first. A combination of values that is not valid shows its error message and changes nothing else.

    Parameters
    ----------
    scenario : Scenario
        Initial scenario; its values are among those of the sliders. If it has no region, one without writes is added;
        if it has no VFIO device, an entry with a count of 0. Neither changes the migration.

    Returns
    -------
    Explorer
        The widget. Its attribute ``scenario`` is the current scenario.

    Raises
    ------
    ScenarioError
        If `scenario` is not a Scenario.
    ImportError
        If ipywidgets is not installed (``pip install "migkit[notebook]"``).

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
        import ipywidgets  # noqa: F401  (the message below is for this import only)
    except ImportError:
        raise ImportError('migkit.explore needs ipywidgets: pip install "migkit[notebook]"') from None
    from migkit.explorer.widget import Explorer

    return Explorer(scenario)
