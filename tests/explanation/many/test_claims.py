"""Which process works at what."""

import multiprocessing
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from captum_3dcam.explanation.many import _claims
from captum_3dcam.explanation.many._claims import Claims


def test_one_of_many_takes_a_claim(tmp_path):
    def take(claims):
        return [claims.take(str(key)) for key in range(20)]

    several = [Claims(tmp_path).__enter__() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, several))
    assert [sum(column) for column in zip(*taken, strict=True)] == [1] * 20
    for claims in several:
        claims.__exit__()
    assert not list(tmp_path.iterdir())


def test_of_two_that_see_none_at_once_one_takes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Claims, "_last", lambda self, key: -1)
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert [one.take("a"), other.take("a")] == [True, False]


def test_a_released_claim_is_free(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("a")
        one.release("a")
        assert other.take("a")
        assert not one.take("a")


def hold(folder, ready):
    claims = Claims(folder)
    claims.__enter__()
    claims.take("a")
    ready.set()
    time.sleep(60)


def test_the_claim_of_a_killed_process_is_free_at_once_and_for_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert not one.take("a")
        process.kill()
        process.join()
        assert [one.take("a"), other.take("a")] == [True, False]
        one.release("a")
        assert other.take("a")
    assert not list(tmp_path.iterdir())


def test_attempts_are_counted_until_one_is_released(tmp_path):
    old = time.time() - 2 * _claims._EXPIRED
    for number, begins in enumerate([False, True, True]):
        with Claims(tmp_path) as claims:
            assert claims.take("a")
            assert claims.attempts("a") == (max(number - 1, 0), number)
            if begins:
                claims.begin("a")
            claims._held.clear()  # as if it were killed
        (tmp_path / f"a.{number}").write_text("elsewhere 1")
        os.utime(tmp_path / f"a.{number}", (old, old))
    with Claims(tmp_path) as claims:
        assert claims.take("a")
        assert claims.attempts("a") == (2, 3)
        claims.release("a")
        assert claims.take("a")
        assert claims.attempts("a") == (0, 0)


@pytest.mark.parametrize("owner", ["elsewhere 1", "", "no number"])
def test_the_claim_of_another_host_is_free_after_a_minute_without_a_sign(owner, tmp_path):
    path = tmp_path / "a.0"
    path.write_text(owner)
    with Claims(tmp_path) as claims:
        assert not claims.take("a")
        old = time.time() - 2 * _claims._EXPIRED
        os.utime(path, (old, old))
        assert claims.take("a")


def test_a_process_of_this_host_that_lives_keeps_its_claim(tmp_path):
    (tmp_path / "a.0").write_text(f"{socket.gethostname()} {os.getppid()}")
    with Claims(tmp_path) as claims:
        assert not claims.take("a")


def test_a_claim_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(_claims, "_BEAT", 0.01)
    with Claims(tmp_path) as claims:
        claims.take("a")
        os.utime(tmp_path / "a.0", (1, 1))
        until = time.monotonic() + 10
        while (tmp_path / "a.0").stat().st_mtime == 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / "a.0").stat().st_mtime > 1
