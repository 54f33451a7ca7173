"""Cores: never more than the batch system gave, never fewer than one."""

import os

import pytest

from batchflow.machine import GRANTED, cores


@pytest.fixture
def nothing_granted(monkeypatch):
    for name in GRANTED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_granted")
def test_without_a_batch_system_they_are_those_the_process_may_use():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("nothing_granted")
@pytest.mark.parametrize("name", GRANTED)
def test_what_the_batch_system_gave_is_the_limit(name, monkeypatch):
    monkeypatch.setattr("dask.system.cpu_count", lambda: 64)
    monkeypatch.setenv(name, "6")
    assert cores() == 6
    monkeypatch.setenv(name, "128")
    assert cores() == 64


@pytest.mark.usefixtures("nothing_granted")
@pytest.mark.parametrize("text", ["", "0", "many", "4(x2)"])
def test_what_is_no_number_of_cores_is_passed_over(text, monkeypatch):
    monkeypatch.setattr("dask.system.cpu_count", lambda: 8)
    monkeypatch.setenv(GRANTED[0], text)
    assert cores() == (1 if text == "0" else 8)
