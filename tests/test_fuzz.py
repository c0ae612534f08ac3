"""A few thousand mutated inputs, and whether the judge of them sees each kind of fault."""

import signal

import fuzz
import pytest

from migkit import Scenario, ScenarioError

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="needs a timer of CPU time")
SEED, CASES = 20, 1500  # make fuzz tries as many as one likes


def test_mutated_inputs_end_in_a_sentence_or_have_an_effect():
    assert list(fuzz.faults(SEED, range(CASES))) == []


def test_most_kinds_of_cases_are_both_accepted_and_refused():
    found = {}
    with fuzz.nothing_simulated():
        for number in range(600):
            one = fuzz.case(SEED, number)
            try:
                one.act()
                found.setdefault(one.kind, set()).add("accepted")
            except ScenarioError:
                found.setdefault(one.kind, set()).add("refused")
    both = {kind for kind, ends in found.items() if len(ends) == 2}
    assert both >= {"TOML", "mapping", "path", "quantity", "spacing", "axes", "design"}


def raising(error):
    def act():
        raise error

    return act


def hanging():
    while True:
        try:
            sum(range(1000))
        except Exception:  # what swallows everything does not swallow the end of the time
            continue


def one_key_has_no_effect():
    table = {"guest": {"ram": "1 GiB"}, "link": {"bandwidth": "1 GB/s", "rtt": "1 ms"}}
    read = Scenario(guest=table["guest"], link={"bandwidth": "1 GB/s"})
    return fuzz.unread(table, read)


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (lambda: "", ""),
        (raising(ScenarioError("is wrong", "link.rtt", 3)), ""),
        (raising(KeyError("x")), "traceback: KeyError"),
        (raising(RecursionError("x")), "traceback: RecursionError"),
        (raising(MemoryError("x")), "traceback: MemoryError"),
        (hanging, "hang"),
        (one_key_has_no_effect, "silent default: link.rtt has no effect"),
        (lambda: fuzz.check_sentence("two\nlines."), "no sentence"),
        (lambda: fuzz.check_sentence("x" * 1000 + "."), "no sentence"),
        (lambda: fuzz.check_sentence("no end"), "no sentence"),
    ],
)
def test_the_judge_knows_every_fault(act, found):
    said = fuzz.fault(fuzz.Case("planted", "", act), limit_s=0.2)
    assert said.startswith(found)
    assert bool(said) == bool(found)


def test_a_key_that_is_left_out_or_unknown_is_seen():
    scenario = Scenario(**fuzz.SCENARIO)
    assert fuzz.unread(fuzz.SCENARIO, scenario) == ""
    assert fuzz.unread({"colour": 1}, scenario) == "colour"
    assert fuzz.unread({"devices": fuzz.SCENARIO["devices"][:1]}, scenario) == "devices"
    assert fuzz.unread({"guest": {"regions": [{"size": "3 GiB"}, {}]}}, scenario) == "guest.regions.0.size"


def test_a_case_is_drawn_again_from_its_seed_and_number():
    assert fuzz.case(SEED, 7)[:2] == fuzz.case(SEED, 7)[:2]
    assert len({fuzz.case(SEED, number).given for number in range(50)}) > 40
